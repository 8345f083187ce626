/** How guests are started: from the bytes of a kernel or of firmware to memory contents and registers. */
export { BootError, type BootErrorCode } from "./errors.ts";
export { planFirmware } from "./firmware.ts";
export { type Kernel, type KernelProtocol, kernelProtocols, loadKernel, planBoot } from "./kernel.ts";
export type { BootRequest } from "./linux.ts";
export { decompressPayload, type PayloadFormat, payloadFormat } from "./payload.ts";
export {
	applyBootPlan,
	type BootMemory,
	type BootPlan,
	type BootProtocol,
	type BootRom,
	type BootSegment,
	type BootSregs,
	type MemoryRange,
} from "./plan.ts";
export { type BzImage, parseBzImage } from "./setup-header.ts";
