import { type Cpu, GP, NP, TS } from "./cpu.ts";
import {
	type Descriptor,
	dplOf,
	isCode,
	isNull,
	isPresent,
	markAccessed,
	readDescriptor,
	selectorError,
	setSegmentFrom,
} from "./descriptor.ts";
import { NMI_MASKED } from "./events.ts";
import { checkLongCode, checkOffset, enterCode, isLongCode } from "./far-transfer.ts";
import { ioPrivilege, poppedFlags, setFlags } from "./flags.ts";
import * as L from "./layout.ts";
import {
	checkStackSelector,
	dropInnerSegments,
	isConforming,
	loadRealSegment,
	realAddressing,
	setStackSegment,
	V86_ATTRIBUTES,
} from "./segment-load.ts";
import { stackCursor } from "./stack.ts";
import { switchTask } from "./task-switch.ts";

/** RETF: `size` is the operand size, `extra` the bytes of parameters to drop. */
export function farReturn(cpu: Cpu, size: 2 | 4 | 8, extra: number): void {
	const stack = stackCursor(cpu);
	const offset = stack.pop(size);
	const selector = stack.popSelector(size);
	if (realAddressing(cpu)) {
		if (offset > BigInt(cpu.segmentLimit(L.CS))) cpu.raise(GP, 0);
		stack.skip(extra);
		stack.commit();
		loadRealSegment(cpu, L.CS, selector);
		cpu.core.modeChanged();
		cpu.jump(offset);
		return;
	}
	const code = returnTarget(cpu, selector);
	checkOffset(cpu, code, offset);
	if ((selector & 3) === cpu.cpl) {
		stack.skip(extra);
		stack.commit();
		enterCode(cpu, selector, code, offset);
		return;
	}
	stack.skip(extra);
	const pointer = stack.pop(size);
	const ss = stack.popSelector(size);
	const stackDescriptor = returnStack(cpu, selector, code, ss);
	toOuter(cpu, selector, code, offset, ss, stackDescriptor, pointer, size);
	const outer = stackCursor(cpu);
	outer.skip(extra);
	outer.commit();
}

/** IRET, IRETD, IRETQ by operand size. */
export function interruptReturn(cpu: Cpu, size: 2 | 4 | 8): void {
	if (realAddressing(cpu)) returnReal(cpu, size);
	else if ((cpu.systemFlags & L.NT) !== 0) {
		if (cpu.longMode) cpu.raise(GP, 0);
		returnTask(cpu);
	} else returnProtected(cpu, size);
	cpu.set32(NMI_MASKED, 0);
	cpu.core.interruptsChanged();
}

function returnReal(cpu: Cpu, size: 2 | 4 | 8): void {
	const virtual = cpu.virtual8086;
	if (virtual && ioPrivilege(cpu) < 3) cpu.raise(GP, 0);
	const stack = stackCursor(cpu);
	const offset = stack.pop(size);
	const selector = stack.popSelector(size);
	const flags = Number(stack.pop(size) & 0xffff_ffffn);
	if (offset > BigInt(cpu.segmentLimit(L.CS))) cpu.raise(GP, 0);
	stack.commit();
	setFlags(cpu, poppedFlags(cpu, flags, size, true));
	loadRealSegment(cpu, L.CS, selector);
	cpu.core.modeChanged();
	cpu.jump(offset);
}

/** The back link leads to the task that was interrupted. */
function returnTask(cpu: Cpu): void {
	const back = cpu.memory.read(cpu.segmentBase(L.TR), 2, true);
	if (isNull(back)) cpu.raise(TS, 0);
	switchTask(cpu, back, "return", cpu.nextRip);
}

function returnProtected(cpu: Cpu, size: 2 | 4 | 8): void {
	const stack = stackCursor(cpu);
	const offset = stack.pop(size);
	const selector = stack.popSelector(size);
	const flags = Number(stack.pop(size) & 0xffff_ffffn);
	if (size === 4 && (flags & L.VM) !== 0 && cpu.cpl === 0 && !cpu.longMode) {
		const values: bigint[] = [];
		for (let i = 0; i < 6; i++) values.push(stack.pop(4));
		if (offset > 0xffffn) cpu.raise(GP, 0);
		toVirtual8086(cpu, selector, offset, flags, values);
		return;
	}
	const code = returnTarget(cpu, selector);
	const outer = (selector & 3) !== cpu.cpl;
	if (!outer && !cpu.code64) {
		checkOffset(cpu, code, offset);
		stack.commit();
		setFlags(cpu, poppedFlags(cpu, flags, size, true));
		enterCode(cpu, selector, code, offset);
		return;
	}
	const pointer = stack.pop(size);
	const ss = stack.popSelector(size);
	const stackDescriptor = returnStack(cpu, selector, code, ss);
	checkOffset(cpu, code, offset);
	const newFlags = poppedFlags(cpu, flags, size, true);
	toOuter(cpu, selector, code, offset, ss, stackDescriptor, pointer, size);
	setFlags(cpu, newFlags);
}

/** Checks the code segment a RETF or IRET goes to. */
function returnTarget(cpu: Cpu, selector: number): Descriptor {
	if (isNull(selector)) cpu.raise(GP, 0);
	const error = selectorError(selector);
	const code = readDescriptor(cpu, selector);
	const rpl = selector & 3;
	if (!isCode(code) || rpl < cpu.cpl) cpu.raise(GP, error);
	checkLongCode(cpu, code, error);
	if (isConforming(code) ? dplOf(code) > rpl : dplOf(code) !== rpl) cpu.raise(GP, error);
	if (!isPresent(code)) cpu.raise(NP, error);
	return code;
}

/** Checks the SS that a return pops; undefined when it is null, which 64-bit code below CPL 3 may have. */
function returnStack(cpu: Cpu, selector: number, code: Descriptor, ss: number): Descriptor | undefined {
	const rpl = selector & 3;
	return checkStackSelector(cpu, ss, rpl, isLongCode(cpu, code) && rpl < 3);
}

function toOuter(
	cpu: Cpu,
	selector: number,
	code: Descriptor,
	offset: bigint,
	ss: number,
	stackDescriptor: Descriptor | undefined,
	pointer: bigint,
	size: 2 | 4 | 8,
): void {
	const inner = (selector & 3) !== cpu.cpl;
	// A 16-bit stack keeps the upper half of ESP.
	const wide = stackDescriptor === undefined || (stackDescriptor.high & 0x40_0000) !== 0 || isLongCode(cpu, code);
	setStackSegment(cpu, ss, stackDescriptor);
	if (wide) cpu.setGpr(L.RSP, size === 8 ? 8 : 4, pointer);
	else cpu.setGpr(L.RSP, 2, pointer);
	setSegmentFrom(cpu, L.CS, selector, markAccessed(cpu, code));
	if (inner) dropInnerSegments(cpu);
	cpu.core.modeChanged();
	cpu.jump(offset);
}

function toVirtual8086(cpu: Cpu, cs: number, offset: bigint, flags: number, values: readonly bigint[]): void {
	const [esp, ss, es, ds, fs, gs] = values as [bigint, bigint, bigint, bigint, bigint, bigint];
	setFlags(cpu, flags);
	const set = (segment: number, selector: number): void =>
		cpu.setSegment(segment, selector, V86_ATTRIBUTES, 0xffff, BigInt(selector) << 4n);
	set(L.CS, cs);
	set(L.SS, Number(ss & 0xffffn));
	set(L.ES, Number(es & 0xffffn));
	set(L.DS, Number(ds & 0xffffn));
	set(L.FS, Number(fs & 0xffffn));
	set(L.GS, Number(gs & 0xffffn));
	cpu.setGpr(L.RSP, 4, esp);
	cpu.core.modeChanged();
	cpu.jump(offset);
}
