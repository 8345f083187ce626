import type { GuestSymbol } from "./symbols.ts";

const TOKENS = 256;
const DIGIT_ZERO = 0x30;
/** Symbols a marker stands for. */
const MARKER_STEP = 256;
/** No kernel has fewer. */
const FEWEST_SYMBOLS = 256;
/** What the names, their markers and their order by name take at the most. */
const LARGEST_NAMES = 64 << 20;
/** Names looked at before the search is given up: a file made to look like names everywhere must not take for ever. */
const MOST_NAMES_TRIED = 32_000_000;
/** A type letter and a name. */
const TYPED_NAME = /^[A-Za-z?-][^\0]/;
/** Largest expanded name, as the kernel's own KSYM_NAME_LEN with room to spare. */
const LONGEST_NAME = 1024;
/** What may lie between two of the tables: alignment of sections and labels. */
const MOST_PADDING = 256;

/**
 * Reads the symbol table that a Linux kernel carries for itself (CONFIG_KALLSYMS): names compressed by a table of 256
 * tokens, addresses as 32-bit offsets from a base (scripts/kallsyms.c). Both orders of the tables are understood, that of
 * Linux 4.20 to 6.3 and that since 6.4, and 64- and 32-bit kernels. Nothing about the image is believed before it has
 * been checked against the rest.
 *
 * @param image - the kernel's loadable bytes as linked, e.g. a decompressed vmlinux; not relocated (`nokaslr`)
 * @returns undefined when there is no such table
 */
export function readKallsyms(image: Uint8Array, bits: 32 | 64): GuestSymbol[] | undefined {
	const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
	for (let from = 0; ; ) {
		const digits = findDigits(image, from);
		if (digits < 0) return undefined;
		from = digits + 1;
		const tokens = readTokens(image, view, digits);
		if (tokens === undefined) continue;
		const names = readNames(image, view, tokens);
		if (names === undefined) continue;
		const addresses = readAddresses(view, names, tokens, bits);
		if (addresses === undefined) continue;
		return names.names.map((name, i) => ({ type: name[0]!, name: name.slice(1), address: addresses[i]! }));
	}
}

/** The tokens "0" to "9" in a row, each with its NUL: no compiler lays these out otherwise. */
function findDigits(image: Uint8Array, from: number): number {
	for (let at = image.indexOf(DIGIT_ZERO, from); at >= 0; at = image.indexOf(DIGIT_ZERO, at + 1)) {
		let i = 0;
		while (i < 10 && image[at + 2 * i] === DIGIT_ZERO + i && image[at + 2 * i + 1] === 0) i++;
		if (i === 10) return at;
	}
	return -1;
}

interface Tokens {
	readonly texts: readonly string[];
	readonly start: number;
	/** Behind the index. */
	readonly end: number;
}

/** The token table around its digits, confirmed by the table of offsets into it that follows. */
function readTokens(image: Uint8Array, view: DataView, digits: number): Tokens | undefined {
	let start = digits;
	for (let back = 0; back < DIGIT_ZERO; back++) {
		start--;
		while (start > 0 && image[start - 1] !== 0) start--;
		if (digits - start > DIGIT_ZERO * 64 || start <= 0) return undefined;
	}
	const texts: string[] = [];
	const offsets: number[] = [];
	let at = start;
	while (texts.length < TOKENS) {
		const end = image.indexOf(0, at);
		if (end < 0 || end - at > 64) return undefined;
		offsets.push(at - start);
		texts.push(String.fromCharCode(...image.subarray(at, end)));
		at = end + 1;
	}
	for (let index = at; index <= at + MOST_PADDING && index + 2 * TOKENS <= image.length; index++) {
		if (offsets.every((offset, i) => view.getUint16(index + 2 * i, true) === offset)) {
			return { texts, start, end: index + 2 * TOKENS };
		}
	}
	return undefined;
}

interface Names {
	readonly names: readonly string[];
	/** Where the number of symbols stands. */
	readonly countAt: number;
}

/**
 * Names: before the tokens, behind their number. What is taken for the number is confirmed by as many names, and by the
 * markers behind those, which say where every 256th begins.
 */
function readNames(image: Uint8Array, view: DataView, tokens: Tokens): Names | undefined {
	const lowest = Math.max(0, tokens.start - LARGEST_NAMES);
	const work = { left: MOST_NAMES_TRIED };
	for (let countAt = tokens.start & ~3; countAt >= lowest; countAt -= 4) {
		const count = view.getUint32(countAt, true);
		if (count < FEWEST_SYMBOLS || count * 3 > tokens.start - countAt) continue;
		for (const start of [countAt + 4, countAt + 8]) {
			const names = expandNames(image, view, start, count, tokens, work);
			if (names !== undefined) return { names, countAt };
		}
	}
	return undefined;
}

function expandNames(
	image: Uint8Array,
	view: DataView,
	start: number,
	count: number,
	tokens: Tokens,
	work: { left: number },
): string[] | undefined {
	const names: string[] = [];
	const markers: number[] = [];
	let at = start;
	for (let i = 0; i < count; i++) {
		if (i % MARKER_STEP === 0) markers.push(at - start);
		let length = image[at++]!;
		// Since 6.1 a long name's length has a second byte.
		if ((length & 0x80) !== 0) length = (length & 0x7f) | (image[at++]! << 7);
		if (length === 0 || at + length > tokens.start) return undefined;
		let name = "";
		for (const end = at + length; at < end; at++) name += tokens.texts[image[at]!];
		if (--work.left < 0) return undefined;
		if (!TYPED_NAME.test(name) || name.length > LONGEST_NAME) return undefined;
		names.push(name);
	}
	for (let place = (at + 3) & ~3; place <= at + MOST_PADDING; place += 4) {
		if (place + 4 * markers.length > tokens.start) break;
		if (markers.every((marker, i) => view.getUint32(place + 4 * i, true) === marker)) return names;
	}
	return undefined;
}

/** Offsets and their base: before the count up to 6.3, behind the token index since. */
function readAddresses(view: DataView, names: Names, tokens: Tokens, bits: 32 | 64): bigint[] | undefined {
	const count = names.names.length;
	const word = bits / 8;
	const up = (at: number, to: number): number => Math.ceil(at / to) * to;
	const candidates: [offsets: number, base: number][] = [];
	for (let base = names.countAt - word; base >= names.countAt - MOST_PADDING; base -= 4) {
		for (const gap of [0, 4]) candidates.push([base - gap - 4 * count, base]);
	}
	for (let offsets = up(tokens.end, 4); offsets <= tokens.end + MOST_PADDING; offsets += 4) {
		for (const gap of [0, 4]) candidates.push([offsets, offsets + 4 * count + gap]);
	}
	for (const [offsets, base] of candidates) {
		if (offsets < 0 || base + word > view.byteLength || offsets + 4 * count > view.byteLength) continue;
		const found = addressesFrom(view, offsets, base, count, bits);
		if (found !== undefined) return found;
	}
	return undefined;
}

/**
 * The addresses, if these are offsets and base of a kernel: in its half of the address space, in pages, and in order (per
 * processor symbols, which are absolute, come first).
 */
function addressesFrom(
	view: DataView,
	offsets: number,
	base: number,
	count: number,
	bits: 32 | 64,
): bigint[] | undefined {
	const start = bits === 64 ? view.getBigUint64(base, true) : BigInt(view.getUint32(base, true));
	const half = bits === 64 ? 0xffff_8000_0000_0000n : 0x4000_0000n;
	if (start < half || (start & 0xfffn) !== 0n) return undefined;
	let negative = 0;
	for (let i = 0; i < count; i++) if (view.getInt32(offsets + 4 * i, true) < 0) negative++;
	// CONFIG_KALLSYMS_ABSOLUTE_PERCPU: negative offsets are relative to the base, the others absolute.
	const absolute = negative * 2 > count;
	if (!absolute && negative > 0) return undefined;
	const addresses: bigint[] = [];
	let previous = -1n;
	for (let i = 0; i < count; i++) {
		const offset = view.getInt32(offsets + 4 * i, true);
		let address: bigint;
		if (!absolute) address = start + BigInt(offset);
		else if (offset < 0) address = start - 1n - BigInt(offset);
		else address = BigInt(offset);
		if (address < previous) return undefined;
		previous = address;
		addresses.push(address);
	}
	return addresses;
}
