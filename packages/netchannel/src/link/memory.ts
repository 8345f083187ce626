import { LinkError } from "./errors.ts";
import type { FrameReceiver, Link, LinkFeatures, Offload } from "./link.ts";

/** Options of {@link createLinkPair}. */
export interface LinkPairOptions {
	/** @default "ethernet" */
	medium?: "ethernet" | "ip";
	/** Bytes of payload a frame may carry. @default 1500 */
	mtu?: number;
	/** What both ends accept unfinished. @default nothing */
	features?: Partial<LinkFeatures>;
}

const ETHERNET_HEADER = 14;
const VLAN_TAG = 4;

class MemoryLink implements Link {
	readonly medium: "ethernet" | "ip";
	readonly mtu: number;
	readonly features: LinkFeatures;
	onFrame: FrameReceiver | undefined = undefined;
	onWritable: (() => void) | undefined = undefined;
	onError: ((error: Error) => void) | undefined = undefined;
	peer: MemoryLink | undefined = undefined;
	private readonly longest: number;
	private closed = false;

	constructor(medium: "ethernet" | "ip", mtu: number, features: LinkFeatures) {
		this.medium = medium;
		this.mtu = mtu;
		this.features = features;
		this.longest = mtu + (medium === "ethernet" ? ETHERNET_HEADER + VLAN_TAG : 0);
	}

	send(frame: Uint8Array, offload?: Offload): boolean {
		if (this.closed) throw new LinkError("ERR_LINK_CLOSED", "this link is closed");
		const segmented = offload !== undefined && offload.gsoType !== "none";
		if (frame.length > this.longest && !segmented) {
			throw new LinkError(
				"ERR_FRAME_TOO_LONG",
				`a frame of ${frame.length} bytes does not fit this link (at most ${this.longest}); segment it first`,
			);
		}
		this.peer?.onFrame?.(frame, offload);
		return true;
	}

	close(): void {
		this.closed = true;
		if (this.peer !== undefined) this.peer.peer = undefined;
		this.peer = undefined;
		this.onFrame = undefined;
	}
}

/**
 * Two ends of a wire in memory: what one sends, the other's `onFrame` gets in the same call. The in-process twin of
 * every real link, for tests and for stacks that share a thread.
 */
export function createLinkPair(options: LinkPairOptions = {}): [Link, Link] {
	const { medium = "ethernet", mtu = 1500 } = options;
	const features: LinkFeatures = { checksum: false, tso4: false, tso6: false, uso: false, ...options.features };
	const a = new MemoryLink(medium, mtu, features);
	const b = new MemoryLink(medium, mtu, features);
	a.peer = b;
	b.peer = a;
	return [a, b];
}
