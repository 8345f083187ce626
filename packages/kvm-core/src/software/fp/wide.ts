import {
	add,
	and,
	c32,
	c64,
	clz,
	divU,
	type Expr,
	eq,
	eqz,
	extU,
	gtU,
	load64,
	ltS,
	ltU,
	mul,
	ne,
	op1,
	or,
	remU,
	select,
	shl,
	shrU,
	sub,
	wrap,
} from "../wasm/expr.ts";
import { callExpr, type Func } from "../wasm/module.ts";
import { type FloatLibrary, PE, SECOND, UP } from "./library.ts";

/** Integer arithmetic on 128 bits and the rounding decisions that all formats share. */

export const TOP: Expr = c64(1n << 63n);
const LOW32: Expr = c64(0xffff_ffffn);
const C32: Expr = c64(32);

/** High half of a 64 by 64 bit product. */
export function mulHigh(library: FloatLibrary): Func {
	return library.fn("mulHigh", ["i64", "i64"], "i64", (f) => {
		const [a, b] = [f.param(0), f.param(1)];
		const al = f.let(and(a, LOW32));
		const ah = f.let(shrU(a, C32));
		const bl = f.let(and(b, LOW32));
		const bh = f.let(shrU(b, C32));
		const middle = f.let(add(mul(ah, bl), shrU(mul(al, bl), C32)));
		const other = f.let(add(mul(al, bh), and(middle, LOW32)));
		f.return(add(add(mul(ah, bh), shrU(middle, C32)), shrU(other, C32)));
		f.unreachable();
	});
}

/** (hi:lo) / v for hi < v and v with its top bit set; the remainder goes to SECOND. */
export function divide128(library: FloatLibrary): Func {
	return library.fn("divide128", ["i64", "i64", "i64"], "i64", (f) => {
		const [hi, lo, v] = [f.param(0), f.param(1), f.param(2)];
		const vh = f.let(shrU(v, C32));
		const vl = f.let(and(v, LOW32));
		/** One 32-bit digit of the quotient of (rest * 2^32 + digit) / v. */
		const step = (rest: Expr, digit: Expr): { q: Expr; rest: Expr } => {
			const q = f.let(divU(rest, vh));
			const r = f.let(remU(rest, vh));
			f.block((done) => {
				f.loop((again) => {
					f.brIf(done, eqz(or(gtU(q, LOW32), gtU(mul(q, vl), or(shl(r, C32), digit)))));
					f.set(q, sub(q, c64(1)));
					f.set(r, add(r, vh));
					f.brIf(again, eqz(shrU(r, C32)));
				});
			});
			return { q, rest: f.let(sub(add(shl(rest, C32), digit), mul(q, v))) };
		};
		const first = step(hi, f.let(shrU(lo, C32)));
		const second = step(first.rest, f.let(and(lo, LOW32)));
		f.store(8, library.base, second.rest, SECOND);
		f.return(or(shl(first.q, C32), second.q));
		f.unreachable();
	});
}

/** Floor of the square root of hi:lo, which is 2^126 or more; SECOND gets bits of what remains: half, and any. */
export function squareRoot128(library: FloatLibrary): Func {
	return library.fn("squareRoot128", ["i64", "i64"], "i64", (f) => {
		const [hi, lo] = [f.param(0), f.param(1)];
		// f64.sqrt(f64.convert_i64_u(hi)) * 2^32, to 53 bits; i64.trunc_sat_f64_u.
		const estimate = op1("f64", [0x9f], op1("f64", [0xba], hi));
		const scaled: Expr = { type: "f64", code: [...estimate.code, ...[0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x41], 0xa2] };
		const r = f.let(op1("i64", [0xfc, 0x07], scaled));
		const restLow = f.local("i64");
		const restHigh = f.local("i64");
		const remainder = (): void => {
			const square = f.let(mul(r, r));
			f.set(restHigh, sub(sub(hi, callExpr(mulHigh(library), r, r)), extU(ltU(lo, square))));
			f.set(restLow, sub(lo, square));
		};
		remainder();
		// Newton: the error is below 2^77, so what 64 bits of it say is enough to be off by one or two.
		const error = or(shl(restHigh, c64(51)), shrU(restLow, c64(13)));
		f.set(r, add(r, { type: "i64", code: [...error.code, ...shrU(r, c64(12)).code, 0x7f] }));
		remainder();
		f.block((done) => {
			f.loop((again) => {
				f.brIf(done, eqz(ltS(restHigh, c64(0))));
				// rest += 2r - 1, then r -= 1
				const delta = f.let(sub(shl(r, c64(1)), c64(1)));
				f.set(restLow, add(restLow, delta));
				f.set(restHigh, add(add(restHigh, shrU(r, c64(63))), extU(ltU(restLow, delta))));
				f.set(r, sub(r, c64(1)));
				f.br(again);
			});
		});
		f.block((done) => {
			f.loop((again) => {
				// rest > 2r
				const high = f.let(shrU(r, c64(63)));
				const low = f.let(shl(r, c64(1)));
				f.brIf(done, eqz(or(gtU(restHigh, high), and(eq(restHigh, high), gtU(restLow, low)))));
				f.set(r, add(r, c64(1)));
				f.set(restHigh, sub(sub(restHigh, high), extU(ltU(restLow, add(low, c64(1))))));
				f.set(restLow, sub(restLow, add(low, c64(1))));
				f.br(again);
			});
		});
		const half = or(ne(restHigh, c64(0)), gtU(restLow, r));
		f.store(8, library.base, or(shl(extU(half), c64(63)), extU(ne(or(restHigh, restLow), c64(0)))), SECOND);
		f.return(r);
		f.unreachable();
	});
}

/** SECOND as the last call left it. */
export function second(library: FloatLibrary): Expr {
	return load64(8, library.base, SECOND);
}

/** `value` (a local) shifted right by `count` (i32 local, 0 or more) with what falls off kept as a sticky bit 0. */
export function shiftRightJam(value: Expr, count: Expr): Expr {
	const wide = extU(count);
	const near = or(shrU(value, wide), extU(ne(shl(value, sub(c64(64), wide)), c64(0))));
	const far = extU(ne(value, c64(0)));
	return select(eqz(count), value, select(ltU(count, c32(64)), near, far));
}

/**
 * Whether rounding adds one (i32): `rest` are the bits dropped, aligned to the top of 64, in a local; `odd` the lowest
 * bit kept (i32).
 */
export function roundsUp(control: Expr, sign: Expr, rest: Expr, odd: Expr): Expr {
	const mode = and(shrU(control, c32(6)), c32(3));
	const nearest = or(gtU(rest, TOP), and(eq(rest, TOP), odd));
	const directed = and(ne(rest, c64(0)), eq(mode, sub(c32(2), sign)));
	return select(mode, directed, nearest);
}

/**
 * (sign, exponent, significand, control) → integer nearest by the rounding mode, its magnitude; for exponents below 64.
 * Reports PE.
 */
export function integerPart(library: FloatLibrary): Func {
	return library.fn("integerPart", ["i32", "i32", "i64", "i32"], "i64", (f) => {
		const [sign, exponent, significand, control] = [f.param(0), f.param(1), f.param(2), f.param(3)];
		const whole = f.local("i64");
		const rest = f.local("i64");
		f.if(
			ltS(exponent, c32(0)),
			() => f.set(rest, select(eq(exponent, c32(-1)), significand, extU(ne(significand, c64(0))))),
			() => {
				f.set(whole, shrU(significand, extU(sub(c32(63), exponent))));
				f.set(rest, select(eq(exponent, c32(63)), c64(0), shl(significand, extU(add(exponent, c32(1))))));
			},
		);
		f.if(ne(rest, c64(0)), () => {
			const up = f.let(roundsUp(control, sign, rest, wrap(and(whole, c64(1)))));
			f.set(whole, add(whole, extU(up)));
			library.raise(f, or(c32(PE), shl(up, c32(Math.log2(UP)))));
		});
		f.return(whole);
		f.unreachable();
	});
}

/** Leading zeros of an i64 as i32. */
export const leadingZeros = (value: Expr): Expr => wrap(clz(value));
