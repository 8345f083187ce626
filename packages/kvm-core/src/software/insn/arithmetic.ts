import * as L from "../cpu/layout.ts";
import type { Emitter, Size } from "../emit/emitter.ts";
import {
	add,
	and,
	c32,
	c64,
	divS,
	divU,
	type Expr,
	eq,
	extS,
	extU,
	mul,
	ne,
	or,
	remS,
	remU,
	select,
	sext8,
	sext16,
	shl,
	shrS,
	shrU,
	sub,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { callExpr } from "../wasm/module.ts";
import { define, type Instruction } from "./define.ts";

/** A constant of the type that values of `size` bytes have. */
export function constant(size: Size, value: number): Expr {
	return size === 8 ? c64(value) : c32(value);
}

type Compute = (e: Emitter, a: Expr, b: Expr, size: Size) => Expr;

const compute: Readonly<Record<string, Compute>> = {
	add(e, a, b, size) {
		const result = e.f.let(e.cut(add(a, b), size));
		e.flagsAdd(a, b, result, size);
		return result;
	},
	or(e, a, b, size) {
		const result = e.f.let(or(a, b));
		e.flagsLogic(result, size);
		return result;
	},
	adc(e, a, b, size) {
		const carry = e.f.let(e.carry());
		const result = e.f.let(e.cut(add(add(a, b), size === 8 ? extU(carry) : carry), size));
		e.flagsAdd(a, b, result, size, carry);
		return result;
	},
	sbb(e, a, b, size) {
		const borrow = e.f.let(e.carry());
		const result = e.f.let(e.cut(sub(sub(a, b), size === 8 ? extU(borrow) : borrow), size));
		e.flagsSub(a, b, result, size, borrow);
		return result;
	},
	and(e, a, b, size) {
		const result = e.f.let(and(a, b));
		e.flagsLogic(result, size);
		return result;
	},
	sub(e, a, b, size) {
		const result = e.f.let(e.cut(sub(a, b), size));
		e.flagsSub(a, b, result, size);
		return result;
	},
	xor(e, a, b, size) {
		const result = e.f.let(xor(a, b));
		e.flagsLogic(result, size);
		return result;
	},
};

/** Two-operand arithmetic that writes its first operand. */
function binary(name: string): (e: Emitter) => void {
	return (e) => {
		const size = e.size(0);
		const b = e.f.let(e.get(1));
		e.modify(0, (a) => compute[name]!(e, a, b, size));
	};
}

function compare(e: Emitter): void {
	const size = e.size(0);
	const a = e.f.let(e.get(0));
	const b = e.f.let(e.get(1));
	e.flagsSub(a, b, e.f.let(e.cut(sub(a, b), size)), size);
}

function test(e: Emitter): void {
	const size = e.size(0);
	e.flagsLogic(e.f.let(and(e.get(0), e.get(1))), size);
}

function aluRows(name: string, number: number): Instruction[] {
	const emit = name === "cmp" ? compare : binary(name);
	const lock = name === "cmp" ? [] : (["lock"] as const);
	const undefinedFlags = name === "or" || name === "and" || name === "xor" ? L.AF : 0;
	const row = (opcode: number): string => (number * 8 + opcode).toString(16).padStart(2, "0").toUpperCase();
	return [
		define(name, `${row(0)} /r`, "Eb,Gb", emit, { attributes: lock, undefinedFlags }),
		define(name, `${row(1)} /r`, "Ev,Gv", emit, { attributes: lock, undefinedFlags }),
		define(name, `${row(2)} /r`, "Gb,Eb", emit, { undefinedFlags }),
		define(name, `${row(3)} /r`, "Gv,Ev", emit, { undefinedFlags }),
		define(name, row(4), "AL,Ib", emit, { undefinedFlags }),
		define(name, row(5), "rAX,Iz", emit, { undefinedFlags }),
		define(name, `80 /${number}`, "Eb,Ib", emit, { attributes: lock, undefinedFlags }),
		define(name, `81 /${number}`, "Ev,Iz", emit, { attributes: lock, undefinedFlags }),
		define(name, `82 /${number}`, "Eb,Ib", emit, { attributes: ["i64", ...lock], undefinedFlags }),
		define(name, `83 /${number}`, "Ev,Ibs", emit, { attributes: lock, undefinedFlags }),
	];
}

function incDec(decrement: boolean): (e: Emitter) => void {
	return (e) => {
		const size = e.size(0);
		const one = constant(size, 1);
		e.modify(0, (a) => {
			const result = e.f.let(e.cut(decrement ? sub(a, one) : add(a, one), size));
			e.flagsIncDec(a, one, result, size, decrement);
			return result;
		});
	};
}

function neg(e: Emitter): void {
	const size = e.size(0);
	e.modify(0, (a) => {
		const zero = e.f.let(constant(size, 0));
		const result = e.f.let(e.cut(sub(zero, a), size));
		e.flagsSub(zero, a, result, size);
		return result;
	});
}

function not(e: Emitter): void {
	const size = e.size(0);
	e.modify(0, (a) => e.cut(xor(a, constant(size, -1)), size));
}

/** High 64 bits of the product of two i64 in locals. */
export function mulHigh(e: Emitter, a: Expr, b: Expr, signed: boolean): Expr {
	const { f } = e;
	const low = (value: Expr): Expr => and(value, c64(0xffff_ffffn));
	const high = (value: Expr): Expr => (signed ? shrS(value, c64(32)) : shrU(value, c64(32)));
	const al = f.let(low(a));
	const ah = f.let(high(a));
	const bl = f.let(low(b));
	const bh = f.let(high(b));
	const middle = f.let(add(mul(ah, bl), shrU(mul(al, bl), c64(32))));
	const cross = f.let(add(mul(al, bh), low(middle)));
	return f.let(add(add(mul(ah, bh), high(middle)), high(cross)));
}

/** MUL and IMUL with the double-width result in rDX:rAX. */
function multiply(signed: boolean): (e: Emitter) => void {
	return (e) => {
		const size = e.size(0);
		const b = e.f.let(e.get(0));
		const a = e.f.let(e.gpr(L.RAX, size));
		const { f } = e;
		let low: Expr;
		let over: Expr;
		if (size === 8) {
			low = f.let(mul(a, b));
			const high = mulHigh(e, a, b, signed);
			e.setGpr(L.RDX, 8, high);
			e.setGpr(L.RAX, 8, low);
			over = f.let(ne(high, signed ? shrS(low, c64(63)) : c64(0)));
		} else if (size === 4) {
			const widen = signed ? extS : extU;
			const product = f.let(mul(widen(a), widen(b)));
			low = f.let(wrap(product));
			const high = f.let(wrap(shrU(product, c64(32))));
			e.setGpr(L.RDX, 4, high);
			e.setGpr(L.RAX, 4, low);
			over = f.let(ne(high, signed ? shrS(low, c32(31)) : c32(0)));
		} else {
			const widen = (value: Expr): Expr => (signed ? (size === 1 ? sext8(value) : sext16(value)) : value);
			const product = f.let(mul(widen(a), widen(b)));
			low = f.let(e.cut(product, size));
			if (size === 1) e.setGpr(L.RAX, 2, product);
			else {
				e.setGpr(L.RAX, 2, product);
				e.setGpr(L.RDX, 2, shrU(product, c32(16)));
			}
			over = f.let(ne(product, widen(low)));
		}
		e.flagsLogic(low, size);
		e.setCarryOverflow(over, over);
	};
}

/** IMUL with an explicit destination: operand 0 = operand a times operand b. */
function multiplyTo(first: number, second: number): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const a = f.let(e.get(first));
		const b = f.let(e.get(second));
		let low: Expr;
		let over: Expr;
		if (size === 8) {
			low = f.let(mul(a, b));
			over = f.let(ne(mulHigh(e, a, b, true), shrS(low, c64(63))));
		} else if (size === 4) {
			const product = f.let(mul(extS(a), extS(b)));
			low = f.let(wrap(product));
			over = f.let(ne(product, extS(low)));
		} else {
			const product = f.let(mul(sext16(a), sext16(b)));
			low = f.let(and(product, c32(0xffff)));
			over = f.let(ne(product, sext16(low)));
		}
		e.set(0, low);
		e.flagsLogic(low, size);
		e.setCarryOverflow(over, over);
	};
}

/** DIV and IDIV: the runtime's 128-bit division serves the 64-bit case. */
function divide(signed: boolean): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(0);
		const divisor = f.let(e.get(0));
		f.if(eq(divisor, constant(size, 0)), () => e.raise(0));
		if (size === 8) {
			const divide128 = signed ? e.runtime.divideS128 : e.runtime.divideU128;
			e.leaveIf(eq(callExpr(divide128, divisor, e.pc), c32(0)));
			return;
		}
		if (size === 4) {
			const dividend = f.let(or(e.gprWide(L.RAX), shl(extU(e.gpr(L.RDX, 4)), c64(32))));
			const wide = f.let(signed ? extS(divisor) : extU(divisor));
			if (signed) {
				// The one quotient that overflows i64 would trap.
				f.if(and(eq(wide, c64(-1)), eq(dividend, c64(1n << 63n))), () => e.raise(0));
			}
			const quotient = f.let((signed ? divS : divU)(dividend, wide));
			const remainder = f.let((signed ? remS : remU)(dividend, wide));
			f.if(ne(quotient, signed ? extS(wrap(quotient)) : and(quotient, c64(0xffff_ffffn))), () => e.raise(0));
			e.setGpr(L.RAX, 4, wrap(quotient));
			e.setGpr(L.RDX, 4, wrap(remainder));
			return;
		}
		const widen = (value: Expr): Expr => (signed ? (size === 1 ? sext8(value) : sext16(value)) : value);
		const wide = f.let(widen(divisor));
		const ax = e.gpr(L.RAX, 2);
		const dividend = f.let(size === 1 ? (signed ? sext16(ax) : ax) : or(ax, shl(e.gpr(L.RDX, 2), c32(16))));
		if (signed && size === 2) {
			f.if(and(eq(wide, c32(-1)), eq(dividend, c32(0x8000_0000))), () => e.raise(0));
		}
		const quotient = f.let((signed ? divS : divU)(dividend, wide));
		const remainder = f.let((signed ? remS : remU)(dividend, wide));
		f.if(ne(quotient, widen(e.cut(quotient, size))), () => e.raise(0));
		if (size === 1) e.setGpr(L.RAX, 2, or(and(quotient, c32(0xff)), shl(and(remainder, c32(0xff)), c32(8))));
		else {
			e.setGpr(L.RAX, 2, quotient);
			e.setGpr(L.RDX, 2, remainder);
		}
	};
}

function exchangeAdd(e: Emitter): void {
	const size = e.size(0);
	const b = e.f.let(e.get(1));
	let old: Expr | undefined;
	// The register is written first: when both name the same one, it ends with the sum.
	e.modify(
		0,
		(a) => {
			old = a;
			return compute["add"]!(e, a, b, size);
		},
		() => e.set(1, old!),
	);
}

/** A 32-bit register that does not match stays as it is, its upper half too; RAX is written only then. */
function compareExchange(e: Emitter): void {
	const size = e.size(0);
	if (size === 4 && !e.isMemory(0)) {
		compareExchangeRegister(e);
		return;
	}
	const accumulator = e.f.let(e.gpr(L.RAX, size));
	const replacement = e.f.let(e.get(1));
	const equal = e.f.local("i32");
	let destination: Expr | undefined;
	e.modify(0, (a) => {
		destination = a;
		const result = e.f.let(e.cut(sub(accumulator, a), size));
		e.flagsSub(accumulator, a, result, size);
		e.f.set(equal, eq(accumulator, a));
		return select(equal, replacement, a);
	});
	e.f.if(eq(equal, c32(0)), () => e.setGpr(L.RAX, size, destination!));
}

function compareExchangeRegister(e: Emitter): void {
	const accumulator = e.f.let(e.gpr(L.RAX, 4));
	const replacement = e.f.let(e.get(1));
	const destination = e.f.let(e.get(0));
	e.flagsSub(accumulator, destination, e.f.let(sub(accumulator, destination)), 4);
	e.f.if(
		eq(accumulator, destination),
		() => e.set(0, replacement),
		() => e.setGpr(L.RAX, 4, destination),
	);
}

/** Integer arithmetic and logic. */
export const arithmetic: readonly Instruction[] = [
	...["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].flatMap(aluRows),
	define("test", "84 /r", "Eb,Gb", test, { undefinedFlags: L.AF }),
	define("test", "85 /r", "Ev,Gv", test, { undefinedFlags: L.AF }),
	define("test", "A8", "AL,Ib", test, { undefinedFlags: L.AF }),
	define("test", "A9", "rAX,Iz", test, { undefinedFlags: L.AF }),
	define("test", "F6 /0", "Eb,Ib", test, { undefinedFlags: L.AF }),
	define("test", "F6 /1", "Eb,Ib", test, { undefinedFlags: L.AF }),
	define("test", "F7 /0", "Ev,Iz", test, { undefinedFlags: L.AF }),
	define("test", "F7 /1", "Ev,Iz", test, { undefinedFlags: L.AF }),
	define("not", "F6 /2", "Eb", not, { attributes: ["lock"] }),
	define("not", "F7 /2", "Ev", not, { attributes: ["lock"] }),
	define("neg", "F6 /3", "Eb", neg, { attributes: ["lock"] }),
	define("neg", "F7 /3", "Ev", neg, { attributes: ["lock"] }),
	define("mul", "F6 /4", "Eb", multiply(false), { undefinedFlags: L.SF | L.ZF | L.AF | L.PF }),
	define("mul", "F7 /4", "Ev", multiply(false), { undefinedFlags: L.SF | L.ZF | L.AF | L.PF }),
	define("imul", "F6 /5", "Eb", multiply(true), { undefinedFlags: L.SF | L.ZF | L.AF | L.PF }),
	define("imul", "F7 /5", "Ev", multiply(true), { undefinedFlags: L.SF | L.ZF | L.AF | L.PF }),
	define("imul", "0F AF /r", "Gv,Ev", multiplyTo(0, 1), { undefinedFlags: L.SF | L.ZF | L.AF | L.PF }),
	define("imul", "69 /r", "Gv,Ev,Iz", multiplyTo(1, 2), { undefinedFlags: L.SF | L.ZF | L.AF | L.PF }),
	define("imul", "6B /r", "Gv,Ev,Ibs", multiplyTo(1, 2), { undefinedFlags: L.SF | L.ZF | L.AF | L.PF }),
	define("div", "F6 /6", "Eb", divide(false), { undefinedFlags: L.ARITHMETIC }),
	define("div", "F7 /6", "Ev", divide(false), { undefinedFlags: L.ARITHMETIC }),
	define("idiv", "F6 /7", "Eb", divide(true), { undefinedFlags: L.ARITHMETIC }),
	define("idiv", "F7 /7", "Ev", divide(true), { undefinedFlags: L.ARITHMETIC }),
	define("inc", "FE /0", "Eb", incDec(false), { attributes: ["lock"] }),
	define("inc", "FF /0", "Ev", incDec(false), { attributes: ["lock"] }),
	define("dec", "FE /1", "Eb", incDec(true), { attributes: ["lock"] }),
	define("dec", "FF /1", "Ev", incDec(true), { attributes: ["lock"] }),
	define("inc", "40 +r", "Zv", incDec(false), { attributes: ["i64"] }),
	define("dec", "48 +r", "Zv", incDec(true), { attributes: ["i64"] }),
	define("xadd", "0F C0 /r", "Eb,Gb", exchangeAdd, { attributes: ["lock"] }),
	define("xadd", "0F C1 /r", "Ev,Gv", exchangeAdd, { attributes: ["lock"] }),
	define("cmpxchg", "0F B0 /r", "Eb,Gb", compareExchange, { attributes: ["lock"] }),
	define("cmpxchg", "0F B1 /r", "Ev,Gv", compareExchange, { attributes: ["lock"] }),
];
