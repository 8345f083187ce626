import type { Emitter } from "../emit/emitter.ts";
import { checkPending, enterMmx, getMmx, getMmxVector, low64, setMmx } from "../emit/vector.ts";
import { and, c32, c64, type Expr, extU, gtU, or, select, shl, shrU, wrap } from "../wasm/expr.ts";
import { byteLanes, constant, IOTA, i8x16, i16x8, i32x4, i64x2, v128 } from "../wasm/simd.ts";
import { define, type Instruction } from "./define.ts";
import { absoluteDifference, join, packedXmm } from "./packed-integer.ts";

type Shape = typeof i16x8 | typeof i32x4 | typeof i64x2;
type Direction = "left" | "right" | "arithmetic";

/** `a` shifted by `count` (i64 or i32, in a local): all its bits count. */
function shifted(e: Emitter, shape: Shape, bits: number, direction: Direction, a: Expr, count: Expr): Expr {
	const limit = count.type === "i64" ? c64(bits - 1) : c32(bits - 1);
	const tooFar = gtU(count, limit);
	const low = count.type === "i64" ? wrap(count) : count;
	if (direction === "arithmetic") return shape.shrS(a, select(tooFar, c32(bits - 1), low));
	const value = direction === "left" ? shape.shl(a, low) : shape.shrU(a, low);
	return select(tooFar, v128.zero, e.f.let(value));
}

/** Four rows: by a register's or memory's low 64 bits, and by an immediate, each for MMX and XMM. */
function shift(
	name: string,
	opcode: string,
	group: string,
	shape: Shape,
	bits: number,
	direction: Direction,
): readonly Instruction[] {
	return [
		define(
			name,
			`NP ${opcode} /r`,
			"Pq,Qq",
			(e) => {
				checkPending(e);
				const count = e.f.let(getMmx(e, 1));
				enterMmx(e);
				setMmx(e, 0, shifted(e, shape, bits, direction, getMmxVector(e, 0), count));
			},
			{ attributes: ["mmx"] },
		),
		define(
			name,
			`66 ${opcode} /r`,
			"Vdq,Wdq",
			(e) => {
				const count = e.isMemory(1) ? e.f.let(i64x2.extract(e.getVector(1), 0)) : e.f.let(low64(e, 1));
				e.setVector(0, shifted(e, shape, bits, direction, e.getVector(0), count));
			},
			{ attributes: ["sse", "aligned"] },
		),
		define(
			name,
			`NP ${group}`,
			"Nq,Ib",
			(e) => {
				checkPending(e);
				enterMmx(e);
				setMmx(e, 0, shifted(e, shape, bits, direction, getMmxVector(e, 0), e.f.let(e.get(1))));
			},
			{ attributes: ["mmx"] },
		),
		define(
			name,
			`66 ${group}`,
			"Udq,Ib",
			(e) => {
				e.setVector(0, shifted(e, shape, bits, direction, e.getVector(0), e.f.let(e.get(1))));
			},
			{ attributes: ["sse"] },
		),
	];
}

/** PSLLDQ, PSRLDQ. */
function shiftBytes(name: string, group: string, left: boolean): Instruction {
	return define(
		name,
		`66 ${group}`,
		"Udq,Ib",
		(e) => {
			const imm = e.f.let(e.get(1));
			const count = e.f.let(i8x16.splat(select(gtU(imm, c32(16)), c32(16), imm)));
			// Indices beyond 15, negative ones among them, give zero.
			const indices = left ? i8x16.sub(IOTA, count) : i8x16.add(IOTA, count);
			e.setVector(0, i8x16.swizzle(e.getVector(0), indices));
		},
		{ attributes: ["sse"] },
	);
}

/** Bytes n.. of `high:low`, as a vector. */
function aligned(e: Emitter, high: Expr, low: Expr, count: Expr): Expr {
	const start = e.f.let(i8x16.add(IOTA, i8x16.splat(count)));
	return v128.or(i8x16.swizzle(low, start), i8x16.swizzle(high, i8x16.sub(start, constant(1, [16]))));
}

/** The 2-bit fields of an 8-bit immediate (i32) in lanes of `width` bytes; lanes 0 to 3 have fields 0 to 3. */
function fields(shape: typeof i16x8 | typeof i32x4, width: 2 | 4, imm: Expr): Expr {
	const scaled = shape.mul(shape.splat(imm), constant(width, [64, 16, 4, 1]));
	return v128.and(shape.shrU(scaled, c32(6)), constant(width, [3]));
}

/** Byte indices of dwords from the fields of an immediate. */
function dwordIndices(imm: Expr): Expr {
	return i32x4.add(i32x4.mul(fields(i32x4, 4, imm), constant(4, [0x04040404])), constant(4, [0x03020100]));
}

/** Byte indices of the four words at byte `at`. */
function wordIndices(imm: Expr, at: number): Expr {
	const base = (at + 1) * 0x100 + at;
	return i16x8.add(i16x8.mul(fields(i16x8, 2, imm), constant(2, [0x0202])), constant(2, [base]));
}

/** Mask lanes from the bits of an immediate. */
export function laneMask(shape: Shape | typeof i8x16, width: 1 | 2 | 4 | 8, imm: Expr): Expr {
	const count = 16 / width;
	const bits = constant(
		width,
		Array.from({ length: count }, (_, i) => 1 << (i % 8)),
	);
	return shape.eq(v128.and(shape.splat(shape.type === "i64" ? extU(imm) : imm), bits), bits);
}

function blendImmediate(name: string, opcode: string, shape: Shape, width: 2 | 4 | 8): Instruction {
	return define(
		name,
		`66 ${opcode} /r`,
		"Vdq,Wdq,Ib",
		(e) => {
			const b = e.f.let(e.getVector(1));
			const mask = laneMask(shape, width, e.get(2));
			e.setVector(0, v128.select(b, e.getVector(0), mask));
		},
		{ attributes: ["sse", "aligned"] },
	);
}

/** The implicit mask in XMM0: the top bit of each lane. */
function blendVariable(name: string, opcode: string, shape: typeof i8x16 | Shape, bits: number): Instruction {
	return define(
		name,
		`66 ${opcode} /r`,
		"Vdq,Wdq,XMM0",
		(e) => {
			const b = e.f.let(e.getVector(1));
			const mask = shape.shrS(e.getVector(2), c32(bits - 1));
			e.setVector(0, v128.select(b, e.getVector(0), mask));
		},
		{ attributes: ["sse", "aligned"] },
	);
}

const multipleDifferences = (e: Emitter): void => {
	const b = e.f.let(e.getVector(1));
	const imm = e.f.let(e.get(2));
	const a = e.f.let(e.getVector(0));
	const start = e.f.let(i8x16.add(IOTA, i8x16.splat(and(imm, c32(4)))));
	const block = e.f.let(i8x16.splat(shl(and(imm, c32(3)), c32(2))));
	const sum = e.f.let(v128.zero);
	for (let k = 0; k < 4; k++) {
		const left = e.f.let(i8x16.swizzle(a, i8x16.add(start, constant(1, [k]))));
		const right = e.f.let(i8x16.swizzle(b, i8x16.add(block, constant(1, [k]))));
		e.f.set(sum, i16x8.add(sum, i16x8.extendLowU(absoluteDifference(left, right))));
	}
	e.setVector(0, sum);
};

const minimumPosition = (e: Emitter): void => {
	const { f } = e;
	const b = f.let(e.getVector(1));
	const tagged = (lanes: Expr, from: number): Expr =>
		v128.or(i32x4.shl(lanes, c32(16)), constant(4, [from, from + 1, from + 2, from + 3]));
	const four = f.let(i32x4.minU(tagged(i32x4.extendLowU(b), 0), tagged(i32x4.extendHighU(b), 4)));
	const two = f.let(i32x4.minU(four, i8x16.shuffle(four, four, byteLanes(4, [2, 3, 2, 3]))));
	const one = f.let(i32x4.extract(i32x4.minU(two, i8x16.shuffle(two, two, byteLanes(4, [1, 1, 1, 1]))), 0));
	e.setVector(0, i32x4.replace(v128.zero, 0, or(shrU(one, c32(16)), shl(and(one, c32(7)), c32(16)))));
};

/** A row of two XMM operands and an immediate. */
function withImmediate(
	name: string,
	opcode: string,
	formula: (e: Emitter, a: Expr, b: Expr, imm: Expr) => Expr,
): Instruction {
	return define(
		name,
		`${opcode} /r`,
		"Vdq,Wdq,Ib",
		(e) => {
			const b = e.f.let(e.getVector(1));
			const imm = e.f.let(e.get(2));
			e.setVector(0, formula(e, e.f.let(e.getVector(0)), b, imm));
		},
		{ attributes: ["sse", "aligned"] },
	);
}

export const packedShift: readonly Instruction[] = [
	...shift("psrlw", "0F D1", "0F 71 /2", i16x8, 16, "right"),
	...shift("psrld", "0F D2", "0F 72 /2", i32x4, 32, "right"),
	...shift("psrlq", "0F D3", "0F 73 /2", i64x2, 64, "right"),
	...shift("psraw", "0F E1", "0F 71 /4", i16x8, 16, "arithmetic"),
	...shift("psrad", "0F E2", "0F 72 /4", i32x4, 32, "arithmetic"),
	...shift("psllw", "0F F1", "0F 71 /6", i16x8, 16, "left"),
	...shift("pslld", "0F F2", "0F 72 /6", i32x4, 32, "left"),
	...shift("psllq", "0F F3", "0F 73 /6", i64x2, 64, "left"),
	shiftBytes("psrldq", "0F 73 /3", false),
	shiftBytes("pslldq", "0F 73 /7", true),

	define(
		"palignr",
		"NP 0F 3A 0F /r",
		"Pq,Qq,Ib",
		(e) => {
			checkPending(e);
			const b = e.f.let(getMmxVector(e, 1));
			const imm = e.f.let(e.get(2));
			enterMmx(e);
			const whole = e.f.let(join(b, getMmxVector(e, 0)));
			const count = select(gtU(imm, c32(16)), c32(16), imm);
			setMmx(e, 0, i8x16.swizzle(whole, i8x16.add(IOTA, i8x16.splat(count))));
		},
		{ attributes: ["mmx"] },
	),
	withImmediate("palignr", "66 0F 3A 0F", (e, a, b, imm) =>
		aligned(e, a, b, e.f.let(select(gtU(imm, c32(32)), c32(32), imm))),
	),

	define(
		"pshufw",
		"NP 0F 70 /r",
		"Pq,Qq,Ib",
		(e) => {
			checkPending(e);
			const b = e.f.let(getMmxVector(e, 1));
			enterMmx(e);
			setMmx(e, 0, i8x16.swizzle(b, wordIndices(e.get(2), 0)));
		},
		{ attributes: ["mmx"] },
	),
	withImmediate("pshufd", "66 0F 70", (_e, _a, b, imm) => i8x16.swizzle(b, dwordIndices(imm))),
	withImmediate("pshuflw", "F2 0F 70", (_e, _a, b, imm) =>
		i8x16.swizzle(b, i8x16.shuffle(wordIndices(imm, 0), IOTA, [...byteLanes(8, [0, 3])])),
	),
	withImmediate("pshufhw", "F3 0F 70", (_e, _a, b, imm) =>
		i8x16.swizzle(b, i8x16.shuffle(IOTA, wordIndices(imm, 8), [...byteLanes(8, [0, 3])])),
	),
	withImmediate("shufps", "NP 0F C6", (e, a, b, imm) => {
		const indices = e.f.let(dwordIndices(imm));
		return i8x16.shuffle(i8x16.swizzle(a, indices), i8x16.swizzle(b, indices), byteLanes(8, [0, 3]));
	}),
	withImmediate("shufpd", "66 0F C6", (e, a, b, imm) => {
		const mask = e.f.let(laneMask(i64x2, 8, imm));
		const low = v128.select(i8x16.shuffle(a, a, byteLanes(8, [1, 1])), a, mask);
		const high = v128.select(b, i8x16.shuffle(b, b, byteLanes(8, [0, 0])), mask);
		return i8x16.shuffle(low, high, byteLanes(8, [0, 3]));
	}),
	define(
		"unpcklps",
		"NP 0F 14 /r",
		"Vdq,Wdq",
		(e) => {
			const b = e.f.let(e.getVector(1));
			e.setVector(0, i8x16.shuffle(e.getVector(0), b, byteLanes(4, [0, 4, 1, 5])));
		},
		{ attributes: ["sse", "aligned"] },
	),
	define(
		"unpckhps",
		"NP 0F 15 /r",
		"Vdq,Wdq",
		(e) => {
			const b = e.f.let(e.getVector(1));
			e.setVector(0, i8x16.shuffle(e.getVector(0), b, byteLanes(4, [2, 6, 3, 7])));
		},
		{ attributes: ["sse", "aligned"] },
	),
	packedXmm("unpcklpd", "0F 14", (a, b) => i8x16.shuffle(a, b, byteLanes(8, [0, 2]))),
	packedXmm("unpckhpd", "0F 15", (a, b) => i8x16.shuffle(a, b, byteLanes(8, [1, 3]))),

	blendImmediate("blendps", "0F 3A 0C", i32x4, 4),
	blendImmediate("blendpd", "0F 3A 0D", i64x2, 8),
	blendImmediate("pblendw", "0F 3A 0E", i16x8, 2),
	blendVariable("pblendvb", "0F 38 10", i8x16, 8),
	blendVariable("blendvps", "0F 38 14", i32x4, 32),
	blendVariable("blendvpd", "0F 38 15", i64x2, 64),
	define("mpsadbw", "66 0F 3A 42 /r", "Vdq,Wdq,Ib", multipleDifferences, { attributes: ["sse", "aligned"] }),
	define("phminposuw", "66 0F 38 41 /r", "Vdq,Wdq", minimumPosition, { attributes: ["sse", "aligned"] }),
];
