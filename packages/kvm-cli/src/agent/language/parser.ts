import { CompileError } from "./errors.ts";
import { type Token, tokenize } from "./lexer.ts";
import {
	type BinaryOperator,
	type Expression,
	type Field,
	type FunctionDefinition,
	type Program,
	type RecordType,
	type Statement,
	type Variable,
	WIDTH_BYTES,
	type Width,
} from "./syntax.ts";

/** Weakest first. */
const LEVELS: readonly (readonly BinaryOperator[])[] = [
	["||"],
	["&&"],
	["|"],
	["^"],
	["&"],
	["==", "!="],
	["<", "<=", ">", ">="],
	["<<", ">>"],
	["+", "-"],
	["*", "/", "%"],
];
const WORDS = new Set(["const", "var", "buffer", "record", "fn", "let", "if", "else", "while", "break", "continue"]);
const MOST_BUFFER = 1n << 30n;

function isWidth(text: string): text is Width {
	return Object.hasOwn(WIDTH_BYTES, text);
}

/** Reads a program; names are looked up when it is compiled, constants at once. */
class Parser {
	readonly #tokens: readonly Token[];
	#at = 0;
	readonly constants = new Map<string, bigint>();
	readonly records = new Map<string, RecordType>();
	readonly buffers = new Map<string, number>();
	readonly globals = new Set<string>();
	readonly functions = new Map<string, FunctionDefinition>();

	constructor(source: string) {
		this.#tokens = tokenize(source);
	}

	program(): Program {
		while (this.#token.kind !== "end") this.#item();
		return this;
	}

	get #token(): Token {
		return this.#tokens[this.#at]!;
	}

	#is(text: string): boolean {
		const { kind } = this.#token;
		return (kind === "sign" || kind === "name") && this.#token.text === text;
	}

	#take(text: string): boolean {
		if (!this.#is(text)) return false;
		this.#at++;
		return true;
	}

	#expect(text: string): void {
		if (!this.#take(text))
			throw new CompileError(this.#token.line, `expected ${text} before ${JSON.stringify(this.#token.text)}`);
	}

	#name(): string {
		const { kind, text, line } = this.#token;
		if (kind !== "name" || WORDS.has(text)) {
			throw new CompileError(line, `expected a name before ${JSON.stringify(text)}`);
		}
		this.#at++;
		return text;
	}

	#fresh(): string {
		const { line } = this.#token;
		const name = this.#name();
		const taken = [this.constants, this.records, this.buffers, this.functions].some((names) => names.has(name));
		if (taken || isWidth(name)) throw new CompileError(line, `${name} is there already`);
		return name;
	}

	#item(): void {
		const { line } = this.#token;
		if (this.#take("const")) {
			const name = this.#fresh();
			this.#expect("=");
			this.constants.set(name, this.#constant());
			this.#expect(";");
		} else if (this.#take("var")) {
			const name = this.#fresh();
			this.globals.add(name);
			this.buffers.set(name, 8);
			this.#expect(";");
		} else if (this.#take("buffer")) {
			const name = this.#fresh();
			this.buffers.set(name, this.#length());
			this.#expect(";");
		} else if (this.#take("record")) this.#record();
		else if (this.#take("fn")) this.#function(line);
		else throw new CompileError(line, `expected const, var, buffer, record or fn before ${this.#token.text}`);
	}

	#length(): number {
		const { line } = this.#token;
		this.#expect("[");
		const size = this.#constant();
		this.#expect("]");
		if (size <= 0n || size > MOST_BUFFER) throw new CompileError(line, `${size} is no length`);
		return Number(size);
	}

	#record(): void {
		const name = this.#fresh();
		const fields = new Map<string, Field>();
		let offset = 0;
		this.#expect("{");
		while (!this.#take("}")) {
			const { line } = this.#token;
			const field = this.#name();
			if (fields.has(field)) throw new CompileError(line, `${name}.${field} is there already`);
			this.#expect(":");
			const type = this.#token.text;
			this.#at++;
			if (type === "bytes") {
				const size = this.#length();
				fields.set(field, { name: field, offset, width: "bytes", size });
				offset += size;
			} else if (isWidth(type)) {
				fields.set(field, { name: field, offset, width: type, size: WIDTH_BYTES[type] });
				offset += WIDTH_BYTES[type];
			} else throw new CompileError(line, `${type} is no type of a field`);
			this.#expect(";");
		}
		this.records.set(name, { name, size: offset, fields });
	}

	#variable(): Variable {
		const name = this.#name();
		return { name, record: this.#take(":") ? this.#name() : undefined };
	}

	#function(line: number): void {
		const name = this.#fresh();
		const parameters: Variable[] = [];
		this.#expect("(");
		while (!this.#take(")")) {
			if (parameters.length > 0) this.#expect(",");
			parameters.push(this.#variable());
		}
		this.functions.set(name, { name, parameters, body: this.#block(), line });
	}

	#block(): Statement[] {
		const body: Statement[] = [];
		this.#expect("{");
		while (!this.#take("}")) body.push(this.#statement());
		return body;
	}

	#statement(): Statement {
		const { line } = this.#token;
		if (this.#take("let")) {
			const { name, record } = this.#variable();
			this.#expect("=");
			return this.#ended({ kind: "let", name, record, value: this.#expression(), line });
		}
		if (this.#take("if")) return this.#conditional(line);
		if (this.#take("while")) {
			const condition = this.#condition();
			return { kind: "while", condition, body: this.#block(), line };
		}
		if (this.#take("break")) return this.#ended({ kind: "break", line });
		if (this.#take("continue")) return this.#ended({ kind: "continue", line });
		if (this.#take("return")) {
			return this.#ended({ kind: "return", value: this.#is(";") ? undefined : this.#expression(), line });
		}
		const value = this.#expression();
		if (!this.#take("=")) return this.#ended({ kind: "expression", value, line });
		if (value.kind !== "name" && value.kind !== "load" && value.kind !== "member") {
			throw new CompileError(line, "nothing can be stored there");
		}
		return this.#ended({ kind: "assign", target: value, value: this.#expression(), line });
	}

	#ended(statement: Statement): Statement {
		this.#expect(";");
		return statement;
	}

	#condition(): Expression {
		this.#expect("(");
		const condition = this.#expression();
		this.#expect(")");
		return condition;
	}

	#conditional(line: number): Statement {
		const condition = this.#condition();
		const then = this.#block();
		if (!this.#take("else")) return { kind: "if", condition, then, otherwise: [], line };
		const next = this.#token.line;
		const otherwise = this.#take("if") ? [this.#conditional(next)] : this.#block();
		return { kind: "if", condition, then, otherwise, line };
	}

	#expression(level = 0): Expression {
		const operators = LEVELS[level];
		if (operators === undefined) return this.#unary();
		let left = this.#expression(level + 1);
		for (;;) {
			const { line } = this.#token;
			const operator = operators.find((sign) => this.#take(sign));
			if (operator === undefined) return left;
			left = { kind: "binary", operator, left, right: this.#expression(level + 1), line };
		}
	}

	#unary(): Expression {
		const { line } = this.#token;
		for (const operator of ["-", "~", "!"] as const) {
			if (this.#take(operator)) return { kind: "unary", operator, operand: this.#unary(), line };
		}
		return this.#primary();
	}

	#primary(): Expression {
		const { kind, text, value, line } = this.#token;
		if (kind === "number") {
			this.#at++;
			return { kind: "number", value, line };
		}
		if (kind === "string") {
			this.#at++;
			return { kind: "text", text, line };
		}
		if (this.#is("(")) return this.#condition();
		const name = this.#name();
		if (name === "sizeof") {
			this.#expect("(");
			const record = this.records.get(this.#name());
			this.#expect(")");
			if (record === undefined) throw new CompileError(line, "sizeof wants a record");
			return { kind: "number", value: BigInt(record.size), line };
		}
		if (isWidth(name)) {
			this.#expect("[");
			const address = this.#expression();
			this.#expect("]");
			return { kind: "load", width: name, address, line };
		}
		if (this.#take("(")) {
			const args: Expression[] = [];
			while (!this.#take(")")) {
				if (args.length > 0) this.#expect(",");
				args.push(this.#expression());
			}
			return { kind: "call", name, args, line };
		}
		if (this.#take(".")) return { kind: "member", base: name, field: this.#name(), line };
		return { kind: "name", name, line };
	}

	#constant(): bigint {
		return this.#evaluate(this.#expression());
	}

	#evaluate(expression: Expression): bigint {
		const { line } = expression;
		if (expression.kind === "number") return expression.value;
		if (expression.kind === "name") {
			const value = this.constants.get(expression.name);
			if (value === undefined) throw new CompileError(line, `${expression.name} is no constant`);
			return value;
		}
		if (expression.kind === "unary" && expression.operator === "-") return -this.#evaluate(expression.operand);
		if (expression.kind === "binary") {
			const left = this.#evaluate(expression.left);
			const right = this.#evaluate(expression.right);
			switch (expression.operator) {
				case "+":
					return left + right;
				case "-":
					return left - right;
				case "*":
					return left * right;
				case "|":
					return left | right;
				case "<<":
					return left << right;
				default:
			}
		}
		throw new CompileError(line, "expected a constant");
	}
}

/** @throws CompileError */
export function parseProgram(source: string): Program {
	return new Parser(source).program();
}
