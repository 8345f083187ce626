/**
 * The interface of Linux 2.6.20's /dev/kvm (API version 2): request numbers, limits and layouts, as in its
 * include/linux/kvm.h. All structs are little-endian and passed by copy.
 *
 * Version 1 of the patches (October 2006) differs in this: KVM_RUN's struct has 48 bytes and its union at 24, without
 * interrupt windows, cr8 and apic_base; struct kvm_sregs has one pending vector in place of a bitmap; there are no exit
 * reasons 7 and 8, no MSR ioctls and no KVM_GET_API_VERSION.
 */

/** Request numbers (type AEh). */
export const CLASSIC = {
	KVM_GET_API_VERSION: 0xae01,
	KVM_RUN: 0xc048ae02,
	KVM_GET_REGS: 0xc098ae03,
	KVM_SET_REGS: 0x4098ae04,
	KVM_GET_SREGS: 0xc140ae05,
	KVM_SET_SREGS: 0x4140ae06,
	KVM_TRANSLATE: 0xc020ae07,
	KVM_INTERRUPT: 0x4008ae08,
	KVM_DEBUG_GUEST: 0x4050ae09,
	KVM_SET_MEMORY_REGION: 0x4018ae0a,
	KVM_CREATE_VCPU: 0x4004ae0b,
	KVM_GET_DIRTY_LOG: 0x4010ae0c,
	KVM_GET_MSRS: 0xc008ae0d,
	KVM_SET_MSRS: 0xc008ae0e,
	KVM_GET_MSR_INDEX_LIST: 0xc004ae0f,
} as const;

/** KVM_GET_API_VERSION's answer. */
export const CLASSIC_API_VERSION = 2;

/** What there is at most. */
export const CLASSIC_LIMITS = {
	vcpus: 1,
	memorySlots: 4,
	msrsAtOnce: 255,
	interruptVectors: 256,
	breakpoints: 4,
} as const;

/** kvm_run's exit_type. */
export const CLASSIC_EXIT_TYPE = { FAIL_ENTRY: 1, VM_EXIT: 2 } as const;

/** kvm_run's exit_reason. CPUID (3) never comes: today's KVM answers CPUID by itself. */
export const CLASSIC_EXIT = {
	UNKNOWN: 0,
	EXCEPTION: 1,
	IO: 2,
	CPUID: 3,
	DEBUG: 4,
	HLT: 5,
	MMIO: 6,
	IRQ_WINDOW_OPEN: 7,
	SHUTDOWN: 8,
} as const;

/** kvm_memory_region's flags. */
export const CLASSIC_LOG_DIRTY_PAGES = 1;

/** Bytes of each struct. */
export const CLASSIC_BYTES = {
	kvm_memory_region: 24,
	kvm_run: 72,
	kvm_regs: 152,
	kvm_sregs: 320,
	kvm_translation: 32,
	kvm_interrupt: 8,
	kvm_debug_guest: 80,
	kvm_dirty_log: 16,
	/** Its header; entries of 16 bytes follow: index, reserved, data. */
	kvm_msrs: 8,
	/** Its header; indices of 4 bytes follow. */
	kvm_msr_list: 4,
} as const;

/** Offsets in struct kvm_run. */
export const CLASSIC_RUN = {
	vcpu: 0,
	emulated: 4,
	mmioCompleted: 8,
	requestInterruptWindow: 12,
	exitType: 16,
	exitReason: 20,
	instructionLength: 24,
	readyForInterruptInjection: 28,
	ifFlag: 29,
	cr8: 32,
	apicBase: 40,
	/** KVM_EXIT_UNKNOWN and failed entries. */
	hardwareExitReason: 48,
	io: { direction: 48, size: 49, string: 50, stringDown: 51, rep: 52, port: 54, count: 56, address: 64, value: 64 },
	mmio: { physAddr: 48, data: 56, length: 64, isWrite: 68 },
} as const;

/** The nine MSRs that were saved, and the one that was emulated, in KVM_GET_MSR_INDEX_LIST's order. */
export const CLASSIC_MSRS: readonly number[] = [
	// SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, STAR, CSTAR, KERNEL_GS_BASE, SYSCALL_MASK, LSTAR, TSC; MISC_ENABLE
	0x174, 0x175, 0x176, 0xc000_0081, 0xc000_0083, 0xc000_0102, 0xc000_0084, 0xc000_0082, 0x10, 0x1a0,
];
