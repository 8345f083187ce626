import { bootRegs, gdtSegment, protectedModeSregs } from "./cpu-state.ts";
import { isElf, parseElf, physicalEntry } from "./elf.ts";
import { BootError } from "./errors.ts";
import { LAYOUT, PAGE_SIZE, pageUp } from "./layout.ts";
import { type BootRequest, elfSegments } from "./linux.ts";
import { requireRam, upperMemorySize } from "./memory-map.ts";
import type { BootPlan, BootSegment } from "./plan.ts";

const HEADER_MAGIC = 0x1bad_b002;
const BOOTLOADER_MAGIC = 0x2bad_b002n;
/** The header lies in the file's first 8 KiB. */
const SEARCH_SIZE = 8192;
const FLAG_VIDEO = 1 << 2;
const FLAG_ADDRESSES = 1 << 16;
/** Requirement bits (0 to 15) this loader knows: page-aligned modules and memory information. */
const KNOWN_REQUIREMENTS = 0x3;

const INFO_SIZE = 116;
const INFO_MEMORY = 1 << 0;
const INFO_COMMAND_LINE = 1 << 2;
const INFO_MODULES = 1 << 3;
const INFO_MEMORY_MAP = 1 << 6;
const INFO_LOADER_NAME = 1 << 9;
const MODULE_SIZE = 16;
const MAP_ENTRY_SIZE = 24;
const LOADER_NAME = "xkvm";

/** A multiboot 1 header (Multiboot Specification 0.6.96, section 3.1). */
export interface MultibootHeader {
	/** Offset in the file. */
	readonly offset: number;
	readonly flags: number;
	/** Given when the header itself says where to load; otherwise the file is an ELF. */
	readonly addresses: {
		readonly header: number;
		readonly loadStart: number;
		/** 0 = to the end of the file. */
		readonly loadEnd: number;
		/** 0 = no bss. */
		readonly bssEnd: number;
		readonly entry: number;
	} | null;
}

/** Finds the header, or gives undefined. */
export function findMultibootHeader(bytes: Uint8Array): MultibootHeader | undefined {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	const end = Math.min(bytes.length, SEARCH_SIZE);
	for (let offset = 0; offset + 12 <= end; offset += 4) {
		if (view.getUint32(offset, true) !== HEADER_MAGIC) continue;
		const flags = view.getUint32(offset + 4, true);
		if ((HEADER_MAGIC + flags + view.getUint32(offset + 8, true)) % 2 ** 32 !== 0) continue;
		const wantsAddresses = (flags & FLAG_ADDRESSES) !== 0;
		if (wantsAddresses && offset + 32 > bytes.length) return undefined;
		return {
			offset,
			flags,
			addresses: wantsAddresses
				? {
						header: view.getUint32(offset + 12, true),
						loadStart: view.getUint32(offset + 16, true),
						loadEnd: view.getUint32(offset + 20, true),
						bssEnd: view.getUint32(offset + 24, true),
						entry: view.getUint32(offset + 28, true),
					}
				: null,
		};
	}
	return undefined;
}

/**
 * Enters a multiboot 1 kernel: flat 32-bit protected mode, EBX on the information structure. The initrd becomes the one
 * module; it, the command line and the structure lie on the pages after the kernel.
 *
 * @throws BootError
 */
export function planMultiboot(file: Uint8Array, header: MultibootHeader, request: BootRequest): BootPlan {
	if (header.flags & 0xffff & ~KNOWN_REQUIREMENTS & ~FLAG_VIDEO) {
		throw new BootError(
			"UNSUPPORTED",
			`multiboot requirements 0x${(header.flags & 0xffff).toString(16)} include unknown ones`,
			header.flags,
		);
	}
	const { segments: kernel, entry } = load(file, header, request);
	const kernelEnd = Math.max(...kernel.map(({ physAddr, size }) => physAddr + size));
	const infoAddress = pageUp(Math.max(kernelEnd, LAYOUT.highMemory));
	const info = information(infoAddress, request);
	requireRam(request.memoryMap, infoAddress, info.size, "the multiboot information");
	const modules: BootSegment[] = [];
	if (request.initrd !== undefined && request.initrd.length > 0) {
		const { initrd, memoryMap } = request;
		const physAddr = infoAddress + pageUp(info.size);
		try {
			requireRam(memoryMap, physAddr, initrd.length, "the module");
		} catch (cause) {
			throw new BootError(
				"INITRD_DOES_NOT_FIT",
				`the initrd of ${initrd.length} bytes does not fit behind the kernel; give the guest more memory or use a smaller initrd`,
				initrd.length,
				{ cause },
			);
		}
		modules.push({ physAddr, bytes: initrd, size: initrd.length, name: "module" });
	}
	return {
		protocol: "multiboot",
		segments: [...kernel, info, ...modules, gdtSegment(32), firmwareStub(entry)],
		roms: [],
		regs: bootRegs({ rbx: BigInt(infoAddress), rip: BigInt(LAYOUT.firmwareStub) }),
		sregs: protectedModeSregs(),
	};
}

/** Both PICs' initialisation words, then masks that let IRQ 9 to 11 through: ports and values. */
const PIC_SETUP: readonly (readonly [port: number, value: number])[] = [
	[0x20, 0x11],
	[0xa0, 0x11],
	[0x21, 0x08],
	[0xa1, 0x70],
	[0x21, 0x04],
	[0xa1, 0x02],
	[0x21, 0x01],
	[0xa1, 0x01],
	[0x21, 0xfb],
	[0xa1, 0xf1],
];

/**
 * Multiboot kernels start behind a firmware, and those that go back to real mode count on what it left in the interrupt
 * controllers: vectors 8 and 70h. This code leaves the same, then loads EAX and goes to the kernel.
 */
function firmwareStub(entry: number): BootSegment {
	const code: number[] = [];
	for (const [port, value] of PIC_SETUP) code.push(0xb0, value, 0xe6, port);
	const view = new DataView(new ArrayBuffer(10));
	view.setUint8(0, 0xb8);
	view.setUint32(1, Number(BOOTLOADER_MAGIC), true);
	view.setUint8(5, 0xe9);
	view.setInt32(6, entry - (LAYOUT.firmwareStub + code.length + 10), true);
	const bytes = Uint8Array.from([...code, ...new Uint8Array(view.buffer)]);
	return { physAddr: LAYOUT.firmwareStub, bytes, size: bytes.length, name: "firmware stub" };
}

function load(
	file: Uint8Array,
	header: MultibootHeader,
	request: BootRequest,
): { segments: BootSegment[]; entry: number } {
	if (header.addresses === null) {
		if (!isElf(file)) {
			throw new BootError("UNSUPPORTED", "the multiboot file is no ELF and its header gives no load addresses");
		}
		const elf = parseElf(file);
		if (elf.bits !== 32) throw new BootError("UNSUPPORTED", "a multiboot 1 kernel must be a 32-bit ELF");
		return { segments: elfSegments(elf.segments, request.memoryMap), entry: physicalEntry(elf) };
	}
	const { header: headerAddress, loadStart, loadEnd, bssEnd, entry } = header.addresses;
	const from = header.offset - (headerAddress - loadStart);
	if (headerAddress < loadStart || from < 0) {
		throw new BootError("MALFORMED", "the multiboot header's load addresses do not contain the header", headerAddress);
	}
	const length = loadEnd === 0 ? file.length - from : loadEnd - loadStart;
	if (length <= 0) throw new BootError("MALFORMED", "the multiboot header loads nothing", loadEnd);
	if (from + length > file.length) {
		throw new BootError(
			"TRUNCATED",
			`the multiboot file is cut off: its image ends at byte ${from + length}, the file at ${file.length}`,
			file.length,
		);
	}
	const size = Math.max(length, bssEnd === 0 ? 0 : bssEnd - loadStart);
	requireRam(request.memoryMap, loadStart, size, "the kernel");
	if (entry < loadStart || entry >= loadStart + size) {
		throw new BootError("MALFORMED", `the multiboot entry point 0x${entry.toString(16)} lies outside the image`, entry);
	}
	return {
		segments: [{ physAddr: loadStart, bytes: file.subarray(from, from + length), size, name: "kernel" }],
		entry,
	};
}

/** The information structure (section 3.3) with its texts, module list and memory map behind it. */
function information(address: number, request: BootRequest): BootSegment {
	const text = new TextEncoder();
	const commandLine = text.encode(request.commandLine ?? "");
	const loaderName = text.encode(LOADER_NAME);
	const hasModule = request.initrd !== undefined && request.initrd.length > 0;
	const moduleOffset = INFO_SIZE;
	const mapOffset = moduleOffset + MODULE_SIZE;
	const mapSize = request.memoryMap.length * MAP_ENTRY_SIZE;
	const loaderNameOffset = mapOffset + mapSize;
	const commandLineOffset = loaderNameOffset + loaderName.length + 1;
	const size = commandLineOffset + commandLine.length + 1;
	const bytes = new Uint8Array(size);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME, true);
	view.setUint32(4, LAYOUT.ebda / 1024, true);
	view.setUint32(8, Math.floor(upperMemorySize(request.memoryMap) / 1024), true);
	view.setUint32(16, address + commandLineOffset, true);
	view.setUint32(20, hasModule ? 1 : 0, true);
	view.setUint32(24, address + moduleOffset, true);
	view.setUint32(44, mapSize, true);
	view.setUint32(48, address + mapOffset, true);
	view.setUint32(64, address + loaderNameOffset, true);
	if (hasModule) {
		const start = address + pageUp(size);
		view.setUint32(moduleOffset, start, true);
		view.setUint32(moduleOffset + 4, start + request.initrd!.length, true);
		view.setUint32(moduleOffset + 8, address + commandLineOffset, true);
	}
	request.memoryMap.forEach((range, i) => {
		const at = mapOffset + i * MAP_ENTRY_SIZE;
		view.setUint32(at, MAP_ENTRY_SIZE - 4, true);
		view.setBigUint64(at + 4, BigInt(range.start), true);
		view.setBigUint64(at + 12, BigInt(range.length), true);
		view.setUint32(at + 20, range.type, true);
	});
	bytes.set(loaderName, loaderNameOffset);
	bytes.set(commandLine, commandLineOffset);
	return { physAddr: address, bytes, size: Math.max(size, PAGE_SIZE), name: "multiboot information" };
}
