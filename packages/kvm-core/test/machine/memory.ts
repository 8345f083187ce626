import type { GuestMemory } from "../../src/kvm/types.ts";
import { GuestRam } from "../../src/machine/guest-ram.ts";

/** Guest memory over a plain array, which counts the bytes said to be written. */
export class ArrayMemory implements GuestMemory {
	readonly bytes: Uint8Array;
	writtenBytes = 0;

	constructor(size: number) {
		this.bytes = new Uint8Array(size);
	}

	get size(): number {
		return this.bytes.length;
	}

	view(offset: number, length: number): Uint8Array {
		return this.bytes.subarray(offset, offset + length);
	}

	written(_offset: number, length: number): void {
		this.writtenBytes += length;
	}
}

/** RAM from 0 to `size`. */
export function makeRam(size: number): { ram: GuestRam; memory: ArrayMemory } {
	const memory = new ArrayMemory(size);
	const ram = new GuestRam();
	ram.add(0, size, memory, 0);
	return { ram, memory };
}
