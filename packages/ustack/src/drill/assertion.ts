import { StackError } from "../errors.ts";

/** Values of Python's small world: what asserts compare. */
type Value = number | boolean | string;

/**
 * Runs a script's Python block as far as it is assertions and arithmetic: comparisons, `and`, `or`, `not`, bit
 * operators, and names set with `=`, `+=` and `-=`, which stay known in `variables`.
 *
 * @returns the text of the first assertion that does not hold, with the values it saw; undefined when all hold
 * @throws StackError `ERR_BAD_SCRIPT` for any other statement
 */
export function checkAsserts(
	code: string,
	names: (name: string) => number | undefined,
	variables: Map<string, number> = new Map(),
): string | undefined {
	const joined = code.replace(/\\\n/g, " ");
	for (const raw of joined.split(/\n|;/)) {
		const line = raw.replace(/#.*$/, "").trim();
		if (line === "" || /^(print|import|from)\b/.test(line)) continue;
		const seen: string[] = [];
		const lookup = (name: string): number => {
			const value = variables.get(name) ?? names(name);
			if (value === undefined) throw new StackError("ERR_BAD_SCRIPT", `"${name}" is not known to asserts`);
			if (/^tcpi_/.test(name)) seen.push(`${name}=${value}`);
			return value;
		};
		const setting = /^([A-Za-z_]\w*)\s*([-+]?)=(?!=)\s*(.*)$/.exec(line);
		if (setting !== null) {
			const value = Number(new Evaluator(setting[3]!, lookup).run());
			const before = setting[2] === "" ? 0 : lookup(setting[1]!);
			variables.set(setting[1]!, setting[2] === "-" ? before - value : before + value);
			continue;
		}
		const statement = /^assert\b\s*(.*)$/.exec(line);
		if (statement === null)
			throw new StackError("ERR_BAD_SCRIPT", `only assertions and settings are run, not "${line}"`);
		if (!new Evaluator(statement[1]!, lookup).run()) return `assert ${statement[1]} fails: ${seen.join(", ")}`;
	}
	return undefined;
}

class Evaluator {
	private readonly tokens: string[];
	private at = 0;
	private readonly lookup: (name: string) => number;

	constructor(text: string, lookup: (name: string) => number) {
		this.tokens =
			text.match(
				/\d+\.\d+|0x[0-9a-fA-F]+|\d+|"[^"]*"|'[^']*'|[A-Za-z_][A-Za-z_0-9.]*|<<|>>|==|!=|<=|>=|\*\*|\/\/|[-+*/%&|^~<>(),]/g,
			) ?? [];
		this.lookup = lookup;
	}

	/** The condition; what follows a comma is the message. */
	run(): Value {
		return this.or();
	}

	private accept(...options: string[]): string | undefined {
		const token = this.tokens[this.at];
		if (token === undefined || !options.includes(token)) return undefined;
		this.at++;
		return token;
	}

	private or(): Value {
		let value = this.and();
		while (this.accept("or") !== undefined) {
			const right = this.and();
			value = Boolean(value) || Boolean(right);
		}
		return value;
	}

	private and(): Value {
		let value = this.not();
		while (this.accept("and") !== undefined) {
			const right = this.not();
			value = Boolean(value) && Boolean(right);
		}
		return value;
	}

	private not(): Value {
		return this.accept("not") === undefined ? this.comparison() : !this.not();
	}

	private comparison(): Value {
		let left = this.bits();
		let result: boolean | undefined;
		for (;;) {
			const operator = this.accept("==", "!=", "<=", ">=", "<", ">");
			if (operator === undefined) return result ?? left;
			const right = this.bits();
			const holds =
				operator === "=="
					? left === right
					: operator === "!="
						? left !== right
						: operator === "<"
							? left < right
							: operator === ">"
								? left > right
								: operator === "<="
									? left <= right
									: left >= right;
			result = (result ?? true) && holds;
			left = right;
		}
	}

	private bits(): Value {
		let value = this.sum();
		for (;;) {
			const operator = this.accept("&", "|", "^", "<<", ">>");
			if (operator === undefined) return value;
			const right = Number(this.sum());
			const left = Number(value);
			value =
				operator === "&"
					? left & right
					: operator === "|"
						? left | right
						: operator === "^"
							? left ^ right
							: operator === "<<"
								? left << right
								: left >> right;
		}
	}

	private sum(): Value {
		let value = this.product();
		for (;;) {
			const operator = this.accept("+", "-");
			if (operator === undefined) return value;
			const right = Number(this.product());
			value = operator === "+" ? Number(value) + right : Number(value) - right;
		}
	}

	private product(): Value {
		let value = this.unary();
		for (;;) {
			const operator = this.accept("*", "/", "%", "//");
			if (operator === undefined) return value;
			const right = Number(this.unary());
			const left = Number(value);
			value =
				operator === "*"
					? left * right
					: operator === "%"
						? left % right
						: operator === "/"
							? left / right
							: Math.floor(left / right);
		}
	}

	private unary(): Value {
		if (this.accept("-") !== undefined) return -Number(this.unary());
		if (this.accept("~") !== undefined) return ~Number(this.unary());
		if (this.accept("(") !== undefined) {
			const value = this.or();
			this.accept(",");
			this.accept(")");
			return value;
		}
		const token = this.tokens[this.at++];
		if (token === undefined) throw new StackError("ERR_BAD_SCRIPT", "an assert ends in the middle of its expression");
		if (/^[\d]/.test(token)) return Number(token);
		if (/^["']/.test(token)) return token.slice(1, -1);
		const call = (token === "int" || token === "abs") && this.accept("(") !== undefined;
		if (call) {
			const value = Number(this.or());
			this.accept(")");
			return token === "abs" ? Math.abs(value) : Math.trunc(value);
		}
		if (token === "True" || token === "False") return token === "True";
		return this.lookup(token);
	}
}
