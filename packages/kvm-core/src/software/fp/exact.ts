import { and, c64, cf32, cf64, type Expr, geU, op1, op2, or } from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import { F64, type Format } from "./binary.ts";
import type { FloatLibrary } from "./library.ts";

/**
 * Cheap proofs that a native result is exact, for results in the normal range. They may miss some exact ones but never
 * take an inexact one for exact.
 */

export type Provable = "add" | "sub" | "mul" | "div" | "sqrt";

/** (a, b, r) → not zero when `a op b` (or the root of b) is r exactly. */
export function exactness(t: Format, library: FloatLibrary, name: Provable): Func {
	return library.fn(`exact.${t.name}.${name}`, [t.name, t.name, t.name], "i32", (f) => {
		const [a, b, r] = [f.param(0), f.param(1), f.param(2)];
		const step = t === F64 ? 0xe : 0;
		const minus = (x: Expr, y: Expr): Expr => op2(t.name, [0x93 + step], x, y);
		const times = (x: Expr, y: Expr): Expr => op2(t.name, [0x94 + step], x, y);
		const same = (x: Expr, y: Expr): Expr => op2("i32", [t === F64 ? 0x61 : 0x5b], x, y);
		switch (name) {
			case "add":
			case "sub": {
				// Knuth's two-sum: what rounding took away.
				if (name === "sub") f.set(b, op1(t.name, [0x8c + step], b));
				const virtual = f.let(minus(r, a));
				const infinity = t === F64 ? cf64(Number.POSITIVE_INFINITY) : cf32(Number.POSITIVE_INFINITY);
				const finite = op2("i32", [t === F64 ? 0x63 : 0x5d], op1(t.name, [0x8b + step], virtual), infinity);
				f.return(and(finite, same(minus(a, minus(r, virtual)), minus(virtual, b))));
				break;
			}
			case "mul":
				f.return(callExpr(productIsExact(t, library), a, b, r));
				break;
			case "div":
				f.return(and(same(times(r, b), a), callExpr(productIsExact(t, library), r, b, a)));
				break;
			case "sqrt":
				f.return(and(same(times(r, r), b), callExpr(productIsExact(t, library), r, r, b)));
		}
		f.unreachable();
	});
}

/** (a, b, a * b rounded) → not zero when nothing was rounded away. */
function productIsExact(t: Format, library: FloatLibrary): Func {
	return library.fn(`exact.${t.name}.product`, [t.name, t.name, t.name], "i32", (f) => {
		const [a, b, r] = [f.param(0), f.param(1), f.param(2)];
		if (t === F64) {
			// The significands' used bits together fit one significand.
			const unused = (x: Expr): Expr => op1("i64", [0x7a], or(op1("i64", [0xbd], x), c64(1n << 52n)));
			const fits = geU(op2("i64", [0x7c], unused(a), unused(b)), c64(53));
			// Zero is the product of zero: the caller has seen that it is no underflow.
			f.return(or(fits, op2("i32", [0x61], r, cf64(0))));
		} else {
			// Doubles hold every product of singles.
			const wide = (x: Expr): Expr => op1("f64", [0xbb], x);
			f.return(op2("i32", [0x61], op2("f64", [0xa2], wide(a), wide(b)), wide(r)));
		}
		f.unreachable();
	});
}
