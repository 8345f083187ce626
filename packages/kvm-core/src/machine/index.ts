/** A PC around KVM's objects: memory map, devices, ACPI, virtio, and the loop that runs its vCPUs. */
export type { Board, BoardEvent, BoardState } from "./board.ts";
export { MachineError, type MachineErrorCode } from "./errors.ts";
export type { GuestRam } from "./guest-ram.ts";
export {
	createMachine,
	type Machine,
	type MachineExit,
	type MachineOptions,
	type MachineRom,
	type MachineState,
} from "./machine.ts";
export { MAX_MEMORY_BYTES, type MemoryMapEntry, MIN_MEMORY_BYTES } from "./memory-map.ts";
export { createEventLoopScheduler, type MachineScheduler } from "./scheduler.ts";
export {
	type BlockBackend,
	MemoryBlockBackend,
	type SyncBlockBackend,
	VirtioBlock,
	type VirtioBlockOptions,
	type VirtioBlockState,
} from "./virtio/block.ts";
export { type BlockRate, limitBlockRate, type RateClock } from "./virtio/block-rate.ts";
export { type ConsolePort, VirtioConsole } from "./virtio/console.ts";
export type { VirtioDevice, VirtioTransport } from "./virtio/device.ts";
export {
	VirtioNet,
	type VirtioNetOptions,
	type VirtioNetState,
	type VirtioNetStats,
} from "./virtio/net/net.ts";
export {
	type ClusterState,
	type ClusterStore,
	MemoryClusterStore,
	OverlayBlockBackend,
	type OverlayOptions,
} from "./virtio/overlay.ts";
export { PagedBitmap } from "./virtio/paged-bitmap.ts";
export { VirtioRng } from "./virtio/rng.ts";
export { VirtioFs, type VirtioFsOptions } from "./virtio/share/fs.ts";
export { Virtio9p, type Virtio9pOptions } from "./virtio/share/p9.ts";
