import {
	add,
	and,
	c32,
	c64,
	type Expr,
	eq,
	eqz,
	extU,
	geS,
	geU,
	gtU,
	ltS,
	ltU,
	mul,
	ne,
	or,
	select,
	shl,
	shrU,
	sub,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import { type Format, indefinite, round } from "./binary.ts";
import { DE, type FloatLibrary, IE, OE, PE, RESULT_SE, UE, UP, ZE } from "./library.ts";
import { divide128, integerPart, leadingZeros, mulHigh, roundsUp, second, squareRoot128, TOP } from "./wide.ts";

/**
 * The x87's 80-bit format. A number is its significand (i64) and a word of sign (bit 15) and exponent (bits 0 to 14);
 * bit 16 of that word marks an operand that was denormal in the narrower format it came from, bit 17 asks an addition
 * to negate it. Results are the significand returned and the word in RESULT_SE.
 */

export const BIAS = 16383;
const MAX = 0x7fff;
const QUIET = 1n << 62n;
export const INDEFINITE_SIGNIFICAND: bigint = 3n << 62n;
export const INDEFINITE_SE = 0xffff;
/** Set in an operand's word: denormal before it was widened. */
export const WAS_DENORMAL = 0x1_0000;
/** Set in an addend's word: subtract it. */
export const NEGATE = 0x2_0000;
/** What unmasked overflow and underflow adjust the exponent by. */
const WRAP = 24576;

const exponentOf = (se: Expr): Expr => and(se, c32(MAX));
const signOf = (se: Expr): Expr => and(shrU(se, c32(15)), c32(1));
const isZero = (sig: Expr, se: Expr): Expr => eqz(or(sig, extU(exponentOf(se))));
/** An exponent without the integer bit that goes with it. */
const isUnsupported = (sig: Expr, se: Expr): Expr => and(ne(exponentOf(se), c32(0)), geS(sig, c64(0)));
const hasMaximum = (se: Expr): Expr => eq(exponentOf(se), c32(MAX));
const isInfinite = (sig: Expr, se: Expr): Expr => and(hasMaximum(se), eqz(shl(sig, c64(1))));
const isNan = (sig: Expr, se: Expr): Expr => and(hasMaximum(se), ne(shl(sig, c64(1)), c64(0)));
const isDenormal = (sig: Expr, se: Expr): Expr =>
	or(and(eqz(exponentOf(se)), ne(sig, c64(0))), and(se, c32(WAS_DENORMAL)));

function setSe(library: FloatLibrary, f: Func, se: Expr): void {
	library.setWord(f, RESULT_SE, se);
}

function returnNumber(library: FloatLibrary, f: Func, sig: Expr, se: Expr): void {
	setSe(library, f, se);
	f.return(sig);
}

function returnInvalid(library: FloatLibrary, f: Func): void {
	library.raise(f, IE);
	returnNumber(library, f, c64(INDEFINITE_SIGNIFICAND), c32(INDEFINITE_SE));
}

const returnInfinity = (library: FloatLibrary, f: Func, sign: Expr): void =>
	returnNumber(library, f, TOP, or(shl(sign, c32(15)), c32(MAX)));
const returnZero = (library: FloatLibrary, f: Func, sign: Expr): void =>
	returnNumber(library, f, c64(0), shl(sign, c32(15)));

/** Quiet before signalling, then the larger significand, then the positive one. */
function nanOfTwo(library: FloatLibrary): Func {
	return library.fn("x80.nan", ["i64", "i32", "i64", "i32"], "i64", (f) => {
		const [a, aSe, b, bSe] = [f.param(0), f.param(1), f.param(2), f.param(3)];
		const quietA = f.let(ne(and(a, c64(QUIET)), c64(0)));
		const quietB = f.let(ne(and(b, c64(QUIET)), c64(0)));
		const nanA = f.let(isNan(a, aSe));
		const nanB = f.let(isNan(b, bSe));
		const signallingA = and(nanA, eqz(quietA));
		const signallingB = and(nanB, eqz(quietB));
		f.if(or(signallingA, signallingB), () => library.raise(f, IE));
		const larger = or(gtU(a, b), and(eq(a, b), ltU(and(aSe, c32(0xffff)), and(bSe, c32(0xffff)))));
		const sameKind = eq(quietA, quietB);
		const first = select(and(nanA, nanB), select(sameKind, larger, quietA), nanA);
		const takeA = f.let(first);
		setSe(library, f, and(select(takeA, aSe, bSe), c32(0xffff)));
		f.return(or(select(takeA, a, b), c64(QUIET)));
		f.unreachable();
	});
}

/** Not zero when both are normal numbers: integer bits set, exponents not the greatest. */
function bothNormal(a: Expr, aSe: Expr, b: Expr, bSe: Expr): Expr {
	const belowMaximum = (se: Expr): Expr => ne(exponentOf(se), c32(MAX));
	const notZero = (se: Expr): Expr => ne(exponentOf(se), c32(0));
	const exponents = and(and(belowMaximum(aSe), belowMaximum(bSe)), and(notZero(aSe), notZero(bSe)));
	return and(and(ltS(and(a, b), c64(0)), exponents), eqz(and(or(aSe, bSe), c32(WAS_DENORMAL))));
}

/** Returns early for unsupported formats and NaNs. */
function specials(library: FloatLibrary, f: Func, a: Expr, aSe: Expr, b: Expr, bSe: Expr): void {
	f.if(or(isUnsupported(a, aSe), isUnsupported(b, bSe)), () => returnInvalid(library, f));
	f.if(or(isNan(a, aSe), isNan(b, bSe)), () => f.return(callExpr(nanOfTwo(library), a, aSe, b, bSe)));
}

function checkDenormal(library: FloatLibrary, f: Func, ...operands: readonly (readonly [Expr, Expr])[]): void {
	const any = operands.map(([sig, se]) => isDenormal(sig, se)).reduce((x, y) => or(x, y));
	f.if(any, () => library.raise(f, DE));
}

/** Unpacks a finite number that is not zero. */
function normalise(f: Func, sig: Expr, se: Expr): { significand: Expr; exponent: Expr } {
	const field = f.let(exponentOf(se));
	const zeros = f.let(leadingZeros(sig));
	return {
		significand: f.let(shl(sig, extU(zeros))),
		exponent: f.let(sub(sub(or(field, eqz(field)), c32(BIAS)), zeros)),
	};
}

/** (sign, exponent, significand, bits below it, control) → number, rounded to the control word's precision. */
export function roundExtended(library: FloatLibrary): Func {
	return library.fn("x80.round", ["i32", "i32", "i64", "i64", "i32"], "i64", (f) => {
		const [sign, exponent, sig, rest, control] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
		const drop = f.let(and(shrU(control, c32(16)), c32(63)));
		const drop64 = f.let(extU(drop));
		const kept = f.local("i64");
		const below = f.local("i64");
		const up = f.local("i32");
		const split = (): void => {
			f.set(kept, shrU(sig, drop64));
			const dropped = or(shl(sig, sub(c64(64), drop64)), extU(ne(rest, c64(0))));
			f.set(below, select(drop, dropped, rest));
			f.set(up, roundsUp(control, sign, below, wrap(and(kept, c64(1)))));
		};
		const inexact = (): void =>
			f.if(ne(below, c64(0)), () => library.raise(f, or(c32(PE), shl(up, c32(Math.log2(UP))))));
		f.set(exponent, add(exponent, c32(BIAS)));
		// To nearest, all 64 bits, far from both ends: what nearly always is asked.
		const ordinary = and(eqz(and(control, c32(0x3f_00c0))), ltU(sub(exponent, c32(1)), c32(MAX - 3)));
		f.if(ordinary, () => {
			f.set(up, or(gtU(rest, TOP), and(eq(rest, TOP), wrap(and(sig, c64(1))))));
			f.if(ne(rest, c64(0)), () => library.raise(f, or(c32(PE), shl(up, c32(Math.log2(UP))))));
			f.set(sig, add(sig, extU(up)));
			f.if(eqz(sig), () => {
				f.set(sig, TOP);
				f.set(exponent, add(exponent, c32(1)));
			});
			returnNumber(library, f, sig, or(shl(sign, c32(15)), exponent));
		});
		split();
		f.if(ltS(exponent, c32(1)), () => {
			const reaches = and(eqz(exponent), eqz(shl(add(kept, extU(up)), drop64)));
			const tiny = f.let(eqz(reaches));
			f.if(
				and(tiny, eqz(and(control, c32(UE)))),
				() => {
					library.raise(f, UE);
					f.set(exponent, add(exponent, c32(WRAP)));
				},
				() => {
					const shift = f.let(extU(sub(c32(1), exponent)));
					const sticky = (value: Expr): Expr => extU(ne(value, c64(0)));
					const back = f.let(sub(c64(64), shift));
					f.if(
						ltU(shift, c64(64)),
						() => {
							f.set(rest, or(or(shrU(rest, shift), shl(sig, back)), sticky(shl(rest, back))));
							f.set(sig, shrU(sig, shift));
						},
						() => {
							f.if(
								eq(shift, c64(64)),
								() => f.set(rest, or(sig, sticky(rest))),
								() => {
									const near = or(shrU(sig, sub(shift, c64(64))), sticky(or(shl(sig, sub(c64(128), shift)), rest)));
									f.set(rest, select(ltU(shift, c64(128)), near, sticky(or(sig, rest))));
								},
							);
							f.set(sig, c64(0));
						},
					);
					split();
					f.if(and(tiny, ne(below, c64(0))), () => library.raise(f, UE));
					inexact();
					f.set(sig, shl(add(kept, extU(up)), drop64));
					returnNumber(library, f, sig, or(shl(sign, c32(15)), wrap(shrU(sig, c64(63)))));
				},
			);
		});
		inexact();
		f.set(sig, shl(add(kept, extU(up)), drop64));
		f.if(eqz(sig), () => {
			f.set(sig, TOP);
			f.set(exponent, add(exponent, c32(1)));
		});
		f.if(geS(exponent, c32(MAX)), () => {
			f.if(
				and(control, c32(OE)),
				() => {
					const away = f.let(roundsUp(control, sign, c64(-1), c32(0)));
					library.raise(f, or(c32(OE | PE), shl(away, c32(Math.log2(UP)))));
					f.set(sig, select(away, TOP, shl(c64(-1), drop64)));
					f.set(exponent, add(c32(MAX - 1), away));
				},
				() => {
					library.raise(f, OE);
					f.set(exponent, sub(exponent, c32(WRAP)));
				},
			);
		});
		returnNumber(library, f, sig, or(shl(sign, c32(15)), and(exponent, c32(MAX))));
		f.unreachable();
	});
}

type Operation = (library: FloatLibrary) => Func;

function binaryOperation(
	name: string,
	build: (library: FloatLibrary, f: Func, a: Expr, aSe: Expr, b: Expr, bSe: Expr, control: Expr, normal: Expr) => void,
): Operation {
	return (library) =>
		library.fn(`x80.${name}`, ["i64", "i32", "i64", "i32", "i32"], "i64", (f) => {
			const [a, aSe, b, bSe, control] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
			const normal = f.let(bothNormal(a, aSe, b, bSe));
			f.if(eqz(normal), () => specials(library, f, a, aSe, b, bSe));
			build(library, f, a, aSe, b, bSe, control, normal);
			f.unreachable();
		});
}

/** a + b, or a - b when b's word says so. */
export const addExtended: Operation = binaryOperation("add", (library, f, a, aSe, b, bSe, control, normal) => {
	f.set(bSe, xor(bSe, shl(and(shrU(bSe, c32(17)), c32(1)), c32(15))));
	const opposite = f.let(signOf(xor(aSe, bSe)));
	f.if(eqz(normal), () => {
		f.if(or(hasMaximum(aSe), hasMaximum(bSe)), () => {
			f.if(and(and(hasMaximum(aSe), hasMaximum(bSe)), opposite), () => returnInvalid(library, f));
			checkDenormal(library, f, [a, aSe], [b, bSe]);
			returnInfinity(library, f, signOf(select(hasMaximum(aSe), aSe, bSe)));
		});
		checkDenormal(library, f, [a, aSe], [b, bSe]);
	});
	const fieldOf = (se: Expr): Expr => {
		const field = f.let(exponentOf(se));
		return f.let(or(field, eqz(field)));
	};
	const exponentA = fieldOf(aSe);
	const exponentB = fieldOf(bSe);
	f.if(or(ltU(exponentA, exponentB), and(eq(exponentA, exponentB), ltU(a, b))), () => {
		const swap = (x: Expr, y: Expr): void => {
			const old = f.let(x);
			f.set(x, y);
			f.set(y, old);
		};
		swap(a, b);
		swap(aSe, bSe);
		swap(exponentA, exponentB);
	});
	const shift = f.let(extU(sub(exponentA, exponentB)));
	const low = f.local("i64");
	f.if(ne(shift, c64(0)), () => {
		f.if(
			ltU(shift, c64(64)),
			() => {
				f.set(low, shl(b, sub(c64(64), shift)));
				f.set(b, shrU(b, shift));
			},
			() => {
				const beyond = f.let(sub(shift, c64(64)));
				const lost = ne(shl(b, sub(c64(64), beyond)), c64(0));
				const near = or(shrU(b, beyond), extU(and(lost, ne(beyond, c64(0)))));
				f.set(low, select(ltU(beyond, c64(64)), near, extU(ne(b, c64(0)))));
				f.set(b, c64(0));
			},
		);
	});
	const high = f.local("i64");
	const sign = f.let(signOf(aSe));
	f.set(exponentA, sub(exponentA, c32(BIAS)));
	f.if(
		opposite,
		() => {
			f.set(high, sub(sub(a, b), extU(ne(low, c64(0)))));
			f.set(low, sub(c64(0), low));
			f.if(eqz(or(high, low)), () => returnZero(library, f, eq(and(control, c32(0xc0)), c32(0x40))));
		},
		() => {
			f.set(high, add(a, b));
			f.if(ltU(high, a), () => {
				f.set(low, or(or(shrU(low, c64(1)), and(low, c64(1))), shl(high, c64(63))));
				f.set(high, or(shrU(high, c64(1)), TOP));
				f.set(exponentA, add(exponentA, c32(1)));
			});
			f.if(eqz(or(high, low)), () => returnZero(library, f, sign));
		},
	);
	f.if(eqz(high), () => {
		f.set(high, low);
		f.set(low, c64(0));
		f.set(exponentA, sub(exponentA, c32(64)));
	});
	const zeros = f.let(leadingZeros(high));
	f.if(zeros, () => {
		f.set(high, or(shl(high, extU(zeros)), shrU(low, extU(sub(c32(64), zeros)))));
		f.set(low, shl(low, extU(zeros)));
		f.set(exponentA, sub(exponentA, zeros));
	});
	f.return(callExpr(roundExtended(library), sign, exponentA, high, low, control));
});

export const multiplyExtended: Operation = binaryOperation("mul", (library, f, a, aSe, b, bSe, control, normal) => {
	const sign = f.let(signOf(xor(aSe, bSe)));
	f.if(eqz(normal), () => {
		f.if(or(hasMaximum(aSe), hasMaximum(bSe)), () => {
			f.if(or(isZero(a, aSe), isZero(b, bSe)), () => returnInvalid(library, f));
			checkDenormal(library, f, [a, aSe], [b, bSe]);
			returnInfinity(library, f, sign);
		});
		checkDenormal(library, f, [a, aSe], [b, bSe]);
		f.if(or(isZero(a, aSe), isZero(b, bSe)), () => returnZero(library, f, sign));
	});
	const x = normalise(f, a, aSe);
	const y = normalise(f, b, bSe);
	const high = f.let(callExpr(mulHigh(library), x.significand, y.significand));
	const low = f.let(mul(x.significand, y.significand));
	const exponent = f.let(add(add(x.exponent, y.exponent), c32(1)));
	f.if(geS(high, c64(0)), () => {
		f.set(high, or(shl(high, c64(1)), shrU(low, c64(63))));
		f.set(low, shl(low, c64(1)));
		f.set(exponent, sub(exponent, c32(1)));
	});
	f.return(callExpr(roundExtended(library), sign, exponent, high, low, control));
});

export const divideExtended: Operation = binaryOperation("div", (library, f, a, aSe, b, bSe, control, normal) => {
	const sign = f.let(signOf(xor(aSe, bSe)));
	f.if(eqz(normal), () => {
		f.if(hasMaximum(aSe), () => {
			f.if(hasMaximum(bSe), () => returnInvalid(library, f));
			checkDenormal(library, f, [b, bSe]);
			returnInfinity(library, f, sign);
		});
		f.if(hasMaximum(bSe), () => {
			checkDenormal(library, f, [a, aSe]);
			returnZero(library, f, sign);
		});
		f.if(isZero(b, bSe), () => {
			f.if(isZero(a, aSe), () => returnInvalid(library, f));
			library.raise(f, ZE);
			returnInfinity(library, f, sign);
		});
		checkDenormal(library, f, [a, aSe], [b, bSe]);
		f.if(isZero(a, aSe), () => returnZero(library, f, sign));
	});
	const x = normalise(f, a, aSe);
	const y = normalise(f, b, bSe);
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
	const remainder = f.let(second(library));
	const other = f.let(sub(y.significand, remainder));
	const half = shl(extU(geU(remainder, other)), c64(63));
	const more = extU(and(ne(remainder, c64(0)), ne(remainder, other)));
	f.return(callExpr(roundExtended(library), sign, exponent, quotient, or(half, more), control));
});

/** (significand, word, control) → square root. */
export function squareRootExtended(library: FloatLibrary): Func {
	return library.fn("x80.sqrt", ["i64", "i32", "i32"], "i64", (f) => {
		const [a, aSe, control] = [f.param(0), f.param(1), f.param(2)];
		specials(library, f, a, aSe, a, aSe);
		f.if(isZero(a, aSe), () => returnNumber(library, f, a, aSe));
		f.if(signOf(aSe), () => returnInvalid(library, f));
		f.if(hasMaximum(aSe), () => returnNumber(library, f, a, aSe));
		checkDenormal(library, f, [a, aSe]);
		const x = normalise(f, a, aSe);
		const odd = f.let(and(x.exponent, c32(1)));
		const high = select(odd, x.significand, shrU(x.significand, c64(1)));
		const low = select(odd, c64(0), shl(x.significand, c64(63)));
		const root = f.let(callExpr(squareRoot128(library), high, low));
		const exponent: Expr = { type: "i32", code: [...x.exponent.code, ...c32(1).code, 0x75] };
		f.return(callExpr(roundExtended(library), c32(0), exponent, root, second(library), control));
		f.unreachable();
	});
}

/** (a, word, b, word, signals) → 0 greater, 1 less, 2 equal, 3 unordered. */
export function compareExtended(library: FloatLibrary): Func {
	return library.fn("x80.compare", ["i64", "i32", "i64", "i32", "i32"], "i32", (f) => {
		const [a, aSe, b, bSe, signals] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
		f.if(or(isUnsupported(a, aSe), isUnsupported(b, bSe)), () => {
			library.raise(f, IE);
			f.return(c32(3));
		});
		f.if(or(isNan(a, aSe), isNan(b, bSe)), () => {
			const signalling = (sig: Expr, se: Expr): Expr => and(isNan(sig, se), eqz(and(sig, c64(QUIET))));
			f.if(or(signals, or(signalling(a, aSe), signalling(b, bSe))), () => library.raise(f, IE));
			f.return(c32(3));
		});
		checkDenormal(library, f, [a, aSe], [b, bSe]);
		f.if(and(isZero(a, aSe), isZero(b, bSe)), () => f.return(c32(2)));
		f.if(signOf(xor(aSe, bSe)), () => f.return(signOf(aSe)));
		// A pseudo-denormal's exponent counts as 1.
		const fieldOf = (se: Expr): Expr => {
			const field = f.let(exponentOf(se));
			return f.let(or(field, eqz(field)));
		};
		const x = fieldOf(aSe);
		const y = fieldOf(bSe);
		f.if(and(eq(x, y), eq(a, b)), () => f.return(c32(2)));
		const less = or(ltU(x, y), and(eq(x, y), ltU(a, b)));
		f.return(xor(less, signOf(aSe)));
		f.unreachable();
	});
}

/** (significand, word, control) → rounded to an integral value. */
export function toIntegralExtended(library: FloatLibrary): Func {
	return library.fn("x80.toIntegral", ["i64", "i32", "i32"], "i64", (f) => {
		const [a, aSe, control] = [f.param(0), f.param(1), f.param(2)];
		specials(library, f, a, aSe, a, aSe);
		f.if(or(isZero(a, aSe), geU(exponentOf(aSe), c32(BIAS + 63))), () => returnNumber(library, f, a, aSe));
		checkDenormal(library, f, [a, aSe]);
		const sign = f.let(signOf(aSe));
		const x = normalise(f, a, aSe);
		const whole = f.let(callExpr(integerPart(library), sign, x.exponent, x.significand, control));
		f.if(eqz(whole), () => returnZero(library, f, sign));
		const zeros = f.let(leadingZeros(whole));
		const se = or(shl(sign, c32(15)), sub(c32(BIAS + 63), zeros));
		returnNumber(library, f, shl(whole, extU(zeros)), se);
		f.unreachable();
	});
}

/** (significand, word, bits 16, 32 or 64, control) → signed integer, or the integer indefinite with IE. */
export function extendedToInteger(library: FloatLibrary): Func {
	return library.fn("x80.toInteger", ["i64", "i32", "i32", "i32"], "i64", (f) => {
		const [a, aSe, bits, control] = [f.param(0), f.param(1), f.param(2), f.param(3)];
		const limit = f.let(shl(c64(1), extU(sub(bits, c32(1)))));
		const invalid = (): void => {
			library.clearFlags(f, IE);
			f.return(sub(c64(0), limit));
		};
		f.if(isUnsupported(a, aSe), invalid);
		f.if(isZero(a, aSe), () => f.return(c64(0)));
		f.if(geU(exponentOf(aSe), c32(BIAS + 64)), invalid);
		const sign = f.let(signOf(aSe));
		const x = normalise(f, a, aSe);
		const whole = f.let(callExpr(integerPart(library), sign, x.exponent, x.significand, control));
		f.if(geU(whole, add(limit, extU(sign))), invalid);
		f.return(select(sign, sub(c64(0), whole), whole));
		f.unreachable();
	});
}

/** (significand, word, control) → bits of a narrower format. */
export function extendedTo(t: Format, library: FloatLibrary): Func {
	return library.fn(`x80.to.${t.name}`, ["i64", "i32", "i32"], "i64", (f) => {
		const [a, aSe, control] = [f.param(0), f.param(1), f.param(2)];
		const infinity = BigInt(t.max) << BigInt(t.fraction);
		const sign = f.let(shl(extU(signOf(aSe)), c64(t.size * 8 - 1)));
		f.if(isUnsupported(a, aSe), () => {
			library.raise(f, IE);
			f.return(c64(indefinite(t)));
		});
		f.if(isNan(a, aSe), () => {
			f.if(eqz(and(a, c64(QUIET))), () => library.raise(f, IE));
			const payload = and(shrU(a, c64(63 - t.fraction)), c64((1n << BigInt(t.fraction)) - 1n));
			f.return(or(or(sign, c64(infinity | (1n << BigInt(t.fraction - 1)))), payload));
		});
		f.if(isInfinite(a, aSe), () => f.return(or(sign, c64(infinity))));
		f.if(isZero(a, aSe), () => f.return(sign));
		const x = normalise(f, a, aSe);
		f.return(callExpr(round(t, library), signOf(aSe), x.exponent, x.significand, control));
		f.unreachable();
	});
}

/** (bits of a narrower format) → number, exactly; WAS_DENORMAL is set in its word when it was. */
export function extendedFrom(t: Format, library: FloatLibrary): Func {
	return library.fn(`x80.from.${t.name}`, ["i64"], "i64", (f) => {
		const a = f.param(0);
		const sign = f.let(shl(wrap(shrU(a, c64(t.size * 8 - 1))), c32(15)));
		const field = f.let(and(wrap(shrU(a, c64(t.fraction))), c32(t.max)));
		const fraction = f.let(shl(and(a, c64((1n << BigInt(t.fraction)) - 1n)), c64(63 - t.fraction)));
		f.if(eqz(field), () => {
			f.if(eqz(fraction), () => returnNumber(library, f, c64(0), sign));
			const zeros = f.let(leadingZeros(fraction));
			const se = or(or(sign, c32(WAS_DENORMAL)), sub(c32(BIAS + 1 - t.bias), zeros));
			returnNumber(library, f, shl(fraction, extU(zeros)), se);
		});
		const exponent = select(eq(field, c32(t.max)), c32(MAX), add(field, c32(BIAS - t.bias)));
		returnNumber(library, f, or(fraction, TOP), or(sign, exponent));
		f.unreachable();
	});
}

/** (signed 64-bit integer) → number, exactly. */
export function extendedFromInteger(library: FloatLibrary): Func {
	return library.fn("x80.fromInteger", ["i64"], "i64", (f) => {
		const a = f.param(0);
		f.if(eqz(a), () => returnZero(library, f, c32(0)));
		const sign = f.let(ltS(a, c64(0)));
		const absolute = f.let(select(sign, sub(c64(0), a), a));
		const zeros = f.let(leadingZeros(absolute));
		const se = or(shl(sign, c32(15)), sub(c32(BIAS + 63), zeros));
		returnNumber(library, f, shl(absolute, extU(zeros)), se);
		f.unreachable();
	});
}

/** (significand, word) → C3 C2 C1 C0 of FXAM for a register in use. */
export function examine(library: FloatLibrary): Func {
	return library.fn("x80.examine", ["i64", "i32"], "i32", (f) => {
		const [a, aSe] = [f.param(0), f.param(1)];
		const sign = f.let(shl(signOf(aSe), c32(9)));
		f.if(isZero(a, aSe), () => f.return(or(sign, c32(0x4000))));
		f.if(eqz(exponentOf(aSe)), () => f.return(or(sign, c32(0x4400))));
		f.if(isUnsupported(a, aSe), () => f.return(sign));
		f.if(isInfinite(a, aSe), () => f.return(or(sign, c32(0x500))));
		f.if(isNan(a, aSe), () => f.return(or(sign, c32(0x100))));
		f.return(or(sign, c32(0x400)));
		f.unreachable();
	});
}
