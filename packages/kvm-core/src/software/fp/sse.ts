import { MXCSR } from "../cpu/layout.ts";
import { and, c32, type Expr, extU, or, shl, shrU, wrap, xor } from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import { i32x4, i64x2 } from "../wasm/simd.ts";
import { F64, type Format } from "./binary.ts";
import type { FloatLibrary } from "./library.ts";

/** What stands between SSE instructions and the arithmetic: MXCSR in, MXCSR out, lanes of vectors. */

/** The control word that MXCSR asks for. */
export function mxcsrControl(library: FloatLibrary): Expr {
	const mxcsr = library.word(MXCSR);
	return or(shrU(mxcsr, c32(7)), shl(and(mxcsr, c32(0x40)), c32(3)));
}

/**
 * Takes the exceptions of an instruction into MXCSR. Returns 1 when one of them is unmasked: the instruction then
 * writes no result. An unmasked IE, DE or ZE keeps what rounding would have reported from being seen.
 */
export function finish(library: FloatLibrary): Func {
	return library.fn("sse.finish", [], "i32", (f) => {
		const flags = f.let(and(library.flags, c32(0x3f)));
		const mxcsr = f.let(library.word(MXCSR));
		const fatal = f.let(and(flags, xor(shrU(mxcsr, c32(7)), c32(-1))));
		f.if(and(fatal, c32(7)), () => f.set(flags, and(flags, c32(7))));
		library.setWord(f, MXCSR, or(mxcsr, flags));
		f.return(fatal);
		f.unreachable();
	});
}

/** Lane `n` of a vector of the format, as its bits in an i64. */
export function lane(t: Format, vector: Expr, n: number): Expr {
	return t === F64 ? i64x2.extract(vector, n) : extU(i32x4.extract(vector, n));
}

/** A vector with lane `n` replaced by bits in an i64. */
export function withLane(t: Format, vector: Expr, n: number, bits: Expr): Expr {
	return t === F64 ? i64x2.replace(vector, n, bits) : i32x4.replace(vector, n, wrap(bits));
}

export const laneCount = (t: Format): number => 16 / t.size;

/** What a lane's function computes from the bits of both operands; `parameter` is the instruction's own i32. */
export type LaneFormula = (a: Expr, b: Expr, control: Expr, lane: number, parameter: Expr) => Expr;

/** (a, b, parameter) → vector: the formula on every lane, exceptions gathered. */
export function packedFunction(t: Format, library: FloatLibrary, name: string, formula: LaneFormula): Func {
	return library.fn(`packed.${t.name}.${name}`, ["v128", "v128", "i32"], "v128", (f) => {
		library.clearFlags(f);
		const control = f.let(mxcsrControl(library));
		const result = f.local("v128");
		for (let n = 0; n < laneCount(t); n++) {
			const value = formula(lane(t, f.param(0), n), lane(t, f.param(1), n), control, n, f.param(2));
			f.set(result, withLane(t, result, n, value));
		}
		f.return(result);
		f.unreachable();
	});
}

/** (a, b, parameter) → bits: the formula once, exceptions gathered. */
export function scalarFunction(t: Format, library: FloatLibrary, name: string, formula: LaneFormula): Func {
	return library.fn(`scalar.${t.name}.${name}`, ["i64", "i64", "i32"], "i64", (f) => {
		library.clearFlags(f);
		const control = f.let(mxcsrControl(library));
		f.return(formula(f.param(0), f.param(1), control, 0, f.param(2)));
		f.unreachable();
	});
}

/** Calls `finish`; i32, not zero when the instruction is to raise #XM. */
export function finished(library: FloatLibrary): Expr {
	return callExpr(finish(library));
}
