/** IEEE 754 rounding by exact rational arithmetic: what the generated functions are compared with. */

export const IE = 1;
export const DE = 2;
export const ZE = 4;
export const OE = 8;
export const UE = 16;
export const PE = 32;

export interface Shape {
	/** Bits of significand, the leading one included. */
	readonly precision: number;
	/** Exponent of the least normal number and of the greatest. */
	readonly least: number;
	readonly greatest: number;
	/** Bits that hold a subnormal's significand at the least exponent. */
	readonly room: number;
}

export const SINGLE: Shape = { precision: 24, least: -126, greatest: 127, room: 24 };
export const DOUBLE: Shape = { precision: 53, least: -1022, greatest: 1023, room: 53 };
export const extended = (precision: 24 | 53 | 64): Shape => ({
	precision,
	least: -16382,
	greatest: 16383,
	room: precision,
});

export type Mode = 0 | 1 | 2 | 3;

/** A finite number: sign, magnitude * 2^exponent; or infinity. */
export interface Value {
	readonly negative: boolean;
	readonly magnitude: bigint;
	readonly exponent: number;
	readonly infinite: boolean;
}

export interface Result extends Value {
	readonly flags: number;
}

/** floor(log2(n / d)). */
function logarithm(n: bigint, d: bigint): number {
	let guess = n.toString(2).length - d.toString(2).length;
	const atLeast = (e: number): boolean => (e >= 0 ? n >= d << BigInt(e) : n << BigInt(-e) >= d);
	while (!atLeast(guess)) guess--;
	while (atLeast(guess + 1)) guess++;
	return guess;
}

/** n / d in units of 2^unit, rounded; whether that was inexact and upwards. */
function toUnits(n: bigint, d: bigint, unit: number, mode: Mode, negative: boolean): [bigint, boolean] {
	const top = unit < 0 ? n << BigInt(-unit) : n;
	const bottom = unit > 0 ? d << BigInt(unit) : d;
	const floor = top / bottom;
	const rest = top - floor * bottom;
	if (rest === 0n) return [floor, false];
	let up: boolean;
	if (mode === 0) up = 2n * rest > bottom || (2n * rest === bottom && floor % 2n === 1n);
	else if (mode === 1) up = negative;
	else if (mode === 2) up = !negative;
	else up = false;
	return [up ? floor + 1n : floor, true];
}

/** Rounds n / d (both positive), all exceptions masked; tininess is found after rounding. */
export function round(n: bigint, d: bigint, negative: boolean, shape: Shape, mode: Mode): Result {
	const top = logarithm(n, d);
	const [free] = toUnits(n, d, top - shape.precision + 1, mode, negative);
	const carried = free === 1n << BigInt(shape.precision) ? top + 1 : top;
	const tiny = carried < shape.least;
	const unit = Math.max(top, shape.least) - shape.precision + 1;
	const [magnitude, inexact] = toUnits(n, d, unit, mode, negative);
	let flags = inexact ? PE : 0;
	if (tiny && inexact) flags |= UE;
	if (magnitude !== 0n && logarithm(magnitude, 1n) + unit > shape.greatest) {
		const finite = mode === 3 || mode === (negative ? 2 : 1);
		flags = OE | PE;
		if (!finite) return { negative, magnitude: 0n, exponent: 0, infinite: true, flags };
		const largest = (1n << BigInt(shape.precision)) - 1n;
		return { negative, magnitude: largest, exponent: shape.greatest - shape.precision + 1, infinite: false, flags };
	}
	return { negative, magnitude, exponent: unit, infinite: false, flags };
}

/** Brings equal values to one form. */
export function canonical(value: Value): string {
	if (value.infinite) return value.negative ? "-inf" : "+inf";
	let { magnitude, exponent } = value;
	if (magnitude === 0n) return value.negative ? "-0" : "+0";
	while (magnitude % 2n === 0n) {
		magnitude /= 2n;
		exponent++;
	}
	return `${value.negative ? "-" : "+"}${magnitude}p${exponent}`;
}

/** A value as n / d. */
export function rational(value: Value): [bigint, bigint] {
	return value.exponent >= 0
		? [value.magnitude << BigInt(value.exponent), 1n]
		: [value.magnitude, 1n << BigInt(-value.exponent)];
}

export type Operation = "add" | "sub" | "mul" | "div";

/** The operation on finite numbers; division only by numbers that are not zero. */
export function compute(op: Operation, a: Value, b: Value, shape: Shape, mode: Mode): Result {
	const [an, ad] = rational(a);
	const [bn, bd] = rational(b);
	const zero = (negative: boolean): Result => ({ negative, magnitude: 0n, exponent: 0, infinite: false, flags: 0 });
	if (op === "mul" || op === "div") {
		const negative = a.negative !== b.negative;
		const n = op === "mul" ? an * bn : an * bd;
		const d = op === "mul" ? ad * bd : ad * bn;
		return n === 0n ? zero(negative) : round(n, d, negative, shape, mode);
	}
	const bNegative = op === "sub" ? !b.negative : b.negative;
	const sum = (a.negative ? -an : an) * bd + (bNegative ? -bn : bn) * ad;
	if (sum === 0n) return zero(a.negative === bNegative ? a.negative : mode === 1);
	return round(sum < 0n ? -sum : sum, ad * bd, sum < 0n, shape, mode);
}

/** The square root of a positive number, to more bits than any format has, and an odd bit for what is left. */
export function root(a: Value): [bigint, bigint] {
	const [n, d] = rational(a);
	// sqrt(n/d) = sqrt(n*d) / d; scaled by 2^400.
	const scale = 400n;
	const target = (n * d) << (2n * scale);
	let x = 1n << BigInt(Math.ceil(target.toString(2).length / 2));
	for (;;) {
		const next = (x + target / x) >> 1n;
		if (next >= x) break;
		x = next;
	}
	if (x * x === target) return [x, d << scale];
	return [2n * x + 1n, d << (scale + 1n)];
}
