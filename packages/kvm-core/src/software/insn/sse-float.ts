import { UD, XM } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import type { Emitter } from "../emit/emitter.ts";
import { low32, low64, setPart, xmmSource } from "../emit/vector.ts";
import {
	addition,
	comparison,
	division,
	extremum,
	F32,
	F64,
	type Format,
	multiplication,
	reciprocal,
	reciprocalRoot,
	roundImmediate,
	squareRoot,
} from "../fp/binary.ts";
import { exactness } from "../fp/exact.ts";
import { type FloatLibrary, floatLibrary } from "../fp/library.ts";
import {
	finished,
	type LaneFormula,
	lane,
	laneCount,
	mxcsrControl,
	packedFunction,
	scalarFunction,
} from "../fp/sse.ts";
import {
	and,
	c32,
	c64,
	cf32,
	cf64,
	type Expr,
	eq,
	eqz,
	extU,
	loadF32,
	loadF64,
	op1,
	op2,
	or,
	select,
	shl,
	shrU,
	sub,
	wrap,
} from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import { byteLanes, constant, f32x4, f64x2, i8x16, i32x4, i64x2, v128 } from "../wasm/simd.ts";
import { define, type Instruction } from "./define.ts";
import { laneMask } from "./packed-shift.ts";

/**
 * SSE arithmetic. The fast way is WebAssembly's own instruction, taken when it provably gives what the CPU would: no
 * unmasked exceptions, nearest rounding, no flushing, the precision flag already set, operands neither NaN nor
 * denormal, and a result away from underflow and overflow. Everything else goes through the soft-float functions.
 */

const FORMATS = { NP: F32, "66": F64, F3: F32, F2: F64 } as const;
type Prefix = keyof typeof FORMATS;
const isScalar = (prefix: Prefix): boolean => prefix === "F3" || prefix === "F2";
const SUFFIX: Readonly<Record<Prefix, string>> = { NP: "ps", "66": "pd", F3: "ss", F2: "sd" };

/** The least normal number and infinity. */
const LIMITS = {
	f32: { least: cf32(2 ** -126), most: cf32(Number.POSITIVE_INFINITY), zero: cf32(0) },
	f64: { least: cf64(2 ** -1022), most: cf64(Number.POSITIVE_INFINITY), zero: cf64(0) },
} as const;

/** Opcodes of scalar operations, for f32; those for f64 are 0xe further on (arithmetic) or 6 (comparisons). */
const F32_ABS = 0x8b;
const F32_EQ = 0x5b;
const F32_LT = 0x5d;
const F32_GT = 0x5e;
const F32_GE = 0x60;

/** A floating-point value type's operations under one set of names, scalar and vector alike. */
interface Lanes {
	readonly abs: (a: Expr) => Expr;
	readonly eq: (a: Expr, b: Expr) => Expr;
	readonly lt: (a: Expr, b: Expr) => Expr;
	readonly gt: (a: Expr, b: Expr) => Expr;
	readonly ge: (a: Expr, b: Expr) => Expr;
	readonly and: (a: Expr, b: Expr) => Expr;
	readonly or: (a: Expr, b: Expr) => Expr;
	/** Whether the condition holds in every lane, as i32. */
	readonly all: (a: Expr) => Expr;
	readonly least: Expr;
	readonly most: Expr;
	readonly zero: Expr;
	readonly native: Readonly<Record<NativeName, (a: Expr, b: Expr) => Expr>>;
}

type NativeName = "add" | "sub" | "mul" | "div" | "sqrt";

function scalarLanes(t: Format): Lanes {
	const step = t === F64 ? 0xe : 0;
	const compare = (opcode: number) => (a: Expr, b: Expr) => op2("i32", [opcode + (t === F64 ? 6 : 0)], a, b);
	const binary = (opcode: number) => (a: Expr, b: Expr) => op2(t.name, [opcode + step], a, b);
	return {
		abs: (a) => op1(t.name, [F32_ABS + step], a),
		eq: compare(F32_EQ),
		lt: compare(F32_LT),
		gt: compare(F32_GT),
		ge: compare(F32_GE),
		and,
		or,
		all: (a) => a,
		...LIMITS[t.name],
		native: {
			add: binary(0x92),
			sub: binary(0x93),
			mul: binary(0x94),
			div: binary(0x95),
			sqrt: (_a, b) => op1(t.name, [0x91 + step], b),
		},
	};
}

function vectorLanes(t: Format): Lanes {
	const shape = t === F64 ? f64x2 : f32x4;
	const limits = LIMITS[t.name];
	return {
		...shape,
		and: v128.and,
		or: v128.or,
		all: (t === F64 ? i64x2 : i32x4).allTrue,
		least: shape.splat(limits.least),
		most: shape.splat(limits.most),
		zero: v128.zero,
		native: { ...shape, sqrt: (_a, b) => shape.sqrt(b) },
	};
}

const LANES = {
	f32: [scalarLanes(F32), vectorLanes(F32)],
	f64: [scalarLanes(F64), vectorLanes(F64)],
} as const;

/** MXCSR allows the fast way: all masked, nearest, no FTZ or DAZ, PE set. */
export function plainMode(e: Emitter): Expr {
	return eq(and(e.word(L.MXCSR), c32(0xffe0)), c32(0x1fa0));
}

/** Neither NaN nor denormal. */
const usual = (x: Lanes, a: Expr): Expr => x.or(x.ge(x.abs(a), x.least), x.eq(a, x.zero));

/** Whether a single or double in a local is neither NaN nor denormal (i32). */
export const usualScalar = (t: Format, a: Expr): Expr => usual(LANES[t.name][0], a);
/** The same for each lane of a vector: a mask. */
export const usualVector = (t: Format, a: Expr): Expr => usual(LANES[t.name][1], a);

/** Whether the native result `r` of operands `a` and `b`, all in locals, is right and raises nothing but PE. */
function trustworthy(x: Lanes, name: NativeName, a: Expr, b: Expr, r: Expr): Expr {
	if (name === "sqrt") return x.and(x.lt(r, x.most), x.or(x.ge(b, x.least), x.eq(b, x.zero)));
	const operands = x.and(usual(x, a), usual(x, b));
	let exact: Expr;
	if (name === "mul") exact = x.or(x.eq(a, x.zero), x.eq(b, x.zero));
	else if (name === "div") exact = x.eq(a, x.zero);
	else exact = x.eq(r, x.zero);
	const size = resultSize(x, r);
	return x.and(operands, x.and(size.finite, x.or(size.normal, exact)));
}

function resultSize(x: Lanes, r: Expr): { finite: Expr; normal: Expr } {
	return { finite: x.lt(x.abs(r), x.most), normal: x.gt(x.abs(r), x.least) };
}

/** Raises #XM, or #UD where the system has not said that it handles it. */
function raiseException(e: Emitter): void {
	e.f.if(
		and(e.word(L.CR4), c32(0x400)),
		() => e.raise(XM),
		() => e.raise(UD),
	);
}

/** After the soft-float function: MXCSR, and #XM when it is to be. */
export function complete(e: Emitter, library: FloatLibrary): void {
	e.f.if(finished(library), () => raiseException(e));
}

/** Bits in an i64 of operand `n`'s low lane. */
export function lowBits(e: Emitter, n: number, t: Format): Expr {
	return t === F64 ? low64(e, n) : extU(low32(e, n));
}

/** Writes the low lane of the destination from bits in an i64. */
export function setLow(e: Emitter, t: Format, bits: Expr): void {
	setPart(e, 0, t.size, t === F64 ? bits : wrap(bits));
}

const reinterpret = (value: Expr): Expr =>
	value.type === "f64" ? op1("i64", [0xbd], value) : extU(op1("i32", [0xbc], value));

type Soft = (library: FloatLibrary, t: Format) => LaneFormula;

/** The four rows of an operation on one opcode; `native` has the fast way. */
function arithmetic(name: string, opcode: string, soft: Soft, native: NativeName): readonly Instruction[] {
	return (["NP", "66", "F3", "F2"] as const).map((prefix) => {
		const t = FORMATS[prefix];
		if (!isScalar(prefix)) {
			return define(
				`${name}${SUFFIX[prefix]}`,
				`${prefix} ${opcode} /r`,
				"Vdq,Wdq",
				(e) => packedRow(e, t, name, soft, native),
				{ attributes: ["sse", "aligned"] },
			);
		}
		return define(
			`${name}${SUFFIX[prefix]}`,
			`${prefix} ${opcode} /r`,
			t === F64 ? "Vdq,Wq" : "Vdq,Wd",
			(e) => scalarRow(e, t, name, soft, native),
			{ attributes: ["sse"] },
		);
	});
}

function packedRow(e: Emitter, t: Format, name: string, soft: Soft, native: NativeName): void {
	const library = floatLibrary(e.f.module, e.state);
	const b = e.f.let(e.getVector(1));
	const a = e.f.let(e.getVector(0));
	const slow = (): void => {
		const func = packedFunction(t, library, name, soft(library, t));
		const result = e.f.let(callExpr(func, a, b, c32(0)));
		complete(e, library);
		e.setVector(0, result);
	};
	const x = LANES[t.name][1];
	const r = e.f.let(x.native[native](a, b));
	e.f.if(and(plainMode(e), x.all(trustworthy(x, native, a, b, r))), () => e.setVector(0, r), slow);
}

function scalarRow(e: Emitter, t: Format, name: string, soft: Soft, native: NativeName): void {
	const library = floatLibrary(e.f.module, e.state);
	const func = scalarFunction(t, library, name, soft(library, t));
	const load = t === F64 ? loadF64 : loadF32;
	const source = xmmSource(e, 1, t.size);
	const b = e.f.let(load(source.address, source.offset));
	const target = xmmSource(e, 0, t.size);
	const a = e.f.let(load(target.address, target.offset));
	const slow = (): void => {
		const result = e.f.let(callExpr(func, reinterpret(a), reinterpret(b), c32(0)));
		complete(e, library);
		setLow(e, t, result);
	};
	const x = LANES[t.name][0];
	const r = e.f.let(x.native[native](a, b));
	const mxcsr = e.f.let(e.word(L.MXCSR));
	const right = e.f.let(and(eq(and(mxcsr, c32(0xffc0)), c32(0x1f80)), trustworthy(x, native, a, b, r)));
	// With PE clear the result must be exact besides.
	e.f.if(and(right, eqz(and(mxcsr, c32(0x20)))), () => {
		e.f.set(right, callExpr(exactness(t, library, native), a, b, r));
	});
	e.f.if(right, () => setPart(e, 0, t.size, r), slow);
}

/** HADDPS and kin: lanes regrouped, then an addition whose odd or all lanes are subtracted. */
function regrouped(
	name: string,
	opcode: string,
	t: Format,
	group: (a: Expr, b: Expr) => readonly [Expr, Expr],
	negated: number,
): Instruction {
	const prefix = t === F64 ? "66" : "F2";
	return define(
		name,
		`${prefix} ${opcode} /r`,
		"Vdq,Wdq",
		(e) => {
			const library = floatLibrary(e.f.module, e.state);
			const source = e.f.let(e.getVector(1));
			const [first, other] = group(e.f.let(e.getVector(0)), source);
			const a = e.f.let(first);
			const b = e.f.let(other);
			const x = LANES[t.name][1];
			const signs = Array.from({ length: 16 / t.size }, (_, i) =>
				((negated >> i) & 1) === 1 ? 1n << BigInt(t.size * 8 - 1) : 0n,
			);
			const r = e.f.let(x.native.add(a, v128.xor(b, constant(t.size, signs))));
			e.f.if(
				and(plainMode(e), x.all(trustworthy(x, "add", a, b, r))),
				() => e.setVector(0, r),
				() => {
					const func = packedFunction(t, library, "addMixed", (p, q, control, lane, parameter) =>
						callExpr(addition(t, library), p, q, and(shrU(parameter, c32(lane)), c32(1)), control),
					);
					const result = e.f.let(callExpr(func, a, b, c32(negated)));
					complete(e, library);
					e.setVector(0, result);
				},
			);
		},
		{ attributes: ["sse", "aligned"] },
	);
}

const evenOdd =
	(t: Format) =>
	(a: Expr, b: Expr): readonly [Expr, Expr] => {
		const pick = (lanes: readonly number[]): Expr => i8x16.shuffle(a, b, byteLanes(t.size, lanes));
		return t === F64 ? [pick([0, 2]), pick([1, 3])] : [pick([0, 2, 4, 6]), pick([1, 3, 5, 7])];
	};

const sum =
	(negate: 0 | 1): Soft =>
	(library, t) =>
	(a, b, control) =>
		callExpr(addition(t, library), a, b, c32(negate), control);

/** Comparisons, minima and maxima take the fast way whatever is masked: usual operands raise nothing. */
function comparable(e: Emitter, x: Lanes, a: Expr, b: Expr): Expr {
	return and(eqz(and(e.word(L.MXCSR), c32(0x40))), x.all(x.and(usual(x, a), usual(x, b))));
}

/** Operands of a scalar row as floats in locals. */
function scalarOperands(e: Emitter, t: Format): { a: Expr; b: Expr } {
	const load = t === F64 ? loadF64 : loadF32;
	const source = xmmSource(e, 1, t.size);
	const b = e.f.let(load(source.address, source.offset));
	const target = xmmSource(e, 0, t.size);
	return { a: e.f.let(load(target.address, target.offset)), b };
}

/** Truth of predicates 0 to 7: four bits each for greater, less, equal, unordered. */
const PREDICATES = 0x79db_8624;
/** Predicates to which a quiet NaN is invalid. */
const SIGNALLING = 0b0110_0110;

/** All ones (i64) when the predicate holds for a relation numbered as {@link comparison} does. */
function predicate(relation: Expr, number: Expr): Expr {
	const truth = and(shrU(shrU(c32(PREDICATES), shl(number, c32(2))), relation), c32(1));
	return sub(c64(0), extU(truth));
}

const compareLane =
	(library: FloatLibrary, t: Format): LaneFormula =>
	(a, b, control, _lane, parameter) => {
		const signals = and(shrU(c32(SIGNALLING), parameter), c32(1));
		return predicate(callExpr(comparison(t, library), a, b, signals, control), parameter);
	};

function compareScalar(e: Emitter, t: Format): void {
	const library = floatLibrary(e.f.module, e.state);
	const { a, b } = scalarOperands(e, t);
	const number = e.f.let(and(e.get(2), c32(7)));
	const x = LANES[t.name][0];
	e.f.if(
		comparable(e, x, a, b),
		() => setLow(e, t, predicate(or(x.lt(a, b), shl(x.eq(a, b), c32(1))), number)),
		() => {
			const func = scalarFunction(t, library, "compare", compareLane(library, t));
			const result = e.f.let(callExpr(func, reinterpret(a), reinterpret(b), number));
			complete(e, library);
			setLow(e, t, result);
		},
	);
}

function comparePacked(e: Emitter, t: Format): void {
	const library = floatLibrary(e.f.module, e.state);
	const b = e.f.let(e.getVector(1));
	const a = e.f.let(e.getVector(0));
	const number = e.f.let(and(e.get(2), c32(7)));
	const x = LANES[t.name][1];
	e.f.if(
		comparable(e, x, a, b),
		() => {
			const less = e.f.let(x.lt(a, b));
			const equal = e.f.let(x.eq(a, b));
			const low = select(and(number, c32(1)), less, equal);
			const high = select(and(number, c32(1)), v128.zero, v128.or(less, equal));
			const positive = e.f.let(select(and(number, c32(2)), high, low));
			e.setVector(0, v128.xor(positive, i32x4.splat(sub(c32(0), shrU(number, c32(2))))));
		},
		() => {
			const func = packedFunction(t, library, "compare", compareLane(library, t));
			const result = e.f.let(callExpr(func, a, b, number));
			complete(e, library);
			e.setVector(0, result);
		},
	);
}

function minimum(e: Emitter, t: Format, packed: boolean, maximum: boolean): void {
	const library = floatLibrary(e.f.module, e.state);
	const name = maximum ? "max" : "min";
	const formula: LaneFormula = (a, b, control) => callExpr(extremum(t, library, maximum), a, b, control);
	if (packed) {
		const b = e.f.let(e.getVector(1));
		const a = e.f.let(e.getVector(0));
		const shape = t === F64 ? f64x2 : f32x4;
		e.f.if(
			comparable(e, LANES[t.name][1], a, b),
			// WebAssembly's pmin(x, y) is y < x ? y : x.
			() => e.setVector(0, maximum ? shape.pmax(b, a) : shape.pmin(b, a)),
			() => {
				const result = e.f.let(callExpr(packedFunction(t, library, name, formula), a, b, c32(0)));
				complete(e, library);
				e.setVector(0, result);
			},
		);
		return;
	}
	const { a, b } = scalarOperands(e, t);
	const x = LANES[t.name][0];
	e.f.if(
		comparable(e, x, a, b),
		() => setPart(e, 0, t.size, select(maximum ? x.gt(a, b) : x.lt(a, b), a, b)),
		() => {
			const func = scalarFunction(t, library, name, formula);
			const result = e.f.let(callExpr(func, reinterpret(a), reinterpret(b), c32(0)));
			complete(e, library);
			setLow(e, t, result);
		},
	);
}

/** COMISS and kin: ZF, PF and CF from the relation. */
function compareFlags(name: string, prefix: "NP" | "66", opcode: string, signals: 0 | 1): Instruction {
	const t = prefix === "66" ? F64 : F32;
	return define(
		name,
		`${prefix} ${opcode} /r`,
		t === F64 ? "Vdq,Wq" : "Vdq,Wd",
		(e) => {
			const library = floatLibrary(e.f.module, e.state);
			const { a, b } = scalarOperands(e, t);
			const x = LANES[t.name][0];
			const relation = e.f.local("i32");
			e.f.if(
				comparable(e, x, a, b),
				() => e.f.set(relation, or(x.lt(a, b), shl(x.eq(a, b), c32(1)))),
				() => {
					const func = scalarFunction(t, library, `flags${signals}`, (p, q, control) =>
						extU(callExpr(comparison(t, library), p, q, c32(signals), control)),
					);
					e.f.set(relation, wrap(callExpr(func, reinterpret(a), reinterpret(b), c32(0))));
					complete(e, library);
				},
			);
			const flags = and(shrU(c32(0x4540_0100), shl(relation, c32(3))), c32(0xff));
			e.setArithmeticFlags(e.f.let(flags));
		},
		{ attributes: ["sse"] },
	);
}

/** ROUNDPS and kin. */
function roundRow(name: string, opcode: string, t: Format, packed: boolean): Instruction {
	return define(
		name,
		`66 ${opcode} /r`,
		packed ? "Vdq,Wdq,Ib" : t === F64 ? "Vdq,Wq,Ib" : "Vdq,Wd,Ib",
		(e) => {
			const library = floatLibrary(e.f.module, e.state);
			const formula: LaneFormula = (_a, b, control, _lane, parameter) =>
				callExpr(roundImmediate(t, library), b, parameter, control);
			if (packed) {
				const b = e.f.let(e.getVector(1));
				const result = e.f.let(callExpr(packedFunction(t, library, "round", formula), b, b, e.get(2)));
				complete(e, library);
				e.setVector(0, result);
				return;
			}
			const b = e.f.let(lowBits(e, 1, t));
			const result = e.f.let(callExpr(scalarFunction(t, library, "round", formula), b, b, e.get(2)));
			complete(e, library);
			setLow(e, t, result);
		},
		{ attributes: packed ? ["sse", "aligned"] : ["sse"] },
	);
}

/** DPPS, DPPD: products of the lanes bits 4.. select, summed in pairs, to the lanes bits 0.. select. */
function dotProduct(e: Emitter, t: Format): void {
	const library = floatLibrary(e.f.module, e.state);
	const func = library.fn(`dot.${t.name}`, ["v128", "v128", "i32"], "v128", (f) => {
		library.clearFlags(f);
		const control = f.let(mxcsrControl(library));
		const imm = f.param(2);
		const terms = Array.from({ length: laneCount(t) }, (_, n) => {
			const product = f.local("i64");
			f.if(and(imm, c32(0x10 << n)), () => {
				f.set(product, callExpr(multiplication(t, library), lane(t, f.param(0), n), lane(t, f.param(1), n), control));
			});
			return product;
		});
		// Each stage is an instruction of its own: its exceptions reach MXCSR, an unmasked one is the last.
		const stop = (): void => {
			f.if(finished(library), () => f.return(v128.zero));
			library.clearFlags(f);
		};
		stop();
		const plus = (a: Expr, b: Expr): Expr => f.let(callExpr(addition(t, library), a, b, c32(0), control));
		let total = terms;
		while (total.length > 1) {
			total = Array.from({ length: total.length / 2 }, (_, n) => plus(total[2 * n]!, total[2 * n + 1]!));
			if (total.length > 1) stop();
		}
		const splat = t === F64 ? i64x2.splat(total[0]!) : i32x4.splat(wrap(total[0]!));
		f.return(v128.and(splat, t === F64 ? laneMask(i64x2, 8, imm) : laneMask(i32x4, 4, imm)));
		f.unreachable();
	});
	const b = e.f.let(e.getVector(1));
	const result = e.f.let(callExpr(func, e.getVector(0), b, e.get(2)));
	complete(e, library);
	e.setVector(0, result);
}

/** RCPPS, RSQRTPS and their scalar forms. */
function estimate(name: string, opcode: string, fn: (library: FloatLibrary) => Func): readonly Instruction[] {
	const formula =
		(library: FloatLibrary): LaneFormula =>
		(_a, b) =>
			callExpr(fn(library), b);
	return [
		define(
			`${name}ps`,
			`NP ${opcode} /r`,
			"Vdq,Wdq",
			(e) => {
				const library = floatLibrary(e.f.module, e.state);
				const b = e.f.let(e.getVector(1));
				e.setVector(0, callExpr(packedFunction(F32, library, name, formula(library)), b, b, c32(0)));
			},
			{ attributes: ["sse", "aligned"] },
		),
		define(
			`${name}ss`,
			`F3 ${opcode} /r`,
			"Vdq,Wd",
			(e) => {
				const library = floatLibrary(e.f.module, e.state);
				setLow(e, F32, callExpr(fn(library), lowBits(e, 1, F32)));
			},
			{ attributes: ["sse"] },
		),
	];
}

const withFour = (
	name: string,
	opcode: string,
	operands: (size: "dq" | "d" | "q") => string,
	emit: (e: Emitter, t: Format, packed: boolean) => void,
): readonly Instruction[] =>
	(["NP", "66", "F3", "F2"] as const).map((prefix) => {
		const t = FORMATS[prefix];
		const packed = !isScalar(prefix);
		return define(
			`${name}${SUFFIX[prefix]}`,
			`${prefix} ${opcode} /r`,
			operands(packed ? "dq" : t === F64 ? "q" : "d"),
			(e) => emit(e, t, packed),
			{ attributes: packed ? ["sse", "aligned"] : ["sse"] },
		);
	});

const product: Soft = (library, t) => (a, b, control) => callExpr(multiplication(t, library), a, b, control);
const quotient: Soft = (library, t) => (a, b, control) => callExpr(division(t, library), a, b, control);
const root: Soft = (library, t) => (_a, b, control) => callExpr(squareRoot(t, library), b, control);

const alternating = (a: Expr, b: Expr): readonly [Expr, Expr] => [a, b];

export const sseFloat: readonly Instruction[] = [
	...arithmetic("add", "0F 58", sum(0), "add"),
	...arithmetic("mul", "0F 59", product, "mul"),
	...arithmetic("sub", "0F 5C", sum(1), "sub"),
	...arithmetic("div", "0F 5E", quotient, "div"),
	...arithmetic("sqrt", "0F 51", root, "sqrt"),
	...withFour(
		"min",
		"0F 5D",
		(size) => `Vdq,W${size}`,
		(e, t, packed) => minimum(e, t, packed, false),
	),
	...withFour(
		"max",
		"0F 5F",
		(size) => `Vdq,W${size}`,
		(e, t, packed) => minimum(e, t, packed, true),
	),
	...withFour(
		"cmp",
		"0F C2",
		(size) => `Vdq,W${size},Ib`,
		(e, t, packed) => (packed ? comparePacked(e, t) : compareScalar(e, t)),
	),
	compareFlags("ucomiss", "NP", "0F 2E", 0),
	compareFlags("ucomisd", "66", "0F 2E", 0),
	compareFlags("comiss", "NP", "0F 2F", 1),
	compareFlags("comisd", "66", "0F 2F", 1),
	...estimate("rsqrt", "0F 52", reciprocalRoot),
	...estimate("rcp", "0F 53", reciprocal),
	regrouped("haddpd", "0F 7C", F64, evenOdd(F64), 0),
	regrouped("haddps", "0F 7C", F32, evenOdd(F32), 0),
	regrouped("hsubpd", "0F 7D", F64, evenOdd(F64), 0b11),
	regrouped("hsubps", "0F 7D", F32, evenOdd(F32), 0b1111),
	regrouped("addsubpd", "0F D0", F64, alternating, 0b01),
	regrouped("addsubps", "0F D0", F32, alternating, 0b0101),
	roundRow("roundps", "0F 3A 08", F32, true),
	roundRow("roundpd", "0F 3A 09", F64, true),
	roundRow("roundss", "0F 3A 0A", F32, false),
	roundRow("roundsd", "0F 3A 0B", F64, false),
	define("dpps", "66 0F 3A 40 /r", "Vdq,Wdq,Ib", (e) => dotProduct(e, F32), { attributes: ["sse", "aligned"] }),
	define("dppd", "66 0F 3A 41 /r", "Vdq,Wdq,Ib", (e) => dotProduct(e, F64), { attributes: ["sse", "aligned"] }),
];
