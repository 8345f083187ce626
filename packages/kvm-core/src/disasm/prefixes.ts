import type { Attribute } from "../software/insn/define.ts";
import type { Decoded } from "./disassembler.ts";

const SEGMENT_NAMES: ReadonlyMap<number, string> = new Map([
	[0x26, "es"],
	[0x2e, "cs"],
	[0x36, "ss"],
	[0x3e, "ds"],
	[0x64, "fs"],
	[0x65, "gs"],
]);

/** Branches that F2 makes `bnd`. */
const BRANCHES = /^(?:j\w+|call|ret)$/;

/** Prefixes that stand before the mnemonic, because no operand shows them. */
export function unusedPrefixes(decoded: Decoded, attributes: readonly Attribute[]): string[] {
	const { name, prefixes, opcode } = decoded;
	const out: string[] = [];
	const mandatory = /^(66|F2|F3) \S/.exec(opcode)?.[1];
	const lastSegment = prefixes.findLastIndex((byte) => SEGMENT_NAMES.has(byte));
	const lastOperand = prefixes.lastIndexOf(0x66);
	const lastAddress = prefixes.lastIndexOf(0x67);
	for (const [i, byte] of prefixes.entries()) {
		const segment = SEGMENT_NAMES.get(byte);
		if (segment !== undefined) {
			if (i !== lastSegment || !showsSegment(decoded, byte)) out.push(noTrack(decoded, byte) ? "notrack" : segment);
		} else if (byte === 0xf0) out.push("lock");
		else if (byte === 0xf2 || byte === 0xf3) {
			if (mandatory === byte.toString(16).toUpperCase() || isHint(decoded, byte)) continue;
			if (byte === 0xf3 && (name === "bsf" || name === "bsr")) continue;
			if (byte === 0xf2 && BRANCHES.test(name)) out.push("bnd");
			else out.push(repeatName(byte, name, attributes));
		} else if (byte === 0x66) {
			if (i !== lastOperand || !(mandatory === "66" || sizeMatters(decoded))) {
				out.push(decoded.bits === 16 ? "data32" : "data16");
			}
		} else if (byte === 0x67) {
			const used = decoded.memory || name === "jcxz" || (name.startsWith("loop") && decoded.bits !== 64);
			if (i !== lastAddress || !used) out.push(decoded.bits === 32 ? "addr16" : "addr32");
		} else if (i === prefixes.length - 1) {
			const rex = unusedRex(decoded);
			if (rex !== undefined) out.push(rex);
		} else out.push(rexName(byte));
	}
	return out;
}

function repeatName(byte: number, name: string, attributes: readonly Attribute[]): string {
	if (byte === 0xf2) return "repnz";
	return attributes.includes("rep") && name !== "cmps" && name !== "scas" ? "rep" : "repz";
}

/** Whether an operand shows the segment prefix. */
function showsSegment({ operands, bits, name }: Decoded, byte: number): boolean {
	if (bits === 64 && byte < 0x64) return isString(name);
	if (name === "xlat") return true;
	if (/^(?:stos|scas|ins)$/.test(name)) return false;
	return operands.some((operand) => operand.kind === "memory" && operand.segment === SEGMENT_NAMES.get(byte));
}

function isString(name: string): boolean {
	return /^(?:movs|cmps|lods|outs|xlat)$/.test(name);
}

/** ENDBR and RDSSP are NOPs that F3 gives a meaning. */
function isHint({ opcode, modrm }: Decoded, byte: number): boolean {
	return (
		byte === 0xf3 &&
		opcode.startsWith("0F 1E") &&
		modrm >= 0xc0 &&
		(modrm >= 0xfa ? modrm <= 0xfb : (modrm & 0x38) === 8)
	);
}

function noTrack({ name, operands }: Decoded, byte: number): boolean {
	return byte === 0x3e && (name === "jmp" || name === "call") && operands[0]?.kind !== "target";
}

/** Names that the operand-size prefix changes though no operand has a size. */
const SIZED_NAMES = /^(?:cbw|cwd|pushf|popf|pusha|popa|iret|retf|leave|enter|ret)$/;

function sizeMatters(decoded: Decoded): boolean {
	const { name, operands } = decoded;
	if ((decoded.rex & 8) !== 0) return false;
	if (SIZED_NAMES.test(name) || name === "nop") return true;
	if (operands[0]?.kind === "target") return decoded.bits !== 64 && (name === "call" || name === "jmp");
	return decoded.sized;
}

/** Names that REX.W changes though no operand has its size. */
const WIDE_NAMES =
	/^(?:fxsave|fxrstor|xsave|xrstor|xsaveopt|xsavec|xsaves|xrstors|cmpxchg8b|movd|pextrd|pinsrd|cbw|cwd|iret|retf|sysexit|sysret)$/;

function rexName(rex: number): string {
	const bits = ["W", "R", "X", "B"].filter((_, i) => (rex & (8 >> i)) !== 0).join("");
	return bits === "" ? "rex" : `rex.${bits}`;
}

/** The REX prefix, when some bit of it changed nothing. */
function unusedRex(decoded: Decoded): string | undefined {
	const { rex, modrm, operands, opcode, name } = decoded;
	if (rex === 0) return undefined;
	let used = 0;
	const use = (bit: number): void => {
		if ((rex & bit) !== 0) used |= bit | 0x40;
	};
	if (decoded.wideable || WIDE_NAMES.test(name)) use(8);
	if (modrm >= 0) {
		if (/\/r/.test(opcode)) use(4);
		use(1);
		if (modrm < 0xc0 && (modrm & 7) === 4) use(2);
	}
	if (opcode.includes("+r")) use(1);
	// SPL, BPL, SIL, DIL need a REX of any kind.
	if (operands.some((operand) => operand.kind === "register" && operand.general && operand.bytes === 1)) used |= 0x40;
	return used === rex ? undefined : rexName(rex);
}
