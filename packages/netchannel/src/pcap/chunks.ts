/** Bytes that arrive in pieces and are taken in records. */
export class ChunkBuffer {
	/** Byte of the stream that {@link data} starts at. */
	offset = 0;
	private data: Uint8Array = new Uint8Array(0);
	private start = 0;

	/** Bytes that wait. */
	get length(): number {
		return this.data.length - this.start;
	}

	push(chunk: Uint8Array): void {
		if (this.length === 0) {
			this.data = chunk;
			this.start = 0;
			return;
		}
		const joined = new Uint8Array(this.length + chunk.length);
		joined.set(this.data.subarray(this.start));
		joined.set(chunk, this.length);
		this.data = joined;
		this.start = 0;
	}

	/** The next `count` bytes without taking them; there must be as many. */
	peek(count: number): Uint8Array {
		return this.data.subarray(this.start, this.start + count);
	}

	/** Goes past `count` bytes. */
	skip(count: number): void {
		this.start += count;
		this.offset += count;
	}

	/** Copies what is left, so that the pushed chunk may be reused. */
	detach(): void {
		this.data = this.data.slice(this.start);
		this.start = 0;
	}
}
