import { get32 } from "../wire/bytes.ts";

/** The state's four 64-bit words as low and high halves; one hash at a time. */
const v = /* @__PURE__ */ new Int32Array(8);

function add(x: number, y: number): void {
	const low = (v[x]! >>> 0) + (v[y]! >>> 0);
	v[x] = low;
	v[x + 1] = v[x + 1]! + v[y + 1]! + (low > 0xffffffff ? 1 : 0);
}

/** Rotates word `x` to the left, by less than 32 bits, and adds word `y` to it without carries. */
function mix(x: number, bits: number, y: number): void {
	const low = v[x]!;
	const high = v[x + 1]!;
	v[x] = ((low << bits) | (high >>> (32 - bits))) ^ v[y]!;
	v[x + 1] = ((high << bits) | (low >>> (32 - bits))) ^ v[y + 1]!;
}

/** Rotates word `x` by 32 bits. */
function swap(x: number): void {
	const low = v[x]!;
	v[x] = v[x + 1]!;
	v[x + 1] = low;
}

function rounds(count: number): void {
	while (count-- > 0) {
		add(0, 2);
		mix(2, 13, 0);
		swap(0);
		add(4, 6);
		mix(6, 16, 4);
		add(0, 6);
		mix(6, 21, 0);
		add(4, 2);
		mix(2, 17, 4);
		swap(4);
	}
}

/**
 * SipHash-2-4 (Aumasson, Bernstein) over 32-bit words, in halves because JavaScript has no fast 64-bit integers.
 *
 * @param key - 16 bytes
 * @param words - the message
 * @returns the low and high 32 bits of the hash, signed
 */
export function siphash64(key: Uint8Array, words: readonly number[]): [number, number] {
	// "somepseudorandomlygeneratedbytes"
	v.set([0x70736575, 0x736f6d65, 0x6e646f6d, 0x646f7261, 0x6e657261, 0x6c796765, 0x79746573, 0x74656462]);
	for (let i = 0; i < 8; i++) {
		const big = get32(key, (i & 3) * 4);
		v[i] = v[i]! ^ ((big >>> 24) | ((big >>> 8) & 0xff00) | ((big << 8) & 0xff0000) | (big << 24));
	}
	const { length } = words;
	for (let i = 0; i <= length; i += 2) {
		const low = words[i] ?? 0;
		// The last word has the message's length in bytes in its highest byte.
		const high = i + 1 < length ? words[i + 1]! : length << 26;
		v[6] = v[6]! ^ low;
		v[7] = v[7]! ^ high;
		rounds(2);
		v[0] = v[0]! ^ low;
		v[1] = v[1]! ^ high;
	}
	v[4] = v[4]! ^ 0xff;
	rounds(4);
	return [v[0]! ^ v[2]! ^ v[4]! ^ v[6]!, v[1]! ^ v[3]! ^ v[5]! ^ v[7]!];
}

/** The low 32 bits of {@link siphash64}, signed. */
export function siphash(key: Uint8Array, words: readonly number[]): number {
	return siphash64(key, words)[0];
}
