import { GP } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import type { Emitter } from "../emit/emitter.ts";
import { checkPending, enterMmx, getMmxVector, lowVector, setMmx } from "../emit/vector.ts";
import { F32, F64, type Format, fromInteger, narrowing, toInteger, widening } from "../fp/binary.ts";
import { type FloatLibrary, floatLibrary } from "../fp/library.ts";
import { lane, mxcsrControl, withLane } from "../fp/sse.ts";
import { and, c32, cf32, cf64, type Expr, eq, extS, extU, op1, op2, or, wrap } from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import { f32x4, f64x2, fromLow, i32x4, i64x2, v128 } from "../wasm/simd.ts";
import { define, type Instruction } from "./define.ts";
import { complete, lowBits, plainMode, setLow, usualScalar, usualVector } from "./sse-float.ts";

/** Conversions between integers and floats and between the float formats. */

const CHOP = 0xc0;

/** One lane: bits of the source (in an i64) and control word to bits of the result (in an i64). */
type Step = (library: FloatLibrary, a: Expr, control: Expr) => Expr;

const integerToFloat =
	(t: Format): Step =>
	(library, a, control) =>
		callExpr(fromInteger(t, library), a, control);
const floatToInteger =
	(t: Format, bits: number, truncate: boolean): Step =>
	(library, a, control) =>
		callExpr(toInteger(t, library), a, c32(bits), truncate ? or(control, c32(CHOP)) : control);
const narrow: Step = (library, a, control) => callExpr(narrowing(library), a, control);
const widen: Step = (library, a, control) => callExpr(widening(library), a, control);

/** A soft conversion of `count` lanes; lanes above are zero. */
function lanesFunction(
	library: FloatLibrary,
	name: string,
	count: number,
	from: LaneSource,
	to: Format,
	step: Step,
): Func {
	return library.fn(`convert.${name}`, ["v128"], "v128", (f) => {
		library.clearFlags(f);
		const control = f.let(mxcsrControl(library));
		const result = f.local("v128");
		for (let n = 0; n < count; n++) {
			f.set(result, withLane(to, result, n, step(library, from(f.param(0), n), control)));
		}
		f.return(result);
		f.unreachable();
	});
}

type LaneSource = (vector: Expr, n: number) => Expr;
const dwords: LaneSource = (vector, n) => extS(i32x4.extract(vector, n));
const singles: LaneSource = (vector, n) => lane(F32, vector, n);
const doubles: LaneSource = (vector, n) => lane(F64, vector, n);

/** A fast way: the native result, and whether (i32) it is right. */
interface Fast {
	readonly result: (b: Expr) => Expr;
	readonly right: (e: Emitter, b: Expr, r: Expr) => Expr;
}

const always: Fast["right"] = () => c32(1);
const whenPlain: Fast["right"] = (e) => plainMode(e);
/** PE can tell nothing new: set, and masked. Nearest rounding with `nearest`. */
const precisionSettled = (e: Emitter, nearest: boolean): Expr =>
	eq(and(e.word(L.MXCSR), c32(nearest ? 0x7020 : 0x1020)), c32(0x1020));

function withinInt32(shape: typeof f32x4 | typeof f64x2, t: Format, b: Expr): Expr {
	const limit = shape.splat(t === F64 ? cf64(2 ** 31 - 1) : cf32(2 ** 31));
	return (t === F64 ? i64x2 : i32x4).allTrue(shape.lt(shape.abs(b), limit));
}

const nearestOf = (t: Format, b: Expr): Expr => ({
	type: "v128",
	code: [...b.code, ...(t === F64 ? [0xfd, 0x94, 0x01] : [0xfd, 0x6a])],
});

const toInts = (t: Format, truncate: boolean): Fast => {
	const shape = t === F64 ? f64x2 : f32x4;
	const convert = t === F64 ? i32x4.truncSatF64x2SZero : i32x4.truncSatF32x4S;
	return {
		result: (b) => convert(truncate ? b : nearestOf(t, b)),
		right: (e, b) => and(precisionSettled(e, !truncate), withinInt32(shape, t, b)),
	};
};

const narrowFast: Fast = {
	// f32x4.demote_f64x2_zero
	result: (b) => ({ type: "v128", code: [...b.code, 0xfd, 0x5e] }),
	right: (e, b, r) => {
		const size = f32x4.abs(r);
		const normal = v128.and(f32x4.lt(size, SINGLE_INFINITY), f32x4.gt(size, SINGLE_LEAST));
		const lanes = i32x4.bitmask(normal);
		const zeros = i64x2.bitmask(f64x2.eq(b, v128.zero));
		return and(plainMode(e), eq(and(or(lanes, zeros), c32(3)), c32(3)));
	},
};
const widenFast: Fast = {
	// f64x2.promote_low_f32x4
	result: (b) => ({ type: "v128", code: [...b.code, 0xfd, 0x5f] }),
	right: (_e, b) => eq(and(i32x4.bitmask(usualVector(F32, b)), c32(3)), c32(3)),
};
const SINGLE_INFINITY: Expr = f32x4.splat(cf32(Number.POSITIVE_INFINITY));
const SINGLE_LEAST: Expr = f32x4.splat(cf32(2 ** -126));

/** Converts the vector `b` (a local) into a local; #XM when it is to be. */
function convertVector(e: Emitter, b: Expr, soft: (library: FloatLibrary) => Func, fast: Fast): Expr {
	const library = floatLibrary(e.f.module, e.state);
	const result = e.f.let(fast.result(b));
	if (fast.right === always) return result;
	e.f.if(
		fast.right(e, b, result),
		() => {},
		() => {
			e.f.set(result, callExpr(soft(library), b));
			complete(e, library);
		},
	);
	return result;
}

function packed(
	name: string,
	opcode: string,
	source: 8 | 16,
	count: number,
	from: LaneSource,
	to: Format,
	step: Step,
	fast: Fast,
): Instruction {
	return define(
		name,
		`${opcode} /r`,
		source === 8 ? "Vdq,Wq" : "Vdq,Wdq",
		(e) => {
			const b = e.f.let(lowVector(e, 1, source));
			e.setVector(
				0,
				convertVector(e, b, (library) => lanesFunction(library, name, count, from, to, step), fast),
			);
		},
		{ attributes: source === 16 ? ["sse", "aligned"] : ["sse"] },
	);
}

/** CVTPI2PS and CVTPI2PD: from MMX registers, or memory. */
function fromMmx(name: string, opcode: string, to: Format): Instruction {
	return define(
		name,
		`${opcode} /r`,
		"Vdq,Qq",
		(e) => {
			const exact = to === F64;
			if (!e.isMemory(1)) checkPending(e);
			const b = e.f.let(getMmxVector(e, 1));
			const fast: Fast = exact
				? { result: f64x2.convertLowI32x4S, right: always }
				: { result: f32x4.convertI32x4S, right: whenPlain };
			const soft = (library: FloatLibrary): Func => lanesFunction(library, name, 2, dwords, to, integerToFloat(to));
			// The transition happens even when the conversion then raises #XM.
			if (!e.isMemory(1)) enterMmx(e);
			const result = convertVector(e, b, soft, fast);
			if (exact) e.setVector(0, result);
			else e.setVector(0, i64x2.replace(e.getVector(0), 0, i64x2.extract(result, 0)));
		},
		{ attributes: ["mmx", "sse"] },
	);
}

/** CVTPS2PI and kin. */
function toMmx(name: string, opcode: string, from: Format, truncate: boolean): Instruction {
	const double = from === F64;
	return define(
		name,
		`${opcode} /r`,
		double ? "Pq,Wdq" : "Pq,Wq",
		(e) => {
			checkPending(e);
			let b = e.f.let(lowVector(e, 1, double ? 16 : 8));
			// The upper singles take no part.
			if (!double) b = e.f.let(fromLow(i64x2.extract(b, 0)));
			const soft = (library: FloatLibrary): Func =>
				lanesFunction(library, name, 2, double ? doubles : singles, F32, floatToInteger(from, 32, truncate));
			enterMmx(e);
			const result = convertVector(e, b, soft, toInts(from, truncate));
			setMmx(e, 0, result);
		},
		{ attributes: double ? ["mmx", "sse", "aligned"] : ["mmx", "sse"] },
	);
}

/** The soft conversion of one value. */
function scalarSoft(e: Emitter, name: string, step: Step, a: Expr): Expr {
	const library = floatLibrary(e.f.module, e.state);
	const func = library.fn(`convert.${name}`, ["i64"], "i64", (f) => {
		library.clearFlags(f);
		f.return(step(library, f.param(0), mxcsrControl(library)));
		f.unreachable();
	});
	const result = e.f.let(callExpr(func, a));
	complete(e, library);
	return result;
}

/** CVTSI2SS, CVTSI2SD. */
function fromGeneral(name: string, opcode: string, to: Format): Instruction {
	return define(
		name,
		`${opcode} /r`,
		"Vdq,Ey",
		(e) => {
			const a = e.f.let(e.get(1));
			const wide = a.type === "i64";
			const opcodeOf = to === F64 ? (wide ? 0xb9 : 0xb7) : wide ? 0xb4 : 0xb2;
			const native = op1(to.name, [opcodeOf], a);
			const bits = to === F64 ? op1("i64", [0xbd], native) : extU(op1("i32", [0xbc], native));
			if (to === F64 && !wide) {
				setLow(e, to, bits);
				return;
			}
			e.f.if(
				plainMode(e),
				() => setLow(e, to, bits),
				() => setLow(e, to, scalarSoft(e, name, integerToFloat(to), wide ? a : extS(a))),
			);
		},
		{ attributes: ["sse"] },
	);
}

/** CVTSS2SI and kin. */
function toGeneral(name: string, opcode: string, from: Format, truncate: boolean): Instruction {
	return define(
		name,
		`${opcode} /r`,
		from === F64 ? "Gy,Wq" : "Gy,Wd",
		(e) => {
			const a = e.f.let(lowBits(e, 1, from));
			const wide = e.size(0) === 8;
			const double = from === F64;
			const float = e.f.let(double ? op1("f64", [0xbf], a) : op1("f32", [0xbe], wrap(a)));
			const rounded = truncate ? float : op1(from.name, [double ? 0x9e : 0x90], float);
			const type = wide ? "i64" : "i32";
			const whole = e.f.let(op1(type, [0xfc, (wide ? 4 : 0) + (double ? 2 : 0)], rounded));
			const limit = 2 ** (wide ? 63 : 31) - (wide || !double ? 0 : 1);
			const size = op1(from.name, [double ? 0x99 : 0x8b], float);
			const within = op2("i32", [double ? 0x63 : 0x5d], size, double ? cf64(limit) : cf32(limit));
			e.f.if(
				and(precisionSettled(e, !truncate), within),
				() => e.set(0, whole),
				() => {
					const bits = wide ? 64 : 32;
					const result = scalarSoft(e, `${name}${bits}`, floatToInteger(from, bits, truncate), a);
					e.set(0, wide ? result : wrap(result));
				},
			);
		},
		{ attributes: ["sse"] },
	);
}

const singleToDouble = (e: Emitter): void => {
	const a = e.f.let(lowBits(e, 1, F32));
	const float = e.f.let(op1("f32", [0xbe], wrap(a)));
	e.f.if(
		usualScalar(F32, float),
		() => setLow(e, F64, op1("i64", [0xbd], op1("f64", [0xbb], float))),
		() => setLow(e, F64, scalarSoft(e, "cvtss2sd", widen, a)),
	);
};

const doubleToSingle = (e: Emitter): void => {
	const a = e.f.let(lowBits(e, 1, F64));
	const float = e.f.let(op1("f64", [0xbf], a));
	const result = e.f.let(op1("f32", [0xb6], float));
	const size = e.f.let(op1("f32", [0x8b], result));
	const normal = and(
		op2("i32", [0x5d], size, cf32(Number.POSITIVE_INFINITY)),
		op2("i32", [0x5e], size, cf32(2 ** -126)),
	);
	const right = or(normal, op2("i32", [0x61], float, cf64(0)));
	e.f.if(
		and(plainMode(e), right),
		() => setLow(e, F32, extU(op1("i32", [0xbc], result))),
		() => setLow(e, F32, scalarSoft(e, "cvtsd2ss", narrow, a)),
	);
};

export const sseConvert: readonly Instruction[] = [
	fromMmx("cvtpi2ps", "NP 0F 2A", F32),
	fromMmx("cvtpi2pd", "66 0F 2A", F64),
	toMmx("cvttps2pi", "NP 0F 2C", F32, true),
	toMmx("cvtps2pi", "NP 0F 2D", F32, false),
	toMmx("cvttpd2pi", "66 0F 2C", F64, true),
	toMmx("cvtpd2pi", "66 0F 2D", F64, false),
	fromGeneral("cvtsi2ss", "F3 0F 2A", F32),
	fromGeneral("cvtsi2sd", "F2 0F 2A", F64),
	toGeneral("cvttss2si", "F3 0F 2C", F32, true),
	toGeneral("cvttsd2si", "F2 0F 2C", F64, true),
	toGeneral("cvtss2si", "F3 0F 2D", F32, false),
	toGeneral("cvtsd2si", "F2 0F 2D", F64, false),
	packed("cvtps2pd", "NP 0F 5A", 8, 2, singles, F64, widen, widenFast),
	packed("cvtpd2ps", "66 0F 5A", 16, 2, doubles, F32, narrow, narrowFast),
	define("cvtss2sd", "F3 0F 5A /r", "Vdq,Wd", singleToDouble, { attributes: ["sse"] }),
	define("cvtsd2ss", "F2 0F 5A /r", "Vdq,Wq", doubleToSingle, { attributes: ["sse"] }),
	packed("cvtdq2ps", "NP 0F 5B", 16, 4, dwords, F32, integerToFloat(F32), {
		result: f32x4.convertI32x4S,
		right: whenPlain,
	}),
	packed("cvtps2dq", "66 0F 5B", 16, 4, singles, F32, floatToInteger(F32, 32, false), toInts(F32, false)),
	packed("cvttps2dq", "F3 0F 5B", 16, 4, singles, F32, floatToInteger(F32, 32, true), toInts(F32, true)),
	packed("cvttpd2dq", "66 0F E6", 16, 2, doubles, F32, floatToInteger(F64, 32, true), toInts(F64, true)),
	packed("cvtpd2dq", "F2 0F E6", 16, 2, doubles, F32, floatToInteger(F64, 32, false), toInts(F64, false)),
	packed("cvtdq2pd", "F3 0F E6", 8, 2, dwords, F64, integerToFloat(F64), {
		result: f64x2.convertLowI32x4S,
		right: always,
	}),
	define(
		"ldmxcsr",
		"NP 0F AE /2 mod=m",
		"Md",
		(e) => {
			const value = e.f.let(e.get(0));
			e.f.if(and(value, c32(0xffff_0000 | 0)), () => e.raise(GP, 0));
			e.setWord(L.MXCSR, value);
		},
		{ attributes: ["sse"] },
	),
	define("stmxcsr", "NP 0F AE /3 mod=m", "Md", (e) => e.storeMemory(4, e.word(L.MXCSR)), { attributes: ["sse"] }),
];
