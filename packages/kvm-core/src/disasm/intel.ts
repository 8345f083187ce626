import type { Decoded } from "./disassembler.ts";
import { encodedName, memoryBytes } from "./mnemonic.ts";
import type { MemoryOperand, Operand } from "./operand.ts";

const POINTERS: Readonly<Record<number, string>> = {
	1: "BYTE PTR ",
	2: "WORD PTR ",
	4: "DWORD PTR ",
	6: "FWORD PTR ",
	8: "QWORD PTR ",
	10: "TBYTE PTR ",
	16: "XMMWORD PTR ",
};

/** Names that differ by operand size: 16, 32 and 64 bits. */
const BY_SIZE: Readonly<Record<string, readonly [string, string, string]>> = {
	cbw: ["cbw", "cwde", "cdqe"],
	cwd: ["cwd", "cdq", "cqo"],
};

/** As `objdump -M intel` writes it. */
export function intelText(decoded: Decoded): string {
	const { operandSize } = decoded;
	const { name, operands } = encodedName(decoded);
	const words = x87Operands(decoded, operands).map((operand) =>
		typeof operand === "string" ? operand : operandText(operand, name, operandSize, decoded),
	);
	const target = operands.find((operand) => operand.kind === "memory" && operand.target !== undefined);
	const comment =
		target?.kind === "memory" && target.target !== undefined ? `        # 0x${target.target.toString(16)}` : "";
	const text = intelName(name, decoded);
	return words.length === 0 ? text : `${text} ${words.join(",")}${comment}`;
}

function intelName(name: string, decoded: Decoded): string {
	const { operandSize, bits } = decoded;
	const bySize = BY_SIZE[name];
	if (bySize !== undefined) return bySize[operandSize === 2 ? 0 : operandSize === 8 ? 2 : 1];
	const natural = bits === 16 ? 2 : 4;
	switch (name) {
		case "jmpf":
			return "jmp";
		case "callf":
			return "call";
		case "iret":
		case "retf":
			return operandSize === natural ? name : `${name}${operandSize === 8 ? "q" : operandSize === 2 ? "w" : "d"}`;
		case "pushf":
		case "popf":
		case "pusha":
		case "popa":
			if (!decoded.operandPrefix) return name;
			return `${name}${operandSize === 2 ? "w" : "d"}`;
		case "leave":
		case "ret":
			if (!decoded.operandPrefix || (decoded.rex & 8) !== 0) return name;
			return `${name}${bits === 16 ? "d" : "w"}`;
		case "sysexit":
		case "sysret":
			return bits === 64 ? `${name}${(decoded.rex & 8) !== 0 ? "q" : "d"}` : name;
		case "enter":
		case "push":
		case "call":
		case "jmp":
			return hasSizedImmediate(decoded) ? `${name}${bits === 16 ? "d" : "w"}` : name;
		default:
			return name;
	}
}

/** An immediate or a target whose size only the operand-size prefix says. */
export function hasSizedImmediate({ opcode, operandPrefix, rex, bits }: Decoded): boolean {
	if (!operandPrefix || (rex & 8) !== 0) return false;
	return /^(?:C8|68|6A)/.test(opcode) || (bits !== 64 && /^E[89]/.test(opcode));
}

/** The x87 rows name the register that varies; Intel's syntax names the stack's top too. */
export function x87Operands(decoded: Decoded, operands: readonly Operand[]): readonly (Operand | string)[] {
	const { opcode, name } = decoded;
	const [first] = operands;
	if (first?.kind !== "register" || !first.name.startsWith("st(")) return operands;
	if (/^(?:fld|fst|fstp|fxch|ffree|ffreep|fucom|fucomp|fcom|fcomp)$/.test(name)) return operands;
	return /^D[89AB]/.test(opcode) || /^(?:fu?comip)$/.test(name) ? ["st", first] : [first, "st"];
}

function operandText(operand: Operand, name: string, operandSize: number, decoded: Decoded): string {
	switch (operand.kind) {
		case "register":
			return operand.name;
		case "immediate":
			return isUnit(operand.value, decoded) ? "1" : `0x${operand.value.toString(16)}`;
		case "target":
			return `0x${operand.address.toString(16)}`;
		case "far":
			return `0x${operand.selector.toString(16)}:0x${operand.offset.toString(16)}`;
		case "memory": {
			const bytes = memoryBytes(name, operand.bytes, operandSize);
			return `${POINTERS[bytes] ?? ""}${addressText(operand)}`;
		}
	}
}

/** The count that a shift by one leaves unencoded. */
function isUnit(value: bigint, { opcode }: Decoded): boolean {
	return value === 1n && /^D[01] /.test(opcode);
}

function addressText({ segment, base, index, scale, displacement, addressBits }: MemoryOperand): string {
	const prefix = segment === undefined ? "" : `${segment}:`;
	if (base === undefined && index === undefined) {
		return `${segment ?? "ds"}:0x${BigInt.asUintN(64, displacement ?? 0n).toString(16)}`;
	}
	let text = base ?? "";
	if (index !== undefined) {
		const scaled = addressBits === 16 ? index : `${index}*${1 << scale}`;
		text += text === "" ? scaled : `+${scaled}`;
	}
	if (displacement !== undefined && (base === "rip" || base === "eip")) {
		text += `+0x${BigInt.asUintN(64, displacement).toString(16)}`;
	} else if (displacement !== undefined) {
		text += displacement < 0n ? `-0x${(-displacement).toString(16)}` : `+0x${displacement.toString(16)}`;
	}
	return `${prefix}[${text}]`;
}
