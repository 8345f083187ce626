import { BootError } from "./errors.ts";
import { LAYOUT, pageDown } from "./layout.ts";
import { type BootSegment, E820_RAM, type MemoryRange } from "./plan.ts";

const TABLE_ENTRY_SIZE = 20;
const FOUR_GIB = 0x1_0000_0000;

/** The memory map as 20-byte E820 entries: address, size, type. */
export function e820Table(map: readonly MemoryRange[]): Uint8Array {
	const bytes = new Uint8Array(map.length * TABLE_ENTRY_SIZE);
	const view = new DataView(bytes.buffer);
	map.forEach(({ start, length, type }, i) => {
		view.setBigUint64(i * TABLE_ENTRY_SIZE, BigInt(start), true);
		view.setBigUint64(i * TABLE_ENTRY_SIZE + 8, BigInt(length), true);
		view.setUint32(i * TABLE_ENTRY_SIZE + 16, type, true);
	});
	return bytes;
}

/** RAM from 1 MiB up without a gap, in bytes: what multiboot and INT 15h count as upper memory. */
export function upperMemorySize(map: readonly MemoryRange[]): number {
	const range = map.find(
		({ type, start, length }) => type === E820_RAM && start <= LAYOUT.highMemory && start + length > LAYOUT.highMemory,
	);
	return range === undefined ? 0 : Math.min(range.start + range.length, FOUR_GIB) - LAYOUT.highMemory;
}

function insideRam(map: readonly MemoryRange[], start: number, size: number): boolean {
	return map.some(
		(range) => range.type === E820_RAM && start >= range.start && start + size <= range.start + range.length,
	);
}

/**
 * @throws BootError KERNEL_DOES_NOT_FIT when the stretch is not all RAM
 */
export function requireRam(map: readonly MemoryRange[], start: number, size: number, what: string): void {
	if (size === 0 || insideRam(map, start, size)) return;
	const end = start + size;
	throw new BootError(
		"KERNEL_DOES_NOT_FIT",
		`${what} needs memory at 0x${start.toString(16)}-0x${end.toString(16)}, which the guest does not have; give it more than ${Math.ceil(end / 2 ** 20)} MiB`,
		end,
	);
}

/** A stretch of guest memory. */
export interface Extent {
	readonly start: number;
	readonly size: number;
}

/** The extents of segments, for {@link placeInitrd}. */
export function extents(segments: readonly BootSegment[]): Extent[] {
	return segments.map(({ physAddr, size }) => ({ start: physAddr, size }));
}

/**
 * Finds the highest page below `limit` where an initrd lies in RAM, above 1 MiB and clear of everything in `occupied`.
 *
 * @param limit - first address the initrd must not reach
 * @throws BootError INITRD_DOES_NOT_FIT
 */
export function placeInitrd(
	map: readonly MemoryRange[],
	size: number,
	limit: number,
	occupied: readonly Extent[],
): number {
	let best = -1;
	for (const range of map) {
		if (range.type !== E820_RAM) continue;
		const bottom = Math.max(range.start, LAYOUT.highMemory);
		const top = Math.min(range.start + range.length, limit, FOUR_GIB);
		// The only candidates are right below the top and right below each thing in the way.
		for (const candidate of [top, ...occupied.map(({ start }) => Math.min(start, top))]) {
			const start = pageDown(candidate - size);
			const clear = occupied.every((taken) => start + size <= taken.start || start >= taken.start + taken.size);
			if (start >= bottom && clear && start > best) best = start;
		}
	}
	if (best < 0) {
		throw new BootError(
			"INITRD_DOES_NOT_FIT",
			`the initrd of ${size} bytes does not fit beside the kernel; give the guest more memory or use a smaller initrd`,
			size,
		);
	}
	return best;
}

/**
 * Checks that nothing in a plan overwrites anything else.
 *
 * @throws BootError UNSUPPORTED naming both
 */
export function requireDisjoint(segments: readonly BootSegment[]): void {
	const sorted = segments.filter(({ size }) => size > 0).sort((a, b) => a.physAddr - b.physAddr);
	for (const [i, { physAddr, size, name }] of sorted.entries()) {
		const next = sorted[i + 1];
		if (next === undefined || physAddr + size <= next.physAddr) continue;
		throw new BootError(
			"UNSUPPORTED",
			`the ${name} at 0x${physAddr.toString(16)} overlaps the ${next.name} at 0x${next.physAddr.toString(16)}`,
			next.physAddr,
		);
	}
}
