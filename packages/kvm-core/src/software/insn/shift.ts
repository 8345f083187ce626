import * as L from "../cpu/layout.ts";
import type { Emitter, Size } from "../emit/emitter.ts";
import {
	and,
	c32,
	c64,
	type Expr,
	extU,
	or,
	remU,
	rotl,
	rotr,
	sext8,
	sext16,
	shl,
	shrS,
	shrU,
	sub,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { define, type Instruction } from "./define.ts";

const wide = (value: Expr, size: Size): Expr => (size === 8 ? extU(value) : value);
const narrow = (value: Expr): Expr => (value.type === "i64" ? wrap(value) : value);
const bits = (size: Size): number => size * 8;

/** The count operand, masked as the architecture does, as i32 in a local. */
function count(e: Emitter, operand: number): Expr {
	return e.f.let(and(e.get(operand), c32(e.size(0) === 8 ? 63 : 31)));
}

/** Top bit of a value of `size` bytes as i32 0 or 1. */
function top(value: Expr, size: Size): Expr {
	return size === 8 ? wrap(shrU(value, c64(63))) : and(shrU(value, c32(bits(size) - 1)), c32(1));
}

function shift(kind: "shl" | "shr" | "sar"): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const n = count(e, 1);
		e.modify(0, (a) => {
			const result = f.local(a.type);
			f.set(result, a);
			f.if(n, () => {
				// All in the operand's own type; for 8 and 16 bits there is room above for the carry.
				const by = wide(n, size);
				const less = wide(sub(n, c32(1)), size);
				let carry: Expr;
				let value: Expr;
				if (kind === "shl") {
					// Counts of 32 and more do not occur below 64 bits, those over the width shift everything out.
					const last = f.let(shl(a, less));
					carry = top(last, size);
					value = e.cut(shl(a, by), size);
				} else if (kind === "shr") {
					carry = narrow(and(shrU(a, less), size === 8 ? c64(1) : c32(1)));
					value = shrU(a, by);
				} else {
					const signed = f.let(size === 1 ? sext8(a) : size === 2 ? sext16(a) : a);
					carry = narrow(and(shrS(signed, less), size === 8 ? c64(1) : c32(1)));
					value = e.cut(shrS(signed, by), size);
				}
				f.set(result, value);
				const carried = f.let(carry);
				const overflow = kind === "shl" ? xor(top(result, size), carried) : kind === "shr" ? top(a, size) : c32(0);
				e.flagsLogic(result, size);
				e.setCarryOverflow(carried, f.let(overflow));
			});
			return result;
		});
	};
}

function rotate(right: boolean): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const n = count(e, 1);
		e.modify(0, (a) => {
			const result = f.local(a.type);
			f.set(result, a);
			f.if(n, () => {
				const width = bits(size);
				const by = f.let(and(n, c32(width - 1)));
				if (size >= 4) {
					f.set(result, right ? rotr(a, wide(by, size)) : rotl(a, wide(by, size)));
				} else {
					const back = and(sub(c32(width), by), c32(width - 1));
					f.set(result, e.cut(right ? or(shrU(a, by), shl(a, back)) : or(shl(a, by), shrU(a, back)), size));
				}
				if (right) {
					const carry = f.let(top(result, size));
					const below = narrow(
						size === 8 ? and(shrU(result, c64(62)), c64(1)) : and(shrU(result, c32(width - 2)), c32(1)),
					);
					e.setCarryOverflow(carry, f.let(xor(carry, below)));
				} else {
					const carry = f.let(narrow(and(result, size === 8 ? c64(1) : c32(1))));
					e.setCarryOverflow(carry, f.let(xor(carry, top(result, size))));
				}
			});
			return result;
		});
	};
}

/** RCL and RCR: a rotation of width + 1 bits, the carry on top. */
function rotateCarry(right: boolean): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const width = bits(size);
		const masked = count(e, 1);
		const n = size <= 2 ? f.let(remU(masked, c32(width + 1))) : masked;
		e.modify(0, (a) => {
			const result = f.local(a.type);
			f.set(result, a);
			f.if(n, () => {
				const carry = f.let(extU(e.carry()));
				let out: Expr;
				if (size < 8) {
					const joined = f.let(or(extU(a), shl(carry, c64(width))));
					const left = f.let(extU(right ? sub(c32(width + 1), n) : n));
					const turned = f.let(or(shl(joined, left), shrU(joined, sub(c64(width + 1), left))));
					f.set(result, e.cut(wrap(turned), size));
					out = f.let(and(wrap(shrU(turned, c64(width))), c32(1)));
				} else {
					const by = f.let(extU(n));
					const back = sub(c64(64), by);
					if (right) {
						f.set(result, or(or(shrU(a, by), shl(carry, back)), shl(shl(a, c64(1)), back)));
						out = f.let(wrap(and(shrU(a, sub(by, c64(1))), c64(1))));
					} else {
						const high = or(shl(a, by), shl(carry, sub(by, c64(1))));
						f.set(result, or(high, shrU(shrU(a, c64(1)), back)));
						out = f.let(wrap(and(shrU(a, back), c64(1))));
					}
				}
				const beside = right
					? narrow(and(shrU(result, size === 8 ? c64(62) : c32(width - 2)), size === 8 ? c64(1) : c32(1)))
					: out;
				e.setCarryOverflow(out, f.let(xor(top(result, size), beside)));
			});
			return result;
		});
	};
}

/** SHLD and SHRD. */
function shiftDouble(right: boolean): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const width = bits(size);
		const n = count(e, 2);
		const filler = f.let(e.get(1));
		e.modify(0, (a) => {
			const result = f.local(a.type);
			f.set(result, a);
			f.if(n, () => {
				let carry: Expr;
				if (size === 8) {
					const by = extU(n);
					const back = extU(sub(c32(64), n));
					carry = wrap(and(right ? shrU(a, sub(by, c64(1))) : shrU(a, back), c64(1)));
					f.set(result, right ? or(shrU(a, by), shl(filler, back)) : or(shl(a, by), shrU(filler, back)));
				} else {
					// 16-bit counts over 16 are undefined; CPUs go on with the destination's own bits.
					const destination = extU(a);
					const source = extU(filler);
					const by = extU(n);
					const span = size === 4 ? 64 : 48;
					let joined: Expr;
					if (right) {
						joined = or(destination, shl(source, c64(width)));
						if (size === 2) joined = or(joined, shl(destination, c64(32)));
					} else {
						joined = or(shl(destination, c64(span - width)), shl(source, c64(span - 2 * width)));
						if (size === 2) joined = or(joined, destination);
					}
					const row = f.let(joined);
					const moved = f.let(right ? shrU(row, by) : shl(row, by));
					const value = right ? moved : shrU(moved, c64(span - width));
					carry = wrap(and(right ? shrU(row, sub(by, c64(1))) : shrU(row, sub(c64(span), by)), c64(1)));
					f.set(result, e.cut(wrap(value), size));
				}
				const carried = f.let(carry);
				const overflow = f.let(xor(top(a, size), top(result, size)));
				e.flagsLogic(result, size);
				e.setCarryOverflow(carried, overflow);
			});
			return result;
		});
	};
}

function rows(name: string, number: number, emit: (e: Emitter) => void, undefinedFlags: number): Instruction[] {
	return [
		define(name, `C0 /${number}`, "Eb,Ib", emit, { undefinedFlags }),
		define(name, `C1 /${number}`, "Ev,Ib", emit, { undefinedFlags }),
		define(name, `D0 /${number}`, "Eb,1", emit, { undefinedFlags: undefinedFlags & ~L.OF }),
		define(name, `D1 /${number}`, "Ev,1", emit, { undefinedFlags: undefinedFlags & ~L.OF }),
		define(name, `D2 /${number}`, "Eb,CL", emit, { undefinedFlags }),
		define(name, `D3 /${number}`, "Ev,CL", emit, { undefinedFlags }),
	];
}

/** Shifts and rotates. */
export const shifts: readonly Instruction[] = [
	...rows("rol", 0, rotate(false), L.OF),
	...rows("ror", 1, rotate(true), L.OF),
	...rows("rcl", 2, rotateCarry(false), L.OF),
	...rows("rcr", 3, rotateCarry(true), L.OF),
	...rows("shl", 4, shift("shl"), L.OF | L.AF | L.CF),
	...rows("shr", 5, shift("shr"), L.OF | L.AF | L.CF),
	...rows("shl", 6, shift("shl"), L.OF | L.AF | L.CF),
	...rows("sar", 7, shift("sar"), L.OF | L.AF),
	define("shld", "0F A4 /r", "Ev,Gv,Ib", shiftDouble(false), { undefinedFlags: L.OF | L.AF }),
	define("shld", "0F A5 /r", "Ev,Gv,CL", shiftDouble(false), { undefinedFlags: L.OF | L.AF }),
	define("shrd", "0F AC /r", "Ev,Gv,Ib", shiftDouble(true), { undefinedFlags: L.OF | L.AF }),
	define("shrd", "0F AD /r", "Ev,Gv,CL", shiftDouble(true), { undefinedFlags: L.OF | L.AF }),
];
