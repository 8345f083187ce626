import { bootRegs, realModeSregs } from "./cpu-state.ts";
import { BootError } from "./errors.ts";
import { LAYOUT } from "./layout.ts";
import type { BootPlan } from "./plan.ts";

const FOUR_GIB = 0x1_0000_0000;
const BLOCK = 0x1_0000;
const LARGEST = 16 * 2 ** 20;
const LEGACY_WINDOW = 128 * 1024;
/** What CR0 holds after reset: caching off, ET. */
const CR0_RESET = 0x6000_0010n;
/** Family 6, as DX holds it after reset. */
const RESET_SIGNATURE = 0x600n;

/**
 * Starts firmware at the reset vector: the image as ROM right below 4 GiB, and its last 128 KiB once more below 1 MiB,
 * in RAM, where a PC's chipset shadows it.
 *
 * @throws BootError NOT_FIRMWARE unless the size is a multiple of 64 KiB and at most 16 MiB
 */
export function planFirmware(image: Uint8Array): BootPlan {
	if (image.length === 0 || image.length % BLOCK !== 0 || image.length > LARGEST) {
		throw new BootError(
			"NOT_FIRMWARE",
			`a firmware image has a multiple of 64 KiB and at most 16 MiB, not ${image.length} bytes`,
			image.length,
		);
	}
	if (image.subarray(image.length - 16).every((byte, _, all) => byte === all[0])) {
		throw new BootError("NOT_FIRMWARE", "there is no code at the reset vector, 16 bytes before the image's end");
	}
	const shadow = image.subarray(Math.max(0, image.length - LEGACY_WINDOW));
	return {
		protocol: "firmware",
		segments: [
			{ physAddr: LAYOUT.highMemory - shadow.length, bytes: shadow, size: shadow.length, name: "firmware shadow" },
		],
		roms: [{ physAddr: FOUR_GIB - image.length, bytes: image }],
		regs: bootRegs({ rip: 0xfff0n, rdx: RESET_SIGNATURE }),
		sregs: { ...realModeSregs(0xf000, 0, 0xffff_0000), cr0: CR0_RESET },
	};
}
