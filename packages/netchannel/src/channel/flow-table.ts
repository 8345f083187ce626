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

/** Spreads a sum of products, which has what differs in its low bits, over the high ones. */
function spread(sum: number): number {
	return Math.imul(sum ^ (sum >>> 15), 0x2c1b3c6d);
}

/** Slots for each entry at least: so few searches pass another's that the processor guesses right. */
const SPARSE = 4;

/**
 * A hash table from keys of a few 32-bit words to non-negative integers: open addressing with linear probing, deletion
 * by shifting back, and growth on demand. Slots are numbers of entries and sparse, entries are dense, so that a thousand
 * flows stay near the processor. The hash is multilinear, its multipliers come from the seed: strangers who do not know
 * it cannot choose keys that collide, and the products do not wait for each other.
 */
export class FlowTable {
	/** Words of a key. */
	readonly words: number;
	// Numbers from the start: a field that was undefined first is never again known to be a small integer.
	private m0 = 0;
	private m1 = 0;
	private m2 = 0;
	private m3 = 0;
	private mask = 31;
	/** Bits of a hash that are not its slot's number. */
	private shift = 27;
	private used = 0;
	private readonly stride: number;
	private readonly multipliers: Int32Array;
	/** Offsets in {@link entries} of an entry, 0 where there is none. */
	private slots: Int32Array = new Int32Array(this.mask + 1);
	/** For each entry its value and its key; the first is never used. */
	private entries: Int32Array = new Int32Array(0);
	/** Offset of the first entry never used, and of those given back. */
	private end: number;
	private readonly free: number[] = [];

	constructor(words: number, seed: number) {
		this.words = words;
		this.stride = this.end = words + 1;
		this.multipliers = oddNumbers(seed, words);
		const [m0 = 0, m1 = 0, m2 = 0, m3 = 0] = this.multipliers;
		this.m0 = m0;
		this.m1 = m1;
		this.m2 = m2;
		this.m3 = m3;
		this.entries = new Int32Array((this.slots.length / SPARSE + 1) * this.stride);
	}

	get size(): number {
		return this.used;
	}

	/** The value of a key of four words, or -1. */
	find4(k0: number, k1: number, k2: number, k3: number): number {
		const { slots, entries } = this;
		const first = (Math.imul(k0, this.m0) + Math.imul(k1, this.m1)) | 0;
		const sum = (first + ((Math.imul(k2, this.m2) + Math.imul(k3, this.m3)) | 0)) | 0;
		let slot = spread(sum) >>> this.shift;
		for (;;) {
			const at = slots[slot]!;
			if (at === 0) return -1;
			if (
				entries[(at + 1) | 0] === k0 &&
				entries[(at + 2) | 0] === k1 &&
				entries[(at + 3) | 0] === k2 &&
				entries[(at + 4) | 0] === k3
			)
				return entries[at]!;
			slot = (slot + 1) & this.mask;
		}
	}

	/** The value of `key`, or -1. */
	find(key: Int32Array): number {
		const at = this.slots[this.search(key)]!;
		return at === 0 ? -1 : this.entries[at]!;
	}

	/** Adds a key; false when it is there already (its value stays). */
	insert(key: Int32Array, value: number): boolean {
		if (this.slots[this.search(key)] !== 0) return false;
		if (SPARSE * (this.used + 1) > this.slots.length) this.grow();
		const at = this.free.pop() ?? this.end;
		if (at === this.end) this.end += this.stride;
		this.entries[at] = value;
		for (let word = 0; word < this.words; word++) this.entries[at + 1 + word] = key[word]!;
		this.slots[this.search(key)] = at;
		this.used++;
		return true;
	}

	/** Removes a key; false when it is not there. */
	delete(key: Int32Array): boolean {
		const { slots, entries, mask } = this;
		let hole = this.search(key);
		const at = slots[hole]!;
		if (at === 0) return false;
		// Whoever probed past this slot moves back, so that no search ends early.
		for (let next = (hole + 1) & mask; slots[next] !== 0; next = (next + 1) & mask) {
			const home = this.slotOf(entries, slots[next]! + 1);
			if (((next - home) & mask) >= ((next - hole) & mask)) {
				slots[hole] = slots[next]!;
				hole = next;
			}
		}
		slots[hole] = 0;
		this.free.push(at);
		this.used--;
		return true;
	}

	/** The slot of `key`, or the empty one that shows it is not there. */
	private search(key: Int32Array): number {
		const { slots, entries, mask, words } = this;
		for (let slot = this.slotOf(key, 0); ; slot = (slot + 1) & mask) {
			const at = slots[slot]!;
			if (at === 0) return slot;
			let word = 0;
			while (word < words && entries[at + 1 + word] === key[word]) word++;
			if (word === words) return slot;
		}
	}

	private slotOf(source: Int32Array, at: number): number {
		let sum = 0;
		for (let word = 0; word < this.words; word++)
			sum = (sum + Math.imul(source[at + word]!, this.multipliers[word]!)) | 0;
		return spread(sum) >>> this.shift;
	}

	private grow(): void {
		const old = this.slots;
		const { entries } = this;
		this.mask = 2 * this.mask + 1;
		this.shift--;
		this.slots = new Int32Array(this.mask + 1);
		this.entries = new Int32Array((this.slots.length / SPARSE + 1) * this.stride);
		this.entries.set(entries);
		for (const at of old) {
			if (at === 0) continue;
			let slot = this.slotOf(entries, at + 1);
			while (this.slots[slot] !== 0) slot = (slot + 1) & this.mask;
			this.slots[slot] = at;
		}
	}
}
