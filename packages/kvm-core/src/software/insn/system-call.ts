import { EFER_SCE } from "../cpu/control-bits.ts";
import { type Cpu, GP, SEG_DB, SEG_G, SEG_L, SEG_P, SEG_S, UD } from "../cpu/cpu.ts";
import { DR6_BS } from "../cpu/debug.ts";
import { isCanonical } from "../cpu/descriptor.ts";
import { DEBUG_TRAP } from "../cpu/events.ts";
import { setFlags } from "../cpu/flags.ts";
import * as L from "../cpu/layout.ts";
import {
	MSR_CSTAR,
	MSR_LSTAR,
	MSR_SFMASK,
	MSR_STAR,
	MSR_SYSENTER_CS,
	MSR_SYSENTER_EIP,
	MSR_SYSENTER_ESP,
} from "../cpu/msr.ts";
import type { DecodedInsn } from "../cpu/system-operation.ts";
import { defineSystem, type Instruction } from "./define.ts";

const FLAT = 0xffff_ffff;

/** Flat CS and SS as the fast system calls load them, without a look at the descriptors. */
function setFlat(cpu: Cpu, cs: number, ss: number, long: boolean, dpl: number): void {
	const common = SEG_P | SEG_S | SEG_G | (dpl << 5);
	cpu.setSegment(L.CS, cs, common | 0xb | (long ? SEG_L : SEG_DB), FLAT, 0n);
	cpu.setSegment(L.SS, ss, common | 3 | SEG_DB, FLAT, 0n);
	cpu.core.modeChanged();
}

/** Also out of compatibility mode, through CSTAR, as AMD's processors have it and KVM offers it on all. */
function systemCall(cpu: Cpu): void {
	if ((cpu.efer & EFER_SCE) === 0 || !cpu.longMode) cpu.raise(UD);
	const { flags } = cpu;
	const target = cpu.get64(cpu.code64 ? MSR_LSTAR : MSR_CSTAR);
	const base = cpu.get32(MSR_STAR + 4) & 0xffff;
	cpu.setGpr(L.RCX, 8, cpu.nextRip);
	cpu.setGpr(11, 8, BigInt(flags & ~L.RF));
	setFlat(cpu, base & 0xfffc, (base & 0xfffc) + 8, true, 0);
	setFlags(cpu, flags & ~(cpu.get32(MSR_SFMASK) | L.RF | L.VM));
	cpu.stepSuppressed = (cpu.systemFlags & L.TF) === 0;
	cpu.jump(target);
}

function systemReturn(cpu: Cpu, insn: DecodedInsn): void {
	if ((cpu.efer & EFER_SCE) === 0 || !cpu.code64) cpu.raise(UD);
	if (cpu.cpl !== 0) cpu.raise(GP, 0);
	const long = insn.operandSize === 8;
	const target = long ? cpu.gpr(L.RCX) : BigInt(cpu.gpr32(L.RCX));
	if (!isCanonical(target)) cpu.raise(GP, 0);
	const base = cpu.get32(MSR_STAR + 4) >>> 16;
	setFlat(cpu, (base + (long ? 16 : 0)) | 3, (base + 8) | 3, long, 3);
	setFlags(cpu, Number(cpu.gpr(11) & 0x3c_7fd7n) | 2);
	// It is TF as it is afterwards that counts.
	cpu.stepSuppressed = true;
	if ((cpu.systemFlags & L.TF) !== 0) cpu.set32(DEBUG_TRAP, DR6_BS);
	cpu.jump(target);
}

function systemEnter(cpu: Cpu): void {
	const selector = cpu.get32(MSR_SYSENTER_CS) & 0xfffc;
	if (!cpu.protectedMode || selector === 0) cpu.raise(GP, 0);
	const long = cpu.longMode;
	setFlags(cpu, cpu.flags & ~(L.VM | L.IF | L.RF));
	setFlat(cpu, selector, selector + 8, long, 0);
	cpu.setGpr(L.RSP, long ? 8 : 4, cpu.get64(MSR_SYSENTER_ESP));
	const target = cpu.get64(MSR_SYSENTER_EIP);
	cpu.jump(long ? target : target & 0xffff_ffffn);
}

function systemExit(cpu: Cpu, insn: DecodedInsn): void {
	const selector = cpu.get32(MSR_SYSENTER_CS) & 0xfffc;
	if (!cpu.protectedMode || cpu.cpl !== 0 || selector === 0) cpu.raise(GP, 0);
	const long = insn.operandSize === 8;
	const target = long ? cpu.gpr(L.RDX) : BigInt(cpu.gpr32(L.RDX));
	const stack = long ? cpu.gpr(L.RCX) : BigInt(cpu.gpr32(L.RCX));
	if (long && (!isCanonical(target) || !isCanonical(stack))) cpu.raise(GP, 0);
	const cs = selector + (long ? 32 : 16);
	setFlat(cpu, cs | 3, (cs + 8) | 3, long, 3);
	cpu.setGpr(L.RSP, long ? 8 : 4, stack);
	cpu.jump(target);
}

/** SYSCALL, SYSENTER and their returns, as Intel's processors have them. */
export const systemCallRows: readonly Instruction[] = [
	defineSystem("syscall", "0F 05", "", systemCall, { attributes: ["ends"] }),
	defineSystem("sysret", "0F 07", "", systemReturn, { attributes: ["ends"] }),
	defineSystem("sysenter", "0F 34", "", systemEnter, { attributes: ["ends"] }),
	defineSystem("sysexit", "0F 35", "", systemExit, { attributes: ["ends"] }),
];
