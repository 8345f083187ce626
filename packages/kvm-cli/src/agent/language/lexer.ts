import { CompileError } from "./errors.ts";

/** A word of the source. */
export interface Token {
	readonly kind: "name" | "number" | "string" | "sign" | "end";
	readonly text: string;
	/** Value of a number. */
	readonly value: bigint;
	readonly line: number;
}

const PATTERN =
	/(?<space>\s+|\/\/[^\n]*)|(?<number>0x[0-9a-fA-F]+|\d+)|(?<name>[A-Za-z_]\w*)|"(?<string>(?:[^"\\\n]|\\.)*)"|'(?<character>[^'\\\n])'|(?<sign>&&|\|\||==|!=|<=|>=|<<|>>|[-+*/%&|^~!<>=(){}[\];:,.])/y;

const ESCAPES: { readonly [letter: string]: string } = { n: "\n", t: "\t", "0": "\0", "\\": "\\", '"': '"' };

function textOf(text: string, line: number): string {
	return text.replace(/\\(.)/g, (_, letter: string) => {
		const meaning = ESCAPES[letter];
		if (meaning === undefined) throw new CompileError(line, `unknown escape \\${letter}`);
		return meaning;
	});
}

/** @throws CompileError for what is no word of the language */
export function tokenize(source: string): Token[] {
	const tokens: Token[] = [];
	let line = 1;
	PATTERN.lastIndex = 0;
	while (PATTERN.lastIndex < source.length) {
		const start = PATTERN.lastIndex;
		const groups = PATTERN.exec(source)?.groups;
		if (groups === undefined) throw new CompileError(line, `unexpected ${JSON.stringify(source[start])}`);
		const { number, name, string, character, sign } = groups;
		if (number !== undefined) tokens.push({ kind: "number", text: number, value: BigInt(number), line });
		else if (name !== undefined) tokens.push({ kind: "name", text: name, value: 0n, line });
		else if (string !== undefined) tokens.push({ kind: "string", text: textOf(string, line), value: 0n, line });
		else if (character !== undefined)
			tokens.push({ kind: "number", text: character, value: BigInt(character.charCodeAt(0)), line });
		else if (sign !== undefined) tokens.push({ kind: "sign", text: sign, value: 0n, line });
		line += source.slice(start, PATTERN.lastIndex).split("\n").length - 1;
	}
	tokens.push({ kind: "end", text: "end of the program", value: 0n, line });
	return tokens;
}
