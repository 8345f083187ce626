import { type Cpu, GP, NP, SEG_CODE, SEG_EXPAND_DOWN, SEG_UNUSABLE, SEG_WRITABLE, SS_VECTOR } from "./cpu.ts";
import {
	attributesOf,
	type Descriptor,
	dplOf,
	isNull,
	isOrdinary,
	isPresent,
	markAccessed,
	readDescriptor,
	selectorError,
	setSegmentFrom,
	typeOf,
} from "./descriptor.ts";
import * as L from "./layout.ts";

/** Attributes of every segment in virtual-8086 mode: present, DPL 3, writable data, accessed. */
export const V86_ATTRIBUTES = 0xf3;
const REAL_ATTRIBUTES = 0x93;

/** Values of the state's SHADOW word. */
export const SHADOW_STI = 1;
export const SHADOW_MOV_SS = 2;

/** No code is 64-bit or 32-bit segment checked: real mode, or virtual-8086 mode. */
export function realAddressing(cpu: Cpu): boolean {
	return !cpu.protectedMode || cpu.virtual8086;
}

/** Loads a segment register in real or virtual-8086 mode. In real mode limit and attributes stay as they were. */
export function loadRealSegment(cpu: Cpu, segment: number, selector: number): void {
	const base = BigInt(selector) << 4n;
	if (cpu.virtual8086) cpu.setSegment(segment, selector, V86_ATTRIBUTES, 0xffff, base);
	else if ((cpu.segmentAttributes(segment) & SEG_UNUSABLE) !== 0) {
		cpu.setSegment(segment, selector, REAL_ATTRIBUTES, 0xffff, base);
	} else cpu.setSegment(segment, selector, cpu.segmentAttributes(segment), cpu.segmentLimit(segment), base);
}

/** Makes a data segment register null: any use of it outside of 64-bit mode faults. */
export function loadNull(cpu: Cpu, segment: number, selector: number): void {
	cpu.setSegment(segment, selector, SEG_UNUSABLE, 0, 0n);
}

/** Whether a descriptor is writable data. */
export function isWritableData(descriptor: Descriptor): boolean {
	return isOrdinary(descriptor) && (typeOf(descriptor) & (SEG_CODE | SEG_WRITABLE)) === SEG_WRITABLE;
}

/** Whether a descriptor is data, or code that may be read. */
function isReadable(descriptor: Descriptor): boolean {
	return isOrdinary(descriptor) && (typeOf(descriptor) & (SEG_CODE | SEG_WRITABLE)) !== SEG_CODE;
}

/** Whether a descriptor is conforming code. */
export function isConforming(descriptor: Descriptor): boolean {
	return (attributesOf(descriptor) & (SEG_CODE | SEG_EXPAND_DOWN)) === (SEG_CODE | SEG_EXPAND_DOWN);
}

/**
 * Checks a selector for SS at privilege `cpl` (SDM: MOV, POP, LSS to SS).
 *
 * @returns the descriptor, accessed; undefined when null, which only `allowNull` permits
 * @param vector - #GP, or #TS in a task switch or a stack switch
 */
export function checkStackSelector(
	cpu: Cpu,
	selector: number,
	cpl: number,
	allowNull: boolean,
	vector: number = GP,
	external = 0,
): Descriptor | undefined {
	if (isNull(selector)) {
		if (allowNull && (selector & 3) === cpl) return undefined;
		cpu.raise(vector, external);
	}
	const descriptor = readDescriptor(cpu, selector, vector, external);
	const error = selectorError(selector) | external;
	if ((selector & 3) !== cpl || !isWritableData(descriptor) || dplOf(descriptor) !== cpl) cpu.raise(vector, error);
	if (!isPresent(descriptor)) cpu.raise(SS_VECTOR, error);
	return markAccessed(cpu, descriptor);
}

/** Loads SS from what `checkStackSelector` gave. */
export function setStackSegment(cpu: Cpu, selector: number, descriptor: Descriptor | undefined): void {
	if (descriptor === undefined) loadNull(cpu, L.SS, selector);
	else setSegmentFrom(cpu, L.SS, selector, descriptor);
}

/**
 * Checks a selector for DS, ES, FS or GS at privilege `cpl`.
 *
 * @returns the descriptor, accessed; undefined when null
 */
export function checkDataSelector(
	cpu: Cpu,
	selector: number,
	cpl: number,
	vector: number = GP,
): Descriptor | undefined {
	if (isNull(selector)) return undefined;
	const descriptor = readDescriptor(cpu, selector, vector);
	if (!isReadable(descriptor)) cpu.raise(vector, selectorError(selector));
	if (!isConforming(descriptor) && (dplOf(descriptor) < cpl || dplOf(descriptor) < (selector & 3))) {
		cpu.raise(vector, selectorError(selector));
	}
	if (!isPresent(descriptor)) cpu.raise(NP, selectorError(selector));
	return markAccessed(cpu, descriptor);
}

/**
 * Loads ES, SS, DS, FS or GS as MOV, POP and LDS and its kin do, in any mode. `core.modeChanged` is called.
 *
 * @throws through `Cpu.raise`, nothing changed
 */
export function loadSegment(cpu: Cpu, segment: number, selector: number): void {
	if (realAddressing(cpu)) loadRealSegment(cpu, segment, selector);
	else if (segment === L.SS) {
		const descriptor = checkStackSelector(cpu, selector, cpu.cpl, cpu.code64 && cpu.cpl < 3);
		setStackSegment(cpu, selector, descriptor);
	} else {
		const descriptor = checkDataSelector(cpu, selector, cpu.cpl);
		if (descriptor === undefined) loadNull(cpu, segment, selector);
		else setSegmentFrom(cpu, segment, selector, descriptor);
	}
	cpu.core.modeChanged();
}

/** After a return to an outer level: data segment registers that privilege may not use become null (SDM: RET, IRET). */
export function dropInnerSegments(cpu: Cpu): void {
	const { cpl } = cpu;
	for (const segment of [L.ES, L.DS, L.FS, L.GS]) {
		const attributes = cpu.segmentAttributes(segment);
		if ((attributes & SEG_UNUSABLE) !== 0) continue;
		const conforming = (attributes & (SEG_CODE | SEG_EXPAND_DOWN)) === (SEG_CODE | SEG_EXPAND_DOWN);
		// The base stays, as processors have it: 64-bit code can still use that of FS and GS.
		if (!conforming && ((attributes >> 5) & 3) < cpl) {
			cpu.setSegment(segment, 0, SEG_UNUSABLE, cpu.segmentLimit(segment), cpu.segmentBase(segment));
		}
	}
}

/** No interrupt is taken behind the next instruction. */
export function setShadow(cpu: Cpu, value: number): void {
	cpu.set32(L.SHADOW, value);
	cpu.core.interruptsChanged();
}
