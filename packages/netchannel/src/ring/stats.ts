import { Stat, Word } from "./layout.ts";
import type { RingView } from "./memory.ts";

/** Counters of a ring, from either end. */
export interface RingStats {
	/** Records published since the ring was made. */
	readonly sent: number;
	readonly sentBytes: number;
	readonly received: number;
	readonly receivedBytes: number;
	/** Records refused under `drop-newest`. */
	readonly dropped: number;
	/** Times the producer had to wake a sleeping consumer. */
	readonly wakeups: number;
	/** Most bytes that were unreleased at a publish. */
	readonly maxDepth: number;
	/** Bytes unreleased now. */
	readonly depth: number;
}

/** Reads a ring's counters. */
export function readStats(view: RingView): RingStats {
	const { words, floats, base } = view;
	const at = base >> 1;
	// In this order: what is in use is never less than nothing.
	const tail = Atomics.load(words, base + Word.tail);
	const head = Atomics.load(words, base + Word.head);
	return {
		sent: floats[at + Stat.sent]!,
		sentBytes: floats[at + Stat.sentBytes]!,
		received: floats[at + Stat.received]!,
		receivedBytes: floats[at + Stat.receivedBytes]!,
		dropped: floats[at + Stat.dropped]!,
		wakeups: floats[at + Stat.wakeups]!,
		maxDepth: floats[at + Stat.maxDepth]!,
		depth: (head - tail) >>> 0,
	};
}
