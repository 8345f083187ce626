import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { control, decode, decodeExtended, type Extended, FloatMachine } from "./machine.ts";
import {
	canonical,
	compute,
	DE,
	DOUBLE,
	extended,
	IE,
	type Mode,
	OE,
	type Operation,
	PE,
	type Result,
	rational,
	root,
	round,
	SINGLE,
	UE,
	ZE,
} from "./reference.ts";

const machine = new FloatMachine();
const modes = fc.constantFrom<Mode>(0, 1, 2, 3);
const operations = fc.constantFrom<Operation>("add", "sub", "mul", "div");
const settings = { seed: 20261123, numRuns: 1500 };

/** Bits with exponents that meet: near 1, near each other, at both ends of the range, subnormal. */
function numbers(width: 32 | 64): fc.Arbitrary<bigint> {
	const fractionBits = width === 32 ? 23n : 52n;
	const top = width === 32 ? 254 : 2046;
	const middle = top >> 1;
	const field = fc.oneof(
		fc.integer({ min: middle - 3, max: middle + 3 }),
		fc.integer({ min: 0, max: 30 }),
		fc.integer({ min: top - 30, max: top }),
		fc.integer({ min: middle - 70, max: middle + 70 }),
		fc.constant(0),
	);
	const fraction = fc.oneof(
		fc.bigInt({ min: 0n, max: (1n << fractionBits) - 1n }),
		fc.constantFrom(0n, 1n, (1n << fractionBits) - 1n, 1n << (fractionBits - 1n)),
	);
	return fc
		.tuple(fc.boolean(), field, fraction)
		.map(([negative, e, f]) => (negative ? 1n << BigInt(width - 1) : 0n) | (BigInt(e) << fractionBits) | f);
}

const extendedNumbers: fc.Arbitrary<Extended> = fc
	.tuple(
		fc.boolean(),
		fc.oneof(
			fc.integer({ min: 16380, max: 16386 }),
			fc.integer({ min: 0, max: 70 }),
			fc.integer({ min: 0x7ffe - 70, max: 0x7ffe }),
			fc.integer({ min: 16383 - 140, max: 16383 + 140 }),
		),
		fc.oneof(
			fc.bigInt({ min: 0n, max: (1n << 63n) - 1n }),
			fc.constantFrom(0n, 1n, (1n << 63n) - 1n, 1n << 62n),
			fc.bigInt({ min: 0n, max: (1n << 23n) - 1n }).map((high) => high << 40n),
		),
	)
	.map(([negative, field, fraction]) => ({
		significand: field === 0 ? fraction : (1n << 63n) | fraction,
		se: (negative ? 0x8000 : 0) | field,
	}));

const numeric = OE | UE | PE;

function sameAs(expected: Result, value: ReturnType<typeof decode>, flags: number): void {
	expect(value === undefined ? "NaN" : canonical(value)).toBe(canonical(expected));
	expect(flags & numeric).toBe(expected.flags);
}

describe.each([
	["f32", SINGLE, 32],
	["f64", DOUBLE, 64],
] as const)("%s", (t, shape, width) => {
	test("sums, products and quotients round as exact arithmetic says, in all four modes", () => {
		fc.assert(
			fc.property(numbers(width), numbers(width), operations, modes, (a, b, op, mode) => {
				const [x, y] = [decode(t, a)!, decode(t, b)!];
				fc.pre(op !== "div" || y.magnitude !== 0n);
				const { value, flags } = machine.binary(t, op, a, b, control(mode));
				sameAs(compute(op, x, y, shape, mode), decode(t, value), flags);
			}),
			settings,
		);
	});

	test("square roots do too", () => {
		fc.assert(
			fc.property(numbers(width), modes, (a, mode) => {
				const x = decode(t, a)!;
				fc.pre(!x.negative && x.magnitude !== 0n);
				const { value, flags } = machine.call(`${t}.sqrt`, a, control(mode));
				sameAs(round(...root(x), false, shape, mode), decode(t, value), flags);
			}),
			settings,
		);
	});

	test("denormal operands are reported", () => {
		const tiny = 1n;
		const one = t === "f32" ? 0x3f800000n : 0x3ff0000000000000n;
		expect(machine.binary(t, "add", tiny, one, control(0)).flags).toBe(DE | PE);
		expect(machine.binary(t, "mul", one, tiny, control(0)).flags).toBe(DE);
	});

	test("invalid operations give the indefinite, division by zero infinity", () => {
		const sign = 1n << BigInt(width - 1);
		const infinity = t === "f32" ? 0x7f800000n : 0x7ff0000000000000n;
		const indefinite = t === "f32" ? 0xffc00000n : 0xfff8000000000000n;
		const one = t === "f32" ? 0x3f800000n : 0x3ff0000000000000n;
		expect(machine.binary(t, "sub", infinity, infinity, control(0))).toEqual({ value: indefinite, flags: IE });
		expect(machine.binary(t, "mul", infinity, sign, control(0))).toEqual({ value: indefinite, flags: IE });
		expect(machine.binary(t, "div", 0n, sign, control(0))).toEqual({ value: indefinite, flags: IE });
		expect(machine.binary(t, "div", one, sign, control(0))).toEqual({ value: sign | infinity, flags: ZE });
	});

	test("of two NaNs the first operand's is kept, quieted", () => {
		const [infinity, quiet] = t === "f32" ? [0x7f800000n, 0x400000n] : [0x7ff0000000000000n, 0x8000000000000n];
		const first = infinity | 3n;
		const second = infinity | quiet | 5n;
		expect(machine.binary(t, "add", first, second, control(0))).toEqual({ value: first | quiet, flags: IE });
		expect(machine.binary(t, "add", second, first, control(0))).toEqual({ value: second, flags: IE });
		expect(machine.binary(t, "mul", 0n, second, control(0))).toEqual({ value: second, flags: 0 });
	});
});

test("to nearest, doubles and singles are what JavaScript computes", () => {
	const view = new DataView(new ArrayBuffer(8));
	const toBits = (value: number): bigint => {
		view.setFloat64(0, value);
		return view.getBigUint64(0);
	};
	const singleBits = (value: number): bigint => {
		view.setFloat32(0, value);
		return BigInt(view.getUint32(0));
	};
	const finite = fc.double({ noNaN: true, noDefaultInfinity: true });
	fc.assert(
		fc.property(finite, finite, (a, b) => {
			expect(machine.binary("f64", "add", toBits(a), toBits(b), control(0)).value).toBe(toBits(a + b));
			expect(machine.binary("f64", "mul", toBits(a), toBits(b), control(0)).value).toBe(toBits(a * b));
			if (b !== 0) expect(machine.binary("f64", "div", toBits(a), toBits(b), control(0)).value).toBe(toBits(a / b));
			expect(machine.call("narrow", toBits(a), control(0)).value).toBe(singleBits(a));
			expect(machine.call("f64.sqrt", toBits(Math.abs(a)), control(0)).value).toBe(toBits(Math.sqrt(Math.abs(a))));
			const whole = BigInt.asIntN(64, toBits(a));
			expect(machine.call("f64.fromInteger", whole, control(0)).value).toBe(toBits(Number(whole)));
		}),
		settings,
	);
});

test("flushing to zero and denormals as zeros", () => {
	const least = 0x0010000000000000n;
	const half = 0x3fe0000000000000n;
	const flush = control(0) | 0x100;
	expect(machine.binary("f64", "mul", least | 1n, half, flush)).toEqual({ value: 0n, flags: UE | PE });
	const zeros = control(0) | 0x200;
	expect(machine.binary("f64", "add", 1n, 0x8000000000000003n, zeros)).toEqual({ value: 0n, flags: 0 });
});

describe("80-bit", () => {
	test("sums, products and quotients round to 24, 53 and 64 bits in all four modes", () => {
		const precisions = fc.constantFrom<24 | 53 | 64>(24, 53, 64);
		fc.assert(
			fc.property(extendedNumbers, extendedNumbers, operations, modes, precisions, (a, b, op, mode, precision) => {
				const [x, y] = [decodeExtended(a)!, decodeExtended(b)!];
				fc.pre(op !== "div" || y.magnitude !== 0n);
				const { value, flags } = machine.extended(op, a, b, control(mode, 64 - precision));
				sameAs(compute(op, x, y, extended(precision), mode), decodeExtended(value), flags);
			}),
			settings,
		);
	});

	test("square roots do too", () => {
		fc.assert(
			fc.property(extendedNumbers, modes, (a, mode) => {
				const x = decodeExtended(a)!;
				fc.pre(!x.negative && x.magnitude !== 0n);
				const { value, flags } = machine.extendedCall("x80.sqrt", a.significand, a.se, control(mode));
				sameAs(round(...root(x), false, extended(64), mode), decodeExtended(value), flags);
			}),
			settings,
		);
	});

	test("narrowing rounds once, widening is exact", () => {
		fc.assert(
			fc.property(extendedNumbers, modes, (a, mode) => {
				const x = decodeExtended(a)!;
				fc.pre(x.magnitude !== 0n);
				for (const [t, shape] of [
					["f32", SINGLE],
					["f64", DOUBLE],
				] as const) {
					const { value, flags } = machine.call(`x80.to.${t}`, a.significand, a.se, control(mode));
					const narrow = decode(t, value)!;
					sameAs(round(...rational(x), x.negative, shape, mode), narrow, flags);
					const wide = machine.extendedCall(`x80.from.${t}`, value).value;
					const back = decodeExtended({ significand: wide.significand, se: wide.se & 0xffff })!;
					expect(canonical(back)).toBe(canonical(narrow));
				}
			}),
			settings,
		);
	});

	test("integers", () => {
		fc.assert(
			fc.property(extendedNumbers, modes, fc.constantFrom(16, 32, 64), (a, mode, bits) => {
				const x = decodeExtended(a)!;
				const { value, flags } = machine.call("x80.toInteger", a.significand, a.se, bits, control(mode));
				const limit = 1n << BigInt(bits - 1);
				const rounded = x.magnitude === 0n ? undefined : wholeOf(...rational(x), x.negative, mode);
				const whole = rounded?.[0] ?? 0n;
				if (whole >= limit || whole < -limit) {
					expect(BigInt.asIntN(64, value)).toBe(-limit);
					expect(flags & ~0x200).toBe(IE);
				} else {
					expect(BigInt.asIntN(64, value)).toBe(whole);
					expect(flags & ~0x200).toBe(rounded?.[1] === true ? PE : 0);
				}
			}),
			settings,
		);
	});

	test("an exponent without its integer bit is not supported", () => {
		const unnormal: Extended = { significand: 1n << 62n, se: 0x3fff };
		const one: Extended = { significand: 1n << 63n, se: 0x3fff };
		const indefinite = { significand: 3n << 62n, se: 0xffff };
		for (const op of ["add", "sub", "mul", "div"] as const) {
			expect(machine.extended(op, unnormal, one, control(0))).toEqual({ value: indefinite, flags: IE });
		}
	});
});

/** n / d rounded to an integer, and whether that was inexact. */
function wholeOf(n: bigint, d: bigint, negative: boolean, mode: Mode): [bigint, boolean] {
	const floor = n / d;
	const rest = n - floor * d;
	let whole = floor;
	if (rest !== 0n) {
		const nearest = 2n * rest > d || (2n * rest === d && floor % 2n === 1n);
		if (mode === 0 ? nearest : mode === (negative ? 1 : 2)) whole++;
	}
	return [negative ? -whole : whole, rest !== 0n];
}
