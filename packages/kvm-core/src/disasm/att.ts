import type { Decoded } from "./disassembler.ts";
import { hasSizedImmediate, x87Operands } from "./intel.ts";
import { encodedName } from "./mnemonic.ts";
import type { MemoryOperand, Operand } from "./operand.ts";

const SUFFIX: Readonly<Record<number, string>> = { 1: "b", 2: "w", 4: "l", 8: "q" };
const BY_SIZE: Readonly<Record<string, readonly [string, string, string]>> = {
	cbw: ["cbtw", "cwtl", "cltq"],
	cwd: ["cwtd", "cltd", "cqto"],
};
/** Instructions that say their size when only memory, which has none, could. */
const SUFFIXED = new Set(
	"add or adc sbb and sub xor cmp test not neg mul imul div idiv inc dec mov rol ror rcl rcr shl shr sar bt bts btr btc nop".split(
		" ",
	),
);
const REVERSED: Readonly<Record<string, string>> = {
	fsub: "fsubr",
	fsubr: "fsub",
	fsubp: "fsubrp",
	fsubrp: "fsubp",
	fdiv: "fdivr",
	fdivr: "fdiv",
	fdivp: "fdivrp",
	fdivrp: "fdivp",
};

/** As `objdump` writes it by default: source before destination, sizes as suffixes. */
export function attText(decoded: Decoded): string {
	const { name, operands } = encodedName(decoded);
	const shown = x87Operands(decoded, operands);
	const words = shown.filter((operand) => !isUnit(operand, decoded)).map((operand) => operandText(operand, decoded));
	const ordered = /^(?:enter|bound)$/.test(name) || isFarImmediate(shown[0]) ? words : words.reverse();
	const target = operands.find((operand) => operand.kind === "memory" && operand.target !== undefined);
	const comment =
		target?.kind === "memory" && target.target !== undefined ? `        # 0x${target.target.toString(16)}` : "";
	const text = attName(name, operands, decoded);
	return words.length === 0 ? text : `${text} ${ordered.join(",")}${comment}`;
}

function isUnit(operand: Operand | string, { opcode }: Decoded): boolean {
	return typeof operand !== "string" && operand.kind === "immediate" && /^D[01] /.test(opcode);
}

function isFarImmediate(operand: Operand | string | undefined): boolean {
	return typeof operand === "object" && operand.kind === "far";
}

function attName(name: string, operands: readonly Operand[], decoded: Decoded): string {
	const { operandSize, bits, opcode } = decoded;
	const bySize = BY_SIZE[name];
	if (bySize !== undefined) return bySize[operandSize === 2 ? 0 : operandSize === 8 ? 2 : 1];
	const size = SUFFIX[operandSize]!;
	const natural = bits === 16 ? 2 : 4;
	const memory = operands.find((operand): operand is MemoryOperand => operand.kind === "memory");
	switch (name) {
		case "jmpf":
		case "callf":
			return `l${name.slice(0, -1)}${decoded.operandPrefix && operandSize !== 8 ? size : ""}`;
		case "retf":
			return operandSize === natural ? "lret" : `lret${size}`;
		case "iret":
			return operandSize === natural ? name : `iret${size}`;
		case "pushf":
		case "popf":
		case "pusha":
		case "popa":
			return decoded.operandPrefix ? `${name}${size}` : name;
		case "leave":
		case "ret":
			if (!decoded.operandPrefix || (decoded.rex & 8) !== 0) return name;
			return `${name}${bits === 16 ? "l" : "w"}`;
		case "movzx":
		case "movsx": {
			const source = operands[1];
			const bytes = source?.kind === "register" || source?.kind === "memory" ? source.bytes : 1;
			return `mov${name[3]}${SUFFIX[bytes]}${size}`;
		}
		case "sysexit":
		case "sysret":
			return bits === 64 ? `${name}${(decoded.rex & 8) !== 0 ? "q" : "l"}` : name;
		case "movsxd":
			return operandSize === 8 ? "movslq" : "movsxd";
		case "movs":
		case "cmps":
		case "stos":
		case "lods":
		case "scas":
		case "ins":
		case "outs":
			return stringName(name, operands);
		case "crc32": {
			const source = operands[1];
			return `crc32${SUFFIX[source?.kind === "register" || source?.kind === "memory" ? source.bytes : 1]}`;
		}
		case "cvtsi2ss":
		case "cvtsi2sd":
			return memory === undefined ? name : `${name}${SUFFIX[memory.bytes]}`;
	}
	if (/^f/.test(name)) return x87Name(name, memory, opcode);
	if (operands.some((operand) => operand.kind === "register" && /^(?:[c-g]s|ss|\?)$/.test(operand.name))) return name;
	const general = operands.some((operand) => operand.kind === "register" && operand.general);
	if (memory !== undefined && SUFFIXED.has(name)) {
		const count = / CL$/.test(` ${decoded.name}`) || /^D[23] /.test(opcode);
		if (memory.bytes !== 0 && (!general || count)) return `${name}${SUFFIX[memory.bytes] ?? ""}`;
	}
	if (hasSizedImmediate(decoded)) return `${name}${bits === 16 ? "l" : "w"}`;
	if ((name === "push" || name === "pop" || name === "call" || name === "jmp") && decoded.operandPrefix) {
		const plain = operands.some(({ kind }) => kind === "register" || kind === "target");
		if (!plain) return `${name}${size}`;
	}
	return name;
}

function stringName(name: string, operands: readonly Operand[]): string {
	const memory = operands.find((operand) => operand.kind === "memory");
	const bytes = memory?.kind === "memory" ? memory.bytes : 1;
	const register = operands.some((operand) => operand.kind === "register" && operand.general && operand.name !== "dx");
	return register ? name : `${name}${SUFFIX[bytes]}`;
}

/** Floating-point sizes are s, l and t, integer ones s, l and ll; subtractions and divisions into ST(i) are reversed. */
function x87Name(name: string, memory: MemoryOperand | undefined, opcode: string): string {
	if (memory === undefined) return /^D[CE] /.test(opcode) ? (REVERSED[name] ?? name) : name;
	if (/^f(?:ldcw|nstcw|nstsw|ldenv|nstenv|rstor|nsave|xsave|xrstor|bld|bstp)/.test(name)) return name;
	if (/^fi/.test(name)) return `${name}${memory.bytes === 2 ? "s" : memory.bytes === 4 ? "l" : "ll"}`;
	return `${name}${memory.bytes === 4 ? "s" : memory.bytes === 8 ? "l" : "t"}`;
}

function operandText(operand: Operand | string, decoded: Decoded): string {
	if (typeof operand === "string") return `%${operand}`;
	const indirect = /^FF \/[2345]/.test(decoded.opcode) ? "*" : "";
	switch (operand.kind) {
		case "register":
			if (operand.name === "dx" && /^(?:in|out|ins|outs)$/.test(decoded.name)) return "(%dx)";
			return `${indirect}%${operand.name.replace(/^dr/, "db")}`;
		case "immediate":
			return `$0x${operand.value.toString(16)}`;
		case "target":
			return `0x${operand.address.toString(16)}`;
		case "far":
			return `$0x${operand.selector.toString(16)},$0x${operand.offset.toString(16)}`;
		case "memory":
			return `${indirect}${addressText(operand, /^A[0-3]$/.test(decoded.opcode))}`;
	}
}

function addressText(
	{ segment, base, index, scale, displacement, addressBits }: MemoryOperand,
	offset: boolean,
): string {
	let text = segment === undefined ? "" : `%${segment}:`;
	if (displacement !== undefined) {
		const alone = base === undefined && index === undefined;
		const value = !alone
			? displacement
			: addressBits === 16 && !offset
				? BigInt.asIntN(16, displacement)
				: BigInt.asUintN(64, displacement);
		text += value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
	}
	if (base === undefined && index === undefined) return text;
	const second = index === undefined ? "" : addressBits === 16 ? `,%${index}` : `,%${index},${1 << scale}`;
	return `${text}(${base === undefined ? "" : `%${base}`}${second})`;
}
