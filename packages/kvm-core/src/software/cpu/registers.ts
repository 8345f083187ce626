import type { DebugRegs, Fpu, MpState, Regs, Segment, Sregs, VcpuEvents } from "../../kvm/types.ts";
import { CR4_PAE, EFER_LMA } from "./control-bits.ts";
import { readCr8 } from "./control-registers.ts";
import { type Cpu, SEG_AVL, SEG_DB, SEG_DPL_SHIFT, SEG_G, SEG_L, SEG_P, SEG_S, SEG_TYPE, SEG_UNUSABLE } from "./cpu.ts";
import {
	EXCEPTION,
	EXCEPTION_ERROR,
	EXCEPTION_VECTOR,
	INTERRUPT,
	INTERRUPT_VECTOR,
	MP_STATE,
	NMI_INJECTED,
	NMI_MASKED,
	NMI_PENDING,
	SIPI_VECTOR,
} from "./events.ts";
import * as L from "./layout.ts";
import { readMsr, writeMsr } from "./msr.ts";
import { loadPdptes } from "./paging.ts";
import { SHADOW_MOV_SS, SHADOW_STI } from "./segment-load.ts";
import {
	areaMxcsr,
	initX87,
	initXmm,
	loadX87,
	loadXmm,
	MXCSR_MASK,
	setStatusWord,
	statusWord,
	storeMxcsr,
	storeX87,
	storeXmm,
} from "./state-area.ts";
import { AT_PKRU, COMPONENT_PKRU, COMPONENTS, LEGACY_BYTES, XSAVE_BYTES } from "./xsave-layout.ts";

/** KVM_GET_REGS. `rip` is where the vCPU stands between instructions. */
export function getRegs(cpu: Cpu, rip: bigint): Regs {
	const g = (n: number): bigint => cpu.gpr(n);
	return {
		rax: g(0),
		rcx: g(1),
		rdx: g(2),
		rbx: g(3),
		rsp: g(4),
		rbp: g(5),
		rsi: g(6),
		rdi: g(7),
		r8: g(8),
		r9: g(9),
		r10: g(10),
		r11: g(11),
		r12: g(12),
		r13: g(13),
		r14: g(14),
		r15: g(15),
		rip,
		rflags: BigInt(cpu.flags),
	};
}

/** KVM_SET_REGS, but for RIP, which is the caller's. */
export function setRegs(cpu: Cpu, regs: Readonly<Regs>): void {
	const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = regs;
	[rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15].forEach((value, n) => {
		cpu.setGpr(n, 8, value);
	});
	cpu.flags = Number(BigInt.asUintN(32, regs.rflags));
	if (cpu.virtual8086) cpu.set32(L.CPL, 3);
	cpu.set32(EXCEPTION, 0);
	cpu.core.modeChanged();
	cpu.core.interruptsChanged();
}

function getSegment(cpu: Cpu, segment: number): Segment {
	const attributes = cpu.segmentAttributes(segment);
	const bit = (mask: number): number => ((attributes & mask) !== 0 ? 1 : 0);
	return {
		base: cpu.segmentBase(segment),
		limit: cpu.segmentLimit(segment),
		selector: cpu.segmentSelector(segment),
		type: attributes & SEG_TYPE,
		present: bit(SEG_P),
		dpl: (attributes >> SEG_DPL_SHIFT) & 3,
		db: bit(SEG_DB),
		s: bit(SEG_S),
		l: bit(SEG_L),
		g: bit(SEG_G),
		avl: bit(SEG_AVL),
		unusable: bit(SEG_UNUSABLE),
	};
}

function setSegment(cpu: Cpu, segment: number, from: Readonly<Segment>): void {
	const bit = (value: number, mask: number): number => (value !== 0 ? mask : 0);
	const attributes =
		(from.type & SEG_TYPE) |
		bit(from.s, SEG_S) |
		((from.dpl & 3) << SEG_DPL_SHIFT) |
		bit(from.present, SEG_P) |
		bit(from.avl, SEG_AVL) |
		bit(from.l, SEG_L) |
		bit(from.db, SEG_DB) |
		bit(from.g, SEG_G) |
		bit(from.unusable, SEG_UNUSABLE);
	cpu.setSegment(segment, from.selector & 0xffff, attributes, from.limit >>> 0, BigInt.asUintN(64, from.base));
}

/** KVM_GET_SREGS. */
export function getSregs(cpu: Cpu): Sregs {
	const bitmap: [bigint, bigint, bigint, bigint] = [0n, 0n, 0n, 0n];
	if (cpu.get32(INTERRUPT) === 1) {
		const vector = cpu.get32(INTERRUPT_VECTOR);
		bitmap[vector >> 6] = 1n << BigInt(vector & 63);
	}
	return {
		cs: getSegment(cpu, L.CS),
		ds: getSegment(cpu, L.DS),
		es: getSegment(cpu, L.ES),
		fs: getSegment(cpu, L.FS),
		gs: getSegment(cpu, L.GS),
		ss: getSegment(cpu, L.SS),
		tr: getSegment(cpu, L.TR),
		ldt: getSegment(cpu, L.LDTR),
		gdt: { base: cpu.get64(L.GDTR_BASE), limit: cpu.get32(L.GDTR_LIMIT) },
		idt: { base: cpu.get64(L.IDTR_BASE), limit: cpu.get32(L.IDTR_LIMIT) },
		cr0: cpu.get64(L.CR0),
		cr2: cpu.get64(L.CR2),
		cr3: cpu.get64(L.CR3),
		cr4: cpu.get64(L.CR4),
		cr8: readCr8(cpu),
		efer: cpu.get64(L.EFER),
		apicBase: readMsr(cpu, 0x1b) ?? 0n,
		interruptBitmap: bitmap,
	};
}

/**
 * KVM_SET_SREGS.
 *
 * @returns false, with nothing changed, for what KVM answers with EINVAL: control registers that no vCPU can have
 */
export function setSregs(cpu: Cpu, sregs: Readonly<Sregs>): boolean {
	const { cr0, cr4, efer } = sregs;
	const [pe, pg, pae, lma, lme] = [
		cr0 & 1n,
		(cr0 >> 31n) & 1n,
		(cr4 >> 5n) & 1n,
		(efer >> 10n) & 1n,
		(efer >> 8n) & 1n,
	];
	if (cr0 >> 32n !== 0n || (pg === 1n && pe === 0n)) return false;
	if ((cr4 & ~BigInt(cpu.cpuid.cr4)) !== 0n || (efer & ~BigInt(cpu.cpuid.efer)) !== 0n) return false;
	if (pg === 1n && lme === 1n) {
		if (pae === 0n || lma === 0n || sregs.cr3 >> BigInt(cpu.cpuid.physicalBits) !== 0n) return false;
	} else if (lma === 1n || (sregs.cs.l !== 0 && lma === 1n)) return false;
	if (!writeMsr(cpu, 0x1b, sregs.apicBase, true)) return false;
	cpu.set64(L.CR0, cr0 | 0x10n);
	cpu.set64(L.CR2, sregs.cr2);
	cpu.set64(L.CR3, sregs.cr3);
	cpu.set64(L.CR4, cr4);
	cpu.set64(L.EFER, efer);
	const priority = Number(sregs.cr8 & 15n);
	cpu.set32(L.CR8, priority);
	cpu.apic?.setTaskPriority(priority << 4);
	for (const [segment, from] of [
		[L.ES, sregs.es],
		[L.CS, sregs.cs],
		[L.SS, sregs.ss],
		[L.DS, sregs.ds],
		[L.FS, sregs.fs],
		[L.GS, sregs.gs],
		[L.LDTR, sregs.ldt],
		[L.TR, sregs.tr],
	] as const) {
		setSegment(cpu, segment, from);
	}
	// As KVM has it, SS's DPL is the CPL; it is also right where CS is conforming.
	if (pe === 1n && !cpu.virtual8086) cpu.set32(L.CPL, sregs.ss.dpl & 3);
	cpu.set64(L.GDTR_BASE, sregs.gdt.base);
	cpu.set32(L.GDTR_LIMIT, sregs.gdt.limit & 0xffff);
	cpu.set64(L.IDTR_BASE, sregs.idt.base);
	cpu.set32(L.IDTR_LIMIT, sregs.idt.limit & 0xffff);
	const pending = sregs.interruptBitmap.findIndex((word) => word !== 0n);
	if (pending >= 0) {
		const word = sregs.interruptBitmap[pending]!;
		let bit = 0;
		while (((word >> BigInt(bit)) & 1n) === 0n) bit++;
		cpu.set32(INTERRUPT, 1);
		cpu.set32(INTERRUPT_VECTOR, pending * 64 + bit);
	}
	if (pg === 1n && (cpu.cr4 & CR4_PAE) !== 0 && (cpu.efer & EFER_LMA) === 0)
		loadPdptes(cpu.mmu, Number(sregs.cr3 & 0xffff_ffffn));
	cpu.core.flushTlb(false);
	cpu.core.modeChanged();
	cpu.core.interruptsChanged();
	return true;
}

/** KVM_GET_FPU. */
export function getFpu(cpu: Cpu): Fpu {
	const top = cpu.get32(L.FTOP);
	const bytes = (at: number): Uint8Array => cpu.u8.slice(at, at + 16);
	const fpr: Uint8Array[] = [];
	for (let i = 0; i < 8; i++) fpr.push(bytes(L.X87 + ((top + i) & 7) * 16));
	const xmm: Uint8Array[] = [];
	for (let i = 0; i < 16; i++) xmm.push(bytes(L.XMM + i * 16));
	return {
		fpr,
		fcw: cpu.get32(L.FCW),
		fsw: statusWord(cpu),
		ftwx: cpu.get32(L.FTAG) & 0xff,
		lastOpcode: cpu.get32(L.FOP),
		lastIp: cpu.get64(L.FIP),
		lastDp: cpu.get64(L.FDP),
		xmm,
		mxcsr: cpu.get32(L.MXCSR),
	};
}

/** KVM_SET_FPU. */
export function setFpu(cpu: Cpu, fpu: Readonly<Fpu>): void {
	cpu.set32(L.FCW, (fpu.fcw & 0x1f7f) | 0x40);
	setStatusWord(cpu, fpu.fsw);
	cpu.set32(L.FTAG, fpu.ftwx & 0xff);
	cpu.set32(L.FOP, fpu.lastOpcode & 0x7ff);
	cpu.set64(L.FIP, fpu.lastIp);
	cpu.set64(L.FDP, fpu.lastDp);
	const top = cpu.get32(L.FTOP);
	for (let i = 0; i < 8; i++) {
		const at = L.X87 + ((top + i) & 7) * 16;
		cpu.u8.fill(0, at, at + 16);
		cpu.u8.set(fpu.fpr[i]!.subarray(0, 10), at);
	}
	for (let i = 0; i < 16; i++) cpu.u8.set(fpu.xmm[i]!.subarray(0, 16), L.XMM + i * 16);
	cpu.set32(L.MXCSR, fpu.mxcsr & MXCSR_MASK);
}

/** Bytes of KVM_GET_XSAVE's answer. */
export const KVM_XSAVE_BYTES = 4096;

/** KVM_GET_XSAVE: the standard format, all components. */
export function getXsave(cpu: Cpu): Uint8Array {
	const area = new Uint8Array(KVM_XSAVE_BYTES);
	const view = new DataView(area.buffer);
	storeX87(cpu, view, true);
	storeMxcsr(cpu, view);
	storeXmm(cpu, view, 16);
	view.setUint32(AT_PKRU, cpu.get32(L.PKRU), true);
	view.setUint32(LEGACY_BYTES, COMPONENTS, true);
	return area;
}

/**
 * KVM_SET_XSAVE.
 *
 * @returns false, with nothing changed, when the header names components that are not there or MXCSR is impossible
 */
export function setXsave(cpu: Cpu, area: Uint8Array): boolean {
	if (area.length < XSAVE_BYTES) return false;
	const view = new DataView(area.buffer, area.byteOffset, area.byteLength);
	const present = view.getBigUint64(LEGACY_BYTES, true);
	if ((present & ~BigInt(COMPONENTS)) !== 0n || view.getBigUint64(LEGACY_BYTES + 8, true) !== 0n) return false;
	const mxcsr = areaMxcsr(view);
	if ((mxcsr & ~MXCSR_MASK) !== 0) return false;
	if ((present & 1n) !== 0n) loadX87(cpu, view, true);
	else initX87(cpu);
	if ((present & 2n) !== 0n) loadXmm(cpu, view, 16);
	else initXmm(cpu, 16);
	cpu.set32(L.MXCSR, mxcsr);
	cpu.set32(L.PKRU, (present & BigInt(COMPONENT_PKRU)) !== 0n ? view.getUint32(AT_PKRU, true) : 0);
	cpu.core.flushTlb(false);
	return true;
}

/** KVM_GET_VCPU_EVENTS. */
export function getVcpuEvents(cpu: Cpu): VcpuEvents {
	const error = cpu.i32[EXCEPTION_ERROR >> 2]!;
	const exception = cpu.get32(EXCEPTION);
	const shadow = cpu.get32(L.SHADOW);
	return {
		exception: {
			injected: exception === 2,
			pending: exception === 1,
			nr: cpu.get32(EXCEPTION_VECTOR),
			hasErrorCode: exception !== 0 && error !== -1,
			errorCode: exception !== 0 && error !== -1 ? error : 0,
		},
		interrupt: {
			injected: cpu.get32(INTERRUPT) !== 0,
			nr: cpu.get32(INTERRUPT_VECTOR),
			soft: cpu.get32(INTERRUPT) === 2,
			shadow: shadow === SHADOW_MOV_SS ? "mov-ss" : shadow === SHADOW_STI ? "sti" : "none",
		},
		nmi: {
			injected: cpu.get32(NMI_INJECTED) !== 0,
			pending: cpu.get32(NMI_PENDING) !== 0,
			masked: cpu.get32(NMI_MASKED) !== 0,
		},
		sipiVector: cpu.get32(SIPI_VECTOR),
	};
}

/** KVM_SET_VCPU_EVENTS. */
export function setVcpuEvents(cpu: Cpu, events: Readonly<VcpuEvents>): void {
	const { exception, interrupt, nmi } = events;
	cpu.set32(EXCEPTION, exception.injected ? 2 : exception.pending ? 1 : 0);
	cpu.set32(EXCEPTION_VECTOR, exception.nr & 0xff);
	cpu.set32(EXCEPTION_ERROR, exception.hasErrorCode ? exception.errorCode : 0xffff_ffff);
	cpu.set32(INTERRUPT, interrupt.injected ? (interrupt.soft ? 2 : 1) : 0);
	cpu.set32(INTERRUPT_VECTOR, interrupt.nr & 0xff);
	cpu.set32(L.SHADOW, interrupt.shadow === "mov-ss" ? SHADOW_MOV_SS : interrupt.shadow === "sti" ? SHADOW_STI : 0);
	cpu.set32(NMI_INJECTED, nmi.injected ? 1 : 0);
	cpu.set32(NMI_PENDING, nmi.pending ? 1 : 0);
	cpu.set32(NMI_MASKED, nmi.masked ? 1 : 0);
	cpu.set32(SIPI_VECTOR, events.sipiVector & 0xff);
	cpu.core.interruptsChanged();
}

/** KVM_GET_DEBUGREGS. */
export function getDebugRegs(cpu: Cpu): DebugRegs {
	return {
		db: [cpu.get64(L.DR), cpu.get64(L.DR + 8), cpu.get64(L.DR + 16), cpu.get64(L.DR + 24)],
		dr6: cpu.get64(L.DR6),
		dr7: cpu.get64(L.DR7),
	};
}

/**
 * KVM_SET_DEBUGREGS.
 *
 * @returns false for what KVM answers with EINVAL
 */
export function setDebugRegs(cpu: Cpu, regs: Readonly<DebugRegs>): boolean {
	if (regs.dr6 >> 32n !== 0n || regs.dr7 >> 32n !== 0n) return false;
	regs.db.forEach((value, i) => {
		cpu.set64(L.DR + i * 8, value);
	});
	cpu.set64(L.DR6, regs.dr6);
	cpu.set64(L.DR7, regs.dr7);
	cpu.core.debugChanged();
	return true;
}

const MP_STATES: readonly MpState[] = ["runnable", "uninitialized", "init-received", "halted", "sipi-received"];

export function getMpState(cpu: Cpu): MpState {
	return MP_STATES[cpu.get32(MP_STATE)]!;
}

export function setMpState(cpu: Cpu, state: MpState): void {
	cpu.set32(MP_STATE, MP_STATES.indexOf(state));
	cpu.core.interruptsChanged();
}
