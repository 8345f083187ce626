import type { GuestSymbol } from "./symbols.ts";

const ET_EXEC = 2;
const EM_386 = 3;
const EM_X86_64 = 62;
const SHT_SYMTAB = 2;
const SHT_STRTAB = 3;
const SHT_NOBITS = 8;
const SHF_WRITE = 1;
const SHF_ALLOC = 2;
const SHF_EXECINSTR = 4;
const SHN_ABS = 0xfff1;
const STT_OBJECT = 1;
const STT_FUNC = 2;
/** What a kernel without a symbol for its end is taken to reach beyond its last symbol. */
const TAIL = 4096n;
/** Where Linux's linker script puts code, by the symbols at its bounds. */
const CODE_BOUNDS: readonly (readonly [start: string, end: string])[] = [
	["_text", "_etext"],
	["_sinittext", "_einittext"],
];

interface Section {
	readonly name: string;
	readonly start: bigint;
	readonly end: bigint;
	readonly code: boolean;
}

/**
 * An ELF executable with nothing in it but a symbol table, for debuggers (`gdb FILE`): sections without contents say where
 * code and data are, so that a debugger reads both from the guest.
 */
export function writeSymbolElf(symbols: readonly GuestSymbol[], bits: 32 | 64, entry = 0n): Uint8Array {
	const sorted = [...symbols].sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
	const sections = layOut(sorted);
	const wide = bits === 64;
	const strings = new StringTable();
	const names = new StringTable();
	const entryBytes = wide ? 24 : 16;
	const symtab = new DataView(new ArrayBuffer((sorted.length + 1) * entryBytes));
	const global = (type: string): boolean => type !== type.toLowerCase() || type === "w";
	// ELF wants local symbols first.
	const ordered = [...sorted.filter(({ type }) => !global(type)), ...sorted.filter(({ type }) => global(type))];
	const locals = ordered.findIndex(({ type }) => global(type));
	const sizes = sizesOf(sorted);
	for (const [i, symbol] of ordered.entries()) {
		const { name, type, address } = symbol;
		const at = (i + 1) * entryBytes;
		const section = "aA".includes(type)
			? -1
			: sections.findIndex(({ start, end }) => address >= start && address < end);
		const isCode = section >= 0 && "tTwW".includes(type) && sections[section]!.code;
		const info = (/[wW]/.test(type) ? 2 : global(type) ? 1 : 0) * 16 + (isCode ? STT_FUNC : STT_OBJECT);
		const where = section < 0 ? SHN_ABS : section + 1;
		const size = sizes.get(symbol) ?? 0n;
		symtab.setUint32(at, strings.add(name), true);
		if (wide) {
			symtab.setUint8(at + 4, info);
			symtab.setUint16(at + 6, where, true);
			symtab.setBigUint64(at + 8, address, true);
			symtab.setBigUint64(at + 16, size, true);
		} else {
			symtab.setUint32(at + 4, Number(address & 0xffff_ffffn), true);
			symtab.setUint32(at + 8, Number(size), true);
			symtab.setUint8(at + 12, info);
			symtab.setUint16(at + 14, where, true);
		}
	}
	return assemble({ sections, symtab: new Uint8Array(symtab.buffer), locals, strings, names, wide, entry });
}

/** Distances to the next symbol, up to the end of the last one's section. */
function sizesOf(sorted: readonly GuestSymbol[]): Map<GuestSymbol, bigint> {
	const sizes = new Map<GuestSymbol, bigint>();
	let next: bigint | undefined;
	let following: bigint | undefined;
	for (let i = sorted.length - 1; i >= 0; i--) {
		const symbol = sorted[i]!;
		if (following !== symbol.address) {
			next = following;
			following = symbol.address;
		}
		const size = next === undefined ? 0n : next - symbol.address;
		sizes.set(symbol, size < 1n << 31n ? size : 0n);
	}
	return sizes;
}

/** Code where the kernel's own symbols say so, data between; everything is code where they say nothing. */
function layOut(sorted: readonly GuestSymbol[]): Section[] {
	const find = (name: string): bigint | undefined => sorted.find((symbol) => symbol.name === name)?.address;
	const placed = sorted.filter(({ type }) => !"aA".includes(type));
	if (placed.length === 0) return [];
	const start = placed[0]!.address;
	const last = placed.at(-1)!.address + TAIL;
	const code = CODE_BOUNDS.flatMap(([from, to]) => {
		const [low, high] = [find(from), find(to)];
		return low !== undefined && high !== undefined && low < high ? [[low, high] as const] : [];
	}).sort(([a], [b]) => (a < b ? -1 : 1));
	if (code.length === 0) return [{ name: ".text", start, end: last, code: true }];
	const sections: Section[] = [];
	let at = start;
	for (const [i, [low, high]] of code.entries()) {
		if (at < low) {
			sections.push({ name: `.data${i === 0 ? ".low" : ""}`, start: at, end: low, code: false });
			at = low;
		}
		if (high <= at) continue;
		sections.push({ name: i === 0 ? ".text" : ".init.text", start: at, end: high, code: true });
		at = high;
	}
	if (at < last) sections.push({ name: ".init.data", start: at, end: last, code: false });
	return sections;
}

interface Parts {
	readonly sections: readonly Section[];
	readonly symtab: Uint8Array;
	/** Index of the first global symbol among those written; -1 when there is none. */
	readonly locals: number;
	readonly strings: StringTable;
	readonly names: StringTable;
	readonly wide: boolean;
	readonly entry: bigint;
}

function assemble({ sections, symtab, locals, strings, names, wide, entry }: Parts): Uint8Array {
	const headerBytes = wide ? 64 : 52;
	const sectionBytes = wide ? 64 : 40;
	const count = sections.length + 4;
	const nameOffsets = [...sections.map(({ name }) => name), ".symtab", ".strtab", ".shstrtab"].map((name) =>
		names.add(name),
	);
	const stringBytes = strings.bytes();
	const nameBytes = names.bytes();
	const symtabAt = headerBytes;
	const stringsAt = symtabAt + symtab.length;
	const namesAt = stringsAt + stringBytes.length;
	const tableAt = Math.ceil((namesAt + nameBytes.length) / 8) * 8;
	const out = new Uint8Array(tableAt + count * sectionBytes);
	const view = new DataView(out.buffer);
	const word = (at: number, value: bigint): void => {
		if (wide) view.setBigUint64(at, value, true);
		else view.setUint32(at, Number(value & 0xffff_ffffn), true);
	};
	out.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
	view.setUint16(16, ET_EXEC, true);
	view.setUint16(18, wide ? EM_X86_64 : EM_386, true);
	view.setUint32(20, 1, true);
	word(24, entry);
	word(wide ? 40 : 32, BigInt(tableAt));
	const sizesAt = wide ? 52 : 40;
	view.setUint16(sizesAt, headerBytes, true);
	view.setUint16(sizesAt + 6, sectionBytes, true);
	view.setUint16(sizesAt + 8, count, true);
	view.setUint16(sizesAt + 10, count - 1, true);
	out.set(symtab, symtabAt);
	out.set(stringBytes, stringsAt);
	out.set(nameBytes, namesAt);
	const header = (index: number, type: number, flags: number, address: bigint, at: number, size: bigint): number => {
		const base = tableAt + index * sectionBytes;
		const unit = wide ? 8 : 4;
		view.setUint32(base, nameOffsets[index - 1]!, true);
		view.setUint32(base + 4, type, true);
		word(base + 8, BigInt(flags));
		word(base + 8 + unit, address);
		word(base + 8 + 2 * unit, BigInt(at));
		word(base + 8 + 3 * unit, size);
		word(base + (wide ? 48 : 32), 1n);
		return base;
	};
	for (const [i, { start, end, code }] of sections.entries()) {
		header(i + 1, SHT_NOBITS, SHF_ALLOC | (code ? SHF_EXECINSTR : SHF_WRITE), start, symtabAt, end - start);
	}
	const first = sections.length + 1;
	const symtabHeader = header(first, SHT_SYMTAB, 0, 0n, symtabAt, BigInt(symtab.length));
	view.setUint32(symtabHeader + (wide ? 40 : 24), first + 1, true);
	const entryBytes = wide ? 24 : 16;
	view.setUint32(symtabHeader + (wide ? 44 : 28), locals < 0 ? symtab.length / entryBytes : locals + 1, true);
	word(symtabHeader + (wide ? 56 : 36), BigInt(entryBytes));
	header(first + 1, SHT_STRTAB, 0, 0n, stringsAt, BigInt(stringBytes.length));
	header(first + 2, SHT_STRTAB, 0, 0n, namesAt, BigInt(nameBytes.length));
	return out;
}

/** An ELF string table under construction. */
class StringTable {
	readonly #parts: string[] = [""];
	readonly #known = new Map<string, number>();
	#length = 1;

	/** Offset of a string. Symbols are ASCII. */
	add(text: string): number {
		const known = this.#known.get(text);
		if (known !== undefined) return known;
		const at = this.#length;
		this.#known.set(text, at);
		this.#parts.push(text);
		this.#length += text.length + 1;
		return at;
	}

	bytes(): Uint8Array {
		const text = `${this.#parts.join("\0")}\0`;
		return Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff);
	}
}
