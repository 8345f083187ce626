/**
 * Where the boot protocols put their own structures: all in conventional memory, below any kernel. One page or more
 * each, so that a guest which keeps one may free another.
 */
export const LAYOUT = {
	gdt: 0x500,
	/** hvm_start_info, its module list and memory map. */
	pvhStartInfo: 0x6000,
	bootParams: 0x7000,
	/** Top of a small stack for code that expects one. */
	stackTop: 0x8ff0,
	/** PML4, PDPT and four page directories. */
	pageTables: 0x9000,
	commandLine: 0x20000,
	commandLineEnd: 0x30000,
	/** Setup sectors of the real-mode protocol; heap and command line above them. */
	realModeSetup: 0x90000,
	realModeCommandLine: 0x9e000,
	/** Code that stands in for firmware before a kernel that relies on one. */
	firmwareStub: 0x9f000,
	/** Extended BIOS data area: the real-mode protocol's few BIOS calls live in it. */
	ebda: 0x9fc00,
	conventionalEnd: 0xa0000,
	highMemory: 0x100000,
} as const;

export const PAGE_SIZE = 0x1000;

/** Rounds up to a page. */
export function pageUp(address: number): number {
	return Math.ceil(address / PAGE_SIZE) * PAGE_SIZE;
}

/** Rounds down to a page. */
export function pageDown(address: number): number {
	return Math.floor(address / PAGE_SIZE) * PAGE_SIZE;
}
