import type { Cpu } from "./cpu.ts";
import * as L from "./layout.ts";
import { COMPONENT_PKRU, COMPONENT_SSE, COMPONENT_X87 } from "./xsave-layout.ts";

/** MXCSR bits that may be set. */
export const MXCSR_MASK = 0xffff;
export const MXCSR_INITIAL = 0x1f80;
const FCW_INITIAL = 0x37f;

const AT_FCW = 0;
const AT_FSW = 2;
const AT_FTW = 4;
const AT_FOP = 6;
const AT_FIP = 8;
const AT_FCS = 12;
const AT_FDP = 16;
const AT_FDS = 20;
const AT_MXCSR = 24;
const AT_MXCSR_MASK = 28;
const AT_ST = 32;
const AT_XMM = 160;

/** The status word with TOP in it. */
export function statusWord(cpu: Cpu): number {
	return (cpu.get32(L.FSW) & ~0x3800) | (cpu.get32(L.FTOP) << 11);
}

/** Sets the status word and TOP. */
export function setStatusWord(cpu: Cpu, value: number): void {
	cpu.set32(L.FSW, value & 0xc7ff);
	cpu.set32(L.FTOP, (value >> 11) & 7);
}

/** Byte offset in the state of the physical register that ST(`n`) is. */
function stackRegister(cpu: Cpu, n: number): number {
	return L.X87 + ((cpu.get32(L.FTOP) + n) & 7) * 16;
}

/**
 * Writes the x87 part of an FXSAVE area.
 *
 * @param wide - FXSAVE64's form: 64-bit instruction and operand pointers
 */
export function storeX87(cpu: Cpu, area: DataView, wide: boolean): void {
	area.setUint16(AT_FCW, cpu.get32(L.FCW), true);
	area.setUint16(AT_FSW, statusWord(cpu), true);
	area.setUint16(AT_FTW, cpu.get32(L.FTAG) & 0xff, true);
	area.setUint16(AT_FOP, cpu.get32(L.FOP) & 0x7ff, true);
	if (wide) {
		area.setBigUint64(AT_FIP, cpu.get64(L.FIP), true);
		area.setBigUint64(AT_FDP, cpu.get64(L.FDP), true);
	} else {
		area.setUint32(AT_FIP, cpu.get32(L.FIP), true);
		area.setUint32(AT_FCS, cpu.get32(L.FCS) & 0xffff, true);
		area.setUint32(AT_FDP, cpu.get32(L.FDP), true);
		area.setUint32(AT_FDS, cpu.get32(L.FDS) & 0xffff, true);
	}
	for (let i = 0; i < 8; i++) {
		const from = stackRegister(cpu, i);
		for (let k = 0; k < 16; k++) area.setUint8(AT_ST + i * 16 + k, k < 10 ? cpu.u8[from + k]! : 0);
	}
}

/** Loads the x87 part of an FXSAVE area. */
export function loadX87(cpu: Cpu, area: DataView, wide: boolean): void {
	cpu.set32(L.FCW, (area.getUint16(AT_FCW, true) & 0x1f7f) | 0x40);
	setStatusWord(cpu, area.getUint16(AT_FSW, true));
	cpu.set32(L.FTAG, area.getUint8(AT_FTW));
	cpu.set32(L.FOP, area.getUint16(AT_FOP, true) & 0x7ff);
	if (wide) {
		cpu.set64(L.FIP, area.getBigUint64(AT_FIP, true));
		cpu.set64(L.FDP, area.getBigUint64(AT_FDP, true));
		cpu.set32(L.FCS, 0);
		cpu.set32(L.FDS, 0);
	} else {
		cpu.set64(L.FIP, BigInt(area.getUint32(AT_FIP, true)));
		cpu.set32(L.FCS, area.getUint16(AT_FCS, true));
		cpu.set64(L.FDP, BigInt(area.getUint32(AT_FDP, true)));
		cpu.set32(L.FDS, area.getUint16(AT_FDS, true));
	}
	for (let i = 0; i < 8; i++) {
		const to = stackRegister(cpu, i);
		for (let k = 0; k < 16; k++) cpu.u8[to + k] = k < 10 ? area.getUint8(AT_ST + i * 16 + k) : 0;
	}
}

/** x87 as FNINIT leaves it, registers zero: the initial configuration of XRSTOR. */
export function initX87(cpu: Cpu): void {
	cpu.set32(L.FCW, FCW_INITIAL);
	setStatusWord(cpu, 0);
	cpu.set32(L.FTAG, 0);
	cpu.set32(L.FOP, 0);
	cpu.set64(L.FIP, 0n);
	cpu.set64(L.FDP, 0n);
	cpu.set32(L.FCS, 0);
	cpu.set32(L.FDS, 0);
	cpu.u8.fill(0, L.X87, L.X87 + 128);
}

/** Whether x87 is in its initial configuration. */
function x87InUse(cpu: Cpu): boolean {
	if (cpu.get32(L.FCW) !== FCW_INITIAL || statusWord(cpu) !== 0 || cpu.get32(L.FTAG) !== 0) return true;
	if (cpu.get32(L.FOP) !== 0 || cpu.get64(L.FIP) !== 0n || cpu.get64(L.FDP) !== 0n) return true;
	if (cpu.get32(L.FCS) !== 0 || cpu.get32(L.FDS) !== 0) return true;
	for (let at = L.X87; at < L.X87 + 128; at += 4) if (cpu.get32(at) !== 0) return true;
	return false;
}

function sseInUse(cpu: Cpu): boolean {
	for (let at = L.XMM; at < L.XMM + 256; at += 4) if (cpu.get32(at) !== 0) return true;
	return false;
}

/** XINUSE: the components that are not in their initial configuration. */
export function componentsInUse(cpu: Cpu): number {
	const keys = cpu.get32(L.PKRU) !== 0 ? COMPONENT_PKRU : 0;
	return (x87InUse(cpu) ? COMPONENT_X87 : 0) | (sseInUse(cpu) ? COMPONENT_SSE : 0) | keys;
}

/** Writes MXCSR and its mask. */
export function storeMxcsr(cpu: Cpu, area: DataView): void {
	area.setUint32(AT_MXCSR, cpu.get32(L.MXCSR), true);
	area.setUint32(AT_MXCSR_MASK, MXCSR_MASK, true);
}

/** MXCSR as an area has it. */
export function areaMxcsr(area: DataView): number {
	return area.getUint32(AT_MXCSR, true);
}

/** Writes the first `count` XMM registers. */
export function storeXmm(cpu: Cpu, area: DataView, count: number): void {
	new Uint8Array(area.buffer, area.byteOffset + AT_XMM, count * 16).set(cpu.u8.subarray(L.XMM, L.XMM + count * 16));
}

/** Loads the first `count` XMM registers. */
export function loadXmm(cpu: Cpu, area: DataView, count: number): void {
	cpu.u8.set(new Uint8Array(area.buffer, area.byteOffset + AT_XMM, count * 16), L.XMM);
}

export function initXmm(cpu: Cpu, count: number): void {
	cpu.u8.fill(0, L.XMM, L.XMM + count * 16);
}
