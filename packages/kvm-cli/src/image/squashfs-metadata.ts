const BLOCK_SIZE = 8192;
/** In a block's header: it is stored as it is. */
const STORED = 0x8000;

/** A squashfs table: a stream of bytes in blocks of 8 KiB, each with its size before it. */
export class MetadataTable {
	/** Offset of each block in the table. */
	readonly blocks: number[] = [];
	readonly #pack: ((bytes: Uint8Array) => Uint8Array) | undefined;
	readonly #done: Uint8Array[] = [];
	#size = 0;
	readonly #block = new Uint8Array(BLOCK_SIZE);
	#filled = 0;

	/** @param pack - compresses a block */
	constructor(pack: ((bytes: Uint8Array) => Uint8Array) | undefined) {
		this.#pack = pack;
	}

	/** Where the next byte goes: the offset of its block in the table, and its offset in that block unpacked. */
	position(): { block: number; offset: number } {
		if (this.#filled === BLOCK_SIZE) this.#flush();
		return { block: this.#size, offset: this.#filled };
	}

	put(bytes: Uint8Array): void {
		for (let done = 0; done < bytes.length; ) {
			if (this.#filled === BLOCK_SIZE) this.#flush();
			const count = Math.min(bytes.length - done, BLOCK_SIZE - this.#filled);
			this.#block.set(bytes.subarray(done, done + count), this.#filled);
			this.#filled += count;
			done += count;
		}
	}

	/** The whole table. */
	finish(): Uint8Array {
		if (this.#filled > 0) this.#flush();
		return Buffer.concat(this.#done);
	}

	#flush(): void {
		const bytes = this.#block.subarray(0, this.#filled);
		const packed = this.#pack?.(bytes);
		const stored = packed === undefined || packed.length >= bytes.length;
		const body = stored ? bytes.slice() : packed;
		const header = new Uint8Array(2);
		new DataView(header.buffer).setUint16(0, stored ? body.length | STORED : body.length, true);
		this.blocks.push(this.#size);
		this.#done.push(header, body);
		this.#size += header.length + body.length;
		this.#filled = 0;
	}
}
