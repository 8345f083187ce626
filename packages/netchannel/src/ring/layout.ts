import { RingError } from "./errors.ts";

/*
 * A ring in memory. All words are little-endian; every group that one side writes has 128 bytes to itself, two cache
 * lines, because processors prefetch lines in pairs.
 *
 *   0    magic, version, capacity, data offset, packet limit, doorbell offset, scratch bytes   (written once)
 *   128  head, which a waiting consumer looks at again and again: nothing else is on its line, or every write there
 *        would wait for the line to come back
 *   256  tail, the same for a producer
 *   384  consumer sleeps (the doorbell)
 *   512  producer sleeps
 *   640  the producer's own: packets, closed, heartbeat; float64 statistics
 *   768  the consumer's own
 *   896  records
 *
 * head and tail count bytes modulo 2^32. A record is i32 length, i32 meta, payload, padding to 8; length -1 sends the
 * reader back to the start. A record never wraps.
 */

/** "NCHR" read as a little-endian word. */
export const MAGIC = 0x5248434e;
/** Layout version this package writes and reads. */
export const VERSION = 2;
/** Bytes before the records. */
export const HEADER_BYTES = 896;
/** Bytes of a record's own header. */
export const RECORD_HEADER = 8;
/** Bytes of an entry in a batch's table: where the payload starts in the scratch area, its length, the meta word. */
export const ENTRY_BYTES = 12;
/** Length word that sends the reader back to the start. */
export const WRAP = -1;
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
	head: 32,
	sent: 160,
	producerClosed: 161,
	producerBeat: 162,
	tail: 64,
	received: 192,
	consumerClosed: 193,
	consumerBeat: 194,
	consumerSleeps: 96,
	producerSleeps: 128,
} as const;

/** Float64 indices from the ring's start. */
export const Stat = {
	sent: 82,
	sentBytes: 83,
	dropped: 84,
	wakeups: 85,
	maxDepth: 86,
	received: 98,
	receivedBytes: 99,
} as const;

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
