import type { Cpu } from "../cpu/cpu.ts";
import { BIAS } from "./extended.ts";
import {
	bitLength,
	denormalFlag,
	type Extended,
	INDEFINITE,
	infinity,
	isDenormal,
	isInfinite,
	isNegative,
	isZero,
	lowExponent,
	type Rounded,
	roundNumber,
	specialResult,
	zero,
} from "./extended-number.ts";
import {
	atanhOver,
	atanOf,
	atanOver,
	cosOf,
	divide,
	expm1Over,
	F,
	LN2,
	multiply,
	naturalLog,
	PI,
	sinOver,
	UNIT,
} from "./fixed-point.ts";
import { IE, PE, UE, ZE } from "./library.ts";

/** The x87's elementary functions, rounded correctly: the exact value is known far beyond 64 bits. */

const exactly = (value: Extended, flags = 0): Rounded => ({ ...value, flags });
const INVALID: Rounded = { ...INDEFINITE, flags: IE };

/** The magnitude of a finite number in fixed point; what lies below 2^-F is lost. */
function fixed(a: Extended): bigint {
	const shift = lowExponent(a) + F;
	return shift >= 0 ? a.significand << BigInt(shift) : a.significand >> BigInt(-shift);
}

/** A factor that is less than 1, however little of that shows. */
const below = (factor: bigint): bigint => (factor >= UNIT ? UNIT - 1n : factor);

/** Rounds a * factor, where factor is a positive fixed-point number that is not exact. */
function scaled(cpu: Cpu, negative: boolean, a: Extended, factor: bigint, flags: number): Rounded {
	const result = roundNumber(cpu, negative, a.significand * factor, lowExponent(a) - F, true);
	return { ...result, flags: result.flags | flags };
}

/** Rounds a positive fixed-point number that is not exact. */
function fromFixed(cpu: Cpu, negative: boolean, value: bigint, flags: number): Rounded {
	const result = roundNumber(cpu, negative, value, -F, true);
	return { ...result, flags: result.flags | flags };
}

/** 2^x - 1. Outside -1..1 the architecture says nothing; the operand stays. */
export function powerOfTwoMinusOne(cpu: Cpu, x: Extended): Rounded {
	const special = specialResult(x);
	if (special !== undefined) return special;
	if (isZero(x)) return exactly(x);
	const negative = isNegative(x);
	if (isInfinite(x)) return exactly(negative ? { significand: 1n << 63n, se: 0x8000 | BIAS } : x);
	const exponent = x.se & 0x7fff;
	if (exponent === BIAS && x.significand === 1n << 63n)
		return exactly(negative ? { significand: 1n << 63n, se: 0x8000 | (BIAS - 1) } : x, PE);
	if (exponent >= BIAS) return exactly(x, PE);
	const t = multiply(negative ? -fixed(x) : fixed(x), LN2);
	return scaled(cpu, negative, x, multiply(LN2, expm1Over(t)), denormalFlag(x));
}

/** log2 of a positive number: an integer part, and a fixed-point rest that is 0 for powers of two. */
function log2(significand: bigint, exponent: number): { whole: number; rest: bigint } {
	const length = bitLength(significand);
	let whole = exponent + length - 1;
	let m = length - 1 > F ? significand >> BigInt(length - 1 - F) : significand << BigInt(F - length + 1);
	if (m === UNIT) return { whole, rest: 0n };
	// Between sqrt(1/2) and sqrt(2), about.
	if (m > (UNIT * 3n) / 2n - UNIT / 12n) {
		m >>= 1n;
		whole++;
	}
	return { whole, rest: divide(naturalLog(m), LN2) };
}

/** y * (whole + rest). */
function timesLog(cpu: Cpu, y: Extended, whole: number, rest: bigint, flags: number): Rounded {
	const value = BigInt(whole) * UNIT + rest;
	if (value === 0n) return exactly(zero(isNegative(y)), flags);
	const negative = isNegative(y) !== value < 0n;
	const magnitude = y.significand * (value < 0n ? -value : value);
	const result = roundNumber(cpu, negative, magnitude, lowExponent(y) - F, rest !== 0n);
	return { ...result, flags: result.flags | flags };
}

/** y * log2(x). */
export function logarithm(cpu: Cpu, x: Extended, y: Extended): Rounded {
	const special = specialResult(x, y);
	if (special !== undefined) return special;
	if (isZero(x)) {
		if (isZero(y)) return INVALID;
		if (isInfinite(y)) return exactly(infinity(!isNegative(y)));
		return exactly(infinity(!isNegative(y)), ZE);
	}
	if (isNegative(x)) return INVALID;
	const flags = denormalFlag(x, y);
	if (isInfinite(x)) return isZero(y) ? INVALID : exactly(infinity(isNegative(y)), flags);
	const { whole, rest } = log2(x.significand, lowExponent(x));
	if (isInfinite(y)) {
		if (whole === 0 && rest === 0n) return INVALID;
		const isBelow = whole < 0 || (whole === 0 && rest < 0n);
		return exactly(infinity(isNegative(y) !== isBelow), flags);
	}
	if (isZero(y)) {
		const isBelow = whole < 0 || (whole === 0 && rest < 0n);
		return exactly(zero(isNegative(y) !== isBelow), flags);
	}
	return timesLog(cpu, y, whole, rest, flags);
}

/** y * log2(x + 1). */
export function logarithmPlusOne(cpu: Cpu, x: Extended, y: Extended): Rounded {
	const special = specialResult(x, y);
	if (special !== undefined) return special;
	const flags = denormalFlag(x, y);
	const negative = isNegative(x) !== isNegative(y);
	if (isZero(x)) return isInfinite(y) ? INVALID : exactly(zero(negative), flags);
	if (isInfinite(x)) {
		if (isNegative(x) || isZero(y)) return INVALID;
		return exactly(infinity(isNegative(y)), flags);
	}
	if (isInfinite(y)) return exactly(infinity(negative), flags);
	if (isZero(y)) return exactly(zero(negative), flags);
	if ((x.se & 0x7fff) < BIAS - 1) {
		// Small: x times a factor, so that nothing is lost however small it is.
		const value = isNegative(x) ? -fixed(x) : fixed(x);
		const z = divide(value, 2n * UNIT + value);
		const factor = divide(divide(2n * atanhOver(z), 2n * UNIT + value), LN2);
		const magnitude = x.significand * y.significand * factor;
		const result = roundNumber(cpu, negative, magnitude, lowExponent(x) + lowExponent(y) - F, true);
		return { ...result, flags: result.flags | flags };
	}
	const low = lowExponent(x);
	const one = low <= 0 ? 1n << BigInt(-low) : 0n;
	const sum = isNegative(x) ? one - x.significand : one + x.significand;
	if (sum <= 0n) return exactly(x, flags | PE);
	const { whole, rest } = log2(sum, low);
	const result = timesLog(cpu, y, whole, rest, flags);
	// Told to be inexact even where it is not, and so to underflow where it is denormal.
	return { ...result, flags: result.flags | (isDenormal(result) ? PE | UE : PE) };
}

/** atan(y / x) in the quadrant of the point (x, y). */
export function arctangent(cpu: Cpu, x: Extended, y: Extended): Rounded {
	const special = specialResult(x, y);
	if (special !== undefined) return special;
	const flags = denormalFlag(x, y);
	const negative = isNegative(y);
	const left = isNegative(x);
	const angle = (value: bigint): Rounded => fromFixed(cpu, negative, value, flags);
	if (isInfinite(y)) return angle(isInfinite(x) ? (left ? (3n * PI) / 4n : PI / 4n) : PI / 2n);
	if (isZero(y)) return left ? angle(PI) : exactly(zero(negative), flags);
	if (isInfinite(x)) return left ? angle(PI) : exactly(zero(negative), flags);
	if (isZero(x)) return angle(PI / 2n);
	const yLow = lowExponent(y);
	const xLow = lowExponent(x);
	const yTop = bitLength(y.significand) + yLow;
	const xTop = bitLength(x.significand) + xLow;
	/** (a / b) in fixed point, of numbers whose quotient is 2 at most. */
	const quotient = (a: Extended, aLow: number, b: Extended, bLow: number): bigint => {
		const shift = F + aLow - bLow;
		if (shift >= 0) return (a.significand << BigInt(shift)) / b.significand;
		return a.significand / (b.significand << BigInt(-shift));
	};
	const smaller = yTop < xTop || (yTop === xTop && compareAligned(y, x) <= 0);
	if (smaller) {
		if (!left && yTop < xTop - 8) {
			// Small: the quotient itself times a factor.
			const q = quotient(y, yLow, x, xLow);
			const magnitude = ((y.significand << 256n) / x.significand) * below(atanOver(q));
			const result = roundNumber(cpu, negative, magnitude, yLow - xLow - 256 - F, true);
			return { ...result, flags: result.flags | flags };
		}
		const a = atanOf(quotient(y, yLow, x, xLow));
		return angle(left ? PI - a : a);
	}
	const a = atanOf(quotient(x, xLow, y, yLow));
	return angle(left ? PI / 2n + a : PI / 2n - a);
}

/** Compares significands of numbers of the same magnitude class. */
function compareAligned(a: Extended, b: Extended): number {
	const x = a.significand << BigInt(64 - bitLength(a.significand));
	const y = b.significand << BigInt(64 - bitLength(b.significand));
	return x < y ? -1 : x > y ? 1 : 0;
}

/** The 66 bits of pi that every x87 reduces its arguments with. */
const REDUCTION_PI = 0xc90f_daa2_2168_c234cn << BigInt(F - 66);

/** The circular functions of one argument, its quadrant found once. */
export interface Circular {
	readonly sine: () => Rounded;
	readonly cosine: () => Rounded;
	readonly tangent: () => Rounded;
}

/** Undefined for arguments of 2^63 and more. */
export function circular(cpu: Cpu, x: Extended): Circular | undefined {
	const special = specialResult(x) ?? (isInfinite(x) ? INVALID : undefined);
	if (special !== undefined) return { sine: () => special, cosine: () => special, tangent: () => special };
	if (isZero(x)) {
		const one = exactly({ significand: 1n << 63n, se: BIAS });
		return { sine: () => exactly(x), cosine: () => one, tangent: () => exactly(x) };
	}
	if ((x.se & 0x7fff) >= BIAS + 63) return undefined;
	const flags = denormalFlag(x);
	const negative = isNegative(x);
	const magnitude = fixed(x);
	const halfPi = REDUCTION_PI / 2n;
	const quadrants = (magnitude + halfPi / 2n) / halfPi;
	const rest = magnitude - quadrants * halfPi;
	const square = multiply(rest, rest);
	const quadrant = Number(quadrants & 3n);
	/** sin(rest): x itself times a factor while it is small. */
	const sineOfRest = (outerNegative: boolean): Rounded => {
		if (quadrants === 0n) return scaled(cpu, outerNegative, x, below(sinOver(square)), flags);
		const value = multiply(rest, sinOver(square));
		return fromFixed(cpu, outerNegative !== value < 0n, value < 0n ? -value : value, flags);
	};
	const cosineOfRest = (outerNegative: boolean): Rounded => {
		const value = cosOf(square);
		return fromFixed(cpu, outerNegative, below(value), flags);
	};
	return {
		sine: () => {
			const turned = negative !== quadrant >= 2;
			return quadrant % 2 === 0 ? sineOfRest(turned) : cosineOfRest(turned);
		},
		cosine: () => {
			if (quadrant % 2 === 0) return cosineOfRest(quadrant === 2);
			return sineOfRest(quadrant === 1);
		},
		tangent: () => {
			if (quadrants === 0n) return scaled(cpu, negative, x, divide(sinOver(square), cosOf(square)), flags);
			const sine = multiply(rest, sinOver(square));
			const value = quadrant % 2 === 0 ? divide(sine, cosOf(square)) : divide(-cosOf(square), sine);
			return fromFixed(cpu, negative !== value < 0n, value < 0n ? -value : value, flags);
		},
	};
}
