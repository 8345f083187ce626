import { KvmError } from "../kvm/errors.ts";
import type { GuestMemory } from "../kvm/types.ts";
import { type Libc, VIEW_MAX } from "./libc.node.ts";

/** Guest memory: an anonymous shared mapping, so that untouched pages cost nothing. */
export class HardwareMemory implements GuestMemory {
	readonly size: number;
	readonly address: bigint;
	readonly #libc: Libc;
	/** By the 4 GiB step they start at; a view across a step's end gets one that starts half-way. */
	readonly #windows = new Map<number, ArrayBuffer>();
	#closed = false;

	constructor(libc: Libc, size: number) {
		this.#libc = libc;
		this.size = size;
		this.address = libc.mmapAnonymous(size);
	}

	view(offset: number, length: number): Uint8Array {
		if (this.#closed) throw new KvmError("ENODEV", "view", "the virtual machine is closed");
		const fits = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
		if (!fits || length > VIEW_MAX || offset + length > this.size) {
			throw new KvmError("EINVAL", "view", `${length} bytes at ${offset} of ${this.size}; at most 4 GiB at once`);
		}
		const step = VIEW_MAX / 2;
		let start = Math.floor(offset / step) * step;
		if (offset + length > start + VIEW_MAX) start = offset;
		let window = this.#windows.get(start);
		if (window === undefined) {
			window = this.#libc.view(this.address + BigInt(start), Math.min(VIEW_MAX, this.size - start));
			this.#windows.set(start, window);
		}
		return new Uint8Array(window, offset - start, length);
	}

	/** The processor keeps its own caches coherent. */
	written(): void {}

	/** Gives the memory back. New views are refused; an old one shows zeroes that nobody else sees. */
	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#libc.release(this.address, this.size, [...this.#windows.values()]);
		this.#windows.clear();
	}
}
