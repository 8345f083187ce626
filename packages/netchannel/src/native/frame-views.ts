/** Views kept; the lengths of a wire's frames are few. */
const KEPT = 64;

/** Views of one receive buffer by length, made once: a new one for every frame costs a sixth of what its read(2) does. */
export class FrameViews {
	private readonly buffer: ArrayBuffer;
	private readonly start: number;
	private readonly kept: Uint8Array[];

	/** @param start - byte offset in `buffer` at which every frame begins */
	constructor(buffer: ArrayBuffer, start: number) {
		this.buffer = buffer;
		this.start = start;
		this.kept = Array.from({ length: KEPT }, () => new Uint8Array(buffer, start, 0));
	}

	/** The first `length` bytes. */
	of(length: number): Uint8Array {
		const slot = length % KEPT;
		const kept = this.kept[slot]!;
		if (kept.length === length) return kept;
		const made = new Uint8Array(this.buffer, this.start, length);
		this.kept[slot] = made;
		return made;
	}
}
