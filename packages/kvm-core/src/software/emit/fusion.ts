import { c32, c64, type Expr, eq, eqz, geS, geU, gtS, gtU, leS, leU, ltS, ltU, ne } from "../wasm/expr.ts";
import type { Emitter, Size, Variant } from "./emitter.ts";
import type { Row } from "./plan.ts";

/**
 * Shortcuts across instructions, all of them other handlers for the same micro-ops: a comparison that also takes the
 * branch behind it, and arithmetic whose flags the next instruction overwrites unseen. Single steps use the plain ones.
 */

/** Where the flags of the last flag-setting operation come from; all in locals. */
export interface FlagSource {
	readonly kind: "sub" | "logic" | "other";
	readonly a: Expr;
	readonly b: Expr;
	/** Cut to `size`. */
	readonly result: Expr;
	readonly size: Size;
}

/** Condition codes by number. */
const [B, AE, E, NE, BE, A, S, NS, L, GE, LE, G] = [2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15] as const;

const COMPARISONS: Readonly<Record<FlagSource["kind"], readonly number[]>> = {
	sub: [B, AE, E, NE, BE, A, S, NS, L, GE, LE, G],
	logic: [E, NE, S, NS, LE, G],
	other: [E, NE, S, NS],
};

const FUSED_NAMES: Readonly<Record<string, FlagSource["kind"]>> = {
	cmp: "sub",
	test: "logic",
	and: "logic",
	sub: "sub",
	add: "other",
	inc: "other",
	dec: "other",
};

/** Conditions with which a handler is made that takes the following branch too. */
export function fusedConditions({ insn }: Row, { rm, size }: Variant): readonly number[] {
	const kind = FUSED_NAMES[insn.name];
	if (kind === undefined || (rm !== "register" && rm !== "flat64") || size === 2) return [];
	if (rm !== "register" && insn.name !== "cmp" && insn.name !== "test") return [];
	return COMPARISONS[kind];
}

/** Whether a condition holds after `source`, from its operands: i32. */
export function conditionOf(e: Emitter, source: FlagSource, code: number): Expr {
	const { a, b, result, size } = source;
	const zero = size === 8 ? c64(0) : c32(0);
	const signed = (value: Expr): Expr => (size < 4 ? e.signExtend(value, size) : value);
	const signedZero = size < 4 ? c64(0) : zero;
	const compared = source.kind === "sub";
	switch (code) {
		case B:
			return ltU(a, b);
		case AE:
			return geU(a, b);
		case E:
			return compared ? eq(a, b) : eqz(result);
		case NE:
			return compared ? ne(a, b) : ne(result, zero);
		case BE:
			return leU(a, b);
		case A:
			return gtU(a, b);
		case S:
			return ltS(signed(result), signedZero);
		case NS:
			return geS(signed(result), signedZero);
		case L:
			return ltS(signed(a), signed(b));
		case GE:
			return geS(signed(a), signed(b));
		case LE:
			return compared ? leS(signed(a), signed(b)) : leS(signed(result), signedZero);
		default:
			return compared ? gtS(signed(a), signed(b)) : gtS(signed(result), signedZero);
	}
}

/** Touches registers alone, cannot fault, and reads no flag. */
export const FLAGS_UNSEEN = 1;
/** Sets all six arithmetic flags, whatever its operands. */
export const FLAGS_OVERWRITTEN = 2;

const OVERWRITES: ReadonlySet<string> = new Set(["add", "sub", "and", "or", "xor", "cmp", "test", "neg"]);
const INDIFFERENT: ReadonlySet<string> = new Set(
	"mov movzx movsx movsxd lea inc dec not imul bswap nop shl shr sar rol ror cbw cwd".split(" "),
);
const FLAGLESS: ReadonlySet<string> = new Set("add sub and or xor inc dec neg imul shl shr sar".split(" "));

/** FLAGS_* bits of a handler. */
export function flagUse({ insn }: Row, { rm }: Variant): number {
	if (insn.emit === undefined || (rm !== "register" && insn.name !== "lea")) return 0;
	if (OVERWRITES.has(insn.name)) return FLAGS_UNSEEN | FLAGS_OVERWRITTEN;
	return INDIFFERENT.has(insn.name) ? FLAGS_UNSEEN : 0;
}

/** Whether a handler that leaves the flags alone is made too. */
export function hasFlagless({ insn }: Row, { rm }: Variant): boolean {
	return insn.emit !== undefined && FLAGLESS.has(insn.name) && rm === "register";
}
