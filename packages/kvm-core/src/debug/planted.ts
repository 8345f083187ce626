import type { ReadPhysical } from "./page-walk.ts";

/** Writes guest-physical memory; false where there is none that can be written. */
export type WritePhysical = (address: number, bytes: Uint8Array) => boolean;

const INT3 = Uint8Array.of(0xcc);

/** INT3s in guest memory and the bytes they stand for, by guest-physical address: nobody else sees them. */
export class PlantedBreakpoints {
	readonly #original = new Map<number, number>();
	readonly #read: ReadPhysical;
	readonly #write: WritePhysical;

	constructor(read: ReadPhysical, write: WritePhysical) {
		this.#read = read;
		this.#write = write;
	}

	/** Returns false where memory cannot be written. */
	plant(physical: number): boolean {
		if (this.#original.has(physical)) return true;
		const byte = new Uint8Array(1);
		if (!this.#read(physical, byte) || !this.#write(physical, INT3)) return false;
		this.#original.set(physical, byte[0]!);
		return true;
	}

	/** Puts the byte back, unless the guest has written another there. */
	remove(physical: number): void {
		const original = this.#original.get(physical);
		if (original === undefined) return;
		this.#original.delete(physical);
		const byte = new Uint8Array(1);
		if (this.#read(physical, byte) && byte[0] === INT3[0]) this.#write(physical, Uint8Array.of(original));
	}

	has(physical: number): boolean {
		return this.#original.has(physical);
	}

	/** Shows the bytes read from `physical` on as the guest left them. */
	hide(physical: number, bytes: Uint8Array): void {
		for (const [address, original] of this.#original) {
			const at = address - physical;
			if (at >= 0 && at < bytes.length && bytes[at] === INT3[0]) bytes[at] = original;
		}
	}

	/** Takes note of bytes that a debugger is about to write, and returns what is to stand in memory. */
	cover(physical: number, bytes: Uint8Array): Uint8Array {
		let copy: Uint8Array | undefined;
		for (const address of this.#original.keys()) {
			const at = address - physical;
			if (at < 0 || at >= bytes.length) continue;
			copy ??= bytes.slice();
			this.#original.set(address, bytes[at]!);
			copy[at] = INT3[0]!;
		}
		return copy ?? bytes;
	}
}
