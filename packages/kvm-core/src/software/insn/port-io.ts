import { CR4_DE } from "../cpu/control-bits.ts";
import { type Cpu, GP, SEG_UNUSABLE } from "../cpu/cpu.ts";
import { matchPort } from "../cpu/debug.ts";
import { DEBUG_TRAP } from "../cpu/events.ts";
import { ioPrivilege } from "../cpu/flags.ts";
import { isWideTss } from "../cpu/inner-stack.ts";
import * as L from "../cpu/layout.ts";
import { linearAddress } from "../cpu/operand.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import { defineSystem, type Instruction } from "./define.ts";

/** Elements that a repeated INS or OUTS moves before interrupts get a chance. */
const BATCH = 256;

/** IOPL, or else the TSS's permission bitmap, decides: #GP(0). */
function checkPort(cpu: Cpu, port: number, size: number): void {
	if (!cpu.protectedMode || (!cpu.virtual8086 && cpu.cpl <= ioPrivilege(cpu))) return;
	if (!isWideTss(cpu) || (cpu.segmentAttributes(L.TR) & SEG_UNUSABLE) !== 0 || cpu.segmentLimit(L.TR) < 103) {
		cpu.raise(GP, 0);
	}
	const base = cpu.segmentBase(L.TR);
	const at = cpu.memory.read(base + 102n, 2, true) + (port >> 3);
	// The bitmap is read as two bytes: there is one of ones behind it.
	if (at + 1 > cpu.segmentLimit(L.TR)) cpu.raise(GP, 0);
	const bits = cpu.memory.read(base + BigInt(at), 2, true);
	if (((bits >> (port & 7)) & ((1 << size) - 1)) !== 0) cpu.raise(GP, 0);
}

function portSize(insn: DecodedInsn): 1 | 2 | 4 {
	return insn.operandSize === 8 ? 4 : insn.operandSize;
}

/** An I/O breakpoint is a trap behind the instruction. */
function watchPort(cpu: Cpu, port: number, size: number): void {
	if ((cpu.get32(L.DR7) & 0xff) === 0 || (cpu.cr4 & CR4_DE) === 0) return;
	const bits = matchPort(cpu, port, size);
	if (bits !== 0) {
		cpu.set32(DEBUG_TRAP, cpu.get32(DEBUG_TRAP) | bits);
		cpu.core.interruptsChanged();
	}
}

function input(portOf: (cpu: Cpu, insn: DecodedInsn) => number): SystemOperation {
	return (cpu, insn) => {
		const port = portOf(cpu, insn);
		const size = portSize(insn);
		checkPort(cpu, port, size);
		cpu.setGpr(L.RAX, size, cpu.ports.input(port, size));
		watchPort(cpu, port, size);
	};
}

function output(portOf: (cpu: Cpu, insn: DecodedInsn) => number): SystemOperation {
	return (cpu, insn) => {
		const port = portOf(cpu, insn);
		const size = portSize(insn);
		checkPort(cpu, port, size);
		const value = size === 1 ? cpu.gpr32(L.RAX) & 0xff : size === 2 ? cpu.gpr16(L.RAX) : cpu.gpr32(L.RAX);
		cpu.ports.output(port, size, value);
		watchPort(cpu, port, size);
	};
}

const immediatePort = (_cpu: Cpu, insn: DecodedInsn): number => insn.immediate & 0xff;
const dxPort = (cpu: Cpu): number => cpu.gpr16(L.RDX);

/** Adds to a register at the address size. */
function step(cpu: Cpu, register: number, addressSize: 2 | 4 | 8, by: number): void {
	cpu.setGpr(register, addressSize, BigInt.asUintN(addressSize * 8, cpu.gpr(register) + BigInt(by)));
}

/**
 * INS and OUTS: one element after the other, each complete before the next begins, so that a fault, an exit or an
 * interrupt leaves the registers at the element to go on with.
 */
function stringIo(
	register: number,
	element: (cpu: Cpu, insn: DecodedInsn, offset: bigint, size: 1 | 2 | 4) => void,
): SystemOperation {
	return (cpu, insn) => {
		const size = portSize(insn);
		const bits = insn.addressSize * 8;
		const delta = (cpu.flags & L.DF) !== 0 ? -size : size;
		const count = BigInt.asUintN(bits, cpu.gpr(L.RCX));
		checkPort(cpu, dxPort(cpu), size);
		if (insn.repeat !== 0 && count === 0n) return;
		const rounds = insn.repeat === 0 ? 1 : count < BATCH ? Number(count) : BATCH;
		for (let i = 0; i < rounds; i++) {
			element(cpu, insn, BigInt.asUintN(bits, cpu.gpr(register)), size);
			step(cpu, register, insn.addressSize, delta);
			if (insn.repeat !== 0) step(cpu, L.RCX, insn.addressSize, -1);
			watchPort(cpu, dxPort(cpu), size);
			// The embedder sees each element with the registers as they are then.
			if (cpu.core.requestPending) break;
		}
		if (insn.repeat !== 0 && BigInt.asUintN(bits, cpu.gpr(L.RCX)) !== 0n) cpu.jump(cpu.rip);
	};
}

const ins = stringIo(L.RDI, (cpu, _insn, offset, size) => {
	const linear = linearAddress(cpu, L.ES, offset, size, true);
	cpu.memory.checkAlignment(linear, size);
	cpu.memory.probe(linear, size, true);
	cpu.memory.write(linear, size, cpu.ports.input(dxPort(cpu), size));
});

const outs = stringIo(L.RSI, (cpu, insn, offset, size) => {
	const linear = linearAddress(cpu, insn.segment, offset, size, false);
	cpu.ports.output(dxPort(cpu), size, cpu.memory.read(linear, size));
});

/** Port input and output. */
export const portIoRows: readonly Instruction[] = [
	defineSystem("in", "E4", "AL,Ib", input(immediatePort)),
	defineSystem("in", "E5", "eAX,Ib", input(immediatePort)),
	defineSystem("in", "EC", "AL,DX", input(dxPort)),
	defineSystem("in", "ED", "eAX,DX", input(dxPort)),
	defineSystem("out", "E6", "Ib,AL", output(immediatePort)),
	defineSystem("out", "E7", "Ib,eAX", output(immediatePort)),
	defineSystem("out", "EE", "DX,AL", output(dxPort)),
	defineSystem("out", "EF", "DX,eAX", output(dxPort)),
	defineSystem("ins", "6C", "Yb,DX", ins, { attributes: ["rep"] }),
	defineSystem("ins", "6D", "Yz,DX", ins, { attributes: ["rep"] }),
	defineSystem("outs", "6E", "DX,Xb", outs, { attributes: ["rep"] }),
	defineSystem("outs", "6F", "DX,Xz", outs, { attributes: ["rep"] }),
];
