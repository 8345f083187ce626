import { LinkError } from "../link/errors.ts";
import type { Link, Offload } from "../link/link.ts";
import { WrappedLink } from "./wrap.ts";

/** Time as the shaper sees it. The host's own is `{ now: () => performance.now(), after: … setTimeout }`. */
export interface ShaperClock {
	/** Milliseconds, from any start, never back. */
	now(): number;
	/** Calls back once after `ms`; the function returned calls it off. */
	after(ms: number, callback: () => void): () => void;
}

/** What happens to frames one way. Probabilities are from 0 to 1. */
export interface Impairment {
	/** Bits a second, 0 for no limit. @default 0 */
	rate?: number;
	/** Milliseconds every frame takes. @default 0 */
	delayMs?: number;
	/** Milliseconds, uniformly up to as many more or fewer; keeps the order. @default 0 */
	jitterMs?: number;
	/** @default 0 */
	loss?: number;
	/** @default 0 */
	duplicate?: number;
	/** One bit of the frame is inverted. @default 0 */
	corrupt?: number;
	/** The frame goes at once, past those that wait. @default 0 */
	reorder?: number;
	/** Frames that may wait; more are dropped. @default 1000 */
	limit?: number;
}

/** Options of {@link shapeFrames}. */
export interface ShaperOptions {
	/** What happens to frames that are sent. */
	out?: Impairment;
	/** What happens to frames that are received. */
	in?: Impairment;
	clock: ShaperClock;
	/** Any 32-bit number; the same seed and clock give the same faults. @default 1 */
	seed?: number;
}

/** What a shaper did one way. */
export interface ShaperCounters {
	passed: number;
	lost: number;
	overflowed: number;
	duplicated: number;
	corrupted: number;
	reordered: number;
}

/** A link with a worse wire. */
export interface ShapedLink extends Link {
	readonly counters: { readonly out: Readonly<ShaperCounters>; readonly in: Readonly<ShaperCounters> };
}

/** A timer may come this much early by rounding alone; a frame that is this close is due. */
const ROUNDING_MS = 1e-6;

interface Waiting {
	due: number;
	frame: Uint8Array;
	offload: Offload | undefined;
}

/** xorshift32: small, seeded, and enough for faults. */
function randomFrom(seed: number): () => number {
	let state = seed | 0 || 1;
	return () => {
		state ^= state << 13;
		state ^= state >>> 17;
		state ^= state << 5;
		return (state >>> 0) / 2 ** 32;
	};
}

const PROBABILITIES = ["loss", "duplicate", "corrupt", "reorder"] as const;

function checked(impairment: Impairment): Required<Impairment> {
	const all = {
		rate: 0,
		delayMs: 0,
		jitterMs: 0,
		loss: 0,
		duplicate: 0,
		corrupt: 0,
		reorder: 0,
		limit: 1000,
		...impairment,
	};
	for (const name of PROBABILITIES) {
		if (!(all[name] >= 0 && all[name] <= 1))
			throw new LinkError("ERR_LINK_OPTION", `${name} is ${all[name]}: give a probability from 0 to 1`);
	}
	for (const name of ["rate", "delayMs", "jitterMs", "limit"] as const) {
		if (!(all[name] >= 0)) throw new LinkError("ERR_LINK_OPTION", `${name} is ${all[name]}: give a number from 0 on`);
	}
	return all;
}

/** One direction: decides each frame's fate and keeps those that wait, in order of their time. */
class Lane {
	readonly counters: ShaperCounters = { passed: 0, lost: 0, overflowed: 0, duplicated: 0, corrupted: 0, reordered: 0 };
	private readonly how: Required<Impairment>;
	private readonly clock: ShaperClock;
	private readonly random: () => number;
	private readonly pass: (frame: Uint8Array, offload: Offload | undefined) => void;
	private readonly queue: Waiting[] = [];
	/** When the wire is free again, and the latest time given to a frame. */
	private freeAt = 0;
	private lastDue = 0;
	private cancel: (() => void) | undefined = undefined;

	constructor(
		how: Impairment,
		clock: ShaperClock,
		random: () => number,
		pass: (frame: Uint8Array, offload: Offload | undefined) => void,
	) {
		this.how = checked(how);
		this.clock = clock;
		this.random = random;
		this.pass = pass;
	}

	push(frame: Uint8Array, offload: Offload | undefined): void {
		const { how, random, counters } = this;
		if (random() < how.loss) {
			counters.lost++;
			return;
		}
		const copies = random() < how.duplicate ? 2 : 1;
		if (copies === 2) counters.duplicated++;
		for (let copy = 0; copy < copies; copy++) {
			let bytes = frame;
			if (random() < how.corrupt) {
				bytes = frame.slice();
				const bit = Math.floor(random() * bytes.length * 8);
				bytes[bit >> 3]! ^= 1 << (bit & 7);
				counters.corrupted++;
			}
			this.schedule(bytes, offload);
		}
	}

	stop(): void {
		this.cancel?.();
		this.queue.length = 0;
	}

	private schedule(frame: Uint8Array, offload: Offload | undefined): void {
		const { how, random, counters, queue } = this;
		const now = this.clock.now();
		let due = now;
		if (how.rate > 0) {
			this.freeAt = Math.max(now, this.freeAt) + (frame.length * 8000) / how.rate;
			due = this.freeAt;
		}
		due += Math.max(0, how.delayMs + (how.jitterMs === 0 ? 0 : (2 * random() - 1) * how.jitterMs));
		if (random() < how.reorder && queue.length > 0) {
			counters.reordered++;
			due = now;
		} else due = this.lastDue = Math.max(due, this.lastDue);
		if (due <= now && queue.length === 0) {
			counters.passed++;
			this.pass(frame, offload);
			return;
		}
		if (queue.length >= how.limit) {
			counters.overflowed++;
			return;
		}
		let at = queue.length;
		while (at > 0 && queue[at - 1]!.due > due) at--;
		queue.splice(at, 0, { due, frame: frame.slice(), offload });
		if (at === 0) this.arm();
	}

	private arm(): void {
		this.cancel?.();
		this.cancel = undefined;
		const [first] = this.queue;
		if (first === undefined) return;
		this.cancel = this.clock.after(Math.max(0, first.due - this.clock.now()), () => this.release());
	}

	private release(): void {
		this.cancel = undefined;
		const now = this.clock.now();
		while (this.queue.length > 0 && this.queue[0]!.due <= now + ROUNDING_MS) {
			const { frame, offload } = this.queue.shift()!;
			this.counters.passed++;
			this.pass(frame, offload);
		}
		this.arm();
	}
}

class Shaped extends WrappedLink implements ShapedLink {
	private stopped = false;
	private readonly lanes: { out: Lane; in: Lane };

	constructor(link: Link, options: ShaperOptions) {
		super(link);
		const random = randomFrom(options.seed ?? 1);
		this.lanes = {
			out: new Lane(options.out ?? {}, options.clock, random, (frame, offload) => this.transmit(frame, offload)),
			in: new Lane(options.in ?? {}, options.clock, random, (frame, offload) => super.input(frame, offload)),
		};
	}

	get counters(): { out: ShaperCounters; in: ShaperCounters } {
		return { out: this.lanes.out.counters, in: this.lanes.in.counters };
	}

	override send(frame: Uint8Array, offload?: Offload): boolean {
		const segmented = offload !== undefined && offload.gsoType !== "none";
		// What the link would refuse is refused now, not when its time comes.
		if (this.stopped || (!segmented && frame.length > this.mtu + 14)) return super.send(frame, offload);
		this.lanes.out.push(frame, offload);
		return true;
	}

	override close(): void {
		this.stopped = true;
		this.lanes.out.stop();
		this.lanes.in.stop();
		super.close();
	}

	protected override input(frame: Uint8Array, offload?: Offload): void {
		this.lanes.in.push(frame, offload);
	}

	/** A frame's time has come; the link may be full or gone by now, and then the frame is lost on the wire. */
	private transmit(frame: Uint8Array, offload: Offload | undefined): void {
		try {
			if (!super.send(frame, offload)) this.lanes.out.counters.overflowed++;
		} catch (error) {
			if (!(error instanceof LinkError)) throw error;
			this.lanes.out.counters.lost++;
		}
	}
}

/** Wraps a link in a wire with a rate, a delay and faults. */
export function shapeFrames(link: Link, options: ShaperOptions): ShapedLink {
	return new Shaped(link, options);
}
