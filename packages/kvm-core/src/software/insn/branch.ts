import { type Cpu, GP } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { memoryOperand, readSized } from "../cpu/operand.ts";
import { stackCursor } from "../cpu/stack.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import { emitCheckTarget, emitGoto, emitNear } from "../emit/branch.ts";
import type { Emitter } from "../emit/emitter.ts";
import { UOP_FLAGS, UOP_IMM } from "../emit/uop.ts";
import { add, and, c32, c64, type Expr, eq, eqz, extU, load64S, ne, shrU, sub, wrap } from "../wasm/expr.ts";
import { conditionNames } from "./condition.ts";
import { define, type Instruction } from "./define.ts";

import { emitDrop, emitPush, emitTop } from "./stack.ts";

/** A RIP cut to the operand size: 16-bit branches keep IP below 64 KiB. */
function cutRip(e: Emitter, rip: Expr): Expr {
	if (e.variant.size === 8) return rip;
	return and(rip, c64(e.variant.size === 4 ? 0xffff_ffffn : 0xffffn));
}

/** RIP behind this instruction plus the immediate. */
function relativeTarget(e: Emitter): Expr {
	return cutRip(e, add(e.rip(true), load64S(4, e.pc, UOP_IMM)));
}

/** Goes to a relative target. In 64-bit code those are taken for canonical. */
function goRelative(e: Emitter): void {
	const target = e.f.let(relativeTarget(e));
	if (e.variant.size !== 8) emitCheckTarget(e, target);
	emitGoto(e, target);
}

function conditional(test: (e: Emitter) => Expr): { emit: (e: Emitter) => void; near: (e: Emitter) => void } {
	return {
		emit: (e) => e.f.if(test(e), () => goRelative(e)),
		near: (e) => e.f.if(test(e), () => emitNear(e)),
	};
}

function jumpRow(name: string, opcode: string, operand: string, test: (e: Emitter) => Expr): Instruction {
	const { emit, near } = conditional(test);
	return define(name, opcode, operand, emit, { attributes: ["f64"], near });
}

/** rCX by the address size, less `by`: i32, non-zero when that is not zero. */
function counter(e: Emitter, by: 0 | 1): Expr {
	const { f } = e;
	const size = f.let(and(shrU(e.field(UOP_FLAGS), c32(5)), c32(3)));
	const old = e.gpr(L.RCX, 8);
	const value = f.let(by === 1 ? sub(old, c64(1)) : old);
	const result = f.local("i32");
	f.if(
		eq(size, c32(2)),
		() => f.set(result, ne(value, c64(0))),
		() =>
			f.if(
				size,
				() => f.set(result, ne(and(value, c64(0xffff_ffffn)), c64(0))),
				() => f.set(result, ne(and(value, c64(0xffffn)), c64(0))),
			),
	);
	return result;
}

/** Takes 1 off rCX by the address size. */
function decrement(e: Emitter): void {
	const { f } = e;
	const size = f.let(and(shrU(e.field(UOP_FLAGS), c32(5)), c32(3)));
	const value = f.let(sub(e.gpr(L.RCX, 8), c64(1)));
	f.if(
		eq(size, c32(2)),
		() => e.setGpr(L.RCX, 8, value),
		() =>
			f.if(
				size,
				() => e.setQuad(L.GPR + L.RCX * 8, and(value, c64(0xffff_ffffn))),
				() => f.store(2, c32(e.state), value, L.GPR + L.RCX * 8),
			),
	);
}

/** The count is taken down only once the branch is known to have where to go. */
function loopRow(name: string, opcode: string, test: (e: Emitter) => Expr): Instruction {
	return define(
		name,
		opcode,
		"Jb",
		(e) => {
			const taken = e.f.let(test(e));
			const target = e.f.let(relativeTarget(e));
			if (e.variant.size !== 8) e.f.if(taken, () => emitCheckTarget(e, target));
			decrement(e);
			e.f.if(taken, () => emitGoto(e, target));
		},
		{
			attributes: ["f64"],
			near: (e) => {
				const taken = e.f.let(test(e));
				decrement(e);
				e.f.if(taken, () => emitNear(e));
			},
		},
	);
}

function call(e: Emitter): void {
	const back = e.f.let(cutRip(e, e.rip(true)));
	const target = e.f.let(relativeTarget(e));
	emitPush(e, e.variant.size, e.variant.size === 8 ? back : wrap(back), () => {
		if (e.variant.size !== 8) emitCheckTarget(e, target);
	});
	emitGoto(e, target);
}

function callNear(e: Emitter): void {
	const back = e.f.let(cutRip(e, e.rip(true)));
	emitPush(e, e.variant.size, e.variant.size === 8 ? back : wrap(back));
	emitNear(e);
}

function callIndirect(e: Emitter): void {
	const value = e.f.let(e.get(0));
	const target = value.type === "i64" ? value : e.f.let(extU(value));
	const back = e.f.let(cutRip(e, e.rip(true)));
	emitPush(e, e.variant.size, e.variant.size === 8 ? back : wrap(back), () => emitCheckTarget(e, target));
	emitGoto(e, target);
}

function jumpIndirect(e: Emitter): void {
	const value = e.get(0);
	const target = e.f.let(value.type === "i64" ? value : extU(value));
	emitCheckTarget(e, target);
	emitGoto(e, target);
}

function ret(drop: boolean): (e: Emitter) => void {
	return (e) => {
		const { size } = e.variant;
		const value = emitTop(e, size);
		const target = e.f.let(value.type === "i64" ? value : extU(value));
		emitCheckTarget(e, target);
		emitDrop(e, size);
		if (drop) {
			const pointer = add(e.gpr(L.RSP, 8), extU(and(e.immediate(), c32(0xffff))));
			e.setQuad(L.GPR + L.RSP * 8, e.variant.stack === "flat64" ? pointer : and(pointer, c64(0xffff_ffffn)));
		}
		emitGoto(e, target);
	};
}

const cutTarget = (insn: DecodedInsn, rip: bigint): bigint => BigInt.asUintN(insn.operandSize * 8, rip);

/** These forms serve segmented stacks, so the code is not 64-bit: the limit of CS is what counts. */
function checkNearTarget(cpu: Cpu, rip: bigint): void {
	if (rip > BigInt(cpu.segmentLimit(L.CS))) cpu.raise(GP, 0);
}

function callSlow(target: (cpu: Cpu, insn: DecodedInsn) => bigint): SystemOperation {
	return (cpu, insn) => {
		const rip = cutTarget(insn, target(cpu, insn));
		const stack = stackCursor(cpu);
		stack.probe(insn.operandSize as 2 | 4 | 8);
		checkNearTarget(cpu, rip);
		stack.push(insn.operandSize as 2 | 4 | 8, cpu.nextRip);
		stack.commit();
		cpu.jump(rip);
	};
}

const retSlow: SystemOperation = (cpu, insn) => {
	const stack = stackCursor(cpu);
	const rip = stack.pop(insn.operandSize as 2 | 4 | 8);
	checkNearTarget(cpu, rip);
	stack.skip(insn.immediate & 0xffff);
	stack.commit();
	cpu.jump(rip);
};

const relative = (cpu: Cpu, insn: DecodedInsn): bigint => cpu.nextRip + BigInt(insn.immediate);
const indirect = (cpu: Cpu, insn: DecodedInsn): bigint =>
	insn.isMemory
		? readSized(cpu, memoryOperand(cpu, insn, insn.operandSize, false), insn.operandSize)
		: cpu.gpr(insn.rm);

const nibble = (value: number): string => value.toString(16).toUpperCase();

/** Near control transfer. */
export const branches: readonly Instruction[] = [
	...conditionNames.flatMap((name, code) => [
		jumpRow(`j${name}`, `7${nibble(code)}`, "Jb", (e) => e.condition(code)),
		jumpRow(`j${name}`, `0F 8${nibble(code)}`, "Jz", (e) => e.condition(code)),
	]),
	loopRow("loopne", "E0", (e) => and(counter(e, 1), eqz(e.f.let(e.condition(4, true))))),
	loopRow("loope", "E1", (e) => and(counter(e, 1), e.f.let(e.condition(4, true)))),
	loopRow("loop", "E2", (e) => counter(e, 1)),
	jumpRow("jcxz", "E3", "Jb", (e) => eqz(counter(e, 0))),
	define("jmp", "EB", "Jb", goRelative, {
		attributes: ["f64", "ends"],
		near: (e) => emitNear(e),
	}),
	define("jmp", "E9", "Jz", goRelative, {
		attributes: ["f64", "ends"],
		near: (e) => emitNear(e),
	}),
	define("jmp", "FF /4", "Ev", jumpIndirect, { attributes: ["f64", "ends"] }),
	define("call", "E8", "Jz", call, {
		attributes: ["f64", "stack"],
		near: callNear,
		segmented: callSlow(relative),
	}),
	define("call", "FF /2", "Ev", callIndirect, {
		attributes: ["f64", "stack"],
		segmented: callSlow(indirect),
	}),
	define("ret", "C3", "", ret(false), { attributes: ["f64", "stack", "ends"], segmented: retSlow }),
	define("ret", "C2", "Iw", ret(true), { attributes: ["f64", "stack", "ends"], segmented: retSlow }),
];
