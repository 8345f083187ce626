import { type Cpu, DB } from "../cpu/cpu.ts";
import { noteDebug } from "../cpu/debug.ts";
import { DEBUG_TRAP } from "../cpu/events.ts";
import { farReturn, interruptReturn } from "../cpu/far-return.ts";
import { farCall, farJump } from "../cpu/far-transfer.ts";
import { enterHandler, softwareInterrupt } from "../cpu/interrupts.ts";
import * as L from "../cpu/layout.ts";
import { memoryOperand, readSized } from "../cpu/operand.ts";
import type { DecodedInsn } from "../cpu/system-operation.ts";
import { defineSystem, type Instruction } from "./define.ts";

function wordSize(insn: DecodedInsn): 2 | 4 | 8 {
	return insn.operandSize === 1 ? 2 : insn.operandSize;
}

/** m16:16, m16:32 or m16:64. */
function farPointer(cpu: Cpu, insn: DecodedInsn): { selector: number; offset: bigint } {
	const size = wordSize(insn);
	const at = memoryOperand(cpu, insn, size + 2, false);
	return { offset: readSized(cpu, at, size), selector: cpu.memory.read(at + BigInt(size), 2) };
}

function immediatePointer(insn: DecodedInsn): { selector: number; offset: bigint } {
	const offset = BigInt(insn.immediate >>> 0) & (insn.operandSize === 2 ? 0xffffn : 0xffff_ffffn);
	return { selector: insn.displacement & 0xffff, offset };
}

/** Far transfers of control, software interrupts and returns from them. */
export const farRows: readonly Instruction[] = [
	defineSystem(
		"jmpf",
		"EA",
		"Ap",
		(cpu, insn) => {
			const { selector, offset } = immediatePointer(insn);
			farJump(cpu, selector, offset);
		},
		{ attributes: ["i64", "ends"] },
	),
	defineSystem(
		"callf",
		"9A",
		"Ap",
		(cpu, insn) => {
			const { selector, offset } = immediatePointer(insn);
			farCall(cpu, selector, offset, wordSize(insn));
		},
		{ attributes: ["i64", "ends"] },
	),
	defineSystem(
		"jmpf",
		"FF /5 mod=m",
		"Mp",
		(cpu, insn) => {
			const { selector, offset } = farPointer(cpu, insn);
			farJump(cpu, selector, offset);
		},
		{ attributes: ["ends"] },
	),
	defineSystem(
		"callf",
		"FF /3 mod=m",
		"Mp",
		(cpu, insn) => {
			const { selector, offset } = farPointer(cpu, insn);
			farCall(cpu, selector, offset, wordSize(insn));
		},
		{ attributes: ["ends"] },
	),
	defineSystem("retf", "CB", "", (cpu, insn) => farReturn(cpu, wordSize(insn), 0), { attributes: ["ends"] }),
	defineSystem("retf", "CA", "Iw", (cpu, insn) => farReturn(cpu, wordSize(insn), insn.immediate & 0xffff), {
		attributes: ["ends"],
	}),
	defineSystem("iret", "CF", "", (cpu, insn) => interruptReturn(cpu, wordSize(insn)), { attributes: ["ends"] }),
	defineSystem("int3", "CC", "", (cpu) => softwareInterrupt(cpu, 3), { attributes: ["ends"] }),
	defineSystem("int", "CD", "Ib", (cpu, insn) => softwareInterrupt(cpu, insn.immediate & 0xff), {
		attributes: ["ends"],
	}),
	defineSystem(
		"into",
		"CE",
		"",
		(cpu) => {
			if ((cpu.flags & L.OF) !== 0) softwareInterrupt(cpu, 4);
		},
		{ attributes: ["i64"] },
	),
	defineSystem(
		"int1",
		"F1",
		"",
		(cpu) => {
			// One trap for this and for the breakpoints that MOV SS left waiting.
			noteDebug(cpu, cpu.get32(DEBUG_TRAP));
			cpu.set32(DEBUG_TRAP, 0);
			enterHandler(cpu, { vector: DB, kind: "icebp", errorCode: -1, returnRip: cpu.nextRip });
			cpu.stepSuppressed = true;
		},
		{ attributes: ["ends"] },
	),
];
