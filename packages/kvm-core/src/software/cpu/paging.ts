import * as L from "./layout.ts";

/** What the walk reads the tables through; addresses are multiples of 4. */
export interface TableMemory {
	/** Unsigned. */
	read32(physical: number): number;
	write32(physical: number, value: number): void;
}

/** Bits of `access`. */
export const ACCESS_WRITE = 1;
/** Made at CPL 3. */
export const ACCESS_USER = 2;
export const ACCESS_FETCH = 4;
/** A supervisor access made whatever the CPL is (descriptor tables, TSS): RFLAGS.AC does not lift SMAP for it. */
export const ACCESS_IMPLICIT = 8;

/** Bits of `Mmu.flags`: a write by the same kind of access needs no walk (the right is there and D is set). */
export const PAGE_WRITABLE = 1;
/** U/S is set at all levels. */
export const PAGE_USER = 2;
/** Survives a load of CR3 (CR4.PGE considered). */
export const PAGE_GLOBAL = 4;
export const PAGE_NO_EXECUTE = 8;
/** The page may be written once D is set; PAGE_WRITABLE less the dirty flag. */
export const PAGE_MAY_WRITE = 16;

/** Bits of a page-fault error code. */
export const FAULT_PRESENT = 1;
export const FAULT_WRITE = 2;
export const FAULT_USER = 4;
export const FAULT_RESERVED = 8;
export const FAULT_FETCH = 16;
/** The page's protection key forbids it. */
export const FAULT_KEY = 32;

/** Width of physical addresses unless CPUID says otherwise. */
export const PHYSICAL_ADDRESS_BITS = 40;

const CR0_WP = 1 << 16;
const CR0_PG = 0x8000_0000;
const CR4_PSE = 1 << 4;
const CR4_PAE = 1 << 5;
const CR4_PGE = 1 << 7;
const CR4_SMEP = 1 << 20;
const CR4_SMAP = 1 << 21;
const CR4_PKE = 1 << 22;
const EFER_LMA = 1 << 10;
const EFER_NXE = 1 << 11;

const PRESENT = 1;
const WRITE = 2;
const USER = 4;
const ACCESSED = 0x20;
const DIRTY = 0x40;
const LARGE = 0x80;
const GLOBAL = 0x100;
const NX_HIGH = 0x8000_0000;

const HIGH = 0x1_0000_0000;

/** Paging as one vCPU sees it: the control registers it lives by, and the fields in which `walk` leaves its answer. */
export class Mmu {
	/** The vCPU's state, as `Cpu.u32`. */
	readonly state: Uint32Array;
	readonly memory: TableMemory;
	/** Physical address of the 4 KiB page, after `walk` returned true. */
	physical = 0;
	/** PAGE_* bits, after `walk` returned true. */
	flags = 0;
	/** Error code of the page fault, after `walk` returned false. */
	errorCode = 0;
	/** Bits 32.. of an entry that are no address bits: reserved in PAE entries and, up to bit 51, in long mode. */
	private reserved: number;

	constructor(state: Uint32Array, memory: TableMemory, physicalBits: number = PHYSICAL_ADDRESS_BITS) {
		this.state = state;
		this.memory = memory;
		this.reserved = reservedHigh(physicalBits);
	}

	/** MAXPHYADDR, 32 to 52 bits. */
	setPhysicalBits(bits: number): void {
		this.reserved = reservedHigh(bits);
	}

	/** Bits 32..51 of an entry that must be zero. */
	get reservedHigh(): number {
		return this.reserved;
	}
}

function reservedHigh(physicalBits: number): number {
	return 0xf_ffff & ~(2 ** (physicalBits - 32) - 1);
}

/**
 * Translates a linear address: SDM volume 3, chapter 5 (paging, PAE, 4-level; access rights 5.6; accessed and dirty
 * flags 5.8). On success the accessed and dirty flags have been set. In long mode the address must be canonical.
 *
 * @param lo - bits 0-31 of the linear address
 * @param hi - bits 32-63
 * @param access - ACCESS_* bits
 * @returns whether the access is allowed: then `mmu.physical` and `mmu.flags` are set, otherwise `mmu.errorCode`
 */
export function walk(mmu: Mmu, lo: number, hi: number, access: number): boolean {
	const { state } = mmu;
	if (state[L.CR0 >> 2]! < CR0_PG) {
		mmu.physical = (lo & ~0xfff) >>> 0;
		mmu.flags = PAGE_WRITABLE | PAGE_MAY_WRITE | PAGE_USER;
		return true;
	}
	if ((state[L.CR4 >> 2]! & CR4_PAE) === 0) return walk32(mmu, lo, access);
	if ((state[L.EFER >> 2]! & EFER_LMA) !== 0) {
		const table = (state[(L.CR3 >> 2) + 1]! & 0xf_ffff) * HIGH + ((state[L.CR3 >> 2]! & ~0xfff) >>> 0);
		return walk64(mmu, lo, hi, access, table, 3);
	}
	const pdpte = (L.PDPTES >> 2) + (lo >>> 30) * 2;
	const low = state[pdpte]!;
	if ((low & PRESENT) === 0) return fault(mmu, access, 0);
	const table = (state[pdpte + 1]! & 0xf_ffff) * HIGH + ((low & ~0xfff) >>> 0);
	return walk64(mmu, lo, hi, access, table, 1);
}

/** Tables of 1024 4-byte entries. */
function walk32(mmu: Mmu, lo: number, access: number): boolean {
	const { state, memory } = mmu;
	const directory = (state[L.CR3 >> 2]! & ~0xfff) >>> 0;
	const pdeAt = directory + (lo >>> 22) * 4;
	const pde = memory.read32(pdeAt);
	if ((pde & PRESENT) === 0) return fault(mmu, access, 0);
	if ((pde & LARGE) !== 0 && (state[L.CR4 >> 2]! & CR4_PSE) !== 0) {
		// PSE-36: bits 13-20 are address bits 32-39, as far as physical addresses go; bit 21 is reserved.
		if ((pde & 0x20_0000) !== 0 || ((pde >>> 13) & 0xff & mmu.reservedHigh) !== 0) {
			return fault(mmu, access, FAULT_PRESENT | FAULT_RESERVED);
		}
		if (!allow(mmu, access, pde & (WRITE | USER), 0, pde)) return false;
		const marked = pde | ACCESSED | ((access & ACCESS_WRITE) !== 0 ? DIRTY : 0);
		if (marked !== (pde | 0)) memory.write32(pdeAt, marked >>> 0);
		mmu.physical = ((pde >>> 13) & 0xff) * HIGH + (((pde & 0xffc0_0000) | (lo & 0x3f_f000)) >>> 0);
		return true;
	}
	const pteAt = ((pde & ~0xfff) >>> 0) + ((lo >>> 12) & 0x3ff) * 4;
	const pte = memory.read32(pteAt);
	if ((pte & PRESENT) === 0) return fault(mmu, access, 0);
	if (!allow(mmu, access, pde & pte, 0, pte)) return false;
	if ((pde & ACCESSED) === 0) memory.write32(pdeAt, (pde | ACCESSED) >>> 0);
	const marked = pte | ACCESSED | ((access & ACCESS_WRITE) !== 0 ? DIRTY : 0);
	if (marked !== (pte | 0)) memory.write32(pteAt, marked >>> 0);
	mmu.physical = (pte & ~0xfff) >>> 0;
	return true;
}

/** Physical address of the entry that translates at `level` (3 = PML4 ... 0 = page table). */
function entryAt(table: number, lo: number, hi: number, level: number): number {
	switch (level) {
		case 3:
			return table + ((hi >>> 7) & 511) * 8;
		case 2:
			return table + (((hi << 2) | (lo >>> 30)) & 511) * 8;
		case 1:
			return table + ((lo >>> 21) & 511) * 8;
		default:
			return table + ((lo >>> 12) & 511) * 8;
	}
}

/** Tables of 512 8-byte entries, from `table` at `top` on. */
function walk64(mmu: Mmu, lo: number, hi: number, access: number, table: number, top: number): boolean {
	const { state, memory } = mmu;
	const noExecute = (state[L.EFER >> 2]! & EFER_NXE) !== 0;
	// Bits 52-62 are ignored in long mode and reserved in PAE entries.
	const reserved = mmu.reservedHigh | (noExecute ? 0 : NX_HIGH) | (top === 1 ? 0x7ff0_0000 : 0);
	let all = -1;
	let anyHigh = 0;
	let level = top;
	let at = table;
	for (;;) {
		const entry = entryAt(at, lo, hi, level);
		const low = memory.read32(entry);
		if ((low & PRESENT) === 0) return fault(mmu, access, 0);
		const high = memory.read32(entry + 4);
		if ((high & reserved) !== 0) return fault(mmu, access, FAULT_PRESENT | FAULT_RESERVED);
		all &= low;
		anyHigh |= high;
		const next = (high & 0xf_ffff) * HIGH + ((low & ~0xfff) >>> 0);
		if (level === 0 || (low & LARGE) !== 0) {
			let page = next;
			if (level !== 0) {
				if (level === 3) return fault(mmu, access, FAULT_PRESENT | FAULT_RESERVED);
				const offset = level === 1 ? 0x1f_f000 : 0x3fff_f000;
				// Bit 12 is the page attribute bit of a large page.
				if ((low & offset & ~0x1000) !== 0) return fault(mmu, access, FAULT_PRESENT | FAULT_RESERVED);
				page = (high & 0xf_ffff) * HIGH + (((low & ~0x1fff) | (lo & offset)) >>> 0);
			}
			if (!allow(mmu, access, all, anyHigh & NX_HIGH, low)) return false;
			if (top === 3 && (state[L.CR4 >> 2]! & CR4_PKE) !== 0 && !keyAllows(mmu, access, (high >>> 27) & 15))
				return false;
			const dirty = (access & ACCESS_WRITE) !== 0 ? DIRTY : 0;
			if ((all & ACCESSED) === 0 || (low & dirty) !== dirty) mark(memory, lo, hi, table, top, level, dirty);
			mmu.physical = page;
			return true;
		}
		at = next;
		level--;
	}
}

/** Sets the accessed flags on the way to the leaf at `leaf`, and `dirty` there. */
function mark(
	memory: TableMemory,
	lo: number,
	hi: number,
	table: number,
	top: number,
	leaf: number,
	dirty: number,
): void {
	for (let level = top; ; level--) {
		const entry = entryAt(table, lo, hi, level);
		const low = memory.read32(entry);
		const marked = low | ACCESSED | (level === leaf ? dirty : 0);
		if (marked !== (low | 0)) memory.write32(entry, marked >>> 0);
		if (level === leaf) return;
		table = (memory.read32(entry + 4) & 0xf_ffff) * HIGH + ((low & ~0xfff) >>> 0);
	}
}

/**
 * Access rights (SDM 5.6.1) by the flags common to all levels; fills `mmu.flags` or `mmu.errorCode`.
 *
 * @param all - AND of the entries' R/W and U/S
 * @param noExecute - not zero when some level has XD
 * @param leaf - the entry that maps the page
 */
function allow(mmu: Mmu, access: number, all: number, noExecute: number, leaf: number): boolean {
	const { state } = mmu;
	const cr4 = state[L.CR4 >> 2]!;
	const userPage = (all & USER) !== 0;
	let writable = (all & WRITE) !== 0;
	if ((access & ACCESS_USER) !== 0) {
		if (!userPage) return fault(mmu, access, FAULT_PRESENT);
	} else {
		if (userPage) {
			if ((access & ACCESS_FETCH) !== 0) {
				if ((cr4 & CR4_SMEP) !== 0) return fault(mmu, access, FAULT_PRESENT);
			} else if (
				(cr4 & CR4_SMAP) !== 0 &&
				((access & ACCESS_IMPLICIT) !== 0 || (state[L.RFLAGS_SYS >> 2]! & L.AC) === 0)
			) {
				return fault(mmu, access, FAULT_PRESENT);
			}
		}
		writable ||= (state[L.CR0 >> 2]! & CR0_WP) === 0;
	}
	if ((access & ACCESS_WRITE) !== 0 && !writable) return fault(mmu, access, FAULT_PRESENT);
	if ((access & ACCESS_FETCH) !== 0 && noExecute !== 0) return fault(mmu, access, FAULT_PRESENT);
	let flags = userPage ? PAGE_USER : 0;
	if (writable) {
		flags |= PAGE_MAY_WRITE;
		if ((leaf & DIRTY) !== 0 || (access & ACCESS_WRITE) !== 0) flags |= PAGE_WRITABLE;
	}
	if (noExecute !== 0) flags |= PAGE_NO_EXECUTE;
	if ((leaf & GLOBAL) !== 0 && (cr4 & CR4_PGE) !== 0) flags |= PAGE_GLOBAL;
	mmu.flags = flags;
	return true;
}

/** Protection keys (SDM 5.6.2): of data in user pages. Takes the right to write out of `mmu.flags`. */
function keyAllows(mmu: Mmu, access: number, key: number): boolean {
	if ((mmu.flags & PAGE_USER) === 0 || (access & ACCESS_FETCH) !== 0) return true;
	const { state } = mmu;
	const rights = state[L.PKRU >> 2]! >>> (key * 2);
	if ((rights & 1) !== 0) return fault(mmu, access, FAULT_PRESENT | FAULT_KEY);
	if ((rights & 2) === 0) return true;
	if ((access & ACCESS_USER) === 0 && (state[L.CR0 >> 2]! & CR0_WP) === 0) return true;
	if ((access & ACCESS_WRITE) !== 0) return fault(mmu, access, FAULT_PRESENT | FAULT_KEY);
	mmu.flags &= ~(PAGE_WRITABLE | PAGE_MAY_WRITE);
	return true;
}

/** Completes the error code: SDM 5.7. */
function fault(mmu: Mmu, access: number, code: number): false {
	const { state } = mmu;
	if ((access & ACCESS_WRITE) !== 0) code |= FAULT_WRITE;
	if ((access & ACCESS_USER) !== 0) code |= FAULT_USER;
	if ((access & ACCESS_FETCH) !== 0) {
		const cr4 = state[L.CR4 >> 2]!;
		if ((cr4 & CR4_SMEP) !== 0 || ((cr4 & CR4_PAE) !== 0 && (state[L.EFER >> 2]! & EFER_NXE) !== 0))
			code |= FAULT_FETCH;
	}
	mmu.errorCode = code;
	return false;
}

/**
 * Reads the four page-directory-pointer entries of PAE paging into the state, as a load of CR3 does.
 *
 * @returns false, with nothing changed, when a present one has reserved bits set: #GP
 */
export function loadPdptes(mmu: Mmu, cr3: number): boolean {
	const { state, memory } = mmu;
	const table = (cr3 & ~0x1f) >>> 0;
	const values: number[] = [];
	for (let i = 0; i < 8; i += 2) {
		const low = memory.read32(table + i * 4);
		const high = memory.read32(table + i * 4 + 4);
		if ((low & PRESENT) !== 0 && ((low & 0x1e6) !== 0 || (high & (mmu.reservedHigh | 0xfff0_0000)) !== 0)) return false;
		values.push(low, high);
	}
	state.set(values, L.PDPTES >> 2);
	return true;
}
