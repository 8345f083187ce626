import type { TableMemory } from "./paging.ts";

/** pvclock flag: readings on different vCPUs are of one clock. */
const TSC_STABLE = 1;

/** nanoseconds = ((ticks << shift) * multiplier) >> 32, a negative shift being one to the right. */
export interface TimeScale {
	readonly multiplier: number;
	readonly shift: number;
}

/** The scale from TSC ticks to nanoseconds, as pvclock has it: the multiplier keeps all of its 32 bits. */
export function timeScale(tscKhz: number): TimeScale {
	// 2^32 * 10^6 / kHz, brought below 2^32 with its top bit set.
	let multiplier = 1_000_000 / tscKhz;
	let shift = 0;
	while (multiplier >= 1) {
		multiplier /= 2;
		shift++;
	}
	while (multiplier < 0.5) {
		multiplier *= 2;
		shift--;
	}
	return { multiplier: Math.min(Math.round(multiplier * 0x1_0000_0000), 0xffff_ffff), shift };
}

/** What a pvclock page says: at `tsc` the clock showed `nanoseconds`. */
export interface ClockReading {
	readonly tsc: bigint;
	readonly nanoseconds: bigint;
	readonly tscKhz: number;
}

/**
 * Writes a struct pvclock_vcpu_time_info (32 bytes; linux: arch/x86/include/asm/pvclock-abi.h). Its version is odd while
 * it is being written.
 */
export function writeTimeInfo(memory: TableMemory, physical: number, reading: ClockReading): void {
	const scale = timeScale(reading.tscKhz);
	const version = (memory.read32(physical) | 1) >>> 0;
	memory.write32(physical, version);
	write64(memory, physical + 8, reading.tsc);
	write64(memory, physical + 16, reading.nanoseconds);
	memory.write32(physical + 24, scale.multiplier);
	memory.write32(physical + 28, (scale.shift & 0xff) | (TSC_STABLE << 8));
	memory.write32(physical, (version + 1) >>> 0);
}

/** Writes a struct pvclock_wall_clock: when the clock was 0. */
export function writeWallClock(memory: TableMemory, physical: number, nanoseconds: bigint): void {
	const version = (memory.read32(physical) | 1) >>> 0;
	memory.write32(physical, version);
	memory.write32(physical + 4, Number((nanoseconds / 1_000_000_000n) & 0xffff_ffffn));
	memory.write32(physical + 8, Number(nanoseconds % 1_000_000_000n));
	memory.write32(physical, (version + 1) >>> 0);
}

function write64(memory: TableMemory, physical: number, value: bigint): void {
	memory.write32(physical, Number(value & 0xffff_ffffn));
	memory.write32(physical + 4, Number((value >> 32n) & 0xffff_ffffn));
}
