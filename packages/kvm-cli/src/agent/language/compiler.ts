import { Assembler, type Label } from "./assembler.ts";
import { CompileError } from "./errors.ts";
import { parseProgram } from "./parser.ts";
import type {
	BinaryOperator,
	Expression,
	Field,
	FunctionDefinition,
	Program,
	RecordType,
	Statement,
	Width,
} from "./syntax.ts";

/** A program for x86-64 Linux that needs nothing but the kernel. */
export interface CompiledProgram {
	/** Instructions and texts; entered at the first byte. */
	readonly code: Uint8Array;
	/** Bytes of the code that are instructions; texts follow. */
	readonly instructionBytes: number;
	/** Bytes of zeroed memory at {@link CompileOptions.memoryAddress}. */
	readonly memoryBytes: number;
	/** Where each function starts in the code. */
	readonly functions: ReadonlyMap<string, number>;
}

/** Where the program is loaded. */
export interface CompileOptions {
	readonly codeAddress: number;
	readonly memoryAddress: number;
}

const LOADS: { readonly [width in Width]: readonly number[] } = {
	u8: [0x0f, 0xb6, 0x80], // movzx eax, byte [rax + disp32]
	u16: [0x0f, 0xb7, 0x80], // movzx eax, word [rax + disp32]
	u32: [0x8b, 0x80], // mov eax, [rax + disp32]
	i32: [0x48, 0x63, 0x80], // movsxd rax, dword [rax + disp32]
	u64: [0x48, 0x8b, 0x80], // mov rax, [rax + disp32]
};
const STORES: { readonly [width in Width]: readonly number[] } = {
	u8: [0x88, 0x81], // mov [rcx + disp32], al
	u16: [0x66, 0x89, 0x81], // mov [rcx + disp32], ax
	u32: [0x89, 0x81], // mov [rcx + disp32], eax
	i32: [0x89, 0x81],
	u64: [0x48, 0x89, 0x81], // mov [rcx + disp32], rax
};
/** The left operand is in RAX, the right one in RCX. */
const ARITHMETIC: { readonly [operator in BinaryOperator]?: readonly number[] } = {
	"+": [0x48, 0x01, 0xc8],
	"-": [0x48, 0x29, 0xc8],
	"*": [0x48, 0x0f, 0xaf, 0xc1],
	"/": [0x31, 0xd2, 0x48, 0xf7, 0xf1],
	"%": [0x31, 0xd2, 0x48, 0xf7, 0xf1, 0x48, 0x89, 0xd0],
	"&": [0x48, 0x21, 0xc8],
	"|": [0x48, 0x09, 0xc8],
	"^": [0x48, 0x31, 0xc8],
	"<<": [0x48, 0xd3, 0xe0],
	">>": [0x48, 0xd3, 0xe8],
};
/** Second byte of the SETcc of a comparison. */
const COMPARISONS: { readonly [operator in BinaryOperator]?: number } = {
	"==": 0x94,
	"!=": 0x95,
	"<": 0x9c,
	">=": 0x9d,
	"<=": 0x9e,
	">": 0x9f,
};
/** Pops of RDI, RSI, RDX, R10, R8 and R9. */
const SYSTEM_CALL_ARGUMENTS: readonly (readonly number[])[] = [
	[0x5f],
	[0x5e],
	[0x5a],
	[0x41, 0x5a],
	[0x41, 0x58],
	[0x41, 0x59],
];
const SYS_EXIT_GROUP = 231;
const ALIGNMENT = 16;

interface Local {
	/** From RBP. */
	readonly offset: number;
	readonly record: RecordType | undefined;
}

interface Scope {
	readonly locals: Map<string, Local>;
	readonly leave: Label;
	loop: { readonly again: Label; readonly end: Label } | undefined;
	frame: number;
}

/**
 * Generates code the plainest way there is: every expression leaves its value in RAX, operands wait on the stack, and
 * locals lie below RBP.
 */
class Compiler {
	readonly #program: Program;
	readonly #assembler = new Assembler();
	readonly #functions = new Map<string, Label>();
	readonly #texts = new Map<string, Label>();
	readonly #buffers = new Map<string, number>();
	readonly #memoryBytes: number;

	constructor(program: Program, options: CompileOptions) {
		this.#program = program;
		let address = options.memoryAddress;
		for (const [name, size] of program.buffers) {
			this.#buffers.set(name, address);
			address += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
		}
		this.#memoryBytes = address - options.memoryAddress;
		for (const name of program.functions.keys()) this.#functions.set(name, { offset: undefined });
	}

	compile(options: CompileOptions): CompiledProgram {
		const out = this.#assembler;
		const main = this.#functions.get("main");
		if (main === undefined || this.#program.functions.get("main")!.parameters.length !== 1) {
			throw new CompileError(1, "a program has fn main(stack)");
		}
		out.code(0x48, 0x89, 0xe0, 0x50, 0xe8); // mov rax, rsp; push rax; call main
		out.relative(main);
		out.code(0x89, 0xc7, 0xb8); // mov edi, eax; mov eax, exit_group
		out.imm32(SYS_EXIT_GROUP);
		out.code(0x0f, 0x05); // syscall
		for (const definition of this.#program.functions.values()) this.#function(definition);
		const end: Label = { offset: undefined };
		out.place(end);
		for (const [text, label] of this.#texts) {
			out.place(label);
			out.code(...new TextEncoder().encode(text), 0);
		}
		return {
			code: out.link(options.codeAddress),
			instructionBytes: end.offset!,
			memoryBytes: this.#memoryBytes,
			functions: new Map([...this.#functions].map(([name, label]) => [name, label.offset!])),
		};
	}

	#function({ name, parameters, body, line }: FunctionDefinition): void {
		const out = this.#assembler;
		out.place(this.#functions.get(name)!);
		const scope: Scope = { locals: new Map(), leave: { offset: undefined }, loop: undefined, frame: 0 };
		for (const [i, parameter] of parameters.entries()) {
			if (scope.locals.has(parameter.name)) throw new CompileError(line, `${parameter.name} is there already`);
			const offset = 16 + 8 * (parameters.length - 1 - i);
			scope.locals.set(parameter.name, { offset, record: this.#record(parameter.record, line) });
		}
		this.#declare(body, scope);
		out.code(0x55, 0x48, 0x89, 0xe5, 0x48, 0x81, 0xec); // push rbp; mov rbp, rsp; sub rsp, imm32
		out.imm32(scope.frame);
		this.#statements(body, scope);
		out.code(0x31, 0xc0); // xor eax, eax
		out.place(scope.leave);
		out.code(0xc9, 0xc3); // leave; ret
	}

	#record(name: string | undefined, line: number): RecordType | undefined {
		if (name === undefined) return undefined;
		const record = this.#program.records.get(name);
		if (record === undefined) throw new CompileError(line, `there is no record ${name}`);
		return record;
	}

	/** Gives every `let` of a function its place. */
	#declare(body: readonly Statement[], scope: Scope): void {
		for (const statement of body) {
			if (statement.kind === "if") {
				this.#declare(statement.then, scope);
				this.#declare(statement.otherwise, scope);
			} else if (statement.kind === "while") this.#declare(statement.body, scope);
			else if (statement.kind === "let") {
				const { name, line } = statement;
				if (scope.locals.has(name) || this.#buffers.has(name) || this.#program.constants.has(name)) {
					throw new CompileError(line, `${name} is there already`);
				}
				scope.frame += 8;
				scope.locals.set(name, { offset: -scope.frame, record: this.#record(statement.record, line) });
			}
		}
	}

	#statements(body: readonly Statement[], scope: Scope): void {
		for (const statement of body) this.#statement(statement, scope);
	}

	#statement(statement: Statement, scope: Scope): void {
		const out = this.#assembler;
		switch (statement.kind) {
			case "let":
				this.#value(statement.value, scope);
				this.#storeLocal(scope.locals.get(statement.name)!);
				break;
			case "assign":
				this.#assign(statement, scope);
				break;
			case "expression":
				this.#value(statement.value, scope);
				break;
			case "if": {
				const otherwise: Label = { offset: undefined };
				const end: Label = { offset: undefined };
				this.#branchIfZero(statement.condition, otherwise, scope);
				this.#statements(statement.then, scope);
				if (statement.otherwise.length > 0) this.#jump(end);
				out.place(otherwise);
				this.#statements(statement.otherwise, scope);
				out.place(end);
				break;
			}
			case "while": {
				const outer = scope.loop;
				const loop = { again: { offset: undefined } as Label, end: { offset: undefined } as Label };
				scope.loop = loop;
				out.place(loop.again);
				this.#branchIfZero(statement.condition, loop.end, scope);
				this.#statements(statement.body, scope);
				this.#jump(loop.again);
				out.place(loop.end);
				scope.loop = outer;
				break;
			}
			case "break":
			case "continue":
				if (scope.loop === undefined) throw new CompileError(statement.line, `${statement.kind} outside a loop`);
				this.#jump(statement.kind === "break" ? scope.loop.end : scope.loop.again);
				break;
			case "return":
				if (statement.value === undefined) out.code(0x31, 0xc0);
				else this.#value(statement.value, scope);
				this.#jump(scope.leave);
				break;
		}
	}

	#jump(label: Label): void {
		this.#assembler.code(0xe9);
		this.#assembler.relative(label);
	}

	#branchIfZero(condition: Expression, label: Label, scope: Scope): void {
		this.#value(condition, scope);
		this.#assembler.code(0x48, 0x85, 0xc0, 0x0f, 0x84); // test rax, rax; jz
		this.#assembler.relative(label);
	}

	#storeLocal({ offset }: Local): void {
		this.#assembler.code(0x48, 0x89, 0x85); // mov [rbp + disp32], rax
		this.#assembler.imm32(offset);
	}

	#constant(value: bigint): void {
		const out = this.#assembler;
		const signed = BigInt.asIntN(64, value);
		if (value >= 0n && value < 1n << 32n) {
			out.code(0xb8); // mov eax, imm32
			out.imm32(Number(BigInt.asIntN(32, value)));
		} else if (signed >= -(1n << 31n) && signed < 0n) {
			out.code(0x48, 0xc7, 0xc0); // mov rax, imm32 with its sign
			out.imm32(Number(signed));
		} else {
			out.code(0x48, 0xb8); // mov rax, imm64
			out.imm64(value);
		}
	}

	#assign({ target, value }: Extract<Statement, { kind: "assign" }>, scope: Scope): void {
		const out = this.#assembler;
		if (target.kind === "name") {
			this.#value(value, scope);
			const local = scope.locals.get(target.name);
			if (local !== undefined) {
				this.#storeLocal(local);
				return;
			}
			if (!this.#program.globals.has(target.name)) {
				throw new CompileError(target.line, `${target.name} is no variable`);
			}
			out.code(0x48, 0x89, 0x04, 0x25); // mov [disp32], rax
			out.imm32(this.#buffers.get(target.name)!);
			return;
		}
		let width: Width;
		let offset = 0;
		if (target.kind === "load") {
			width = target.width;
			this.#value(target.address, scope);
		} else {
			const field = this.#field(target.base, target.field, target.line, scope);
			if (field.width === "bytes") throw new CompileError(target.line, `${target.field} is no word`);
			width = field.width;
			offset = field.offset;
			this.#name(target.base, target.line, scope);
		}
		out.code(0x50); // push rax
		this.#value(value, scope);
		out.code(0x59, ...STORES[width]); // pop rcx
		out.imm32(offset);
	}

	#field(base: string, name: string, line: number, scope: Scope): Field {
		const field = scope.locals.get(base)?.record?.fields.get(name);
		if (field === undefined) throw new CompileError(line, `${base} has no ${name}`);
		return field;
	}

	#name(name: string, line: number, scope: Scope): void {
		const out = this.#assembler;
		const local = scope.locals.get(name);
		const constant = this.#program.constants.get(name);
		const buffer = this.#buffers.get(name);
		if (local !== undefined) {
			out.code(0x48, 0x8b, 0x85); // mov rax, [rbp + disp32]
			out.imm32(local.offset);
		} else if (constant !== undefined) this.#constant(constant);
		else if (this.#program.globals.has(name)) {
			out.code(0x48, 0x8b, 0x04, 0x25); // mov rax, [disp32]
			out.imm32(buffer!);
		} else if (buffer !== undefined) this.#constant(BigInt(buffer));
		else throw new CompileError(line, `there is no ${name}`);
	}

	#value(expression: Expression, scope: Scope): void {
		const out = this.#assembler;
		const { line } = expression;
		switch (expression.kind) {
			case "number":
				this.#constant(expression.value);
				break;
			case "text": {
				let label = this.#texts.get(expression.text);
				if (label === undefined) {
					label = { offset: undefined };
					this.#texts.set(expression.text, label);
				}
				out.code(0xb8); // mov eax, imm32
				out.absolute(label);
				break;
			}
			case "name":
				this.#name(expression.name, line, scope);
				break;
			case "load":
				this.#value(expression.address, scope);
				out.code(...LOADS[expression.width]);
				out.imm32(0);
				break;
			case "member": {
				const field = this.#field(expression.base, expression.field, line, scope);
				this.#name(expression.base, line, scope);
				if (field.width === "bytes")
					out.code(0x48, 0x05); // add rax, imm32
				else out.code(...LOADS[field.width]);
				out.imm32(field.offset);
				break;
			}
			case "unary":
				this.#value(expression.operand, scope);
				if (expression.operator === "-") out.code(0x48, 0xf7, 0xd8);
				else if (expression.operator === "~") out.code(0x48, 0xf7, 0xd0);
				else out.code(0x48, 0x85, 0xc0, 0x0f, 0x94, 0xc0, 0x0f, 0xb6, 0xc0); // test; sete; movzx
				break;
			case "binary":
				this.#binary(expression, scope);
				break;
			case "call":
				this.#call(expression.name, expression.args, line, scope);
				break;
		}
	}

	#binary({ operator, left, right }: Extract<Expression, { kind: "binary" }>, scope: Scope): void {
		const out = this.#assembler;
		if (operator === "&&" || operator === "||") {
			const end: Label = { offset: undefined };
			this.#value(left, scope);
			this.#truth();
			out.code(0x48, 0x85, 0xc0, 0x0f, operator === "&&" ? 0x84 : 0x85); // test rax, rax; jz or jnz
			out.relative(end);
			this.#value(right, scope);
			this.#truth();
			out.place(end);
			return;
		}
		this.#value(left, scope);
		out.code(0x50); // push rax
		this.#value(right, scope);
		out.code(0x48, 0x89, 0xc1, 0x58); // mov rcx, rax; pop rax
		const condition = COMPARISONS[operator];
		if (condition === undefined) out.code(...ARITHMETIC[operator]!);
		else out.code(0x48, 0x39, 0xc8, 0x0f, condition, 0xc0, 0x0f, 0xb6, 0xc0); // cmp rax, rcx; setcc al; movzx
	}

	/** Makes 0 or 1 of RAX. */
	#truth(): void {
		this.#assembler.code(0x48, 0x85, 0xc0, 0x0f, 0x95, 0xc0, 0x0f, 0xb6, 0xc0); // test; setne; movzx
	}

	#call(name: string, args: readonly Expression[], line: number, scope: Scope): void {
		const out = this.#assembler;
		const wanted = this.#program.functions.get(name)?.parameters.length;
		const count =
			name === "syscall" ? Math.min(Math.max(args.length, 1), 7) : name === "copy" || name === "clear" ? 3 : wanted;
		if (count === undefined) throw new CompileError(line, `there is no function ${name}`);
		const expected = name === "clear" ? 2 : count;
		if (args.length !== expected) throw new CompileError(line, `${name} takes ${expected} values`);
		for (const arg of args) {
			this.#value(arg, scope);
			out.code(0x50); // push rax
		}
		if (name === "syscall") {
			for (const pop of SYSTEM_CALL_ARGUMENTS.slice(0, args.length - 1).reverse()) out.code(...pop);
			out.code(0x58, 0x0f, 0x05); // pop rax; syscall
		} else if (name === "copy") {
			out.code(0x59, 0x5e, 0x5f, 0xf3, 0xa4); // pop rcx; pop rsi; pop rdi; rep movsb
		} else if (name === "clear") {
			out.code(0x59, 0x5f, 0x31, 0xc0, 0xf3, 0xaa); // pop rcx; pop rdi; xor eax, eax; rep stosb
		} else {
			out.code(0xe8);
			out.relative(this.#functions.get(name)!);
			out.code(0x48, 0x81, 0xc4); // add rsp, imm32
			out.imm32(8 * args.length);
		}
	}
}

/**
 * Compiles a program of the agent's language.
 *
 * @throws CompileError with the line that is wrong
 */
export function compile(source: string, options: CompileOptions): CompiledProgram {
	return new Compiler(parseProgram(source), options).compile(options);
}
