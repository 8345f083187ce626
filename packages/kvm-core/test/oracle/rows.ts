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
	[/^(rdtsc|rdtscp|rdpmc|rdrand|rdseed|cpuid|rdpid|xgetbv)$/, "its result is the machine's own"],
	[/^(sgdt|sidt|smsw|str|sldt)$/, "the host's kernel emulates it, or its result is the machine's own"],
	[/^(xsave|xrstor)/, "the host's area has more components than the guest's"],
	[/^int1$/, "hypervisors differ about where it leaves RIP"],
	[/^(monitor|mwait|vmcall|vmmcall|getsec)/, "depends on the host's virtualisation"],
	[
		/^(fnsave|fsave|fnstenv|fstenv|fxsave|fxsave64|fxrstor|fxrstor64|frstor|fldenv)$/,
		"pointers of the last x87 instruction are vendor-specific",
	],
	[/^f(sin|cos|sincos|ptan|patan|2xm1|yl2x|yl2xp1)$/, "last digits differ between CPUs"],
	[/^(rcpps|rcpss|rsqrtps|rsqrtss)$/, "an approximation whose table is the vendor's"],
	[/^pcommit$/, "withdrawn before any processor had it"],
];

/** Why a row is not compared, or undefined. */
export function exclusion(row: Row): string | undefined {
	return EXCLUDED.find(([pattern]) => pattern.test(row.name.toLowerCase()))?.[1];
}
