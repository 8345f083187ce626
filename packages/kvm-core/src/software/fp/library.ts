import { FP_SCRATCH } from "../cpu/layout.ts";
import { c32, type Expr, load32, or, type ValType } from "../wasm/expr.ts";
import type { Func, WasmModule } from "../wasm/module.ts";

/**
 * The soft-float functions of one module, each made when something first asks for it.
 *
 * They report exceptions by setting bits in a scratch word: bits 0 to 5 are IE DE ZE OE UE PE as MXCSR and the x87
 * status word have them, bit 9 (C1's place) says that the magnitude was rounded up. How they round comes in as a
 * control word of this layout's own: exception masks in bits 0 to 5, rounding mode in bits 6 and 7, flush to zero in
 * bit 8, denormals are zeros in bit 9, and for 80-bit results the number of low significand bits that the precision
 * control drops in bits 16 to 21.
 */
export class FloatLibrary {
	private readonly module: WasmModule;
	private readonly state: number;
	private readonly made = new Map<string, Func>();

	constructor(module: WasmModule, state: number) {
		this.module = module;
		this.state = state;
	}

	/** The function called `name`, written by `build` when it is not there yet. */
	fn(name: string, params: readonly ValType[], result: ValType, build: (f: Func) => void): Func {
		let func = this.made.get(name);
		if (func === undefined) {
			func = this.module.func(name, { params, result });
			this.made.set(name, func);
			build(func);
		}
		return func;
	}

	/** A word of the vCPU's state. */
	word(offset: number): Expr {
		return load32(4, c32(this.state), offset);
	}

	setWord(f: Func, offset: number, value: Expr): void {
		f.store(4, c32(this.state), value, offset);
	}

	/** Base address of the vCPU's state. */
	get base(): Expr {
		return c32(this.state);
	}

	/** Exceptions so far. */
	get flags(): Expr {
		return this.word(FLAGS);
	}

	raise(f: Func, flags: number | Expr): void {
		this.setWord(f, FLAGS, or(this.flags, typeof flags === "number" ? c32(flags) : flags));
	}

	clearFlags(f: Func, flags = 0): void {
		this.setWord(f, FLAGS, c32(flags));
	}
}

/** Exceptions, as a word. */
export const FLAGS: number = FP_SCRATCH;
/** Sign and exponent of an 80-bit result, as a word. */
export const RESULT_SE: number = FP_SCRATCH + 4;
/** Second result of an integer function, 8 bytes. */
export const SECOND: number = FP_SCRATCH + 8;

export const IE = 1;
export const DE = 2;
export const ZE = 4;
export const OE = 8;
export const UE = 0x10;
export const PE = 0x20;
/** Rounded up. */
export const UP = 0x200;

export const FLUSH_TO_ZERO = 0x100;
export const DENORMALS_ARE_ZEROS = 0x200;

const libraries = new WeakMap<WasmModule, FloatLibrary>();

/** The library of a module whose vCPU state lies at `state`. */
export function floatLibrary(module: WasmModule, state: number): FloatLibrary {
	let library = libraries.get(module);
	if (library === undefined) {
		library = new FloatLibrary(module, state);
		libraries.set(module, library);
	}
	return library;
}
