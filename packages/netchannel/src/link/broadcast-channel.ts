import { LinkBase, type LinkOptions } from "./base.ts";
import { LinkError } from "./errors.ts";
import type { Link } from "./link.ts";

class BroadcastLink extends LinkBase {
	private readonly channel: BroadcastChannel;

	constructor(name: string, options: LinkOptions) {
		super(options);
		this.channel = new BroadcastChannel(name);
		this.channel.onmessage = (event: MessageEvent) => {
			if (event.data instanceof Uint8Array) this.deliver(event.data);
		};
		this.channel.onmessageerror = () =>
			this.fail(new LinkError("ERR_LINK_PROTOCOL", "a message on the channel could not be read"));
	}

	protected override transmit(frame: Uint8Array): boolean {
		// A copy: a view would drag its whole buffer, or shared memory, along.
		this.channel.postMessage(new Uint8Array(frame));
		return true;
	}

	protected override shutdown(): void {
		this.channel.onmessage = this.channel.onmessageerror = null;
		this.channel.close();
	}
}

/**
 * A shared wire between everything of one origin that opens the same name: every frame reaches every other end, as on a
 * hub. Frames are raw `Uint8Array` messages, one each.
 */
export function createBroadcastLink(name: string, options: LinkOptions = {}): Link {
	return new BroadcastLink(name, options);
}
