import { c32, type Expr, storeCode, uleb, type ValType } from "./expr.ts";

const TYPE_CODE: Readonly<Record<ValType, number>> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };
const EMPTY_BLOCK = 0x40;

/** Parameters and result of a function. */
export interface Signature {
	readonly params: readonly ValType[];
	readonly result?: ValType;
}

/** A branch target, valid inside the construct that made it. */
export interface Label {
	/** Nesting depth at which the construct stands. */
	readonly depth: number;
}

/** What can be called: an imported function or one of this module's. */
export interface Callee {
	readonly index: number;
	readonly signature: Signature;
}

/** The body of one function while it is written. */
export class Func implements Callee {
	readonly index: number;
	readonly name: string;
	readonly signature: Signature;
	readonly code: number[] = [];
	readonly module: WasmModule;
	private readonly locals: ValType[] = [];
	private depth = 0;

	constructor(module: WasmModule, index: number, name: string, signature: Signature) {
		this.module = module;
		this.index = index;
		this.name = name;
		this.signature = signature;
	}

	/** Parameter `n`. */
	param(n: number): Expr {
		return { type: this.signature.params[n]!, code: [0x20, ...uleb(n)] };
	}

	/** A new local variable, zero at first; `set` it, read it as often as wanted. */
	local(type: ValType): Expr {
		this.locals.push(type);
		return { type, code: [0x20, ...uleb(this.signature.params.length + this.locals.length - 1)] };
	}

	/** Evaluates now, into a new local. */
	let(value: Expr): Expr {
		const variable = this.local(value.type);
		this.set(variable, value);
		return variable;
	}

	/** Assigns to a local or parameter. */
	set(variable: Expr, value: Expr): void {
		if (variable.type !== value.type) throw new TypeError(`${value.type} into a ${variable.type}`);
		this.push(value.code);
		this.code.push(0x21, ...variable.code.slice(1));
	}

	store(size: 1 | 2 | 4 | 8 | 16, address: Expr, value: Expr, offset = 0): void {
		this.push(storeCode(size, address, value, offset));
	}

	/** Calls a function without a result. */
	call(callee: Callee, ...args: readonly Expr[]): void {
		for (const arg of args) this.push(arg.code);
		this.code.push(0x10, ...uleb(callee.index));
		if (callee.signature.result !== undefined) this.code.push(0x1a);
	}

	if(condition: Expr, then: () => void, otherwise?: () => void): void {
		this.push(condition.code);
		this.code.push(0x04, EMPTY_BLOCK);
		this.depth++;
		then();
		if (otherwise !== undefined) {
			this.code.push(0x05);
			otherwise();
		}
		this.depth--;
		this.code.push(0x0b);
	}

	/** A block; branching to its label leaves it. */
	block(body: (leave: Label) => void): void {
		this.construct(0x02, body);
	}

	/** A loop; branching to its label starts it again, running off its end leaves it. */
	loop(body: (again: Label) => void): void {
		this.construct(0x03, body);
	}

	br(label: Label): void {
		this.code.push(0x0c, ...uleb(this.depth - label.depth));
	}

	brIf(label: Label, condition: Expr): void {
		this.push(condition.code);
		this.code.push(0x0d, ...uleb(this.depth - label.depth));
	}

	return(value?: Expr): void {
		if (value !== undefined) this.push(value.code);
		this.code.push(0x0f);
	}

	/** `return_call`. */
	returnCall(callee: Callee, ...args: readonly Expr[]): void {
		for (const arg of args) this.push(arg.code);
		this.code.push(0x12, ...uleb(callee.index));
	}

	/** `return_call_indirect` through table 0. */
	returnCallIndirect(signature: Signature, slot: Expr, ...args: readonly Expr[]): void {
		for (const arg of args) this.push(arg.code);
		this.push(slot.code);
		this.code.push(0x13, ...uleb(this.module.typeIndex(signature)), 0x00);
	}

	memoryCopy(to: Expr, from: Expr, length: Expr): void {
		this.push(to.code);
		this.push(from.code);
		this.push(length.code);
		this.code.push(0xfc, 0x0a, 0x00, 0x00);
	}

	memoryFill(at: Expr, value: Expr, length: Expr): void {
		this.push(at.code);
		this.push(value.code);
		this.push(length.code);
		this.code.push(0xfc, 0x0b, 0x00);
	}

	unreachable(): void {
		this.code.push(0x00);
	}

	/** Locals and code as the code section has them. */
	body(): number[] {
		const groups: number[] = [];
		let count = 0;
		for (let i = 0; i < this.locals.length; ) {
			let end = i;
			while (end < this.locals.length && this.locals[end] === this.locals[i]) end++;
			groups.push(...uleb(end - i), TYPE_CODE[this.locals[i]!]);
			count++;
			i = end;
		}
		const head = [...uleb(count), ...groups];
		const size = head.length + this.code.length + 1;
		return [...uleb(size), ...head, ...this.code, 0x0b];
	}

	private construct(opcode: number, body: (label: Label) => void): void {
		this.code.push(opcode, EMPTY_BLOCK);
		this.depth++;
		body({ depth: this.depth });
		this.depth--;
		this.code.push(0x0b);
	}

	private push(bytes: readonly number[]): void {
		for (const byte of bytes) this.code.push(byte);
	}
}

/** Call of a function with a result, as an expression. */
export function callExpr(callee: Callee, ...args: readonly Expr[]): Expr {
	if (callee.signature.result === undefined) throw new TypeError("a call without a result is no expression");
	return {
		type: callee.signature.result,
		code: [...args.flatMap((arg) => arg.code), 0x10, ...uleb(callee.index)],
	};
}

/** Builds one module: a shared memory imported as `env.memory`, imported functions, a table, functions. */
export class WasmModule {
	private readonly types: Signature[] = [];
	private readonly typeKeys = new Map<string, number>();
	private readonly imports: { name: string; signature: Signature }[] = [];
	private readonly funcs: Func[] = [];
	private readonly exports: { name: string; index: number }[] = [];
	private table: readonly Callee[] = [];

	/** An imported function `env.name`. All imports come before the first function. */
	import(name: string, signature: Signature): Callee {
		if (this.funcs.length > 0) throw new Error("imports come before functions");
		this.imports.push({ name, signature });
		return { index: this.imports.length - 1, signature };
	}

	/** A new function; write its body through the returned builder before `encode`. */
	func(name: string, signature: Signature, exported = false): Func {
		const func = new Func(this, this.imports.length + this.funcs.length, name, signature);
		this.funcs.push(func);
		if (exported) this.exports.push({ name, index: func.index });
		return func;
	}

	/** The functions that table 0 holds, in order. */
	setTable(entries: readonly Callee[]): void {
		this.table = entries;
	}

	typeIndex(signature: Signature): number {
		const key = `${signature.params.join()}:${signature.result ?? ""}`;
		let index = this.typeKeys.get(key);
		if (index === undefined) {
			index = this.types.length;
			this.types.push(signature);
			this.typeKeys.set(key, index);
		}
		return index;
	}

	/**
	 * The module's bytes.
	 *
	 * @param memory - initial and maximum size of the imported shared memory, in 64 KiB pages
	 */
	encode(memory: { initial: number; maximum: number }): Uint8Array<ArrayBuffer> {
		const funcTypes = this.funcs.map((func) => this.typeIndex(func.signature));
		const importTypes = this.imports.map((entry) => this.typeIndex(entry.signature));
		const out = new ByteSink();
		out.bytes([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
		out.section(
			1,
			vector(
				this.types.map(({ params, result }) => [
					0x60,
					...vector(params.map((type) => [TYPE_CODE[type]])),
					...vector(result === undefined ? [] : [[TYPE_CODE[result]]]),
				]),
			),
		);
		out.section(
			2,
			vector([
				[...text("env"), ...text("memory"), 0x02, 0x03, ...uleb(memory.initial), ...uleb(memory.maximum)],
				...this.imports.map(({ name }, i) => [...text("env"), ...text(name), 0x00, ...uleb(importTypes[i]!)]),
			]),
		);
		out.section(3, vector(funcTypes.map((type) => uleb(type))));
		const size = uleb(this.table.length);
		out.section(4, vector([[0x70, 0x01, ...size, ...size]]));
		out.section(7, vector(this.exports.map(({ name, index }) => [...text(name), 0x00, ...uleb(index)])));
		if (this.table.length > 0) {
			out.section(9, vector([[0x00, ...c32(0).code, 0x0b, ...vector(this.table.map((callee) => uleb(callee.index)))]]));
		}
		out.section(10, vector(this.funcs.map((func) => func.body())));
		return out.done();
	}
}

function text(value: string): number[] {
	const bytes = new TextEncoder().encode(value);
	return [...uleb(bytes.length), ...bytes];
}

function vector(items: readonly (readonly number[])[]): number[] {
	const out = uleb(items.length);
	for (const item of items) for (const byte of item) out.push(byte);
	return out;
}

/** Collects bytes without a quadratic spread. */
class ByteSink {
	private buffer = new Uint8Array(1 << 16);
	private length = 0;

	bytes(values: readonly number[]): void {
		while (this.length + values.length > this.buffer.length) {
			const larger = new Uint8Array(this.buffer.length * 2);
			larger.set(this.buffer);
			this.buffer = larger;
		}
		this.buffer.set(values, this.length);
		this.length += values.length;
	}

	section(id: number, body: readonly number[]): void {
		this.bytes([id, ...uleb(body.length)]);
		this.bytes(body);
	}

	done(): Uint8Array<ArrayBuffer> {
		return this.buffer.slice(0, this.length);
	}
}
