import { type KvmErrno, KvmError } from "../kvm/errors.ts";
import type { GuestMemory, Vm } from "../kvm/types.ts";
import { CLASSIC_LIMITS, CLASSIC_LOG_DIRTY_PAGES } from "./interface.ts";

const PAGE = 4096;

interface Slot {
	start: number;
	size: number;
	memory: GuestMemory;
	logged: boolean;
}

/** The four memory slots of a classic machine: DIMM slots, whose memory is the kernel's to give. */
export class ClassicSlots {
	readonly #vm: Vm;
	readonly #slots: (Slot | undefined)[] = [];
	/** Memory of deleted slots, for slots of the same size. */
	readonly #spare: GuestMemory[] = [];

	constructor(vm: Vm) {
		this.#vm = vm;
	}

	/** KVM_SET_MEMORY_REGION. */
	set(number: number, flags: number, start: number, size: number): void {
		const fail = (code: KvmErrno, message: string): never => {
			throw new KvmError(code, "KVM_SET_MEMORY_REGION", message);
		};
		if (size % PAGE !== 0 || start % PAGE !== 0) fail("EINVAL", `slot ${number} is not made of whole pages`);
		if (number >= CLASSIC_LIMITS.memorySlots) fail("EINVAL", `slot ${number}; there are slots 0 to 3`);
		if (start + size > 2 ** 52) fail("EINVAL", `slot ${number} reaches beyond the physical address space`);
		const old = this.#slots[number];
		if (size !== 0 && old !== undefined && old.size !== size) fail("EINVAL", `slot ${number} cannot be resized`);
		for (const [other, slot] of this.#slots.entries()) {
			if (other === number || slot === undefined) continue;
			const apart = start + size <= slot.start || start >= slot.start + slot.size;
			if (!apart) fail("EEXIST", `slot ${number} overlaps slot ${other}`);
		}
		if (size === 0) {
			if (old === undefined) return;
			this.#vm.setUserMemoryRegion({ slot: number, guestPhysAddr: old.start, memorySize: 0, memory: old.memory });
			this.#spare.push(old.memory);
			this.#slots[number] = undefined;
			return;
		}
		const memory = old?.memory ?? this.#memory(size);
		const logged = (flags & CLASSIC_LOG_DIRTY_PAGES) !== 0;
		this.#vm.setUserMemoryRegion({
			slot: number,
			guestPhysAddr: start,
			memorySize: size,
			memory,
			logDirtyPages: logged,
		});
		this.#slots[number] = { start, size, memory, logged };
	}

	/** KVM_GET_DIRTY_LOG: a bit per page, cleared by reading. */
	dirtyLog(number: number, bitmap: Uint8Array): void {
		const error = (code: KvmErrno, message: string): KvmError => new KvmError(code, "KVM_GET_DIRTY_LOG", message);
		if (number >= CLASSIC_LIMITS.memorySlots) throw error("EINVAL", `slot ${number}; there are slots 0 to 3`);
		const slot = this.#slots[number];
		if (slot?.logged !== true) throw error("ENOENT", `slot ${number} does not log dirty pages`);
		const bytes = Math.ceil(slot.size / PAGE / 8);
		if (bitmap.length < bytes) throw error("EFAULT", `${bitmap.length} bytes; the slot's bitmap has ${bytes}`);
		bitmap.set(this.#vm.getDirtyLog(number).subarray(0, bytes));
	}

	/** A live view of guest memory at its physical address; undefined where not all of it lies in one slot. */
	view(start: number, length: number): Uint8Array | undefined {
		const slot = this.#at(start);
		if (slot === undefined || start + length > slot.start + slot.size) return undefined;
		return slot.memory.view(start - slot.start, length);
	}

	/** Tells the engine that the embedder wrote there. */
	written(start: number, length: number): void {
		this.#at(start)?.memory.written(start - this.#at(start)!.start, length);
	}

	#at(address: number): Slot | undefined {
		return this.#slots.find((slot) => slot !== undefined && address >= slot.start && address < slot.start + slot.size);
	}

	/** Zeroed, as from the kernel's page allocator. */
	#memory(size: number): GuestMemory {
		const at = this.#spare.findIndex((memory) => memory.size === size);
		if (at < 0) return this.#vm.createMemory(size);
		const [memory] = this.#spare.splice(at, 1);
		memory!.view(0, size).fill(0);
		memory!.written(0, size);
		return memory!;
	}
}
