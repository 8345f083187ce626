import { type Cpu, MF } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import type { SystemOperation } from "../cpu/system-operation.ts";
import { type Extended, INDEFINITE, type Rounded } from "./extended-number.ts";
import { IE } from "./library.ts";
import { BUSY, C0, C1, C2, C3, ES, SF } from "./x87.ts";

/** The x87's register stack and status word as TypeScript operations use them. */

const physical = (cpu: Cpu, i: number): number => (cpu.get32(L.FTOP) + i) & 7;

/** ST(i). */
export function getSt(cpu: Cpu, i: number): Extended {
	const at = L.X87 + physical(cpu, i) * 16;
	return { significand: cpu.get64(at), se: cpu.u16[(at + 8) >> 1]! };
}

export const isEmpty = (cpu: Cpu, i: number): boolean => ((cpu.get32(L.FTAG) >> physical(cpu, i)) & 1) === 0;

export function setSt(cpu: Cpu, i: number, value: Extended): void {
	const register = physical(cpu, i);
	cpu.set64(L.X87 + register * 16, value.significand);
	cpu.set32(L.X87 + register * 16 + 8, value.se);
	cpu.set32(L.FTAG, cpu.get32(L.FTAG) | (1 << register));
}

export function pop(cpu: Cpu): void {
	const top = cpu.get32(L.FTOP);
	cpu.set32(L.FTAG, cpu.get32(L.FTAG) & ~(1 << top));
	cpu.set32(L.FTOP, (top + 1) & 7);
}

/** Makes room on the stack: the caller has seen that ST(7) is empty, or put up with it. */
export function grow(cpu: Cpu): void {
	cpu.set32(L.FTOP, (cpu.get32(L.FTOP) - 1) & 7);
}

/**
 * Takes exceptions into the status word, C1 with them.
 *
 * @param stopping - exceptions that keep the result from being written
 * @returns whether one of those is unmasked
 */
export function settle(cpu: Cpu, flags: number, stopping = 7): boolean {
	const unmasked = flags & ~cpu.get32(L.FCW) & 0x3f;
	if ((unmasked & 7) !== 0) flags &= (flags & SF) !== 0 ? 7 | SF | C1 : 7;
	const status = (cpu.get32(L.FSW) & ~C1) | flags;
	cpu.set32(L.FSW, unmasked !== 0 ? status | ES | BUSY : status);
	return (unmasked & stopping) !== 0;
}

/** Sets C0, C2 and C3. */
export function setConditions(cpu: Cpu, bits: number): void {
	cpu.set32(L.FSW, (cpu.get32(L.FSW) & ~(C0 | C2 | C3)) | bits);
}

/** Writes a result to ST(i), and pops, unless an exception forbids it. */
export function commit(cpu: Cpu, i: number, result: Rounded, pops = false): boolean {
	if (settle(cpu, result.flags)) return false;
	setSt(cpu, i, result);
	if (pops) pop(cpu);
	return true;
}

/** What an empty operand gives. */
export const UNDERFLOW: Rounded = { ...INDEFINITE, flags: IE | SF };
/** What a push onto a full stack gives. */
export const OVERFLOW: Rounded = { ...INDEFINITE, flags: IE | SF | C1 };

/** A TypeScript row: lets a waiting exception through first, and keeps the instruction's address. */
export function x87Operation(operation: (cpu: Cpu) => void): SystemOperation {
	return (cpu) => {
		if ((cpu.get32(L.FSW) & ES) !== 0) cpu.raise(MF);
		cpu.set64(L.FIP, cpu.rip);
		operation(cpu);
	};
}
