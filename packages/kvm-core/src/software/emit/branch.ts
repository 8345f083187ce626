import * as L from "../cpu/layout.ts";
import { add, c32, c64, type Expr, gtU, leS, load32, load64, ne, shl, shrS, shrU, sub } from "../wasm/expr.ts";
import type { Emitter } from "./emitter.ts";
import { UOP_IMM } from "./uop.ts";

/**
 * #GP(0) for a branch to where there can be no code: a non-canonical address, or one beyond the limit of CS. Must come
 * before anything is changed; `target` is in a local.
 */
export function emitCheckTarget(e: Emitter, target: Expr): void {
	const { f } = e;
	const bad =
		e.variant.size === 8
			? ne(shrS(shl(target, c64(16)), c64(16)), target)
			: gtU(target, load64(4, c32(e.state + L.SEGMENTS + L.CS * L.SEGMENT_BYTES), L.SEGMENT_LIMIT));
	f.if(bad, () => e.raise(13, 0));
}

/** Leaves for a RIP by way of the code TLB. */
export function emitGoto(e: Emitter, rip: Expr): void {
	e.f.returnCall(e.runtime.goto, rip, e.pc);
}

/**
 * Goes on at the micro-op in the immediate and settles the budget; when that is spent, leaves generated code with PC
 * there.
 */
export function emitNear(e: Emitter, from: Expr = e.pc): void {
	const { f } = e;
	const target = f.let(load32(4, from, UOP_IMM));
	const left = f.let(sub(sub(e.word(L.BUDGET), shrU(from, c32(4))), c32(1)));
	e.setWord(L.BUDGET, add(left, shrU(target, c32(4))));
	f.if(leS(left, c32(0)), () => {
		e.setWord(L.PC, target);
		f.return();
	});
	e.dispatch(target);
}
