import { KvmError } from "./errors.ts";
import type { CapabilityName, CpuidEntry, MemoryRegion, MsrEntry, Sregs } from "./types.ts";

/**
 * Operations of KVM API 12 that an engine may lack: it then throws KvmError ENOTTY, as a kernel without them does. The
 * software engine lacks what only makes sense for a processor or a kernel.
 */

/** Statistics by the kernel's names, e.g. `exits`, `io_exits`, `pf_fixed`. */
export type KvmStats = Readonly<Record<string, bigint>>;

/** An argument of KVM_ENABLE_CAP. */
export interface EnableCap {
	capability: CapabilityName;
	/** KVM_ENABLE_CAP's flags. @default 0 */
	flags?: number;
	/** Up to four. */
	args?: readonly bigint[];
}

/** A stretch of addresses whose writes need not leave KVM_RUN one by one. */
export interface CoalescedZone {
	address: number;
	size: number;
	space: "mmio" | "pio";
}

/** A write that was kept back for a {@link CoalescedZone}. */
export interface CoalescedWrite {
	address: number;
	space: "mmio" | "pio";
	data: Uint8Array;
}

/** An in-kernel device (KVM_CREATE_DEVICE). `value` is what the attribute's pointer points to. */
export interface KvmDevice {
	hasAttr(group: number, attr: bigint): boolean;
	setAttr(group: number, attr: bigint, value: Uint8Array): void;
	/** Fills `value`. */
	getAttr(group: number, attr: bigint, value: Uint8Array): void;
	close(): void;
}

/** Memory that only the guest can see (KVM_CREATE_GUEST_MEMFD). */
export interface GuestMemfd {
	readonly fd: number;
	readonly size: number;
	close(): void;
}

/** KVM_SET_USER_MEMORY_REGION2's addition. */
export interface MemoryRegion2 extends MemoryRegion {
	guestMemfd?: GuestMemfd;
	guestMemfdOffset?: number;
}

/** System registers with PAE's page-directory pointers (struct kvm_sregs2). */
export interface Sregs2 extends Omit<Sregs, "interruptBitmap"> {
	/** Present when PAE paging is on. */
	pdptrs?: [bigint, bigint, bigint, bigint];
}

/** Of the system. */
export interface OptionalKvmOperations {
	getEmulatedCpuid(): CpuidEntry[];
	/** MSRs that describe the host's features. */
	getMsrFeatureIndexList(): number[];
	/** Values of feature MSRs; stops at the first index it does not know. */
	getMsrs(indices: readonly number[]): MsrEntry[];
}

/** Of a VM. */
export interface OptionalVmOperations {
	/** Bytes of a vCPU's run page and what is mapped behind it. */
	getRunSize(): number;
	enableCap(cap: EnableCap): void;
	/** Lets go of the pages whose bit is set: with manual dirty-log protection, reading alone clears nothing. */
	clearDirtyLog(slot: number, firstPage: number, pages: number, bitmap: Uint8Array): void;
	setBootCpuId(id: number): void;
	/** Whether the PIT's lost ticks are given later. */
	setReinject(on: boolean): void;
	createDevice(type: number, flags?: number): KvmDevice;
	createGuestMemfd(size: number, flags?: bigint): GuestMemfd;
	setUserMemoryRegion2(region: MemoryRegion2): void;
	setMemoryAttributes(range: { address: number; size: number; attributes: bigint }): void;
	registerCoalescedMmio(zone: CoalescedZone): void;
	unregisterCoalescedMmio(zone: CoalescedZone): void;
	/** KVM_MEMORY_ENCRYPT_OP, `command` in and out. */
	encryptOp(command: Uint8Array): void;
	registerEncMemoryRegion(region: { address: bigint; size: number }): void;
	unregisterEncMemoryRegion(region: { address: bigint; size: number }): void;
	getStats(): KvmStats;
}

/** Of a vCPU. */
export interface OptionalVcpuOperations {
	enableCap(cap: EnableCap): void;
	/** By KVM's register number. */
	getOneReg(id: bigint, bytes: number): Uint8Array;
	setOneReg(id: bigint, value: Uint8Array): void;
	getRegList(): bigint[];
	/** Tells the guest that it was stopped, so that its watchdogs are not alarmed. */
	kvmclockCtrl(): void;
	/** A system-management interrupt. */
	smi(): void;
	getSregs2(): Sregs2;
	setSregs2(sregs: Readonly<Sregs2>): void;
	/** The oldest write that was kept back, or undefined. */
	readCoalescedMmio(): CoalescedWrite | undefined;
	getStats(): KvmStats;
}

function lacks(syscall: string): never {
	throw new KvmError("ENOTTY", syscall, "this engine has no such operation");
}

/** A system without the options. */
export abstract class KvmWithoutOptions implements OptionalKvmOperations {
	/** Nothing is emulated that is not supported. */
	getEmulatedCpuid(): CpuidEntry[] {
		return [];
	}

	getMsrFeatureIndexList(): number[] {
		return [];
	}

	getMsrs(_indices: readonly number[]): MsrEntry[] {
		return [];
	}
}

/** A VM without the options. */
export abstract class VmWithoutOptions implements OptionalVmOperations {
	getRunSize(): number {
		return 4096;
	}

	enableCap({ capability }: EnableCap): void {
		throw new KvmError("EINVAL", "KVM_ENABLE_CAP", `this engine cannot turn on ${capability}`);
	}

	clearDirtyLog(_slot: number, _firstPage: number, _pages: number, _bitmap: Uint8Array): void {
		lacks("KVM_CLEAR_DIRTY_LOG");
	}

	setBootCpuId(_id: number): void {
		lacks("KVM_SET_BOOT_CPU_ID");
	}

	setReinject(_on: boolean): void {
		lacks("KVM_REINJECT_CONTROL");
	}

	createDevice(_type: number, _flags?: number): KvmDevice {
		return lacks("KVM_CREATE_DEVICE");
	}

	createGuestMemfd(_size: number, _flags?: bigint): GuestMemfd {
		return lacks("KVM_CREATE_GUEST_MEMFD");
	}

	setUserMemoryRegion2(_region: MemoryRegion2): void {
		lacks("KVM_SET_USER_MEMORY_REGION2");
	}

	setMemoryAttributes(_range: { address: number; size: number; attributes: bigint }): void {
		lacks("KVM_SET_MEMORY_ATTRIBUTES");
	}

	registerCoalescedMmio(_zone: CoalescedZone): void {
		lacks("KVM_REGISTER_COALESCED_MMIO");
	}

	unregisterCoalescedMmio(_zone: CoalescedZone): void {
		lacks("KVM_UNREGISTER_COALESCED_MMIO");
	}

	encryptOp(_command: Uint8Array): void {
		lacks("KVM_MEMORY_ENCRYPT_OP");
	}

	registerEncMemoryRegion(_region: { address: bigint; size: number }): void {
		lacks("KVM_MEMORY_ENCRYPT_REG_REGION");
	}

	unregisterEncMemoryRegion(_region: { address: bigint; size: number }): void {
		lacks("KVM_MEMORY_ENCRYPT_UNREG_REGION");
	}

	getStats(): KvmStats {
		return {};
	}
}

/** A vCPU without the options. */
export abstract class VcpuWithoutOptions implements OptionalVcpuOperations {
	enableCap({ capability }: EnableCap): void {
		throw new KvmError("EINVAL", "KVM_ENABLE_CAP", `this engine cannot turn on ${capability}`);
	}

	getOneReg(_id: bigint, _bytes: number): Uint8Array {
		return lacks("KVM_GET_ONE_REG");
	}

	setOneReg(_id: bigint, _value: Uint8Array): void {
		lacks("KVM_SET_ONE_REG");
	}

	getRegList(): bigint[] {
		return lacks("KVM_GET_REG_LIST");
	}

	kvmclockCtrl(): void {
		lacks("KVM_KVMCLOCK_CTRL");
	}

	smi(): void {
		lacks("KVM_SMI");
	}

	getSregs2(): Sregs2 {
		return lacks("KVM_GET_SREGS2");
	}

	setSregs2(_sregs: Readonly<Sregs2>): void {
		lacks("KVM_SET_SREGS2");
	}

	readCoalescedMmio(): CoalescedWrite | undefined {
		return lacks("KVM_REGISTER_COALESCED_MMIO");
	}

	abstract getStats(): KvmStats;
}
