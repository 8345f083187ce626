import { get16 } from "./bytes.ts";

/** Typed views over the last few buffers summed: frames mostly come from one or two pools. */
interface WordViews {
	buffer: ArrayBufferLike | undefined;
	halves: Uint16Array;
	words: Uint32Array;
}

const NONE = /* @__PURE__ */ new ArrayBuffer(0);
const recent: WordViews[] = [0, 1, 2].map(() => ({
	buffer: undefined,
	halves: new Uint16Array(NONE),
	words: new Uint32Array(NONE),
}));
let nextVictim = 0;

function viewsOf(buffer: ArrayBufferLike): WordViews {
	for (let i = 0; i < recent.length; i++) {
		const views = recent[i]!;
		if (views.buffer === buffer) return views;
	}
	const views = recent[nextVictim]!;
	nextVictim = (nextVictim + 1) % recent.length;
	views.buffer = buffer;
	views.halves = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
	views.words = new Uint32Array(buffer, 0, buffer.byteLength >>> 2);
	return views;
}

/** Folds a sum of 16-bit words to 16 bits with end-around carry (RFC 1071). Takes sums up to 2^53. */
export function foldSum(sum: number): number {
	if (sum > 0xffffffff) sum = (sum % 0x100000000) + Math.floor(sum / 0x100000000);
	let folded = (sum % 0x10000) + Math.floor(sum / 0x10000);
	folded = (folded & 0xffff) + (folded >>> 16);
	return (folded & 0xffff) + (folded >>> 16);
}

/**
 * The ones-complement sum of a byte range in network order, folded to 16 bits (RFC 1071). An odd last byte counts as
 * the high half of a word.
 *
 * The inner loop adds aligned 32-bit words into a double: exact below 2^53, and the fastest of the plain loops.
 */
export function sumBytes(bytes: Uint8Array, start: number, length: number): number {
	let sum = 0;
	if (length < 48) {
		const even = start + (length & ~1);
		for (let at = start; at < even; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
		if (length & 1) sum += bytes[even]! << 8;
		return foldSum(sum);
	}
	let position = bytes.byteOffset + start;
	const end = position + length;
	if (position & 1) {
		// Words straddle the halves: sum bytes shifted by one and swap at the end.
		const inner = sumBytes(bytes, start + 1, length - 1);
		return foldSum((bytes[start]! << 8) + (((inner & 0xff) << 8) | (inner >>> 8)));
	}
	const views = viewsOf(bytes.buffer);
	const { halves, words } = views;
	if (position & 2) {
		sum = halves[position >>> 1]!;
		position += 2;
	}
	const lastWord = end >>> 2;
	let at = position >>> 2;
	const unrolled = at + ((lastWord - at) & ~7);
	while (at < unrolled) {
		sum +=
			words[at]! +
			words[at + 1]! +
			words[at + 2]! +
			words[at + 3]! +
			words[at + 4]! +
			words[at + 5]! +
			words[at + 6]! +
			words[at + 7]!;
		at += 8;
	}
	while (at < lastWord) sum += words[at++]!;
	position = at << 2;
	if (end - position >= 2) {
		sum += halves[position >>> 1]!;
		position += 2;
	}
	let little = foldSum(sum);
	if (position < end) little = foldSum(little + bytes[start + length - 1]!);
	return ((little & 0xff) << 8) | (little >>> 8);
}

/** The Internet checksum of a range whose checksum field is zero, ready to be stored. */
export function checksum(bytes: Uint8Array, start: number, length: number, initial = 0): number {
	return ~foldSum(sumBytes(bytes, start, length) + initial) & 0xffff;
}

/**
 * Replaces one 16-bit word under a checksum without summing again (RFC 1624, equation 3).
 *
 * @param field - offset of the checksum
 */
export function patchChecksum(bytes: Uint8Array, field: number, before: number, after: number): void {
	const sum = foldSum((~get16(bytes, field) & 0xffff) + (~before & 0xffff) + after);
	bytes[field] = (~sum >>> 8) & 0xff;
	bytes[field + 1] = ~sum & 0xff;
}
