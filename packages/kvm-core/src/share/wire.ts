import { ShareError } from "./directory.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** Numbers of 64 bits that are no length or offset of anything. */
const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** Reads a message field after field; beyond its end there is nothing but an error. */
export class MessageReader {
	readonly bytes: Uint8Array;
	readonly #view: DataView;
	#at: number;

	constructor(bytes: Uint8Array, start: number) {
		this.bytes = bytes;
		this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
		this.#at = start;
	}

	get left(): number {
		return this.bytes.length - this.#at;
	}

	skip(length: number): void {
		this.#take(length);
	}

	u8(): number {
		return this.#view.getUint8(this.#take(1));
	}

	u16(): number {
		return this.#view.getUint16(this.#take(2), true);
	}

	u32(): number {
		return this.#view.getUint32(this.#take(4), true);
	}

	u64(): bigint {
		return this.#view.getBigUint64(this.#take(8), true);
	}

	/**
	 * A 64-bit number that means an offset, a count or a handle.
	 *
	 * @throws ShareError EINVAL for one no JavaScript number holds: no file is so long
	 */
	index(): number {
		const value = this.u64();
		if (value > MAX_SAFE) throw new ShareError("EINVAL");
		return Number(value);
	}

	/** Bytes of the message itself, not a copy. */
	take(length: number): Uint8Array {
		const at = this.#take(length);
		return this.bytes.subarray(at, at + length);
	}

	/** Text up to a zero. */
	cString(): string {
		const end = this.bytes.indexOf(0, this.#at);
		if (end < 0) throw new ShareError("EINVAL");
		const text = decodeName(this.bytes.subarray(this.#at, end));
		this.#at = end + 1;
		return text;
	}

	/** Text behind its length in 16 bits. */
	string16(): string {
		return decodeName(this.take(this.u16()));
	}

	#take(length: number): number {
		const at = this.#at;
		if (length > this.bytes.length - at) throw new ShareError("EINVAL");
		this.#at += length;
		return at;
	}
}

/** Writes a message field after field into a buffer of fixed size. */
export class MessageWriter {
	readonly bytes: Uint8Array;
	readonly #view: DataView;
	at = 0;
	/** Where the message has to end. */
	limit: number;

	constructor(size: number) {
		this.bytes = new Uint8Array(size);
		this.#view = new DataView(this.bytes.buffer);
		this.limit = size;
	}

	get room(): number {
		return this.limit - this.at;
	}

	u8(value: number): void {
		this.#view.setUint8(this.#take(1), value);
	}

	u16(value: number): void {
		this.#view.setUint16(this.#take(2), value, true);
	}

	u32(value: number): void {
		this.#view.setUint32(this.#take(4), value, true);
	}

	u64(value: bigint | number): void {
		this.#view.setBigUint64(this.#take(8), BigInt.asUintN(64, BigInt(value)), true);
	}

	put(bytes: Uint8Array): void {
		this.bytes.set(bytes, this.#take(bytes.length));
	}

	zeros(length: number): void {
		const at = this.#take(length);
		this.bytes.fill(0, at, at + length);
	}

	string16(text: string): void {
		const bytes = encoder.encode(text);
		this.u16(bytes.length);
		this.put(bytes);
	}

	/** Room to fill by oneself. */
	reserve(length: number): Uint8Array {
		const at = this.#take(length);
		return this.bytes.subarray(at, at + length);
	}

	/** Everything written so far. */
	message(): Uint8Array {
		return this.bytes.subarray(0, this.at);
	}

	#take(length: number): number {
		const { at } = this;
		if (length > this.limit - at) throw new ShareError("ERANGE");
		this.at += length;
		return at;
	}
}

function decodeName(bytes: Uint8Array): string {
	try {
		return decoder.decode(bytes);
	} catch {
		throw new ShareError("EILSEQ", "names are UTF-8");
	}
}
