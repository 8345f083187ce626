import { type Cpu, GP, SEG_CODE, SEG_DB, SEG_EXPAND_DOWN, SEG_UNUSABLE, SEG_WRITABLE, SS_VECTOR } from "./cpu.ts";
import { isCanonical } from "./descriptor.ts";
import * as L from "./layout.ts";
import type { DecodedInsn } from "./system-operation.ts";

const M64 = 0xffff_ffff_ffff_ffffn;

/**
 * Linear address of `size` bytes at an offset in a segment, after the segment's own checks: #GP(0), or #SS(0) through
 * SS. The offset is already cut to the address size.
 */
export function linearAddress(cpu: Cpu, segment: number, offset: bigint, size: number, write: boolean): bigint {
	const vector = segment === L.SS ? SS_VECTOR : GP;
	if (cpu.code64) {
		const base = segment === L.FS || segment === L.GS ? cpu.segmentBase(segment) : 0n;
		const linear = (base + offset) & M64;
		if (!isCanonical(linear) || !isCanonical((linear + BigInt(size - 1)) & M64)) cpu.raise(vector, 0);
		return linear;
	}
	const attributes = cpu.segmentAttributes(segment);
	if ((attributes & SEG_UNUSABLE) !== 0) cpu.raise(vector, 0);
	if (cpu.protectedMode && !cpu.virtual8086) {
		const code = (attributes & SEG_CODE) !== 0;
		if (write ? code || (attributes & SEG_WRITABLE) === 0 : code && (attributes & SEG_WRITABLE) === 0)
			cpu.raise(vector, 0);
	}
	if (!withinLimit(attributes, cpu.segmentLimit(segment), offset, size)) cpu.raise(vector, 0);
	return (cpu.segmentBase(segment) + offset) & 0xffff_ffffn;
}

/** Whether `size` bytes at `offset` lie in a segment, expand-down ones considered. */
export function withinLimit(attributes: number, limit: number, offset: bigint, size: number): boolean {
	const first = Number(offset);
	const last = first + size - 1;
	if ((attributes & (SEG_CODE | SEG_EXPAND_DOWN)) === SEG_EXPAND_DOWN) {
		const top = (attributes & SEG_DB) !== 0 ? 0xffff_ffff : 0xffff;
		return first > limit && last <= top;
	}
	return last <= limit;
}

/** Linear address of an instruction's memory operand, `at` bytes behind its beginning. */
export function memoryOperand(cpu: Cpu, insn: DecodedInsn, size: number, write: boolean, at = 0): bigint {
	let offset = insn.offset();
	if (at !== 0) {
		const bits = insn.addressSize * 8;
		offset = BigInt.asUintN(bits, offset + BigInt(at));
	}
	return linearAddress(cpu, insn.segment, offset, size, write);
}

/** Reads ModRM.rm as 16 bits, whatever the operand size is. */
export function readRm16(cpu: Cpu, insn: DecodedInsn): number {
	if (!insn.isMemory) return cpu.gpr16(insn.rm);
	return cpu.memory.read(memoryOperand(cpu, insn, 2, false), 2);
}

/** Writes 16 bits to memory, or the operand size, zero-extended, to a register: SLDT, STR, SMSW. */
export function writeRm16(cpu: Cpu, insn: DecodedInsn, value: number): void {
	if (insn.isMemory) cpu.memory.write(memoryOperand(cpu, insn, 2, true), 2, value & 0xffff);
	else if (insn.operandSize === 2) cpu.setGpr(insn.rm, 2, value & 0xffff);
	else cpu.setGpr(insn.rm, insn.operandSize === 8 ? 8 : 4, value);
}

/** Reads `size` bytes as bigint. */
export function readSized(cpu: Cpu, linear: bigint, size: number, system = false): bigint {
	if (size === 8) return cpu.memory.read64(linear, system);
	return BigInt(cpu.memory.read(linear, size as 1 | 2 | 4, system));
}

/** Writes `size` bytes of a bigint. */
export function writeSized(cpu: Cpu, linear: bigint, size: number, value: bigint, system = false): void {
	if (size === 8) cpu.memory.write64(linear, BigInt.asUintN(64, value), system);
	else cpu.memory.write(linear, size as 1 | 2 | 4, Number(BigInt.asUintN(size * 8, value)), system);
}
