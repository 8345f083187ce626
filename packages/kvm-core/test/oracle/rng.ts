/** sfc32: small, fast, seeded; the same seed gives the same cases on every machine. */
export class Rng {
	#a: number;
	#b: number;
	#c: number;
	#counter = 1;

	constructor(seed: number) {
		this.#a = 0x9e3779b9;
		this.#b = 0x243f6a88;
		this.#c = seed | 0;
		for (let i = 0; i < 12; i++) this.u32();
	}

	/** 0 to 2^32 - 1. */
	u32(): number {
		const t = (((this.#a + this.#b) | 0) + this.#counter) | 0;
		this.#counter = (this.#counter + 1) | 0;
		this.#a = this.#b ^ (this.#b >>> 9);
		this.#b = (this.#c + (this.#c << 3)) | 0;
		this.#c = (((this.#c << 21) | (this.#c >>> 11)) + t) | 0;
		return t >>> 0;
	}

	/** 0 to `n` - 1. */
	below(n: number): number {
		return Math.floor((this.u32() / 4294967296) * n);
	}

	/** True in `percent` of 100 calls. */
	chance(percent: number): boolean {
		return this.u32() < percent * 42949672.96;
	}

	pick<T>(from: readonly T[]): T {
		return from[this.below(from.length)]!;
	}

	u64(): bigint {
		return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
	}
}
