import {
	AC_VECTOR,
	BP,
	BR,
	type Cpu,
	DE,
	DF_VECTOR,
	GP,
	GuestFault,
	MF,
	NM,
	NP,
	PF_VECTOR,
	SEG_DB,
	SEG_L,
	SS_VECTOR,
	TS,
	UD,
	XM,
} from "./cpu.ts";
import {
	attributesOf,
	type Descriptor,
	dplOf,
	gateOffset,
	gateSelector,
	INTERRUPT_GATE16,
	INTERRUPT_GATE32,
	isCode,
	isNull,
	isPresent,
	readDescriptor,
	selectorError,
	TASK_GATE,
	TRAP_GATE16,
	TRAP_GATE32,
} from "./descriptor.ts";
import { checkOffset, enterCode } from "./far-transfer.ts";
import { ioPrivilege, setFlags } from "./flags.ts";
import { innerStack, longStack, longStackPointer } from "./inner-stack.ts";
import * as L from "./layout.ts";
import { isConforming, loadNull, loadRealSegment } from "./segment-load.ts";
import { type StackCursor, stackCursor } from "./stack.ts";
import { switchTask } from "./task-switch.ts";

/**
 * - `exception`: detected by the processor (also #BP and #OF when the embedder injects them)
 * - `software`: INT n, INT3, INTO: the gate's DPL counts
 * - `icebp`: INT1: a #DB whose gate's DPL does not count
 * - `external`, `nmi`: from outside
 */
export type EventKind = "exception" | "software" | "icebp" | "external" | "nmi";

/** Something to be delivered through the IDT. */
export interface GuestEvent {
	readonly vector: number;
	readonly kind: EventKind;
	/** -1: none. */
	readonly errorCode: number;
	/** What the handler finds as the interrupted instruction's address. */
	readonly returnRip: bigint;
}

/** The exceptions that are faults: the instruction they push is executed again, with RF set against its breakpoint. */
const FAULTS: ReadonlySet<number> = new Set([DE, BR, UD, NM, TS, NP, SS_VECTOR, GP, PF_VECTOR, MF, AC_VECTOR, XM]);
const CONTRIBUTORY: ReadonlySet<number> = new Set([DE, TS, NP, SS_VECTOR, GP]);

/**
 * Delivers an event through the IDT (or IVT). Faults met on the way are delivered in its place, as a double fault where
 * the two call for one; a fault of a double fault's delivery ends in `core.shutdown` (SDM volume 3, 6.15).
 *
 * For faults of the delivery, `cpu.rip` must be the instruction that the event belongs to (for events from outside, the
 * next one). Goes on at `cpu.nextRip`, as after a jump.
 */
export function deliver(cpu: Cpu, event: GuestEvent): void {
	let current = event;
	for (;;) {
		try {
			enterHandler(cpu, current);
			return;
		} catch (error) {
			if (!(error instanceof GuestFault)) throw error;
			if (current.vector === DF_VECTOR && current.kind === "exception") {
				cpu.core.shutdown();
				return;
			}
			current = isDoubleFault(current, error.vector)
				? { vector: DF_VECTOR, kind: "exception", errorCode: 0, returnRip: cpu.rip }
				: { vector: error.vector, kind: "exception", errorCode: error.errorCode, returnRip: cpu.rip };
		}
	}
}

function isDoubleFault(first: GuestEvent, second: number): boolean {
	if (first.kind !== "exception") return false;
	if (first.vector === PF_VECTOR) return second === PF_VECTOR || CONTRIBUTORY.has(second);
	return CONTRIBUTORY.has(first.vector) && CONTRIBUTORY.has(second);
}

/**
 * One attempt: enters the event's handler.
 *
 * @throws through `Cpu.raise`, with no register changed (but for what a task switch has done)
 */
export function enterHandler(cpu: Cpu, event: GuestEvent): void {
	if (!cpu.protectedMode) enterReal(cpu, event);
	else if (cpu.longMode) enterLong(cpu, event);
	else enterProtected(cpu, event);
}

/** INT n, INT3 and INTO: return behind the instruction. */
export function softwareInterrupt(cpu: Cpu, vector: number): void {
	if (cpu.virtual8086 && vector !== BP && vector !== 4 && ioPrivilege(cpu) < 3) cpu.raise(GP, 0);
	enterHandler(cpu, { vector, kind: "software", errorCode: -1, returnRip: cpu.nextRip });
	cpu.stepSuppressed = true;
}

function externalBit({ kind }: GuestEvent): number {
	return kind === "software" ? 0 : 1;
}

/** RFLAGS as the handler finds it on its stack. */
function pushedFlags(cpu: Cpu, event: GuestEvent): number {
	const { flags } = cpu;
	return event.kind === "exception" && FAULTS.has(event.vector) ? flags | L.RF : flags;
}

/** RFLAGS in the handler. */
function handlerFlags(cpu: Cpu, interruptGate: boolean): number {
	return cpu.flags & ~(L.TF | L.NT | L.RF | L.VM | (interruptGate ? L.IF : 0));
}

function enterReal(cpu: Cpu, event: GuestEvent): void {
	const at = event.vector * 4;
	if (at + 3 > cpu.get32(L.IDTR_LIMIT)) cpu.raise(GP, at * 2 + 2 + externalBit(event));
	const table = cpu.get64(L.IDTR_BASE) + BigInt(at);
	const offset = cpu.memory.read(table, 2, true);
	const selector = cpu.memory.read(table + 2n, 2, true);
	const stack = stackCursor(cpu);
	stack.push(2, cpu.flags);
	stack.push(2, cpu.segmentSelector(L.CS));
	stack.push(2, event.returnRip);
	stack.commit();
	setFlags(cpu, cpu.flags & ~(L.IF | L.TF | L.RF | L.AC));
	loadRealSegment(cpu, L.CS, selector);
	cpu.core.modeChanged();
	cpu.jump(BigInt(offset));
}

/** Reads and checks a gate's code segment. */
function handlerCode(cpu: Cpu, selector: number, external: number): Descriptor {
	if (isNull(selector)) cpu.raise(GP, external);
	const code = readDescriptor(cpu, selector, GP, external);
	const error = selectorError(selector) | external;
	if (!isCode(code) || dplOf(code) > cpu.cpl) cpu.raise(GP, error);
	if (!isPresent(code)) cpu.raise(NP, error);
	return code;
}

/** Reads the IDT entry, its first 8 bytes, and checks its type, DPL and presence. */
function readGate(cpu: Cpu, event: GuestEvent, bytes: number, types: ReadonlySet<number>): Descriptor {
	const at = event.vector * bytes;
	const error = event.vector * 8 + 2 + externalBit(event);
	if (at + bytes - 1 > cpu.get32(L.IDTR_LIMIT)) cpu.raise(GP, error);
	const linear = BigInt.asUintN(64, cpu.get64(L.IDTR_BASE) + BigInt(at));
	const low = cpu.memory.read(linear, 4, true);
	const high = cpu.memory.read(linear + 4n, 4, true);
	const gate: Descriptor = { linear, selector: 0, low, high };
	if (!types.has((high >>> 8) & 0x1f)) cpu.raise(GP, error);
	if (event.kind === "software" && dplOf(gate) < cpu.cpl) cpu.raise(GP, error);
	if (!isPresent(gate)) cpu.raise(NP, error);
	return gate;
}

const PROTECTED_GATES: ReadonlySet<number> = new Set([
	TASK_GATE,
	INTERRUPT_GATE16,
	TRAP_GATE16,
	INTERRUPT_GATE32,
	TRAP_GATE32,
]);
const LONG_GATES: ReadonlySet<number> = new Set([INTERRUPT_GATE32, TRAP_GATE32]);

function enterProtected(cpu: Cpu, event: GuestEvent): void {
	const external = externalBit(event);
	const gate = readGate(cpu, event, 8, PROTECTED_GATES);
	const type = (gate.high >>> 8) & 0xf;
	if (type === TASK_GATE) {
		if ((pushedFlags(cpu, event) & L.RF) !== 0) cpu.flags |= L.RF;
		switchTask(cpu, gateSelector(gate), "gate", event.returnRip, external, event.errorCode);
		return;
	}
	const selector = gateSelector(gate);
	const code = handlerCode(cpu, selector, external);
	const size = (type & 8) !== 0 ? 4 : 2;
	const offset = BigInt(size === 4 ? gateOffset(gate) : gate.low & 0xffff);
	const flags = pushedFlags(cpu, event);
	const interruptGate = (type & 1) === 0;
	const dpl = dplOf(code);
	let stack: StackCursor;
	let enterStack: (() => void) | undefined;
	const virtual = cpu.virtual8086;
	let cpl = cpu.cpl;
	if (!isConforming(code) && dpl < cpl) {
		if (virtual && dpl !== 0) cpu.raise(GP, selectorError(selector) | external);
		const inner = innerStack(cpu, dpl, external);
		stack = inner.stack;
		enterStack = inner.enter;
		cpl = dpl;
		if (virtual) for (const segment of [L.GS, L.FS, L.DS, L.ES]) stack.push(size, cpu.segmentSelector(segment));
		stack.push(size, cpu.segmentSelector(L.SS));
		stack.push(size, cpu.gpr(L.RSP));
	} else {
		if (virtual) cpu.raise(GP, selectorError(selector) | external);
		stack = stackCursor(cpu, external);
	}
	stack.push(size, flags);
	stack.push(size, cpu.segmentSelector(L.CS));
	stack.push(size, event.returnRip);
	if (event.errorCode !== -1) stack.push(size, event.errorCode);
	checkOffset(cpu, code, offset, external);
	enterStack?.();
	stack.commit();
	if (virtual) for (const segment of [L.GS, L.FS, L.DS, L.ES]) loadNull(cpu, segment, 0);
	setFlags(cpu, handlerFlags(cpu, interruptGate));
	enterCode(cpu, (selector & ~3) | cpl, code, offset);
}

function enterLong(cpu: Cpu, event: GuestEvent): void {
	const external = externalBit(event);
	const gate = readGate(cpu, event, 16, LONG_GATES);
	const upper = cpu.memory.read(gate.linear + 8n, 4, true);
	const offset = (BigInt(upper) << 32n) | BigInt(gateOffset(gate));
	const selector = gateSelector(gate);
	const code = handlerCode(cpu, selector, external);
	if ((attributesOf(code) & (SEG_L | SEG_DB)) !== SEG_L) cpu.raise(GP, selectorError(selector) | external);
	const ist = gate.high & 7;
	const inner = !isConforming(code) && dplOf(code) < cpu.cpl;
	const cpl = inner ? dplOf(code) : cpu.cpl;
	const pointer = inner || ist !== 0 ? longStackPointer(cpu, cpl, ist, external) : cpu.gpr(L.RSP);
	const stack = longStack(cpu, pointer & ~15n, external, cpl < 3);
	stack.push(8, cpu.segmentSelector(L.SS));
	stack.push(8, cpu.gpr(L.RSP));
	stack.push(8, pushedFlags(cpu, event));
	stack.push(8, cpu.segmentSelector(L.CS));
	stack.push(8, event.returnRip);
	if (event.errorCode !== -1) stack.push(8, event.errorCode);
	checkOffset(cpu, code, offset, external);
	if (inner) loadNull(cpu, L.SS, cpl);
	stack.commit();
	setFlags(cpu, handlerFlags(cpu, (gate.high & 0x100) === 0));
	enterCode(cpu, (selector & ~3) | cpl, code, offset);
}
