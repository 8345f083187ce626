import { bootParams } from "./boot-params.ts";
import { bootRegs, gdtSegment, identityPageTables, longModeSregs, protectedModeSregs } from "./cpu-state.ts";
import { type Elf, type ElfSegment, physicalEntry } from "./elf.ts";
import { BootError } from "./errors.ts";
import { LAYOUT } from "./layout.ts";
import { type Extent, extents, placeInitrd, requireRam } from "./memory-map.ts";
import type { BootPlan, BootProtocol, BootSegment, MemoryRange } from "./plan.ts";
import type { BzImage } from "./setup-header.ts";

const ENTRY_64_OFFSET = 0x200;
const FOUR_GIB = 0x1_0000_0000;
/** What every kernel since 2.6.31 allows that says nothing of its own. */
const INITRD_ADDR_MAX = 0x7fff_ffff;

/** What a boot protocol is given. */
export interface BootRequest {
	/** All of the guest's memory, RAM and otherwise. */
	readonly memoryMap: readonly MemoryRange[];
	/** @default "" */
	readonly commandLine?: string;
	readonly initrd?: Uint8Array;
	/** Guest-physical address of the ACPI root pointer. */
	readonly rsdpAddress?: number;
}

/** PT_LOAD segments as boot segments, each checked to lie in RAM. */
export function elfSegments(segments: readonly ElfSegment[], map: readonly MemoryRange[]): BootSegment[] {
	return segments.map(({ physAddr, bytes, memSize }) => {
		requireRam(map, physAddr, memSize, "the kernel");
		return { physAddr, bytes, size: memSize, name: "kernel" };
	});
}

/**
 * @throws BootError INITRD_DOES_NOT_FIT
 */
export function initrdSegment(
	request: BootRequest,
	addrMax: number,
	occupied: readonly Extent[],
): BootSegment | undefined {
	const { initrd, memoryMap } = request;
	if (initrd === undefined || initrd.length === 0) return undefined;
	const physAddr = placeInitrd(memoryMap, initrd.length, addrMax + 1, occupied);
	return { physAddr, bytes: initrd, size: initrd.length, name: "initrd" };
}

function handOver(
	protocol: BootProtocol,
	request: BootRequest,
	kernel: readonly BootSegment[],
	runtime: readonly Extent[],
	entry: number,
	bits: 32 | 64,
	image?: BzImage,
): BootPlan {
	const initrd = initrdSegment(request, image?.initrdAddrMax ?? INITRD_ADDR_MAX, [...extents(kernel), ...runtime]);
	const segments = [
		...kernel,
		...bootParams(
			{
				memoryMap: request.memoryMap,
				commandLine: request.commandLine ?? "",
				...(initrd && { initrd: { address: initrd.physAddr, size: initrd.size } }),
				...(request.rsdpAddress !== undefined && { rsdpAddress: request.rsdpAddress }),
			},
			image,
		),
		...(initrd ? [initrd] : []),
		gdtSegment(bits),
	];
	if (bits === 64) segments.push(identityPageTables());
	return {
		protocol,
		segments,
		roms: [],
		regs: bootRegs({
			rip: BigInt(entry),
			rsi: BigInt(LAYOUT.bootParams),
			rsp: BigInt(LAYOUT.stackTop),
		}),
		sregs: bits === 64 ? longModeSregs() : protectedModeSregs(),
	};
}

/**
 * Enters the ELF that a bzImage's own decompressor would have made, in the state that decompressor leaves.
 *
 * @param payload - the decompressed payload; its relocations are not wanted where it lies at its linked address
 * @throws BootError
 */
export function planLinuxPayload(image: BzImage, payload: Elf, request: BootRequest): BootPlan {
	const runtime = { start: image.prefAddress, size: image.initSize };
	requireRam(request.memoryMap, runtime.start, runtime.size, "the kernel");
	const kernel = elfSegments(payload.segments, request.memoryMap);
	return handOver("linux-payload", request, kernel, [runtime], physicalEntry(payload), payload.bits, image);
}

/**
 * Enters a bzImage's protected-mode code, 64-bit where it has that entry, and leaves decompression to it.
 *
 * @throws BootError
 */
export function planLinuxEntry(image: BzImage, request: BootRequest): BootPlan {
	const loadAddress = image.relocatable ? image.prefAddress : LAYOUT.highMemory;
	const runtime = { start: loadAddress, size: Math.max(image.initSize, image.system.length) };
	requireRam(request.memoryMap, runtime.start, runtime.size, "the kernel");
	const kernel: BootSegment = { physAddr: loadAddress, bytes: image.system, size: image.system.length, name: "kernel" };
	const entry = loadAddress + (image.is64Bit ? ENTRY_64_OFFSET : 0);
	return handOver("linux-entry", request, [kernel], [runtime], entry, image.is64Bit ? 64 : 32, image);
}

/**
 * Enters a 64-bit ELF at its entry point, in long mode with the first 4 GiB identity-mapped and RSI on a Linux zero
 * page; an uncompressed Linux kernel takes it from there, and so does any flat program.
 *
 * @throws BootError
 */
export function planElf64(elf: Elf, request: BootRequest): BootPlan {
	if (elf.bits !== 64) {
		throw new BootError("UNSUPPORTED", "a 32-bit ELF needs a PVH note or a multiboot header to be entered by");
	}
	const entry = physicalEntry(elf);
	if (entry >= FOUR_GIB) {
		throw new BootError("UNSUPPORTED", `the ELF entry point 0x${entry.toString(16)} is above 4 GiB`, entry);
	}
	return handOver("elf64", request, elfSegments(elf.segments, request.memoryMap), [], entry, 64);
}
