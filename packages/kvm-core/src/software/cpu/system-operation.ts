import type { Cpu } from "./cpu.ts";

/** The decoded instruction a system operation works on. */
export interface DecodedInsn {
	/** Bytes of the operand size: 2, 4 or 8 (1 for byte forms). */
	readonly operandSize: 1 | 2 | 4 | 8;
	/** Bytes of the address size. */
	readonly addressSize: 2 | 4 | 8;
	/** ModRM.rm is a memory operand. */
	readonly isMemory: boolean;
	/** Segment of the memory operand, overrides applied. */
	readonly segment: number;
	/** What ModRM.reg or the opcode names: register number (byte registers: see `regOffset`). */
	readonly reg: number;
	/** What ModRM.rm names when it is no memory operand: register number. */
	readonly rm: number;
	/** Byte offset in the state of the general register in reg. */
	readonly regOffset: number;
	/** Byte offset in the state of the general register in rm. */
	readonly rmOffset: number;
	/** Immediate, sign-extended. */
	readonly immediate: number;
	/** Second field: the displacement, the selector of a far pointer, or ENTER's level. */
	readonly displacement: number;
	/** 0 none, 0xf3 or 0xf2: the repeat prefix of instructions that have one. */
	readonly repeat: 0 | 0xf2 | 0xf3;
	/** Effective address: the offset within the segment, cut to the address size. */
	offset(): bigint;
}

/**
 * An instruction in TypeScript. It runs with `cpu.rip` at the instruction and `cpu.nextRip` behind it; it returns
 * normally to go on there, calls `cpu.jump` to go elsewhere, or throws a {@link GuestFault} through `cpu.raise`, in
 * which case it must not have changed anything.
 */
export type SystemOperation = (cpu: Cpu, insn: DecodedInsn) => void;
