/**
 * /dev/kvm's objects over two engines: the real device, and a software x86-64 engine that runs anywhere; and the
 * machine around them.
 *
 * @packageDocumentation
 */

export * from "./boot/index.ts";
export * from "./client/index.ts";
export { ERRNO, type KvmErrno, KvmError } from "./kvm/errors.ts";
export { type OpenKvmOptions, openKvm } from "./kvm/open-kvm.ts";
export type {
	CoalescedWrite,
	CoalescedZone,
	EnableCap,
	GuestMemfd,
	KvmDevice,
	KvmStats,
	MemoryRegion2,
	OptionalKvmOperations,
	OptionalVcpuOperations,
	OptionalVmOperations,
	Sregs2,
} from "./kvm/optional.ts";
export type * from "./kvm/types.ts";
export * from "./machine/index.ts";
export * from "./share/index.ts";
export type { TimeSource } from "./software/clock.ts";
