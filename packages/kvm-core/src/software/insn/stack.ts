import type { Cpu } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { linearAddress, memoryOperand, readSized, writeSized } from "../cpu/operand.ts";
import { stackCursor } from "../cpu/stack.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import type { Emitter, Size } from "../emit/emitter.ts";
import { UOP_BASE } from "../emit/uop.ts";
import { add, and, c32, c64, type Expr, eq, extU, select, sub } from "../wasm/expr.ts";
import { define, defineSystem, type Instruction } from "./define.ts";

/** Stack pointer as i64, moved by `bytes` and cut to the stack's width. */
function moved(e: Emitter, pointer: Expr, bytes: number): Expr {
	const sum = bytes < 0 ? sub(pointer, c64(-bytes)) : add(pointer, c64(bytes));
	return e.variant.stack === "flat64" ? sum : and(sum, c64(0xffff_ffffn));
}

/** The stack pointer as i64, cut to the stack's width. */
export function stackPointer(e: Emitter, register: number = L.RSP): Expr {
	return e.variant.stack === "flat64" ? e.gpr(register, 8) : e.gprWide(register);
}

/** Pushes `value` and moves the stack pointer. */
export function emitPush(e: Emitter, size: Size, value: Expr, beforeWrite?: () => void): void {
	const pointer = e.f.let(moved(e, stackPointer(e), -size));
	const host = e.hostAddress(pointer, size, e.runtime.slowWrite, L.TLB_WRITE, true);
	beforeWrite?.();
	e.f.store(size, host, value);
	e.commitBounce(host);
	e.setQuad(L.GPR + L.RSP * 8, pointer);
}

/** The value on top of the stack, in a local; the pointer stays. */
export function emitTop(e: Emitter, size: Size): Expr {
	return e.f.let(e.loadLinear(e.f.let(stackPointer(e)), size, true));
}

/** Drops `bytes` from the stack. */
export function emitDrop(e: Emitter, bytes: number): void {
	e.setQuad(L.GPR + L.RSP * 8, moved(e, stackPointer(e), bytes));
}

function push(e: Emitter): void {
	emitPush(e, e.variant.size, e.f.let(e.get(0)));
}

function popRegister(e: Emitter): void {
	const value = emitTop(e, e.variant.size);
	emitDrop(e, e.variant.size);
	e.set(0, value);
}

function popOperand(e: Emitter): void {
	const { size } = e.variant;
	const value = emitTop(e, size);
	// An address that builds on the stack pointer sees it after the pop.
	if (e.isMemory(0)) {
		e.displace(extU(select(eq(e.field(UOP_BASE), c32(L.GPR + L.RSP * 8)), c32(size), c32(0))));
		e.set(0, value);
		emitDrop(e, size);
	} else {
		emitDrop(e, size);
		e.set(0, value);
	}
}

function leave(e: Emitter): void {
	const { size } = e.variant;
	const frame = e.f.let(stackPointer(e, L.RBP));
	const value = e.f.let(e.loadLinear(frame, size, true));
	e.setQuad(L.GPR + L.RSP * 8, moved(e, frame, size));
	e.setGpr(L.RBP, size, value);
}

function pushSegment(segment: number): (e: Emitter) => void {
	return (e) => {
		const selector = e.word(L.SEGMENTS + segment * L.SEGMENT_BYTES);
		emitPush(e, e.variant.size, e.variant.size === 8 ? extU(selector) : selector);
	};
}

/** The value a row pushes, in TypeScript. */
type PushSource = (cpu: Cpu, insn: DecodedInsn) => bigint;

function pushSlow(source: PushSource): SystemOperation {
	return (cpu, insn) => {
		const value = source(cpu, insn);
		const stack = stackCursor(cpu);
		stack.push(insn.operandSize as 2 | 4 | 8, value);
		stack.commit();
	};
}

const sourceRegister: PushSource = (cpu, insn) => cpu.gpr(insn.reg);
const sourceImmediate: PushSource = (_, insn) => BigInt.asUintN(64, BigInt(insn.immediate));
const sourceOperand: PushSource = (cpu, insn) => {
	if (!insn.isMemory) return cpu.gpr(insn.rm);
	return readSized(cpu, memoryOperand(cpu, insn, insn.operandSize, false), insn.operandSize);
};
const sourceSegment =
	(segment: number): PushSource =>
	(cpu) =>
		BigInt(cpu.segmentSelector(segment));

const popRegisterSlow: SystemOperation = (cpu, insn) => {
	const stack = stackCursor(cpu);
	const value = stack.pop(insn.operandSize as 2 | 4 | 8);
	stack.commit();
	cpu.setGpr(insn.reg, insn.operandSize, value);
};

const popOperandSlow: SystemOperation = (cpu, insn) => {
	const stack = stackCursor(cpu);
	const size = insn.operandSize as 2 | 4 | 8;
	const value = stack.pop(size);
	if (!insn.isMemory) {
		stack.commit();
		cpu.setGpr(insn.rm, size, value);
		return;
	}
	const before = cpu.gpr(L.RSP);
	stack.commit();
	let linear: bigint;
	try {
		linear = memoryOperand(cpu, insn, size, true);
		writeSized(cpu, linear, size, value);
	} catch (fault) {
		cpu.setGpr(L.RSP, 8, before);
		throw fault;
	}
};

const leaveSlow: SystemOperation = (cpu, insn) => {
	const size = insn.operandSize as 2 | 4 | 8;
	const before = cpu.gpr(L.RSP);
	const wide = cpu.code64 ? 8 : (cpu.segmentAttributes(L.SS) & 0x4000) !== 0 ? 4 : 2;
	cpu.setGpr(L.RSP, wide, cpu.gpr(L.RBP));
	try {
		const stack = stackCursor(cpu);
		const value = stack.pop(size);
		stack.commit();
		cpu.setGpr(L.RBP, size, value);
	} catch (fault) {
		cpu.setGpr(L.RSP, 8, before);
		throw fault;
	}
};

const pushAll: SystemOperation = (cpu, insn) => {
	const stack = stackCursor(cpu);
	const size = insn.operandSize as 2 | 4;
	for (let n = 0; n < 8; n++) stack.push(size, cpu.gpr(n));
	stack.commit();
};

const popAll: SystemOperation = (cpu, insn) => {
	const stack = stackCursor(cpu);
	const size = insn.operandSize as 2 | 4;
	const values: bigint[] = [];
	for (let n = 7; n >= 0; n--) values[n] = stack.pop(size);
	stack.commit();
	for (let n = 7; n >= 0; n--) if (n !== L.RSP) cpu.setGpr(n, size, values[n]!);
};

const translateByte: SystemOperation = (cpu, insn) => {
	const bits = insn.addressSize * 8;
	const offset = BigInt.asUintN(bits, cpu.gpr(L.RBX) + (cpu.gpr(L.RAX) & 0xffn));
	cpu.setGpr(L.RAX, 1, cpu.memory.read(linearAddress(cpu, insn.segment, offset, 1, false), 1));
};

const stackRow = ["stack", "d64"] as const;

/** PUSH, POP and their kind. */
export const stack: readonly Instruction[] = [
	define("push", "50 +r", "Zv", push, { attributes: stackRow, segmented: pushSlow(sourceRegister) }),
	define("pop", "58 +r", "Zv", popRegister, { attributes: stackRow, segmented: popRegisterSlow }),
	define("push", "68", "Iz", push, { attributes: stackRow, segmented: pushSlow(sourceImmediate) }),
	define("push", "6A", "Ibs", push, { attributes: stackRow, segmented: pushSlow(sourceImmediate) }),
	define("push", "FF /6", "Ev", push, { attributes: stackRow, segmented: pushSlow(sourceOperand) }),
	define("pop", "8F /0", "Ev", popOperand, { attributes: stackRow, segmented: popOperandSlow }),
	define("leave", "C9", "", leave, { attributes: stackRow, segmented: leaveSlow }),
	...(
		[
			["06", L.ES, "i64"],
			["0E", L.CS, "i64"],
			["16", L.SS, "i64"],
			["1E", L.DS, "i64"],
			["0F A0", L.FS, ""],
			["0F A8", L.GS, ""],
		] as const
	).map(([opcode, segment, mode]) =>
		define("push", opcode, "", pushSegment(segment), {
			attributes: mode === "" ? stackRow : [...stackRow, mode],
			segmented: pushSlow(sourceSegment(segment)),
		}),
	),
	defineSystem("pusha", "60", "", pushAll, { attributes: ["i64", "sized"] }),
	defineSystem("popa", "61", "", popAll, { attributes: ["i64", "sized"] }),
	defineSystem("xlat", "D7", "", translateByte),
];
