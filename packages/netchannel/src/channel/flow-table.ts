/**
 * A hash table from keys of a few 32-bit words to non-negative integers: open addressing with linear probing, deletion
 * by shifting back, and growth on demand. The seed keeps strangers from choosing keys that collide.
 */
export class FlowTable {
	/** Words of a key. */
	readonly words: number;
	private readonly stride: number;
	private readonly seed: number;
	private slots: Int32Array;
	private mask: number;
	private used = 0;

	constructor(words: number, seed: number) {
		this.words = words;
		this.stride = words + 1;
		this.seed = seed | 0;
		this.mask = 15;
		this.slots = new Int32Array(16 * this.stride);
	}

	get size(): number {
		return this.used;
	}

	/** The value of `key & mask`, or -1. For keys of four words. */
	find4(k0: number, k1: number, k2: number, k3: number): number {
		const { slots, mask } = this;
		let h = this.seed ^ k0;
		h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) ^ k1;
		h = Math.imul(h ^ (h >>> 13), 0x297a2d39) ^ k2;
		h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) ^ k3;
		h = Math.imul(h ^ (h >>> 13), 0x297a2d39);
		let index = (h ^ (h >>> 16)) & mask;
		for (;;) {
			const at = index * 5;
			const stored = slots[at]!;
			if (stored === 0) return -1;
			if (slots[at + 1] === k0 && slots[at + 2] === k1 && slots[at + 3] === k2 && slots[at + 4] === k3)
				return stored - 1;
			index = (index + 1) & mask;
		}
	}

	/** The value of `key`, or -1. */
	find(key: Int32Array): number {
		const { slots, mask, stride, words } = this;
		let index = this.hash(key, 0) & mask;
		for (;;) {
			const at = index * stride;
			const stored = slots[at]!;
			if (stored === 0) return -1;
			let word = 0;
			while (word < words && slots[at + 1 + word] === key[word]) word++;
			if (word === words) return stored - 1;
			index = (index + 1) & mask;
		}
	}

	/** Adds a key; false when it is there already (its value stays). */
	insert(key: Int32Array, value: number): boolean {
		if (this.find(key) >= 0) return false;
		if (2 * (this.used + 1) > this.mask + 1) this.grow();
		this.place(key, 0, value + 1);
		this.used++;
		return true;
	}

	/** Removes a key; false when it is not there. */
	delete(key: Int32Array): boolean {
		const { slots, mask, stride, words } = this;
		let index = this.hash(key, 0) & mask;
		for (;;) {
			const at = index * stride;
			if (slots[at] === 0) return false;
			let word = 0;
			while (word < words && slots[at + 1 + word] === key[word]) word++;
			if (word === words) break;
			index = (index + 1) & mask;
		}
		// Whoever probed past this slot moves back, so that no search ends early.
		let hole = index;
		for (let next = (hole + 1) & mask; slots[next * stride] !== 0; next = (next + 1) & mask) {
			const home = this.hash(slots, next * stride + 1) & mask;
			if (((next - home) & mask) >= ((next - hole) & mask)) {
				slots.copyWithin(hole * stride, next * stride, (next + 1) * stride);
				hole = next;
			}
		}
		slots.fill(0, hole * stride, (hole + 1) * stride);
		this.used--;
		return true;
	}

	private hash(source: Int32Array, at: number): number {
		let h = this.seed ^ source[at]!;
		for (let word = 1; word < this.words; word++) {
			h = (word & 1) === 1 ? Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) : Math.imul(h ^ (h >>> 13), 0x297a2d39);
			h ^= source[at + word]!;
		}
		h = (this.words & 1) === 1 ? Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) : Math.imul(h ^ (h >>> 13), 0x297a2d39);
		return h ^ (h >>> 16);
	}

	private place(source: Int32Array, from: number, stored: number): void {
		const { slots, mask, stride, words } = this;
		let index = this.hash(source, from) & mask;
		while (slots[index * stride] !== 0) index = (index + 1) & mask;
		const at = index * stride;
		slots[at] = stored;
		for (let word = 0; word < words; word++) slots[at + 1 + word] = source[from + word]!;
	}

	private grow(): void {
		const old = this.slots;
		this.mask = 2 * this.mask + 1;
		this.slots = new Int32Array((this.mask + 1) * this.stride);
		for (let at = 0; at < old.length; at += this.stride) {
			if (old[at] !== 0) this.place(old, at + 1, old[at]!);
		}
	}
}
