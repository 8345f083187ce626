/** Bytes of a page, and bits. */
const PAGE_BYTES = 4096;
const PAGE_BITS = PAGE_BYTES * 8;

/** Bits by number, of which those never set cost nothing. */
export class PagedBitmap {
	readonly #pages = new Map<number, Uint8Array>();

	has(index: number): boolean {
		const page = this.#pages.get(Math.floor(index / PAGE_BITS));
		return page !== undefined && ((page[(index % PAGE_BITS) >> 3] >> (index & 7)) & 1) === 1;
	}

	/** Sets `count` bits from `first` on, or clears them. */
	fill(first: number, count: number, on: boolean): void {
		const end = first + count;
		for (let at = first; at < end; ) {
			const number = Math.floor(at / PAGE_BITS);
			const stop = Math.min(end, (number + 1) * PAGE_BITS);
			const page = on ? this.#page(number) : this.#pages.get(number);
			if (page !== undefined) fillBits(page, at % PAGE_BITS, stop - number * PAGE_BITS, on);
			at = stop;
		}
	}

	/** The pages with bits that may be set: bit `i` of the map is bit `i % 8` of byte `i / 8`, over all pages. */
	pages(): Iterable<readonly [number: number, bytes: Uint8Array]> {
		return this.#pages;
	}

	/** Puts a page in that `pages` gave. */
	load(number: number, bytes: Uint8Array): void {
		this.#page(number).set(bytes.subarray(0, PAGE_BYTES));
	}

	#page(number: number): Uint8Array {
		let page = this.#pages.get(number);
		if (page === undefined) {
			page = new Uint8Array(PAGE_BYTES);
			this.#pages.set(number, page);
		}
		return page;
	}
}

function fillBits(page: Uint8Array, first: number, end: number, on: boolean): void {
	const put = (from: number, to: number): void => {
		for (let bit = from; bit < to; bit++) {
			if (on) page[bit >> 3] |= 1 << (bit & 7);
			else page[bit >> 3] &= ~(1 << (bit & 7));
		}
	};
	const firstByte = Math.ceil(first / 8);
	const lastByte = Math.floor(end / 8);
	if (firstByte >= lastByte) {
		put(first, end);
		return;
	}
	put(first, firstByte * 8);
	page.fill(on ? 0xff : 0, firstByte, lastByte);
	put(lastByte * 8, end);
}
