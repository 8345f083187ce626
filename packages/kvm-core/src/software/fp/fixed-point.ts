/**
 * Elementary functions in binary fixed point on bigint. Arguments and results are integers that stand for themselves
 * times 2^-F; errors are a few units of 2^-F.
 */

/** Bits behind the point. */
export const F = 320;
const SCALE = BigInt(F);
export const UNIT: bigint = 1n << SCALE;

export const multiply = (a: bigint, b: bigint): bigint => (a * b) >> SCALE;
export const divide = (a: bigint, b: bigint): bigint => (a << SCALE) / b;

/** Sum of x^n / divisor(n) over even powers given by their square, alternating or not. */
function oddSeries(square: bigint, sign: 1n | -1n): bigint {
	let power = UNIT;
	let sum = UNIT;
	for (let n = 3n; power !== 0n; n += 2n) {
		power = sign * multiply(power, square);
		sum += power / n;
		if (power === -1n) break;
	}
	return sum;
}

/** atanh(z) / z. */
export const atanhOver = (z: bigint): bigint => oddSeries(multiply(z, z), 1n);
/** atan(z) / z, for small z. */
export const atanOver = (z: bigint): bigint => oddSeries(multiply(z, z), -1n);

/** ln 2 = 2 atanh(1/3). */
export const LN2: bigint = (() => {
	const third = UNIT / 3n;
	return 2n * multiply(third, atanhOver(third));
})();

/** pi, by Machin's formula. */
export const PI: bigint = (() => {
	const inverse = (n: bigint): bigint => multiply(UNIT / n, atanOver(UNIT / n));
	return 4n * (4n * inverse(5n) - inverse(239n));
})();

/** (e^t - 1) / t. */
export function expm1Over(t: bigint): bigint {
	let term = UNIT;
	let sum = UNIT;
	for (let n = 2n; term !== 0n && term !== -1n; n++) {
		term = multiply(term, t) / n;
		sum += term;
	}
	return sum;
}

/** sin(r) / r from r squared. */
export function sinOver(square: bigint): bigint {
	let term = UNIT;
	let sum = UNIT;
	for (let n = 2n; term !== 0n && term !== -1n; n += 2n) {
		term = -multiply(term, square) / (n * (n + 1n));
		sum += term;
	}
	return sum;
}

/** cos(r) from r squared. */
export function cosOf(square: bigint): bigint {
	let term = UNIT;
	let sum = UNIT;
	for (let n = 1n; term !== 0n && term !== -1n; n += 2n) {
		term = -multiply(term, square) / (n * (n + 1n));
		sum += term;
	}
	return sum;
}

/** ln(m) for m between 1/2 and 2, to a relative error far below 2^-128 however near 1 it is. */
export function naturalLog(m: bigint): bigint {
	const z = divide(m - UNIT, m + UNIT);
	return 2n * multiply(z, atanhOver(z));
}

const sixteenths: bigint[] = [];

/** atan(q) for q between 0 and 1. */
export function atanOf(q: bigint): bigint {
	const nearest = Number((q * 16n + UNIT / 2n) >> SCALE);
	const corner = (BigInt(nearest) << SCALE) / 16n;
	const rest = divide(q - corner, UNIT + multiply(q, corner));
	let base = sixteenths[nearest];
	if (base === undefined) {
		// Up to 1 by halves of the angle: atan(c) = 2 atan(c / (1 + sqrt(1 + c^2))).
		let c = corner;
		let doublings = 0n;
		while (c > UNIT / 16n) {
			c = divide(c, UNIT + squareRoot(UNIT + multiply(c, c)));
			doublings++;
		}
		base = multiply(c, atanOver(c)) << doublings;
		sixteenths[nearest] = base;
	}
	return base + multiply(rest, atanOver(rest));
}

function squareRoot(value: bigint): bigint {
	const target = value << SCALE;
	let root = UNIT + value / 2n;
	for (;;) {
		const next = (root + target / root) >> 1n;
		if (next >= root) return root;
		root = next;
	}
}
