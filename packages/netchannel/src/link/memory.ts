import { LinkBase, type LinkOptions, NO_FEATURES } from "./base.ts";
import type { Link, LinkFeatures, Offload } from "./link.ts";

/** Options of {@link createLinkPair}. */
export interface LinkPairOptions extends LinkOptions {
	/** What both ends accept unfinished. @default nothing */
	features?: Partial<LinkFeatures>;
}

class MemoryLink extends LinkBase {
	peer: MemoryLink | undefined = undefined;

	get carrier(): boolean {
		return this.peer !== undefined;
	}

	protected override transmit(frame: Uint8Array, offload: Offload | undefined): boolean {
		if (this.peer === undefined) return this.dropSent(frame);
		this.peer.deliver(frame, offload);
		return true;
	}

	protected override shutdown(): void {
		if (this.peer !== undefined) this.peer.peer = undefined;
		this.peer = undefined;
	}
}

/**
 * Two ends of a wire in memory: what one sends, the other's `onFrame` gets in the same call. The in-process twin of
 * every real link, for tests and for stacks that share a thread.
 */
export function createLinkPair(options: LinkPairOptions = {}): [Link, Link] {
	const features: LinkFeatures = { ...NO_FEATURES, ...options.features };
	const a = new MemoryLink(options, features);
	const b = new MemoryLink(options, features);
	a.peer = b;
	b.peer = a;
	return [a, b];
}
