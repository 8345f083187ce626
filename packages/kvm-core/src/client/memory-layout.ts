import type { GuestMemory, Vm } from "../kvm/types.ts";

/** A PC's hole: the VGA's memory and the ROMs of cards. */
export const HOLE = { start: 0xa0000, end: 0xc0000 } as const;

/** Memory with the hole at 640 KiB, as slots show it. */
export interface HoledMemory {
	readonly memory: GuestMemory;
	/** A live view by physical address. @throws RangeError in the hole or beyond the end */
	view(physAddr: number, length: number): Uint8Array;
	/** Puts a flat binary there. @throws RangeError where it does not fit */
	load(physAddr: number, binary: Uint8Array): void;
}

/** Slot numbers that {@link mapWithHole} takes, as QEMU's first port had them. */
export const HOLE_SLOTS = { low: 3, high: 0 } as const;

/**
 * Gives a VM `bytes` of memory from address 0 on in two slots, with nothing between 640 and 768 KiB: what is accessed
 * there comes out as memory-mapped I/O.
 *
 * @param bytes - up to where memory goes, the hole included; more than 768 KiB
 */
export function mapWithHole(vm: Vm, bytes: number): HoledMemory {
	if (bytes <= HOLE.end || bytes % 4096 !== 0) {
		throw new RangeError(`${bytes} bytes; whole pages and more than ${HOLE.end} are wanted`);
	}
	const memory = vm.createMemory(bytes);
	const show = (slot: number, start: number, end: number): void =>
		vm.setUserMemoryRegion({ slot, guestPhysAddr: start, memorySize: end - start, memory, memoryOffset: start });
	show(HOLE_SLOTS.low, 0, HOLE.start);
	show(HOLE_SLOTS.high, HOLE.end, bytes);
	const view = (physAddr: number, length: number): Uint8Array => {
		const end = physAddr + length;
		const inHole = physAddr < HOLE.end && end > HOLE.start;
		if (physAddr < 0 || length < 0 || end > bytes || inHole) {
			throw new RangeError(`${length} bytes at 0x${physAddr.toString(16)} are not all memory`);
		}
		return memory.view(physAddr, length);
	};
	return {
		memory,
		view,
		load(physAddr, binary) {
			view(physAddr, binary.length).set(binary);
			memory.written(physAddr, binary.length);
		},
	};
}
