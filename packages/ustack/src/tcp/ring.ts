const EMPTY = /* @__PURE__ */ new Uint8Array(0);
const SMALLEST_SHIFT = 11;
const LARGEST_POOLED_SHIFT = 22;
const MAX_POOLED_BYTES = 8 << 20;

/** Buffers of the sizes rings use, kept for the next connection; bounded. */
export class BufferPool {
	private readonly free: Uint8Array[][] = [];
	private held = 0;

	take(shift: number): Uint8Array {
		const buffer = this.free[shift]?.pop();
		if (buffer === undefined) return new Uint8Array(1 << shift);
		this.held -= buffer.length;
		return buffer;
	}

	give(buffer: Uint8Array): void {
		const shift = 31 - Math.clz32(buffer.length);
		if (shift > LARGEST_POOLED_SHIFT || this.held + buffer.length > MAX_POOLED_BYTES) return;
		this.held += buffer.length;
		(this.free[shift] ??= []).push(buffer);
	}
}

function shiftFor(bytes: number): number {
	return 32 - Math.clz32(bytes - 1);
}

/**
 * A byte queue in a power-of-two buffer that exists only while there are bytes in it. Bytes may be written ahead of the
 * end (out of order); `length` counts the ones in order.
 */
export class ByteRing {
	length = 0;
	private data: Uint8Array = EMPTY;
	private head = 0;
	/** Bytes the buffer has had to hold since it was taken; the next one is taken as large. */
	private peak = 0;
	private firstShift = SMALLEST_SHIFT;
	private readonly pool: BufferPool;

	constructor(pool: BufferPool) {
		this.pool = pool;
	}

	private grow(needed: number): void {
		const old = this.data;
		const fresh = this.pool.take(Math.max(old.length === 0 ? this.firstShift : SMALLEST_SHIFT, shiftFor(needed)));
		if (old.length > 0) {
			fresh.set(old.subarray(this.head));
			fresh.set(old.subarray(0, this.head), old.length - this.head);
			this.pool.give(old);
		}
		this.data = fresh;
		this.head = 0;
	}

	/** Copies `source[from..to)` to `offset` bytes behind the head; does not change `length`. */
	write(offset: number, source: Uint8Array, from: number, to: number): void {
		const count = to - from;
		if (offset + count > this.peak) {
			this.peak = offset + count;
			if (this.peak > this.data.length) this.grow(this.peak);
		}
		const { data } = this;
		const at = (this.head + offset) & (data.length - 1);
		const first = Math.min(count, data.length - at);
		if (first === count) {
			data.set(from === 0 && to === source.length ? source : source.subarray(from, to), at);
			return;
		}
		data.set(source.subarray(from, from + first), at);
		data.set(source.subarray(from + first, to), 0);
	}

	/** Copies `count` bytes from `offset` behind the head to `target[at..)`. */
	copyTo(offset: number, target: Uint8Array, at: number, count: number): void {
		const { data } = this;
		const from = (this.head + offset) & (data.length - 1);
		const first = Math.min(count, data.length - from);
		target.set(data.subarray(from, from + first), at);
		if (first < count) target.set(data.subarray(0, count - first), at + first);
	}

	/** A view of the longest run at the head, at most `most` bytes; valid until the next write or discard. */
	peek(most: number): Uint8Array {
		const count = Math.min(most, this.length, this.data.length - this.head);
		return this.data.subarray(this.head, this.head + count);
	}

	/** Drops `count` bytes from the head; the buffer goes back when nothing (and nothing ahead) is left. */
	discard(count: number, keepBuffer: boolean): void {
		this.length -= count;
		if (this.length === 0 && !keepBuffer) {
			this.release();
			return;
		}
		this.head = (this.head + count) & (this.data.length - 1);
	}

	release(): void {
		if (this.data.length > 0) {
			// The next fill is likely alike: it need not grow again, and takes less if this one did with less.
			this.firstShift = Math.max(SMALLEST_SHIFT, shiftFor(this.peak));
			this.pool.give(this.data);
		}
		this.data = EMPTY;
		this.head = 0;
		this.length = 0;
		this.peak = 0;
	}
}
