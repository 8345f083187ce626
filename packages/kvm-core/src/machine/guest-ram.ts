import type { GuestMemory } from "../kvm/types.ts";
import { MachineError } from "./errors.ts";

/** A stretch of guest-physical addresses with RAM behind it. */
interface RamRegion {
	start: number;
	end: number;
	bytes: Uint8Array;
	view: DataView;
	memory: GuestMemory;
	memoryOffset: number;
}

/** Windows are at most this long, for `DataView`s and `Uint8Array`s past 4 GiB cannot be had everywhere. */
const MAX_WINDOW = 2 ** 31;

/**
 * What devices do memory accesses with: guest-physical addresses over the machine's RAM. Addresses come from the guest and
 * are never trusted: reads outside RAM give 0, writes are lost, `span` answers undefined.
 */
export class GuestRam {
	readonly #regions: RamRegion[] = [];
	#last: RamRegion | undefined;

	/** Adds RAM: `length` bytes of `memory` from `memoryOffset`, seen by the guest at `start`. */
	add(start: number, length: number, memory: GuestMemory, memoryOffset: number): void {
		for (let done = 0; done < length; done += MAX_WINDOW) {
			const size = Math.min(MAX_WINDOW, length - done);
			const bytes = memory.view(memoryOffset + done, size);
			this.#regions.push({
				start: start + done,
				end: start + done + size,
				bytes,
				view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
				memory,
				memoryOffset: memoryOffset + done,
			});
		}
	}

	/** Lets go of all RAM: nothing is there any more. */
	release(): void {
		this.#regions.length = 0;
		this.#last = undefined;
	}

	/** All RAM, in live windows. */
	windows(): readonly { readonly start: number; readonly bytes: Uint8Array }[] {
		return this.#regions.map(({ start, bytes }) => ({ start, bytes }));
	}

	/** Whether every byte of a range is RAM. */
	contains(address: number, length: number): boolean {
		while (length > 0) {
			const region = this.#find(address);
			if (region === undefined) return false;
			const here = region.end - address;
			address += here;
			length -= here;
		}
		return true;
	}

	/** A live window, or undefined when the range is not RAM or not in one piece; then go through `read` and `write`. */
	span(address: number, length: number): Uint8Array | undefined {
		const region = this.#find(address);
		if (region === undefined || address + length > region.end) return undefined;
		const at = address - region.start;
		return region.bytes.subarray(at, at + length);
	}

	/** A live window on as much of a range as is in one piece, from its start on; undefined when that is not RAM. */
	prefix(address: number, length: number): Uint8Array | undefined {
		const region = this.#find(address);
		return region && this.span(address, Math.min(length, region.end - address));
	}

	/** Says that a device wrote through a window of `span` or `prefix`. */
	written(address: number, length: number): void {
		const region = this.#find(address);
		if (region !== undefined) region.memory.written(region.memoryOffset + address - region.start, length);
	}

	/** Copies out of RAM. False, with the rest of `target` untouched, when it leaves RAM. */
	read(address: number, target: Uint8Array): boolean {
		let done = 0;
		while (done < target.length) {
			const region = this.#find(address + done);
			if (region === undefined) return false;
			const at = address + done - region.start;
			const size = Math.min(target.length - done, region.end - region.start - at);
			target.set(region.bytes.subarray(at, at + size), done);
			done += size;
		}
		return true;
	}

	/** Copies into RAM. False, with the bytes before written, when it leaves RAM. */
	write(address: number, source: Uint8Array): boolean {
		let done = 0;
		while (done < source.length) {
			const region = this.#find(address + done);
			if (region === undefined) return false;
			const at = address + done - region.start;
			const size = Math.min(source.length - done, region.end - region.start - at);
			region.bytes.set(source.subarray(done, done + size), at);
			region.memory.written(region.memoryOffset + at, size);
			done += size;
		}
		return true;
	}

	/**
	 * Copies into RAM what the embedder places there.
	 *
	 * @throws MachineError ERR_MACHINE_OUT_OF_GUEST_MEMORY
	 */
	load(address: number, source: Uint8Array): void {
		if (!this.write(address, source)) throw outside(address, source.length);
	}

	/**
	 * Clears RAM for the embedder.
	 *
	 * @throws MachineError ERR_MACHINE_OUT_OF_GUEST_MEMORY
	 */
	clear(address: number, length: number): void {
		let done = 0;
		while (done < length) {
			const region = this.#find(address + done);
			if (region === undefined) throw outside(address, length);
			const at = address + done - region.start;
			const size = Math.min(length - done, region.end - region.start - at);
			region.bytes.fill(0, at, at + size);
			region.memory.written(region.memoryOffset + at, size);
			done += size;
		}
	}

	readU16(address: number): number {
		const region = this.#find(address);
		if (region === undefined || address + 2 > region.end) return 0;
		return region.view.getUint16(address - region.start, true);
	}

	readU32(address: number): number {
		const region = this.#find(address);
		if (region === undefined || address + 4 > region.end) return 0;
		return region.view.getUint32(address - region.start, true);
	}

	/** A 64-bit value as a number; those of 2^53 and above lose low bits, and are no addresses either. */
	readU64(address: number): number {
		return this.readU32(address) + this.readU32(address + 4) * 0x1_0000_0000;
	}

	writeU8(address: number, value: number): void {
		const region = this.#find(address);
		if (region === undefined) return;
		region.bytes[address - region.start] = value;
		region.memory.written(region.memoryOffset + address - region.start, 1);
	}

	writeU16(address: number, value: number): void {
		const region = this.#find(address);
		if (region === undefined || address + 2 > region.end) return;
		region.view.setUint16(address - region.start, value, true);
		region.memory.written(region.memoryOffset + address - region.start, 2);
	}

	writeU32(address: number, value: number): void {
		const region = this.#find(address);
		if (region === undefined || address + 4 > region.end) return;
		region.view.setUint32(address - region.start, value, true);
		region.memory.written(region.memoryOffset + address - region.start, 4);
	}

	#find(address: number): RamRegion | undefined {
		const last = this.#last;
		if (last !== undefined && address >= last.start && address < last.end) return last;
		for (const region of this.#regions) {
			if (address >= region.start && address < region.end) return (this.#last = region);
		}
		return undefined;
	}
}

function outside(address: number, length: number): MachineError {
	return new MachineError(
		"ERR_MACHINE_OUT_OF_GUEST_MEMORY",
		`${length} bytes at 0x${address.toString(16)} do not lie in guest memory; give the machine more`,
		address,
	);
}
