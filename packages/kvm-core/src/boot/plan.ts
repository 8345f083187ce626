import type { Regs, Sregs, Vcpu } from "../kvm/types.ts";

/** What BIOS call E820h calls usable memory; every other type is some kind of reserved. */
export const E820_RAM = 1;

/** A stretch of guest-physical memory as the guest is told about it. */
export interface MemoryRange {
	readonly start: number;
	/** Bytes. */
	readonly length: number;
	/** As E820h numbers types: 1 RAM, 2 reserved, 3 ACPI tables, 4 ACPI NVS, 5 unusable. */
	readonly type: number;
}

/** Bytes to be in guest memory before the first instruction. */
export interface BootSegment {
	readonly physAddr: number;
	readonly bytes: Uint8Array;
	/** Bytes the segment takes; what lies beyond `bytes` is zero. */
	readonly size: number;
	/** What it is, for error texts and traces. */
	readonly name: string;
}

/** A read-only image the memory map has to have room for (firmware below 4 GiB). */
export interface BootRom {
	readonly physAddr: number;
	readonly bytes: Uint8Array;
}

/** The ways into a guest that this package has. */
export type BootProtocol =
	/** Linux's decompressed ELF entered as its own decompressor would. */
	| "linux-payload"
	/** A bzImage's 64-bit (or 32-bit) entry; the guest decompresses. */
	| "linux-entry"
	/** A bzImage's real-mode setup code. */
	| "linux-real"
	| "elf64"
	| "pvh"
	| "multiboot"
	| "firmware";

/** The part of {@link Sregs} a boot protocol decides. */
export type BootSregs = Omit<Sregs, "apicBase" | "interruptBitmap" | "cr2" | "cr8">;

/** Everything that makes a virgin VM start a guest: memory contents and the first vCPU's registers. */
export interface BootPlan {
	readonly protocol: BootProtocol;
	readonly segments: readonly BootSegment[];
	readonly roms: readonly BootRom[];
	readonly regs: Regs;
	readonly sregs: BootSregs;
}

/** Where {@link applyBootPlan} puts segments. */
export interface BootMemory {
	/** Writes guest-physical memory. */
	write(physAddr: number, bytes: Uint8Array): void;
	/** Clears guest-physical memory. */
	zero(physAddr: number, size: number): void;
}

/** Carries a plan out, but for its ROMs: those are memory slots, which the board owns. */
export function applyBootPlan(
	plan: BootPlan,
	memory: BootMemory,
	vcpu: Pick<Vcpu, "getSregs" | "setSregs" | "setRegs">,
): void {
	for (const { physAddr, bytes, size } of plan.segments) {
		memory.write(physAddr, bytes);
		if (size > bytes.length) memory.zero(physAddr + bytes.length, size - bytes.length);
	}
	vcpu.setSregs({ ...vcpu.getSregs(), ...plan.sregs, cr2: 0n, cr8: 0n });
	vcpu.setRegs(plan.regs);
}
