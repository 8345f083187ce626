import {
	CR0_CD,
	CR0_ET,
	CR0_NW,
	CR0_PE,
	CR0_PG,
	CR0_WP,
	CR4_PAE,
	CR4_PCIDE,
	CR4_PGE,
	CR4_PSE,
	CR4_SMAP,
	CR4_SMEP,
	EFER_LMA,
	EFER_LME,
} from "./control-bits.ts";
import { type Cpu, GP, SEG_L } from "./cpu.ts";
import * as L from "./layout.ts";
import { loadPdptes } from "./paging.ts";

/** Bits of CR0 that can be set; ET always is. */
const CR0_BITS = 0xe005_003f;

/** MOV to CR0: SDM volume 3, 2.5 and 10.8.5 (entering and leaving long mode). */
export function writeCr0(cpu: Cpu, value: bigint): void {
	if (value >> 32n !== 0n) cpu.raise(GP, 0);
	const next = ((Number(value) & CR0_BITS) | CR0_ET) >>> 0;
	const now = cpu.cr0;
	const changed = now ^ next;
	if ((next & CR0_PG) !== 0 && (next & CR0_PE) === 0) cpu.raise(GP, 0);
	if ((next & CR0_NW) !== 0 && (next & CR0_CD) === 0) cpu.raise(GP, 0);
	let { efer } = cpu;
	if ((changed & CR0_PG) !== 0) {
		if ((next & CR0_PG) !== 0) {
			if ((efer & EFER_LME) !== 0) {
				if ((cpu.cr4 & CR4_PAE) === 0 || (cpu.segmentAttributes(L.CS) & SEG_L) !== 0) cpu.raise(GP, 0);
				efer |= EFER_LMA;
			}
		} else {
			if (cpu.code64 || (cpu.cr4 & CR4_PCIDE) !== 0) cpu.raise(GP, 0);
			efer &= ~EFER_LMA;
		}
	}
	const pae = (next & CR0_PG) !== 0 && (cpu.cr4 & CR4_PAE) !== 0 && (efer & EFER_LMA) === 0;
	if (pae && (changed & (CR0_PG | CR0_CD | CR0_NW)) !== 0 && !loadPdptes(cpu.mmu, cpu.get32(L.CR3))) cpu.raise(GP, 0);
	cpu.set64(L.CR0, BigInt(next));
	cpu.set32(L.EFER, efer);
	if ((changed & (CR0_PG | CR0_PE | CR0_WP)) !== 0) cpu.core.flushTlb(false);
	cpu.core.modeChanged();
}

/** LMSW: the low four bits of CR0, of which PE can only be set. */
export function writeMachineStatus(cpu: Cpu, value: number): void {
	const now = cpu.cr0;
	writeCr0(cpu, BigInt(((now & ~0xe) | (value & 0xf)) >>> 0));
}

/** MOV to CR3. */
export function writeCr3(cpu: Cpu, value: bigint): void {
	if (!cpu.longMode) {
		const pae = (cpu.cr0 & CR0_PG) !== 0 && (cpu.cr4 & CR4_PAE) !== 0;
		if (pae && !loadPdptes(cpu.mmu, Number(value & 0xffff_ffffn))) cpu.raise(GP, 0);
		cpu.set64(L.CR3, value & 0xffff_ffffn);
	} else {
		// Bit 63 asks to keep translations, which is only a hint.
		const address = (cpu.cr4 & CR4_PCIDE) !== 0 ? value & ~(1n << 63n) : value;
		if (address >> BigInt(cpu.cpuid.physicalBits) !== 0n) cpu.raise(GP, 0);
		cpu.set64(L.CR3, address);
	}
	cpu.core.flushTlb(true);
}

/** MOV to CR4. */
export function writeCr4(cpu: Cpu, value: bigint): void {
	if ((value & ~BigInt(cpu.cpuid.cr4)) !== 0n) cpu.raise(GP, 0);
	const next = Number(value);
	const now = cpu.cr4;
	const changed = now ^ next;
	if (cpu.longMode && (next & CR4_PAE) === 0) cpu.raise(GP, 0);
	if ((changed & next & CR4_PCIDE) !== 0 && (!cpu.longMode || (cpu.get32(L.CR3) & 0xfff) !== 0)) cpu.raise(GP, 0);
	const paging = changed & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP | CR4_PCIDE);
	if (paging !== 0 && (cpu.cr0 & CR0_PG) !== 0 && (next & CR4_PAE) !== 0 && !cpu.longMode) {
		if (!loadPdptes(cpu.mmu, cpu.get32(L.CR3))) cpu.raise(GP, 0);
	}
	cpu.set64(L.CR4, value);
	if (paging !== 0) cpu.core.flushTlb(false);
	cpu.core.modeChanged();
}

/** MOV to CR8: the task priority. */
export function writeCr8(cpu: Cpu, value: bigint): void {
	if (value > 15n) cpu.raise(GP, 0);
	cpu.set32(L.CR8, Number(value));
	if (cpu.apic !== undefined) {
		cpu.apic.setTaskPriority(Number(value) << 4);
		cpu.core.interruptsChanged();
	}
}

export function readCr8(cpu: Cpu): bigint {
	return cpu.apic === undefined ? BigInt(cpu.get32(L.CR8)) : BigInt(cpu.apic.getTaskPriority() >> 4);
}

/**
 * WRMSR to EFER.
 *
 * @returns false: #GP
 */
export function writeEfer(cpu: Cpu, value: bigint): boolean {
	if ((value & ~BigInt(cpu.cpuid.efer)) !== 0n) return false;
	const now = cpu.efer;
	const next = (Number(value) & ~EFER_LMA) | (now & EFER_LMA);
	if (((now ^ next) & EFER_LME) !== 0 && (cpu.cr0 & CR0_PG) !== 0) return false;
	cpu.set32(L.EFER, next);
	cpu.core.flushTlb(false);
	cpu.core.modeChanged();
	return true;
}
