import {
	add,
	and,
	c32,
	c64,
	cf32,
	type Expr,
	eq,
	eqz,
	extU,
	geU,
	gtU,
	ltS,
	ltU,
	mul,
	ne,
	op1,
	op2,
	or,
	select,
	shl,
	shrU,
	sub,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import { DE, DENORMALS_ARE_ZEROS, FLUSH_TO_ZERO, type FloatLibrary, IE, OE, PE, UE, UP, ZE } from "./library.ts";
import {
	divide128,
	integerPart,
	leadingZeros,
	mulHigh,
	roundsUp,
	second,
	shiftRightJam,
	squareRoot128,
} from "./wide.ts";

/**
 * IEEE 754 single and double arithmetic with x86's exceptions and NaN rules. Values are their bits in an i64. Every
 * function takes the control word last (see {@link FloatLibrary}).
 */

/** One of the two interchange formats. */
export interface Format {
	readonly name: "f32" | "f64";
	readonly size: 4 | 8;
	/** Bits of the fraction field. */
	readonly fraction: number;
	readonly bias: number;
	/** Exponent field of infinities and NaNs. */
	readonly max: number;
}

export const F32: Format = { name: "f32", size: 4, fraction: 23, bias: 127, max: 255 };
export const F64: Format = { name: "f64", size: 8, fraction: 52, bias: 1023, max: 2047 };

const signBit = (t: Format): bigint => 1n << BigInt(t.size * 8 - 1);
const infinity = (t: Format): bigint => BigInt(t.max) << BigInt(t.fraction);
const quietBit = (t: Format): bigint => 1n << BigInt(t.fraction - 1);
/** What an invalid operation gives: a quiet NaN with its sign set. */
export const indefinite = (t: Format): bigint => signBit(t) | infinity(t) | quietBit(t);
const fractionMask = (t: Format): bigint => (1n << BigInt(t.fraction)) - 1n;

const exponentOf = (t: Format, a: Expr): Expr => and(wrap(shrU(a, c64(t.fraction))), c32(t.max));
const fractionOf = (t: Format, a: Expr): Expr => and(a, c64(fractionMask(t)));
const signOf = (t: Format, a: Expr): Expr => wrap(shrU(a, c64(t.size * 8 - 1)));
const magnitude = (t: Format, a: Expr): Expr => and(a, c64(signBit(t) - 1n));
const isNan = (t: Format, a: Expr): Expr => gtU(magnitude(t, a), c64(infinity(t)));
const isInfinite = (t: Format, a: Expr): Expr => eq(magnitude(t, a), c64(infinity(t)));
const isZero = (t: Format, a: Expr): Expr => eqz(magnitude(t, a));
/** Not zero and below the least normal number. */
const isDenormal = (t: Format, a: Expr): Expr =>
	ltU(sub(magnitude(t, a), c64(1)), c64((1n << BigInt(t.fraction)) - 1n));
/** Zero of a sign given as i32. */
const zeroOf = (t: Format, sign: Expr): Expr => shl(extU(sign), c64(t.size * 8 - 1));

/** Applies "denormals are zeros" to a local. */
function flushInput(t: Format, f: Func, a: Expr, control: Expr): void {
	f.if(and(control, c32(DENORMALS_ARE_ZEROS)), () => {
		f.if(isDenormal(t, a), () => f.set(a, and(a, c64(signBit(t)))));
	});
}

/** Reports DE when one of the operands is a denormal. */
function checkDenormal(t: Format, library: FloatLibrary, f: Func, ...operands: readonly Expr[]): void {
	const any = operands.map((a) => isDenormal(t, a)).reduce((a, b) => or(a, b));
	f.if(any, () => library.raise(f, DE));
}

/** Returns the NaN that two operands of which at least one is a NaN give: the first one that is, quieted. */
function returnNaN(t: Format, library: FloatLibrary, f: Func, a: Expr, b: Expr): void {
	const signals = (x: Expr): Expr => and(isNan(t, x), eqz(and(x, c64(quietBit(t)))));
	f.if(or(signals(a), signals(b)), () => library.raise(f, IE));
	f.return(or(select(isNan(t, a), a, b), c64(quietBit(t))));
}

function returnInvalid(t: Format, library: FloatLibrary, f: Func): void {
	library.raise(f, IE);
	f.return(c64(indefinite(t)));
}

/** Unpacks a finite number that is not zero: significand with its top bit set, and exponent. */
function normalise(t: Format, f: Func, a: Expr): { significand: Expr; exponent: Expr } {
	const significand = f.let(shl(fractionOf(t, a), c64(63 - t.fraction)));
	const exponent = f.let(sub(exponentOf(t, a), c32(t.bias)));
	f.if(
		eq(exponent, c32(-t.bias)),
		() => {
			const zeros = f.let(leadingZeros(significand));
			f.set(significand, shl(significand, extU(zeros)));
			f.set(exponent, sub(c32(1 - t.bias), zeros));
		},
		() => f.set(significand, or(significand, c64(1n << 63n))),
	);
	return { significand, exponent };
}

/**
 * (sign, exponent, significand, control) → bits. The significand has its top bit set and stands for 1.x times two to
 * the exponent; its lowest bit also stands for all that lies below it.
 */
export function round(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.round`, ["i32", "i32", "i64", "i32"], "i64", (f) => {
		const [sign, exponent, significand, control] = [f.param(0), f.param(1), f.param(2), f.param(3)];
		const drop = 63 - t.fraction;
		f.set(exponent, add(exponent, c32(t.bias)));
		const kept = f.local("i64");
		const rest = f.local("i64");
		const up = f.local("i32");
		const split = (): void => {
			f.set(kept, shrU(significand, c64(drop)));
			f.set(rest, shl(significand, c64(64 - drop)));
			f.set(up, roundsUp(control, sign, rest, wrap(and(kept, c64(1)))));
		};
		split();
		f.if(ltS(exponent, c32(1)), () => {
			// Tiny unless rounding at full precision reaches the least normal number.
			const reaches = eq(add(kept, extU(up)), c64(1n << BigInt(t.fraction + 1)));
			const tiny = f.let(eqz(and(reaches, eqz(exponent))));
			f.if(and(tiny, eq(and(control, c32(FLUSH_TO_ZERO | UE)), c32(FLUSH_TO_ZERO | UE))), () => {
				library.raise(f, UE | PE);
				f.return(zeroOf(t, sign));
			});
			f.if(and(tiny, eqz(and(control, c32(UE)))), () => {
				// Unmasked: what counts as inexact is the result with an unbounded exponent. No result is written.
				library.raise(f, select(eqz(rest), c32(UE), c32(UE | PE)));
				f.return(c64(0));
			});
			const shift = f.let(sub(c32(1), exponent));
			f.set(significand, shiftRightJam(significand, shift));
			f.set(exponent, c32(1));
			split();
			f.if(and(tiny, ne(rest, c64(0))), () => library.raise(f, UE));
		});
		f.if(ne(rest, c64(0)), () => library.raise(f, or(c32(PE), shl(up, c32(Math.log2(UP))))));
		// The hidden bit adds one to the exponent field, and so does a carry out of the fraction.
		const bits = f.let(add(shl(extU(sub(exponent, c32(1))), c64(t.fraction)), add(kept, extU(up))));
		f.if(or(geU(bits, c64(infinity(t))), geU(exponent, c32(t.max))), () => {
			// Infinity, or the largest finite number where rounding goes towards zero.
			const away = f.let(roundsUp(control, sign, c64(-1), c32(0)));
			const inexact = select(and(control, c32(OE)), c32(PE), c32(0));
			library.raise(f, or(or(c32(OE), inexact), shl(away, c32(Math.log2(UP)))));
			f.set(bits, sub(c64(infinity(t)), extU(eqz(away))));
		});
		f.return(or(bits, zeroOf(t, sign)));
		f.unreachable();
	});
}

/** (a, b, negate b, control): a + b, or a - b. */
export function addition(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.add`, ["i64", "i64", "i32", "i32"], "i64", (f) => {
		const [a, b, negate, control] = [f.param(0), f.param(1), f.param(2), f.param(3)];
		flushInput(t, f, a, control);
		flushInput(t, f, b, control);
		f.if(or(isNan(t, a), isNan(t, b)), () => returnNaN(t, library, f, a, b));
		f.set(b, xor(b, zeroOf(t, negate)));
		f.if(or(isInfinite(t, a), isInfinite(t, b)), () => {
			f.if(and(isInfinite(t, a), eq(xor(a, b), c64(signBit(t)))), () => returnInvalid(t, library, f));
			checkDenormal(t, library, f, a, b);
			f.return(select(isInfinite(t, a), a, b));
		});
		checkDenormal(t, library, f, a, b);
		f.if(ltU(magnitude(t, a), magnitude(t, b)), () => {
			const old = f.let(a);
			f.set(a, b);
			f.set(b, old);
		});
		/** Exponent field (1 for denormals) and significand with its hidden bit at bit 62. */
		const unpack = (x: Expr): { e: Expr; s: Expr } => {
			const field = f.let(exponentOf(t, x));
			const hidden = shl(extU(ne(field, c32(0))), c64(t.fraction));
			return {
				e: f.let(or(field, eqz(field))),
				s: f.let(shl(or(fractionOf(t, x), hidden), c64(62 - t.fraction))),
			};
		};
		const left = unpack(a);
		const right = unpack(b);
		const distance = f.let(sub(left.e, right.e));
		f.set(right.s, shiftRightJam(right.s, distance));
		const opposite = f.let(signOf(t, xor(a, b)));
		const sum = f.let(select(opposite, sub(left.s, right.s), add(left.s, right.s)));
		f.if(eqz(sum), () => {
			const down = eq(and(control, c32(0xc0)), c32(0x40));
			f.return(zeroOf(t, select(opposite, down, signOf(t, a))));
		});
		const zeros = f.let(leadingZeros(sum));
		f.return(
			callExpr(
				round(t, library),
				signOf(t, a),
				sub(sub(left.e, zeros), c32(t.bias - 1)),
				shl(sum, extU(zeros)),
				control,
			),
		);
		f.unreachable();
	});
}

/** (a, b, control): a * b. */
export function multiplication(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.mul`, ["i64", "i64", "i32"], "i64", (f) => {
		const [a, b, control] = [f.param(0), f.param(1), f.param(2)];
		flushInput(t, f, a, control);
		flushInput(t, f, b, control);
		f.if(or(isNan(t, a), isNan(t, b)), () => returnNaN(t, library, f, a, b));
		const sign = f.let(signOf(t, xor(a, b)));
		f.if(or(isInfinite(t, a), isInfinite(t, b)), () => {
			f.if(or(isZero(t, a), isZero(t, b)), () => returnInvalid(t, library, f));
			checkDenormal(t, library, f, a, b);
			f.return(or(zeroOf(t, sign), c64(infinity(t))));
		});
		checkDenormal(t, library, f, a, b);
		f.if(or(isZero(t, a), isZero(t, b)), () => f.return(zeroOf(t, sign)));
		const x = normalise(t, f, a);
		const y = normalise(t, f, b);
		const high = f.let(callExpr(mulHigh(library), x.significand, y.significand));
		const low = f.let(mul(x.significand, y.significand));
		const exponent = f.let(add(add(x.exponent, y.exponent), c32(1)));
		f.if(eqz(ltS(high, c64(0))), () => {
			f.set(high, or(shl(high, c64(1)), shrU(low, c64(63))));
			f.set(low, shl(low, c64(1)));
			f.set(exponent, sub(exponent, c32(1)));
		});
		f.return(callExpr(round(t, library), sign, exponent, or(high, extU(ne(low, c64(0)))), control));
		f.unreachable();
	});
}

/** (a, b, control): a / b. */
export function division(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.div`, ["i64", "i64", "i32"], "i64", (f) => {
		const [a, b, control] = [f.param(0), f.param(1), f.param(2)];
		flushInput(t, f, a, control);
		flushInput(t, f, b, control);
		f.if(or(isNan(t, a), isNan(t, b)), () => returnNaN(t, library, f, a, b));
		const sign = f.let(signOf(t, xor(a, b)));
		f.if(isInfinite(t, a), () => {
			f.if(isInfinite(t, b), () => returnInvalid(t, library, f));
			checkDenormal(t, library, f, b);
			f.return(or(zeroOf(t, sign), c64(infinity(t))));
		});
		f.if(isInfinite(t, b), () => {
			checkDenormal(t, library, f, a);
			f.return(zeroOf(t, sign));
		});
		f.if(isZero(t, b), () => {
			f.if(isZero(t, a), () => returnInvalid(t, library, f));
			library.raise(f, ZE);
			f.return(or(zeroOf(t, sign), c64(infinity(t))));
		});
		checkDenormal(t, library, f, a, b);
		f.if(isZero(t, a), () => f.return(zeroOf(t, sign)));
		const x = normalise(t, f, a);
		const y = normalise(t, f, b);
		const exponent = f.let(sub(x.exponent, y.exponent));
		const low = f.local("i64");
		f.if(
			ltU(x.significand, y.significand),
			() => f.set(exponent, sub(exponent, c32(1))),
			() => {
				f.set(low, shl(x.significand, c64(63)));
				f.set(x.significand, shrU(x.significand, c64(1)));
			},
		);
		const quotient = f.let(callExpr(divide128(library), x.significand, low, y.significand));
		f.return(callExpr(round(t, library), sign, exponent, or(quotient, extU(ne(second(library), c64(0)))), control));
		f.unreachable();
	});
}

/** (a, control): square root. */
export function squareRoot(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.sqrt`, ["i64", "i32"], "i64", (f) => {
		const [a, control] = [f.param(0), f.param(1)];
		flushInput(t, f, a, control);
		f.if(isNan(t, a), () => returnNaN(t, library, f, a, a));
		f.if(isZero(t, a), () => f.return(a));
		f.if(signOf(t, a), () => returnInvalid(t, library, f));
		f.if(isInfinite(t, a), () => f.return(a));
		checkDenormal(t, library, f, a);
		const x = normalise(t, f, a);
		const odd = f.let(and(x.exponent, c32(1)));
		const high = select(odd, x.significand, shrU(x.significand, c64(1)));
		const low = select(odd, c64(0), shl(x.significand, c64(63)));
		const root = f.let(callExpr(squareRoot128(library), high, low));
		const exponent: Expr = { type: "i32", code: [...x.exponent.code, ...c32(1).code, 0x75] };
		f.return(callExpr(round(t, library), c32(0), exponent, or(root, extU(ne(second(library), c64(0)))), control));
		f.unreachable();
	});
}

/** (a, b, signals, control) → 0 greater, 1 less, 2 equal, 3 unordered; `signals` makes quiet NaNs invalid too. */
export function comparison(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.compare`, ["i64", "i64", "i32", "i32"], "i32", (f) => {
		const [a, b, signals, control] = [f.param(0), f.param(1), f.param(2), f.param(3)];
		flushInput(t, f, a, control);
		flushInput(t, f, b, control);
		f.if(or(isNan(t, a), isNan(t, b)), () => {
			const signalling = (x: Expr): Expr => and(isNan(t, x), eqz(and(x, c64(quietBit(t)))));
			f.if(or(signals, or(signalling(a), signalling(b))), () => library.raise(f, IE));
			f.return(c32(3));
		});
		checkDenormal(t, library, f, a, b);
		f.if(or(eq(a, b), and(isZero(t, a), isZero(t, b))), () => f.return(c32(2)));
		f.if(signOf(t, xor(a, b)), () => f.return(signOf(t, a)));
		f.return(xor(ltU(a, b), signOf(t, a)));
		f.unreachable();
	});
}

/** (a, b, control): MINSS or MAXSS; the second operand when they are equal or unordered. */
export function extremum(t: Format, library: FloatLibrary, maximum: boolean): Func {
	return library.fn(`${t.name}.${maximum ? "max" : "min"}`, ["i64", "i64", "i32"], "i64", (f) => {
		const [a, b, control] = [f.param(0), f.param(1), f.param(2)];
		flushInput(t, f, a, control);
		flushInput(t, f, b, control);
		f.if(or(isNan(t, a), isNan(t, b)), () => {
			library.raise(f, IE);
			f.return(b);
		});
		const relation = callExpr(comparison(t, library), a, b, c32(0), control);
		f.return(select(eq(relation, c32(maximum ? 0 : 1)), a, b));
		f.unreachable();
	});
}

/** (a, control) → double to single. */
export function narrowing(library: FloatLibrary): Func {
	return library.fn("f64.toF32", ["i64", "i32"], "i64", (f) => {
		const [a, control] = [f.param(0), f.param(1)];
		flushInput(F64, f, a, control);
		const sign = f.let(signOf(F64, a));
		f.if(isNan(F64, a), () => {
			f.if(eqz(and(a, c64(quietBit(F64)))), () => library.raise(f, IE));
			const payload = and(shrU(a, c64(29)), c64(fractionMask(F32)));
			f.return(or(or(zeroOf(F32, sign), c64(infinity(F32) | quietBit(F32))), payload));
		});
		f.if(isInfinite(F64, a), () => f.return(or(zeroOf(F32, sign), c64(infinity(F32)))));
		f.if(isZero(F64, a), () => f.return(zeroOf(F32, sign)));
		checkDenormal(F64, library, f, a);
		const x = normalise(F64, f, a);
		f.return(callExpr(round(F32, library), sign, x.exponent, x.significand, control));
		f.unreachable();
	});
}

/** (a, control) → single to double. */
export function widening(library: FloatLibrary): Func {
	return library.fn("f32.toF64", ["i64", "i32"], "i64", (f) => {
		const [a, control] = [f.param(0), f.param(1)];
		flushInput(F32, f, a, control);
		const sign = f.let(signOf(F32, a));
		f.if(isNan(F32, a), () => {
			f.if(eqz(and(a, c64(quietBit(F32)))), () => library.raise(f, IE));
			const payload = shl(fractionOf(F32, a), c64(29));
			f.return(or(or(zeroOf(F64, sign), c64(infinity(F64) | quietBit(F64))), payload));
		});
		f.if(isInfinite(F32, a), () => f.return(or(zeroOf(F64, sign), c64(infinity(F64)))));
		f.if(isZero(F32, a), () => f.return(zeroOf(F64, sign)));
		checkDenormal(F32, library, f, a);
		const x = normalise(F32, f, a);
		f.return(callExpr(round(F64, library), sign, x.exponent, x.significand, control));
		f.unreachable();
	});
}

/** (a signed 64-bit integer, control) → the nearest number. */
export function fromInteger(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.fromInteger`, ["i64", "i32"], "i64", (f) => {
		const [a, control] = [f.param(0), f.param(1)];
		f.if(eqz(a), () => f.return(a));
		const sign = f.let(ltS(a, c64(0)));
		const absolute = f.let(select(sign, sub(c64(0), a), a));
		const zeros = f.let(leadingZeros(absolute));
		f.return(callExpr(round(t, library), sign, sub(c32(63), zeros), shl(absolute, extU(zeros)), control));
		f.unreachable();
	});
}

/** (a, bits 32 or 64, control) → signed integer; the "integer indefinite" when it does not fit. */
export function toInteger(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.toInteger`, ["i64", "i32", "i32"], "i64", (f) => {
		const [a, bits, control] = [f.param(0), f.param(1), f.param(2)];
		flushInput(t, f, a, control);
		const limit = f.let(shl(c64(1), extU(sub(bits, c32(1)))));
		f.if(isZero(t, a), () => f.return(c64(0)));
		f.if(geU(exponentOf(t, a), c32(t.bias + 64)), () => {
			library.raise(f, IE);
			f.return(sub(c64(0), limit));
		});
		const sign = f.let(signOf(t, a));
		const x = normalise(t, f, a);
		const before = f.let(library.flags);
		const whole = f.let(callExpr(integerPart(library), sign, x.exponent, x.significand, control));
		f.if(geU(whole, add(limit, extU(sign))), () => {
			library.clearFlags(f);
			library.raise(f, or(before, c32(IE)));
			f.return(sub(c64(0), limit));
		});
		f.return(select(sign, sub(c64(0), whole), whole));
		f.unreachable();
	});
}

/** (a, immediate, control): ROUNDSS, whose immediate may name a rounding mode and silence PE. */
export function roundImmediate(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.roundImmediate`, ["i64", "i32", "i32"], "i64", (f) => {
		const [a, immediate, control] = [f.param(0), f.param(1), f.param(2)];
		f.if(eqz(and(immediate, c32(4))), () => {
			f.set(control, or(and(control, c32(~0xc0)), shl(and(immediate, c32(3)), c32(6))));
		});
		const before = f.let(library.flags);
		const result = f.let(callExpr(toIntegral(t, library), a, control));
		f.if(and(immediate, c32(8)), () => {
			const invalid = f.let(and(library.flags, c32(IE)));
			library.clearFlags(f);
			library.raise(f, or(before, invalid));
		});
		f.return(result);
		f.unreachable();
	});
}

/** (a) → about 1/a, to 12 bits; no exceptions. */
export function reciprocal(library: FloatLibrary): Func {
	return library.fn("f32.reciprocal", ["i64"], "i64", (f) => {
		const a = f.param(0);
		const sign = f.let(signOf(F32, a));
		f.if(isNan(F32, a), () => f.return(or(a, c64(quietBit(F32)))));
		f.if(ltU(magnitude(F32, a), c64(1n << 23n)), () => f.return(or(zeroOf(F32, sign), c64(infinity(F32)))));
		const quotient = op2("f32", [0x95], cf32(1), op1("f32", [0xbe], wrap(a)));
		f.return(approximate(f, sign, quotient));
		f.unreachable();
	});
}

/** (a) → about 1/sqrt(a), to 12 bits; no exceptions. */
export function reciprocalRoot(library: FloatLibrary): Func {
	return library.fn("f32.reciprocalRoot", ["i64"], "i64", (f) => {
		const a = f.param(0);
		const sign = f.let(signOf(F32, a));
		f.if(isNan(F32, a), () => f.return(or(a, c64(quietBit(F32)))));
		f.if(ltU(magnitude(F32, a), c64(1n << 23n)), () => f.return(or(zeroOf(F32, sign), c64(infinity(F32)))));
		f.if(sign, () => f.return(c64(indefinite(F32))));
		const root = op1("f32", [0x91], op1("f32", [0xbe], wrap(a)));
		f.return(approximate(f, sign, op2("f32", [0x95], cf32(1), root)));
		f.unreachable();
	});
}

/** An f32 cut to 12 bits of fraction, denormals to zero. */
function approximate(f: Func, sign: Expr, value: Expr): Expr {
	const bits = f.let(extU(op1("i32", [0xbc], value)));
	const cut = and(add(bits, c64(0x400)), c64(~0x7ffn & 0xffff_ffffn));
	return select(ltU(magnitude(F32, bits), c64(1n << 23n)), zeroOf(F32, sign), cut);
}

/** (a, control) → rounded to an integral value in the same format; reports PE. */
export function toIntegral(t: Format, library: FloatLibrary): Func {
	return library.fn(`${t.name}.toIntegral`, ["i64", "i32"], "i64", (f) => {
		const [a, control] = [f.param(0), f.param(1)];
		flushInput(t, f, a, control);
		f.if(isNan(t, a), () => returnNaN(t, library, f, a, a));
		f.if(or(isZero(t, a), geU(exponentOf(t, a), c32(t.bias + t.fraction))), () => f.return(a));
		const sign = f.let(signOf(t, a));
		const x = normalise(t, f, a);
		const whole = f.let(callExpr(integerPart(library), sign, x.exponent, x.significand, control));
		f.if(eqz(whole), () => f.return(zeroOf(t, sign)));
		const zeros = f.let(leadingZeros(whole));
		f.return(callExpr(round(t, library), sign, sub(c32(63), zeros), shl(whole, extU(zeros)), control));
		f.unreachable();
	});
}
