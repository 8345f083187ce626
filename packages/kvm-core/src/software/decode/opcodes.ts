import type { Row } from "../emit/plan.ts";

/** One way to read an opcode byte. */
export interface Candidate {
	readonly row: Row;
	/** Mandatory prefix: 0x66, 0xf2, 0xf3; 0 = none of them may stand; -1 = they mean what they usually do. */
	readonly prefix: number;
	/** Required ModRM.reg, or -1. */
	readonly reg: number;
	/** Required ModRM.rm, or -1. */
	readonly rm: number;
	/** Required kind of ModRM.mod. */
	readonly mod: "any" | "register" | "memory";
	readonly hasModrm: boolean;
	/** i64 and o64. */
	readonly in64: boolean;
	readonly outside64: boolean;
	/** Opcodes the row stands for: 8 when it holds a register. */
	readonly span: number;
}

/** Candidates by opcode map (0 one-byte, 1 0F, 2 0F 38, 3 0F 3A) and opcode byte, best first. */
export type OpcodeMaps = readonly (readonly (readonly Candidate[])[])[];

interface Notation {
	map: number;
	opcode: number;
	span: number;
	prefix: number;
	reg: number;
	rm: number;
	mod: "any" | "register" | "memory";
	hasModrm: boolean;
}

/** Reads a row's opcode notation. */
export function parseOpcode(text: string): Notation {
	const words: string[] = text.split(" ");
	const out: Notation = { map: 0, opcode: -1, span: 1, prefix: -1, reg: -1, rm: -1, mod: "any", hasModrm: false };
	const first = words[0]!;
	if (first === "NP") {
		out.prefix = 0;
		words.shift();
	} else if ((first === "66" || first === "F2" || first === "F3") && words.length > 1) {
		out.prefix = Number.parseInt(first, 16);
		words.shift();
	}
	const hex = /^[0-9A-F]{2}$/;
	if (words[0] === "0F" && words[1] !== undefined && hex.test(words[1])) {
		words.shift();
		out.map = 1;
		const escaped = words[0] as string;
		if ((escaped === "38" || escaped === "3A") && words[1] !== undefined && hex.test(words[1])) {
			out.map = escaped === "38" ? 2 : 3;
			words.shift();
		}
	}
	out.opcode = Number.parseInt(words.shift()!, 16);
	for (const word of words) {
		if (word === "+r") out.span = 8;
		else if (word === "/r") out.hasModrm = true;
		else if (/^\/[0-7]$/.test(word)) {
			out.hasModrm = true;
			out.reg = Number(word[1]);
		} else if (word === "mod=3") {
			out.hasModrm = true;
			out.mod = "register";
		} else if (word === "mod=m") {
			out.hasModrm = true;
			out.mod = "memory";
		} else if (/^rm=[0-7]$/.test(word)) {
			out.hasModrm = true;
			out.rm = Number(word[3]);
		} else throw new Error(`opcode notation "${text}": what is ${word}?`);
	}
	return out;
}

/** Builds the maps the decoder looks opcodes up in. */
export function buildOpcodeMaps(rows: readonly Row[]): OpcodeMaps {
	const maps: Candidate[][][] = Array.from({ length: 4 }, () => Array.from({ length: 256 }, () => []));
	for (const row of rows) {
		const notation = parseOpcode(row.insn.opcode);
		const modOf = row.operands.find(({ place }) => place === "rm")?.mod ?? "any";
		const candidate: Candidate = {
			row,
			prefix: notation.prefix,
			reg: notation.reg,
			rm: notation.rm,
			mod: notation.mod === "any" ? modOf : notation.mod,
			hasModrm: notation.hasModrm,
			in64: !row.insn.attributes.includes("i64"),
			outside64: !row.insn.attributes.includes("o64"),
			span: notation.span,
		};
		for (let i = 0; i < notation.span; i++) maps[notation.map]![notation.opcode + i]!.push(candidate);
	}
	const rank = (candidate: Candidate): number =>
		(candidate.prefix > 0x66 ? 0 : candidate.prefix === 0x66 ? 100 : candidate.prefix === 0 ? 200 : 300) -
		(candidate.rm >= 0 ? 20 : 0) -
		(candidate.reg >= 0 ? 10 : 0) -
		(candidate.mod !== "any" ? 5 : 0) +
		(candidate.span > 1 ? 1 : 0);
	for (const map of maps) for (const list of map) list.sort((a, b) => rank(a) - rank(b));
	return maps;
}
