import { type Cpu, MF } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { memoryOperand } from "../cpu/operand.ts";
import { setStatusWord, statusWord } from "../cpu/state-area.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import { isInfinite, isNaNumber, isUnsupported, isZero } from "../fp/extended-number.ts";
import { BUSY, ES } from "../fp/x87.ts";
import { getSt, isEmpty } from "../fp/x87-file.ts";
import { defineSystem, type Instruction } from "./define.ts";

/** FNSTENV, FLDENV, FNSAVE, FRSTOR: the x87's environment in its four layouts (SDM vol. 1, 8.1.10). */

const REGISTERS_BYTES = 80;

/** The full tag word: two bits for each physical register. */
function tagWord(cpu: Cpu): number {
	const top = cpu.get32(L.FTOP);
	let tags = 0;
	for (let i = 0; i < 8; i++) {
		const value = getSt(cpu, i);
		let tag = 0;
		if (isEmpty(cpu, i)) tag = 3;
		else if (isZero(value)) tag = 1;
		else if (isUnsupported(value) || isNaNumber(value) || isInfinite(value) || (value.se & 0x7fff) === 0) tag = 2;
		tags |= tag << (((top + i) & 7) * 2);
	}
	return tags;
}

/** Seven fields in memory order. */
function readEnvironment(cpu: Cpu, wide: boolean): number[] {
	const real = !cpu.protectedMode || cpu.virtual8086;
	const [fip, fdp, opcode] = [cpu.get32(L.FIP), cpu.get32(L.FDP), cpu.get32(L.FOP) & 0x7ff];
	const head = [cpu.get32(L.FCW), statusWord(cpu), tagWord(cpu)];
	if (wide) {
		for (let i = 0; i < 3; i++) head[i] = (head[i]! | 0xffff_0000) >>> 0;
		if (real) {
			const high = (address: number): number => ((address >>> 16) << 12) >>> 0;
			return [
				...head,
				(0xffff_0000 | (fip & 0xffff)) >>> 0,
				high(fip) | opcode,
				(0xffff_0000 | (fdp & 0xffff)) >>> 0,
				high(fdp),
			];
		}
		return [...head, fip, (cpu.get32(L.FCS) & 0xffff) | (opcode << 16), fdp, (cpu.get32(L.FDS) | 0xffff_0000) >>> 0];
	}
	if (real) {
		const high = (address: number): number => ((address >>> 16) & 15) << 12;
		return [...head, fip & 0xffff, high(fip) | opcode, fdp & 0xffff, high(fdp)];
	}
	return [...head, fip & 0xffff, cpu.get32(L.FCS) & 0xffff, fdp & 0xffff, cpu.get32(L.FDS) & 0xffff];
}

function writeEnvironment(cpu: Cpu, wide: boolean, fields: readonly number[]): void {
	const real = !cpu.protectedMode || cpu.virtual8086;
	cpu.set32(L.FCW, (fields[0]! & 0x1f3f) | 0x40);
	setStatusWord(cpu, fields[1]!);
	let used = 0;
	for (let i = 0; i < 8; i++) if (((fields[2]! >> (i * 2)) & 3) !== 3) used |= 1 << i;
	cpu.set32(L.FTAG, used);
	const [ip, selector, dp, dataSelector] = fields.slice(3) as [number, number, number, number];
	if (real) {
		const high = (word: number): number => (wide ? (word >>> 12) << 16 : (word >> 12) << 16);
		cpu.set64(L.FIP, BigInt(((ip & 0xffff) | high(selector)) >>> 0));
		cpu.set64(L.FDP, BigInt(((dp & 0xffff) | high(dataSelector)) >>> 0));
		cpu.set32(L.FOP, selector & 0x7ff);
		cpu.set32(L.FCS, 0);
		cpu.set32(L.FDS, 0);
		return;
	}
	cpu.set64(L.FIP, BigInt(ip));
	cpu.set64(L.FDP, BigInt(dp));
	cpu.set32(L.FCS, selector & 0xffff);
	cpu.set32(L.FDS, dataSelector & 0xffff);
	if (wide) cpu.set32(L.FOP, (selector >>> 16) & 0x7ff);
}

function place(
	cpu: Cpu,
	insn: DecodedInsn,
	registers: boolean,
	write: boolean,
): { at: bigint; wide: boolean; size: number } {
	const wide = insn.operandSize !== 2;
	const size = wide ? 28 : 14;
	const total = registers ? size + REGISTERS_BYTES : size;
	const first = wide ? 4 : 2;
	// The first field meets its faults before anybody looks at where the last one lies.
	const at = memoryOperand(cpu, insn, first, write);
	cpu.memory.checkAlignment(at, first);
	cpu.memory.probe(at, first, write);
	memoryOperand(cpu, insn, total, write);
	if (write) cpu.memory.probe(at, total, true);
	return { at, wide, size };
}

function writeFields(cpu: Cpu, at: bigint, wide: boolean): void {
	readEnvironment(cpu, wide).forEach((field, i) => {
		cpu.memory.write(at + BigInt(i * (wide ? 4 : 2)), wide ? 4 : 2, wide ? field >>> 0 : field & 0xffff);
	});
}

function readFields(cpu: Cpu, at: bigint, wide: boolean): number[] {
	return Array.from({ length: 7 }, (_, i) => cpu.memory.read(at + BigInt(i * (wide ? 4 : 2)), wide ? 4 : 2));
}

const storeEnvironment: SystemOperation = (cpu, insn) => {
	const { at, wide } = place(cpu, insn, false, true);
	writeFields(cpu, at, wide);
	cpu.set32(L.FCW, cpu.get32(L.FCW) | 0x3f);
	cpu.set32(L.FSW, cpu.get32(L.FSW) & ~(ES | BUSY));
};

const loadEnvironment: SystemOperation = (cpu, insn) => {
	if ((cpu.get32(L.FSW) & ES) !== 0) cpu.raise(MF);
	const { at, wide } = place(cpu, insn, false, false);
	writeEnvironment(cpu, wide, readFields(cpu, at, wide));
};

const save: SystemOperation = (cpu, insn) => {
	const { at, wide, size } = place(cpu, insn, true, true);
	writeFields(cpu, at, wide);
	for (let i = 0; i < 8; i++) {
		const value = getSt(cpu, i);
		const to = at + BigInt(size + i * 10);
		// In words: the area as a whole is aligned as its environment is.
		for (let k = 0n; k < 8n; k += 2n) {
			cpu.memory.write(to + k, 2, Number((value.significand >> (k * 8n)) & 0xffffn));
		}
		cpu.memory.write(to + 8n, 2, value.se);
	}
	cpu.set32(L.FCW, 0x37f);
	for (const word of [L.FSW, L.FTOP, L.FTAG, L.FOP, L.FCS, L.FDS]) cpu.set32(word, 0);
	cpu.set64(L.FIP, 0n);
	cpu.set64(L.FDP, 0n);
};

const restore: SystemOperation = (cpu, insn) => {
	if ((cpu.get32(L.FSW) & ES) !== 0) cpu.raise(MF);
	const { at, wide, size } = place(cpu, insn, true, false);
	const fields = readFields(cpu, at, wide);
	const values = Array.from({ length: 8 }, (_, i) => {
		const from = at + BigInt(size + i * 10);
		let significand = 0n;
		for (let k = 0n; k < 8n; k += 2n) significand |= BigInt(cpu.memory.read(from + k, 2)) << (k * 8n);
		return { significand, se: cpu.memory.read(from + 8n, 2) };
	});
	writeEnvironment(cpu, wide, fields);
	const top = cpu.get32(L.FTOP);
	values.forEach(({ significand, se }, i) => {
		const to = L.X87 + ((top + i) & 7) * 16;
		cpu.set64(to, significand);
		cpu.set32(to + 8, se);
	});
};

const row = (name: string, opcode: string, operation: SystemOperation): Instruction =>
	defineSystem(name, opcode, "M", operation, { attributes: ["x87"] });

export const x87Environment: readonly Instruction[] = [
	row("fldenv", "D9 /4", loadEnvironment),
	row("fnstenv", "D9 /6", storeEnvironment),
	row("frstor", "DD /4", restore),
	row("fnsave", "DD /6", save),
];
