import type { DescriptorTable, GuestMemory, Segment } from "../kvm/types.ts";
import { encodeDescriptor, encodeGate, type Gate } from "./segments.ts";

/** Where in guest memory a table goes. */
export interface TablePlace {
	memory: GuestMemory;
	/** Guest-physical address of the memory's first byte. @default 0 */
	physAddr?: number;
	/** Guest-physical address of the table. */
	at: number;
	/** Linear address of the table, for GDTR or IDTR. @default `at` */
	linear?: bigint;
}

function view({ memory, physAddr = 0, at }: TablePlace, bytes: number): DataView {
	const window = memory.view(at - physAddr, bytes);
	window.fill(0);
	return new DataView(window.buffer, window.byteOffset, bytes);
}

function finish({ memory, physAddr = 0, at, linear }: TablePlace, bytes: number): DescriptorTable {
	memory.written(at - physAddr, bytes);
	return { base: linear ?? BigInt(at), limit: bytes - 1 };
}

/**
 * Writes a GDT: each segment into the slot that its selector names, a null descriptor into the others. System segments
 * (S = 0: TSS, LDT) of a `wide` table take two slots, as long mode has them.
 *
 * @returns what GDTR is to be
 */
export function writeGdt(place: TablePlace, segments: readonly Readonly<Segment>[], wide = false): DescriptorTable {
	const slotsOf = ({ s }: Readonly<Segment>): number => (wide && s === 0 ? 2 : 1);
	const slots = segments.reduce((most, segment) => Math.max(most, (segment.selector >> 3) + slotsOf(segment)), 1);
	const table = view(place, slots * 8);
	for (const segment of segments) {
		const slot = segment.selector >> 3;
		if (slot === 0) throw new RangeError("selector 0 is the null descriptor's");
		table.setBigUint64(slot * 8, encodeDescriptor(segment), true);
		if (slotsOf(segment) === 2) table.setBigUint64(slot * 8 + 8, segment.base >> 32n, true);
	}
	return finish(place, slots * 8);
}

/**
 * Writes an IDT with a gate for each vector that has one.
 *
 * @param wide - long mode's 16-byte gates
 * @returns what IDTR is to be
 */
export function writeIdt(
	place: TablePlace,
	gates: ReadonlyMap<number, Readonly<Gate>>,
	wide: boolean,
): DescriptorTable {
	const bytes = wide ? 16 : 8;
	const vectors = [...gates.keys()].reduce((most, vector) => Math.max(most, vector + 1), 0);
	if (vectors > 256) throw new RangeError(`there is no vector ${vectors - 1}; vectors are 0 to 255`);
	const table = view(place, Math.max(1, vectors) * bytes);
	for (const [vector, gate] of gates) {
		const [low, high] = encodeGate(gate, wide);
		table.setBigUint64(vector * bytes, low, true);
		if (wide) table.setBigUint64(vector * bytes + 8, high, true);
	}
	return finish(place, Math.max(1, vectors) * bytes);
}

/** Points real-mode interrupt vectors (SDM volume 3, 21.1.4) at `segment:offset`s; `memory` begins at address 0. */
export function writeVectors(
	memory: GuestMemory,
	vectors: ReadonlyMap<number, { segment: number; offset: number }>,
): void {
	for (const [vector, { segment, offset }] of vectors) {
		if (vector > 255) throw new RangeError(`there is no vector ${vector}; vectors are 0 to 255`);
		memory.view(vector * 4, 4).set([offset & 255, offset >> 8, segment & 255, segment >> 8]);
		memory.written(vector * 4, 4);
	}
}
