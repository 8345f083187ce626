const DOLLAR = 0x24;
const HASH = 0x23;
const PLUS = 0x2b;
const MINUS = 0x2d;
const ESCAPE = 0x7d;
const STAR = 0x2a;
const INTERRUPT = 0x03;

/** Bytes of a packet's contents at the most, both ways. */
export const PACKET_BYTES = 0x4000;

/** What comes out of a stream from gdb. */
export type Incoming =
	/** Contents, unescaped. The array is the receiver's. */
	| { readonly kind: "packet"; readonly data: Uint8Array }
	/** A packet whose checksum does not fit, or that is too long. */
	| { readonly kind: "broken" }
	| { readonly kind: "ack" }
	| { readonly kind: "nak" }
	/** Ctrl-C. */
	| { readonly kind: "interrupt" };

/** Finds packets in what gdb sends, however it is cut up. */
export class PacketReader {
	#state: "idle" | "data" | "checksum" = "idle";
	readonly #data = new Uint8Array(PACKET_BYTES);
	#length = 0;
	#tooLong = false;
	#escaped = false;
	#sum = 0;
	#digits = "";

	/** Takes the next bytes. */
	push(bytes: Uint8Array): Incoming[] {
		const out: Incoming[] = [];
		for (const byte of bytes) {
			if (this.#state === "idle") this.#idle(byte, out);
			else if (this.#state === "data") this.#content(byte);
			else this.#checksum(byte, out);
		}
		return out;
	}

	#idle(byte: number, out: Incoming[]): void {
		if (byte === DOLLAR) this.#begin();
		else if (byte === PLUS) out.push({ kind: "ack" });
		else if (byte === MINUS) out.push({ kind: "nak" });
		else if (byte === INTERRUPT) out.push({ kind: "interrupt" });
	}

	#begin(): void {
		this.#state = "data";
		this.#length = 0;
		this.#sum = 0;
		this.#tooLong = false;
		this.#escaped = false;
	}

	#content(byte: number): void {
		if (byte === HASH) {
			this.#state = "checksum";
			this.#digits = "";
			return;
		}
		// A packet that begins anew: the end of the one before was lost.
		if (byte === DOLLAR) {
			this.#begin();
			return;
		}
		this.#sum = (this.#sum + byte) & 0xff;
		if (byte === ESCAPE && !this.#escaped) {
			this.#escaped = true;
			return;
		}
		if (this.#length === PACKET_BYTES) {
			this.#tooLong = true;
			return;
		}
		this.#data[this.#length++] = this.#escaped ? byte ^ 0x20 : byte;
		this.#escaped = false;
	}

	#checksum(byte: number, out: Incoming[]): void {
		this.#digits += String.fromCharCode(byte);
		if (this.#digits.length < 2) return;
		this.#state = "idle";
		const fits = /^[0-9a-fA-F]{2}$/.test(this.#digits) && Number.parseInt(this.#digits, 16) === this.#sum;
		if (fits && !this.#tooLong && !this.#escaped) {
			out.push({ kind: "packet", data: this.#data.slice(0, this.#length) });
		} else out.push({ kind: "broken" });
	}
}

/** A packet as it goes over the wire: `$contents#checksum`, with what would be mistaken escaped. */
export function encodePacket(contents: string | Uint8Array): Uint8Array {
	const bytes = typeof contents === "string" ? latin1(contents) : contents;
	const out: number[] = [DOLLAR];
	let sum = 0;
	const put = (byte: number): void => {
		out.push(byte);
		sum = (sum + byte) & 0xff;
	};
	for (const byte of bytes) {
		if (byte === DOLLAR || byte === HASH || byte === ESCAPE || byte === STAR) {
			put(ESCAPE);
			put(byte ^ 0x20);
		} else put(byte);
	}
	out.push(HASH, ...latin1(sum.toString(16).padStart(2, "0")));
	return Uint8Array.from(out);
}

/** Bytes of a text whose characters are bytes. */
export function latin1(text: string): Uint8Array {
	return Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff);
}

/** The text whose characters are these bytes. */
export function fromLatin1(bytes: Uint8Array): string {
	let text = "";
	for (const byte of bytes) text += String.fromCharCode(byte);
	return text;
}

/** Two digits a byte. */
export function toHex(bytes: Uint8Array): string {
	let text = "";
	for (const byte of bytes) text += HEX[byte];
	return text;
}

/** The bytes of such digits, or undefined when they are none. */
export function fromHex(text: string): Uint8Array | undefined {
	if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return undefined;
	const bytes = new Uint8Array(text.length / 2);
	for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
	return bytes;
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
