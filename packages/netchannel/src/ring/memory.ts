import { type Copier, createCopier } from "./copier.ts";
import { type RingHandle, requireRing, Word } from "./layout.ts";
import { createLocalSleeper, createSharedSleeper, type Sleeper } from "./sleep.ts";

/** A ring's memory as one thread sees it. */
export interface RingView {
	readonly bytes: Uint8Array;
	readonly words: Int32Array;
	readonly floats: Float64Array;
	/** Word index of the ring's start. */
	readonly base: number;
	/** Byte offset of the first record. */
	readonly data: number;
	readonly capacity: number;
	/** Most records that may be unreleased, 0 for as many as fit. */
	readonly packetLimit: number;
	/** Word index consumers sleep on; rings of one fan-in share it. */
	readonly doorbell: number;
	/** Word index producers sleep on. */
	readonly producerBell: number;
	/** Bytes of each side's scratch area, and where they start. */
	readonly scratch: number;
	readonly scratchOffset: number;
	readonly copier: Copier | undefined;
	readonly sleeper: Sleeper;
}

function viewBuffer(buffer: ArrayBufferLike, offset: number, copier: Copier | undefined, sleeper?: Sleeper): RingView {
	const words = new Int32Array(buffer);
	requireRing(words, offset, buffer.byteLength);
	const base = offset >> 2;
	const shared = typeof SharedArrayBuffer !== "undefined" && buffer instanceof SharedArrayBuffer;
	const capacity = words[base + Word.capacity]!;
	const data = offset + words[base + Word.data]!;
	return {
		bytes: new Uint8Array(buffer),
		words,
		floats: new Float64Array(buffer),
		base,
		data,
		capacity,
		packetLimit: words[base + Word.packetLimit]!,
		doorbell: words[base + Word.doorbell]! >> 2,
		producerBell: base + Word.producerSleeps,
		scratch: words[base + Word.scratch]!,
		scratchOffset: data + capacity,
		copier,
		sleeper: sleeper ?? (shared ? createSharedSleeper(words) : createLocalSleeper(words)),
	};
}

/** Opens the ring a handle names; throws a RingError when there is none this version reads. */
export function viewRing(handle: RingHandle): RingView {
	const { memory, offset } = handle;
	if (memory instanceof ArrayBuffer) return viewBuffer(memory, offset, undefined);
	return viewBuffer(memory.buffer, offset, createCopier(memory));
}

/** Opens a ring in memory that another process maps too; `sleeper` wakes across processes. */
export function viewMappedRing(buffer: ArrayBuffer, offset: number, sleeper: Sleeper): RingView {
	return viewBuffer(buffer, offset, undefined, sleeper);
}
