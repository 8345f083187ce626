import type { Sregs } from "../kvm/types.ts";

/** One entry that a translation went through. */
export interface WalkStep {
	/** `PML4E`, `PDPTE`, `PDE` or `PTE`. */
	readonly level: string;
	/** Where the entry stands in guest-physical memory. */
	readonly address: number;
	readonly value: bigint;
}

/** Why a linear address has no translation. */
export type WalkFailure =
	/** Bits 63-48 do not repeat bit 47. */
	| { readonly reason: "not-canonical" }
	/** The entry's bit 0 is clear. */
	| { readonly reason: "not-present"; readonly level: string; readonly bit: 0 }
	/** The entry has a reserved bit set: the lowest of them. */
	| { readonly reason: "reserved-bit"; readonly level: string; readonly bit: number }
	/** A table lies where there is no memory. */
	| { readonly reason: "no-memory"; readonly level: string };

/** A translation, with the rights of its page. */
export interface WalkSuccess {
	readonly ok: true;
	readonly physical: number;
	readonly pageBytes: number;
	readonly writable: boolean;
	readonly user: boolean;
	readonly executable: boolean;
	readonly steps: readonly WalkStep[];
}

/** What {@link walkPages} found. */
export type WalkResult = WalkSuccess | ({ readonly ok: false; readonly steps: readonly WalkStep[] } & WalkFailure);

/** Reads guest-physical memory; false where there is none. */
export type ReadPhysical = (address: number, into: Uint8Array) => boolean;

const PG = 1n << 31n;
const PSE = 1n << 4n;
const PAE = 1n << 5n;
const LMA = 1n << 10n;
const NXE = 1n << 11n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

interface Level {
	readonly name: string;
	readonly shift: number;
	/** Index bits. */
	readonly bits: number;
	/** Entries may map a page here. */
	readonly large: boolean;
}

const FOUR_LEVEL: readonly Level[] = [
	{ name: "PML4E", shift: 39, bits: 9, large: false },
	{ name: "PDPTE", shift: 30, bits: 9, large: true },
	{ name: "PDE", shift: 21, bits: 9, large: true },
	{ name: "PTE", shift: 12, bits: 9, large: false },
];
const PAE_LEVELS: readonly Level[] = [{ name: "PDPTE", shift: 30, bits: 2, large: false }, ...FOUR_LEVEL.slice(2)];
const LEGACY: readonly Level[] = [
	{ name: "PDE", shift: 22, bits: 10, large: true },
	{ name: "PTE", shift: 12, bits: 10, large: false },
];

/**
 * Translates a linear address as a debugger does (SDM volume 3, chapter 5): by no privilege in particular, and without
 * setting accessed or dirty flags. A failure says at which level, and by which bit.
 */
export function walkPages(sregs: Readonly<Sregs>, linear: bigint, read: ReadPhysical): WalkResult {
	const { cr0, cr3, cr4, efer } = sregs;
	const steps: WalkStep[] = [];
	const long = (efer & LMA) !== 0n;
	const address = BigInt.asUintN(long ? 64 : 32, linear);
	if ((cr0 & PG) === 0n) {
		const physical = Number(address & 0xffff_ffffn);
		return { ok: true, physical, pageBytes: 4096, writable: true, user: true, executable: true, steps };
	}
	if (long && BigInt.asUintN(64, BigInt.asIntN(48, address)) !== address) {
		return { ok: false, reason: "not-canonical", steps };
	}
	const wide = long || (cr4 & PAE) !== 0n;
	const levels = long ? FOUR_LEVEL : wide ? PAE_LEVELS : LEGACY;
	const noExecute = (efer & NXE) !== 0n;
	let table = Number(long ? cr3 & ADDRESS : wide ? cr3 & 0xffff_ffe0n : cr3 & 0xffff_f000n);
	let writable = true;
	let user = true;
	let executable = true;
	const bytes = new Uint8Array(wide ? 8 : 4);
	const view = new DataView(bytes.buffer);
	for (const { name, shift, bits, large } of levels) {
		const index = Number((address >> BigInt(shift)) & ((1n << BigInt(bits)) - 1n));
		const at = table + index * bytes.length;
		if (!read(at, bytes)) return { ok: false, reason: "no-memory", level: name, steps };
		const value = wide ? view.getBigUint64(0, true) : BigInt(view.getUint32(0, true));
		steps.push({ level: name, address: at, value });
		if ((value & 1n) === 0n) return { ok: false, reason: "not-present", level: name, bit: 0, steps };
		const paePointer = wide && !long && name === "PDPTE";
		const leaf = shift === 12 || (large && (value & 0x80n) !== 0n && (wide || (cr4 & PSE) !== 0n));
		const reserved = value & reservedBits({ name, shift, leaf, long, wide, noExecute });
		if (reserved !== 0n) {
			return { ok: false, reason: "reserved-bit", level: name, bit: lowestBit(reserved), steps };
		}
		if (!paePointer) {
			writable &&= (value & 2n) !== 0n;
			user &&= (value & 4n) !== 0n;
			executable &&= !(wide && value >> 63n === 1n);
		}
		if (leaf) {
			const pageBytes = 2 ** shift;
			const offset = address & BigInt(pageBytes - 1);
			// PSE-36: bits 13-20 of a 4 MiB page's entry are address bits 32-39.
			const base =
				!wide && shift === 22
					? (value & 0xffc0_0000n) | (((value >> 13n) & 0xffn) << 32n)
					: value & (wide ? ADDRESS : 0xffff_f000n) & ~BigInt(pageBytes - 1);
			return { ok: true, physical: Number(base | offset), pageBytes, writable, user, executable, steps };
		}
		table = Number(value & (wide ? ADDRESS : 0xffff_f000n));
	}
	throw new Error("the last level maps pages");
}

interface EntryKind {
	readonly name: string;
	readonly shift: number;
	readonly leaf: boolean;
	readonly long: boolean;
	readonly wide: boolean;
	readonly noExecute: boolean;
}

/** Bits that must be clear, whatever the width of physical addresses. */
function reservedBits({ name, shift, leaf, long, wide, noExecute }: EntryKind): bigint {
	if (!wide) return leaf && shift === 22 ? 1n << 21n : 0n;
	let bits = 0n;
	if (!long) bits |= 0x7ff0_0000_0000_0000n;
	if (!noExecute) bits |= 1n << 63n;
	if (!long && name === "PDPTE") bits |= 0x1e6n | (1n << 63n);
	if (long && name === "PML4E") bits |= 0x80n;
	if (leaf && shift > 12) bits |= ((1n << BigInt(shift)) - 1n) & ~0x1fffn;
	return bits;
}

function lowestBit(value: bigint): number {
	let bit = 0;
	while (((value >> BigInt(bit)) & 1n) === 0n) bit++;
	return bit;
}

/** One line that says what became of a translation. */
export function describeWalk(linear: bigint, result: WalkResult): string {
	const from = `0x${linear.toString(16)}`;
	if (result.ok) {
		const rights = `${result.writable ? "w" : "-"}${result.executable ? "x" : "-"}${result.user ? "u" : "-"}`;
		return `${from} -> 0x${result.physical.toString(16)} (${pageName(result.pageBytes)} page, ${rights})`;
	}
	const last = result.steps.at(-1);
	const entry = last === undefined ? "" : ` 0x${last.value.toString(16)} at 0x${last.address.toString(16)}`;
	switch (result.reason) {
		case "not-canonical":
			return `${from}: not canonical: bits 63 to 48 do not repeat bit 47`;
		case "not-present":
			return `${from}: ${result.level}${entry} is not present (bit 0 is clear)`;
		case "reserved-bit":
			return `${from}: ${result.level}${entry} has reserved bit ${result.bit} set`;
		case "no-memory":
			return `${from}: the table with its ${result.level} lies outside memory`;
	}
}

function pageName(bytes: number): string {
	return bytes === 2 ** 30 ? "1 GiB" : bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`;
}
