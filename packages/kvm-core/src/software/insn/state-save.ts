import { CR0_EM, CR0_TS, CR4_OSXSAVE, CR4_PKE } from "../cpu/control-bits.ts";
import { type Cpu, GP, NM, UD } from "../cpu/cpu.ts";
import type { Feature } from "../cpu/cpuid-features.ts";
import * as L from "../cpu/layout.ts";
import { memoryOperand } from "../cpu/operand.ts";
import {
	areaMxcsr,
	componentsInUse,
	initX87,
	initXmm,
	loadX87,
	loadXmm,
	MXCSR_INITIAL,
	MXCSR_MASK,
	storeMxcsr,
	storeX87,
	storeXmm,
} from "../cpu/state-area.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import {
	AT_PKRU,
	COMPONENT_PKRU,
	COMPONENT_SSE,
	COMPONENT_X87,
	LEGACY_BYTES,
	XSAVE_BYTES,
} from "../cpu/xsave-layout.ts";
import { defineSystem, type Instruction } from "./define.ts";

const area = new DataView(new ArrayBuffer(XSAVE_BYTES));
const COMPACTED = 0x8000_0000;
const AT_XSTATE_BV = LEGACY_BYTES;
const AT_XCOMP_BV = LEGACY_BYTES + 8;
/** Behind the XMM registers the legacy area is software's. */
const XMM_END = 160 + 256;

function xmmCount(cpu: Cpu): number {
	return cpu.code64 ? 16 : 8;
}

/**
 * Address of FXSAVE's and FXRSTOR's area. Of its faults the SDM leaves the order open (vol. 3, 6.15, interrupt 17: also
 * whether a misaligned one is #AC where alignment is checked): the first four bytes lie in the segment, then the area is
 * aligned, then all of it lies in the segment.
 */
function legacyOperand(cpu: Cpu, insn: DecodedInsn, write: boolean): bigint {
	const first = memoryOperand(cpu, insn, 4, false);
	if ((first & 15n) !== 0n) {
		cpu.memory.checkAlignment(first, 4);
		cpu.raise(GP, 0);
	}
	return memoryOperand(cpu, insn, LEGACY_BYTES, write);
}

/** Address of an XSAVE area: a misaligned one is #GP, even beyond the segment's limit. */
function extendedOperand(cpu: Cpu, insn: DecodedInsn, size: number, write: boolean): bigint {
	const misplaced = (cpu.get64(L.SEG_BASE + insn.segment * 8) + insn.offset()) & 63n;
	return misplaced === 0n ? memoryOperand(cpu, insn, size, write) : cpu.raise(GP, 0);
}

function readArea(cpu: Cpu, at: bigint, from: number, to: number): void {
	for (let i = from; i < to; i += 4) area.setUint32(i, cpu.memory.read(at + BigInt(i), 4), true);
}

function writeArea(cpu: Cpu, at: bigint, from: number, to: number): void {
	for (let i = from; i < to; i += 4) cpu.memory.write(at + BigInt(i), 4, area.getUint32(i, true));
}

function fxsave(cpu: Cpu, insn: DecodedInsn): void {
	if ((cpu.cr0 & (CR0_EM | CR0_TS)) !== 0) cpu.raise(NM);
	const at = legacyOperand(cpu, insn, true);
	cpu.memory.probe(at, LEGACY_BYTES, true);
	const count = xmmCount(cpu);
	storeX87(cpu, area, insn.operandSize === 8);
	storeMxcsr(cpu, area);
	storeXmm(cpu, area, count);
	writeArea(cpu, at, 0, 160 + count * 16);
}

function fxrstor(cpu: Cpu, insn: DecodedInsn): void {
	if ((cpu.cr0 & (CR0_EM | CR0_TS)) !== 0) cpu.raise(NM);
	const at = legacyOperand(cpu, insn, false);
	cpu.memory.probe(at, LEGACY_BYTES, false);
	readArea(cpu, at, 0, XMM_END);
	const mxcsr = areaMxcsr(area);
	if ((mxcsr & ~MXCSR_MASK) !== 0) cpu.raise(GP, 0);
	loadX87(cpu, area, insn.operandSize === 8);
	cpu.set32(L.MXCSR, mxcsr);
	loadXmm(cpu, area, xmmCount(cpu));
}

function checkXsave(cpu: Cpu): void {
	if ((cpu.cr4 & CR4_OSXSAVE) === 0) cpu.raise(UD);
	if ((cpu.cr0 & CR0_TS) !== 0) cpu.raise(NM);
}

/** The requested-feature bitmap; all there is stands in its low word. */
function requested(cpu: Cpu): number {
	return cpu.gpr32(L.RAX) & cpu.get32(L.XCR0);
}

/** Bytes of the area that an instruction with this bitmap touches. */
function areaBytes(bitmap: number): number {
	return (bitmap & COMPONENT_PKRU) !== 0 ? XSAVE_BYTES : AT_PKRU;
}

/** XSAVE, XSAVEOPT (leaves out what is in its initial configuration) and XSAVEC (the compacted form as well). */
function xsave(kind: "xsave" | "xsaveopt" | "xsavec"): SystemOperation {
	return (cpu, insn) => {
		if (kind !== "xsave" && !cpu.cpuid.has(kind satisfies Feature)) cpu.raise(UD);
		checkXsave(cpu);
		const bitmap = requested(cpu);
		const size = areaBytes(bitmap);
		const at = extendedOperand(cpu, insn, size, true);
		cpu.memory.probe(at, size, true);
		let inUse = componentsInUse(cpu);
		if (kind === "xsavec" && cpu.get32(L.MXCSR) !== MXCSR_INITIAL) inUse |= COMPONENT_SSE;
		const written = kind === "xsave" ? bitmap : bitmap & inUse;
		if ((written & COMPONENT_X87) !== 0) {
			storeX87(cpu, area, insn.operandSize === 8);
			writeArea(cpu, at, 0, 24);
			writeArea(cpu, at, 32, 160);
		}
		// MXCSR goes with the request, not with the registers; but in the compacted form it is part of them.
		if (((kind === "xsavec" ? written : bitmap) & COMPONENT_SSE) !== 0) {
			storeMxcsr(cpu, area);
			writeArea(cpu, at, 24, 32);
		}
		if ((written & COMPONENT_SSE) !== 0) {
			const count = xmmCount(cpu);
			storeXmm(cpu, area, count);
			writeArea(cpu, at, 160, 160 + count * 16);
		}
		if ((written & COMPONENT_PKRU) !== 0) {
			area.setUint32(AT_PKRU, cpu.get32(L.PKRU), true);
			area.setUint32(AT_PKRU + 4, 0, true);
			writeArea(cpu, at, AT_PKRU, AT_PKRU + 8);
		}
		if (kind === "xsavec") {
			area.setUint32(AT_XSTATE_BV, bitmap & inUse, true);
			area.setUint32(AT_XSTATE_BV + 4, 0, true);
			area.setUint32(AT_XCOMP_BV, bitmap, true);
			area.setUint32(AT_XCOMP_BV + 4, COMPACTED, true);
			writeArea(cpu, at, AT_XSTATE_BV, AT_XSTATE_BV + 16);
			return;
		}
		readArea(cpu, at, AT_XSTATE_BV, AT_XSTATE_BV + 4);
		area.setUint32(AT_XSTATE_BV, (area.getUint32(AT_XSTATE_BV, true) & ~bitmap) | (bitmap & inUse), true);
		writeArea(cpu, at, AT_XSTATE_BV, AT_XSTATE_BV + 4);
	};
}

function xrstor(cpu: Cpu, insn: DecodedInsn): void {
	checkXsave(cpu);
	const size = areaBytes(requested(cpu));
	const at = extendedOperand(cpu, insn, size, false);
	cpu.memory.probe(at, size, false);
	readArea(cpu, at, 0, XMM_END);
	readArea(cpu, at, LEGACY_BYTES, size);
	const xcr0 = cpu.get32(L.XCR0);
	const present = checkHeader(cpu, xcr0);
	const compacted = (area.getUint32(AT_XCOMP_BV + 4, true) & COMPACTED) !== 0;
	const bitmap = requested(cpu);
	let mxcsr = cpu.get32(L.MXCSR);
	if ((bitmap & COMPONENT_SSE) !== 0) {
		mxcsr = compacted && (present & COMPONENT_SSE) === 0 ? MXCSR_INITIAL : areaMxcsr(area);
		if ((mxcsr & ~MXCSR_MASK) !== 0) cpu.raise(GP, 0);
	}
	if ((bitmap & COMPONENT_X87) !== 0) {
		if ((present & COMPONENT_X87) !== 0) loadX87(cpu, area, insn.operandSize === 8);
		else initX87(cpu);
	}
	if ((bitmap & COMPONENT_SSE) !== 0) {
		cpu.set32(L.MXCSR, mxcsr);
		if ((present & COMPONENT_SSE) !== 0) loadXmm(cpu, area, xmmCount(cpu));
		else initXmm(cpu, xmmCount(cpu));
	}
	if ((bitmap & COMPONENT_PKRU) !== 0) {
		setProtectionKeys(cpu, (present & COMPONENT_PKRU) !== 0 ? area.getUint32(AT_PKRU, true) : 0);
	}
}

/** Sets PKRU; what was translated under other rights is looked up anew. */
function setProtectionKeys(cpu: Cpu, value: number): void {
	if (cpu.get32(L.PKRU) === value) return;
	cpu.set32(L.PKRU, value);
	cpu.core.flushTlb(false);
}

function readProtectionKeys(cpu: Cpu): void {
	if ((cpu.cr4 & CR4_PKE) === 0) cpu.raise(UD);
	if (cpu.gpr32(L.RCX) !== 0) cpu.raise(GP, 0);
	cpu.setGpr(L.RAX, 4, cpu.get32(L.PKRU));
	cpu.setGpr(L.RDX, 4, 0);
}

function writeProtectionKeys(cpu: Cpu): void {
	if ((cpu.cr4 & CR4_PKE) === 0) cpu.raise(UD);
	if (cpu.gpr32(L.RCX) !== 0 || cpu.gpr32(L.RDX) !== 0) cpu.raise(GP, 0);
	setProtectionKeys(cpu, cpu.gpr32(L.RAX));
}

/** Checks the XSAVE header (SDM volume 1, 13.8): #GP(0). Returns XSTATE_BV. */
function checkHeader(cpu: Cpu, xcr0: number): number {
	const present = area.getUint32(AT_XSTATE_BV, true);
	const format = area.getUint32(AT_XCOMP_BV, true);
	const formatHigh = area.getUint32(AT_XCOMP_BV + 4, true);
	let wrong: boolean;
	if ((formatHigh & COMPACTED) === 0) {
		wrong = (present & ~xcr0) !== 0 || format !== 0 || formatHigh !== 0;
		for (let i = 16; i < 24; i += 4) wrong ||= area.getUint32(LEGACY_BYTES + i, true) !== 0;
	} else {
		wrong = !cpu.cpuid.has("xsavec") || formatHigh !== COMPACTED || (format & ~xcr0) !== 0 || (present & ~format) !== 0;
		for (let i = 16; i < 64; i += 4) wrong ||= area.getUint32(LEGACY_BYTES + i, true) !== 0;
	}
	if (wrong || area.getUint32(AT_XSTATE_BV + 4, true) !== 0) cpu.raise(GP, 0);
	return present;
}

/** Saving and restoring x87 and SSE state. */
export const stateSaveRows: readonly Instruction[] = [
	defineSystem("fxsave", "NP 0F AE /0 mod=m", "M", fxsave),
	defineSystem("fxrstor", "NP 0F AE /1 mod=m", "M", fxrstor),
	defineSystem("xsave", "NP 0F AE /4 mod=m", "M", xsave("xsave")),
	defineSystem("xrstor", "NP 0F AE /5 mod=m", "M", xrstor),
	defineSystem("xsaveopt", "NP 0F AE /6 mod=m", "M", xsave("xsaveopt")),
	defineSystem("xsavec", "NP 0F C7 /4 mod=m", "M", xsave("xsavec")),
	defineSystem("rdpkru", "NP 0F 01 /5 mod=3 rm=6", "", readProtectionKeys),
	defineSystem("wrpkru", "NP 0F 01 /5 mod=3 rm=7", "", writeProtectionKeys),
];
