import type { Regs, Segment } from "../kvm/types.ts";
import { LAYOUT, PAGE_SIZE } from "./layout.ts";
import type { BootSegment, BootSregs } from "./plan.ts";

const CR0_PE = 1n;
const CR0_ET = 0x10n;
const CR0_NE = 0x20n;
const CR0_PG = 0x8000_0000n;
const CR4_PAE = 0x20n;
const EFER_LME_LMA = 0x500n;
/** Bit 1 reads as one. */
const RFLAGS_RESET = 2n;
const CODE_SELECTOR = 0x10;
const DATA_SELECTOR = 0x18;
const TSS_SELECTOR = 0x20;

/** General registers, zero but for those given. */
export function bootRegs(values: Partial<Regs>): Regs {
	return {
		rax: 0n,
		rbx: 0n,
		rcx: 0n,
		rdx: 0n,
		rsi: 0n,
		rdi: 0n,
		rsp: 0n,
		rbp: 0n,
		r8: 0n,
		r9: 0n,
		r10: 0n,
		r11: 0n,
		r12: 0n,
		r13: 0n,
		r14: 0n,
		r15: 0n,
		rip: 0n,
		rflags: RFLAGS_RESET,
		...values,
	};
}

function segment(selector: number, base: number, limit: number, type: number, more: Partial<Segment> = {}): Segment {
	return {
		base: BigInt(base),
		limit,
		selector,
		type,
		present: 1,
		dpl: 0,
		db: 0,
		s: 1,
		l: 0,
		g: 0,
		avl: 0,
		unusable: 0,
		...more,
	};
}

function systemSegments(): Pick<BootSregs, "tr" | "ldt" | "idt"> {
	return {
		tr: segment(TSS_SELECTOR, 0, 0xffff, 11, { s: 0 }),
		ldt: segment(0, 0, 0xffff, 2, { s: 0 }),
		idt: { base: 0n, limit: 0 },
	};
}

function flatSegments(code: Partial<Segment>): Pick<BootSregs, "cs" | "ds" | "es" | "fs" | "gs" | "ss" | "gdt"> {
	const data = (): Segment => segment(DATA_SELECTOR, 0, 0xffff_ffff, 3, { db: 1, g: 1 });
	return {
		cs: segment(CODE_SELECTOR, 0, 0xffff_ffff, 11, { g: 1, ...code }),
		ds: data(),
		es: data(),
		fs: data(),
		gs: data(),
		ss: data(),
		gdt: { base: BigInt(LAYOUT.gdt), limit: 5 * 8 - 1 },
	};
}

/** The descriptor table behind the flat segments' selectors; Linux's __BOOT_CS is 10h and __BOOT_DS 18h. */
export function gdtSegment(bits: 32 | 64): BootSegment {
	const bytes = new Uint8Array(5 * 8);
	const view = new DataView(bytes.buffer);
	view.setBigUint64(CODE_SELECTOR, bits === 64 ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn, true);
	view.setBigUint64(DATA_SELECTOR, 0x00cf_9300_0000_ffffn, true);
	view.setBigUint64(TSS_SELECTOR, 0x0000_8b00_0000_ffffn, true);
	return { physAddr: LAYOUT.gdt, bytes, size: bytes.length, name: "GDT" };
}

/** Flat 32-bit protected mode without paging, interrupts off: what PVH, multiboot and Linux's 32-bit entry want. */
export function protectedModeSregs(): BootSregs {
	return {
		...flatSegments({ db: 1 }),
		...systemSegments(),
		cr0: CR0_PE | CR0_ET,
		cr3: 0n,
		cr4: 0n,
		efer: 0n,
	};
}

/** 64-bit mode over {@link identityPageTables}, interrupts off. */
export function longModeSregs(): BootSregs {
	return {
		...flatSegments({ l: 1 }),
		...systemSegments(),
		cr0: CR0_PE | CR0_ET | CR0_NE | CR0_PG,
		cr3: BigInt(LAYOUT.pageTables),
		cr4: CR4_PAE,
		efer: EFER_LME_LMA,
	};
}

/** Real mode with every segment at one place, but code where the caller says. */
export function realModeSregs(
	codeSelector: number,
	dataSelector: number,
	codeBase: number = codeSelector << 4,
): BootSregs {
	const data = (): Segment => segment(dataSelector, dataSelector << 4, 0xffff, 3);
	return {
		cs: segment(codeSelector, codeBase, 0xffff, 11),
		ds: data(),
		es: data(),
		fs: data(),
		gs: data(),
		ss: data(),
		tr: segment(0, 0, 0xffff, 11, { s: 0 }),
		ldt: segment(0, 0, 0xffff, 2, { s: 0 }),
		gdt: { base: 0n, limit: 0xffff },
		idt: { base: 0n, limit: 0xffff },
		cr0: CR0_ET,
		cr3: 0n,
		cr4: 0n,
		efer: 0n,
	};
}

/** Maps the first 4 GiB onto themselves in 2 MiB pages: PML4, PDPT, four page directories. */
export function identityPageTables(): BootSegment {
	const entries = new BigUint64Array((6 * PAGE_SIZE) / 8);
	const presentWritable = 3n;
	const large = 0x80n;
	const at = (page: number): bigint => BigInt(LAYOUT.pageTables + page * PAGE_SIZE);
	entries[0] = at(1) | presentWritable;
	for (let gib = 0; gib < 4; gib++) {
		entries[512 + gib] = at(2 + gib) | presentWritable;
		for (let i = 0; i < 512; i++) {
			entries[(2 + gib) * 512 + i] = (BigInt(gib * 512 + i) << 21n) | large | presentWritable;
		}
	}
	const bytes = new Uint8Array(entries.buffer);
	return { physAddr: LAYOUT.pageTables, bytes, size: bytes.length, name: "page tables" };
}
