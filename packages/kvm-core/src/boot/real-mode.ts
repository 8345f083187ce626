import { commandLineSegment } from "./boot-params.ts";
import { bootRegs, realModeSregs } from "./cpu-state.ts";
import { BootError } from "./errors.ts";
import { LAYOUT } from "./layout.ts";
import { type BootRequest, initrdSegment } from "./linux.ts";
import { e820Table, requireRam } from "./memory-map.ts";
import type { BootPlan, BootSegment, MemoryRange } from "./plan.ts";
import { type BzImage, LOADFLAG_CAN_USE_HEAP, SETUP } from "./setup-header.ts";

/** "Leave the video mode alone" (arch/x86/boot/video.h, VIDEO_CURRENT_MODE). */
const CURRENT_VIDEO_MODE = 0x0f04;
const LOADER_UNDEFINED = 0xff;
/** boot.rst, "heap_end_ptr": offset from the setup code, less 0200h. */
const HEAP_END = LAYOUT.realModeCommandLine - LAYOUT.realModeSetup - 0x200;
const EBDA_SIZE = LAYOUT.conventionalEnd - LAYOUT.ebda;
const BDA = 0x400;

/**
 * Enters a bzImage as a boot loader on a PC does: setup sectors at 90000h, protected-mode code at 1 MiB, jump to the
 * setup code in real mode. That code calls the BIOS, of which as much is provided as it needs: INT 15h E820h with the
 * memory map; every other call fails the way an absent service does.
 *
 * @throws BootError
 */
export function planLinuxRealMode(image: BzImage, request: BootRequest): BootPlan {
	const kernel: BootSegment = {
		physAddr: LAYOUT.highMemory,
		bytes: image.system,
		size: image.system.length,
		name: "kernel",
	};
	requireRam(request.memoryMap, kernel.physAddr, kernel.size, "the kernel");
	const runtime = { start: image.prefAddress, size: image.initSize };
	requireRam(request.memoryMap, runtime.start, runtime.size, "the kernel");
	const initrd = initrdSegment(request, image.initrdAddrMax, [{ start: kernel.physAddr, size: kernel.size }, runtime]);
	const longest = Math.min(image.cmdlineSize, LAYOUT.ebda - LAYOUT.realModeCommandLine - 1);
	return {
		protocol: "linux-real",
		segments: [
			kernel,
			setupCode(image, initrd),
			commandLineSegment(request.commandLine ?? "", longest, LAYOUT.realModeCommandLine),
			...biosCalls(request.memoryMap),
			...(initrd ? [initrd] : []),
		],
		roms: [],
		regs: bootRegs({ rsp: BigInt(HEAP_END + 0x200) }),
		sregs: realModeSregs((LAYOUT.realModeSetup >> 4) + 0x20, LAYOUT.realModeSetup >> 4),
	};
}

function setupCode(image: BzImage, initrd: BootSegment | undefined): BootSegment {
	if (image.setup.length > HEAP_END) {
		throw new BootError(
			"UNSUPPORTED",
			`${image.setup.length} bytes of setup code leave no room for its heap`,
			image.setup.length,
		);
	}
	const bytes = image.setup.slice();
	const view = new DataView(bytes.buffer);
	view.setUint16(SETUP.vidMode, CURRENT_VIDEO_MODE, true);
	bytes[SETUP.typeOfLoader] = LOADER_UNDEFINED;
	bytes[SETUP.loadflags]! |= LOADFLAG_CAN_USE_HEAP;
	view.setUint32(SETUP.code32Start, LAYOUT.highMemory, true);
	view.setUint16(SETUP.heapEndPtr, HEAP_END, true);
	view.setUint32(SETUP.cmdLinePtr, LAYOUT.realModeCommandLine, true);
	view.setUint32(SETUP.ramdiskImage, initrd?.physAddr ?? 0, true);
	view.setUint32(SETUP.ramdiskSize, initrd?.size ?? 0, true);
	return { physAddr: LAYOUT.realModeSetup, bytes, size: bytes.length, name: "setup code" };
}

const lo = (n: number): number => n & 0xff;
const hi = (n: number): number => (n >> 8) & 0xff;

/** Interrupt vectors, BIOS data area, and the code and table behind INT 15h, which fill the extended BIOS data area. */
function biosCalls(map: readonly MemoryRange[]): BootSegment[] {
	const table = e820Table(map);
	const codeOffset = 0x10;
	const countOffset = 0x08;
	const tableOffset = 0x90;
	const size = tableOffset + table.length;
	if (size > EBDA_SIZE) {
		throw new BootError("MALFORMED", `a memory map of ${map.length} ranges is too long for INT 15h`, map.length);
	}
	// biome-ignore format: one instruction a line
	const int15 = [
		0x66, 0x3d, 0x20, 0xe8, 0x00, 0x00, // cmp eax, 0e820h
		0x75, 0x46, // jne fail
		0x66, 0x81, 0xfa, 0x50, 0x41, 0x4d, 0x53, // cmp edx, "SMAP"
		0x75, 0x3d, // jne fail
		0x2e, 0x66, 0x3b, 0x1e, lo(countOffset), hi(countOffset), // cmp ebx, [cs:count]
		0x73, 0x35, // jae fail
		0x1e, // push ds
		0x56, // push si
		0x57, // push di
		0x0e, // push cs
		0x1f, // pop ds
		0x89, 0xde, // mov si, bx
		0x6b, 0xf6, 0x14, // imul si, si, 20
		0x81, 0xc6, lo(tableOffset), hi(tableOffset), // add si, table
		0x66, 0xb9, 0x14, 0x00, 0x00, 0x00, // mov ecx, 20
		0xfc, // cld
		0xf3, 0xa4, // rep movsb
		0xb1, 0x14, // mov cl, 20
		0x5f, // pop di
		0x5e, // pop si
		0x1f, // pop ds
		0x66, 0x43, // inc ebx
		0x2e, 0x66, 0x3b, 0x1e, lo(countOffset), hi(countOffset), // cmp ebx, [cs:count]
		0x72, 0x03, // jb more
		0x66, 0x31, 0xdb, // xor ebx, ebx
		// more:
		0x66, 0x89, 0xd0, // mov eax, edx
		0x55, // push bp
		0x89, 0xe5, // mov bp, sp
		0x80, 0x66, 0x06, 0xfe, // and byte [bp + 6], 0feh: carry off in the caller's flags
		0x5d, // pop bp
		0xcf, // iret
		// fail:
		0xb4, 0x86, // mov ah, 86h
		0x55, // push bp
		0x89, 0xe5, // mov bp, sp
		0x80, 0x4e, 0x06, 0x01, // or byte [bp + 6], 1
		0x5d, // pop bp
		0xcf, // iret
	];
	const ebda = new Uint8Array(size);
	const ebdaView = new DataView(ebda.buffer);
	ebda[0] = EBDA_SIZE / 1024;
	// Every other vector: iret, with the caller's flags as they were.
	ebda[4] = 0xcf;
	ebdaView.setUint32(countOffset, map.length, true);
	ebda.set(int15, codeOffset);
	ebda.set(table, tableOffset);

	const segment = LAYOUT.ebda >> 4;
	const vectors = new Uint8Array(0x400);
	const vectorView = new DataView(vectors.buffer);
	for (let vector = 0; vector < 256; vector++) {
		vectorView.setUint16(vector * 4, vector === 0x15 ? codeOffset : 4, true);
		vectorView.setUint16(vector * 4 + 2, segment, true);
	}
	const bda = new Uint8Array(0x100);
	const bdaView = new DataView(bda.buffer);
	bdaView.setUint16(0x0e, segment, true);
	bdaView.setUint16(0x13, LAYOUT.ebda / 1024, true);
	return [
		{ physAddr: 0, bytes: vectors, size: vectors.length, name: "interrupt vectors" },
		{ physAddr: BDA, bytes: bda, size: bda.length, name: "BIOS data area" },
		{ physAddr: LAYOUT.ebda, bytes: ebda, size: ebda.length, name: "BIOS calls" },
	];
}
