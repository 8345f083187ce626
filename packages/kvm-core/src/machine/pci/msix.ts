import type { Msi } from "../../kvm/types.ts";
import type { AccessSize } from "../bus.ts";
import type { PciFunction } from "./function.ts";

const CAPABILITY_ID = 0x11;
const ENABLE = 0x8000;
const FUNCTION_MASK = 0x4000;
const VECTOR_MASKED = 1;

/** No vector, where a driver names one. */
export const NO_VECTOR = 0xffff;

/** Plain state of an {@link MsiX}. */
export interface MsiXState {
	table: number[];
	pending: number[];
}

/** The MSI-X capability of a function, its table and its pending bits. */
export class MsiX {
	readonly vectors: number;
	readonly #function: PciFunction;
	readonly #signal: (msi: Msi) => void;
	readonly #capability: number;
	/** Address low, address high, data, control of each vector. */
	readonly #table: Uint32Array;
	readonly #pending: Uint32Array;
	/** The message each entry makes, kept so that an interrupt allocates nothing. */
	readonly #messages: (Msi | undefined)[] = [];

	/**
	 * @param bar - the window that holds table and pending bits
	 */
	constructor(
		pciFunction: PciFunction,
		vectors: number,
		bar: number,
		tableOffset: number,
		pendingOffset: number,
		signal: (msi: Msi) => void,
	) {
		this.#function = pciFunction;
		this.vectors = vectors;
		this.#signal = signal;
		this.#table = new Uint32Array(vectors * 4);
		this.#pending = new Uint32Array((vectors + 31) >> 5);
		const body = new DataView(new ArrayBuffer(10));
		body.setUint16(0, vectors - 1, true);
		body.setUint32(2, tableOffset | bar, true);
		body.setUint32(6, pendingOffset | bar, true);
		this.#capability = pciFunction.addCapability(CAPABILITY_ID, new Uint8Array(body.buffer));
		pciFunction.allowWrite(this.#capability + 2, ENABLE | FUNCTION_MASK, 2);
		this.reset();
	}

	get enabled(): boolean {
		return (this.#function.get16(this.#capability + 2) & ENABLE) !== 0;
	}

	/** Sends a vector's message, or keeps it pending while it is masked. */
	notify(vector: number): void {
		if (vector >= this.vectors) return;
		if (this.#masked(vector)) this.#pending[vector >> 5] |= 1 << (vector & 31);
		else this.#send(vector);
	}

	/** Sends what became unmasked; to be called after the capability was written. */
	flush(): void {
		if (!this.enabled) return;
		for (let vector = 0; vector < this.vectors; vector++) {
			const bit = 1 << (vector & 31);
			if ((this.#pending[vector >> 5] & bit) === 0 || this.#masked(vector)) continue;
			this.#pending[vector >> 5] &= ~bit;
			this.#send(vector);
		}
	}

	readTable(offset: number, size: AccessSize): number {
		const word = this.#table[offset >> 2] ?? 0;
		return size === 4 ? word : (word >>> (8 * (offset & 3))) & (size === 2 ? 0xffff : 0xff);
	}

	/** Only whole words can be written, as the specification lets drivers do. */
	writeTable(offset: number, size: AccessSize, value: number): void {
		if (size !== 4 || (offset & 3) !== 0 || offset >> 2 >= this.#table.length) return;
		this.#table[offset >> 2] = (offset & 12) === 12 ? value & VECTOR_MASKED : value;
		this.#messages[offset >> 4] = undefined;
		this.flush();
	}

	readPending(offset: number): number {
		return this.#pending[offset >> 2] ?? 0;
	}

	/** All vectors masked, none pending, disabled. */
	reset(): void {
		this.#table.fill(0);
		for (let vector = 0; vector < this.vectors; vector++) this.#table[vector * 4 + 3] = VECTOR_MASKED;
		this.#pending.fill(0);
		this.#messages.length = 0;
		this.#function.set16(this.#capability + 2, this.vectors - 1);
	}

	save(): MsiXState {
		return { table: Array.from(this.#table), pending: Array.from(this.#pending) };
	}

	restore(state: MsiXState): void {
		this.#table.set(state.table);
		this.#pending.set(state.pending);
		this.#messages.length = 0;
	}

	#masked(vector: number): boolean {
		return (
			(this.#function.get16(this.#capability + 2) & FUNCTION_MASK) !== 0 ||
			(this.#table[vector * 4 + 3] & VECTOR_MASKED) !== 0
		);
	}

	#send(vector: number): void {
		const table = this.#table;
		const message = (this.#messages[vector] ??= {
			address: (BigInt(table[vector * 4 + 1]) << 32n) | BigInt(table[vector * 4]),
			data: table[vector * 4 + 2],
		});
		this.#signal(message);
	}
}
