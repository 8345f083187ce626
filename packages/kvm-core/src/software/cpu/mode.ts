import { MODE_FLAT, MODE_FS_FULL, MODE_GS_FULL, MODE_NO_FPU, MODE_NO_SSE, MODE_STACK_32 } from "../decode/mode.ts";
import { type Cpu, SEG_CODE, SEG_DB, SEG_EXPAND_DOWN, SEG_P, SEG_S, SEG_UNUSABLE, SEG_WRITABLE } from "./cpu.ts";
import * as L from "./layout.ts";

const CR0_EM = 4;
const CR0_TS = 8;
const CR0_AM = 0x4_0000;
const CR4_OSFXSR = 0x200;
const CR4_SMAP = 0x20_0000;

/**
 * Derives what generated code goes by from the architectural state: segment bases and shortcuts, the TLBs of the
 * current privilege, and the decoding mode, which it returns.
 */
export function deriveMode(cpu: Cpu): number {
	const code = cpu.segmentAttributes(L.CS);
	const code64 = cpu.code64;
	const real = !cpu.protectedMode || cpu.virtual8086;
	let mode = code64 ? 2 : (code & SEG_DB) !== 0 ? 1 : 0;
	for (let segment = L.ES; segment <= L.GS; segment++) {
		const attributes = cpu.segmentAttributes(segment);
		const record = L.SEGMENTS + segment * L.SEGMENT_BYTES;
		let fast = 0;
		if (code64) fast = L.FAST_UNLIMITED;
		else if ((attributes & SEG_UNUSABLE) === 0) {
			const isCode = (attributes & SEG_CODE) !== 0;
			if (real) fast = L.FAST_READ | L.FAST_WRITE;
			else if ((attributes & (SEG_P | SEG_S)) === (SEG_P | SEG_S)) {
				if (isCode) fast = (attributes & SEG_WRITABLE) !== 0 ? L.FAST_READ : 0;
				else if ((attributes & SEG_EXPAND_DOWN) === 0) {
					fast = L.FAST_READ | ((attributes & SEG_WRITABLE) !== 0 ? L.FAST_WRITE : 0);
				}
			}
		}
		cpu.set32(record + L.SEGMENT_FAST, fast);
		const based = !code64 || segment >= L.FS;
		cpu.set64(L.SEG_BASE + segment * 8, based ? cpu.segmentBase(segment) : 0n);
	}
	if (code64) mode |= MODE_FLAT | MODE_FS_FULL | MODE_GS_FULL;
	else {
		if (isFlat(cpu, L.DS) && isFlat(cpu, L.ES) && isFlat(cpu, L.SS)) mode |= MODE_FLAT;
		if (isFull(cpu, L.FS)) mode |= MODE_FS_FULL;
		if (isFull(cpu, L.GS)) mode |= MODE_GS_FULL;
		if ((cpu.segmentAttributes(L.SS) & SEG_DB) !== 0) mode |= MODE_STACK_32;
	}
	if ((cpu.cr0 & (CR0_EM | CR0_TS)) !== 0) mode |= MODE_NO_FPU | MODE_NO_SSE;
	if ((cpu.cr4 & CR4_OSFXSR) === 0) mode |= MODE_NO_SSE;
	cpu.set32(L.CODE_64, code64 ? 1 : 0);
	cpu.set32(L.MODE, mode);
	const user = cpu.cpl === 3;
	// Without SMAP the second supervisor TLB is never chosen.
	const kind = user ? 0 : (cpu.cr4 & CR4_SMAP) !== 0 && (cpu.systemFlags & L.AC) !== 0 ? 2 : 1;
	const checksAlignment = user && (cpu.cr0 & CR0_AM) !== 0 && (cpu.systemFlags & L.AC) !== 0;
	const tlb = cpu.base + L.TLBS + kind * 2 * L.TLB_BYTES;
	cpu.set32(L.TLB_READ, checksAlignment ? cpu.base + L.EMPTY_TLB : tlb);
	cpu.set32(L.TLB_WRITE, checksAlignment ? cpu.base + L.EMPTY_TLB : tlb + L.TLB_BYTES);
	cpu.set32(L.TLB_CODE, cpu.base + L.CODE_TLBS + (user ? 0 : L.CODE_TLB_BYTES));
	return mode;
}

/** Covers 4 GiB and may be written through. */
function isFull(cpu: Cpu, segment: number): boolean {
	const record = L.SEGMENTS + segment * L.SEGMENT_BYTES;
	const both = L.FAST_READ | L.FAST_WRITE;
	return (cpu.get32(record + L.SEGMENT_FAST) & both) === both && cpu.segmentLimit(segment) === 0xffff_ffff;
}

function isFlat(cpu: Cpu, segment: number): boolean {
	return isFull(cpu, segment) && cpu.segmentBase(segment) === 0n;
}
