import * as L from "../cpu/layout.ts";
import type { Emitter, Size } from "../emit/emitter.ts";
import {
	and,
	c32,
	c64,
	clz,
	ctz,
	type Expr,
	eqz,
	extS,
	extU,
	ne,
	or,
	popcnt,
	select,
	sext16,
	shl,
	shrS,
	shrU,
	sub,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { constant } from "./arithmetic.ts";
import { define, type Instruction } from "./define.ts";

type BitOperation = "bt" | "bts" | "btr" | "btc";

function apply(operation: BitOperation, a: Expr, mask: Expr, size: Size): Expr {
	if (operation === "bts") return or(a, mask);
	if (operation === "btr") return and(a, xor(mask, constant(size, -1)));
	return xor(a, mask);
}

/** Bit `index` (i32, below the width) of `a`, as i32 0 or 1. */
function bitOf(a: Expr, index: Expr, size: Size): Expr {
	return size === 8 ? wrap(and(shrU(a, extU(index)), c64(1))) : and(shrU(a, index), c32(1));
}

function bitTest(operation: BitOperation): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const offset = f.let(e.get(1));
		const low = offset.type === "i64" ? wrap(offset) : offset;
		const index = f.let(and(low, c32(size * 8 - 1)));
		const mask = (): Expr => (size === 8 ? shl(c64(1), extU(index)) : shl(c32(1), index));
		// A register index reaches beyond the operand: whole operands away from the address.
		if (e.isMemory(0) && e.operands[1]!.place === "reg") {
			const signed = size === 8 ? offset : extS(size === 2 ? sext16(offset) : offset);
			e.displace(shl(shrS(signed, c64(size === 8 ? 6 : size === 4 ? 5 : 4)), c64(size === 8 ? 3 : size === 4 ? 2 : 1)));
		}
		if (operation === "bt") {
			e.setCarry(f.let(bitOf(f.let(e.get(0)), index, size)));
			return;
		}
		e.modify(0, (a) => {
			e.setCarry(f.let(bitOf(a, index, size)));
			return apply(operation, a, mask(), size);
		});
	};
}

/** BSF and BSR: with a zero source the destination stays and only ZF says so. */
function bitScan(reverse: boolean): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const a = f.let(e.get(1));
		e.flagsLogic(a, size);
		f.if(size === 8 ? ne(a, c64(0)) : a, () => {
			const top = size === 8 ? c64(63) : c32(31);
			e.set(0, reverse ? sub(top, clz(a)) : ctz(a));
		});
	};
}

function populationCount(e: Emitter): void {
	const { f } = e;
	const size = e.size(0);
	const a = f.let(e.get(1));
	e.set(0, popcnt(a));
	// All flags clear but ZF: a result of 1 has neither SF nor PF.
	e.setQuad(L.FLAGS_RES, extU(size === 8 ? ne(a, c64(0)) : ne(a, c32(0))));
	e.setWord(L.FLAGS_AUX, select(eqz(a), c32(L.PF), c32(0)));
}

/** Reverses the bytes of an i32 or i64 in a local. */
export function swapBytes(e: Emitter, a: Expr, size: Size): Expr {
	if (size === 2) return or(shl(and(a, c32(0xff)), c32(8)), and(shrU(a, c32(8)), c32(0xff)));
	if (size === 4) {
		const even = and(a, c32(0x00ff00ff));
		const odd = and(a, c32(0xff00ff00));
		return or(rotl32(even, 24), rotl32(odd, 8));
	}
	const { f } = e;
	const bytes = f.let(
		or(shl(and(a, c64(0x00ff00ff00ff00ffn)), c64(8)), and(shrU(a, c64(8)), c64(0x00ff00ff00ff00ffn))),
	);
	const words = f.let(
		or(shl(and(bytes, c64(0x0000ffff0000ffffn)), c64(16)), and(shrU(bytes, c64(16)), c64(0x0000ffff0000ffffn))),
	);
	return or(shl(words, c64(32)), shrU(words, c64(32)));
}

function rotl32(value: Expr, by: number): Expr {
	return or(shl(value, c32(by)), shrU(value, c32(32 - by)));
}

function byteSwap(e: Emitter): void {
	const size = e.size(0);
	// The 16-bit form is undefined; CPUs clear the register.
	e.modify(0, (a) => (size === 2 ? c32(0) : swapBytes(e, a, size)));
}

function moveSwapped(e: Emitter): void {
	e.set(0, swapBytes(e, e.f.let(e.get(1)), e.size(0)));
}

function bitRows(operation: BitOperation, opcode: string, number: number): Instruction[] {
	const undefinedFlags = L.OF | L.SF | L.AF | L.PF;
	const attributes = operation === "bt" ? [] : (["lock"] as const);
	return [
		define(operation, `0F ${opcode} /r`, "Ev,Gv", bitTest(operation), { attributes, undefinedFlags }),
		define(operation, `0F BA /${number}`, "Ev,Ib", bitTest(operation), { attributes, undefinedFlags }),
	];
}

const SCAN_UNDEFINED: number = L.CF | L.OF | L.SF | L.AF | L.PF;

/** Bit tests, scans and byte orders. */
export const bitOperations: readonly Instruction[] = [
	...bitRows("bt", "A3", 4),
	...bitRows("bts", "AB", 5),
	...bitRows("btr", "B3", 6),
	...bitRows("btc", "BB", 7),
	define("bsf", "0F BC /r", "Gv,Ev", bitScan(false), { undefinedFlags: SCAN_UNDEFINED }),
	define("bsr", "0F BD /r", "Gv,Ev", bitScan(true), { undefinedFlags: SCAN_UNDEFINED }),
	define("popcnt", "F3 0F B8 /r", "Gv,Ev", populationCount),
	define("bswap", "0F C8 +r", "Zv", byteSwap),
	...["NP", "66"].flatMap((prefix) => [
		define("movbe", `${prefix} 0F 38 F0 /r`, "Gv,Mv", moveSwapped),
		define("movbe", `${prefix} 0F 38 F1 /r`, "Mv,Gv", moveSwapped),
	]),
];
