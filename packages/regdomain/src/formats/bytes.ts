import { RegdomainError, type RegdomainErrorCode } from "../errors.ts";

/** Big-endian reader that answers every access past the end with a typed error. */
export class ByteReader {
	readonly bytes: Uint8Array;
	readonly #view: DataView;
	readonly #truncated: RegdomainErrorCode;

	constructor(bytes: Uint8Array, truncated: RegdomainErrorCode) {
		this.bytes = bytes;
		this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
		this.#truncated = truncated;
	}

	get length(): number {
		return this.bytes.length;
	}

	/** Throws unless `size` bytes are there from `offset`. */
	need(offset: number, size: number, what: string): void {
		if (offset < 0 || offset + size > this.bytes.length) {
			throw new RegdomainError(
				this.#truncated,
				`${what} at byte ${offset} needs ${size} bytes, but the file ends at ${this.bytes.length}`,
				offset,
				{ offset, field: what },
			);
		}
	}

	u8(offset: number, what: string): number {
		this.need(offset, 1, what);
		return this.bytes[offset]!;
	}

	u16(offset: number, what: string): number {
		this.need(offset, 2, what);
		return this.#view.getUint16(offset);
	}

	u32(offset: number, what: string): number {
		this.need(offset, 4, what);
		return this.#view.getUint32(offset);
	}

	/** Two bytes as characters, whatever they are. */
	alpha2(offset: number): string {
		this.need(offset, 2, "country code");
		return String.fromCharCode(this.bytes[offset]!, this.bytes[offset + 1]!);
	}
}

/** Big-endian writer into a growing buffer. */
export class ByteWriter {
	#bytes = new Uint8Array(8192);
	#view = new DataView(this.#bytes.buffer);
	#length = 0;

	get length(): number {
		return this.#length;
	}

	#grow(size: number): number {
		const at = this.#length;
		this.#length += size;
		if (this.#length > this.#bytes.length) {
			const larger = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
			larger.set(this.#bytes);
			this.#bytes = larger;
			this.#view = new DataView(larger.buffer);
		}
		return at;
	}

	u8(value: number): void {
		this.#view.setUint8(this.#grow(1), value);
	}

	u16(value: number): void {
		this.#view.setUint16(this.#grow(2), value);
	}

	u32(value: number): void {
		this.#view.setUint32(this.#grow(4), value);
	}

	raw(bytes: Uint8Array): void {
		this.#bytes.set(bytes, this.#grow(bytes.length));
	}

	setU16(offset: number, value: number): void {
		this.#view.setUint16(offset, value);
	}

	setU32(offset: number, value: number): void {
		this.#view.setUint32(offset, value);
	}

	/** The bytes written so far. */
	finish(): Uint8Array {
		return this.#bytes.slice(0, this.#length);
	}
}
