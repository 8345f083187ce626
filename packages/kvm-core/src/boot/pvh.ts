import { commandLineSegment } from "./boot-params.ts";
import { bootRegs, gdtSegment, protectedModeSregs } from "./cpu-state.ts";
import type { Elf } from "./elf.ts";
import { BootError } from "./errors.ts";
import { LAYOUT } from "./layout.ts";
import { type BootRequest, elfSegments, initrdSegment } from "./linux.ts";
import { extents } from "./memory-map.ts";
import type { BootPlan, BootSegment } from "./plan.ts";

const START_MAGIC = 0x336e_c578;
const START_INFO_SIZE = 56;
const MODULE_SIZE = 32;
const MAP_ENTRY_SIZE = 24;
const INITRD_ADDR_MAX = 0x7fff_ffff;
const LONGEST_COMMAND_LINE = 2047;

/**
 * Enters an ELF by Xen's PVH note: flat 32-bit protected mode, EBX on hvm_start_info
 * (xen/include/public/arch-x86/hvm/start_info.h, version 1).
 *
 * @throws BootError
 */
export function planPvh(elf: Elf, request: BootRequest): BootPlan {
	if (elf.pvhEntry === undefined)
		throw new BootError("UNSUPPORTED", "the ELF has no PVH note (XEN_ELFNOTE_PHYS32_ENTRY)");
	const kernel = elfSegments(elf.segments, request.memoryMap);
	const initrd = initrdSegment(request, INITRD_ADDR_MAX, extents(kernel));
	return {
		protocol: "pvh",
		segments: [
			...kernel,
			...(initrd ? [initrd] : []),
			commandLineSegment(request.commandLine ?? "", LONGEST_COMMAND_LINE),
			startInfo(request, initrd),
			gdtSegment(32),
		],
		roms: [],
		regs: bootRegs({
			rip: BigInt(elf.pvhEntry),
			rbx: BigInt(LAYOUT.pvhStartInfo),
			rsp: BigInt(LAYOUT.stackTop),
		}),
		sregs: protectedModeSregs(),
	};
}

function startInfo(request: BootRequest, initrd: BootSegment | undefined): BootSegment {
	const moduleOffset = START_INFO_SIZE;
	const mapOffset = moduleOffset + MODULE_SIZE;
	const size = mapOffset + request.memoryMap.length * MAP_ENTRY_SIZE;
	if (LAYOUT.pvhStartInfo + size > LAYOUT.bootParams) {
		throw new BootError(
			"MALFORMED",
			`a memory map of ${request.memoryMap.length} ranges is too long`,
			request.memoryMap.length,
		);
	}
	const bytes = new Uint8Array(size);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, START_MAGIC, true);
	view.setUint32(4, 1, true);
	view.setUint32(12, initrd ? 1 : 0, true);
	view.setBigUint64(16, BigInt(initrd ? LAYOUT.pvhStartInfo + moduleOffset : 0), true);
	view.setBigUint64(24, BigInt(LAYOUT.commandLine), true);
	view.setBigUint64(32, BigInt(request.rsdpAddress ?? 0), true);
	view.setBigUint64(40, BigInt(LAYOUT.pvhStartInfo + mapOffset), true);
	view.setUint32(48, request.memoryMap.length, true);
	if (initrd) {
		view.setBigUint64(moduleOffset, BigInt(initrd.physAddr), true);
		view.setBigUint64(moduleOffset + 8, BigInt(initrd.size), true);
	}
	request.memoryMap.forEach(({ start, length, type }, i) => {
		const at = mapOffset + i * MAP_ENTRY_SIZE;
		view.setBigUint64(at, BigInt(start), true);
		view.setBigUint64(at + 8, BigInt(length), true);
		view.setUint32(at + 16, type, true);
	});
	return { physAddr: LAYOUT.pvhStartInfo, bytes, size, name: "hvm_start_info" };
}
