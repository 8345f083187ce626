import { Decoder } from "../software/decode/decoder.ts";
import type { Row } from "../software/emit/plan.ts";
import { handlerPlan } from "../software/interpreter.ts";
import { attText } from "./att.ts";
import { intelText } from "./intel.ts";
import { type Operand, readOperands } from "./operand.ts";
import { unusedPrefixes } from "./prefixes.ts";

/** How instructions are written. */
export type Syntax = "intel" | "att";

/** Options of {@link disassemble}. */
export interface DisassembleOptions {
	/** Code size. @default 64 */
	readonly bits?: 16 | 32 | 64;
	/** @default "intel" */
	readonly syntax?: Syntax;
	/** Where the first byte stands. @default 0n */
	readonly address?: bigint;
	/** A name for an address that a branch or a RIP-relative operand refers to. */
	symbol?(address: bigint): string | undefined;
}

/** One instruction as text. */
export interface DisassembledInstruction {
	readonly address: bigint;
	readonly length: number;
	readonly bytes: Uint8Array;
	/** As binutils' objdump writes it, or `(bad)` for what the engine does not know. */
	readonly text: string;
}

/** What the two syntaxes write from. */
export interface Decoded {
	readonly name: string;
	readonly opcode: string;
	readonly operands: readonly Operand[];
	readonly operandSize: 1 | 2 | 4 | 8;
	readonly bits: 16 | 32 | 64;
	readonly addressBits: 16 | 32 | 64;
	readonly modrm: number;
	readonly rex: number;
	/** Prefix bytes before the opcode. */
	readonly prefixes: readonly number[];
	/** Some operand has the operand size; 16, 32 or 64 bits, or at most 32. */
	readonly sized: boolean;
	/** REX.W has a say in the size of an operand. */
	readonly wideable: boolean;
	/** ModRM names memory. */
	readonly memory: boolean;
	/** 0x66 counts as the operand-size prefix, not as part of the opcode. */
	readonly operandPrefix: boolean;
}

/** Longest instruction. */
const MOST_BYTES = 15;
let decoder: Decoder | undefined;

/**
 * Disassembles the instruction at the start of `code` with the engine's own table, so it knows what the engine executes
 * and nothing else.
 */
export function disassembleOne(code: Uint8Array, options: DisassembleOptions = {}): DisassembledInstruction {
	const address = options.address ?? 0n;
	const bits = options.bits ?? 64;
	decoder ??= new Decoder(handlerPlan());
	const length = Math.min(code.length, MOST_BYTES);
	const result = decoder.decode(code, 0, length, bits === 64 ? 2 : bits === 32 ? 1 : 0);
	const bad = (): DisassembledInstruction => ({ address, length: 1, bytes: code.slice(0, 1), text: "(bad)" });
	const { row, encoding } = decoder;
	if (result !== "ok" || row === undefined) {
		// The opcode that is undefined by definition.
		if (code[0] === 0x0f && code[1] === 0x0b) return { address, length: 2, bytes: code.slice(0, 2), text: "ud2" };
		return bad();
	}
	const prefixes = [...code.subarray(0, encoding.opcodeAt)];
	const segmentByte = prefixes.findLast((byte) => SEGMENT_PREFIXES.has(byte));
	const segment = segmentByte === undefined ? -1 : SEGMENT_PREFIXES.get(segmentByte)!;
	const operands = readOperands(decoder, { address, bits, at: 0, segment });
	const decoded: Decoded = {
		name: row.insn.name,
		opcode: row.insn.opcode,
		operands,
		operandSize: decoder.operandSize,
		bits,
		addressBits: encoding.addressBits,
		modrm: encoding.modrm,
		rex: encoding.rex,
		prefixes,
		sized:
			row.operands.some(({ size, encoding }) => "vz".includes(String(size)) && !isRelative(encoding)) || hasFar(row),
		wideable:
			!row.default64 &&
			!row.force64 &&
			(hasFar(row) || row.operands.some(({ size, encoding }) => "vy".includes(String(size)) && !isRelative(encoding))),
		memory: operands.some(({ kind }) => kind === "memory"),
		operandPrefix: prefixes.includes(0x66) && encoding.mandatory !== 0x66,
	};
	const write = (options.syntax ?? "intel") === "intel" ? intelText : attText;
	const before = unusedPrefixes(decoded, row.insn.attributes);
	let text = write(decoded);
	if (options.symbol !== undefined) text += symbolOf(operands, options.symbol);
	const bytes = code.slice(0, decoder.length);
	return { address, length: decoder.length, bytes, text: [...before, text].join(" ") };
}

/** Disassembles up to `most` instructions, or as many as the bytes hold. */
export function disassemble(
	code: Uint8Array,
	options: DisassembleOptions & { readonly most?: number } = {},
): DisassembledInstruction[] {
	const start = options.address ?? 0n;
	const out: DisassembledInstruction[] = [];
	for (let at = 0; at < code.length && out.length < (options.most ?? Number.POSITIVE_INFINITY); ) {
		const one = disassembleOne(code.subarray(at), { ...options, address: start + BigInt(at) });
		out.push(one);
		at += one.length;
	}
	return out;
}

function isRelative(encoding: string | undefined): boolean {
	return encoding === "jb" || encoding === "jz";
}

function hasFar({ operands }: Row): boolean {
	return operands.some(({ size }) => size === "far");
}

/** Segment registers by their prefix. */
const SEGMENT_PREFIXES: ReadonlyMap<number, number> = new Map([
	[0x26, 0],
	[0x2e, 1],
	[0x36, 2],
	[0x3e, 3],
	[0x64, 4],
	[0x65, 5],
]);

function symbolOf(operands: readonly Operand[], symbol: (address: bigint) => string | undefined): string {
	for (const operand of operands) {
		const address =
			operand.kind === "target" ? operand.address : operand.kind === "memory" ? operand.target : undefined;
		const name = address === undefined ? undefined : symbol(address);
		if (name !== undefined) return ` <${name}>`;
	}
	return "";
}
