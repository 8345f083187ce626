import { get32 } from "../wire/bytes.ts";

/**
 * SipHash-2-4 (Aumasson, Bernstein) over 32-bit words, in halves because JavaScript has no fast 64-bit integers.
 *
 * @param key - 16 bytes
 * @param words - the message
 * @returns the low and high 32 bits of the hash, signed
 */
export function siphash64(key: Uint8Array, words: readonly number[]): [number, number] {
	const little = (at: number) => {
		const value = get32(key, at);
		return (value >>> 24) | ((value >>> 8) & 0xff00) | ((value << 8) & 0xff0000) | (value << 24);
	};
	const k0l = little(0);
	const k0h = little(4);
	const k1l = little(8);
	const k1h = little(12);
	let v0h = k0h ^ 0x736f6d65;
	let v0l = k0l ^ 0x70736575;
	let v1h = k1h ^ 0x646f7261;
	let v1l = k1l ^ 0x6e646f6d;
	let v2h = k0h ^ 0x6c796765;
	let v2l = k0l ^ 0x6e657261;
	let v3h = k1h ^ 0x74656462;
	let v3l = k1l ^ 0x79746573;
	const round = () => {
		let sum = (v0l >>> 0) + (v1l >>> 0);
		v0h = (v0h + v1h + (sum > 0xffffffff ? 1 : 0)) | 0;
		v0l = sum | 0;
		let h = (v1h << 13) | (v1l >>> 19);
		let l = (v1l << 13) | (v1h >>> 19);
		v1h = h ^ v0h;
		v1l = l ^ v0l;
		h = v0h;
		v0h = v0l;
		v0l = h;
		sum = (v2l >>> 0) + (v3l >>> 0);
		v2h = (v2h + v3h + (sum > 0xffffffff ? 1 : 0)) | 0;
		v2l = sum | 0;
		h = (v3h << 16) | (v3l >>> 16);
		l = (v3l << 16) | (v3h >>> 16);
		v3h = h ^ v2h;
		v3l = l ^ v2l;
		sum = (v0l >>> 0) + (v3l >>> 0);
		v0h = (v0h + v3h + (sum > 0xffffffff ? 1 : 0)) | 0;
		v0l = sum | 0;
		h = (v3h << 21) | (v3l >>> 11);
		l = (v3l << 21) | (v3h >>> 11);
		v3h = h ^ v0h;
		v3l = l ^ v0l;
		sum = (v2l >>> 0) + (v1l >>> 0);
		v2h = (v2h + v1h + (sum > 0xffffffff ? 1 : 0)) | 0;
		v2l = sum | 0;
		h = (v1h << 17) | (v1l >>> 15);
		l = (v1l << 17) | (v1h >>> 15);
		v1h = h ^ v2h;
		v1l = l ^ v2l;
		h = v2h;
		v2h = v2l;
		v2l = h;
	};
	const absorb = (low: number, high: number) => {
		v3h ^= high;
		v3l ^= low;
		round();
		round();
		v0h ^= high;
		v0l ^= low;
	};
	const pairs = words.length >>> 1;
	for (let i = 0; i < pairs; i++) absorb(words[i * 2]! | 0, words[i * 2 + 1]! | 0);
	const lengthByte = ((words.length * 4) & 255) << 24;
	absorb(words.length & 1 ? words[words.length - 1]! | 0 : 0, lengthByte);
	v2l ^= 0xff;
	round();
	round();
	round();
	round();
	return [v0l ^ v1l ^ v2l ^ v3l, v0h ^ v1h ^ v2h ^ v3h];
}

/** The low 32 bits of {@link siphash64}, signed. */
export function siphash(key: Uint8Array, words: readonly number[]): number {
	return siphash64(key, words)[0];
}
