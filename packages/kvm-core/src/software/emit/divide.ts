import * as L from "../cpu/layout.ts";
import {
	add,
	and,
	c32,
	c64,
	divU,
	type Expr,
	eqz,
	geU,
	leU,
	load64,
	ltS,
	ltU,
	ne,
	or,
	remU,
	select,
	shl,
	shrU,
	sub,
	xor,
} from "../wasm/expr.ts";
import type { Callee, Func } from "../wasm/module.ts";

/**
 * DIV and IDIV of RDX:RAX by 64 bits: writes the bodies of two functions (divisor, pc) → 1, or 0 with #DE queued and
 * nothing changed.
 */
export function writeDivision(unsigned: Func, signed: Func, raise: Callee, state: number): void {
	const base = c32(state);
	const overflow = (f: Func): void => {
		f.call(raise, c32(0), c32(-1), f.param(1));
		f.return(c32(0));
	};
	{
		const f = unsigned;
		const divisor = f.param(0);
		const low = f.let(load64(8, base, L.GPR + L.RAX * 8));
		const high = f.let(load64(8, base, L.GPR + L.RDX * 8));
		f.if(leU(divisor, high), () => overflow(f));
		const { quotient, remainder } = divideWide(f, low, high, divisor);
		f.store(8, base, quotient, L.GPR + L.RAX * 8);
		f.store(8, base, remainder, L.GPR + L.RDX * 8);
		f.return(c32(1));
		f.unreachable();
	}
	{
		const f = signed;
		const low = f.let(load64(8, base, L.GPR + L.RAX * 8));
		const high = f.let(load64(8, base, L.GPR + L.RDX * 8));
		const divisor = f.let(f.param(0));
		const negativeDividend = f.let(ltS(high, c64(0)));
		const negativeDivisor = f.let(ltS(divisor, c64(0)));
		f.if(negativeDividend, () => {
			f.set(low, sub(c64(0), low));
			f.set(high, sub(xor(high, c64(-1)), select(eqz(low), c64(-1), c64(0))));
		});
		f.if(negativeDivisor, () => f.set(divisor, sub(c64(0), divisor)));
		f.if(leU(divisor, high), () => overflow(f));
		const { quotient, remainder } = divideWide(f, low, high, divisor);
		const negative = f.let(xor(negativeDividend, negativeDivisor));
		const limit = select(negative, c64(1n << 63n), c64((1n << 63n) - 1n));
		f.if(ltU(limit, quotient), () => overflow(f));
		f.store(8, base, select(negative, sub(c64(0), quotient), quotient), L.GPR + L.RAX * 8);
		f.store(8, base, select(negativeDividend, sub(c64(0), remainder), remainder), L.GPR + L.RDX * 8);
		f.return(c32(1));
		f.unreachable();
	}
}

/** high:low by divisor, high below it: bit by bit when there is a high half. */
function divideWide(f: Func, low: Expr, high: Expr, divisor: Expr): { quotient: Expr; remainder: Expr } {
	const quotient = f.local("i64");
	const remainder = f.let(high);
	f.if(
		eqz(high),
		() => {
			f.set(quotient, divU(low, divisor));
			f.set(remainder, remU(low, divisor));
		},
		() => {
			const count = f.let(c32(64));
			f.set(quotient, low);
			f.loop((again) => {
				const carry = f.let(shrU(remainder, c64(63)));
				f.set(remainder, or(shl(remainder, c64(1)), shrU(quotient, c64(63))));
				f.set(quotient, shl(quotient, c64(1)));
				f.if(or(ne(carry, c64(0)), geU(remainder, divisor)), () => {
					f.set(remainder, sub(remainder, divisor));
					f.set(quotient, add(quotient, c64(1)));
				});
				f.set(count, sub(count, c32(1)));
				f.brIf(again, and(count, c32(-1)));
			});
		},
	);
	return { quotient, remainder };
}
