/** Odd 32-bit numbers that follow from a seed (Steele's SplitMix32). */
function oddNumbers(seed: number, count: number): Int32Array {
	let state = seed | 0;
	return Int32Array.from({ length: count }, () => {
		state = (state + 0x9e3779b9) | 0;
		let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
		z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
		return (z ^ (z >>> 15)) | 1;
	});
}

/** Spreads what the sum of products has in its low bits. */
const FINISH = 0x2c1b3c6d;

/**
 * A hash table from keys of a few 32-bit words to non-negative integers: open addressing with linear probing, deletion
 * by shifting back, and growth on demand. The hash is multilinear, its multipliers come from the seed: strangers who do
 * not know it cannot choose keys that collide, and the products do not wait for each other.
 */
export class FlowTable {
	/** Words of a key. */
	readonly words: number;
	private readonly stride: number;
	private readonly multipliers: Int32Array;
	private readonly m0: number;
	private readonly m1: number;
	private readonly m2: number;
	private readonly m3: number;
	private slots: Int32Array;
	private mask: number;
	/** Bits of a hash that are not its slot's number. */
	private shift: number;
	private used = 0;

	constructor(words: number, seed: number) {
		this.words = words;
		this.stride = words + 1;
		this.multipliers = oddNumbers(seed, words);
		const [m0 = 0, m1 = 0, m2 = 0, m3 = 0] = this.multipliers;
		this.m0 = m0;
		this.m1 = m1;
		this.m2 = m2;
		this.m3 = m3;
		this.mask = 15;
		this.shift = 28;
		this.slots = new Int32Array(16 * this.stride);
	}

	get size(): number {
		return this.used;
	}

	/** The value of a key of four words, or -1. */
	find4(k0: number, k1: number, k2: number, k3: number): number {
		const { slots, mask } = this;
		const first = (Math.imul(k0, this.m0) + Math.imul(k1, this.m1)) | 0;
		const sum = (first + ((Math.imul(k2, this.m2) + Math.imul(k3, this.m3)) | 0)) | 0;
		let index = Math.imul(sum ^ (sum >>> 15), FINISH) >>> this.shift;
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
		let index = this.slotOf(key, 0);
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
		let index = this.slotOf(key, 0);
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
			const home = this.slotOf(slots, next * stride + 1);
			if (((next - home) & mask) >= ((next - hole) & mask)) {
				slots.copyWithin(hole * stride, next * stride, (next + 1) * stride);
				hole = next;
			}
		}
		slots.fill(0, hole * stride, (hole + 1) * stride);
		this.used--;
		return true;
	}

	private slotOf(source: Int32Array, at: number): number {
		let sum = 0;
		for (let word = 0; word < this.words; word++)
			sum = (sum + Math.imul(source[at + word]!, this.multipliers[word]!)) | 0;
		return Math.imul(sum ^ (sum >>> 15), FINISH) >>> this.shift;
	}

	private place(source: Int32Array, from: number, stored: number): void {
		const { slots, mask, stride, words } = this;
		let index = this.slotOf(source, from);
		while (slots[index * stride] !== 0) index = (index + 1) & mask;
		const at = index * stride;
		slots[at] = stored;
		for (let word = 0; word < words; word++) slots[at + 1 + word] = source[from + word]!;
	}

	private grow(): void {
		const old = this.slots;
		this.mask = 2 * this.mask + 1;
		this.shift--;
		this.slots = new Int32Array((this.mask + 1) * this.stride);
		for (let at = 0; at < old.length; at += this.stride) {
			if (old[at] !== 0) this.place(old, at + 1, old[at]!);
		}
	}
}
