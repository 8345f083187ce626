import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Cpu } from "../../src/software/cpu/cpu.ts";
import * as L from "../../src/software/cpu/layout.ts";
import { type Extended, INDEFINITE, infinity, ONE, type Rounded, zero } from "../../src/software/fp/extended-number.ts";
import {
	arctangent,
	circular,
	logarithm,
	logarithmPlusOne,
	powerOfTwoMinusOne,
} from "../../src/software/fp/transcendental.ts";
import { decodeExtended } from "./machine.ts";
import { DE, IE, PE, UE, ZE } from "./reference.ts";

const cpu = new Cpu(new ArrayBuffer(L.STATE_BYTES), 0);
cpu.set32(L.FCW, 0x37f);
const UP = 0x200;

/** An 80-bit number from a double, exactly. */
function fromNumber(value: number): Extended {
	const view = new DataView(new ArrayBuffer(8));
	view.setFloat64(0, value);
	const bits = view.getBigUint64(0);
	const negative = bits >> 63n === 1n;
	const field = Number((bits >> 52n) & 0x7ffn);
	if (value === 0) return zero(negative);
	let significand = (bits & ((1n << 52n) - 1n)) << 11n;
	let se = field - 1023 + 16383;
	if (field === 0) {
		se++;
		while (significand >> 63n === 0n) {
			significand <<= 1n;
			se--;
		}
	} else significand |= 1n << 63n;
	return { significand, se: (negative ? 0x8000 : 0) | se };
}

function toNumber(value: Extended): number {
	const { negative, magnitude, exponent, infinite } = decodeExtended(value)!;
	if (infinite) return negative ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
	const size = Number(magnitude) * 2 ** Math.max(exponent, -1000) * 2 ** Math.min(exponent + 1000, 0);
	return negative ? -size : size;
}

/** Within a few units of what the (double-precision, not always well-rounded) host library says. */
function near(result: Rounded, expected: number): void {
	const got = toNumber(result);
	if (expected === 0) expect(got).toBe(expected);
	else expect(Math.abs(got - expected) / Math.abs(expected)).toBeLessThan(2 ** -50);
	expect(result.flags & ~(PE | UP)).toBe(0);
}

const settings = { seed: 20261123, numRuns: 300 };
const within = (limit: number): fc.Arbitrary<number> =>
	fc
		.tuple(fc.double({ min: 0.5, max: 1, noNaN: true }), fc.integer({ min: -60, max: 0 }), fc.boolean())
		.map(([m, e, negative]) => (negative ? -1 : 1) * m * 2 ** e * limit);

describe("agree with the host's mathematics", () => {
	test("2^x - 1", () => {
		fc.assert(
			fc.property(within(1), (x) => {
				fc.pre(Math.abs(x) < 1);
				near(powerOfTwoMinusOne(cpu, fromNumber(x)), Math.expm1(x * Math.LN2));
			}),
			settings,
		);
	});

	test("sines and cosines below pi/4 and far above", () => {
		fc.assert(
			fc.property(within(100), (x) => {
				const functions = circular(cpu, fromNumber(x))!;
				// Where the result is small, the 66 bits of pi that processors reduce with show.
				fc.pre(Math.abs(Math.sin(x)) > 1e-3 || Math.abs(x) < 0.5);
				fc.pre(Math.abs(Math.cos(x)) > 1e-3);
				near(functions.sine(), Math.sin(x));
				near(functions.cosine(), Math.cos(x));
				near(functions.tangent(), Math.tan(x));
			}),
			settings,
		);
	});

	test("arctangents in all quadrants", () => {
		fc.assert(
			fc.property(within(1000), within(1000), (x, y) => {
				near(arctangent(cpu, fromNumber(x), fromNumber(y)), Math.atan2(y, x));
			}),
			settings,
		);
	});

	test("y log2 x and y log2 (x + 1)", () => {
		fc.assert(
			fc.property(within(4), within(8), (x, y) => {
				const positive = Math.abs(x);
				fc.pre(Math.abs(Math.log2(positive)) > 1e-3);
				near(logarithm(cpu, fromNumber(positive), fromNumber(y)), y * Math.log2(positive));
				const small = x / 16;
				near(logarithmPlusOne(cpu, fromNumber(small), fromNumber(y)), y * (Math.log1p(small) / Math.LN2));
			}),
			settings,
		);
	});
});

describe("exact and special cases", () => {
	const number = (value: number): Extended => fromNumber(value);

	test("logarithms of powers of two are exact", () => {
		expect(logarithm(cpu, number(1024), number(3))).toEqual({ ...number(30), flags: 0 });
		expect(logarithm(cpu, ONE, number(-7))).toEqual({ ...zero(true), flags: 0 });
		expect(logarithm(cpu, number(0.125), ONE)).toEqual({ ...number(-3), flags: 0 });
	});

	test("the logarithm of zero, of less than zero, of infinity", () => {
		expect(logarithm(cpu, zero(false), number(2))).toEqual({ ...infinity(true), flags: ZE });
		expect(logarithm(cpu, zero(false), zero(false))).toEqual({ ...INDEFINITE, flags: IE });
		expect(logarithm(cpu, number(-1), ONE)).toEqual({ ...INDEFINITE, flags: IE });
		expect(logarithm(cpu, infinity(false), number(-2))).toEqual({ ...infinity(true), flags: 0 });
		expect(logarithm(cpu, ONE, infinity(false))).toEqual({ ...INDEFINITE, flags: IE });
	});

	test("arctangents of zeros and infinities", () => {
		expect(arctangent(cpu, ONE, zero(true))).toEqual({ ...zero(true), flags: 0 });
		near(arctangent(cpu, number(-1), zero(true)), -Math.PI);
		near(arctangent(cpu, infinity(true), infinity(false)), (3 * Math.PI) / 4);
		near(arctangent(cpu, zero(false), number(-2)), -Math.PI / 2);
	});

	test("circular functions of zero, infinity, and beyond 2^63", () => {
		expect(circular(cpu, zero(true))!.sine()).toEqual({ ...zero(true), flags: 0 });
		expect(circular(cpu, zero(true))!.cosine()).toEqual({ ...ONE, flags: 0 });
		expect(circular(cpu, infinity(false))!.sine()).toEqual({ ...INDEFINITE, flags: IE });
		expect(circular(cpu, number(2 ** 63))).toBeUndefined();
		expect(circular(cpu, number(2 ** 62))).toBeDefined();
	});

	test("pi itself leaves what 66 bits of it leave", () => {
		// The double nearest pi; FSIN of it on an x87: 1.2246063538223773e-16, where sin is 1.2246467991473532e-16.
		expect(toNumber(circular(cpu, number(Math.PI))!.sine())).toBe(1.2246063538223773e-16);
	});

	test("a denormal's sine is itself, reported", () => {
		const least: Extended = { significand: 5n, se: 0 };
		const { flags, ...value } = circular(cpu, least)!.sine();
		expect(value).toEqual(least);
		expect(flags & ~UP).toBe(DE | UE | PE);
	});

	test("rounding modes bracket the value", () => {
		const rounded = [0x77f, 0xb7f].map((fcw) => {
			cpu.set32(L.FCW, fcw);
			return powerOfTwoMinusOne(cpu, number(0.3)).significand;
		});
		cpu.set32(L.FCW, 0x37f);
		expect(rounded[1]! - rounded[0]!).toBe(1n);
	});
});
