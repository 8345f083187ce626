import type { TableMemory } from "./cpu/paging.ts";

/** Page size the engine works in. */
export const PAGE = 4096;

/** A memory slot as the engine sees it. */
export interface Slot {
	readonly slot: number;
	readonly physical: number;
	readonly size: number;
	/** Address in the VM's memory. */
	readonly host: number;
	readonly readonly: boolean;
	/** A bit per page, while dirty pages are logged. */
	readonly dirty: Uint8Array | undefined;
	/** Non-zero for pages that hold decoded code. */
	readonly code: Uint8Array;
}

/** The guest's physical memory: slots over the one memory of the VM. */
export class PhysicalMemory implements TableMemory {
	readonly u8: Uint8Array;
	readonly u32: Uint32Array;
	private slots: Slot[] = [];
	private last: Slot | undefined;

	constructor(buffer: ArrayBufferLike) {
		this.u8 = new Uint8Array(buffer);
		this.u32 = new Uint32Array(buffer);
	}

	/** Replaces the set of slots. */
	setSlots(slots: readonly Slot[]): void {
		this.slots = [...slots];
		this.last = undefined;
	}

	/** The slot a physical address lies in. */
	slotAt(physical: number): Slot | undefined {
		const last = this.last;
		if (last !== undefined && physical >= last.physical && physical < last.physical + last.size) return last;
		for (const slot of this.slots) {
			if (physical >= slot.physical && physical < slot.physical + slot.size) {
				this.last = slot;
				return slot;
			}
		}
		return undefined;
	}

	read32(physical: number): number {
		const slot = this.slotAt(physical);
		if (slot === undefined) return 0xffff_ffff;
		return this.u32[(slot.host + (physical - slot.physical)) / 4]!;
	}

	write32(physical: number, value: number): void {
		const slot = this.slotAt(physical);
		if (slot === undefined || slot.readonly) return;
		const offset = physical - slot.physical;
		this.u32[(slot.host + offset) / 4] = value;
		if (slot.dirty !== undefined) markDirty(slot, offset);
	}
}

/** Notes a write to the page at `offset` of a logged slot. */
export function markDirty(slot: Slot, offset: number): void {
	const page = offset / PAGE;
	slot.dirty![page >>> 3]! |= 1 << (page & 7);
}
