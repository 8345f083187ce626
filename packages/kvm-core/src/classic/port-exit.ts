import type { Regs, Sregs, Vcpu, VcpuExit } from "../kvm/types.ts";
import { decodePortInstruction, type PortInstruction } from "./port-instruction.ts";

type IoExit = Extract<VcpuExit, { reason: "io" }>;

/** A port access as the processor saw it in 2006: before the instruction, whose whole effect is the embedder's. */
export interface PortAccess {
	instruction: PortInstruction;
	/** Elements: the count register with REP, or 1. */
	count: bigint;
	/** Linear address of a string's first element. */
	address: bigint;
	down: boolean;
}

/** Reads guest memory by linear address; shorter where it is not mapped. */
export type ReadLinear = (linear: bigint, length: number) => Uint8Array;

const DF = 0x400n;
const LONGEST = 15;

/**
 * Today's KVM carries a port instruction out once its data are there, string by string element. This takes the vCPU
 * back to before the instruction, and says which one it is.
 */
export function takeBack(vcpu: Vcpu, exit: IoExit, read: ReadLinear): PortAccess | undefined {
	const sregs = vcpu.getSregs();
	const bits = sregs.cs.l !== 0 ? 64 : sregs.cs.db !== 0 ? 32 : 16;
	if (exit.direction === "in") {
		const before = vcpu.getRegs();
		const instruction = decodePortInstruction(read(codeAddress(sregs, before.rip, bits), LONGEST), bits);
		// What is put there is what is there already: the completion must change nothing.
		complete(vcpu, exit, (next) => {
			if (instruction?.string !== true) return;
			const regs = vcpu.getRegs();
			const address = stringAddress(sregs, regs, instruction);
			const down = (regs.rflags & DF) !== 0n;
			for (let i = 0; i < next.count; i++) {
				const offset = BigInt((down ? -i : i) * next.size);
				next.data.set(read(address + offset, next.size), i * next.size);
			}
		});
		vcpu.setRegs(before);
		return instruction === undefined ? undefined : accessOf(sregs, before, instruction);
	}
	// The exit's data may be gone after the next run.
	const data = exit.data.slice();
	const { size, count, port } = exit;
	complete(vcpu, exit, () => undefined);
	const after = vcpu.getRegs();
	const found = search(sregs, after, { data, size, count, port }, bits, read);
	if (found === undefined) return undefined;
	vcpu.setRegs(found.before);
	return accessOf(sregs, found.before, found.instruction);
}

/** A string is finished in so many exits at the most. */
const MOST_EXITS = 4096;

/** Finishes what is pending and executes nothing else; `answer` fills what is read. */
function complete(vcpu: Vcpu, first: IoExit, answer: (exit: IoExit) => void): void {
	vcpu.setImmediateExit(true);
	let exit: VcpuExit = first;
	for (let i = 0; i < MOST_EXITS && exit.reason !== "intr"; i++) {
		if (exit.reason === "io" && exit.direction === "in") answer(exit);
		exit = vcpu.run();
	}
	vcpu.setImmediateExit(false);
}

function codeAddress(sregs: Sregs, rip: bigint, bits: 16 | 32 | 64): bigint {
	return bits === 64 ? rip : (sregs.cs.base + rip) & 0xffff_ffffn;
}

function cut(value: bigint, addressSize: number): bigint {
	return BigInt.asUintN(addressSize * 8, value);
}

function stringAddress(sregs: Sregs, regs: Regs, instruction: PortInstruction): bigint {
	const index = cut(instruction.direction === "in" ? regs.rdi : regs.rsi, instruction.addressSize);
	const flat = sregs.cs.l !== 0 && !/^[fg]s$/.test(instruction.segment);
	return BigInt.asUintN(sregs.cs.l !== 0 ? 64 : 32, index + (flat ? 0n : sregs[instruction.segment].base));
}

function accessOf(sregs: Sregs, before: Regs, instruction: PortInstruction): PortAccess {
	return {
		instruction,
		count: instruction.rep ? cut(before.rcx, instruction.addressSize) : 1n,
		address: instruction.string ? stringAddress(sregs, before, instruction) : 0n,
		down: (before.rflags & DF) !== 0n,
	};
}

interface Output {
	data: Uint8Array;
	size: number;
	count: number;
	port: number;
}

/** Which output instruction has just been executed, wholly or (repeated) in part, and the registers before it. */
function search(
	sregs: Sregs,
	after: Regs,
	output: Output,
	bits: 16 | 32 | 64,
	read: ReadLinear,
): { before: Regs; instruction: PortInstruction } | undefined {
	const candidates: { before: Regs; instruction: PortInstruction }[] = [];
	for (let length = 0; length <= LONGEST; length++) {
		const rip = BigInt.asUintN(64, after.rip - BigInt(length));
		const instruction = decodePortInstruction(read(codeAddress(sregs, rip, bits), LONGEST), bits);
		if (instruction === undefined || instruction.direction !== "out" || instruction.size !== output.size) continue;
		if ((instruction.port ?? Number(after.rdx & 0xffffn)) !== output.port) continue;
		// At 0 it stands before a repeated one that has elements left; at its length behind one that is done.
		if (length === 0 ? !instruction.rep : instruction.length !== length) continue;
		const before = { ...after, rip };
		if (instruction.string) rewind(before, instruction, output);
		if (carries(sregs, before, instruction, output, read)) candidates.push({ before, instruction });
	}
	return candidates.find(({ instruction }) => !instruction.string) ?? candidates[0];
}

function rewind(regs: Regs, { addressSize, rep }: PortInstruction, { size, count }: Output): void {
	const bytes = BigInt(size * count);
	const keep = (old: bigint, value: bigint): bigint =>
		addressSize === 2 ? (old & ~0xffffn) | cut(value, 2) : cut(value, addressSize);
	regs.rsi = keep(regs.rsi, (regs.rflags & DF) !== 0n ? regs.rsi + bytes : regs.rsi - bytes);
	if (rep) regs.rcx = keep(regs.rcx, regs.rcx + BigInt(count));
}

/** Whether the instruction, with these registers, puts out those data. */
function carries(sregs: Sregs, regs: Regs, instruction: PortInstruction, output: Output, read: ReadLinear): boolean {
	const { data, size } = output;
	if (!instruction.string) return data.every((byte, i) => byte === Number((regs.rax >> BigInt(i * 8)) & 0xffn));
	const first = read(stringAddress(sregs, regs, instruction), size);
	return first.length === size && first.every((byte, i) => byte === data[i]);
}
