import { c128, type Expr, simd, uleb } from "./expr.ts";

/** Vector instructions by the names the specification gives them, one object for each shape. */

type Unary = (a: Expr) => Expr;
type Binary = (a: Expr, b: Expr) => Expr;

const unary =
	(opcode: number): Unary =>
	(a) =>
		simd("v128", opcode, [a]);
const binary =
	(opcode: number): Binary =>
	(a, b) =>
		simd("v128", opcode, [a, b]);
/** Vector and i32 count. */
const shift = binary;
/** Vector to i32. */
const test =
	(opcode: number): Unary =>
	(a) =>
		simd("i32", opcode, [a]);

export const v128: Readonly<Record<"not", Unary>> &
	Readonly<Record<"and" | "andnot" | "or" | "xor", Binary>> & {
		readonly anyTrue: Unary;
		/** Bits of `a` where `mask` is set, else of `b`. */
		readonly select: (a: Expr, b: Expr, mask: Expr) => Expr;
		readonly zero: Expr;
		readonly ones: Expr;
		/** Zero-extending load of 4 or 8 bytes. */
		readonly loadZero: (size: 4 | 8, address: Expr, offset?: number) => Expr;
	} = {
	not: unary(0x4d),
	and: binary(0x4e),
	/** a & ~b */
	andnot: binary(0x4f),
	or: binary(0x50),
	xor: binary(0x51),
	anyTrue: test(0x53),
	select: (a, b, mask) => simd("v128", 0x52, [a, b, mask]),
	zero: c128(new Array<number>(16).fill(0)),
	ones: c128(new Array<number>(16).fill(0xff)),
	loadZero: (size, address, offset = 0) => simd("v128", size === 4 ? 0x5c : 0x5d, [address], [0, ...uleb(offset)]),
};

type Typed<T extends "i32" | "i64"> = IntegerShape & { readonly type: T };
type Lane = (a: Expr, lane: number) => Expr;

type IntegerShape = Readonly<Record<"splat" | "allTrue" | "bitmask" | "abs" | "neg", Unary>> &
	Readonly<Record<"eq" | "gtS" | "shl" | "shrS" | "shrU" | "add" | "sub", Binary>> & {
		readonly replace: (a: Expr, lane: number, value: Expr) => Expr;
	};

function integerShape<T extends "i32" | "i64">(
	type: T,
	at: { splat: number; replace: number; eq: number; gtS: number; base: number },
): Typed<T> {
	return {
		type,
		splat: unary(at.splat),
		replace: (a, lane, value) => simd("v128", at.replace, [a, value], [lane]),
		eq: binary(at.eq),
		gtS: binary(at.gtS),
		abs: unary(at.base),
		neg: unary(at.base + 1),
		allTrue: test(at.base + 3),
		bitmask: test(at.base + 4),
		shl: shift(at.base + 0xb),
		shrS: shift(at.base + 0xc),
		shrU: shift(at.base + 0xd),
		add: binary(at.base + 0xe),
		sub: binary(at.base + 0x11),
	};
}

type Saturating = Readonly<
	Record<"addSatS" | "addSatU" | "subSatS" | "subSatU" | "minS" | "minU" | "maxS" | "maxU" | "avgrU", Binary>
>;

const saturating = (base: number): Saturating => ({
	addSatS: binary(base + 0xf),
	addSatU: binary(base + 0x10),
	subSatS: binary(base + 0x12),
	subSatU: binary(base + 0x13),
	minS: binary(base + 0x16),
	minU: binary(base + 0x17),
	maxS: binary(base + 0x18),
	maxU: binary(base + 0x19),
	avgrU: binary(base + 0x1b),
});

type Widening = Readonly<Record<"extendLowS" | "extendHighS" | "extendLowU" | "extendHighU", Unary>> &
	Readonly<Record<"extmulLowS" | "extmulHighS" | "extmulLowU" | "extmulHighU", Binary>>;

const widening = (base: number): Widening => ({
	extendLowS: unary(base + 7),
	extendHighS: unary(base + 8),
	extendLowU: unary(base + 9),
	extendHighU: unary(base + 0xa),
	extmulLowS: binary(base + 0x1c),
	extmulHighS: binary(base + 0x1d),
	extmulLowU: binary(base + 0x1e),
	extmulHighU: binary(base + 0x1f),
});

export const i8x16: Typed<"i32"> &
	Saturating &
	Readonly<Record<"popcnt", Unary>> &
	Readonly<Record<"narrowS" | "narrowU" | "swizzle", Binary>> & {
		readonly shuffle: (a: Expr, b: Expr, lanes: readonly number[]) => Expr;
		readonly extractU: Lane;
	} = {
	...integerShape("i32", { splat: 0x0f, replace: 0x17, eq: 0x23, gtS: 0x27, base: 0x60 }),
	...saturating(0x60),
	popcnt: unary(0x62),
	/** Signed saturation of 16-bit lanes, a's below b's. */
	narrowS: binary(0x65),
	narrowU: binary(0x66),
	/** Bytes of `a` by the indices in `b`; indices above 15 give 0. */
	swizzle: binary(0x0e),
	/** Bytes by constant index: 0..15 of `a`, 16..31 of `b`. */
	shuffle: (a: Expr, b: Expr, lanes: readonly number[]): Expr => simd("v128", 0x0d, [a, b], lanes),
	extractU: (a: Expr, lane: number): Expr => simd("i32", 0x16, [a], [lane]),
};

export const i16x8: Typed<"i32"> &
	Saturating &
	Widening &
	Readonly<Record<"extaddPairwiseU", Unary>> &
	Readonly<Record<"mul" | "q15mulrSatS" | "narrowS" | "narrowU", Binary>> & { readonly extractU: Lane } = {
	...integerShape("i32", { splat: 0x10, replace: 0x1a, eq: 0x2d, gtS: 0x31, base: 0x80 }),
	...saturating(0x80),
	...widening(0x80),
	mul: binary(0x95),
	q15mulrSatS: binary(0x82),
	narrowS: binary(0x85),
	narrowU: binary(0x86),
	extaddPairwiseU: unary(0x7d),
	extractU: (a: Expr, lane: number): Expr => simd("i32", 0x19, [a], [lane]),
};

export const i32x4: Typed<"i32"> &
	Widening &
	Readonly<Record<"extaddPairwiseU" | "truncSatF32x4S" | "truncSatF64x2SZero", Unary>> &
	Readonly<Record<"mul" | "minS" | "minU" | "maxS" | "maxU" | "dot", Binary>> & { readonly extract: Lane } = {
	...integerShape("i32", { splat: 0x11, replace: 0x1c, eq: 0x37, gtS: 0x3b, base: 0xa0 }),
	...widening(0xa0),
	mul: binary(0xb5),
	minS: binary(0xb6),
	minU: binary(0xb7),
	maxS: binary(0xb8),
	maxU: binary(0xb9),
	dot: binary(0xba),
	extaddPairwiseU: unary(0x7f),
	extract: (a: Expr, lane: number): Expr => simd("i32", 0x1b, [a], [lane]),
	truncSatF32x4S: unary(0xf8),
	truncSatF64x2SZero: unary(0xfc),
};

export const i64x2: Typed<"i64"> & Widening & { readonly mul: Binary; readonly extract: Lane } = {
	...integerShape("i64", { splat: 0x12, replace: 0x1e, eq: 0xd6, gtS: 0xd9, base: 0xc0 }),
	...widening(0xc0),
	mul: binary(0xd5),
	extract: (a: Expr, lane: number): Expr => simd("i64", 0x1d, [a], [lane]),
};

type FloatShape = Readonly<Record<"abs" | "sqrt" | "splat", Unary>> &
	Readonly<
		Record<"eq" | "ne" | "lt" | "gt" | "le" | "ge" | "add" | "sub" | "mul" | "div" | "pmin" | "pmax", Binary>
	> & {
		readonly extract: (a: Expr, lane: number) => Expr;
		readonly replace: (a: Expr, lane: number, value: Expr) => Expr;
	};

function floatShape(
	type: "f32" | "f64",
	at: { splat: number; lane: number; compare: number; base: number },
): FloatShape {
	return {
		splat: unary(at.splat),
		extract: (a, lane) => simd(type, at.lane, [a], [lane]),
		replace: (a, lane, value) => simd("v128", at.lane + 1, [a, value], [lane]),
		eq: binary(at.compare),
		ne: binary(at.compare + 1),
		lt: binary(at.compare + 2),
		gt: binary(at.compare + 3),
		le: binary(at.compare + 4),
		ge: binary(at.compare + 5),
		abs: unary(at.base),
		sqrt: unary(at.base + 3),
		add: binary(at.base + 4),
		sub: binary(at.base + 5),
		mul: binary(at.base + 6),
		div: binary(at.base + 7),
		pmin: binary(at.base + 0xa),
		pmax: binary(at.base + 0xb),
	};
}

export const f32x4: FloatShape & { readonly convertI32x4S: Unary } = {
	...floatShape("f32", { splat: 0x13, lane: 0x1f, compare: 0x41, base: 0xe0 }),
	convertI32x4S: unary(0xfa),
};

export const f64x2: FloatShape & { readonly convertLowI32x4S: Unary } = {
	...floatShape("f64", { splat: 0x14, lane: 0x21, compare: 0x47, base: 0xec }),
	convertLowI32x4S: unary(0xfe),
};

/** Constant vector of 16, 8, 4 or 2 equal lanes or of a list that repeats. */
export function constant(width: 1 | 2 | 4 | 8, lanes: readonly (number | bigint)[]): Expr {
	const bytes: number[] = [];
	for (let i = 0; bytes.length < 16; i++) {
		const lane = BigInt.asUintN(width * 8, BigInt(lanes[i % lanes.length]!));
		for (let byte = 0; byte < width; byte++) bytes.push(Number((lane >> BigInt(byte * 8)) & 0xffn));
	}
	return c128(bytes);
}

/** 0, 1, .. 15. */
export const IOTA: Expr = c128(Array.from({ length: 16 }, (_, i) => i));

/** i64 in the low half, zero above. */
export function fromLow(low: Expr): Expr {
	return simd("v128", 0x1e, [v128.zero, low], [0]);
}

/** Lane numbers for `i8x16.shuffle` from numbers of wider lanes. */
export function byteLanes(width: 1 | 2 | 4 | 8, lanes: readonly number[]): number[] {
	return lanes.flatMap((lane) => Array.from({ length: width }, (_, byte) => lane * width + byte));
}
