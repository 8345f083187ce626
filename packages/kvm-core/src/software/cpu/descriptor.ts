import { type Cpu, GP, SEG_CODE, SEG_DPL_SHIFT, SEG_G, SEG_P, SEG_S, SEG_UNUSABLE } from "./cpu.ts";
import * as L from "./layout.ts";

/** A descriptor as it stands in a table. */
export interface Descriptor {
	/** Where it stands. */
	readonly linear: bigint;
	readonly selector: number;
	/** Bytes 0-3. */
	readonly low: number;
	/** Bytes 4-7. */
	readonly high: number;
}

/** System descriptor types, as 4 bits. */
export const TSS16_AVAILABLE = 1;
export const LDT = 2;
export const TSS16_BUSY = 3;
export const CALL_GATE16 = 4;
export const TASK_GATE = 5;
export const INTERRUPT_GATE16 = 6;
export const TRAP_GATE16 = 7;
export const TSS32_AVAILABLE = 9;
export const TSS32_BUSY = 11;
export const CALL_GATE32 = 12;
export const INTERRUPT_GATE32 = 14;
export const TRAP_GATE32 = 15;

/** Type, S, DPL, P, AVL, L, D/B, G in the layout of SEG_*. */
export function attributesOf(descriptor: Descriptor): number {
	return (descriptor.high >>> 8) & 0xf0ff;
}

/** Base of a code, data or 32-bit system segment. */
export function baseOf({ low, high }: Descriptor): number {
	return (((high & 0xff00_0000) | ((high & 0xff) << 16)) >>> 0) + (low >>> 16);
}

/** Limit in bytes. */
export function limitOf({ low, high }: Descriptor): number {
	const limit = (high & 0xf_0000) | (low & 0xffff);
	return ((high >>> 8) & SEG_G) !== 0 ? ((limit << 12) | 0xfff) >>> 0 : limit;
}

/** The four type bits. */
export function typeOf({ high }: Descriptor): number {
	return (high >>> 8) & 0xf;
}

export function dplOf({ high }: Descriptor): number {
	return (high >>> (8 + SEG_DPL_SHIFT)) & 3;
}

export function isPresent({ high }: Descriptor): boolean {
	return ((high >>> 8) & SEG_P) !== 0;
}

/** Code or data, not a system descriptor. */
export function isOrdinary({ high }: Descriptor): boolean {
	return ((high >>> 8) & SEG_S) !== 0;
}

export function isCode(descriptor: Descriptor): boolean {
	return isOrdinary(descriptor) && (typeOf(descriptor) & SEG_CODE) !== 0;
}

/** Whether a task switch may enter a TSS of this type other than by IRET. */
export function isAvailableTss(type: number): boolean {
	return type === TSS16_AVAILABLE || type === TSS32_AVAILABLE;
}

/** Selector part of a gate. */
export function gateSelector({ low }: Descriptor): number {
	return low >>> 16;
}

/** Offset part of a 32-bit gate. */
export function gateOffset({ low, high }: Descriptor): number {
	return ((high & 0xffff_0000) | (low & 0xffff)) >>> 0;
}

/** A selector with RPL 0, as error codes have it. */
export function selectorError(selector: number): number {
	return selector & 0xfffc;
}

/** The selector is null (index 0 of the GDT, any RPL). */
export function isNull(selector: number): boolean {
	return (selector & 0xfffc) === 0;
}

/** Linear address of the `bytes` at the selector's table entry, or undefined when the table is too short or absent. */
function entryAddress(cpu: Cpu, selector: number, bytes: number): bigint | undefined {
	const offset = selector & 0xfff8;
	if ((selector & 4) === 0) {
		if (offset + bytes - 1 > cpu.get32(L.GDTR_LIMIT)) return undefined;
		return BigInt.asUintN(64, cpu.get64(L.GDTR_BASE) + BigInt(offset));
	}
	if ((cpu.segmentAttributes(L.LDTR) & SEG_UNUSABLE) !== 0) return undefined;
	if (offset + bytes - 1 > cpu.segmentLimit(L.LDTR)) return undefined;
	return BigInt.asUintN(64, cpu.segmentBase(L.LDTR) + BigInt(offset));
}

/** Reads the descriptor a selector names, or undefined when it lies outside of its table. */
export function findDescriptor(cpu: Cpu, selector: number): Descriptor | undefined {
	const linear = entryAddress(cpu, selector, 8);
	if (linear === undefined) return undefined;
	return { linear, selector, low: cpu.memory.read(linear, 4, true), high: cpu.memory.read(linear + 4n, 4, true) };
}

/**
 * Reads the descriptor a selector names.
 *
 * @param vector - raised with the selector as error code when it lies outside of its table
 * @param external - EXT bit of error codes
 */
export function readDescriptor(cpu: Cpu, selector: number, vector: number = GP, external = 0): Descriptor {
	return findDescriptor(cpu, selector) ?? cpu.raise(vector, selectorError(selector) | external);
}

/**
 * Bytes 8-15 of a 16-byte descriptor (system descriptors in long mode), as bytes 8-11 and 12-15; undefined when the
 * table ends before them.
 */
export function readUpper(cpu: Cpu, descriptor: Descriptor): { base: number; type: number } | undefined {
	const linear = entryAddress(cpu, descriptor.selector, 16);
	if (linear === undefined) return undefined;
	return { base: cpu.memory.read(linear + 8n, 4, true), type: cpu.memory.read(linear + 12n, 4, true) };
}

/** Sets the accessed bit of a code or data descriptor in its table and returns the descriptor with it. */
export function markAccessed(cpu: Cpu, descriptor: Descriptor): Descriptor {
	if ((descriptor.high & 0x100) !== 0) return descriptor;
	cpu.memory.write(descriptor.linear + 5n, 1, ((descriptor.high >>> 8) & 0xff) | 1, true);
	return { ...descriptor, high: (descriptor.high | 0x100) >>> 0 };
}

/** Fills a segment register from a checked code or data descriptor. */
export function setSegmentFrom(cpu: Cpu, segment: number, selector: number, descriptor: Descriptor): void {
	cpu.setSegment(segment, selector, attributesOf(descriptor), limitOf(descriptor), BigInt(baseOf(descriptor)));
}

/** Whether a 64-bit address is canonical with 48 bits. */
export function isCanonical(address: bigint): boolean {
	const top = BigInt.asUintN(64, address) >> 47n;
	return top === 0n || top === 0x1_ffffn;
}
