import * as L from "../software/cpu/layout.ts";
import type { Decoder } from "../software/decode/decoder.ts";
import type { OperandForm } from "../software/insn/operands.ts";

/** An operand as both syntaxes need it. */
export type Operand =
	| { readonly kind: "register"; readonly name: string; readonly bytes: number; readonly general: boolean }
	| { readonly kind: "immediate"; readonly value: bigint }
	| { readonly kind: "target"; readonly address: bigint }
	| { readonly kind: "far"; readonly selector: number; readonly offset: number }
	| MemoryOperand;

/** A memory operand. */
export interface MemoryOperand {
	readonly kind: "memory";
	/** Bytes accessed; 0 where the instruction has no operand size. */
	readonly bytes: number;
	/** A segment named by a prefix, or the one a string operand has. */
	readonly segment: string | undefined;
	readonly base: string | undefined;
	readonly index: string | undefined;
	readonly scale: number;
	/** Undefined when the encoding has none. */
	readonly displacement: bigint | undefined;
	/** What a RIP-relative operand refers to. */
	readonly target: bigint | undefined;
	readonly addressBits: 16 | 32 | 64;
}

/** Where an instruction stands. */
export interface Place {
	readonly address: bigint;
	readonly bits: 16 | 32 | 64;
	/** Bytes before the instruction in the page, as it was decoded. */
	readonly at: number;
	/** Segment prefix, by register number, or -1. */
	readonly segment: number;
}

const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"] as const;
const WORDS = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"] as const;
const LOW_BYTES = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"] as const;
const HIGH_BYTES = ["ah", "ch", "dh", "bh"] as const;
const BASES_16: readonly (readonly [base: string, index?: string])[] = [
	["bx", "si"],
	["bx", "di"],
	["bp", "si"],
	["bp", "di"],
	["si"],
	["di"],
	["bp"],
	["bx"],
];

/** Name of a general register. */
export function generalName(number: number, bytes: number): string {
	if (number >= 8) return `r${number}${bytes === 8 ? "" : bytes === 4 ? "d" : bytes === 2 ? "w" : "b"}`;
	if (bytes === 1) return LOW_BYTES[number]!;
	const word = WORDS[number]!;
	return bytes === 2 ? word : bytes === 4 ? `e${word}` : `r${word}`;
}

/** Bytes an operand has, with the operand size in force. */
export function operandBytes(form: OperandForm, decoder: Decoder): number {
	const { operandSize } = decoder;
	switch (form.size) {
		case "v":
			return operandSize;
		case "z":
			return Math.min(operandSize, 4);
		case "y":
			return (decoder.encoding.rex & 8) !== 0 ? 8 : 4;
		case "far":
			return operandSize + 2;
		case "none":
			return 0;
		default:
			return form.size;
	}
}

/** Reads the operands of the instruction a decoder just decoded, in Intel's order. */
export function readOperands(decoder: Decoder, place: Place): Operand[] {
	const { row } = decoder;
	return row === undefined ? [] : row.operands.flatMap((form) => readOperand(form, decoder, place));
}

function readOperand(form: OperandForm, decoder: Decoder, place: Place): Operand[] {
	const control = decoder.row!.regFile === "control" || decoder.row!.regFile === "debug";
	const bytes = control && place.bits !== 64 ? 4 : operandBytes(form, decoder);
	if (form.string !== undefined) return [stringOperand(form, bytes, decoder, place)];
	switch (form.place) {
		case "one":
			return [{ kind: "immediate", value: 1n }];
		case "fixed":
			return form.text === "XMM0"
				? [{ kind: "register", name: "xmm0", bytes: 16, general: false }]
				: [{ kind: "register", name: generalName(form.offset! / 8, bytes), bytes, general: true }];
		case "reg":
			return [registerOperand(form, decoder.reg, bytes)];
		case "rm":
			if (form.encoding === "offset") return [absolute(decoder, place)];
			if (decoder.encoding.modrm >= 0xc0)
				return [registerOperand(form, decoder.base, shownBytes(decoder, bytes, place))];
			return [memory(decoder, decoder.row!.regFile === "segment" ? 2 : bytes, place)];
		case "immediate":
			return immediate(form, decoder, place);
	}
}

/** Instructions that read 16 bits of a register that is written out whole. */
const WHOLE_REGISTER = new Set(["8E /r", "0F 02 /r", "0F 03 /r"]);

function shownBytes(decoder: Decoder, bytes: number, { bits }: Place): number {
	if (!WHOLE_REGISTER.has(decoder.row!.insn.opcode)) return bytes;
	const { operandSize } = decoder;
	return decoder.row!.insn.opcode === "8E /r" && bits !== 16 ? Math.max(operandSize, 4) : operandSize;
}

function registerOperand({ file }: OperandForm, field: number, bytes: number): Operand {
	const register = (name: string): Operand => ({ kind: "register", name, bytes, general: file === "general" });
	switch (file) {
		case "xmm":
			return register(`xmm${field / 16}`);
		case "mmx":
			return register(`mm${field / 16}`);
		case "x87":
			return register(`st(${field / 16})`);
		case "segment":
			return register(SEGMENTS[field & 7] ?? "?");
		case "control":
			return register(`cr${field}`);
		case "debug":
			return register(`dr${field}`);
		default:
			return register((field & 7) === 1 ? HIGH_BYTES[field >> 3]! : generalName(field >> 3, bytes));
	}
}

function stringOperand(form: OperandForm, bytes: number, decoder: Decoder, place: Place): Operand {
	const { addressBits } = decoder.encoding;
	const source = form.string === "source";
	return {
		kind: "memory",
		bytes,
		segment: source ? (segmentOf(place) ?? "ds") : "es",
		base: generalName(source ? L.RSI : L.RDI, addressBits / 8),
		index: undefined,
		scale: 0,
		displacement: undefined,
		target: undefined,
		addressBits,
	};
}

/** In 64-bit code only FS and GS override anything. */
function segmentOf({ segment, bits }: Place): string | undefined {
	return segment >= 0 && (bits !== 64 || segment >= L.FS) ? SEGMENTS[segment] : undefined;
}

function absolute(decoder: Decoder, place: Place): MemoryOperand {
	const { addressBits } = decoder.encoding;
	const low = BigInt(decoder.displacement >>> 0);
	// An offset that a displacement holds was decoded as one.
	const wide = addressBits === 64 && decoder.immediate !== 0;
	const value = wide
		? BigInt.asUintN(64, (BigInt(decoder.immediate) << 32n) | low)
		: BigInt.asUintN(addressBits, BigInt(decoder.displacement));
	return {
		kind: "memory",
		// The register beside it says the size.
		bytes: 0,
		segment: segmentOf(place),
		base: undefined,
		index: undefined,
		scale: 0,
		displacement: value,
		target: undefined,
		addressBits,
	};
}

function memory(decoder: Decoder, bytes: number, place: Place): MemoryOperand {
	const { modrm, sib, rex, addressBits } = decoder.encoding;
	const mod = modrm >> 6;
	const rm = modrm & 7;
	const common = { kind: "memory", bytes, segment: segmentOf(place), addressBits, target: undefined } as const;
	const signed = BigInt(decoder.displacement);
	if (addressBits === 16) {
		if (mod === 0 && rm === 6) {
			return { ...common, base: undefined, index: undefined, scale: 0, displacement: BigInt.asUintN(16, signed) };
		}
		const [base, index] = BASES_16[rm]!;
		return { ...common, base, index, scale: 0, displacement: mod === 0 ? undefined : signed };
	}
	const width = addressBits / 8;
	if (rm === 5 && mod === 0) {
		if (place.bits !== 64) {
			return { ...common, base: undefined, index: undefined, scale: 0, displacement: BigInt.asUintN(32, signed) };
		}
		// The decoder folded the place in the page, and beyond an i32 2 GiB, into the displacement.
		const folded = signed + (decoder.index === L.TWO_GIB ? 1n << 31n : 0n);
		const displacement = folded - BigInt((place.at & 0xfff) + decoder.length);
		const target = BigInt.asUintN(addressBits, place.address + BigInt(decoder.length) + displacement);
		return { ...common, base: addressBits === 64 ? "rip" : "eip", index: undefined, scale: 0, displacement, target };
	}
	let base = rm | ((rex & 1) << 3);
	let index: string | undefined;
	let scale = 0;
	if (sib >= 0) {
		base = (sib & 7) | ((rex & 1) << 3);
		scale = sib >> 6;
		const number = ((sib >> 3) & 7) | ((rex & 2) << 2);
		if (number !== 4) index = generalName(number, width);
		// An index of none is only said where it could have been left away.
		else if ((sib & 7) !== 4 || scale !== 0) index = addressBits === 64 ? "riz" : "eiz";
		if ((sib & 7) === 5 && mod === 0) {
			const none = number === 4;
			const shown = none && scale === 0 && place.bits === addressBits ? undefined : index;
			const value = shown === undefined ? BigInt.asUintN(addressBits, signed) : signed;
			return { ...common, base: undefined, index: shown, scale, displacement: value };
		}
	}
	return {
		...common,
		base: generalName(base, width),
		index,
		scale,
		displacement: mod === 0 ? undefined : signed,
	};
}

function immediate(form: OperandForm, decoder: Decoder, place: Place): Operand[] {
	const { operandSize } = decoder;
	const value = BigInt(decoder.immediate);
	switch (form.encoding) {
		case "jb":
		case "jz": {
			const next = place.address + BigInt(decoder.length) + value;
			// A 16-bit target is one in the same 64 KiB.
			const upper = place.bits !== 64 && operandSize === 2 ? place.address & ~0xffffn : 0n;
			const width = place.bits === 64 ? 64 : operandSize === 2 ? 16 : 32;
			return [{ kind: "target", address: upper | BigInt.asUintN(width, next) }];
		}
		case "far":
			return [{ kind: "far", selector: decoder.displacement & 0xffff, offset: decoder.immediate >>> 0 }];
		case "enter":
			return [
				{ kind: "immediate", value: value & 0xffffn },
				{ kind: "immediate", value: BigInt(decoder.displacement & 0xff) },
			];
		case "iw":
			return [{ kind: "immediate", value: value & 0xffffn }];
		case "iv":
			if (operandSize === 8) {
				const high = BigInt(decoder.displacement);
				return [{ kind: "immediate", value: BigInt.asUintN(64, (high << 32n) | (value & 0xffff_ffffn)) }];
			}
			break;
		default:
			if (form.size === 1) return [{ kind: "immediate", value: value & 0xffn }];
	}
	return [{ kind: "immediate", value: BigInt.asUintN(8 * operandSize, value) }];
}
