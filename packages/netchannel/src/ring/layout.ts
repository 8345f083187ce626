import { RingError } from "./errors.ts";

/*
 * A ring in memory. All words are little-endian; every group that one side writes has 128 bytes to itself, two cache
 * lines, because processors prefetch lines in pairs.
 *
 *   0    magic, version, capacity, data offset, packet limit, doorbell offset, scratch bytes   (written once)
 *   128  tail: what the consumer gave back; a producer without room looks at it
 *   256  consumer sleeps (the doorbell)
 *   384  producer sleeps
 *   512  the producer's own: head, closed, heartbeat; float64 statistics
 *   640  the consumer's own: packets, closed, heartbeat; float64 statistics
 *   768  records
 *
 * head and tail count bytes modulo 2^32. A record is i32 word, i32 meta, payload, padding to 8; a record never wraps.
 * Its word is the payload's length, or WRAP, which sends the reader back to the start, and has LAP or has it not by
 * turns, lap for lap. A word of the other kind says that nothing follows yet.
 *
 * Such a word is always behind the last record, where a waiting consumer looks: no index goes between the two sides, and
 * the cache line that says there is a record brings it along. The producer writes it there; when the ring is full to the
 * last byte, the oldest record's word is there, of the lap before. A producer writes everything it publishes together
 * behind that word (records, the next end, its counters) with plain stores, and replaces the word itself last, with an
 * atomic store: whoever loads that from it, atomically, sees all the rest. It is sequentially consistent, and so is the
 * load of the doorbell after it: either the producer sees a consumer that is about to sleep, or that one sees the record.
 * tail and the producer's sleep do the same in the other direction.
 */

/** "NCHR" read as a little-endian word. */
export const MAGIC = 0x5248434e;
/** Layout version this package writes and reads. */
export const VERSION = 3;
/** Bytes before the records. */
export const HEADER_BYTES = 768;
/** Bytes of a record's own header. */
export const RECORD_HEADER = 8;
/** Bytes of an entry in a batch's table: where the payload starts in the scratch area, its length, the meta word. */
export const ENTRY_BYTES = 12;
/** Word that sends the reader back to the start. */
export const WRAP: number = -(2 ** 31);
/** What tells the words of one lap from those of the lap before. */
export const LAP: number = 2 ** 30;
/** Smallest and largest capacity; a power of two in between. */
export const MIN_CAPACITY = 256;
export const MAX_CAPACITY: number = 2 ** 30;

/** Word indices from the ring's start. */
export const Word = {
	magic: 0,
	version: 1,
	capacity: 2,
	data: 3,
	packetLimit: 4,
	doorbell: 5,
	scratch: 6,
	tail: 32,
	consumerSleeps: 64,
	producerSleeps: 96,
	head: 128,
	producerClosed: 129,
	producerBeat: 130,
	received: 160,
	consumerClosed: 161,
	consumerBeat: 162,
} as const;

/** Float64 indices from the ring's start. */
export const Stat = {
	sent: 66,
	sentBytes: 67,
	dropped: 68,
	wakeups: 69,
	maxDepth: 70,
	received: 82,
	receivedBytes: 83,
} as const;

/** What a word at `position` is combined with by exclusive or: {@link LAP}, if the lap has it. Fresh memory is an end. */
export const lapAt = (position: number, capacity: number): number => ((position & capacity) === 0 ? LAP : 0);

/** Bytes a record of `length` payload bytes takes. */
export const recordBytes = (length: number): number => (RECORD_HEADER + length + 7) & ~7;

/** What identifies a ring between threads: structured-cloneable, so it goes through `postMessage` and `workerData`. */
export interface RingHandle {
	/** Holds the ring: a shared WebAssembly memory between threads, a plain buffer inside one. */
	readonly memory: WebAssembly.Memory | ArrayBuffer;
	/** Byte offset of the ring in `memory`, a multiple of 128. */
	readonly offset: number;
}

/** Bytes a ring of `capacity` takes, with its scratch areas. */
export function ringBytes(capacity: number, scratch: number): number {
	return HEADER_BYTES + capacity + 2 * scratch;
}

export function requireCapacity(capacity: number): void {
	if (
		!Number.isInteger(capacity) ||
		capacity < MIN_CAPACITY ||
		capacity > MAX_CAPACITY ||
		(capacity & (capacity - 1)) !== 0
	) {
		throw new RingError(
			"ERR_RING_OPTION",
			`capacity is ${capacity}: give a power of two from ${MIN_CAPACITY} to ${MAX_CAPACITY} bytes`,
		);
	}
}

/** Checks that a ring this version understands lies at `offset`, before anything in it is believed. */
export function requireRing(words: Int32Array, offset: number, bytes: number): void {
	if (!Number.isInteger(offset) || offset % 128 !== 0 || offset < 0 || offset + HEADER_BYTES > bytes) {
		throw new RingError("ERR_RING_FORMAT", `no ring can lie at offset ${offset} of ${bytes} bytes`);
	}
	const base = offset >> 2;
	if (words[base + Word.magic] !== MAGIC) {
		throw new RingError("ERR_RING_FORMAT", `offset ${offset} holds no ring (its first word is ${words[base]})`);
	}
	const version = words[base + Word.version]!;
	if (version !== VERSION) {
		throw new RingError(
			"ERR_RING_VERSION",
			`the ring is of version ${version}, this package reads version ${VERSION}: use the same release on both sides`,
		);
	}
	const capacity = words[base + Word.capacity]!;
	const data = words[base + Word.data]!;
	const scratch = words[base + Word.scratch]!;
	const sane =
		capacity >= MIN_CAPACITY &&
		capacity <= MAX_CAPACITY &&
		(capacity & (capacity - 1)) === 0 &&
		data === HEADER_BYTES &&
		scratch >= 0 &&
		offset + ringBytes(capacity, scratch) <= bytes;
	const bell = words[base + Word.doorbell]!;
	if (!sane || bell < 0 || bell % 4 !== 0 || bell + 4 > bytes) {
		throw new RingError(
			"ERR_RING_FORMAT",
			`the ring's header is damaged: capacity ${capacity}, data at ${data}, doorbell at ${bell}, in ${bytes} bytes`,
		);
	}
}

/** Checks that a batch's table lies in a scratch area. */
export function requireTable(table: number, count: number, scratch: number): void {
	const whole = Number.isInteger(table) && Number.isInteger(count) && table % 4 === 0;
	if (!whole || table < 0 || count < 0 || table + count * ENTRY_BYTES > scratch) {
		throw new RingError(
			"ERR_RING_MISUSE",
			`a table of ${count} entries at ${table} is not in the scratch area of ${scratch} bytes, or not 4-aligned`,
		);
	}
}
