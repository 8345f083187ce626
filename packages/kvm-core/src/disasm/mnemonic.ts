import type { Decoded } from "./disassembler.ts";

const COMPARES = ["eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord"];
const PREFETCH = ["prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2"];

/** Names that are a matter of the encoding, in either syntax: pseudo-operations, hints, 64-bit forms. */
export function encodedName(decoded: Decoded): { name: string; operands: Decoded["operands"] } {
	const { name, operands, rex, opcode, modrm, addressBits, prefixes } = decoded;
	const wide = (rex & 8) !== 0;
	const same = (text: string): { name: string; operands: Decoded["operands"] } => ({ name: text, operands });
	const compare = /^cmp([ps][sd])$/.exec(name);
	const last = operands.at(-1);
	if (compare !== null && last?.kind === "immediate" && last.value < 8n) {
		return { name: `cmp${COMPARES[Number(last.value)]}${compare[1]}`, operands: operands.slice(0, -1) };
	}
	switch (name) {
		case "movd":
		case "pextrd":
		case "pinsrd":
			return same(wide ? `${name.slice(0, -1)}q` : name);
		case "cmpxchg8b":
			return same(wide ? "cmpxchg16b" : name);
		case "fxsave":
		case "fxrstor":
		case "xsave":
		case "xrstor":
		case "xsaveopt":
		case "xsavec":
		case "xsaves":
		case "xrstors":
			return same(wide ? `${name}64` : name);
		case "jcxz":
			return same(addressBits === 64 ? "jrcxz" : addressBits === 32 ? "jecxz" : "jcxz");
		case "prefetchw":
			return same(["prefetch", "prefetchw", "prefetchwt1"][(modrm >> 3) & 7] ?? "prefetch");
		case "push":
		case "pop": {
			const segment = SEGMENT_OPCODES[opcode];
			if (segment === undefined) return same(name);
			return { name, operands: [{ kind: "register", name: segment, bytes: 2, general: false }] };
		}
		case "xlat": {
			const segment = segmentText(decoded);
			const base = addressBits === 64 ? "rbx" : addressBits === 32 ? "ebx" : "bx";
			const none = { index: undefined, scale: 0, displacement: undefined, target: undefined };
			return { name, operands: [{ kind: "memory", bytes: 1, segment, base, addressBits, ...none }] };
		}
		case "bsf":
		case "bsr":
			// What a processor with BMI1 and ABM makes of them.
			return same(prefixes.includes(0xf3) ? (name === "bsf" ? "tzcnt" : "lzcnt") : name);
		case "mov":
			return same(isAbsolute(decoded) ? "movabs" : name);
		case "nop":
			if (opcode === "90" && decoded.operandPrefix) {
				const register = {
					kind: "register",
					name: decoded.bits === 16 ? "eax" : "ax",
					bytes: 2,
					general: true,
				} as const;
				return { name: "xchg", operands: [register, register] };
			}
			return hint(decoded, opcode, modrm) ?? same(name);
		default:
			return same(name);
	}
}

/** PUSH and POP of a segment register, which the opcode names. */
const SEGMENT_OPCODES: Readonly<Record<string, string>> = {
	"06": "es",
	"07": "es",
	"0E": "cs",
	"16": "ss",
	"17": "ss",
	"1E": "ds",
	"1F": "ds",
	"0F A0": "fs",
	"0F A1": "fs",
	"0F A8": "gs",
	"0F A9": "gs",
};

const SEGMENTS: Readonly<Record<number, string>> = { 38: "es", 46: "cs", 54: "ss", 62: "ds", 100: "fs", 101: "gs" };

function segmentText({ prefixes, bits }: Decoded): string {
	const byte = prefixes.findLast((prefix) => prefix in SEGMENTS && (bits !== 64 || prefix >= 0x64));
	return byte === undefined ? "ds" : SEGMENTS[byte]!;
}

/** Eight bytes of immediate or offset. */
function isAbsolute({ opcode, operandSize, addressBits }: Decoded): boolean {
	return (opcode.startsWith("B8") && operandSize === 8) || (/^A[0-3]$/.test(opcode) && addressBits === 64);
}

function hint(
	decoded: Decoded,
	opcode: string,
	modrm: number,
): { name: string; operands: Decoded["operands"] } | undefined {
	const { prefixes, operands } = decoded;
	if (opcode.startsWith("0F 18") && modrm < 0xc0 && ((modrm >> 3) & 7) < 4) {
		const touched = operands.map((operand) => (operand.kind === "memory" ? { ...operand, bytes: 1 } : operand));
		return { name: PREFETCH[(modrm >> 3) & 7]!, operands: touched };
	}
	if (opcode.startsWith("0F 1C") && modrm < 0x40 * 3 && (modrm & 0x38) === 0 && prefixes.length === 0) {
		return { name: "cldemote", operands };
	}
	if (opcode.startsWith("0F 1E") && prefixes.includes(0xf3)) {
		if (modrm === 0xfa) return { name: "endbr64", operands: [] };
		if (modrm === 0xfb) return { name: "endbr32", operands: [] };
		if (((modrm >> 3) & 7) === 1 && modrm >= 0xc0) {
			return { name: (decoded.rex & 8) !== 0 ? "rdsspq" : "rdsspd", operands };
		}
	}
	return undefined;
}

/** Operand sizes that the rows leave open, for memory operands that are more than an address. */
export function memoryBytes(name: string, bytes: number, operandSize: number): number {
	switch (name) {
		case "cmpxchg8b":
			return 8;
		case "cmpxchg16b":
			return 16;
		case "bound":
			return operandSize * 2;
		case "sldt":
		case "str":
		case "smsw":
		case "pinsrw":
		case "pextrw":
			return 2;
		case "pinsrb":
		case "pextrb":
		case "cldemote":
		case "prefetch":
		case "prefetchw":
		case "prefetchwt1":
		case "invlpg":
		case "clflush":
		case "clflushopt":
		case "clwb":
			return 1;
		default:
			return bytes;
	}
}
