/** How a guest's page tables are laid out: two levels of 4-byte entries, PAE's three of 8, or long mode's four. */
export type PagingFormat = "legacy" | "pae" | "4-level";

/** What a mapping allows. */
export interface PageRights {
	/** @default true */
	write?: boolean;
	/** @default false */
	user?: boolean;
	/** Not in the legacy format. @default true */
	execute?: boolean;
	/** @default false */
	global?: boolean;
}

/** Bytes of a page; 4 MiB in the legacy format only, 2 MiB in the others, 1 GiB in long mode. */
export type PageSize = 0x1000 | 0x20_0000 | 0x40_0000 | 0x4000_0000;

const PRESENT = 1n;
const WRITE = 2n;
const USER = 4n;
const LARGE = 0x80n;
const GLOBAL = 0x100n;
const NO_EXECUTE = 1n << 63n;
const TABLE = 4096;

/** Bits of a linear address below each level's index, root first. */
const SHIFTS: Readonly<Record<PagingFormat, readonly number[]>> = {
	legacy: [22, 12],
	pae: [30, 21, 12],
	"4-level": [39, 30, 21, 12],
};

/** Builds page tables in guest memory. */
export class PageTables {
	readonly format: PagingFormat;
	/** What CR3 is to be. */
	readonly root: number;
	readonly #view: DataView;
	readonly #origin: number;
	readonly #end: number;
	#next: number;

	/**
	 * @param memory - a view of guest memory
	 * @param physAddr - guest-physical address of the view's first byte
	 * @param area - where in the guest's physical memory tables may lie; page-aligned
	 */
	constructor(format: PagingFormat, memory: Uint8Array, physAddr: number, area: { start: number; bytes: number }) {
		this.format = format;
		this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
		this.#origin = physAddr;
		this.#next = area.start;
		this.#end = area.start + area.bytes;
		this.root = this.#table();
	}

	/**
	 * Maps `bytes` from `linear` on to `physical` with pages of one size.
	 *
	 * @throws RangeError when an address is not aligned to the page, the format has no such page, or the area is full
	 */
	map(linear: bigint, physical: number, bytes: number, size: PageSize, rights: PageRights = {}): void {
		const shifts = SHIFTS[this.format];
		const depth = shifts.findIndex((shift) => 2 ** shift === size);
		const exists = depth >= 0 && !(depth === 0 && this.format !== "legacy");
		if (!exists) throw new RangeError(`${this.format} paging has no pages of ${size} bytes`);
		if (linear % BigInt(size) !== 0n || physical % size !== 0) {
			throw new RangeError(
				`${linear.toString(16)} or ${physical.toString(16)} is not aligned to a page of ${size} bytes`,
			);
		}
		for (let done = 0; done < bytes; done += size) this.#page(linear + BigInt(done), physical + done, depth, rights);
	}

	/** Maps the first `bytes` of memory to themselves. */
	mapIdentity(bytes: number, size: PageSize, rights: PageRights = {}): void {
		this.map(0n, 0, bytes, size, rights);
	}

	#page(linear: bigint, physical: number, depth: number, rights: PageRights): void {
		const shifts = SHIFTS[this.format];
		const mask = this.format === "legacy" ? 1023n : 511n;
		let table = this.root;
		for (let level = 0; level < depth; level++) {
			const slot = Number((linear >> BigInt(shifts[level]!)) & mask);
			let entry = this.#read(table, slot);
			if ((entry & PRESENT) === 0n) {
				// The rights are those of the last level; PAE's first one has none to give.
				entry = BigInt(this.#table()) | PRESENT | (this.format === "pae" && level === 0 ? 0n : WRITE | USER);
				this.#write(table, slot, entry);
			}
			table = Number(entry & 0xf_ffff_ffff_f000n);
		}
		const last = shifts[depth] === 12;
		const entry =
			BigInt(physical) |
			PRESENT |
			(rights.write === false ? 0n : WRITE) |
			(rights.user === true ? USER : 0n) |
			(rights.global === true ? GLOBAL : 0n) |
			(last ? 0n : LARGE) |
			(rights.execute === false && this.format !== "legacy" ? NO_EXECUTE : 0n);
		this.#write(table, Number((linear >> BigInt(shifts[depth]!)) & mask), entry);
	}

	#table(): number {
		if (this.#next + TABLE > this.#end)
			throw new RangeError(`no room for another page table below ${this.#end.toString(16)}`);
		const at = this.#next;
		this.#next += TABLE;
		for (let i = 0; i < TABLE; i += 8) this.#view.setBigUint64(at - this.#origin + i, 0n, true);
		return at;
	}

	#read(table: number, slot: number): bigint {
		const at = table - this.#origin;
		return this.format === "legacy"
			? BigInt(this.#view.getUint32(at + slot * 4, true))
			: this.#view.getBigUint64(at + slot * 8, true);
	}

	#write(table: number, slot: number, entry: bigint): void {
		const at = table - this.#origin;
		if (this.format === "legacy") this.#view.setUint32(at + slot * 4, Number(entry & 0xffff_ffffn), true);
		else this.#view.setBigUint64(at + slot * 8, entry, true);
	}
}
