import type { Link, Offload } from "../link/link.ts";
import { WrappedLink } from "./wrap.ts";

/** Frames and bytes one way. */
export interface DirectionCounters {
	frames: number;
	bytes: number;
	/** By size up to and including 64, 128, 256, 512, 1024, 1518 bytes, and above. */
	sizes: number[];
	/** By EtherType, at most 64 of them; the rest under -1. */
	etherTypes: Map<number, number>;
	/** Sends the link had no room for. */
	refused: number;
}

/** A link that counts. */
export interface CountedLink extends Link {
	readonly sent: Readonly<DirectionCounters>;
	readonly received: Readonly<DirectionCounters>;
}

const EDGES = [64, 128, 256, 512, 1024, 1518];
const MOST_TYPES = 64;

const empty = (): DirectionCounters => ({
	frames: 0,
	bytes: 0,
	sizes: new Array<number>(EDGES.length + 1).fill(0),
	etherTypes: new Map(),
	refused: 0,
});

class Counted extends WrappedLink implements CountedLink {
	readonly sent: DirectionCounters = empty();
	readonly received: DirectionCounters = empty();

	override send(frame: Uint8Array, offload?: Offload): boolean {
		const taken = super.send(frame, offload);
		if (taken) this.count(this.sent, frame);
		else this.sent.refused++;
		return taken;
	}

	protected override input(frame: Uint8Array, offload?: Offload): void {
		this.count(this.received, frame);
		super.input(frame, offload);
	}

	private count(counters: DirectionCounters, frame: Uint8Array): void {
		counters.frames++;
		counters.bytes += frame.length;
		const edge = EDGES.findIndex((most) => frame.length <= most);
		counters.sizes[edge < 0 ? EDGES.length : edge]!++;
		if (this.medium !== "ethernet" || frame.length < 14) return;
		const type = (frame[12]! << 8) | frame[13]!;
		const { etherTypes } = counters;
		const key = etherTypes.has(type) || etherTypes.size < MOST_TYPES ? type : -1;
		etherTypes.set(key, (etherTypes.get(key) ?? 0) + 1);
	}
}

/** Counts what goes through `link`, by direction, size and EtherType. */
export function countFrames(link: Link): CountedLink {
	return new Counted(link);
}
