import type { Emitter } from "../emit/emitter.ts";
import { checkPending, enterMmx, getMmxVector, setMmx } from "../emit/vector.ts";
import { c32, type Expr } from "../wasm/expr.ts";
import { byteLanes, constant, i8x16, i16x8, i32x4, i64x2, v128 } from "../wasm/simd.ts";
import { define, type Instruction } from "./define.ts";

/**
 * Integer instructions that exist for MMX and for XMM registers: two rows from one formula over vectors. An MMX
 * operand is the low half of a vector whose high half is zero, of which only the low half of the result is kept.
 */

/** Result from destination and source; `mmx` says which of the two is meant, where halves matter. */
type Formula = (a: Expr, b: Expr, mmx: boolean, e: Emitter) => Expr;

/** A row for XMM registers alone: `Vdq,Wdq`. */
export function packedXmm(name: string, opcode: string, formula: Formula): Instruction {
	return define(
		name,
		`66 ${opcode} /r`,
		"Vdq,Wdq",
		(e) => {
			const b = e.f.let(e.getVector(1));
			e.setVector(0, formula(e.f.let(e.getVector(0)), b, false, e));
		},
		{ attributes: ["sse", "aligned"] },
	);
}

/** A row for MMX registers alone: `Pq,Qq`. */
function packedMmx(name: string, opcode: string, formula: Formula, operands = "Pq,Qq"): Instruction {
	return define(
		name,
		`NP ${opcode} /r`,
		operands,
		(e) => {
			checkPending(e);
			const b = e.f.let(getMmxVector(e, 1));
			const a = e.f.let(getMmxVector(e, 0));
			enterMmx(e);
			setMmx(e, 0, formula(a, b, true, e));
		},
		{ attributes: ["mmx"] },
	);
}

/** Both rows. */
export function packed(name: string, opcode: string, formula: Formula): readonly Instruction[] {
	return [packedMmx(name, opcode, formula), packedXmm(name, opcode, formula)];
}

/** Both rows of a low unpack, whose MMX form reads 4 bytes. */
function unpackLow(name: string, opcode: string, width: 1 | 2 | 4): readonly Instruction[] {
	const formula = unpack(width, false);
	return [packedMmx(name, opcode, formula, "Pq,Qd"), packedXmm(name, opcode, formula)];
}

/** The low halves of two vectors as one. */
export function join(a: Expr, b: Expr): Expr {
	return i8x16.shuffle(a, b, byteLanes(8, [0, 2]));
}

/** Lanes of `width` bytes interleaved, from the low halves or the high ones. */
function unpack(width: 1 | 2 | 4 | 8, high: boolean): Formula {
	return (a, b, mmx) => {
		const whole = 16 / width;
		const count = (mmx ? 8 : 16) / width / 2;
		const start = high ? count : 0;
		const lanes = Array.from({ length: whole }, (_, i) =>
			i < 2 * count ? start + (i >> 1) + ((i & 1) === 1 ? whole : 0) : 0,
		);
		return i8x16.shuffle(a, b, byteLanes(width, lanes));
	};
}

/** A narrowing of `a` below `b`: for MMX registers both share one vector. */
function narrow(op: (a: Expr, b: Expr) => Expr): Formula {
	return (a, b, mmx, e) => {
		if (!mmx) return op(a, b);
		const both = e.f.let(join(a, b));
		return op(both, both);
	};
}

/** Even and odd lanes of `a` then `b`, combined. */
function horizontal(width: 2 | 4, op: (even: Expr, odd: Expr) => Expr): Formula {
	return (a, b, mmx, e) => {
		const count = 16 / width;
		const pick = (first: number): number[] => {
			const lanes = Array.from({ length: count }, (_, i) => (mmx ? (first + 2 * i) % count : first + 2 * i));
			return byteLanes(width, lanes);
		};
		let low = a;
		let high = b;
		if (mmx) {
			low = e.f.let(join(a, b));
			high = low;
		}
		return op(i8x16.shuffle(low, high, pick(0)), i8x16.shuffle(low, high, pick(1)));
	};
}

/** High 16 bits of 32-bit products. */
function highProducts(low: Expr, high: Expr): Expr {
	return i8x16.shuffle(low, high, byteLanes(2, [1, 3, 5, 7, 9, 11, 13, 15]));
}

/** Bytes: |a - b|. */
export function absoluteDifference(a: Expr, b: Expr): Expr {
	return v128.or(i8x16.subSatU(a, b), i8x16.subSatU(b, a));
}

const sumOfDifferences: Formula = (a, b, _mmx, e) => {
	const pairs = e.f.let(i32x4.extaddPairwiseU(i16x8.extaddPairwiseU(absoluteDifference(a, b))));
	return i64x2.add(v128.and(pairs, constant(8, [0xffff_ffffn])), i64x2.shrU(pairs, c32(32)));
};

const multiplyAddBytes: Formula = (a, b, _mmx, e) => {
	const low = e.f.let(i16x8.mul(i16x8.extendLowU(a), i16x8.extendLowS(b)));
	const high = e.f.let(i16x8.mul(i16x8.extendHighU(a), i16x8.extendHighS(b)));
	return i16x8.addSatS(
		i8x16.shuffle(low, high, byteLanes(2, [0, 2, 4, 6, 8, 10, 12, 14])),
		i8x16.shuffle(low, high, byteLanes(2, [1, 3, 5, 7, 9, 11, 13, 15])),
	);
};

/** Sign of each lane of `b` applied to `a`; zero clears. */
function sign(shape: typeof i8x16 | typeof i16x8 | typeof i32x4): Formula {
	return (a, b, _mmx, e) => {
		const negative = e.f.let(shape.gtS(v128.zero, b));
		return v128.andnot(shape.sub(v128.xor(a, negative), negative), shape.eq(b, v128.zero));
	};
}

const shuffleBytes: Formula = (a, b, mmx) =>
	// Bit 7 stays, so that an index with it lies beyond 15 and gives zero.
	i8x16.swizzle(a, v128.and(b, constant(1, [mmx ? 0x87 : 0x8f])));

const EVEN_DWORDS = byteLanes(4, [0, 2, 0, 2]);
const even = (a: Expr): Expr => i8x16.shuffle(a, a, EVEN_DWORDS);

/** PMULDQ; PMULUDQ takes the unsigned one. */
const multiplyEvenS: Formula = (a, b) => i64x2.extmulLowS(even(a), even(b));

const simple =
	(op: (a: Expr, b: Expr) => Expr): Formula =>
	(a, b) =>
		op(a, b);

export const packedInteger: readonly Instruction[] = [
	...unpackLow("punpcklbw", "0F 60", 1),
	...unpackLow("punpcklwd", "0F 61", 2),
	...unpackLow("punpckldq", "0F 62", 4),
	packedXmm("punpcklqdq", "0F 6C", unpack(8, false)),
	...packed("punpckhbw", "0F 68", unpack(1, true)),
	...packed("punpckhwd", "0F 69", unpack(2, true)),
	...packed("punpckhdq", "0F 6A", unpack(4, true)),
	packedXmm("punpckhqdq", "0F 6D", unpack(8, true)),
	...packed("packsswb", "0F 63", narrow(i8x16.narrowS)),
	...packed("packuswb", "0F 67", narrow(i8x16.narrowU)),
	...packed("packssdw", "0F 6B", narrow(i16x8.narrowS)),
	packedXmm("packusdw", "0F 38 2B", narrow(i16x8.narrowU)),

	...packed("pcmpgtb", "0F 64", simple(i8x16.gtS)),
	...packed("pcmpgtw", "0F 65", simple(i16x8.gtS)),
	...packed("pcmpgtd", "0F 66", simple(i32x4.gtS)),
	packedXmm("pcmpgtq", "0F 38 37", simple(i64x2.gtS)),
	...packed("pcmpeqb", "0F 74", simple(i8x16.eq)),
	...packed("pcmpeqw", "0F 75", simple(i16x8.eq)),
	...packed("pcmpeqd", "0F 76", simple(i32x4.eq)),
	packedXmm("pcmpeqq", "0F 38 29", simple(i64x2.eq)),

	...packed("paddb", "0F FC", simple(i8x16.add)),
	...packed("paddw", "0F FD", simple(i16x8.add)),
	...packed("paddd", "0F FE", simple(i32x4.add)),
	...packed("paddq", "0F D4", simple(i64x2.add)),
	...packed("paddsb", "0F EC", simple(i8x16.addSatS)),
	...packed("paddsw", "0F ED", simple(i16x8.addSatS)),
	...packed("paddusb", "0F DC", simple(i8x16.addSatU)),
	...packed("paddusw", "0F DD", simple(i16x8.addSatU)),
	...packed("psubb", "0F F8", simple(i8x16.sub)),
	...packed("psubw", "0F F9", simple(i16x8.sub)),
	...packed("psubd", "0F FA", simple(i32x4.sub)),
	...packed("psubq", "0F FB", simple(i64x2.sub)),
	...packed("psubsb", "0F E8", simple(i8x16.subSatS)),
	...packed("psubsw", "0F E9", simple(i16x8.subSatS)),
	...packed("psubusb", "0F D8", simple(i8x16.subSatU)),
	...packed("psubusw", "0F D9", simple(i16x8.subSatU)),

	...packed("pmullw", "0F D5", simple(i16x8.mul)),
	...packed("pmulhw", "0F E5", (a, b) => highProducts(i32x4.extmulLowS(a, b), i32x4.extmulHighS(a, b))),
	...packed("pmulhuw", "0F E4", (a, b) => highProducts(i32x4.extmulLowU(a, b), i32x4.extmulHighU(a, b))),
	...packed("pmaddwd", "0F F5", simple(i32x4.dot)),
	...packed("pmuludq", "0F F4", (a, b) => i64x2.extmulLowU(even(a), even(b))),
	packedXmm("pmuldq", "0F 38 28", multiplyEvenS),
	packedXmm("pmulld", "0F 38 40", simple(i32x4.mul)),
	...packed("psadbw", "0F F6", sumOfDifferences),
	...packed("pavgb", "0F E0", simple(i8x16.avgrU)),
	...packed("pavgw", "0F E3", simple(i16x8.avgrU)),

	...packed("pminub", "0F DA", simple(i8x16.minU)),
	...packed("pmaxub", "0F DE", simple(i8x16.maxU)),
	...packed("pminsw", "0F EA", simple(i16x8.minS)),
	...packed("pmaxsw", "0F EE", simple(i16x8.maxS)),
	packedXmm("pminsb", "0F 38 38", simple(i8x16.minS)),
	packedXmm("pminsd", "0F 38 39", simple(i32x4.minS)),
	packedXmm("pminuw", "0F 38 3A", simple(i16x8.minU)),
	packedXmm("pminud", "0F 38 3B", simple(i32x4.minU)),
	packedXmm("pmaxsb", "0F 38 3C", simple(i8x16.maxS)),
	packedXmm("pmaxsd", "0F 38 3D", simple(i32x4.maxS)),
	packedXmm("pmaxuw", "0F 38 3E", simple(i16x8.maxU)),
	packedXmm("pmaxud", "0F 38 3F", simple(i32x4.maxU)),

	...packed("pand", "0F DB", simple(v128.and)),
	...packed("pandn", "0F DF", (a, b) => v128.andnot(b, a)),
	...packed("por", "0F EB", simple(v128.or)),
	...packed("pxor", "0F EF", simple(v128.xor)),

	...packed("pshufb", "0F 38 00", shuffleBytes),
	...packed("phaddw", "0F 38 01", horizontal(2, i16x8.add)),
	...packed("phaddd", "0F 38 02", horizontal(4, i32x4.add)),
	...packed("phaddsw", "0F 38 03", horizontal(2, i16x8.addSatS)),
	...packed("pmaddubsw", "0F 38 04", multiplyAddBytes),
	...packed("phsubw", "0F 38 05", horizontal(2, i16x8.sub)),
	...packed("phsubd", "0F 38 06", horizontal(4, i32x4.sub)),
	...packed("phsubsw", "0F 38 07", horizontal(2, i16x8.subSatS)),
	...packed("psignb", "0F 38 08", sign(i8x16)),
	...packed("psignw", "0F 38 09", sign(i16x8)),
	...packed("psignd", "0F 38 0A", sign(i32x4)),
	...packed("pmulhrsw", "0F 38 0B", (a, b) => {
		// -1 times -1 saturates in WebAssembly and wraps here.
		const minusOne = constant(2, [0x8000]);
		return v128.xor(i16x8.q15mulrSatS(a, b), v128.and(i16x8.eq(a, minusOne), i16x8.eq(b, minusOne)));
	}),
	...packed("pabsb", "0F 38 1C", (_a, b) => i8x16.abs(b)),
	...packed("pabsw", "0F 38 1D", (_a, b) => i16x8.abs(b)),
	...packed("pabsd", "0F 38 1E", (_a, b) => i32x4.abs(b)),
];
