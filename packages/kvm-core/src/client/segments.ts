import type { Segment } from "../kvm/types.ts";

/** What a flat segment is for. */
export type FlatSegment = "code16" | "code32" | "code64" | "data16" | "data32";

const CODE = 0xb;
const DATA = 0x3;

/**
 * A segment register for {@link FlatSegment} with base 0: 64 KiB for the 16-bit ones, 4 GiB for the others.
 *
 * @param dpl - privilege; the selector's low two bits should say the same
 */
export function flatSegment(kind: FlatSegment, selector: number, dpl: 0 | 3 = 0): Segment {
	const is16 = kind.endsWith("16");
	return {
		base: 0n,
		limit: is16 ? 0xffff : 0xffff_ffff,
		selector,
		type: kind.startsWith("code") ? CODE : DATA,
		present: 1,
		dpl,
		db: kind.endsWith("32") ? 1 : 0,
		s: 1,
		l: kind === "code64" ? 1 : 0,
		g: is16 ? 0 : 1,
		avl: 0,
		unusable: 0,
	};
}

/** The 8 bytes that a code or data segment has in a GDT or LDT (the low 8 of a 64-bit system segment). */
export function encodeDescriptor(segment: Readonly<Segment>): bigint {
	const limit = BigInt(segment.g === 1 ? segment.limit >>> 12 : segment.limit);
	const base = segment.base & 0xffff_ffffn;
	const access = segment.type | (segment.s << 4) | (segment.dpl << 5) | (segment.present << 7);
	const flags = segment.avl | (segment.l << 1) | (segment.db << 2) | (segment.g << 3);
	return (
		(limit & 0xffffn) |
		((base & 0xff_ffffn) << 16n) |
		(BigInt(access) << 40n) |
		((limit >> 16n) << 48n) |
		(BigInt(flags) << 52n) |
		((base >> 24n) << 56n)
	);
}

/** An interrupt (type 14) or trap (15) gate; 8 bytes, or 16 where `wide` is set (long mode). */
export interface Gate {
	selector: number;
	offset: bigint;
	type: 14 | 15;
	/** Who may use it through INT n. */
	dpl: 0 | 3;
	/** Interrupt stack table entry, long mode only; 0 = none. */
	ist?: number;
}

/** A gate as it stands in an IDT. */
export function encodeGate(gate: Readonly<Gate>, wide: boolean): [low: bigint, high: bigint] {
	const { offset } = gate;
	const low =
		(offset & 0xffffn) |
		(BigInt(gate.selector) << 16n) |
		(BigInt(wide ? (gate.ist ?? 0) : 0) << 32n) |
		(BigInt(0x80 | (gate.dpl << 5) | gate.type) << 40n) |
		(((offset >> 16n) & 0xffffn) << 48n);
	return [low, wide ? offset >> 32n : 0n];
}
