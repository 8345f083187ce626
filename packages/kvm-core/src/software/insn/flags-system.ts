import { CR4_SMAP } from "../cpu/control-bits.ts";
import { type Cpu, GP, UD } from "../cpu/cpu.ts";
import { ioPrivilege, poppedFlags, setFlags } from "../cpu/flags.ts";
import * as L from "../cpu/layout.ts";
import { SHADOW_STI } from "../cpu/segment-load.ts";
import { stackCursor } from "../cpu/stack.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import { defineSystem, type Instruction } from "./define.ts";

/** CLI and STI need CPL <= IOPL: #GP(0). */
function checkInterruptPrivilege(cpu: Cpu): void {
	if (cpu.protectedMode && cpu.cpl > ioPrivilege(cpu)) cpu.raise(GP, 0);
}

function pushFlags(cpu: Cpu, insn: DecodedInsn): void {
	if (cpu.virtual8086 && ioPrivilege(cpu) < 3) cpu.raise(GP, 0);
	const stack = stackCursor(cpu);
	const size = insn.operandSize === 1 ? 2 : insn.operandSize;
	const value = cpu.flags & ~(L.VM | L.RF);
	stack.push(size, size === 2 ? value & 0xffff : value);
	stack.commit();
}

function popFlags(cpu: Cpu, insn: DecodedInsn): void {
	if (cpu.virtual8086 && ioPrivilege(cpu) < 3) cpu.raise(GP, 0);
	const stack = stackCursor(cpu);
	const size = insn.operandSize === 1 ? 2 : insn.operandSize;
	const value = Number(stack.pop(size) & 0xffff_ffffn);
	stack.commit();
	setFlags(cpu, poppedFlags(cpu, value, size, false));
}

/** CLAC, STAC. */
function setAlignmentCheck(on: boolean): SystemOperation {
	return (cpu) => {
		if (!cpu.cpuid.has("smap") || cpu.cpl !== 0) cpu.raise(UD);
		const word = cpu.systemFlags;
		cpu.set32(L.RFLAGS_SYS, on ? word | L.AC : word & ~L.AC);
		if (((word & L.AC) !== 0) !== on && (cpu.cr4 & CR4_SMAP) !== 0) cpu.core.modeChanged();
	};
}

/** RFLAGS as a whole, IF and AC. */
export const systemFlagRows: readonly Instruction[] = [
	defineSystem("cli", "FA", "", (cpu) => {
		checkInterruptPrivilege(cpu);
		cpu.set32(L.RFLAGS_SYS, cpu.systemFlags & ~L.IF);
		cpu.core.interruptsChanged();
	}),
	defineSystem("sti", "FB", "", (cpu) => {
		checkInterruptPrivilege(cpu);
		if ((cpu.systemFlags & L.IF) === 0) {
			cpu.set32(L.RFLAGS_SYS, cpu.systemFlags | L.IF);
			cpu.set32(L.SHADOW, SHADOW_STI);
		}
		cpu.core.interruptsChanged();
	}),
	defineSystem("pushf", "9C", "", pushFlags, { attributes: ["d64"] }),
	defineSystem("popf", "9D", "", popFlags, { attributes: ["d64"] }),
	defineSystem("clac", "NP 0F 01 /1 mod=3 rm=2", "", setAlignmentCheck(false)),
	defineSystem("stac", "NP 0F 01 /1 mod=3 rm=3", "", setAlignmentCheck(true)),
];
