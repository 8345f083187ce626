import { type ConsumerOptions, RingConsumer } from "./consumer.ts";
import { RingError } from "./errors.ts";
import {
	HEADER_BYTES,
	LAP,
	lapAt,
	MAGIC,
	type RingHandle,
	requireCapacity,
	ringBytes,
	VERSION,
	Word,
} from "./layout.ts";
import { viewRing } from "./memory.ts";
import { type ProducerOptions, RingProducer } from "./producer.ts";

/** Options of {@link createRing}. */
export interface RingOptions {
	/** Bytes of records, a power of two from 256 to 2^30. A record may take up to half of it. @default 2 ** 20 */
	capacity?: number;
	/** Most records unreleased at a time, 0 for as many as fit. @default 0 */
	packetLimit?: number;
	/** Bytes beside the ring for each side to prepare or keep payloads in, copied at full speed. @default 0 */
	scratch?: number;
	/**
	 * Whether other threads may open it. Without it the ring works inside one thread and needs no SharedArrayBuffer.
	 * @default true where SharedArrayBuffer exists
	 */
	shared?: boolean;
	/** Where both byte counters start, modulo 2^32 and 8-aligned. @default 0 */
	position?: number;
}

const PAGE = 65536;

/** Writes a fresh ring's header at `offset` of zeroed memory. */
export function formatRing(words: Int32Array, offset: number, options: RingOptions, doorbell?: number): void {
	const { capacity = 2 ** 20, packetLimit = 0, scratch = 0, position = 0 } = options;
	const base = offset >> 2;
	words[base + Word.version] = VERSION;
	words[base + Word.capacity] = capacity;
	words[base + Word.data] = HEADER_BYTES;
	words[base + Word.packetLimit] = packetLimit;
	words[base + Word.doorbell] = doorbell ?? (base + Word.consumerSleeps) * 4;
	words[base + Word.scratch] = scratch;
	words[base + Word.head] = position | 0;
	words[base + Word.tail] = position | 0;
	words[base + ((HEADER_BYTES + (position & (capacity - 1))) >> 2)] = LAP - lapAt(position, capacity);
	Atomics.store(words, base + Word.magic, MAGIC);
}

/** Checks options and fills in what was left out. */
export function requireRingOptions(options: RingOptions): Required<RingOptions> {
	const { capacity = 2 ** 20, packetLimit = 0, scratch = 0, position = 0 } = options;
	const shared = options.shared ?? typeof SharedArrayBuffer !== "undefined";
	requireCapacity(capacity);
	if (!Number.isInteger(packetLimit) || packetLimit < 0 || packetLimit > 2 ** 31 - 1) {
		throw new RingError("ERR_RING_OPTION", `packetLimit is ${packetLimit}: give 0 or a positive whole number`);
	}
	if (!Number.isInteger(scratch) || scratch < 0 || scratch > 2 ** 29 || scratch % 128 !== 0) {
		throw new RingError("ERR_RING_OPTION", `scratch is ${scratch}: give a multiple of 128 bytes, at most 2^29`);
	}
	if (!Number.isInteger(position) || position % 8 !== 0) {
		throw new RingError("ERR_RING_OPTION", `position is ${position}: give a multiple of 8`);
	}
	return { capacity, packetLimit, scratch, shared, position };
}

function allocate(bytes: number, shared: boolean): WebAssembly.Memory | ArrayBuffer {
	if (!shared) return new ArrayBuffer(Math.ceil(bytes / PAGE) * PAGE);
	if (typeof SharedArrayBuffer === "undefined") {
		throw new RingError(
			"ERR_RING_OPTION",
			"this page has no SharedArrayBuffer: serve it with Cross-Origin-Opener-Policy: same-origin and " +
				"Cross-Origin-Embedder-Policy: require-corp, or give { shared: false }",
		);
	}
	const pages = Math.ceil(bytes / PAGE);
	return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/**
 * Makes a single-producer, single-consumer ring of variable-length records. Send the handle to the other thread; each
 * end is opened once.
 */
export function createRing(options: RingOptions = {}): RingHandle {
	const checked = requireRingOptions(options);
	const memory = allocate(ringBytes(checked.capacity, checked.scratch), checked.shared);
	formatRing(new Int32Array(memory instanceof ArrayBuffer ? memory : memory.buffer), 0, checked);
	return { memory, offset: 0 };
}

/** Opens the writing end; there is one. */
export function openProducer(handle: RingHandle, options?: ProducerOptions): RingProducer {
	return new RingProducer(viewRing(handle), options);
}

/** Opens the reading end; there is one. */
export function openConsumer(handle: RingHandle, options?: ConsumerOptions): RingConsumer {
	return new RingConsumer(viewRing(handle), options);
}

/**
 * Makes `producers` rings in one memory whose consumer sleeps on one word: many senders, one receiver, and still no
 * lock. Open it with {@link openFanIn}.
 */
export function createFanIn(producers: number, options: RingOptions = {}): RingHandle[] {
	const checked = requireRingOptions(options);
	if (!Number.isInteger(producers) || producers < 1 || producers > 1024) {
		throw new RingError("ERR_RING_OPTION", `${producers} producers: give a whole number from 1 to 1024`);
	}
	const each = Math.ceil(ringBytes(checked.capacity, checked.scratch) / 128) * 128;
	const memory = allocate(each * producers, checked.shared);
	const words = new Int32Array(memory instanceof ArrayBuffer ? memory : memory.buffer);
	return Array.from({ length: producers }, (_, index) => {
		formatRing(words, index * each, checked, Word.consumerSleeps * 4);
		return { memory, offset: index * each };
	});
}
