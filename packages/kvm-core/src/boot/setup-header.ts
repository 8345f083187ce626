import { BootError } from "./errors.ts";

/** Offsets in boot_params and, equally, in a bzImage (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"). */
export const SETUP = {
	setupSects: 0x1f1,
	syssize: 0x1f4,
	vidMode: 0x1fa,
	bootFlag: 0x1fe,
	jump: 0x200,
	header: 0x202,
	version: 0x206,
	kernelVersion: 0x20e,
	typeOfLoader: 0x210,
	loadflags: 0x211,
	code32Start: 0x214,
	ramdiskImage: 0x218,
	ramdiskSize: 0x21c,
	heapEndPtr: 0x224,
	cmdLinePtr: 0x228,
	initrdAddrMax: 0x22c,
	kernelAlignment: 0x230,
	relocatable: 0x234,
	xloadflags: 0x236,
	cmdlineSize: 0x238,
	payloadOffset: 0x248,
	payloadLength: 0x24c,
	prefAddress: 0x258,
	initSize: 0x260,
} as const;

export const LOADFLAG_LOADED_HIGH = 0x01;
export const LOADFLAG_CAN_USE_HEAP = 0x80;
export const XLF_KERNEL_64 = 0x01;
export const HEADER_MAGIC = 0x5372_6448;
export const BOOT_FLAG = 0xaa55;

const SECTOR = 512;
/** Protocol 2.10 (Linux 2.6.31) brought the last field every way of booting needs, init_size. */
const OLDEST_PROTOCOL = 0x020a;
const DEFAULT_INITRD_ADDR_MAX = 0x37ff_ffff;

/** A bzImage taken apart; the arrays are windows on the file. */
export interface BzImage {
	/** Boot protocol, e.g. 0x020f. */
	readonly version: number;
	/** The kernel's own version text. */
	readonly kernelVersion: string;
	/** Boot sector and setup code. */
	readonly setup: Uint8Array;
	/** The setup header, from its first field to where its length byte says it ends. */
	readonly headerEnd: number;
	/** Protected-mode code: decompressor and payload. */
	readonly system: Uint8Array;
	/** The compressed kernel inside `system`, with the four size bytes the build appends. */
	readonly payload: Uint8Array;
	readonly payloadOffset: number;
	/** It has the 64-bit entry at 200h of `system`. */
	readonly is64Bit: boolean;
	readonly relocatable: boolean;
	readonly kernelAlignment: number;
	readonly prefAddress: number;
	/** Bytes the kernel needs from its load address on before it reads the memory map. */
	readonly initSize: number;
	/** Highest address an initrd's last byte may have. */
	readonly initrdAddrMax: number;
	/** Longest command line, without the terminating zero. */
	readonly cmdlineSize: number;
}

export function isBzImage(bytes: Uint8Array): boolean {
	if (bytes.length < SETUP.version) return false;
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	return view.getUint16(SETUP.bootFlag, true) === BOOT_FLAG && view.getUint32(SETUP.header, true) === HEADER_MAGIC;
}

/**
 * Takes a bzImage apart.
 *
 * @throws BootError TRUNCATED, MALFORMED or UNSUPPORTED (older than boot protocol 2.10, or a zImage)
 */
export function parseBzImage(bytes: Uint8Array): BzImage {
	if (!isBzImage(bytes)) throw new BootError("NOT_A_KERNEL", "no bzImage: it lacks the signature HdrS at 202h");
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	if (bytes.length < SETUP.initSize + 4) throw cutOff("the setup header", SETUP.initSize + 4, bytes.length);
	const version = view.getUint16(SETUP.version, true);
	if (version < OLDEST_PROTOCOL) {
		throw new BootError(
			"UNSUPPORTED",
			`boot protocol ${version >> 8}.${String(version & 0xff).padStart(2, "0")} is older than 2.10 (Linux 2.6.31)`,
			version,
		);
	}
	if ((bytes[SETUP.loadflags]! & LOADFLAG_LOADED_HIGH) === 0) {
		throw new BootError(
			"UNSUPPORTED",
			"a zImage (loaded low) is not supported; build a bzImage",
			bytes[SETUP.loadflags]!,
		);
	}
	const setupSize = ((bytes[SETUP.setupSects]! || 4) + 1) * SECTOR;
	const systemSize = view.getUint32(SETUP.syssize, true) * 16;
	// syssize counts paragraphs; builds have been seen to round it up past the end of the file.
	if (setupSize + systemSize - 16 >= bytes.length) throw cutOff("the kernel", setupSize + systemSize, bytes.length);
	const headerEnd = SETUP.header + bytes[SETUP.jump + 1]!;
	if (headerEnd < SETUP.initSize + 4 || headerEnd > 0x290) {
		throw new BootError(
			"MALFORMED",
			`the setup header ends at 0x${headerEnd.toString(16)}, which is no place for it`,
			headerEnd,
		);
	}
	const system = bytes.subarray(setupSize, Math.min(bytes.length, setupSize + systemSize));
	const payloadOffset = view.getUint32(SETUP.payloadOffset, true);
	const payloadLength = view.getUint32(SETUP.payloadLength, true);
	if (payloadOffset + payloadLength > system.length) {
		throw new BootError(
			"MALFORMED",
			`the payload is said to end at byte ${payloadOffset + payloadLength} of ${system.length}`,
			payloadOffset + payloadLength,
		);
	}
	const prefAddress = view.getBigUint64(SETUP.prefAddress, true);
	if (prefAddress > 0xffff_ffffn) {
		throw new BootError(
			"UNSUPPORTED",
			`preferred load address 0x${prefAddress.toString(16)} is above 4 GiB`,
			prefAddress.toString(),
		);
	}
	return {
		version,
		kernelVersion: versionText(bytes, view.getUint16(SETUP.kernelVersion, true), setupSize),
		setup: bytes.subarray(0, setupSize),
		headerEnd,
		system,
		payload: system.subarray(payloadOffset, payloadOffset + payloadLength),
		payloadOffset,
		is64Bit: version >= 0x020c && (view.getUint16(SETUP.xloadflags, true) & XLF_KERNEL_64) !== 0,
		relocatable: bytes[SETUP.relocatable] !== 0,
		kernelAlignment: view.getUint32(SETUP.kernelAlignment, true),
		prefAddress: Number(prefAddress),
		initSize: view.getUint32(SETUP.initSize, true),
		initrdAddrMax: view.getUint32(SETUP.initrdAddrMax, true) || DEFAULT_INITRD_ADDR_MAX,
		cmdlineSize: view.getUint32(SETUP.cmdlineSize, true) || 255,
	};
}

function cutOff(what: string, wanted: number, length: number): BootError {
	return new BootError(
		"TRUNCATED",
		`the bzImage is cut off: ${what} ends at byte ${wanted}, the file at ${length}`,
		length,
	);
}

function versionText(bytes: Uint8Array, pointer: number, setupSize: number): string {
	const start = pointer + 0x200;
	if (pointer === 0 || start >= setupSize) return "";
	const end = bytes.subarray(start, Math.min(setupSize, start + 256)).indexOf(0);
	return String.fromCharCode(...bytes.subarray(start, start + (end < 0 ? 256 : end))).replace(/[^\x20-\x7e]/g, "?");
}
