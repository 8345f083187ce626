import { type Cpu, GP, NP, SEG_DB, SEG_L } from "./cpu.ts";
import {
	attributesOf,
	CALL_GATE16,
	CALL_GATE32,
	type Descriptor,
	dplOf,
	gateOffset,
	gateSelector,
	isCanonical,
	isCode,
	isNull,
	isOrdinary,
	isPresent,
	limitOf,
	markAccessed,
	readDescriptor,
	readUpper,
	selectorError,
	setSegmentFrom,
	TASK_GATE,
	TSS16_AVAILABLE,
	typeOf,
} from "./descriptor.ts";
import { innerStack } from "./inner-stack.ts";
import * as L from "./layout.ts";
import { isConforming, loadRealSegment, realAddressing } from "./segment-load.ts";
import { type StackCursor, stackCursor } from "./stack.ts";
import { switchTask } from "./task-switch.ts";

/** Where a call gate leads. */
interface Gate {
	readonly selector: number;
	readonly offset: bigint;
	readonly parameters: number;
	/** Bytes per pushed item. */
	readonly size: 2 | 4 | 8;
}

/** JMP ptr16:16/32 and m16:16/32/64. */
export function farJump(cpu: Cpu, selector: number, offset: bigint): void {
	if (realAddressing(cpu)) {
		jumpReal(cpu, selector, offset);
		return;
	}
	const descriptor = target(cpu, selector);
	if (isOrdinary(descriptor)) {
		checkDirect(cpu, selector, descriptor);
		checkOffset(cpu, descriptor, offset);
		enterCode(cpu, (selector & ~3) | cpu.cpl, descriptor, offset);
	} else if (isTask(cpu, descriptor)) {
		switchTask(cpu, taskSelector(cpu, selector, descriptor), "jump", cpu.nextRip);
	} else {
		const gate = readGate(cpu, selector, descriptor);
		const code = gateTarget(cpu, gate);
		if (isConforming(code) ? dplOf(code) > cpu.cpl : dplOf(code) !== cpu.cpl)
			cpu.raise(GP, selectorError(gate.selector));
		if (!isPresent(code)) cpu.raise(NP, selectorError(gate.selector));
		checkOffset(cpu, code, gate.offset);
		enterCode(cpu, (gate.selector & ~3) | cpu.cpl, code, gate.offset);
	}
}

/** CALL ptr16:16/32 and m16:16/32/64; `size` is the operand size. */
export function farCall(cpu: Cpu, selector: number, offset: bigint, size: 2 | 4 | 8): void {
	if (realAddressing(cpu)) {
		const stack = stackCursor(cpu);
		stack.push(size, cpu.segmentSelector(L.CS));
		stack.push(size, cpu.nextRip);
		checkRealOffset(cpu, offset);
		stack.commit();
		loadRealSegment(cpu, L.CS, selector);
		cpu.core.modeChanged();
		cpu.jump(offset);
		return;
	}
	const descriptor = target(cpu, selector);
	if (isOrdinary(descriptor)) {
		checkDirect(cpu, selector, descriptor);
		callSameLevel(cpu, selector, descriptor, offset, size);
	} else if (isTask(cpu, descriptor)) {
		switchTask(cpu, taskSelector(cpu, selector, descriptor), "call", cpu.nextRip);
	} else callGate(cpu, readGate(cpu, selector, descriptor));
}

function jumpReal(cpu: Cpu, selector: number, offset: bigint): void {
	checkRealOffset(cpu, offset);
	loadRealSegment(cpu, L.CS, selector);
	cpu.core.modeChanged();
	cpu.jump(offset);
}

function checkRealOffset(cpu: Cpu, offset: bigint): void {
	if (offset > BigInt(cpu.segmentLimit(L.CS))) cpu.raise(GP, 0);
}

function target(cpu: Cpu, selector: number): Descriptor {
	if (isNull(selector)) cpu.raise(GP, 0);
	return readDescriptor(cpu, selector);
}

/** Checks a code segment named directly by a far JMP or CALL. */
function checkDirect(cpu: Cpu, selector: number, descriptor: Descriptor): void {
	const error = selectorError(selector);
	if (!isCode(descriptor)) cpu.raise(GP, error);
	checkLongCode(cpu, descriptor, error);
	if (isConforming(descriptor)) {
		if (dplOf(descriptor) > cpu.cpl) cpu.raise(GP, error);
	} else if ((selector & 3) > cpu.cpl || dplOf(descriptor) !== cpu.cpl) cpu.raise(GP, error);
	if (!isPresent(descriptor)) cpu.raise(NP, error);
}

/** In long mode a code segment cannot have L and D both. */
export function checkLongCode(cpu: Cpu, descriptor: Descriptor, error: number): void {
	if (cpu.longMode && (attributesOf(descriptor) & (SEG_L | SEG_DB)) === (SEG_L | SEG_DB)) cpu.raise(GP, error);
}

/** Whether code run from this descriptor is 64-bit. */
export function isLongCode(cpu: Cpu, descriptor: Descriptor): boolean {
	return cpu.longMode && (attributesOf(descriptor) & SEG_L) !== 0;
}

/** The new RIP must be canonical or within the limit: #GP(external). */
export function checkOffset(cpu: Cpu, descriptor: Descriptor, offset: bigint, external = 0): void {
	if (isLongCode(cpu, descriptor)) {
		if (!isCanonical(offset)) cpu.raise(GP, external);
	} else if (offset > BigInt(limitOf(descriptor))) cpu.raise(GP, external);
}

/** Loads CS and goes on at `offset`; its RPL becomes the CPL. */
export function enterCode(cpu: Cpu, selector: number, descriptor: Descriptor, offset: bigint): void {
	setSegmentFrom(cpu, L.CS, selector, markAccessed(cpu, descriptor));
	cpu.core.modeChanged();
	cpu.jump(offset);
}

function isTask(cpu: Cpu, descriptor: Descriptor): boolean {
	const type = typeOf(descriptor);
	return (
		!cpu.longMode && (type === TASK_GATE || (type & ~8) === TSS16_AVAILABLE || (type & ~8) === (TSS16_AVAILABLE | 2))
	);
}

/** Checks a TSS descriptor or a task gate that a far JMP or CALL names, and gives the TSS's selector. */
function taskSelector(cpu: Cpu, selector: number, descriptor: Descriptor): number {
	const error = selectorError(selector);
	const dpl = dplOf(descriptor);
	if (dpl < cpu.cpl || dpl < (selector & 3)) cpu.raise(GP, error);
	if (typeOf(descriptor) !== TASK_GATE) return selector;
	if (!isPresent(descriptor)) cpu.raise(NP, error);
	return gateSelector(descriptor);
}

/** Checks a call gate and reads it. */
function readGate(cpu: Cpu, selector: number, descriptor: Descriptor): Gate {
	const error = selectorError(selector);
	const type = typeOf(descriptor);
	if (type !== CALL_GATE32 && (cpu.longMode || type !== CALL_GATE16)) cpu.raise(GP, error);
	if (dplOf(descriptor) < cpu.cpl || dplOf(descriptor) < (selector & 3)) cpu.raise(GP, error);
	let offset = BigInt(gateOffset(descriptor));
	if (cpu.longMode) {
		const upper = readUpper(cpu, descriptor) ?? cpu.raise(GP, error);
		if ((upper.type & 0x1f00) !== 0) cpu.raise(GP, error);
		offset |= BigInt(upper.base) << 32n;
	}
	if (!isPresent(descriptor)) cpu.raise(NP, error);
	if (type === CALL_GATE16) offset &= 0xffffn;
	return {
		selector: gateSelector(descriptor),
		offset,
		parameters: cpu.longMode ? 0 : descriptor.high & 0x1f,
		size: cpu.longMode ? 8 : type === CALL_GATE16 ? 2 : 4,
	};
}

/** The code segment behind a call gate, but for the checks of its DPL against the CPL. */
function gateTarget(cpu: Cpu, gate: Gate): Descriptor {
	const code = target(cpu, gate.selector);
	const error = selectorError(gate.selector);
	if (!isCode(code)) cpu.raise(GP, error);
	if (cpu.longMode && (attributesOf(code) & (SEG_L | SEG_DB)) !== SEG_L) cpu.raise(GP, error);
	return code;
}

function callSameLevel(cpu: Cpu, selector: number, code: Descriptor, offset: bigint, size: 2 | 4 | 8): void {
	const stack = stackCursor(cpu);
	// The stack comes before the limit: what is pushed stays in memory when that is exceeded.
	pushReturn(cpu, stack, size);
	checkOffset(cpu, code, offset);
	stack.commit();
	enterCode(cpu, (selector & ~3) | cpu.cpl, code, offset);
}

function pushReturn(cpu: Cpu, stack: StackCursor, size: 2 | 4 | 8): void {
	stack.push(size, cpu.segmentSelector(L.CS));
	stack.push(size, cpu.nextRip);
}

function callGate(cpu: Cpu, gate: Gate): void {
	const code = gateTarget(cpu, gate);
	const error = selectorError(gate.selector);
	const dpl = dplOf(code);
	if (dpl > cpu.cpl) cpu.raise(GP, error);
	if (!isPresent(code)) cpu.raise(NP, error);
	if (isConforming(code) || dpl === cpu.cpl) {
		callSameLevel(cpu, gate.selector, code, gate.offset, gate.size);
		return;
	}
	const parameters: bigint[] = [];
	const old = stackCursor(cpu);
	for (let i = 0; i < gate.parameters; i++) parameters.push(old.pop(gate.size));
	const inner = innerStack(cpu, dpl, 0);
	const { stack } = inner;
	stack.push(gate.size, cpu.segmentSelector(L.SS));
	stack.push(gate.size, cpu.gpr(L.RSP));
	for (const parameter of parameters.reverse()) stack.push(gate.size, parameter);
	pushReturn(cpu, stack, gate.size);
	checkOffset(cpu, code, gate.offset);
	inner.enter();
	stack.commit();
	enterCode(cpu, (gate.selector & ~3) | dpl, code, gate.offset);
}
