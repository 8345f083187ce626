/** What the generator needs of a row of the engine's instruction table. */
export interface Row {
	readonly name: string;
	readonly opcode: string;
	readonly operands: string;
	readonly attributes: readonly string[];
	readonly undefinedFlags: number;
}

/** A row's opcode, taken apart. */
export interface Encoding {
	/** 0 = none given: other prefixes may stand before it. */
	readonly mandatory: 0 | 0x66 | 0xf2 | 0xf3;
	/** No 66, F2 or F3 may stand before it. */
	readonly bare: boolean;
	/** Escape bytes and the opcode. */
	readonly bytes: readonly number[];
	/** A register number is added to the last byte. */
	readonly plusRegister: boolean;
	readonly modrm: boolean;
	readonly reg?: number;
	readonly rm?: number;
	readonly mod: "any" | "register" | "memory";
}

export function parseOpcode(row: Row): Encoding {
	const words = row.opcode.split(" ");
	const bytes: number[] = [];
	let mandatory: Encoding["mandatory"] = 0;
	let bare = false;
	let plusRegister = false;
	let modrm = false;
	let reg: number | undefined;
	let rm: number | undefined;
	let mod: Encoding["mod"] = "any";
	words.forEach((word, i) => {
		const isPrefix = i === 0 && words.length > 1 && /^[0-9A-F]{2}$/.test(words[1]!);
		if (word === "NP") bare = true;
		else if (isPrefix && (word === "66" || word === "F2" || word === "F3")) {
			mandatory = Number.parseInt(word, 16) as Encoding["mandatory"];
		} else if (/^[0-9A-F]{2}$/.test(word)) bytes.push(Number.parseInt(word, 16));
		else if (/^[0-9A-F]{2}\+r$/.test(word)) {
			bytes.push(Number.parseInt(word, 16));
			plusRegister = true;
		} else if (word === "+r") plusRegister = true;
		else if (word === "/r") modrm = true;
		else if (/^\/[0-7]$/.test(word)) {
			modrm = true;
			reg = Number(word[1]);
		} else if (word === "mod=3") mod = "register";
		else if (word === "mod=m") mod = "memory";
		else if (/^rm=[0-7]$/.test(word)) rm = Number(word[3]);
		else throw new Error(`${row.name}: the oracle does not understand ${word} in ${row.opcode}`);
	});
	for (const operand of operandsOf(row)) {
		if (/^[MO]/.test(operand) && mod === "any") mod = "memory";
		if (/^([RUN]|STi)/.test(operand) && mod === "any") mod = "register";
	}
	return {
		mandatory,
		bare,
		bytes,
		plusRegister,
		modrm,
		mod,
		...(reg === undefined ? {} : { reg }),
		...(rm === undefined ? {} : { rm }),
	};
}

export function operandsOf(row: Row): string[] {
	return row.operands === "" ? [] : row.operands.split(",");
}

/** Left out of the comparison with the host's CPU, and why. */
const EXCLUDED: readonly (readonly [RegExp, string])[] = [
	[/^(syscall|sysenter|sysret|sysexit)/, "ends in the host's kernel"],
	[/^(sgdt|sidt|smsw|str|sldt)$/, "with UMIP the host's kernel emulates it; without, its result is the machine's own"],
	[/^int1$/, "hypervisors differ about where it leaves RIP"],
	[/^(monitor|mwait|vmcall|vmmcall|getsec)/, "depends on the host's virtualisation"],
	[/^pcommit$/, "withdrawn before any processor had it"],
];

/** Why a row is not compared, or undefined. */
export function exclusion(row: Row): string | undefined {
	return EXCLUDED.find(([pattern]) => pattern.test(row.name.toLowerCase()))?.[1];
}

/** x87 functions whose last digits are the processor's: within an error bound (SDM vol. 1, 8.3.10), not equal. */
export const ELEMENTARY = /^f(sin|cos|sincos|ptan|patan|2xm1|yl2x|yl2xp1)$/;
/** Reciprocals out of a table of the vendor's: within 1.5 * 2^-12 of the exact value. */
export const APPROXIMATE = /^(rcp|rsqrt)[ps]s$/;
/** What they return is the machine's own: compared is that they execute, and what else they leave alone. */
export const MACHINES_OWN = /^(rdtsc|rdtscp|cpuid|rdpid|xgetbv|rdrand|rdseed)$/;
/**
 * They store or load the last x87 instruction's opcode and pointers. Which instructions set those, and whether selectors
 * are kept, differs between vendors, so no x87 instruction stands before them in a case.
 */
export const POINTERS = /^(fnsave|fnstenv|fxsave|fxrstor|frstor|fldenv|xsave|xsaveopt|xsavec|xrstor)$/;
