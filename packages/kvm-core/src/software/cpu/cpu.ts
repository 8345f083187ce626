import type { CpuidTable } from "./cpuid.ts";
import * as L from "./layout.ts";
import type { Mmu } from "./paging.ts";

/** Exception vectors. */
export const DE = 0;
export const DB = 1;
export const NMI = 2;
export const BP = 3;
export const OF_VECTOR = 4;
export const BR = 5;
export const UD = 6;
export const NM = 7;
export const DF_VECTOR = 8;
export const TS = 10;
export const NP = 11;
export const SS_VECTOR = 12;
export const GP = 13;
export const PF_VECTOR = 14;
export const MF = 16;
export const AC_VECTOR = 17;
export const XM = 19;

/**
 * Thrown (one object, over and over) to abandon an instruction with an exception; only `Cpu.raise` throws it, only the
 * boundary to generated code and event delivery catch it.
 */
export class GuestFault {
	vector = 0;
	/** -1: the vector has none. */
	errorCode = -1;
}

/** Thrown (one object) to abandon an instruction that needs the embedder first; it is executed again afterwards. */
export class ExitRequest {}

/** Access kinds for `Memory` below. */
export interface LinearAccess {
	/** As at CPL 3, or as the supervisor that descriptor-table accesses always are. */
	readonly user: boolean;
}

/** How the vCPU reaches linear memory from TypeScript. Each throws through {@link Cpu.raise} on a fault. */
export interface LinearMemory {
	/** Reads 1, 2 or 4 bytes at the current privilege (`system` = as CPL 0: descriptor tables, TSS). */
	read(linear: bigint, size: 1 | 2 | 4, system?: boolean): number;
	read64(linear: bigint, system?: boolean): bigint;
	write(linear: bigint, size: 1 | 2 | 4, value: number, system?: boolean): void;
	write64(linear: bigint, value: bigint, system?: boolean): void;
	/**
	 * Throws the fault that a write of `size` bytes would meet, at the given privilege; afterwards that write cannot
	 * fault. For instructions that must not change anything before they are sure.
	 */
	probe(linear: bigint, size: number, write: boolean, system?: boolean): void;
	/** CR0.AM, RFLAGS.AC and CPL 3 demand that data lie on multiples of their size. */
	readonly checksAlignment: boolean;
	/**
	 * Throws #AC(0) where alignment is checked and an address is no multiple of `unit` bytes. Accesses of 2 to 8 bytes
	 * come to it by themselves; this is for what is larger, or must fault before anything else happens.
	 */
	checkAlignment(linear: bigint, unit: number): void;
}

/** Port I/O as the vCPU sees it: an internal device answers, or an {@link ExitRequest} is thrown until the embedder has. */
export interface PortIo {
	input(port: number, size: 1 | 2 | 4): number;
	output(port: number, size: 1 | 2 | 4, value: number): void;
}

/** The local APIC as instructions see it (CR8 and MSRs); absent without an irqchip. */
export interface ApicView {
	getTaskPriority(): number;
	setTaskPriority(value: number): void;
	/** Undefined when there is no such register: #GP. */
	readMsr(index: number): bigint | undefined;
	/** False when the value is not taken: #GP. */
	writeMsr(index: number, value: bigint): boolean;
	/**
	 * Sends an interprocessor interrupt to one APIC by its id, as writing `command` to the ICR would. Returns whether
	 * there is such an APIC that took it.
	 */
	sendIpi(apicId: number, command: number): boolean;
	getBase(): bigint;
	/** False: #GP. */
	setBase(value: bigint): boolean;
}

/** What the execution core gives to the rest: effects that reach beyond the state page. */
export interface Core {
	/** Something waits to be taken to the embedder before the guest goes on. */
	readonly requestPending: boolean;
	/** Drops translations: all, or all but global ones. */
	flushTlb(keepGlobal: boolean): void;
	/** Drops the translation of one page. */
	flushPage(linear: bigint): void;
	/** Must follow any change of CPL, CR0, CR4, EFER, AC, or of a segment register: picks TLBs and the decoding mode. */
	modeChanged(): void;
	/** Must follow a change of IF, the interrupt shadow, or of what is pending. */
	interruptsChanged(): void;
	/** Time-stamp counter now. */
	readTsc(): bigint;
	writeTsc(value: bigint): void;
	/** HLT: stop after this instruction until an interrupt. */
	halt(): void;
	/** PAUSE: the guest may be waiting for another vCPU. */
	pause(): void;
	/** Triple fault. */
	shutdown(): void;
	/** Must follow a change of DR0-3 or DR7. */
	debugChanged(): void;
	/** 64 random bits for RDRAND and RDSEED. */
	random(): bigint;
	/** kvm-clock, in nanoseconds, at the moment when the TSC shows `tsc`: both are the same time at different rates. */
	clock(tsc: bigint): bigint;
	/** Nanoseconds since 1970 when kvm-clock was 0. */
	wallClock(): bigint;
	/** Rate of the TSC. */
	readonly tscKhz: number;
}

/**
 * One vCPU's architectural state as TypeScript sees it, over the same bytes that generated code works on, and the few
 * operations every system instruction needs. 64-bit values are bigint here: this is the slow path.
 */
export class Cpu {
	/** Base of the vCPU's area in the memory. */
	readonly base: number;
	readonly u8: Uint8Array;
	readonly u16: Uint16Array;
	readonly u32: Uint32Array;
	readonly i32: Int32Array;
	readonly u64: BigUint64Array;
	memory!: LinearMemory;
	ports!: PortIo;
	apic: ApicView | undefined;
	core!: Core;
	/** Page walks, and the physical memory beneath. */
	mmu!: Mmu;
	/** What CPUID answers. */
	cpuid!: CpuidTable;
	/** RIP of the instruction in hand. */
	rip = 0n;
	/** RIP behind it. */
	nextRip = 0n;
	/** Set by `jump`: where to go on instead of `nextRip`. */
	jumped = false;
	/** Set by an instruction that clears TF before its own single-step trap would be taken. */
	stepSuppressed = false;
	/** The one fault object. */
	readonly fault: GuestFault = new GuestFault();

	/**
	 * @param buffer - the VM's memory
	 * @param base - the vCPU's area in it, 64 KiB aligned
	 */
	constructor(buffer: ArrayBufferLike, base: number) {
		this.base = base;
		this.u8 = new Uint8Array(buffer, base, L.STATE_BYTES);
		this.u16 = new Uint16Array(buffer, base, L.STATE_BYTES >> 1);
		this.u32 = new Uint32Array(buffer, base, L.STATE_BYTES >> 2);
		this.i32 = new Int32Array(buffer, base, L.STATE_BYTES >> 2);
		this.u64 = new BigUint64Array(buffer, base, L.STATE_BYTES >> 3);
	}

	/** Throws the exception; the instruction must not have changed anything. */
	raise(vector: number, errorCode = -1): never {
		this.fault.vector = vector;
		this.fault.errorCode = errorCode;
		throw this.fault;
	}

	/** Goes on at `rip` (an offset in the current CS) after this instruction. */
	jump(rip: bigint): void {
		this.nextRip = rip;
		this.jumped = true;
	}

	get64(offset: number): bigint {
		return this.u64[offset >> 3]!;
	}

	set64(offset: number, value: bigint): void {
		this.u64[offset >> 3] = value;
	}

	get32(offset: number): number {
		return this.u32[offset >> 2]!;
	}

	set32(offset: number, value: number): void {
		this.u32[offset >> 2] = value;
	}

	/** General register by number, all 64 bits. */
	gpr(n: number): bigint {
		return this.u64[n]!;
	}

	/** Low 32 bits of a general register, unsigned. */
	gpr32(n: number): number {
		return this.u32[n * 2]!;
	}

	gpr16(n: number): number {
		return this.u16[n * 4]!;
	}

	/** Writes `size` bytes of general register `n`; 4 zero-extends. */
	setGpr(n: number, size: 1 | 2 | 4 | 8, value: bigint | number): void {
		if (size === 8) this.u64[n] = BigInt.asUintN(64, BigInt(value));
		else {
			const low = typeof value === "bigint" ? Number(BigInt.asUintN(32, value)) : value;
			if (size === 4) {
				this.u32[n * 2] = low;
				this.u32[n * 2 + 1] = 0;
			} else if (size === 2) this.u16[n * 4] = low;
			else this.u8[n * 8] = low;
		}
	}

	get cpl(): number {
		return this.u32[L.CPL >> 2]!;
	}

	/** RFLAGS, all of it. Bits above 31 are zero. */
	get flags(): number {
		const result = this.u64[L.FLAGS_RES >> 3]!;
		const aux = this.u32[L.FLAGS_AUX >> 2]!;
		const low = this.u8[L.FLAGS_RES]!;
		let parity = low ^ (low >> 4);
		parity = (0x9669 >> (parity & 0xf)) & 1;
		const derived = (result >> 63n === 1n ? L.SF : 0) | (parity === 1 ? L.PF : 0);
		const zero = result === 0n ? L.ZF : 0;
		return ((aux & (L.ARITHMETIC & ~L.ZF)) ^ derived) | zero | this.u32[L.RFLAGS_SYS >> 2]!;
	}

	/** Sets RFLAGS as it is given (bit 1 is kept set); `core.modeChanged` and `core.interruptsChanged` are the caller's. */
	set flags(value: number) {
		const zero = (value & L.ZF) !== 0;
		this.u64[L.FLAGS_RES >> 3] = zero ? 0n : 1n;
		this.u32[L.FLAGS_AUX >> 2] = (value & (L.ARITHMETIC & ~L.ZF)) ^ (zero ? L.PF : 0);
		this.u32[L.RFLAGS_SYS >> 2] = (value & ~L.ARITHMETIC & 0x3f7fd5) | 2;
	}

	/** The flags FLAGS_RES does not hold: IF, DF, TF, IOPL, NT, RF, VM, AC, VIF, VIP, ID. */
	get systemFlags(): number {
		return this.u32[L.RFLAGS_SYS >> 2]!;
	}

	get cr0(): number {
		return this.u32[L.CR0 >> 2]!;
	}

	get cr4(): number {
		return this.u32[L.CR4 >> 2]!;
	}

	get efer(): number {
		return this.u32[L.EFER >> 2]!;
	}

	/** CR0.PE. */
	get protectedMode(): boolean {
		return (this.cr0 & 1) !== 0;
	}

	/** EFER.LMA. */
	get longMode(): boolean {
		return (this.efer & 0x400) !== 0;
	}

	/** EFER.LMA and CS.L. */
	get code64(): boolean {
		return this.longMode && (this.segmentAttributes(L.CS) & SEG_L) !== 0;
	}

	get virtual8086(): boolean {
		return (this.systemFlags & L.VM) !== 0;
	}

	segmentSelector(segment: number): number {
		return this.u32[(L.SEGMENTS + segment * L.SEGMENT_BYTES) >> 2]!;
	}

	/** Attributes in the layout of {@link SEG_L} and its neighbours. */
	segmentAttributes(segment: number): number {
		return this.u32[(L.SEGMENTS + segment * L.SEGMENT_BYTES + 4) >> 2]!;
	}

	/** Limit in bytes, granularity applied. */
	segmentLimit(segment: number): number {
		return this.u32[(L.SEGMENTS + segment * L.SEGMENT_BYTES + 8) >> 2]!;
	}

	segmentBase(segment: number): bigint {
		return this.u64[(L.SEGMENTS + segment * L.SEGMENT_BYTES + 16) >> 3]!;
	}

	/** Sets a segment register with its hidden part. `core.modeChanged` is the caller's, once all are set. */
	setSegment(segment: number, selector: number, attributes: number, limit: number, base: bigint): void {
		const at = (L.SEGMENTS + segment * L.SEGMENT_BYTES) >> 2;
		this.u32[at] = selector;
		this.u32[at + 1] = attributes;
		this.u32[at + 2] = limit;
		this.u64[(at + 4) >> 1] = base;
		if (segment < L.LDTR) this.u64[(L.SEG_BASE >> 3) + segment] = base;
		if (segment === L.CS) this.u32[L.CPL >> 2] = !this.protectedMode ? 0 : this.virtual8086 ? 3 : selector & 3;
	}
}

/** Segment attributes: the descriptor's second word shifted right by 8, its limit bits zero. */
export const SEG_TYPE = 0xf;
/** Code (type bit 3). */
export const SEG_CODE = 8;
/** Expand-down data, or conforming code. */
export const SEG_EXPAND_DOWN = 4;
/** Writable data, or readable code. */
export const SEG_WRITABLE = 2;
export const SEG_ACCESSED = 1;
/** Code or data. */
export const SEG_S = 0x10;
export const SEG_DPL_SHIFT = 5;
export const SEG_P = 0x80;
export const SEG_AVL = 0x1000;
export const SEG_L = 0x2000;
export const SEG_DB = 0x4000;
export const SEG_G = 0x8000;
/** Loaded with a null selector: any use faults. */
export const SEG_UNUSABLE = 0x10000;
