import { LinkError } from "./errors.ts";

/** Most bytes QEMU puts in one frame (its NET_BUFSIZE: 64 KiB of payload and 4 KiB for headers). */
export const QEMU_LONGEST_FRAME: number = 4096 + 65536;

/**
 * Takes frames out of a byte stream in which each follows its length as a 32-bit big-endian word: the framing of
 * QEMU's `-netdev stream` and `-netdev socket`, of passt, and of gvproxy's QEMU mode.
 */
export class LengthDeframer {
	private readonly longest: number;
	private partial: Uint8Array = new Uint8Array(256);
	/** Bytes of {@link partial} that hold the beginning of a header or frame. */
	private held = 0;

	constructor(longest: number = QEMU_LONGEST_FRAME) {
		this.longest = longest;
	}

	/**
	 * Emits every frame that `chunk` completes. A frame's bytes are valid during the call only.
	 *
	 * @throws LinkError `ERR_LINK_PROTOCOL` when a length is beyond what the stream may carry; nothing after it can be read
	 */
	push(chunk: Uint8Array, emit: (frame: Uint8Array) => void): void {
		let at = 0;
		while (this.held > 0 && at < chunk.length) {
			const want = this.held < 4 ? 4 : 4 + this.lengthAt(this.partial, 0);
			const take = Math.min(want - this.held, chunk.length - at);
			this.hold(chunk, at, take, want);
			at += take;
			if (this.held < 4 || this.held < 4 + this.lengthAt(this.partial, 0)) continue;
			const frame = this.partial.subarray(4, this.held);
			this.held = 0;
			if (frame.length > 0) emit(frame);
		}
		while (chunk.length - at >= 4) {
			const end = at + 4 + this.lengthAt(chunk, at);
			if (end > chunk.length) break;
			if (end > at + 4) emit(chunk.subarray(at + 4, end));
			at = end;
		}
		const rest = chunk.length - at;
		if (rest > 0) this.hold(chunk, at, rest, rest >= 4 ? 4 + this.lengthAt(chunk, at) : 4);
	}

	private hold(chunk: Uint8Array, at: number, count: number, want: number): void {
		if (want > this.partial.length) {
			const grown = new Uint8Array(Math.max(want, Math.min(2 * this.partial.length, this.longest + 4)));
			grown.set(this.partial.subarray(0, this.held));
			this.partial = grown;
		}
		this.partial.set(chunk.subarray(at, at + count), this.held);
		this.held += count;
	}

	private lengthAt(bytes: Uint8Array, at: number): number {
		const length = ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
		if (length > this.longest) {
			throw new LinkError(
				"ERR_LINK_PROTOCOL",
				`the peer announced a frame of ${length} bytes (at most ${this.longest}): it does not speak QEMU's stream framing`,
			);
		}
		return length;
	}
}

/** Writes `length` as the 32-bit big-endian word before a frame. */
export function writeLength(target: Uint8Array, at: number, length: number): void {
	target[at] = length >>> 24;
	target[at + 1] = length >>> 16;
	target[at + 2] = length >>> 8;
	target[at + 3] = length;
}
