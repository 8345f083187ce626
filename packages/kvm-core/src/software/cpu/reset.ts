import { CR0_ET } from "./control-bits.ts";
import { type Cpu, SEG_P, SEG_S } from "./cpu.ts";
import { MP_RUNNABLE, MP_STATE, MP_UNINITIALIZED } from "./events.ts";
import * as L from "./layout.ts";
import { resetMsrs } from "./msr.ts";
import { initX87, initXmm, MXCSR_INITIAL } from "./state-area.ts";

const DATA = SEG_P | SEG_S | 3;
const CODE = SEG_P | SEG_S | 0xb;
const CR0_AFTER_RESET = 0x6000_0000n | BigInt(CR0_ET);

/**
 * The state after power-on (SDM volume 3, table 10-1): real mode at 0xfffffff0 for the bootstrap processor, waiting for a
 * SIPI for the others.
 */
export function powerOn(cpu: Cpu, bootstrap: boolean): void {
	cpu.u8.fill(0, 0, L.STATE_BYTES);
	cpu.set64(L.TWO_GIB, 0x8000_0000n);
	initX87(cpu);
	initXmm(cpu, 16);
	cpu.set32(L.FCW, 0x37f);
	cpu.set32(L.MXCSR, MXCSR_INITIAL);
	cpu.set64(L.XCR0, 1n);
	resetMsrs(cpu);
	init(cpu, bootstrap);
	cpu.set64(L.CR0, CR0_AFTER_RESET);
}

/** INIT: as power-on, but the x87, SSE and most model-specific registers keep their values, and so do CR0's CD and NW. */
export function init(cpu: Cpu, bootstrap: boolean): void {
	const kept = cpu.get64(L.CR0) & 0x6000_0000n;
	for (let i = 0; i < 16; i++) cpu.setGpr(i, 8, 0n);
	// Family, model and stepping, as CPUID has them.
	cpu.setGpr(L.RDX, 8, BigInt(cpu.cpuid.query(1, 0).eax));
	cpu.set64(L.CR0, kept | BigInt(CR0_ET));
	cpu.set64(L.CR2, 0n);
	cpu.set64(L.CR3, 0n);
	cpu.set64(L.CR4, 0n);
	cpu.set64(L.CR8, 0n);
	cpu.set64(L.EFER, 0n);
	cpu.flags = 2;
	for (const segment of [L.ES, L.SS, L.DS, L.FS, L.GS]) cpu.setSegment(segment, 0, DATA, 0xffff, 0n);
	cpu.setSegment(L.CS, 0xf000, CODE, 0xffff, 0xffff_0000n);
	cpu.setSegment(L.LDTR, 0, SEG_P | 2, 0xffff, 0n);
	cpu.setSegment(L.TR, 0, SEG_P | 0xb, 0xffff, 0n);
	cpu.set64(L.GDTR_BASE, 0n);
	cpu.set32(L.GDTR_LIMIT, 0xffff);
	cpu.set64(L.IDTR_BASE, 0n);
	cpu.set32(L.IDTR_LIMIT, 0xffff);
	for (let i = 0; i < 4; i++) cpu.set64(L.DR + i * 8, 0n);
	cpu.set64(L.DR6, 0xffff_0ff0n);
	cpu.set64(L.DR7, 0x400n);
	cpu.set32(L.SHADOW, 0);
	cpu.u8.fill(0, L.EVENTS, L.EVENTS + 64);
	cpu.set32(MP_STATE, bootstrap ? MP_RUNNABLE : MP_UNINITIALIZED);
	cpu.rip = 0xfff0n;
	cpu.nextRip = 0xfff0n;
	cpu.core.flushTlb(false);
	cpu.core.debugChanged();
	cpu.core.modeChanged();
	cpu.core.interruptsChanged();
}

/** Start-up IPI: real mode at vector * 4 KiB. The caller has seen that the vCPU waits for one. */
export function startUp(cpu: Cpu, vector: number): void {
	cpu.setSegment(L.CS, vector << 8, CODE, 0xffff, BigInt(vector) << 12n);
	cpu.rip = 0n;
	cpu.nextRip = 0n;
	cpu.set32(MP_STATE, MP_RUNNABLE);
	cpu.core.modeChanged();
	cpu.core.interruptsChanged();
}
