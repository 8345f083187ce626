import type { Cpu } from "../cpu/cpu.ts";
import { FCW } from "../cpu/layout.ts";
import { BIAS, INDEFINITE_SE, INDEFINITE_SIGNIFICAND } from "./extended.ts";
import { DE, IE, OE, PE, UE, UP } from "./library.ts";

/** 80-bit numbers in TypeScript, for the instructions that are too rare or too long for generated code. */

/** A number as the register holds it. */
export interface Extended {
	readonly significand: bigint;
	/** Sign in bit 15, exponent below. */
	readonly se: number;
}

/** A number with the exceptions that made it. */
export interface Rounded extends Extended {
	readonly flags: number;
}

export const INDEFINITE: Extended = { significand: INDEFINITE_SIGNIFICAND, se: INDEFINITE_SE };
export const ONE: Extended = { significand: 1n << 63n, se: BIAS };
const TOP = 1n << 63n;
const QUIET = 1n << 62n;
const MAX = 0x7fff;
const WRAP = 24576;

export const isNegative = (a: Extended): boolean => (a.se & 0x8000) !== 0;
export const isZero = (a: Extended): boolean => (a.se & MAX) === 0 && a.significand === 0n;
export const isInfinite = (a: Extended): boolean => (a.se & MAX) === MAX && a.significand === TOP;
export const isUnsupported = (a: Extended): boolean => (a.se & MAX) !== 0 && a.significand < TOP;
export const isNaNumber = (a: Extended): boolean => (a.se & MAX) === MAX && a.significand > TOP;
export const isDenormal = (a: Extended): boolean => (a.se & MAX) === 0 && a.significand !== 0n;
export const zero = (negative: boolean): Extended => ({ significand: 0n, se: negative ? 0x8000 : 0 });
export const infinity = (negative: boolean): Extended => ({ significand: TOP, se: negative ? 0xffff : MAX });
/** Exponent of the significand's lowest bit. */
export const lowExponent = (a: Extended): number => Math.max(a.se & MAX, 1) - BIAS - 63;

/** What unsupported operands and NaNs give, or undefined when there are none: quiet first, then the larger. */
export function specialResult(...operands: readonly Extended[]): Rounded | undefined {
	if (operands.some(isUnsupported)) return { ...INDEFINITE, flags: IE };
	const nans = operands.filter(isNaNumber);
	if (nans.length === 0) return undefined;
	const isQuiet = (a: Extended): boolean => (a.significand & QUIET) !== 0n;
	const flags = nans.every(isQuiet) ? 0 : IE;
	const quiet = nans.filter(isQuiet);
	const candidates = quiet.length === 0 ? nans : quiet;
	const chosen = candidates.reduce((a, b) => {
		if (a.significand !== b.significand) return a.significand > b.significand ? a : b;
		return a.se <= b.se ? a : b;
	});
	return { significand: chosen.significand | QUIET, se: chosen.se, flags };
}

/** DE when one of the operands is denormal. */
export const denormalFlag = (...operands: readonly Extended[]): number => (operands.some(isDenormal) ? DE : 0);

/** Bits of a positive bigint. */
export function bitLength(value: bigint): number {
	return value === 0n
		? 0
		: value.toString(16).length * 4 - Math.clz32(Number.parseInt(value.toString(16)[0]!, 16)) + 28;
}

/** Rounding mode of FCW: 0 nearest, 1 down, 2 up, 3 towards zero. */
export const roundingMode = (cpu: Cpu): number => (cpu.get32(FCW) >> 10) & 3;

/** Whether rounding adds one unit, from the dropped bits compared with half a unit (-1, 0, 1; undefined: nothing dropped). */
export function addsUnit(mode: number, negative: boolean, half: number | undefined, odd: boolean): boolean {
	if (half === undefined) return false;
	if (mode === 0) return half > 0 || (half === 0 && odd);
	return mode === (negative ? 1 : 2);
}

/**
 * Rounds magnitude * 2^exponent, plus less than one unit of the magnitude when `more`, to 64 bits of significand.
 *
 * @param magnitude - positive
 */
export function roundNumber(cpu: Cpu, negative: boolean, magnitude: bigint, exponent: number, more: boolean): Rounded {
	const masks = cpu.get32(FCW);
	const mode = roundingMode(cpu);
	const sign = negative ? 0x8000 : 0;
	/** Drops everything below bit `drop`. */
	const cut = (drop: number): { kept: bigint; up: boolean; inexact: boolean } => {
		if (drop <= 0) {
			const kept = magnitude << BigInt(-drop);
			const up = addsUnit(mode, negative, more ? -1 : undefined, false);
			return { kept: up ? kept + 1n : kept, up, inexact: more };
		}
		const kept = magnitude >> BigInt(drop);
		const rest = magnitude - (kept << BigInt(drop));
		const middle = 1n << BigInt(drop - 1);
		let half: number | undefined;
		if (rest !== 0n || more) half = rest > middle || (rest === middle && more) ? 1 : rest === middle ? 0 : -1;
		const up = addsUnit(mode, negative, half, (kept & 1n) === 1n);
		return { kept: up ? kept + 1n : kept, up, inexact: half !== undefined };
	};
	const length = bitLength(magnitude);
	let biased = exponent + length - 1 + BIAS;
	let flags = 0;
	const whole = cut(length - 64);
	const carries = whole.kept >> 64n === 1n;
	if (biased < 1 && !(biased === 0 && carries)) {
		if ((masks & UE) === 0) {
			flags |= UE;
			biased += WRAP;
			// Beyond even the wrapped range, where only FSCALE gets.
			if (biased < 1) return { ...zero(negative), flags: flags | PE };
		} else {
			const low = cut(length - 64 + 1 - biased);
			if (low.inexact) flags |= UE | PE;
			if (low.up) flags |= UP;
			return { significand: low.kept, se: sign | Number(low.kept >> 63n), flags };
		}
	}
	if (whole.inexact) flags |= PE;
	if (whole.up) flags |= UP;
	let significand = whole.kept;
	if (carries) {
		significand >>= 1n;
		biased++;
	}
	if (biased >= MAX) {
		if ((masks & OE) === 0) {
			flags |= OE;
			biased -= WRAP;
			if (biased >= MAX) return { ...infinity(negative), flags: flags | PE | UP };
		} else {
			const away = addsUnit(mode, negative, 1, false);
			flags = (flags & ~UP) | OE | PE | (away ? UP : 0);
			if (away) return { ...infinity(negative), flags };
			return { significand: (1n << 64n) - 1n, se: sign | (MAX - 1), flags };
		}
	}
	return { significand, se: sign | (biased & MAX), flags };
}
