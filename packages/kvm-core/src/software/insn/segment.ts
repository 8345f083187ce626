import { type Cpu, GP, NP, SEG_CODE, SEG_WRITABLE, UD } from "../cpu/cpu.ts";
import {
	attributesOf,
	baseOf,
	type Descriptor,
	dplOf,
	findDescriptor,
	isCanonical,
	isNull,
	isOrdinary,
	isPresent,
	LDT,
	limitOf,
	readDescriptor,
	readUpper,
	selectorError,
	TSS16_AVAILABLE,
	TSS32_AVAILABLE,
	typeOf,
} from "../cpu/descriptor.ts";
import * as L from "../cpu/layout.ts";
import { linearAddress, memoryOperand, readRm16, readSized, writeRm16 } from "../cpu/operand.ts";
import { checkUmip, requireProtected, requireSupervisor } from "../cpu/privilege.ts";
import { isConforming, loadNull, loadSegment, SHADOW_MOV_SS, setShadow } from "../cpu/segment-load.ts";
import { stackCursor } from "../cpu/stack.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import { defineSystem, type Instruction } from "./define.ts";

/** Operand size of PUSH, POP and far transfers: 2, 4 or 8. */
function wordSize(insn: DecodedInsn): 2 | 4 | 8 {
	return insn.operandSize === 1 ? 2 : insn.operandSize;
}

function pop(segment: number): SystemOperation {
	return (cpu, insn) => {
		const stack = stackCursor(cpu);
		const selector = stack.popSelector(wordSize(insn));
		loadSegment(cpu, segment, selector);
		stack.commit();
		if (segment === L.SS) setShadow(cpu, SHADOW_MOV_SS);
	};
}

/** Pushes a selector; with a 32-bit operand only the low half of the slot is written, as processors do. */
function push(segment: number): SystemOperation {
	return (cpu, insn) => {
		const stack = stackCursor(cpu);
		const size = wordSize(insn);
		if (size === 4) {
			stack.reserve(4, 2, cpu.segmentSelector(segment));
		} else stack.push(size, cpu.segmentSelector(segment));
		stack.commit();
	};
}

/** LDS and its kin: m16:16, m16:32 or m16:64. */
function loadFar(segment: number): SystemOperation {
	return (cpu, insn) => {
		const size = wordSize(insn);
		// The offset is read before anything is asked of the selector behind it.
		const offset = readSized(cpu, memoryOperand(cpu, insn, size, false), size);
		const selector = cpu.memory.read(memoryOperand(cpu, insn, size + 2, false) + BigInt(size), 2);
		loadSegment(cpu, segment, selector);
		cpu.setGpr(insn.reg, size, offset);
	};
}

/** A system segment's descriptor for LLDT and LTR: in the GDT, of one of `types`, present. */
function systemSegment(cpu: Cpu, selector: number, types: readonly number[]): { descriptor: Descriptor; base: bigint } {
	const error = selectorError(selector);
	if ((selector & 4) !== 0) cpu.raise(GP, error);
	const descriptor = readDescriptor(cpu, selector);
	if (isOrdinary(descriptor) || !types.includes(typeOf(descriptor))) cpu.raise(GP, error);
	let base = BigInt(baseOf(descriptor));
	if (cpu.longMode) {
		const upper = readUpper(cpu, descriptor) ?? cpu.raise(GP, error);
		base |= BigInt(upper.base) << 32n;
		if ((upper.type & 0x1f00) !== 0 || !isCanonical(base)) cpu.raise(GP, error);
	}
	if (!isPresent(descriptor)) cpu.raise(NP, error);
	return { descriptor, base };
}

function loadLdt(cpu: Cpu, insn: DecodedInsn): void {
	requireProtected(cpu);
	requireSupervisor(cpu);
	const selector = readRm16(cpu, insn);
	if (isNull(selector)) {
		loadNull(cpu, L.LDTR, selector);
		return;
	}
	const { descriptor, base } = systemSegment(cpu, selector, [LDT]);
	cpu.setSegment(L.LDTR, selector, attributesOf(descriptor), limitOf(descriptor), base);
}

function loadTask(cpu: Cpu, insn: DecodedInsn): void {
	requireProtected(cpu);
	requireSupervisor(cpu);
	const selector = readRm16(cpu, insn);
	if (isNull(selector)) cpu.raise(GP, 0);
	const types = cpu.longMode ? [TSS32_AVAILABLE] : [TSS16_AVAILABLE, TSS32_AVAILABLE];
	const { descriptor, base } = systemSegment(cpu, selector, types);
	const busy = descriptor.high | 0x200;
	cpu.memory.write(descriptor.linear + 4n, 4, busy >>> 0, true);
	cpu.setSegment(L.TR, selector, attributesOf(descriptor) | 2, limitOf(descriptor), base);
}

const LAR_TYPES: ReadonlySet<number> = new Set([1, 2, 3, 4, 5, 9, 11, 12]);
const LAR_TYPES_LONG: ReadonlySet<number> = new Set([2, 9, 11, 12]);
const LSL_TYPES: ReadonlySet<number> = new Set([1, 2, 3, 9, 11]);
const LSL_TYPES_LONG: ReadonlySet<number> = new Set([2, 9, 11]);

/** The descriptor, when the current privilege and the selector's RPL may see it. */
function visible(cpu: Cpu, selector: number, systemTypes: ReadonlySet<number>): Descriptor | undefined {
	if (isNull(selector)) return undefined;
	const descriptor = findDescriptor(cpu, selector);
	if (descriptor === undefined) return undefined;
	if (!isOrdinary(descriptor) && !systemTypes.has(typeOf(descriptor))) return undefined;
	if (isConforming(descriptor)) return descriptor;
	const dpl = dplOf(descriptor);
	return dpl < cpu.cpl || dpl < (selector & 3) ? undefined : descriptor;
}

function setZero(cpu: Cpu, on: boolean): void {
	cpu.flags = on ? cpu.flags | L.ZF : cpu.flags & ~L.ZF;
}

function loadAccessRights(cpu: Cpu, insn: DecodedInsn): void {
	requireProtected(cpu);
	const descriptor = visible(cpu, readRm16(cpu, insn), cpu.longMode ? LAR_TYPES_LONG : LAR_TYPES);
	if (descriptor !== undefined) cpu.setGpr(insn.reg, wordSize(insn), descriptor.high & 0xff_ff00);
	setZero(cpu, descriptor !== undefined);
}

function loadLimit(cpu: Cpu, insn: DecodedInsn): void {
	requireProtected(cpu);
	const descriptor = visible(cpu, readRm16(cpu, insn), cpu.longMode ? LSL_TYPES_LONG : LSL_TYPES);
	if (descriptor !== undefined) cpu.setGpr(insn.reg, wordSize(insn), limitOf(descriptor));
	setZero(cpu, descriptor !== undefined);
}

/** VERR, VERW. */
function verify(write: boolean): SystemOperation {
	return (cpu, insn) => {
		requireProtected(cpu);
		const descriptor = visible(cpu, readRm16(cpu, insn), new Set());
		const type = descriptor === undefined ? 0 : typeOf(descriptor);
		const code = (type & SEG_CODE) !== 0;
		setZero(
			cpu,
			descriptor !== undefined && (write ? !code && (type & SEG_WRITABLE) !== 0 : !code || (type & SEG_WRITABLE) !== 0),
		);
	};
}

function adjustRpl(cpu: Cpu, insn: DecodedInsn): void {
	requireProtected(cpu);
	const source = cpu.gpr16(insn.reg) & 3;
	if (!insn.isMemory) {
		const value = cpu.gpr16(insn.rm);
		const raise = (value & 3) < source;
		if (raise) cpu.setGpr(insn.rm, 2, (value & ~3) | source);
		setZero(cpu, raise);
		return;
	}
	// Memory is only written when there is something to change.
	const value = cpu.memory.read(memoryOperand(cpu, insn, 2, false), 2);
	const raise = (value & 3) < source;
	if (raise) cpu.memory.write(memoryOperand(cpu, insn, 2, true), 2, (value & ~3) | source);
	setZero(cpu, raise);
}

/** BOUND: a signed index against a pair of bounds. */
function bound(cpu: Cpu, insn: DecodedInsn): void {
	const size = insn.operandSize === 2 ? 2 : 4;
	const at = memoryOperand(cpu, insn, size * 2, false);
	const bits = size * 8;
	const signed = (value: number): bigint => BigInt.asIntN(bits, BigInt(value));
	const index = signed(size === 2 ? cpu.gpr16(insn.reg) : cpu.gpr32(insn.reg));
	// Both bounds are read before either is looked at.
	const [lower, upper] = [cpu.memory.read(at, size), cpu.memory.read(at + BigInt(size), size)];
	if (index < signed(lower) || index > signed(upper)) {
		cpu.raise(5);
	}
}

/** ENTER with its nesting levels (0 to 31). */
function enter(cpu: Cpu, insn: DecodedInsn): void {
	const size = wordSize(insn);
	const level = insn.displacement & 0x1f;
	const stack = stackCursor(cpu);
	const bits = cpu.code64 ? 64 : (cpu.segmentAttributes(L.SS) & 0x4000) !== 0 ? 32 : 16;
	stack.push(size, BigInt.asUintN(size * 8, cpu.gpr(L.RBP)));
	const frame = stack.pointer;
	if (level > 0) {
		let base = BigInt.asUintN(bits, cpu.gpr(L.RBP));
		for (let i = 1; i < level; i++) {
			base = BigInt.asUintN(bits, base - BigInt(size));
			stack.push(size, readSized(cpu, linearAddress(cpu, L.SS, base, size, false), size));
		}
		stack.push(size, BigInt.asUintN(size * 8, frame));
	}
	stack.skip(-(insn.immediate & 0xffff));
	// The page that RSP ends in must be writable (SDM: ENTER).
	const end = linearAddress(cpu, L.SS, BigInt.asUintN(bits, stack.pointer), 1, true);
	cpu.memory.checkAlignment(end, size);
	cpu.memory.probe(end, 1, true);
	stack.commit();
	cpu.setGpr(L.RBP, size, BigInt.asUintN(size * 8, frame));
}

/** Segment registers, system segments, and what protected mode has to look at descriptors. */
export const segmentRows: readonly Instruction[] = [
	defineSystem("mov", "8C /r", "Ev,Sw", (cpu, insn) => {
		if (insn.reg > 5) cpu.raise(UD);
		writeRm16(cpu, insn, cpu.segmentSelector(insn.reg));
	}),
	defineSystem("mov", "8E /r", "Sw,Ew", (cpu, insn) => {
		if (insn.reg > 5 || insn.reg === L.CS) cpu.raise(UD);
		loadSegment(cpu, insn.reg, readRm16(cpu, insn));
		if (insn.reg === L.SS) setShadow(cpu, SHADOW_MOV_SS);
	}),
	defineSystem("push", "06", "", push(L.ES), { attributes: ["i64"] }),
	defineSystem("push", "0E", "", push(L.CS), { attributes: ["i64"] }),
	defineSystem("push", "16", "", push(L.SS), { attributes: ["i64"] }),
	defineSystem("push", "1E", "", push(L.DS), { attributes: ["i64"] }),
	defineSystem("push", "0F A0", "", push(L.FS), { attributes: ["d64"] }),
	defineSystem("push", "0F A8", "", push(L.GS), { attributes: ["d64"] }),
	defineSystem("pop", "07", "", pop(L.ES), { attributes: ["i64"] }),
	defineSystem("pop", "17", "", pop(L.SS), { attributes: ["i64"] }),
	defineSystem("pop", "1F", "", pop(L.DS), { attributes: ["i64"] }),
	defineSystem("pop", "0F A1", "", pop(L.FS), { attributes: ["d64"] }),
	defineSystem("pop", "0F A9", "", pop(L.GS), { attributes: ["d64"] }),
	defineSystem("les", "C4 /r mod=m", "Gv,Mp", loadFar(L.ES), { attributes: ["i64"] }),
	defineSystem("lds", "C5 /r mod=m", "Gv,Mp", loadFar(L.DS), { attributes: ["i64"] }),
	defineSystem("lss", "0F B2 /r mod=m", "Gv,Mp", loadFar(L.SS)),
	defineSystem("lfs", "0F B4 /r mod=m", "Gv,Mp", loadFar(L.FS)),
	defineSystem("lgs", "0F B5 /r mod=m", "Gv,Mp", loadFar(L.GS)),
	defineSystem("sldt", "0F 00 /0", "Ev", (cpu, insn) => {
		requireProtected(cpu);
		checkUmip(cpu);
		writeRm16(cpu, insn, cpu.segmentSelector(L.LDTR));
	}),
	defineSystem("str", "0F 00 /1", "Ev", (cpu, insn) => {
		requireProtected(cpu);
		checkUmip(cpu);
		writeRm16(cpu, insn, cpu.segmentSelector(L.TR));
	}),
	defineSystem("lldt", "0F 00 /2", "Ew", loadLdt),
	defineSystem("ltr", "0F 00 /3", "Ew", loadTask),
	defineSystem("verr", "0F 00 /4", "Ew", verify(false)),
	defineSystem("verw", "0F 00 /5", "Ew", verify(true)),
	defineSystem("lar", "0F 02 /r", "Gv,Ew", loadAccessRights),
	defineSystem("lsl", "0F 03 /r", "Gv,Ew", loadLimit),
	defineSystem("arpl", "63 /r", "Ew,Gw", adjustRpl, { attributes: ["i64"] }),
	defineSystem("bound", "62 /r mod=m", "Gv,M", bound, { attributes: ["i64"] }),
	defineSystem("enter", "C8", "Iwb", enter, { attributes: ["d64"] }),
];
