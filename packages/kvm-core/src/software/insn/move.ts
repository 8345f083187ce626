import * as L from "../cpu/layout.ts";
import { linearAddress, readSized, writeSized } from "../cpu/operand.ts";
import type { SystemOperation } from "../cpu/system-operation.ts";
import type { Emitter } from "../emit/emitter.ts";
import {
	and,
	c32,
	c64,
	type Expr,
	eq,
	extS,
	extU,
	load32,
	load64,
	or,
	select,
	sext8,
	sext16,
	shl,
	shrS,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { callExpr } from "../wasm/module.ts";
import { conditionNames } from "./condition.ts";
import { define, type Instruction } from "./define.ts";

function move(e: Emitter): void {
	e.set(0, e.get(1));
}

function exchange(e: Emitter): void {
	const b = e.f.let(e.get(1));
	let old: Expr | undefined;
	e.modify(
		0,
		(a) => {
			old = a;
			return b;
		},
		() => e.set(1, old!),
	);
}

/** MOVZX and MOVSX: an i32 of the source's size to the destination's. */
function widen(signed: boolean): (e: Emitter) => void {
	return (e) => {
		const from = e.size(1);
		const to = e.size(0);
		let value = e.get(1);
		if (signed && from === 1) value = sext8(value);
		if (signed && from === 2) value = sext16(value);
		if (to === 8) value = signed ? extS(value) : extU(value);
		e.set(0, value);
	};
}

function loadAddress(e: Emitter): void {
	const size = e.size(0);
	const offset = callExpr(e.runtime.offset, e.pc, c64(0));
	const value = e.variant.rm === "flat64" ? e.effectiveAddress() : offset;
	e.set(0, size === 8 ? value : wrap(value));
}

/** AL, AX, EAX sign-extended into the next size. */
function convert(e: Emitter): void {
	const { size } = e.variant;
	if (size === 2) e.setGpr(L.RAX, 2, sext8(e.gpr(L.RAX, 1)));
	else if (size === 4) e.setGpr(L.RAX, 4, sext16(e.gpr(L.RAX, 2)));
	else e.setGpr(L.RAX, 8, extS(e.gpr(L.RAX, 4)));
}

/** rDX filled with the sign of rAX. */
function convertDouble(e: Emitter): void {
	const { size } = e.variant;
	if (size === 2) e.setGpr(L.RDX, 2, shrS(sext16(e.gpr(L.RAX, 2)), c32(15)));
	else if (size === 4) e.setGpr(L.RDX, 4, shrS(e.gpr(L.RAX, 4), c32(31)));
	else e.setGpr(L.RDX, 8, shrS(e.gpr(L.RAX, 8), c64(63)));
}

function conditionalMove(code: number): (e: Emitter) => void {
	return (e) => {
		// The source is read in any case, and a 32-bit destination is zero-extended in any case.
		const source = e.f.let(e.get(1));
		e.modify(0, (old) => select(e.condition(code), source, old));
	};
}

function setOnCondition(code: number): (e: Emitter) => void {
	return (e) => e.set(0, e.condition(code, true));
}

const nibble = (value: number): string => value.toString(16).toUpperCase();

function nothing(): void {}

/** Cache-line instructions: there is no cache, but the address must be readable. */
function touch(e: Emitter): void {
	e.f.let(e.get(0));
}

function setFlagsFromAh(e: Emitter): void {
	const ah = e.f.let(e.registerByte(1));
	const overflow = and(e.arithmeticFlags(), c32(L.OF));
	e.setArithmeticFlags(e.f.let(or(and(ah, c32(L.SF | L.ZF | L.AF | L.PF | L.CF)), overflow)));
}

function loadAh(e: Emitter): void {
	e.setRegisterByte(1, or(and(e.arithmeticFlags(), c32(L.SF | L.ZF | L.AF | L.PF | L.CF)), c32(2)));
}

function setDirection(on: boolean): (e: Emitter) => void {
	return (e) => {
		const flags = e.word(L.RFLAGS_SYS);
		e.setWord(L.RFLAGS_SYS, on ? or(flags, c32(L.DF)) : and(flags, c32(~L.DF)));
	};
}

/** CMPXCHG8B and CMPXCHG16B. */
function compareExchangeDouble(e: Emitter): void {
	const { f } = e;
	const half = e.variant.size === 8 ? 8 : 4;
	const host = e.modifiable(half * 2);
	const low = f.let(half === 8 ? load64(8, host) : load32(4, host));
	const high = f.let(half === 8 ? load64(8, host, 8) : load32(4, host, 4));
	const equal = f.let(and(eq(low, e.gpr(L.RAX, half)), eq(high, e.gpr(L.RDX, half))));
	f.store(half, host, select(equal, e.gpr(L.RBX, half), low), 0);
	f.store(half, host, select(equal, e.gpr(L.RCX, half), high), half);
	e.commitBounce(host);
	f.if(eq(equal, c32(0)), () => {
		e.setGpr(L.RAX, half, low);
		e.setGpr(L.RDX, half, high);
	});
	const flags = f.let(e.arithmeticFlags());
	e.setArithmeticFlags(f.let(or(and(flags, c32(~L.ZF)), shl(equal, c32(6)))));
}

/** MOV with an absolute offset in a segment that is not flat, or with an offset beyond what a displacement holds. */
function moveOffset(store: boolean): SystemOperation {
	return (cpu, insn) => {
		const size = insn.operandSize;
		const offset =
			insn.addressSize === 8
				? BigInt.asUintN(64, (BigInt(insn.immediate) << 32n) | BigInt(insn.displacement >>> 0))
				: insn.offset();
		const linear = linearAddress(cpu, insn.segment, offset, size, store);
		if (store) writeSized(cpu, linear, size, cpu.gpr(L.RAX));
		else cpu.setGpr(L.RAX, size, readSized(cpu, linear, size));
	};
}

/** Data movement and what fits nowhere else. */
export const moves: readonly Instruction[] = [
	define("mov", "88 /r", "Eb,Gb", move),
	define("mov", "89 /r", "Ev,Gv", move),
	define("mov", "8A /r", "Gb,Eb", move),
	define("mov", "8B /r", "Gv,Ev", move),
	define("mov", "A0", "AL,Ob", move, { segmented: moveOffset(false) }),
	define("mov", "A1", "rAX,Ov", move, { segmented: moveOffset(false) }),
	define("mov", "A2", "Ob,AL", move, { segmented: moveOffset(true) }),
	define("mov", "A3", "Ov,rAX", move, { segmented: moveOffset(true) }),
	define("mov", "B0 +r", "Zb,Ib", move),
	define("mov", "B8 +r", "Zv,Iv", move),
	define("mov", "C6 /0", "Eb,Ib", move),
	define("mov", "C7 /0", "Ev,Iz", move),
	define("xchg", "86 /r", "Eb,Gb", exchange, { attributes: ["lock"] }),
	define("xchg", "87 /r", "Ev,Gv", exchange, { attributes: ["lock"] }),
	define("xchg", "90 +r", "Zv,rAX", exchange),
	define("movzx", "0F B6 /r", "Gv,Eb", widen(false)),
	define("movzx", "0F B7 /r", "Gv,Ew", widen(false)),
	define("movsx", "0F BE /r", "Gv,Eb", widen(true)),
	define("movsx", "0F BF /r", "Gv,Ew", widen(true)),
	define("movsxd", "63 /r", "Gv,Ez", widen(true), { attributes: ["o64"] }),
	define("lea", "8D /r", "Gv,M", loadAddress, { attributes: ["address"] }),
	define("movnti", "NP 0F C3 /r", "My,Gy", move),
	define("cbw", "98", "", convert, { attributes: ["sized"] }),
	define("cwd", "99", "", convertDouble, { attributes: ["sized"] }),
	...conditionNames.map((name, code) =>
		define(`cmov${name}`, `0F 4${nibble(code)} /r`, "Gv,Ev", conditionalMove(code)),
	),
	...conditionNames.map((name, code) => define(`set${name}`, `0F 9${nibble(code)} /r`, "Eb", setOnCondition(code))),
	define("sahf", "9E", "", setFlagsFromAh),
	define("lahf", "9F", "", loadAh),
	define("cmc", "F5", "", (e) => e.setCarry(e.f.let(xor(e.carry(), c32(1))))),
	define("clc", "F8", "", (e) => e.setCarry(c32(0))),
	define("stc", "F9", "", (e) => e.setCarry(c32(1))),
	define("cld", "FC", "", setDirection(false)),
	define("std", "FD", "", setDirection(true)),
	define("nop", "90", "", nothing),
	define("nop", "0F 1F /r", "Ev", nothing),
	...["0F 18", "0F 19", "0F 1A", "0F 1B", "0F 1C", "0F 1D", "0F 1E"].map((opcode) =>
		define("nop", `${opcode} /r`, "Ev", nothing),
	),
	define("prefetchw", "0F 0D /r", "M", nothing),
	define("lfence", "NP 0F AE /5 mod=3", "", nothing),
	define("mfence", "NP 0F AE /6 mod=3", "", nothing),
	define("sfence", "NP 0F AE /7 mod=3", "", nothing),
	define("clflush", "NP 0F AE /7 mod=m", "Mb", touch),
	define("clflushopt", "66 0F AE /7 mod=m", "Mb", touch),
	define("pcommit", "66 0F AE /7 mod=3 rm=0", "", nothing),
	define("clwb", "66 0F AE /6 mod=m", "Mb", touch),
	define("cmpxchg8b", "0F C7 /1 mod=m", "M", compareExchangeDouble, { attributes: ["lock", "sized", "aligned"] }),
];
