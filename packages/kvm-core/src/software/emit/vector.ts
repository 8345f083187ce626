import { MF } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { and, c32, type Expr, load32, load64 } from "../wasm/expr.ts";
import { i16x8, i64x2, v128 } from "../wasm/simd.ts";
import type { Emitter } from "./emitter.ts";
import { UOP_BASE, UOP_REG } from "./uop.ts";

/** Access to vector and MMX operands, for semantics. */

/** Where the register of operand `n` lies: an i32 address and a constant offset. */
export interface Place {
	readonly address: Expr;
	readonly offset: number;
}

/** Where vector register operand `n` lies. */
export function xmmPlace(e: Emitter, n: number): Place {
	const operand = e.operands[n]!;
	if (operand.place === "fixed") return { address: c32(operand.offset!), offset: e.state };
	return { address: e.field(operand.place === "reg" ? UOP_REG : UOP_BASE), offset: e.state + L.XMM };
}

/** Where MMX register operand `n` lies. */
export function mmxPlace(e: Emitter, n: number): Place {
	return { address: e.field(e.operands[n]!.place === "reg" ? UOP_REG : UOP_BASE), offset: e.state + L.X87 };
}

/** Where the bytes of vector operand `n` are to be read, in memory or in its register. */
export function xmmSource(e: Emitter, n: number, size: number): Place {
	return e.isMemory(n) ? { address: e.readable(size), offset: 0 } : xmmPlace(e, n);
}

/** Where the bytes of MMX operand `n` are to be read. */
function mmxSource(e: Emitter, n: number, size: number): Place {
	return e.isMemory(n) ? { address: e.readable(size), offset: 0 } : mmxPlace(e, n);
}

/** The low `size` bytes of vector operand `n` as a vector; what lies above them is not said. */
export function lowVector(e: Emitter, n: number, size: 2 | 4 | 8 | 16): Expr {
	if (!e.isMemory(n) || size === 16) return e.getVector(n);
	const host = e.readable(size);
	return size === 2 ? i16x8.splat(load32(2, host)) : v128.loadZero(size, host);
}

/** The low 4 bytes of vector operand `n`. */
export function low32(e: Emitter, n: number): Expr {
	const { address, offset } = xmmSource(e, n, 4);
	return load32(4, address, offset);
}

/** The low 8 bytes of vector operand `n`. */
export function low64(e: Emitter, n: number): Expr {
	const { address, offset } = xmmSource(e, n, 8);
	return load64(8, address, offset);
}

/** Stores `size` bytes `at` bytes into the vector register of operand `n`; the rest of it stays. */
export function setPart(e: Emitter, n: number, size: 1 | 2 | 4 | 8 | 16, value: Expr, at = 0): void {
	const { address, offset } = xmmPlace(e, n);
	e.f.store(size, address, value, offset + at);
}

/** Raises #MF when an x87 exception waits, as every MMX and waiting x87 instruction does first. */
export function checkPending(e: Emitter): void {
	e.f.if(and(e.word(L.FSW), c32(0x80)), () => e.raise(MF));
}

/** What every MMX instruction but EMMS does to the x87 state: TOP 0, all registers in use. */
export function enterMmx(e: Emitter): void {
	e.setWord(L.FTOP, c32(0));
	e.setWord(L.FTAG, c32(0xff));
}

/** MMX operand `n` as i64. */
export function getMmx(e: Emitter, n: number): Expr {
	const { address, offset } = mmxSource(e, n, 8);
	return load64(8, address, offset);
}

/** Low half of MMX operand `n` zero-extended to a vector. */
export function getMmxVector(e: Emitter, n: number): Expr {
	const size = e.operands[n]!.size === 4 ? 4 : 8;
	const { address, offset } = mmxSource(e, n, size);
	return v128.loadZero(size, address, offset);
}

/** Sets MMX register operand `n` from an i64, or the low half of a vector; its sign and exponent become ones. */
export function setMmx(e: Emitter, n: number, value: Expr): void {
	const { address, offset } = mmxPlace(e, n);
	e.f.store(8, address, value.type === "v128" ? i64x2.extract(value, 0) : value, offset);
	e.f.store(2, address, c32(0xffff), offset + 8);
}
