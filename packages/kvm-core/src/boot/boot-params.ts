import { BootError } from "./errors.ts";
import { LAYOUT } from "./layout.ts";
import { e820Table } from "./memory-map.ts";
import type { BootSegment, MemoryRange } from "./plan.ts";
import { BOOT_FLAG, type BzImage, HEADER_MAGIC, LOADFLAG_LOADED_HIGH, SETUP } from "./setup-header.ts";

const BOOT_PARAMS_SIZE = 0x1000;
const ACPI_RSDP_ADDR = 0x070;
const E820_ENTRIES = 0x1e8;
const E820_TABLE = 0x2d0;
const E820_MAX_ENTRIES = 128;
/** "Undefined boot loader" (boot.rst, type_of_loader). */
const LOADER_UNDEFINED = 0xff;
/** COMMAND_LINE_SIZE of x86 is 2048, the terminating zero included. */
const LONGEST_COMMAND_LINE = 2047;

/** What a Linux kernel is handed besides itself. */
export interface LinuxParams {
	readonly memoryMap: readonly MemoryRange[];
	readonly commandLine: string;
	readonly initrd?: { readonly address: number; readonly size: number };
	/** Where the ACPI root pointer is; without it Linux scans for it below 1 MiB. */
	readonly rsdpAddress?: number;
}

/**
 * The command line as a zero-terminated segment. Anything outside Latin-1 travels as UTF-8.
 *
 * @param longest - bytes it may have, without the zero
 * @throws BootError COMMAND_LINE_TOO_LONG
 */
export function commandLineSegment(
	commandLine: string,
	longest: number,
	address: number = LAYOUT.commandLine,
): BootSegment {
	const text = new TextEncoder().encode(commandLine);
	if (text.length > longest) {
		throw new BootError(
			"COMMAND_LINE_TOO_LONG",
			`the command line has ${text.length} bytes and the guest takes at most ${longest}`,
			text.length,
		);
	}
	const bytes = new Uint8Array(text.length + 1);
	bytes.set(text);
	return { physAddr: address, bytes, size: bytes.length, name: "command line" };
}

/**
 * The zero page and the command line it points to.
 *
 * @param image - whose setup header to carry over; without one (a bare ELF) a header is made up
 * @throws BootError COMMAND_LINE_TOO_LONG, or MALFORMED for a memory map of more than 128 ranges
 */
export function bootParams(params: LinuxParams, image?: BzImage): BootSegment[] {
	const bytes = new Uint8Array(BOOT_PARAMS_SIZE);
	const view = new DataView(bytes.buffer);
	if (image !== undefined) {
		bytes.set(image.setup.subarray(SETUP.setupSects, image.headerEnd), SETUP.setupSects);
	} else {
		view.setUint16(SETUP.bootFlag, BOOT_FLAG, true);
		view.setUint32(SETUP.header, HEADER_MAGIC, true);
		view.setUint16(SETUP.version, 0x020c, true);
		bytes[SETUP.loadflags] = LOADFLAG_LOADED_HIGH;
		view.setUint32(SETUP.kernelAlignment, 0x100_0000, true);
	}
	bytes[SETUP.typeOfLoader] = LOADER_UNDEFINED;
	view.setUint32(SETUP.cmdLinePtr, LAYOUT.commandLine, true);
	if (params.initrd !== undefined) {
		view.setUint32(SETUP.ramdiskImage, params.initrd.address, true);
		view.setUint32(SETUP.ramdiskSize, params.initrd.size, true);
	}
	if (params.rsdpAddress !== undefined) view.setBigUint64(ACPI_RSDP_ADDR, BigInt(params.rsdpAddress), true);
	if (params.memoryMap.length > E820_MAX_ENTRIES) {
		throw new BootError(
			"MALFORMED",
			`a memory map of ${params.memoryMap.length} ranges has more than ${E820_MAX_ENTRIES}`,
			params.memoryMap.length,
		);
	}
	bytes[E820_ENTRIES] = params.memoryMap.length;
	bytes.set(e820Table(params.memoryMap), E820_TABLE);
	return [
		{ physAddr: LAYOUT.bootParams, bytes, size: bytes.length, name: "boot_params" },
		commandLineSegment(params.commandLine, image?.cmdlineSize ?? LONGEST_COMMAND_LINE),
	];
}
