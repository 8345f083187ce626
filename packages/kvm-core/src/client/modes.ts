import type { Sregs } from "../kvm/types.ts";
import type { PagingFormat } from "./page-tables.ts";
import { flatSegment } from "./segments.ts";

const CR0_PE = 1n;
const CR0_MP = 2n;
const CR0_ET = 0x10n;
const CR0_NE = 0x20n;
const CR0_WP = 0x1_0000n;
const CR0_PG = 0x8000_0000n;
const CR4_PSE = 0x10n;
const CR4_PAE = 0x20n;
const CR4_OSFXSR = 0x200n;
const CR4_OSXMMEXCPT = 0x400n;
const EFER_SCE = 1n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;
const EFER_NXE = 0x800n;

/** The selectors that the functions below put into the segment registers. */
export const SELECTORS = { code: 8, data: 0x10 } as const;

/** Real mode with every segment at 0: 64 KiB are in reach. */
export function realMode(from: Readonly<Sregs>): Sregs {
	const data = flatSegment("data16", 0);
	return { ...from, cs: flatSegment("code16", 0), ds: data, es: data, fs: data, gs: data, ss: data };
}

/**
 * 32-bit protected mode at CPL 0, flat.
 *
 * @param paging - with CR3 where the tables are; without it paging is off
 */
export function protectedMode(from: Readonly<Sregs>, paging?: { format: PagingFormat; root: number }): Sregs {
	const data = flatSegment("data32", SELECTORS.data);
	const sregs: Sregs = {
		...from,
		cs: flatSegment("code32", SELECTORS.code),
		ds: data,
		es: data,
		fs: data,
		gs: data,
		ss: data,
		cr0: CR0_PE | CR0_MP | CR0_ET | CR0_NE,
		cr4: CR4_OSFXSR | CR4_OSXMMEXCPT,
		efer: 0n,
	};
	if (paging !== undefined) {
		sregs.cr0 |= CR0_PG | CR0_WP;
		sregs.cr3 = BigInt(paging.root);
		sregs.cr4 |= paging.format === "pae" ? CR4_PAE : CR4_PSE;
	}
	return sregs;
}

/** 64-bit mode at CPL 0 on 4-level tables. */
export function longMode(from: Readonly<Sregs>, root: number): Sregs {
	return {
		...protectedMode(from),
		cs: flatSegment("code64", SELECTORS.code),
		cr0: CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG,
		cr3: BigInt(root),
		cr4: CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT,
		efer: EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
	};
}
