import { RingError } from "./errors.ts";
import { LAP, lapAt, RECORD_HEADER, recordBytes, WRAP } from "./layout.ts";
import type { RingView } from "./memory.ts";

/**
 * The position behind the last record: whoever wrote the ring before may have been stopped between two words, but not
 * within the one that says so.
 */
export function findEnd(view: RingView, tail: number): number {
	const { words, data, capacity } = view;
	for (let position = tail; ; ) {
		const at = position & (capacity - 1);
		const aligned = position % RECORD_HEADER === 0;
		const word = aligned ? Atomics.load(words, (data + at) >> 2) ^ lapAt(position, capacity) : -LAP - 1;
		if ((word & LAP) !== 0) return position;
		const size = word === WRAP ? capacity - at : recordBytes(word);
		const used = ((position - tail) >>> 0) + size;
		if ((word < 0 && word !== WRAP) || at + size > capacity || used > capacity) {
			throw new RingError("ERR_RING_CORRUPT", `no end of the records behind ${tail >>> 0}: open a new ring`);
		}
		position = (position + size) | 0;
	}
}
