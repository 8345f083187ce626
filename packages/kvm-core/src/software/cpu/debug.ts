import type { Cpu } from "./cpu.ts";
import * as L from "./layout.ts";

/** DR6. */
export const DR6_BD: number = 1 << 13;
export const DR6_BS: number = 1 << 14;
export const DR6_BT: number = 1 << 15;
/** Bits of DR6 that always read as 1, and those that can be written. */
const DR6_FIXED = 0xffff_0ff0;
const DR6_WRITABLE = 0xe00f;
const DR7_FIXED = 0x400;
const DR7_WRITABLE = 0xffff_23ff;
const DR7_GD = 1 << 13;

/** DR6 as it reads after writing `value`. */
export function dr6Value(value: number): number {
	return ((value & DR6_WRITABLE) | DR6_FIXED) >>> 0;
}

/** DR7 as it reads after writing `value`. */
export function dr7Value(value: number): number {
	return ((value & DR7_WRITABLE) | DR7_FIXED) >>> 0;
}

/** Whether any access to a debug register is to be caught. */
export function debugRegistersGuarded(cpu: Cpu): boolean {
	return (cpu.get32(L.DR7) & DR7_GD) !== 0;
}

/**
 * Records what a #DB is for, before it is raised or delivered: sets `bits` in DR6, and clears DR7.GD, as the handler's
 * entry does.
 */
export function noteDebug(cpu: Cpu, bits: number): void {
	// The processor never clears BS, BT or BD; B0-3 say which breakpoints matched this time.
	const sticky = cpu.get32(L.DR6) & ~0xf;
	cpu.set32(L.DR6, (sticky | bits) >>> 0);
	if (debugRegistersGuarded(cpu)) {
		cpu.set32(L.DR7, cpu.get32(L.DR7) & ~DR7_GD);
		cpu.core.debugChanged();
	}
}

/** What a breakpoint register watches. */
export type BreakpointKind = "execute" | "write" | "io" | "access";

/** One enabled breakpoint of DR0-3. */
export interface Breakpoint {
	/** 0 to 3: its bit in DR6. */
	readonly index: number;
	readonly kind: BreakpointKind;
	readonly address: bigint;
	readonly length: 1 | 2 | 4 | 8;
}

const KINDS: readonly BreakpointKind[] = ["execute", "write", "io", "access"];
const LENGTHS = [1, 2, 8, 4] as const;

/** The breakpoints that DR7 enables, with addresses cut to their alignment. */
export function breakpoints(cpu: Cpu): Breakpoint[] {
	const dr7 = cpu.get32(L.DR7);
	const found: Breakpoint[] = [];
	for (let index = 0; index < 4; index++) {
		if (((dr7 >> (index * 2)) & 3) === 0) continue;
		const control = (dr7 >>> (16 + index * 4)) & 0xf;
		const kind = KINDS[control & 3]!;
		const length = kind === "execute" ? 1 : LENGTHS[control >> 2]!;
		const address = cpu.get64(L.DR + index * 8) & ~BigInt(length - 1);
		found.push({ index, kind, address, length });
	}
	return found;
}

/** DR6 bits of the data breakpoints that an access touches. */
export function matchData(cpu: Cpu, linear: bigint, size: number, write: boolean): number {
	let bits = 0;
	for (const { index, kind, address, length } of breakpoints(cpu)) {
		if (kind !== "access" && !(write && kind === "write")) continue;
		if (linear < address + BigInt(length) && address < linear + BigInt(size)) bits |= 1 << index;
	}
	return bits;
}

/** DR6 bits of the instruction breakpoints at a linear address. RF suppresses them. */
export function matchExecution(cpu: Cpu, linear: bigint): number {
	if ((cpu.systemFlags & L.RF) !== 0) return 0;
	let bits = 0;
	for (const { index, kind, address } of breakpoints(cpu)) {
		if (kind === "execute" && address === linear) bits |= 1 << index;
	}
	return bits;
}

/** DR6 bits of the I/O breakpoints (CR4.DE) that a port access touches. */
export function matchPort(cpu: Cpu, port: number, size: number): number {
	let bits = 0;
	for (const { index, kind, address, length } of breakpoints(cpu)) {
		if (kind !== "io") continue;
		const first = Number(address & 0xffffn);
		if (port < first + length && first < port + size) bits |= 1 << index;
	}
	return bits;
}
