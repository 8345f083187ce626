import { type Cpu, SEG_UNUSABLE, SS_VECTOR, TS } from "./cpu.ts";
import { attributesOf, baseOf, isCanonical, limitOf, selectorError } from "./descriptor.ts";
import * as L from "./layout.ts";
import { checkStackSelector, loadNull, setStackSegment } from "./segment-load.ts";
import { StackCursor } from "./stack.ts";

/** The stack of an inner privilege level while a transfer builds its frame there. */
export interface InnerStack {
	readonly stack: StackCursor;
	/** Loads SS. Nothing can fault any more. */
	enter(): void;
}

/** Whether TR holds a 32-bit (or 64-bit) TSS rather than a 16-bit one. */
export function isWideTss(cpu: Cpu): boolean {
	return (cpu.segmentAttributes(L.TR) & 8) !== 0;
}

function tssField(cpu: Cpu, offset: number, size: number, external: number): bigint {
	if ((cpu.segmentAttributes(L.TR) & SEG_UNUSABLE) !== 0 || offset + size - 1 > cpu.segmentLimit(L.TR)) {
		cpu.raise(TS, selectorError(cpu.segmentSelector(L.TR)) | external);
	}
	return BigInt.asUintN(64, cpu.segmentBase(L.TR) + BigInt(offset));
}

/** In long mode: a stack pointer out of the TSS, RSP0-2 (`level`) or an IST entry (`ist` 1-7). */
export function longStackPointer(cpu: Cpu, level: number, ist: number, external: number): bigint {
	const offset = ist !== 0 ? 28 + ist * 8 : 4 + level * 8;
	const pointer = cpu.memory.read64(tssField(cpu, offset, 8, external), true);
	if (!isCanonical(pointer)) cpu.raise(SS_VECTOR, external);
	return pointer;
}

/** The stack for handlers and gates at privilege `level` out of the current TSS, checked. */
export function innerStack(cpu: Cpu, level: number, external: number): InnerStack {
	if (cpu.longMode) {
		const pointer = longStackPointer(cpu, level, 0, external);
		return {
			stack: longStack(cpu, pointer, external),
			enter: () => loadNull(cpu, L.SS, level),
		};
	}
	let pointer: bigint;
	let selector: number;
	if (isWideTss(cpu)) {
		const at = tssField(cpu, 4 + level * 8, 6, external);
		pointer = BigInt(cpu.memory.read(at, 4, true));
		selector = cpu.memory.read(at + 4n, 2, true);
	} else {
		const at = tssField(cpu, 2 + level * 4, 4, external);
		pointer = BigInt(cpu.memory.read(at, 2, true));
		selector = cpu.memory.read(at + 2n, 2, true);
	}
	const descriptor = checkStackSelector(cpu, selector, level, false, TS, external)!;
	const segment = {
		base: BigInt(baseOf(descriptor)),
		limit: limitOf(descriptor),
		attributes: attributesOf(descriptor),
		long: false,
		errorCode: selectorError(selector) | external,
		system: true,
	};
	return {
		stack: new StackCursor(cpu, segment, pointer),
		enter: () => setStackSegment(cpu, selector, descriptor),
	};
}

/** A 64-bit stack. */
export function longStack(cpu: Cpu, pointer: bigint, errorCode: number, system = true): StackCursor {
	return new StackCursor(cpu, { base: 0n, limit: 0, attributes: 0, long: true, errorCode, system }, pointer);
}
