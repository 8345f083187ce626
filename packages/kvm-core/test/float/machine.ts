import { Cpu } from "../../src/software/cpu/cpu.ts";
import * as L from "../../src/software/cpu/layout.ts";
import {
	addition,
	division,
	F32,
	F64,
	fromInteger,
	multiplication,
	narrowing,
	squareRoot,
	toInteger,
	widening,
} from "../../src/software/fp/binary.ts";
import {
	addExtended,
	divideExtended,
	extendedFrom,
	extendedTo,
	extendedToInteger,
	multiplyExtended,
	NEGATE,
	squareRootExtended,
} from "../../src/software/fp/extended.ts";
import { FLAGS, floatLibrary, RESULT_SE } from "../../src/software/fp/library.ts";
import type { ValType } from "../../src/software/wasm/expr.ts";
import { type Callee, callExpr, WasmModule } from "../../src/software/wasm/module.ts";
import { DOUBLE, type Mode, type Operation, SINGLE, type Value } from "./reference.ts";

/** The soft-float functions alone, instantiated: no instructions, no decoder. */

const STATE = 0x10000;
const PAGES = 4;

type Wasm = (...args: readonly (number | bigint)[]) => bigint;

/** An 80-bit number. */
export interface Extended {
	readonly significand: bigint;
	readonly se: number;
}

export interface Answer<T> {
	readonly value: T;
	readonly flags: number;
}

export class FloatMachine {
	readonly cpu: Cpu;
	private readonly functions: Record<string, Wasm>;

	constructor() {
		const memory = new WebAssembly.Memory({ initial: PAGES, maximum: PAGES, shared: true });
		this.cpu = new Cpu(memory.buffer, STATE);
		const module = new WasmModule();
		const library = floatLibrary(module, STATE);
		const wrap = (name: string, callee: Callee): void => {
			const params: readonly ValType[] = callee.signature.params;
			const f = module.func(name, { params, result: callee.signature.result! }, true);
			f.return(callExpr(callee, ...params.map((_, i) => f.param(i))));
			f.unreachable();
		};
		for (const t of [F32, F64]) {
			wrap(`${t.name}.add`, addition(t, library));
			wrap(`${t.name}.mul`, multiplication(t, library));
			wrap(`${t.name}.div`, division(t, library));
			wrap(`${t.name}.sqrt`, squareRoot(t, library));
			wrap(`${t.name}.toInteger`, toInteger(t, library));
			wrap(`${t.name}.fromInteger`, fromInteger(t, library));
			wrap(`x80.to.${t.name}`, extendedTo(t, library));
			wrap(`x80.from.${t.name}`, extendedFrom(t, library));
		}
		wrap("narrow", narrowing(library));
		wrap("widen", widening(library));
		wrap("x80.add", addExtended(library));
		wrap("x80.mul", multiplyExtended(library));
		wrap("x80.div", divideExtended(library));
		wrap("x80.sqrt", squareRootExtended(library));
		wrap("x80.toInteger", extendedToInteger(library));
		const bytes = module.encode({ initial: PAGES, maximum: PAGES });
		const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
		this.functions = instance.exports as Record<string, Wasm>;
	}

	/** Calls a function; the answer's value is unsigned. */
	call(name: string, ...args: readonly (number | bigint)[]): Answer<bigint> {
		this.cpu.set32(FLAGS, 0);
		const value = BigInt.asUintN(
			64,
			this.functions[name]!(...args.map((arg) => (typeof arg === "bigint" ? BigInt.asIntN(64, arg) : arg))),
		);
		return { value, flags: this.cpu.get32(FLAGS) };
	}

	binary(t: "f32" | "f64", op: Operation, a: bigint, b: bigint, control: number): Answer<bigint> {
		if (op === "add" || op === "sub") return this.call(`${t}.add`, a, b, op === "sub" ? 1 : 0, control);
		return this.call(`${t}.${op}`, a, b, control);
	}

	extended(op: Operation, a: Extended, b: Extended, control: number): Answer<Extended> {
		const name = op === "sub" ? "add" : op;
		const bSe = op === "sub" ? b.se | NEGATE : b.se;
		const { value, flags } = this.call(`x80.${name}`, a.significand, a.se, b.significand, bSe, control);
		return { value: { significand: value, se: this.cpu.get32(RESULT_SE) }, flags };
	}

	extendedCall(name: string, ...args: readonly (number | bigint)[]): Answer<Extended> {
		const { value, flags } = this.call(name, ...args);
		return { value: { significand: value, se: this.cpu.get32(RESULT_SE) }, flags };
	}

	/** Sets the x87 control word for the functions in TypeScript. */
	setControlWord(value: number): void {
		this.cpu.set32(L.FCW, value);
	}
}

/** All masked, in a rounding mode; `drop` significand bits for the 80-bit format. */
export const control = (mode: Mode, drop = 0): number => 0x3f | (mode << 6) | (drop << 16);

/** Bits of a double or single as a value; NaN gives undefined. */
export function decode(t: "f32" | "f64", bits: bigint): Value | undefined {
	const { precision, least } = t === "f32" ? SINGLE : DOUBLE;
	const width = t === "f32" ? 32n : 64n;
	const fraction = bits & ((1n << BigInt(precision - 1)) - 1n);
	const field = Number((bits >> BigInt(precision - 1)) & ((1n << (width - BigInt(precision))) - 1n));
	const negative = bits >> (width - 1n) === 1n;
	if (field === (t === "f32" ? 255 : 2047)) {
		return fraction === 0n ? { negative, magnitude: 0n, exponent: 0, infinite: true } : undefined;
	}
	const magnitude = field === 0 ? fraction : fraction | (1n << BigInt(precision - 1));
	return { negative, magnitude, exponent: Math.max(field, 1) - 1 + least - precision + 1, infinite: false };
}

export function decodeExtended({ significand, se }: Extended): Value | undefined {
	const negative = (se & 0x8000) !== 0;
	const field = se & 0x7fff;
	if (field === 0x7fff) {
		return significand === 1n << 63n ? { negative, magnitude: 0n, exponent: 0, infinite: true } : undefined;
	}
	return { negative, magnitude: significand, exponent: Math.max(field, 1) - 16383 - 63, infinite: false };
}
