/** A place in the code that is jumped to. */
export interface Label {
	offset: number | undefined;
}

/** Machine code with labels; every reference is of four bytes. */
export class Assembler {
	readonly #bytes: number[] = [];
	readonly #jumps: { readonly at: number; readonly label: Label }[] = [];
	readonly #addresses: { readonly at: number; readonly label: Label }[] = [];

	code(...bytes: number[]): void {
		this.#bytes.push(...bytes);
	}

	imm32(value: number): void {
		this.code(value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff);
	}

	imm64(value: bigint): void {
		const bits = BigInt.asUintN(64, value);
		for (let shift = 0n; shift < 64n; shift += 8n) this.code(Number((bits >> shift) & 0xffn));
	}

	place(label: Label): void {
		label.offset = this.#bytes.length;
	}

	/** A distance from the instruction's end, as jumps and calls have it. */
	relative(label: Label): void {
		this.#jumps.push({ at: this.#bytes.length, label });
		this.imm32(0);
	}

	/** An absolute address. */
	absolute(label: Label): void {
		this.#addresses.push({ at: this.#bytes.length, label });
		this.imm32(0);
	}

	/** The bytes as they are at `base`. */
	link(base: number): Uint8Array {
		const bytes = Uint8Array.from(this.#bytes);
		const view = new DataView(bytes.buffer);
		for (const { at, label } of this.#jumps) view.setInt32(at, label.offset! - (at + 4), true);
		for (const { at, label } of this.#addresses) view.setInt32(at, base + label.offset!, true);
		return bytes;
	}
}
