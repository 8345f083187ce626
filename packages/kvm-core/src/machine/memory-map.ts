import { MachineError } from "./errors.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** Where things are in guest-physical memory, the way a PC has them. */
export const LAYOUT = {
	/** End of conventional memory; the extended BIOS data area's 1 KiB lies under the hole. */
	ebda: 0x9_fc00,
	vgaHole: 0xa_0000,
	optionRoms: 0xc_0000,
	/** ACPI tables when no firmware makes its own. */
	acpi: 0xe_0000,
	acpiEnd: 0x10_0000,
	highMemory: 0x10_0000,
	/** RAM below 4 GiB ends here at the latest; PCI's window follows. */
	pciHole: 0xc000_0000,
	pciWindow: 0xe000_0000,
	pciWindowEnd: 0xfec0_0000,
	testDevice: 0xff00_0000,
	fourGib: 0x1_0000_0000,
} as const;

/** Largest RAM: one 32-bit Wasm memory also holds the engine's own tables. */
export const MAX_MEMORY_BYTES: number = 3 * GIB;
/** Smallest RAM: conventional memory and the first MiB above it. */
export const MIN_MEMORY_BYTES: number = 2 * MIB;

/** A stretch of RAM. */
export interface RamRange {
	start: number;
	length: number;
	/** Where it lies in the machine's host memory. */
	memoryOffset: number;
}

/** E820 types. */
export const E820 = { ram: 1, reserved: 2, acpi: 3, nvs: 4 } as const;

/** One entry of the map that firmware or boot protocols give the guest. */
export interface MemoryMapEntry {
	start: number;
	length: number;
	type: number;
}

/**
 * RAM ranges of a machine with `memoryBytes`: conventional memory, the BIOS area with what lies above 1 MiB, and what does
 * not fit under the PCI hole above 4 GiB. The 128 KiB behind the VGA hole are lost, as on a PC.
 *
 * @throws MachineError ERR_MACHINE_MEMORY_SIZE
 */
export function planRam(memoryBytes: number): RamRange[] {
	if (
		!Number.isInteger(memoryBytes) ||
		memoryBytes % 4096 !== 0 ||
		memoryBytes < MIN_MEMORY_BYTES ||
		memoryBytes > MAX_MEMORY_BYTES
	) {
		throw new MachineError(
			"ERR_MACHINE_MEMORY_SIZE",
			`memory of ${memoryBytes} bytes: from ${MIN_MEMORY_BYTES} to ${MAX_MEMORY_BYTES} (${MAX_MEMORY_BYTES / MIB} MiB), whole pages`,
			memoryBytes,
		);
	}
	const low = Math.min(memoryBytes, LAYOUT.pciHole);
	const ranges: RamRange[] = [
		{ start: 0, length: LAYOUT.vgaHole, memoryOffset: 0 },
		{ start: LAYOUT.optionRoms, length: low - LAYOUT.optionRoms, memoryOffset: LAYOUT.optionRoms },
	];
	if (memoryBytes > low) ranges.push({ start: LAYOUT.fourGib, length: memoryBytes - low, memoryOffset: low });
	return ranges;
}

/** The memory map for a guest booted without firmware. */
export function makeMemoryMap(memoryBytes: number): MemoryMapEntry[] {
	const low = Math.min(memoryBytes, LAYOUT.pciHole);
	const map: MemoryMapEntry[] = [
		{ start: 0, length: LAYOUT.ebda, type: E820.ram },
		{ start: LAYOUT.ebda, length: LAYOUT.vgaHole - LAYOUT.ebda, type: E820.reserved },
		{ start: LAYOUT.acpi, length: LAYOUT.acpiEnd - LAYOUT.acpi, type: E820.reserved },
		{ start: LAYOUT.highMemory, length: low - LAYOUT.highMemory, type: E820.ram },
	];
	if (memoryBytes > low) map.push({ start: LAYOUT.fourGib, length: memoryBytes - low, type: E820.ram });
	return map;
}
