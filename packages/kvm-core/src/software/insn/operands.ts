/** Operand size by the SDM's type letter: bytes, or what the operand-size attribute decides. */
export type OperandSize = 1 | 2 | 4 | 8 | 10 | 16 | "v" | "z" | "y" | "far" | "none";

/** Where an operand comes from. */
export type OperandPlace = "reg" | "rm" | "immediate" | "fixed" | "one";

/** What the operand's addressing letter says, parsed once. */
export interface OperandForm {
	readonly text: string;
	readonly place: OperandPlace;
	/** Register file of a register operand. */
	readonly file: "general" | "segment" | "control" | "debug" | "mmx" | "xmm" | "x87" | "none";
	readonly size: OperandSize;
	/** A fixed register's byte offset in the state. */
	readonly offset?: number;
	/** An immediate with all 8 bytes. */
	readonly wide?: boolean;
	/** Which values ModRM.mod may have. */
	readonly mod: "any" | "register" | "memory";
	/** How an immediate is encoded: bytes (or by operand size) and meaning. */
	readonly encoding?: "ib" | "iw" | "iz" | "iv" | "jb" | "jz" | "offset" | "far" | "enter";
	/** Named in the opcode's low three bits rather than in ModRM.reg. */
	readonly inOpcode?: boolean;
	/** Implicit string operand, DS:rSI or ES:rDI. */
	readonly string?: "source" | "destination";
}

const TYPES: Readonly<Record<string, OperandSize>> = {
	b: 1,
	w: 2,
	d: 4,
	q: 8,
	v: "v",
	z: "z",
	y: "y",
	p: "far",
	t: 10,
	dq: 16,
	x: 16,
	ps: 16,
	pd: 16,
	ss: 4,
	sd: 8,
	"": "none",
};

const FIXED: Readonly<Record<string, readonly [offset: number, size: OperandSize]>> = {
	AL: [0, 1],
	CL: [8, 1],
	AX: [0, 2],
	DX: [16, 2],
	eAX: [0, "z"],
	rAX: [0, "v"],
	XMM0: [256, 16],
};

const cache = new Map<string, OperandForm>();

function parse(text: string): OperandForm {
	const fixed = FIXED[text];
	if (fixed !== undefined) {
		return { text, place: "fixed", file: "general", offset: fixed[0], size: fixed[1], mod: "any" };
	}
	// ST(i), its number in ModRM.rm: relative to the top of the stack.
	if (text === "STi") return { text, place: "rm", file: "x87", size: 10, mod: "register" };
	if (text === "1") return { text, place: "one", file: "none", size: 1, mod: "any" };
	const letter = text[0]!;
	const size = TYPES[text.slice(1)];
	if (size === undefined && !"IJ".includes(letter)) throw new Error(`no operand type ${text}`);
	const base = { text, size: size ?? "none", mod: "any" } as const;
	switch (letter) {
		case "E":
			return { ...base, place: "rm", file: "general" };
		case "M":
			return { ...base, place: "rm", file: "general", mod: "memory" };
		case "R":
			return { ...base, place: "rm", file: "general", mod: "register" };
		case "G":
			return { ...base, place: "reg", file: "general" };
		case "Z":
			return { ...base, place: "reg", file: "general", inOpcode: true };
		case "S":
			return { ...base, place: "reg", file: "segment" };
		case "C":
			return { ...base, place: "reg", file: "control" };
		case "D":
			return { ...base, place: "reg", file: "debug" };
		case "V":
			return { ...base, place: "reg", file: "xmm" };
		case "W":
			return { ...base, place: "rm", file: "xmm" };
		case "U":
			return { ...base, place: "rm", file: "xmm", mod: "register" };
		case "P":
			return { ...base, place: "reg", file: "mmx" };
		case "Q":
			return { ...base, place: "rm", file: "mmx" };
		case "N":
			return { ...base, place: "rm", file: "mmx", mod: "register" };
		case "X":
			return { ...base, place: "fixed", file: "none", string: "source" };
		case "Y":
			return { ...base, place: "fixed", file: "none", string: "destination" };
		case "O":
			return { ...base, place: "rm", file: "none", encoding: "offset" };
		case "A":
			return { ...base, place: "immediate", file: "none", encoding: "far" };
		case "J":
			return { ...base, size: "v", place: "immediate", file: "none", encoding: text === "Jb" ? "jb" : "jz" };
		case "I":
			switch (text) {
				case "Ib":
					return { ...base, place: "immediate", file: "none", encoding: "ib" };
				// A byte, sign-extended to the operand size.
				case "Ibs":
					return { ...base, size: "v", place: "immediate", file: "none", encoding: "ib" };
				case "Iw":
					return { ...base, place: "immediate", file: "none", encoding: "iw" };
				// Up to four bytes, sign-extended to the operand size.
				case "Iz":
					return { ...base, size: "v", place: "immediate", file: "none", encoding: "iz" };
				case "Iv":
					return { ...base, size: "v", place: "immediate", file: "none", encoding: "iv", wide: true };
				case "Iwb":
					return { ...base, size: 2, place: "immediate", file: "none", encoding: "enter" };
			}
	}
	throw new Error(`no operand form ${text}`);
}

/** Parses a table row's operand list (`Eb,Gb`). */
export function parseOperands(text: string): OperandForm[] {
	if (text === "") return [];
	return text.split(",").map((word) => {
		let form = cache.get(word);
		if (form === undefined) {
			form = parse(word);
			cache.set(word, form);
		}
		return form;
	});
}
