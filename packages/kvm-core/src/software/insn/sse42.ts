import * as L from "../cpu/layout.ts";
import type { Emitter } from "../emit/emitter.ts";
import { floatLibrary } from "../fp/library.ts";
import {
	add,
	and,
	c32,
	c64,
	clz,
	ctz,
	type Expr,
	eq,
	eqz,
	extS,
	extU,
	geU,
	gtU,
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
import { constant, fromLow, i8x16, i16x8, i32x4, v128 } from "../wasm/simd.ts";
import { define, type Instruction } from "./define.ts";

/** SSE4.2's string comparisons and CRC32. */

/**
 * (a, b, length of a, length of b, immediate) → IntRes2, a bit for each element of b. Lengths are in elements, at most
 * as many as there are.
 */
function aggregate(e: Emitter): Func {
	const library = floatLibrary(e.f.module, e.state);
	return library.fn("string.aggregate", ["v128", "v128", "i32", "i32", "i32"], "i32", (f) => {
		const [a, b, lengthA, lengthB, imm] = [f.param(0), f.param(1), f.param(2), f.param(3), f.param(4)];
		const count = f.let(sub(c32(16), shl(and(imm, c32(1)), c32(3))));
		const all = f.let(sub(shl(c32(1), count), c32(1)));
		const valid = f.let(sub(shl(c32(1), lengthB), c32(1)));
		const result = f.local("i32");
		const n = f.local("i32");
		const words = and(imm, c32(1));
		const signed = and(imm, c32(2));
		/** Element n of a, in every element of a vector. */
		const element = (index: Expr): Expr => {
			const bytes = i8x16.swizzle(a, i8x16.splat(index));
			const twice = i8x16.add(i8x16.splat(shl(index, c32(1))), constant(1, [0, 1]));
			return select(words, i8x16.swizzle(a, twice), f.let(bytes));
		};
		/** A bit for each element of a mask vector. */
		const bits = (forBytes: Expr, forWords: Expr): Expr =>
			select(words, i16x8.bitmask(forWords), i8x16.bitmask(forBytes));
		const equal = (x: Expr): Expr => bits(i8x16.eq(x, b), i16x8.eq(x, b));
		/** Elements of `x` at or below those of `y`, both vectors in locals. */
		const atMost = (x: Expr, y: Expr): Expr => {
			const u = bits(i8x16.eq(i8x16.minU(x, y), x), i16x8.eq(i16x8.minU(x, y), x));
			const s = bits(i8x16.eq(i8x16.minS(x, y), x), i16x8.eq(i16x8.minS(x, y), x));
			return select(signed, s, u);
		};
		const loop = (step: Expr | number, body: () => void): void => {
			f.block((done) => {
				f.loop((again) => {
					f.brIf(done, geU(n, lengthA));
					body();
					f.set(n, add(n, typeof step === "number" ? c32(step) : step));
					f.br(again);
				});
			});
		};
		const mode = and(shrU(imm, c32(2)), c32(3));
		f.block((done) => {
			f.block((ordered) => {
				f.block((each) => {
					f.block((ranges) => {
						f.block((any) => {
							f.brIf(any, eqz(mode));
							f.brIf(ranges, eq(mode, c32(1)));
							f.brIf(each, eq(mode, c32(2)));
							f.br(ordered);
						});
						loop(1, () => {
							const x = f.let(element(n));
							f.set(result, or(result, equal(x)));
						});
						f.set(result, and(result, valid));
						f.br(done);
					});
					loop(2, () => {
						const low = f.let(element(n));
						const high = f.let(element(add(n, c32(1))));
						// A range without its upper end matches nothing.
						const within = f.let(and(atMost(low, b), atMost(b, high)));
						f.set(result, or(result, select(ltU(add(n, c32(1)), lengthA), within, c32(0))));
					});
					f.set(result, and(result, valid));
					f.br(done);
				});
				// Both valid: compared. Both invalid: equal. One invalid: not.
				const validA = f.let(sub(shl(c32(1), lengthA), c32(1)));
				const same = f.let(equal(a));
				const both = and(validA, valid);
				const neither = and(xor(or(validA, valid), c32(-1)), all);
				f.set(result, or(and(same, both), neither));
				f.br(done);
			});
			// Equal ordered: every element of a valid in a must match at its place behind; beyond b's end none does.
			f.set(result, all);
			loop(1, () => {
				const x = f.let(element(n));
				const matches = f.let(and(equal(x), valid));
				// Places from which a reaches past the last element of the register count as matching.
				const beyond = xor(shrU(all, n), all);
				f.set(result, and(result, or(shrU(matches, n), beyond)));
			});
		});
		// Polarity: negate all, or only what is valid in b.
		f.if(and(imm, c32(0x10)), () => {
			f.set(result, xor(result, select(and(imm, c32(0x20)), valid, all)));
		});
		f.return(result);
		f.unreachable();
	});
}

/** Length of an implicit-length operand: elements before the first zero. */
function implicitLength(e: Emitter, value: Expr, imm: Expr): Expr {
	const bytes = or(i8x16.bitmask(i8x16.eq(value, v128.zero)), c32(0x1_0000));
	const words = or(i16x8.bitmask(i16x8.eq(value, v128.zero)), c32(0x100));
	return e.f.let(ctz(select(and(imm, c32(1)), words, bytes)));
}

/** Length of an explicit-length operand: the register's magnitude, cut to the number of elements. */
function explicitLength(e: Emitter, register: number, imm: Expr): Expr {
	const wide = e.variant.size === 8;
	const value = e.f.let(wide ? e.gpr(register, 8) : extS(e.gpr(register, 4)));
	const sign = e.f.let(shrSigned(value));
	const size = e.f.let(sub(xor(value, sign), sign));
	const count = e.f.let(extU(sub(c32(16), shl(and(imm, c32(1)), c32(3)))));
	return e.f.let(wrap(select(gtU(size, count), count, size)));
}

const shrSigned = (value: Expr): Expr => ({ type: "i64", code: [...value.code, ...c64(63).code, 0x87] });

function compareStrings(e: Emitter, explicit: boolean, index: boolean): void {
	const { f } = e;
	const b = f.let(e.getVector(1));
	const imm = f.let(e.immediate());
	const a = f.let(e.getVector(0));
	const lengthA = explicit ? explicitLength(e, L.RAX, imm) : implicitLength(e, a, imm);
	const lengthB = explicit ? explicitLength(e, L.RDX, imm) : implicitLength(e, b, imm);
	const result = f.let(callExpr(aggregate(e), a, b, lengthA, lengthB, imm));
	const count = f.let(sub(c32(16), shl(and(imm, c32(1)), c32(3))));
	if (index) {
		const last = sub(c32(31), clz(result));
		const position = select(and(imm, c32(0x40)), last, f.let(ctz(result)));
		e.setGpr(L.RCX, 4, select(result, position, count));
	} else {
		const bytes = i8x16.eq(
			v128.and(
				i8x16.swizzle(i32x4.splat(result), constant(1, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])),
				constant(1, [1, 2, 4, 8, 16, 32, 64, 128]),
			),
			constant(1, [1, 2, 4, 8, 16, 32, 64, 128]),
		);
		const bit = constant(2, [1, 2, 4, 8, 16, 32, 64, 128]);
		const words = i16x8.eq(v128.and(i16x8.splat(result), bit), bit);
		const mask = select(and(imm, c32(1)), words, f.let(bytes));
		f.store(16, c32(e.state), select(and(imm, c32(0x40)), mask, f.let(fromLow(extU(result)))), L.XMM);
	}
	const flag = (condition: Expr, place: number): Expr => shl(condition, c32(place));
	const flags = or(
		or(flag(ne(result, c32(0)), 0), flag(ltU(lengthB, count), 6)),
		or(flag(ltU(lengthA, count), 7), flag(and(result, c32(1)), 11)),
	);
	e.setArithmeticFlags(f.let(flags));
}

function stringRow(name: string, opcode: string, explicit: boolean, index: boolean): Instruction {
	// RAX stands for the lengths' operand size.
	return define(
		name,
		`66 ${opcode} /r`,
		explicit ? "Vdq,Wdq,Ib,rAX" : "Vdq,Wdq,Ib",
		(e) => compareStrings(e, explicit, index),
		{
			attributes: ["sse"],
		},
	);
}

/** CRC-32C (Castagnoli), reflected: (crc, data, bits) → crc. */
function crcFunction(e: Emitter): Func {
	return floatLibrary(e.f.module, e.state).fn("crc32c", ["i32", "i64", "i32"], "i32", (f) => {
		const [crc, data, bits] = [f.param(0), f.param(1), f.param(2)];
		const value = f.let(xor(data, extU(crc)));
		// For operands shorter than the remainder, what stands above them comes in unchanged at the end.
		f.loop((again) => {
			for (let i = 0; i < 8; i++) {
				const feedback = mul(and(value, c64(1)), c64(0x82f6_3b78));
				f.set(value, xor(shrU(value, c64(1)), feedback));
			}
			f.set(bits, sub(bits, c32(8)));
			f.brIf(again, bits);
		});
		f.return(wrap(value));
		f.unreachable();
	});
}

function crc(e: Emitter): void {
	const data = e.f.let(e.get(1));
	const size = e.size(1);
	const previous = e.f.let(e.get(0));
	e.set(0, callExpr(crcFunction(e), previous, data.type === "i64" ? data : extU(data), c32(size * 8)));
}

export const sse42: readonly Instruction[] = [
	stringRow("pcmpestrm", "0F 3A 60", true, false),
	stringRow("pcmpestri", "0F 3A 61", true, true),
	stringRow("pcmpistrm", "0F 3A 62", false, false),
	stringRow("pcmpistri", "0F 3A 63", false, true),
	define("crc32", "F2 0F 38 F0 /r", "Gd,Eb", crc),
	define("crc32", "F2 0F 38 F1 /r", "Gd,Ev", crc),
];
