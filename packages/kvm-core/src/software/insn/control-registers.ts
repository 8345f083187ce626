import { CR0_TS, CR4_DE, CR4_PCIDE } from "../cpu/control-bits.ts";
import { readCr8, writeCr0, writeCr3, writeCr4, writeCr8, writeMachineStatus } from "../cpu/control-registers.ts";
import { type Cpu, DB, GP, UD } from "../cpu/cpu.ts";
import { DR6_BD, debugRegistersGuarded, dr6Value, dr7Value, noteDebug } from "../cpu/debug.ts";
import { isCanonical } from "../cpu/descriptor.ts";
import * as L from "../cpu/layout.ts";
import { memoryOperand, readRm16, writeRm16 } from "../cpu/operand.ts";
import { checkUmip, requireProtected, requireSupervisor } from "../cpu/privilege.ts";
import type { DecodedInsn } from "../cpu/system-operation.ts";
import { defineSystem, type Instruction } from "./define.ts";

/** Width of moves to and from control and debug registers: the mode's, whatever the prefixes are. */
function width(cpu: Cpu): 4 | 8 {
	return cpu.code64 ? 8 : 4;
}

/** CR1, CR5 and the like are #UD at any privilege. */
function isControlRegister(n: number): boolean {
	return n === 0 || n === 2 || n === 3 || n === 4 || n === 8;
}

function readControl(cpu: Cpu, insn: DecodedInsn): void {
	if (!isControlRegister(insn.reg)) cpu.raise(UD);
	requireSupervisor(cpu);
	let value: bigint;
	switch (insn.reg) {
		case 0:
			value = cpu.get64(L.CR0);
			break;
		case 2:
			value = cpu.get64(L.CR2);
			break;
		case 3:
			value = cpu.get64(L.CR3);
			break;
		case 4:
			value = cpu.get64(L.CR4);
			break;
		default:
			value = readCr8(cpu);
	}
	cpu.setGpr(insn.rm, width(cpu), value);
}

function writeControl(cpu: Cpu, insn: DecodedInsn): void {
	const { reg } = insn;
	if (!isControlRegister(reg)) cpu.raise(UD);
	requireSupervisor(cpu);
	const value = width(cpu) === 8 ? cpu.gpr(insn.rm) : BigInt(cpu.gpr32(insn.rm));
	if (reg === 0) writeCr0(cpu, value);
	else if (reg === 2) cpu.set64(L.CR2, value);
	else if (reg === 3) writeCr3(cpu, value);
	else if (reg === 4) writeCr4(cpu, value);
	else writeCr8(cpu, value);
}

/** Checks an access to a debug register and gives its number, DR4 and DR5 as the DR6 and DR7 they stand for. */
function debugRegister(cpu: Cpu, insn: DecodedInsn): number {
	let n = insn.reg;
	if (n > 7) cpu.raise(UD);
	if (n === 4 || n === 5) {
		if ((cpu.cr4 & CR4_DE) !== 0) cpu.raise(UD);
		n += 2;
	}
	requireSupervisor(cpu);
	if (debugRegistersGuarded(cpu)) {
		noteDebug(cpu, DR6_BD);
		cpu.raise(DB);
	}
	return n;
}

function readDebug(cpu: Cpu, insn: DecodedInsn): void {
	const n = debugRegister(cpu, insn);
	const at = n === 6 ? L.DR6 : n === 7 ? L.DR7 : L.DR + n * 8;
	cpu.setGpr(insn.rm, width(cpu), cpu.get64(at));
}

function writeDebug(cpu: Cpu, insn: DecodedInsn): void {
	const n = debugRegister(cpu, insn);
	const value = width(cpu) === 8 ? cpu.gpr(insn.rm) : BigInt(cpu.gpr32(insn.rm));
	if (n < 4) cpu.set64(L.DR + n * 8, value);
	else {
		if (value >> 32n !== 0n) cpu.raise(GP, 0);
		if (n === 6) cpu.set64(L.DR6, BigInt(dr6Value(Number(value))));
		else cpu.set64(L.DR7, BigInt(dr7Value(Number(value))));
	}
	cpu.core.debugChanged();
}

/** INVPCID: types 0 to 3, all done by dropping more than is asked for. */
function invalidatePcid(cpu: Cpu, insn: DecodedInsn): void {
	if (!cpu.cpuid.has("invpcid")) cpu.raise(UD);
	requireSupervisor(cpu);
	const type = cpu.code64 ? cpu.gpr(insn.reg) : BigInt(cpu.gpr32(insn.reg));
	const at = memoryOperand(cpu, insn, 16, false);
	const pcid = cpu.memory.read64(at);
	const linear = cpu.memory.read64(at + 8n);
	if (type > 3n) cpu.raise(GP, 0);
	if (type <= 1n) {
		if (pcid >> 12n !== 0n || ((cpu.cr4 & CR4_PCIDE) === 0 && pcid !== 0n)) cpu.raise(GP, 0);
		if (type === 0n) {
			if (!isCanonical(linear)) cpu.raise(GP, 0);
			cpu.core.flushPage(linear);
			return;
		}
	}
	cpu.core.flushTlb(type !== 2n);
}

/** Control and debug registers, TLB and cache control. */
export const controlRegisterRows: readonly Instruction[] = [
	defineSystem("mov", "0F 20 /r", "Rq,Cq", readControl, { attributes: ["f64"] }),
	defineSystem("mov", "0F 22 /r", "Cq,Rq", writeControl, { attributes: ["f64"] }),
	defineSystem("mov", "0F 21 /r", "Rq,Dq", readDebug, { attributes: ["f64"] }),
	defineSystem("mov", "0F 23 /r", "Dq,Rq", writeDebug, { attributes: ["f64"] }),
	defineSystem("smsw", "0F 01 /4", "Ev", (cpu, insn) => {
		checkUmip(cpu);
		writeRm16(cpu, insn, cpu.cr0);
	}),
	defineSystem("lmsw", "0F 01 /6", "Ew", (cpu, insn) => {
		requireSupervisor(cpu);
		writeMachineStatus(cpu, readRm16(cpu, insn));
	}),
	defineSystem("clts", "0F 06", "", (cpu) => {
		requireSupervisor(cpu);
		cpu.set64(L.CR0, cpu.get64(L.CR0) & ~BigInt(CR0_TS));
		cpu.core.modeChanged();
	}),
	defineSystem("invlpg", "0F 01 /7 mod=m", "Mb", (cpu, insn) => {
		requireSupervisor(cpu);
		const base = cpu.code64 && insn.segment < L.FS ? 0n : cpu.segmentBase(insn.segment);
		const linear = BigInt.asUintN(cpu.code64 ? 64 : 32, base + insn.offset());
		if (isCanonical(linear)) cpu.core.flushPage(linear);
	}),
	defineSystem("invpcid", "66 0F 38 82 /r", "Gy,Mdq", invalidatePcid, { attributes: ["f64"] }),
	defineSystem("invd", "0F 08", "", requireSupervisor),
	defineSystem("wbinvd", "0F 09", "", requireSupervisor),
	defineSystem("lgdt", "0F 01 /2 mod=m", "M", (cpu, insn) => {
		loadTable(cpu, insn, L.GDTR_BASE, L.GDTR_LIMIT);
	}),
	defineSystem("lidt", "0F 01 /3 mod=m", "M", (cpu, insn) => {
		loadTable(cpu, insn, L.IDTR_BASE, L.IDTR_LIMIT);
	}),
	defineSystem("sgdt", "0F 01 /0 mod=m", "M", (cpu, insn) => {
		storeTable(cpu, insn, L.GDTR_BASE, L.GDTR_LIMIT);
	}),
	defineSystem("sidt", "0F 01 /1 mod=m", "M", (cpu, insn) => {
		storeTable(cpu, insn, L.IDTR_BASE, L.IDTR_LIMIT);
	}),
];

function loadTable(cpu: Cpu, insn: DecodedInsn, base: number, limit: number): void {
	requireSupervisor(cpu);
	if (cpu.virtual8086) requireProtected(cpu);
	const wide = cpu.code64;
	const at = memoryOperand(cpu, insn, wide ? 10 : 6, false);
	const newLimit = cpu.memory.read(at, 2);
	let newBase: bigint;
	if (wide) {
		newBase = cpu.memory.read64(at + 2n);
		if (!isCanonical(newBase)) cpu.raise(GP, 0);
	} else newBase = BigInt(cpu.memory.read(at + 2n, 4)) & (insn.operandSize === 2 ? 0xff_ffffn : 0xffff_ffffn);
	cpu.set64(base, newBase);
	cpu.set32(limit, newLimit);
}

function storeTable(cpu: Cpu, insn: DecodedInsn, base: number, limit: number): void {
	checkUmip(cpu);
	const wide = cpu.code64;
	const at = memoryOperand(cpu, insn, wide ? 10 : 6, true);
	cpu.memory.probe(at, wide ? 10 : 6, true);
	cpu.memory.write(at, 2, cpu.get32(limit));
	// In halves: a pseudo-descriptor's base is aligned to 4 bytes.
	cpu.memory.write(at + 2n, 4, cpu.get32(base));
	if (wide) cpu.memory.write(at + 6n, 4, cpu.get32(base + 4));
}
