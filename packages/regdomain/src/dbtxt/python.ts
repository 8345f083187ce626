/** Whether a character is white space to Python's `str.strip`. */
const space = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const edges = new RegExp(`^${space}+|${space}+$`, "g");

const isPlain = (code: number): boolean => code > 0x20 && code < 0x7f;

/** `str.strip()`. */
export function strip(text: string): string {
	if (text === "" || (isPlain(text.charCodeAt(0)) && isPlain(text.charCodeAt(text.length - 1)))) return text;
	return text.replace(edges, "");
}

/** How `float` and `int` strip: Unicode white space only where the text is not plain ASCII. */
const stripNumber = (text: string): string =>
	isPlain(text.charCodeAt(0)) && isPlain(text.charCodeAt(text.length - 1))
		? text
		: /^[\x00-\x7f]*$/.test(text)
			? text.replace(/^[\t-\r ]+|[\t-\r ]+$/g, "")
			: strip(text);

const digits = "\\d+(?:_\\d+)*";
const float = new RegExp(`^[+-]?(?:${digits}\\.?(?:${digits})?|\\.${digits})(?:[eE][+-]?${digits})?$`);
const special = /^([+-]?)(?:(inf|infinity)|nan)$/i;

/** `float(text)`, or undefined where Python raises ValueError. Digits other than ASCII are not taken. */
export function pythonFloat(text: string): number | undefined {
	const stripped = stripNumber(text);
	if (float.test(stripped)) return Number(stripped.includes("_") ? stripped.replaceAll("_", "") : stripped);
	const named = special.exec(stripped);
	if (named === null) return undefined;
	if (named[2] === undefined) return Number.NaN;
	return named[1] === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

const integer = new RegExp(`^[+-]?${digits}$`);

/** `int(text)`, or undefined where Python raises ValueError. */
export function pythonInt(text: string): number | undefined {
	const stripped = stripNumber(text);
	return integer.test(stripped) ? Number(stripped.replaceAll("_", "")) : undefined;
}

const named: Readonly<Record<string, string>> = { "\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\" };

function escaped(character: string): string {
	const code = character.codePointAt(0)!;
	const known = named[character];
	if (known !== undefined) return known;
	if (code >= 0x20 && code < 0x7f) return character;
	if (code < 0x20 || (code >= 0x7f && code <= 0xa0) || code === 0xad) return `\\x${code.toString(16).padStart(2, "0")}`;
	return character;
}

/** `repr(text)`; of characters beyond Latin-1 all count as printable. */
export function pythonRepr(text: string): string {
	const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
	return (
		quote + [...text].map((character) => (character === quote ? `\\${character}` : escaped(character))).join("") + quote
	);
}

/** Python's words for a method called with the wrong number of arguments. */
export function wrongArgumentCount(method: string, names: readonly string[], given: number): string {
	if (given > names.length) {
		return `TypeError: ${method}() takes ${names.length + 1} positional arguments but ${given + 1} were given`;
	}
	const missing = names.slice(given).map((name) => `'${name}'`);
	const last = missing.pop()!;
	const comma = missing.length > 1 ? "," : "";
	const list = missing.length === 0 ? last : `${missing.join(", ")}${comma} and ${last}`;
	const plural = missing.length === 0 ? "" : "s";
	return `TypeError: ${method}() missing ${missing.length + 1} required positional argument${plural}: ${list}`;
}
