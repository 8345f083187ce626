import { CODE, DATA, DATA_BYTES, FX } from "./protocol.ts";
import type { Rng } from "./rng.ts";

/** Values at which instructions change their mind, and plain random ones. */

const EDGES: readonly bigint[] = [
	0n,
	1n,
	2n,
	3n,
	7n,
	8n,
	15n,
	16n,
	31n,
	32n,
	63n,
	64n,
	0x7fn,
	0x80n,
	0xffn,
	0x100n,
	0x7fffn,
	0x8000n,
	0xffffn,
	0x1_0000n,
	0x7fff_ffffn,
	0x8000_0000n,
	0xffff_ffffn,
	0x1_0000_0000n,
	0x7fff_ffff_ffff_ffffn,
	0x8000_0000_0000_0000n,
	0x8000_0000_0000_0001n,
	0xffff_ffff_0000_0000n,
	0xffff_ffff_8000_0000n,
	0xffff_ffff_ffff_ff80n,
	0xffff_ffff_ffff_fffen,
	0xffff_ffff_ffff_ffffn,
	// The edges of canonical addresses.
	0x7fff_ffff_ffffn,
	0x8000_0000_0000n,
	0xffff_7fff_ffff_ffffn,
	0xffff_8000_0000_0000n,
];

export function integer(rng: Rng): bigint {
	const kind = rng.below(10);
	if (kind < 3) return rng.pick(EDGES);
	if (kind < 4) return BigInt(rng.below(64));
	if (kind < 5) return BigInt.asUintN(64, -BigInt(rng.below(200)));
	if (kind < 6) return 1n << BigInt(rng.below(64));
	if (kind < 7) return BigInt(rng.u32());
	return rng.u64();
}

/** Exponents: zero and denormals, the smallest, around one, where integers end, the largest, infinities and NaNs. */
function exponent(rng: Rng, bits: number): number {
	const top = 2 ** bits - 1;
	const bias = top >> 1;
	switch (rng.below(8)) {
		case 0:
			return 0;
		case 1:
			return top;
		case 2:
			return 1 + rng.below(3);
		case 3:
			return top - 1 - rng.below(3);
		case 4:
			return rng.below(top + 1);
		case 5:
			return bias + 13 + rng.below(54);
		default:
			return bias + rng.below(9) - 4;
	}
}

function significand(rng: Rng, bits: number): bigint {
	const mask = (1n << BigInt(bits)) - 1n;
	switch (rng.below(8)) {
		case 0:
		case 1:
			return 0n;
		case 2:
			return 1n;
		case 3:
			return mask;
		case 4:
			return 1n << BigInt(bits - 1);
		case 5:
			return (rng.u64() << BigInt(rng.below(64))) & mask;
		default:
			return rng.u64() & mask;
	}
}

const sign = (rng: Rng): bigint => BigInt(rng.below(2));

export function float32(rng: Rng): number {
	return Number((sign(rng) << 31n) | (BigInt(exponent(rng, 8)) << 23n) | significand(rng, 23));
}

export function float64(rng: Rng): bigint {
	return (sign(rng) << 63n) | (BigInt(exponent(rng, 11)) << 52n) | significand(rng, 52);
}

/** Ten bytes: mostly numbers, now and then the encodings that no operation makes. */
export function putFloat80(rng: Rng, view: DataView, at: number): void {
	const e = exponent(rng, 15);
	const integerBit = rng.chance(4) ? sign(rng) : e === 0 ? 0n : 1n;
	view.setBigUint64(at, (integerBit << 63n) | significand(rng, 63), true);
	view.setUint16(at + 8, Number(sign(rng) << 15n) | e, true);
}

function putVector(rng: Rng, view: DataView, at: number): void {
	switch (rng.below(4)) {
		case 0:
			for (let i = 0; i < 16; i += 4) view.setUint32(at + i, float32(rng), true);
			break;
		case 1:
			for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, float64(rng), true);
			break;
		case 2:
			for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, integer(rng), true);
			break;
		default:
			for (let i = 0; i < 16; i++) view.setUint8(at + i, rng.pick([0, 1, 0x7f, 0x80, 0xff, rng.below(256)]));
	}
}

/** The contents of the data pages: 16-byte groups of one kind of value each. */
export function dataPages(rng: Rng): Uint8Array {
	const pages = new Uint8Array(DATA_BYTES);
	const view = new DataView(pages.buffer);
	for (let at = 0; at < DATA_BYTES; at += 16) {
		switch (rng.below(8)) {
			case 0:
				putFloat80(rng, view, at);
				break;
			case 1:
				// Pointers, near and far, to code and data.
				view.setBigUint64(at, BigInt(rng.pick([CODE, DATA]) + rng.below(DATA_BYTES)), true);
				view.setUint32(at + 8, CODE + rng.below(DATA_BYTES), true);
				view.setUint16(at + 12, rng.pick([0x23, 0x2b, 0x33, 0x07, 0x0f, 0x17, 0, 0x1b, 0x63]), true);
				break;
			default:
				putVector(rng, view, at);
		}
	}
	for (const at of SAVE_AREAS) putSaveArea(rng, view, at);
	return pages;
}

/** Offsets in the data pages of what XRSTOR accepts, or nearly so; both pages, and up to an end. */
export const SAVE_AREAS: readonly number[] = [0x640, 0xdc0, 0x1400, 0x1a00];
const SAVE_AREA_BYTES = 576;

/** An XSAVE area with x87 and SSE state, standard or compacted, now and then with a header that is wrong. */
function putSaveArea(rng: Rng, view: DataView, at: number): void {
	new Uint8Array(view.buffer, at, SAVE_AREA_BYTES).set(fxArea(rng));
	const header = at + 512;
	for (let i = 0; i < 64; i += 8) view.setBigUint64(header + i, 0n, true);
	const compacted = rng.chance(40);
	const format = compacted ? BigInt(rng.below(4)) : 0n;
	const present = compacted && rng.chance(80) ? format & BigInt(rng.below(4)) : BigInt(rng.below(4));
	view.setBigUint64(header, present, true);
	view.setBigUint64(header + 8, compacted ? (1n << 63n) | format : 0n, true);
	if (rng.chance(15))
		view.setBigUint64(header + rng.pick([0, 8, 16, 24, 32, 56]), 1n << BigInt(40 + rng.below(20)), true);
	if (rng.chance(10)) view.setUint32(at + FX.mxcsr, 0x8000_1f80, true);
}

/** An FXSAVE area. */
export function fxArea(rng: Rng): Uint8Array {
	const area = new Uint8Array(512);
	const view = new DataView(area.buffer);
	const masked = rng.chance(85);
	view.setUint16(
		FX.fcw,
		(masked ? 0x3f : rng.below(64)) | (rng.pick([0, 2, 3, 3, 3]) << 8) | (rng.below(4) << 10) | 0x40,
		true,
	);
	const top = rng.chance(60) ? 0 : rng.below(8);
	view.setUint16(FX.fsw, (rng.chance(70) ? 0 : rng.u32() & 0x477f) | (top << 11), true);
	if (!masked) fixSummary(view);
	view.setUint8(FX.ftw, rng.chance(50) ? 0xff : rng.chance(30) ? 0 : rng.below(256));
	const simd = rng.chance(85) ? 0x1f80 : rng.below(64) << 7;
	const odd = rng.chance(12) ? rng.pick([0x8000, 0x40, 0x8040]) : 0;
	view.setUint32(
		FX.mxcsr,
		simd | (rng.chance(60) ? 0 : rng.below(4) << 13) | (rng.chance(70) ? 0 : rng.below(64)) | odd,
		true,
	);
	const mmx = rng.chance(30);
	for (let i = 0; i < 8; i++) {
		if (mmx) {
			view.setBigUint64(FX.st + i * 16, rng.chance(50) ? integer(rng) : rng.u64(), true);
			view.setUint16(FX.st + i * 16 + 8, 0xffff, true);
		} else putFloat80(rng, view, FX.st + i * 16);
	}
	for (let i = 0; i < 16; i++) putVector(rng, view, FX.xmm + i * 16);
	return area;
}

/** The summary bits follow from the flags and their masks, as FXRSTOR would have them. */
function fixSummary(view: DataView): void {
	const pending = view.getUint16(FX.fsw, true) & ~view.getUint16(FX.fcw, true) & 0x3f;
	const status = view.getUint16(FX.fsw, true) & 0x7f7f;
	view.setUint16(FX.fsw, pending === 0 ? status : status | 0x8080, true);
}
