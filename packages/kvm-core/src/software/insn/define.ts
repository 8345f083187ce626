import type { SystemOperation } from "../cpu/system-operation.ts";
import type { Emitter } from "../emit/emitter.ts";

/**
 * One row of the instruction table, the single source of the decoder, the handlers, the disassembler and the tests.
 *
 * `opcode` is written as in the SDM: an optional mandatory prefix (`NP`, `66`, `F3`, `F2`), the escape bytes, the opcode
 * byte, then `/r` (ModRM), `/0`../7 (ModRM with the opcode in reg), `+r` (register in the low three bits), and
 * restrictions `mod=3`, `mod=m`, `rm=N`. `operands` are the SDM's addressing-method letters with their type
 * (appendix A.2): `Eb,Gb`, `Ev,Iz`, `Vdq,Wdq`; a register's own name for fixed ones.
 */
export interface Instruction {
	readonly name: string;
	readonly opcode: string;
	readonly operands: string;
	readonly attributes: readonly Attribute[];
	/** Semantics as generated code. */
	readonly emit?: (e: Emitter) => void;
	/** Semantics in TypeScript, for what is rare. */
	readonly system?: SystemOperation;
	/** Flags whose value after the instruction the architecture leaves open (RFLAGS bits), for comparisons. */
	readonly undefinedFlags: number;
	/** A branch's form for a target whose micro-op is known: the immediate is its address. */
	readonly near?: (e: Emitter) => void;
	/** What a `stack` or `string` row does where segments are not flat or addresses have 16 bits. */
	readonly segmented?: SystemOperation;
}

/**
 * - `i64`, `o64`: invalid in 64-bit mode, only valid there
 * - `d64`: operand size 64 by default in 64-bit mode; `f64`: always
 * - `lock`: LOCK is legal with a memory destination
 * - `ends`: the next micro-op is not the next instruction: the decoder stops here
 * - `stack`: touches the stack; handlers are made per stack width
 * - `aligned`: a 16-byte memory operand must be aligned (#GP)
 * - `rep`: F3/F2 are repeat prefixes
 * - `string`: addresses are DS:rSI and ES:rDI
 * - `address`: the memory operand is only an address, without a segment
 * - `sized`: handlers are made per operand size though no operand shows it
 * - `x87`, `mmx`, `sse`: needs that part of the FPU: #NM or #UD by CR0.EM, CR0.TS, CR4.OSFXSR
 */
export type Attribute =
	| "i64"
	| "o64"
	| "d64"
	| "f64"
	| "lock"
	| "ends"
	| "stack"
	| "aligned"
	| "rep"
	| "string"
	| "address"
	| "sized"
	| "x87"
	| "mmx"
	| "sse";

/** Options of {@link define}. */
export interface DefineOptions {
	attributes?: readonly Attribute[];
	undefinedFlags?: number;
	near?: (e: Emitter) => void;
	segmented?: SystemOperation;
}

/** A row with generated semantics. */
export function define(
	name: string,
	opcode: string,
	operands: string,
	emit: (e: Emitter) => void,
	options: DefineOptions = {},
): Instruction {
	return {
		name,
		opcode,
		operands,
		emit,
		attributes: options.attributes ?? [],
		undefinedFlags: options.undefinedFlags ?? 0,
		...(options.near === undefined ? {} : { near: options.near }),
		...(options.segmented === undefined ? {} : { segmented: options.segmented }),
	};
}

/** A row whose semantics are TypeScript. */
export function defineSystem(
	name: string,
	opcode: string,
	operands: string,
	system: SystemOperation,
	options: DefineOptions = {},
): Instruction {
	return {
		name,
		opcode,
		operands,
		system,
		attributes: options.attributes ?? [],
		undefinedFlags: options.undefinedFlags ?? 0,
	};
}
