import { CR0_PE, CR0_PG, CR0_TS, CR4_PAE } from "./control-bits.ts";
import { type Cpu, GP, NP, SEG_UNUSABLE, TS } from "./cpu.ts";
import {
	attributesOf,
	baseOf,
	type Descriptor,
	dplOf,
	isAvailableTss,
	isCode,
	isNull,
	isOrdinary,
	isPresent,
	LDT,
	limitOf,
	markAccessed,
	readDescriptor,
	selectorError,
	setSegmentFrom,
	TSS16_BUSY,
	TSS32_BUSY,
	typeOf,
} from "./descriptor.ts";
import { setFlags } from "./flags.ts";
import { isWideTss } from "./inner-stack.ts";
import * as L from "./layout.ts";
import { loadPdptes } from "./paging.ts";
import {
	checkDataSelector,
	checkStackSelector,
	isConforming,
	loadNull,
	setStackSegment,
	V86_ATTRIBUTES,
} from "./segment-load.ts";
import { stackCursor } from "./stack.ts";

/** What makes the switch. */
export type TaskSwitchCause = "jump" | "call" | "return" | "gate";

const BUSY = 0x200;

/** Where the fields of a TSS stand. */
interface TssLayout {
	/** Bytes of IP, flags and general registers. */
	readonly word: 2 | 4;
	readonly ip: number;
	readonly flags: number;
	/** AX, CX, DX, BX, SP, BP, SI, DI. */
	readonly registers: number;
	/** ES, CS, SS, DS, and FS, GS. */
	readonly segments: number;
	readonly segmentCount: 4 | 6;
	readonly ldt: number;
	/** Smallest limit. */
	readonly limit: number;
}

const TSS32: TssLayout = {
	word: 4,
	ip: 32,
	flags: 36,
	registers: 40,
	segments: 72,
	segmentCount: 6,
	ldt: 96,
	limit: 0x67,
};
const TSS16: TssLayout = {
	word: 2,
	ip: 14,
	flags: 16,
	registers: 18,
	segments: 34,
	segmentCount: 4,
	ldt: 42,
	limit: 0x2b,
};

/** The dynamic part of a task, out of its TSS. */
interface Task {
	readonly cr3: number;
	readonly ip: number;
	readonly flags: number;
	readonly registers: readonly number[];
	readonly segments: readonly number[];
	readonly ldt: number;
	readonly trap: boolean;
}

/**
 * Switches tasks (SDM volume 3, 8.3). From the moment the new task's state is in place, faults belong to it:
 * `cpu.rip` is its first instruction then.
 *
 * @param ip - saved as the old task's instruction pointer
 * @param external - EXT bit of error codes
 * @param errorCode - pushed on the new task's stack when not -1
 */
export function switchTask(
	cpu: Cpu,
	selector: number,
	cause: TaskSwitchCause,
	ip: bigint,
	external = 0,
	errorCode = -1,
): void {
	const vector = cause === "return" ? TS : GP;
	const error = selectorError(selector) | external;
	if ((selector & 4) !== 0 || isNull(selector)) cpu.raise(vector, error);
	const descriptor = readDescriptor(cpu, selector, vector, external);
	const type = typeOf(descriptor);
	if (isOrdinary(descriptor)) cpu.raise(vector, error);
	if (cause === "return" ? type !== TSS16_BUSY && type !== TSS32_BUSY : !isAvailableTss(type)) cpu.raise(vector, error);
	if (!isPresent(descriptor)) cpu.raise(NP, error);
	const layout = (type & 8) !== 0 ? TSS32 : TSS16;
	if (limitOf(descriptor) < layout.limit) cpu.raise(TS, error);

	const old = isWideTss(cpu) ? TSS32 : TSS16;
	const oldBase = cpu.segmentBase(L.TR);
	const newBase = BigInt(baseOf(descriptor));
	const saved = oldBase + BigInt(old.ip);
	cpu.memory.probe(saved, old.segments + old.segmentCount * old.word - old.ip, true, true);
	cpu.memory.probe(newBase, layout.limit + 1, cause === "call" || cause === "gate", true);
	const task = readTask(cpu, newBase, layout);

	let flags = cpu.flags;
	if (cause === "jump" || cause === "return") setBusy(cpu, cpu.segmentSelector(L.TR), false);
	if (cause === "return") flags &= ~L.NT;
	saveTask(cpu, oldBase, old, Number(ip & 0xffff_ffffn), flags);
	if (cause === "call" || cause === "gate") cpu.memory.write(newBase, 2, cpu.segmentSelector(L.TR), true);
	if (cause !== "return") setBusy(cpu, selector, true);
	const nested = cause === "call" || cause === "gate" ? L.NT : 0;
	enterTask(cpu, selector, descriptor, layout, task, nested);
	loadTaskSegments(cpu, task);
	if (errorCode !== -1) {
		const stack = stackCursor(cpu);
		stack.push(layout.word, errorCode);
		stack.commit();
	}
	if (task.ip > cpu.segmentLimit(L.CS)) cpu.raise(GP, 0);
	cpu.jump(BigInt(task.ip));
	if (task.trap) {
		cpu.set32(L.DR6, cpu.get32(L.DR6) | 0x8000);
		cpu.raise(1);
	}
}

function readTask(cpu: Cpu, base: bigint, layout: TssLayout): Task {
	const wide = layout.word === 4;
	const read = (offset: number, size: 2 | 4): number => cpu.memory.read(base + BigInt(offset), size, true);
	const registers: number[] = [];
	for (let i = 0; i < 8; i++) {
		const value = read(layout.registers + i * layout.word, layout.word);
		registers.push(wide ? value : (value | 0xffff_0000) >>> 0);
	}
	const segments: number[] = [];
	for (let i = 0; i < 6; i++) segments.push(i < layout.segmentCount ? read(layout.segments + i * layout.word, 2) : 0);
	return {
		cr3: wide ? read(28, 4) : 0,
		ip: read(layout.ip, layout.word),
		flags: read(layout.flags, layout.word),
		registers,
		segments,
		ldt: read(layout.ldt, 2),
		trap: wide && (read(100, 2) & 1) !== 0,
	};
}

function saveTask(cpu: Cpu, base: bigint, layout: TssLayout, ip: number, flags: number): void {
	const cut = layout.word === 4 ? 0xffff_ffff : 0xffff;
	const write = (offset: number, size: 2 | 4, value: number): void =>
		cpu.memory.write(base + BigInt(offset), size, (value & cut) >>> 0, true);
	write(layout.ip, layout.word, ip);
	write(layout.flags, layout.word, flags);
	for (let i = 0; i < 8; i++) write(layout.registers + i * layout.word, layout.word, cpu.gpr32(i));
	for (let i = 0; i < layout.segmentCount; i++) write(layout.segments + i * layout.word, 2, cpu.segmentSelector(i));
}

function setBusy(cpu: Cpu, selector: number, busy: boolean): void {
	const descriptor = readDescriptor(cpu, selector, TS);
	const high = busy ? descriptor.high | BUSY : descriptor.high & ~BUSY;
	cpu.memory.write(descriptor.linear + 4n, 4, high >>> 0, true);
}

/** Puts the new task's registers in place; segments hold their selectors only. */
function enterTask(
	cpu: Cpu,
	selector: number,
	descriptor: Descriptor,
	layout: TssLayout,
	task: Task,
	nested: number,
): void {
	cpu.setSegment(L.TR, selector, attributesOf(descriptor) | 2, limitOf(descriptor), BigInt(baseOf(descriptor)));
	cpu.set64(L.CR0, cpu.get64(L.CR0) | BigInt(CR0_TS | CR0_PE));
	// Local breakpoint enables are a task's own.
	cpu.set32(L.DR7, cpu.get32(L.DR7) & ~0x155);
	cpu.core.debugChanged();
	cpu.rip = BigInt(task.ip);
	cpu.nextRip = cpu.rip;
	const flags = task.flags | nested;
	for (let i = 0; i < 8; i++) cpu.setGpr(i, 4, task.registers[i]!);
	if (layout.word === 4 && (cpu.cr0 & CR0_PG) !== 0 && task.cr3 !== cpu.get32(L.CR3)) {
		if ((cpu.cr4 & CR4_PAE) !== 0 && !loadPdptes(cpu.mmu, task.cr3)) cpu.raise(GP, 0);
		cpu.set64(L.CR3, BigInt(task.cr3));
		cpu.core.flushTlb(true);
	}
	setFlags(cpu, flags);
	cpu.setSegment(L.LDTR, task.ldt, SEG_UNUSABLE, 0, 0n);
	const virtual = (flags & L.VM) !== 0;
	for (let i = 0; i < 6; i++) {
		const value = task.segments[i]!;
		if (virtual) cpu.setSegment(i, value, V86_ATTRIBUTES, 0xffff, BigInt(value) << 4n);
		else cpu.setSegment(i, value, SEG_UNUSABLE, 0, 0n);
	}
	cpu.core.modeChanged();
}

/** Loads the hidden parts: what is wrong with them is #TS in the new task. */
function loadTaskSegments(cpu: Cpu, task: Task): void {
	if (!isNull(task.ldt)) {
		const error = selectorError(task.ldt);
		if ((task.ldt & 4) !== 0) cpu.raise(TS, error);
		const ldt = readDescriptor(cpu, task.ldt, TS);
		if (isOrdinary(ldt) || typeOf(ldt) !== LDT || !isPresent(ldt)) cpu.raise(TS, error);
		setSegmentFrom(cpu, L.LDTR, task.ldt, ldt);
	}
	if (cpu.virtual8086) return;
	const [, cs, ss] = task.segments as [number, number, number];
	const cpl = cs & 3;
	if (isNull(cs)) cpu.raise(TS, 0);
	const code = readDescriptor(cpu, cs, TS);
	const error = selectorError(cs);
	if (!isCode(code) || (isConforming(code) ? dplOf(code) > cpl : dplOf(code) !== cpl)) cpu.raise(TS, error);
	if (!isPresent(code)) cpu.raise(NP, error);
	setStackSegment(cpu, ss, checkStackSelector(cpu, ss, cpl, false, TS));
	setSegmentFrom(cpu, L.CS, cs, markAccessed(cpu, code));
	for (const segment of [L.ES, L.DS, L.FS, L.GS]) {
		const selector = task.segments[segment]!;
		const descriptor = checkDataSelector(cpu, selector, cpl, TS);
		if (descriptor === undefined) loadNull(cpu, segment, selector);
		else setSegmentFrom(cpu, segment, selector, descriptor);
	}
	cpu.core.modeChanged();
}
