import { LinkBase, type LinkOptions, NO_FEATURES } from "./base.ts";
import { LinkError } from "./errors.ts";
import type { Link, LinkFeatures, Offload } from "./link.ts";

/** What of a MessagePort, a Worker or a Node.js port the link uses. */
export interface PortLike {
	postMessage(message: unknown, transfer: ArrayBuffer[]): void;
	addEventListener(type: "message" | "messageerror" | "close", listener: (event: { data?: unknown }) => void): void;
	removeEventListener(type: "message" | "messageerror" | "close", listener: (event: { data?: unknown }) => void): void;
	start?(): void;
	close?(): void;
}

/** Options of {@link createMessagePortLink}. */
export interface MessagePortLinkOptions extends LinkOptions {
	/** What this side's user accepts unfinished; both ends must agree. @default nothing */
	features?: Partial<LinkFeatures>;
	/** Frames under way before `send` returns false. @default 1024 */
	window?: number;
}

/** Frames between two acknowledgements. */
const ACKNOWLEDGE_EVERY = 64;

class MessagePortLink extends LinkBase {
	private readonly port: PortLike;
	private readonly window: number;
	private underWay = 0;
	private unacknowledged = 0;
	private readonly listener = (event: { data?: unknown }): void => this.receive(event.data);
	private readonly broken = (): void =>
		this.fail(new LinkError("ERR_LINK_PROTOCOL", "a message on the port could not be read"));
	private readonly gone = (): void => this.fail(new LinkError("ERR_LINK_IO", "the other end of the port is closed"));

	constructor(port: PortLike, options: MessagePortLinkOptions) {
		super(options, { ...NO_FEATURES, ...options.features });
		this.port = port;
		this.window = options.window ?? 1024;
		port.addEventListener("message", this.listener);
		port.addEventListener("messageerror", this.broken);
		port.addEventListener("close", this.gone);
		port.start?.();
	}

	protected override transmit(frame: Uint8Array, offload: Offload | undefined): boolean {
		if (this.underWay >= this.window) return false;
		this.underWay++;
		const bytes = new Uint8Array(frame);
		this.port.postMessage({ frame: bytes, offload }, [bytes.buffer]);
		return true;
	}

	protected override shutdown(): void {
		this.port.removeEventListener("message", this.listener);
		this.port.removeEventListener("messageerror", this.broken);
		this.port.removeEventListener("close", this.gone);
		this.port.close?.();
	}

	private receive(data: unknown): void {
		const { frame, offload, acknowledge } = (data ?? {}) as {
			frame?: unknown;
			offload?: Offload;
			acknowledge?: unknown;
		};
		if (typeof acknowledge === "number" && acknowledge > 0) {
			this.underWay = Math.max(0, this.underWay - acknowledge);
			this.writable();
		}
		if (!(frame instanceof Uint8Array)) return;
		if (++this.unacknowledged >= ACKNOWLEDGE_EVERY) {
			this.port.postMessage({ acknowledge: this.unacknowledged }, []);
			this.unacknowledged = 0;
		}
		this.deliver(frame, offload);
	}
}

/**
 * A link over one end of a MessageChannel, to another window, worker or thread whose end is a link too. The simplest
 * way across threads; a channel over a ring is many times faster.
 */
export function createMessagePortLink(port: PortLike, options: MessagePortLinkOptions = {}): Link {
	return new MessagePortLink(port, options);
}
