import { writeEfer } from "./control-registers.ts";
import type { Cpu } from "./cpu.ts";
import type { Feature } from "./cpuid-features.ts";
import { isCanonical } from "./descriptor.ts";
import { writeTimeInfo, writeWallClock } from "./kvm-clock.ts";
import * as L from "./layout.ts";

/** One model-specific register. A missing `write` makes it read-only, a missing `read` write-only: #GP otherwise. */
interface Msr {
	readonly feature?: Feature;
	readonly read?: (cpu: Cpu) => bigint | undefined;
	/** False: #GP. `host` = set by the embedder rather than by WRMSR. */
	readonly write?: (cpu: Cpu, value: bigint, host: boolean) => boolean;
	/** Value after a reset, when it is not 0 and the register has a place in the state. */
	readonly reset?: bigint;
	/** Offset of its 8 bytes in the state. */
	readonly at?: number;
}

const table = new Map<number, Msr>();
let nextSlot: number = L.MSRS;

/** A register that is 8 bytes of the state; `accept` says which values may be written (default: all). */
function slot(
	index: number,
	accept: (value: bigint, cpu: Cpu) => boolean = () => true,
	options: { reset?: bigint; feature?: Feature; written?: (cpu: Cpu, value: bigint) => void } = {},
): number {
	const at = nextSlot;
	nextSlot += 8;
	if (nextSlot > L.MSRS_END) throw new RangeError("the state has no room for another MSR");
	table.set(index, {
		at,
		read: (cpu) => cpu.get64(at),
		write: (cpu, value) => {
			if (!accept(value, cpu)) return false;
			cpu.set64(at, value);
			options.written?.(cpu, value);
			return true;
		},
		...(options.reset === undefined ? {} : { reset: options.reset }),
		...(options.feature === undefined ? {} : { feature: options.feature }),
	});
	return at;
}

function constant(index: number, value: bigint, feature?: Feature): void {
	table.set(index, { read: () => value, ...(feature === undefined ? {} : { feature }) });
}

const onlyBits =
	(mask: bigint) =>
	(value: bigint): boolean =>
		(value & ~mask) === 0n;

/** Byte offsets in the state, for instructions that use the registers directly. */
export const MSR_STAR: number = slot(0xc000_0081);
export const MSR_LSTAR: number = slot(0xc000_0082, isCanonical);
export const MSR_CSTAR: number = slot(0xc000_0083, isCanonical);
export const MSR_SFMASK: number = slot(0xc000_0084);
export const MSR_KERNEL_GS_BASE: number = slot(0xc000_0102, isCanonical);
export const MSR_TSC_AUX: number = slot(0xc000_0103, onlyBits(0xffff_ffffn), { feature: "rdtscp" });
export const MSR_SYSENTER_CS: number = slot(0x174);
export const MSR_SYSENTER_ESP: number = slot(0x175, isCanonical);
export const MSR_SYSENTER_EIP: number = slot(0x176, isCanonical);
/** kvm-clock's MSRs hold what was written. */
const MSR_WALL_CLOCK = 0x4b56_4d00;
const MSR_SYSTEM_TIME = 0x4b56_4d01;
export const MSR_SYSTEM_TIME_AT: number = slot(MSR_SYSTEM_TIME, () => true, {
	feature: "kvm-clock",
	written: refreshClock,
});
slot(MSR_WALL_CLOCK, () => true, {
	feature: "kvm-clock",
	written: (cpu, value) => {
		if (value !== 0n) writeWallClock(cpu.mmu.memory, Number(value & ~3n), cpu.core.wallClock());
	},
});

/** Brings the guest's kvm-clock page up to date, if it has asked for one; to be called when the clock or TSC was set. */
export function refreshClock(cpu: Cpu): void {
	const value = cpu.get64(MSR_SYSTEM_TIME_AT);
	if ((value & 1n) === 0n) return;
	// Of one moment: what differs between the vCPUs' pages lets time go back from one to the other.
	const tsc = cpu.core.readTsc();
	writeTimeInfo(cpu.mmu.memory, Number(value & ~3n), {
		tsc,
		nanoseconds: cpu.core.clock(tsc),
		tscKhz: cpu.core.tscKhz,
	});
}

const TSC_ADJUST = slot(0x3b, () => true, { feature: "tsc-adjust" });
table.set(0x3b, {
	feature: "tsc-adjust",
	at: TSC_ADJUST,
	read: (cpu) => cpu.get64(TSC_ADJUST),
	write: (cpu, value, host) => {
		const change = value - cpu.get64(TSC_ADJUST);
		cpu.set64(TSC_ADJUST, value);
		if (!host && change !== 0n) setTsc(cpu, cpu.core.readTsc() + change);
		return true;
	},
});
table.set(0x10, {
	read: (cpu) => cpu.core.readTsc(),
	write: (cpu, value, host) => {
		if (!host) cpu.set64(TSC_ADJUST, BigInt.asUintN(64, cpu.get64(TSC_ADJUST) + value - cpu.core.readTsc()));
		setTsc(cpu, value);
		return true;
	},
});

function setTsc(cpu: Cpu, value: bigint): void {
	cpu.core.writeTsc(BigInt.asUintN(64, value));
	refreshClock(cpu);
}

constant(0x17, 0n);
/** Without a local APIC in the engine the register is just remembered. */
const APIC_BASE = slot(0x1b, () => true, { reset: 0xfee0_0800n });
table.set(0x1b, {
	at: APIC_BASE,
	reset: 0xfee0_0800n,
	read: (cpu) => (cpu.apic === undefined ? cpu.get64(APIC_BASE) : cpu.apic.getBase()),
	write: (cpu, value) => {
		if ((value & 0x2ffn) !== 0n || value >> BigInt(cpu.cpuid.physicalBits) !== 0n) return false;
		// x2APIC mode needs the feature, and an enabled APIC.
		if ((value & 0x400n) !== 0n && ((value & 0x800n) === 0n || !cpu.cpuid.has("x2apic"))) return false;
		if (cpu.apic === undefined) cpu.set64(APIC_BASE, value);
		else if (!cpu.apic.setBase(value)) return false;
		else cpu.core.interruptsChanged();
		return true;
	},
});
// IBRS, STIBP, BHI_DIS_S: promises that are kept whatever the bits are.
slot(0x48, onlyBits(0x403n), { feature: "spec-ctrl" });
table.set(0x49, { feature: "spec-ctrl", write: (_cpu, value) => value <= 1n });
// Microcode revision in the upper half; writing 0 before CPUID asks for it.
table.set(0x8b, { read: () => 0x1_0000_0000n, write: () => true });
constant(0xce, 0n);
/**
 * None of the flaws that speculation brings is there: RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO,
 * IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO.
 */
constant(
	0x10a,
	[0, 1, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27, 62].reduce((word, bit) => word | (1n << BigInt(bit)), 0n),
	"arch-capabilities",
);
slot(0x140, onlyBits(0n));
constant(0x198, 0n);
// Fast strings; branch trace and event-based sampling are unavailable, and these two bits cannot be written.
const MISC_ENABLE = slot(0x1a0, () => true, { reset: 0x1801n });
table.set(0x1a0, {
	at: MISC_ENABLE,
	reset: 0x1801n,
	read: (cpu) => cpu.get64(MISC_ENABLE),
	write: (cpu, value) => {
		cpu.set64(MISC_ENABLE, (value & ~0x1800n) | 0x1800n);
		return true;
	},
});
slot(0x1d9, onlyBits(0n));

/** Memory types by number: UC, WC, WT, WP, WB. */
const isMemoryType = (value: bigint): boolean => value < 7n && value !== 2n && value !== 3n;

function allBytes(value: bigint, accept: (byte: bigint) => boolean): boolean {
	for (let shift = 0n; shift < 64n; shift += 8n) if (!accept((value >> shift) & 0xffn)) return false;
	return true;
}

slot(0x277, (value) => allBytes(value, (byte) => isMemoryType(byte) || byte === 7n), { reset: 0x0007_0406_0007_0406n });
// Eight variable ranges, fixed ranges, write-combining.
constant(0xfe, 0x508n, "mtrr");
for (let i = 0; i < 8; i++) {
	slot(
		0x200 + i * 2,
		(value, cpu) =>
			isMemoryType(value & 0xffn) && (value & 0xf00n) === 0n && value >> BigInt(cpu.cpuid.physicalBits) === 0n,
		{ feature: "mtrr" },
	);
	slot(0x201 + i * 2, (value, cpu) => (value & 0x7ffn) === 0n && value >> BigInt(cpu.cpuid.physicalBits) === 0n, {
		feature: "mtrr",
	});
}
for (const index of [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f]) {
	slot(index, (value) => allBytes(value, isMemoryType), { feature: "mtrr" });
}
slot(0x2ff, (value) => (value & ~0xcffn) === 0n && isMemoryType(value & 0xffn), { feature: "mtrr" });

const MCE_BANKS = 10;
constant(0x179, BigInt(MCE_BANKS) | 0x100n, "mca");
slot(0x17a, () => true, { feature: "mca" });
const allOrNothing = (value: bigint): boolean => value === 0n || value === 0xffff_ffff_ffff_ffffn;
slot(0x17b, allOrNothing, { feature: "mca", reset: 0xffff_ffff_ffff_ffffn });
for (let bank = 0; bank < MCE_BANKS; bank++) {
	// Of bank 0 some kernels clear bit 0 alone, of bank 4 another.
	slot(0x400 + bank * 4, (value) => allOrNothing(value | 1n | (1n << 10n)) || value === 0n, {
		feature: "mca",
		reset: 0xffff_ffff_ffff_ffffn,
	});
	for (let i = 1; i < 4; i++) {
		const at = slot(0x400 + bank * 4 + i, () => true, { feature: "mca" });
		if (i === 1) {
			// What happened can only be cleared.
			table.set(0x401 + bank * 4, {
				at,
				feature: "mca",
				read: (cpu) => cpu.get64(at),
				write: (cpu, value, host) => {
					if (!host && value !== 0n) return false;
					cpu.set64(at, value);
					return true;
				},
			});
		}
	}
}

table.set(0xc000_0080, {
	read: (cpu) => BigInt(cpu.efer),
	write: writeEfer,
});
for (const [index, segment] of [
	[0xc000_0100, L.FS],
	[0xc000_0101, L.GS],
] as const) {
	table.set(index, {
		feature: "lm",
		read: (cpu) => cpu.segmentBase(segment),
		write: (cpu, value) => {
			if (!isCanonical(value)) return false;
			setSegmentBase(cpu, segment, value);
			return true;
		},
	});
}

/** Changes the base of FS or GS alone. */
export function setSegmentBase(cpu: Cpu, segment: number, base: bigint): void {
	cpu.setSegment(
		segment,
		cpu.segmentSelector(segment),
		cpu.segmentAttributes(segment),
		cpu.segmentLimit(segment),
		base,
	);
}

const TSC_DEADLINE = 0x6e0;
const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;

/** Whether the register is the local APIC's. */
function isApicMsr(cpu: Cpu, index: number): boolean {
	if (index === TSC_DEADLINE) return cpu.cpuid.has("tsc-deadline");
	return index >= X2APIC_FIRST && index <= X2APIC_LAST && cpu.cpuid.has("x2apic");
}

/** RDMSR. Undefined: no such register, #GP. */
export function readMsr(cpu: Cpu, index: number): bigint | undefined {
	if (isApicMsr(cpu, index)) return cpu.apic?.readMsr(index);
	const msr = table.get(index);
	if (msr?.feature !== undefined && !cpu.cpuid.has(msr.feature)) return undefined;
	return msr?.read?.(cpu);
}

/**
 * WRMSR.
 *
 * @param host - the embedder sets it: no side effects that only the guest's write has
 * @returns false: no such register, or not that value: #GP
 */
export function writeMsr(cpu: Cpu, index: number, value: bigint, host = false): boolean {
	if (isApicMsr(cpu, index)) {
		const done = cpu.apic?.writeMsr(index, value) ?? false;
		if (done) cpu.core.interruptsChanged();
		return done;
	}
	const msr = table.get(index);
	if (msr?.write === undefined) return false;
	if (msr.feature !== undefined && !host && !cpu.cpuid.has(msr.feature)) return false;
	return msr.write(cpu, value, host);
}

/** Power-on values of the registers that live in the state. INIT leaves them alone. */
export function resetMsrs(cpu: Cpu): void {
	for (const { at, reset } of table.values()) if (at !== undefined) cpu.set64(at, reset ?? 0n);
}

/** The registers that make up a vCPU's state, for KVM_GET_MSR_INDEX_LIST. */
export function msrIndexList(): number[] {
	const list = [0x10, 0xc000_0080, 0xc000_0100, 0xc000_0101, TSC_DEADLINE];
	for (const [index, { at }] of table) if (at !== undefined) list.push(index);
	return list.sort((a, b) => a - b);
}
