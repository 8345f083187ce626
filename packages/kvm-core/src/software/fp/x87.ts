import * as L from "../cpu/layout.ts";
import {
	add,
	and,
	c32,
	c64,
	type Expr,
	eq,
	eqz,
	extU,
	gtU,
	load32,
	load64,
	ltS,
	ltU,
	ne,
	or,
	select,
	shl,
	shrU,
	sub,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import type { F32, F64 } from "./binary.ts";
import {
	addExtended,
	BIAS,
	compareExtended,
	divideExtended,
	examine,
	extendedFrom,
	extendedTo,
	extendedToInteger,
	INDEFINITE_SE,
	INDEFINITE_SIGNIFICAND,
	multiplyExtended,
	NEGATE,
	squareRootExtended,
	toIntegralExtended,
} from "./extended.ts";
import { DE, type FloatLibrary, IE, OE, PE, RESULT_SE, UE } from "./library.ts";

/**
 * The x87's registers, tags and status word around the arithmetic. Registers are named by sixteen times their number
 * relative to the top of the stack (`slot`).
 */

/** Status word bits. */
export const SF = 0x40;
export const ES = 0x80;
export const BUSY = 0x8000;
export const C0 = 0x100;
export const C1 = 0x200;
export const C2 = 0x400;
export const C3 = 0x4000;
/** In FLAGS: C1 stays as it is. */
const KEEP_C1 = 0x1_0000;

/** The control word for arithmetic; `precise` leaves the precision control out. */
export function x87Control(library: FloatLibrary, f: Func, precise = false): Expr {
	const fcw = f.let(library.word(L.FCW));
	const control = or(and(fcw, c32(0x3f)), and(shrU(fcw, c32(4)), c32(0xc0)));
	if (precise) return f.let(control);
	// Significand bits dropped for precision control 0 to 3.
	const drop = and(shrU(c32(0x000b_0028), shl(and(shrU(fcw, c32(8)), c32(3)), c32(3))), c32(0xff));
	return f.let(or(control, shl(drop, c32(16))));
}

/** Address (i32) of the register at a slot, in a local; add the state's X87 as offset. */
function registerAt(library: FloatLibrary, f: Func, slot: Expr): Expr {
	return f.let(add(library.base, and(add(shl(library.word(L.FTOP), c32(4)), slot), c32(0x70))));
}

/** Bit of the register at a slot in FTAG (i32, in a local). */
function tagBit(library: FloatLibrary, f: Func, slot: Expr): Expr {
	return f.let(shl(c32(1), and(add(library.word(L.FTOP), shrU(slot, c32(4))), c32(7))));
}

const significandAt = (address: Expr): Expr => load64(8, address, L.X87);
const wordAt = (address: Expr): Expr => load32(2, address, L.X87 + 8);

function pop(library: FloatLibrary, f: Func): void {
	const top = f.let(library.word(L.FTOP));
	library.setWord(f, L.FTAG, and(library.word(L.FTAG), xor(shl(c32(1), top), c32(-1))));
	library.setWord(f, L.FTOP, and(add(top, c32(1)), c32(7)));
}

/**
 * (stopping exceptions) → not zero when one of those is unmasked. Takes the exceptions in FLAGS into the status word,
 * with C1 as they say. An unmasked IE, DE or ZE hides the ones that come from rounding.
 */
export function settle(library: FloatLibrary): Func {
	return library.fn("x87.settle", ["i32"], "i32", (f) => {
		const flags = f.let(library.flags);
		const unmasked = f.let(and(and(flags, c32(0x3f)), xor(library.word(L.FCW), c32(-1))));
		f.if(and(unmasked, c32(7)), () =>
			f.set(flags, and(flags, select(and(flags, c32(SF)), c32(7 | SF | C1), c32(7 | KEEP_C1)))),
		);
		const kept = select(and(flags, c32(KEEP_C1)), c32(-1), c32(~C1));
		const status = f.let(or(and(library.word(L.FSW), kept), and(flags, c32(0xffff))));
		library.setWord(f, L.FSW, select(unmasked, or(status, c32(ES | BUSY)), status));
		f.return(and(unmasked, f.param(0)));
		f.unreachable();
	});
}

/** (destination slot, significand, word, pops): takes exceptions, writes the result unless one forbids it. */
export function commit(library: FloatLibrary): Func {
	return library.fn("x87.commit", ["i32", "i64", "i32", "i32"], "i32", (f) => {
		f.if(callExpr(settle(library), c32(7)), () => f.return(c32(0)));
		const at = registerAt(library, f, f.param(0));
		f.store(8, at, f.param(1), L.X87);
		f.store(4, at, and(f.param(2), c32(0xffff)), L.X87 + 8);
		library.setWord(f, L.FTAG, or(library.word(L.FTAG), tagBit(library, f, f.param(0))));
		f.if(f.param(3), () => pop(library, f));
		f.return(c32(1));
		f.unreachable();
	});
}

/** Ends a function with what an empty operand gives: the indefinite at a slot, or only the exception. */
function underflow(library: FloatLibrary, f: Func, slot: Expr, pops: Expr): void {
	library.clearFlags(f, IE | SF);
	f.return(callExpr(commit(library), slot, c64(INDEFINITE_SIGNIFICAND), c32(INDEFINITE_SE), pops));
}

/** (significand, word): pushes after the exceptions in FLAGS are taken. */
export function push(library: FloatLibrary): Func {
	return library.fn("x87.push", ["i64", "i32"], "i32", (f) => {
		const top = f.let(and(sub(library.word(L.FTOP), c32(1)), c32(7)));
		const bit = f.let(shl(c32(1), top));
		f.if(and(library.word(L.FTAG), bit), () => {
			// Where the source was empty already, C1 says so.
			f.if(eqz(and(library.flags, c32(SF))), () => library.clearFlags(f, IE | SF | C1));
			f.set(f.param(0), c64(INDEFINITE_SIGNIFICAND));
			f.set(f.param(1), c32(INDEFINITE_SE));
		});
		f.if(callExpr(settle(library), c32(IE)), () => f.return(c32(0)));
		library.setWord(f, L.FTOP, top);
		library.setWord(f, L.FTAG, or(library.word(L.FTAG), bit));
		const at = f.let(add(library.base, shl(top, c32(4))));
		f.store(8, at, f.param(0), L.X87);
		f.store(4, at, and(f.param(1), c32(0xffff)), L.X87 + 8);
		f.return(c32(1));
		f.unreachable();
	});
}

/**
 * Ends a function by writing a result whose word is in RESULT_SE to a register in use at `address` (slot `slot`): the
 * short way while nothing is unmasked.
 */
function finishArithmetic(
	library: FloatLibrary,
	f: Func,
	slot: Expr,
	address: Expr,
	significand: Expr,
	pops: Expr | undefined,
): void {
	const flags = f.let(library.flags);
	f.if(eqz(and(and(flags, c32(0x3f)), xor(library.word(L.FCW), c32(-1)))), () => {
		library.setWord(f, L.FSW, or(and(library.word(L.FSW), c32(~C1)), flags));
		f.store(8, address, significand, L.X87);
		f.store(4, address, library.word(RESULT_SE), L.X87 + 8);
		if (pops !== undefined) f.if(pops, () => pop(library, f));
		f.return(c32(1));
	});
	f.return(callExpr(commit(library), slot, significand, library.word(RESULT_SE), pops ?? c32(0)));
}

/** Whether the register at a slot is in use, without a call. */
const present = (library: FloatLibrary, f: Func, slot: Expr): Expr =>
	and(library.word(L.FTAG), tagBit(library, f, slot));

/** Operations of the arithmetic group by ModRM.reg. */
export type Arithmetic = "add" | "mul" | "sub" | "subr" | "div" | "divr";

/** The operation on a (destination order) and b as an expression: significand; its word is in RESULT_SE. */
function compute(library: FloatLibrary, op: Arithmetic, a: [Expr, Expr], b: [Expr, Expr], control: Expr): Expr {
	const [x, y] = op === "subr" || op === "divr" ? [b, a] : [a, b];
	if (op === "add") return callExpr(addExtended(library), ...x, ...y, control);
	if (op === "mul") return callExpr(multiplyExtended(library), ...x, ...y, control);
	if (op === "div" || op === "divr") return callExpr(divideExtended(library), ...x, ...y, control);
	return callExpr(addExtended(library), ...x, y[0], or(y[1], c32(NEGATE)), control);
}

/** (destination slot, source slot, pops): destination op source. */
export function arithmeticRegisters(library: FloatLibrary, op: Arithmetic): Func {
	return library.fn(`x87.${op}.registers`, ["i32", "i32", "i32"], "i32", (f) => {
		const [to, from, pops] = [f.param(0), f.param(1), f.param(2)];
		const needed = f.let(or(tagBit(library, f, to), tagBit(library, f, from)));
		f.if(and(xor(library.word(L.FTAG), c32(-1)), needed), () => underflow(library, f, to, pops));
		const a = registerAt(library, f, to);
		const b = registerAt(library, f, from);
		library.clearFlags(f);
		const control = x87Control(library, f);
		const result = f.let(compute(library, op, [significandAt(a), wordAt(a)], [significandAt(b), wordAt(b)], control));
		finishArithmetic(library, f, to, a, result, pops);
		f.unreachable();
	});
}

/** (significand, word): ST(0) op the memory operand. */
export function arithmeticMemory(library: FloatLibrary, op: Arithmetic): Func {
	return library.fn(`x87.${op}.memory`, ["i64", "i32"], "i32", (f) => {
		f.if(eqz(present(library, f, c32(0))), () => underflow(library, f, c32(0), c32(0)));
		const a = registerAt(library, f, c32(0));
		library.clearFlags(f);
		const control = x87Control(library, f);
		const result = f.let(compute(library, op, [significandAt(a), wordAt(a)], [f.param(0), f.param(1)], control));
		finishArithmetic(library, f, c32(0), a, result, undefined);
		f.unreachable();
	});
}

/** FSQRT, FRNDINT. */
export function unary(library: FloatLibrary, name: "sqrt" | "toIntegral"): Func {
	return library.fn(`x87.${name}`, [], "i32", (f) => {
		f.if(eqz(present(library, f, c32(0))), () => underflow(library, f, c32(0), c32(0)));
		const a = registerAt(library, f, c32(0));
		library.clearFlags(f);
		const control = x87Control(library, f, name !== "sqrt");
		const func = name === "sqrt" ? squareRootExtended(library) : toIntegralExtended(library);
		const result = f.let(callExpr(func, significandAt(a), wordAt(a), control));
		f.return(callExpr(commit(library), c32(0), result, library.word(RESULT_SE), c32(0)));
		f.unreachable();
	});
}

/**
 * (significand, word, present, signals) → relation 0 to 3 of ST(0) to it; plus 4 when an unmasked exception keeps the
 * stack from being popped.
 */
function relation(library: FloatLibrary, keepsC1: boolean): Func {
	return library.fn(`x87.relation.${keepsC1}`, ["i64", "i32", "i32", "i32"], "i32", (f) => {
		const [b, bSe, inPlace, signals] = [f.param(0), f.param(1), f.param(2), f.param(3)];
		const result = f.let(c32(3));
		f.if(
			select(inPlace, present(library, f, c32(0)), c32(0)),
			() => {
				const a = registerAt(library, f, c32(0));
				library.clearFlags(f, keepsC1 ? KEEP_C1 : 0);
				f.set(result, callExpr(compareExtended(library), significandAt(a), wordAt(a), b, bSe, signals));
			},
			() => library.clearFlags(f, IE | SF),
		);
		f.if(callExpr(settle(library), c32(7)), () => f.set(result, or(result, c32(4))));
		f.return(result);
		f.unreachable();
	});
}

/** (significand, word, present, signals, pops 0 to 2): FCOM and kin. */
export function compareMemory(library: FloatLibrary): Func {
	return library.fn("x87.compare", ["i64", "i32", "i32", "i32", "i32"], "i32", (f) => {
		const order = f.let(callExpr(relation(library, false), f.param(0), f.param(1), f.param(2), f.param(3)));
		// 0, C0, C3, all three.
		const low = and(shrU(c32(0x4540_0100), shl(and(order, c32(3)), c32(3))), c32(0xff));
		library.setWord(f, L.FSW, or(and(library.word(L.FSW), c32(~(C0 | C2 | C3))), shl(low, c32(8))));
		f.if(and(order, c32(4)), () => f.return(c32(0)));
		f.if(f.param(4), () => pop(library, f));
		f.if(shrU(f.param(4), c32(1)), () => pop(library, f));
		f.return(c32(0));
		f.unreachable();
	});
}

/** (slot, signals, pops): the same against a register. */
export function compareRegister(library: FloatLibrary): Func {
	return library.fn("x87.compare.register", ["i32", "i32", "i32"], "i32", (f) => {
		const b = registerAt(library, f, f.param(0));
		const inPlace = present(library, f, f.param(0));
		f.return(callExpr(compareMemory(library), significandAt(b), wordAt(b), inPlace, f.param(1), f.param(2)));
		f.unreachable();
	});
}

/** (slot, signals, pops) → ZF, PF, CF as FCOMI sets them. */
export function compareFlags(library: FloatLibrary): Func {
	return library.fn("x87.compare.flags", ["i32", "i32", "i32"], "i32", (f) => {
		const b = registerAt(library, f, f.param(0));
		const inPlace = present(library, f, f.param(0));
		const order = f.let(callExpr(relation(library, true), significandAt(b), wordAt(b), inPlace, f.param(1)));
		f.if(and(f.param(2), eqz(and(order, c32(4)))), () => pop(library, f));
		f.return(and(shrU(c32(0x4540_0100), shl(and(order, c32(3)), c32(3))), c32(0xff)));
		f.unreachable();
	});
}

/** (slot): pushes a copy of a register. */
export function pushRegister(library: FloatLibrary): Func {
	return library.fn("x87.push.register", ["i32"], "i32", (f) => {
		const at = registerAt(library, f, f.param(0));
		const inPlace = f.let(present(library, f, f.param(0)));
		library.clearFlags(f);
		f.if(eqz(inPlace), () => library.clearFlags(f, IE | SF));
		const significand = select(inPlace, significandAt(at), c64(INDEFINITE_SIGNIFICAND));
		f.return(callExpr(push(library), significand, select(inPlace, wordAt(at), c32(INDEFINITE_SE))));
		f.unreachable();
	});
}

/** (bits): FLD of a single or double. */
export function pushNarrow(library: FloatLibrary, t: typeof F32 | typeof F64): Func {
	return library.fn(`x87.push.${t.name}`, ["i64"], "i32", (f) => {
		const a = f.param(0);
		const field = f.let(and(wrap(shrU(a, c64(t.fraction))), c32(t.max)));
		const top = f.let(and(sub(library.word(L.FTOP), c32(1)), c32(7)));
		const bit = f.let(shl(c32(1), top));
		const tags = f.let(library.word(L.FTAG));
		// A normal number and room for it.
		f.if(and(ltU(sub(field, c32(1)), c32(t.max - 1)), eqz(and(tags, bit))), () => {
			const at = f.let(add(library.base, shl(top, c32(4))));
			const fraction = shl(and(a, c64((1n << BigInt(t.fraction)) - 1n)), c64(63 - t.fraction));
			f.store(8, at, or(fraction, c64(1n << 63n)), L.X87);
			const sign = shl(wrap(shrU(a, c64(t.size * 8 - 1))), c32(15));
			f.store(4, at, or(sign, add(field, c32(BIAS - t.bias))), L.X87 + 8);
			library.setWord(f, L.FTOP, top);
			library.setWord(f, L.FTAG, or(tags, bit));
			library.setWord(f, L.FSW, and(library.word(L.FSW), c32(~C1)));
			f.return(c32(1));
		});
		library.clearFlags(f);
		const significand = f.let(callExpr(extendedFrom(t, library), a));
		const word = f.let(library.word(RESULT_SE));
		const signalling = and(
			and(ne(shl(significand, c64(1)), c64(0)), eqz(and(significand, c64(1n << 62n)))),
			eq(and(word, c32(0x7fff)), c32(0x7fff)),
		);
		f.if(signalling, () => {
			library.raise(f, IE);
			f.set(significand, or(significand, c64(1n << 62n)));
		});
		f.if(shrU(word, c32(16)), () => library.raise(f, DE));
		f.return(callExpr(push(library), significand, word));
		f.unreachable();
	});
}

/** (slot, pops): FST, FSTP to a register. */
export function storeRegister(library: FloatLibrary): Func {
	return library.fn("x87.store.register", ["i32", "i32"], "i32", (f) => {
		f.if(eqz(present(library, f, c32(0))), () => underflow(library, f, f.param(0), f.param(1)));
		const at = registerAt(library, f, c32(0));
		library.clearFlags(f);
		f.return(callExpr(commit(library), f.param(0), significandAt(at), wordAt(at), f.param(1)));
		f.unreachable();
	});
}

/** (slot): the FSTP on opcode D9, which only pops an empty top. */
export function storeUnchecked(library: FloatLibrary): Func {
	return library.fn("x87.store.unchecked", ["i32"], "i32", (f) => {
		library.clearFlags(f);
		f.if(eqz(present(library, f, c32(0))), () => f.return(callExpr(finishStore(library), c32(1))));
		const at = registerAt(library, f, c32(0));
		f.return(callExpr(commit(library), f.param(0), significandAt(at), wordAt(at), c32(1)));
		f.unreachable();
	});
}

/** (slot): FXCH. */
export function exchange(library: FloatLibrary): Func {
	return library.fn("x87.exchange", ["i32"], "i32", (f) => {
		library.clearFlags(f);
		const slots = [c32(0), f.param(0)] as const;
		const values = slots.map((slot) => {
			const at = registerAt(library, f, slot);
			const inPlace = f.let(present(library, f, slot));
			f.if(eqz(inPlace), () => library.clearFlags(f, IE | SF));
			return {
				at,
				significand: f.let(select(inPlace, significandAt(at), c64(INDEFINITE_SIGNIFICAND))),
				word: f.let(select(inPlace, wordAt(at), c32(INDEFINITE_SE))),
			};
		});
		f.if(callExpr(settle(library), c32(7)), () => f.return(c32(0)));
		values.forEach(({ at }, i) => {
			const other = values[1 - i]!;
			f.store(8, at, other.significand, L.X87);
			f.store(4, at, other.word, L.X87 + 8);
		});
		const bits = or(tagBit(library, f, c32(0)), tagBit(library, f, f.param(0)));
		library.setWord(f, L.FTAG, or(library.word(L.FTAG), bits));
		f.return(c32(0));
		f.unreachable();
	});
}

/** (slot, condition): FCMOVcc. */
export function conditionalMove(library: FloatLibrary): Func {
	return library.fn("x87.move", ["i32", "i32"], "i32", (f) => {
		const [slot, holds] = [f.param(0), f.param(1)];
		const needed = f.let(or(tagBit(library, f, c32(0)), tagBit(library, f, slot)));
		f.if(and(xor(library.word(L.FTAG), c32(-1)), needed), () => underflow(library, f, c32(0), c32(0)));
		library.clearFlags(f, KEEP_C1);
		const at = registerAt(library, f, select(holds, slot, c32(0)));
		f.return(callExpr(commit(library), c32(0), significandAt(at), wordAt(at), c32(0)));
		f.unreachable();
	});
}

/** (mask for the word's sign: and, then xor): FCHS, FABS. */
export function changeSign(library: FloatLibrary): Func {
	return library.fn("x87.sign", ["i32", "i32"], "i32", (f) => {
		f.if(eqz(present(library, f, c32(0))), () => underflow(library, f, c32(0), c32(0)));
		const at = registerAt(library, f, c32(0));
		library.clearFlags(f);
		const word = xor(and(wordAt(at), f.param(0)), f.param(1));
		f.return(callExpr(commit(library), c32(0), significandAt(at), word, c32(0)));
		f.unreachable();
	});
}

/** FXAM. */
export function examineTop(library: FloatLibrary): Func {
	return library.fn("x87.examine", [], "i32", (f) => {
		const at = registerAt(library, f, c32(0));
		const kind = f.let(callExpr(examine(library), significandAt(at), wordAt(at)));
		const sign = and(kind, c32(C1));
		f.set(kind, select(present(library, f, c32(0)), kind, or(sign, c32(C3 | C0))));
		library.setWord(f, L.FSW, or(and(library.word(L.FSW), c32(~(C0 | C1 | C2 | C3))), kind));
		f.return(c32(0));
		f.unreachable();
	});
}

/** Bits to store for FST of a single or double; exceptions stay in FLAGS until `finishStore`. */
export function storeNarrow(library: FloatLibrary, t: typeof F32 | typeof F64): Func {
	return library.fn(`x87.store.${t.name}`, [], "i64", (f) => {
		const infinity = BigInt(t.max) << BigInt(t.fraction);
		const sign = 1n << BigInt(t.size * 8 - 1);
		f.if(eqz(present(library, f, c32(0))), () => {
			library.clearFlags(f, IE | SF);
			f.return(c64(sign | infinity | (1n << BigInt(t.fraction - 1))));
		});
		const at = registerAt(library, f, c32(0));
		library.clearFlags(f);
		const control = x87Control(library, f, true);
		const word = f.let(wordAt(at));
		const significand = f.let(significandAt(at));
		const field = f.let(sub(and(word, c32(0x7fff)), c32(BIAS - t.bias)));
		const rest = f.let(shl(significand, c64(t.fraction + 1)));
		const normal = and(ltU(sub(field, c32(1)), c32(t.max - 2)), ltS(significand, c64(0)));
		// Nearest, and not so near a power of two that it could be reached by rounding up from the greatest.
		f.if(and(normal, eqz(and(control, c32(0xc0)))), () => {
			const kept = f.let(shrU(significand, c64(63 - t.fraction)));
			const middle = c64(1n << 63n);
			const odd = wrap(and(kept, c64(1)));
			const up = f.let(or(gtU(rest, middle), and(eq(rest, middle), odd)));
			f.if(ne(rest, c64(0)), () => library.raise(f, or(c32(PE), shl(up, c32(Math.log2(C1))))));
			const magnitude = add(shl(extU(sub(field, c32(1))), c64(t.fraction)), add(kept, extU(up)));
			const sign = shl(extU(and(shrU(word, c32(15)), c32(1))), c64(t.size * 8 - 1));
			f.return(or(magnitude, sign));
		});
		const bits = f.let(callExpr(extendedTo(t, library), significand, word, control));
		f.if(and(storeForbidden(library), c32(OE | UE)), () => {
			const kept = f.let(and(library.flags, c32(~(PE | C1))));
			library.clearFlags(f);
			library.raise(f, kept);
		});
		f.return(bits);
		f.unreachable();
	});
}

/** (bits, truncate) → integer for FIST, FISTTP. */
export function storeInteger(library: FloatLibrary): Func {
	return library.fn("x87.store.integer", ["i32", "i32"], "i64", (f) => {
		f.if(eqz(present(library, f, c32(0))), () => {
			library.clearFlags(f, IE | SF);
			f.return(sub(c64(0), shl(c64(1), extU(sub(f.param(0), c32(1))))));
		});
		const at = registerAt(library, f, c32(0));
		library.clearFlags(f);
		const control = x87Control(library, f, true);
		f.if(f.param(1), () => f.set(control, or(control, c32(0xc0))));
		f.return(callExpr(extendedToInteger(library), significandAt(at), wordAt(at), f.param(0), control));
		f.unreachable();
	});
}

/** Not zero while an exception in FLAGS keeps the store from being made. */
export function storeForbidden(library: FloatLibrary): Expr {
	return and(and(library.flags, c32(0x1f)), xor(library.word(L.FCW), c32(-1)));
}

/** (pops): takes the exceptions of a store and pops unless one forbade it. */
export function finishStore(library: FloatLibrary): Func {
	return library.fn("x87.store.finish", ["i32"], "i32", (f) => {
		const flags = f.let(library.flags);
		f.if(eqz(and(and(flags, c32(0x3f)), xor(library.word(L.FCW), c32(-1)))), () => {
			library.setWord(f, L.FSW, or(and(library.word(L.FSW), c32(~C1)), flags));
			f.if(f.param(0), () => pop(library, f));
			f.return(c32(0));
		});
		f.if(callExpr(settle(library), c32(0x1f)), () => f.return(c32(0)));
		f.if(f.param(0), () => pop(library, f));
		f.return(c32(0));
		f.unreachable();
	});
}

/** FSTP of 80 bits: what to store, its word in RESULT_SE. */
export function storeExtended(library: FloatLibrary): Func {
	return library.fn("x87.store.x80", [], "i64", (f) => {
		const at = registerAt(library, f, c32(0));
		library.clearFlags(f);
		library.setWord(f, RESULT_SE, wordAt(at));
		f.if(eqz(present(library, f, c32(0))), () => {
			library.clearFlags(f, IE | SF);
			library.setWord(f, RESULT_SE, c32(INDEFINITE_SE));
			f.return(c64(INDEFINITE_SIGNIFICAND));
		});
		f.return(significandAt(at));
		f.unreachable();
	});
}
