import { BootError } from "./errors.ts";

const PT_LOAD = 1;
const PT_NOTE = 4;
const EM_386 = 3;
const EM_X86_64 = 62;
/** More program headers than any kernel has; a bound for hostile files. */
const MAX_PROGRAM_HEADERS = 1024;
const MAX_PHYSICAL_ADDRESS = 2 ** 52;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** A PT_LOAD segment; `bytes` is a window on the file. */
export interface ElfSegment {
	readonly physAddr: number;
	readonly virtAddr: bigint;
	readonly memSize: number;
	readonly bytes: Uint8Array;
}

/** An x86 ELF executable as far as booting needs it. */
export interface Elf {
	readonly bits: 32 | 64;
	/** As the header has it; see {@link physicalEntry}. */
	readonly entry: bigint;
	readonly segments: readonly ElfSegment[];
	/** Physical address of the 32-bit PVH entry point, if the file has Xen's note for it. */
	readonly pvhEntry: number | undefined;
}

export function isElf(bytes: Uint8Array): boolean {
	return bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

interface ProgramHeader {
	readonly type: number;
	readonly offset: number;
	readonly virtAddr: bigint;
	readonly physAddr: number;
	readonly fileSize: number;
	readonly memSize: number;
	readonly align: number;
}

class ElfReader {
	readonly bytes: Uint8Array;
	readonly view: DataView;
	readonly bits: 32 | 64;

	constructor(bytes: Uint8Array) {
		this.bytes = bytes;
		this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
		if (bytes.length < 52) throw truncated("the ELF header", 52, bytes.length);
		const elfClass = bytes[4];
		if (elfClass !== 1 && elfClass !== 2) {
			throw new BootError("MALFORMED", `ELF class ${elfClass} is neither 1 (32-bit) nor 2 (64-bit)`, elfClass!);
		}
		if (bytes[5] !== 1) throw new BootError("UNSUPPORTED", "a big-endian ELF file is no x86 kernel", bytes[5]!);
		this.bits = elfClass === 2 ? 64 : 32;
		if (this.bits === 64 && bytes.length < 64) throw truncated("the ELF header", 64, bytes.length);
		const machine = this.view.getUint16(18, true);
		if (machine !== EM_386 && machine !== EM_X86_64) {
			throw new BootError("UNSUPPORTED", `ELF machine ${machine} is no x86 (3 or 62)`, machine);
		}
	}

	/** An offset, size or physical address: a word of the file's class. */
	word(offset: number, what: string): number {
		if (this.bits === 32) return this.view.getUint32(offset, true);
		const value = this.view.getBigUint64(offset, true);
		if (value >= BigInt(MAX_PHYSICAL_ADDRESS)) {
			throw new BootError("MALFORMED", `ELF ${what} 0x${value.toString(16)} is beyond any address`, value.toString());
		}
		return Number(value);
	}

	bigWord(offset: number): bigint {
		return this.bits === 64 ? this.view.getBigUint64(offset, true) : BigInt(this.view.getUint32(offset, true));
	}

	programHeaders(): ProgramHeader[] {
		const wide = this.bits === 64;
		const tableOffset = this.word(wide ? 32 : 28, "program header offset");
		const entrySize = this.view.getUint16(wide ? 54 : 42, true);
		const count = this.view.getUint16(wide ? 56 : 44, true);
		const least = wide ? 56 : 32;
		if (count === 0)
			throw new BootError("UNSUPPORTED", "the ELF file has no program headers: it is an object, not a kernel");
		if (count > MAX_PROGRAM_HEADERS)
			throw new BootError("MALFORMED", `${count} ELF program headers are too many`, count);
		if (entrySize < least) {
			throw new BootError(
				"MALFORMED",
				`ELF program headers of ${entrySize} bytes are shorter than ${least}`,
				entrySize,
			);
		}
		const end = tableOffset + entrySize * count;
		if (end > this.bytes.length) throw truncated("its ELF program headers", end, this.bytes.length);
		return Array.from({ length: count }, (_, i) => {
			const at = tableOffset + i * entrySize;
			const header: ProgramHeader = {
				type: this.view.getUint32(at, true),
				offset: this.word(at + (wide ? 8 : 4), "segment offset"),
				virtAddr: this.bigWord(at + (wide ? 16 : 8)),
				physAddr: this.word(at + (wide ? 24 : 12), "segment address"),
				fileSize: this.word(at + (wide ? 32 : 16), "segment file size"),
				memSize: this.word(at + (wide ? 40 : 20), "segment memory size"),
				align: Number(BigInt.asUintN(32, this.bigWord(at + (wide ? 48 : 28)))),
			};
			return header;
		});
	}

	contents(header: ProgramHeader): Uint8Array {
		const end = header.offset + header.fileSize;
		if (end > this.bytes.length) throw truncated("an ELF segment", end, this.bytes.length);
		return this.bytes.subarray(header.offset, end);
	}
}

function truncated(what: string, wanted: number, length: number): BootError {
	return new BootError(
		"TRUNCATED",
		`the file is cut off: ${what} ends at byte ${wanted}, the file at ${length}`,
		length,
	);
}

/**
 * Reads an x86 ELF executable.
 *
 * @throws BootError TRUNCATED, MALFORMED or UNSUPPORTED
 */
export function parseElf(bytes: Uint8Array): Elf {
	const reader = new ElfReader(bytes);
	const segments: ElfSegment[] = [];
	let pvhEntry: number | undefined;
	for (const header of reader.programHeaders()) {
		if (header.type === PT_NOTE) {
			pvhEntry ??= findPvhEntry(reader.contents(header), header.align);
		} else if (header.type === PT_LOAD && header.memSize > 0) {
			if (header.fileSize > header.memSize) {
				throw new BootError(
					"MALFORMED",
					`an ELF segment has ${header.fileSize} bytes in the file but only ${header.memSize} in memory`,
					header.fileSize,
				);
			}
			if (header.physAddr + header.memSize > MAX_PHYSICAL_ADDRESS) {
				throw new BootError("MALFORMED", "an ELF segment ends beyond any address", header.physAddr);
			}
			segments.push({
				physAddr: header.physAddr,
				virtAddr: header.virtAddr,
				memSize: header.memSize,
				bytes: reader.contents(header),
			});
		}
	}
	if (segments.length === 0) throw new BootError("UNSUPPORTED", "the ELF file has nothing to load");
	return { bits: reader.bits, entry: reader.bigWord(24), segments, pvhEntry };
}

function findPvhEntry(notes: Uint8Array, segmentAlign: number): number | undefined {
	const view = new DataView(notes.buffer, notes.byteOffset, notes.byteLength);
	const align = segmentAlign === 8 ? 8 : 4;
	const up = (n: number): number => Math.ceil(n / align) * align;
	for (let at = 0; at + 12 <= notes.length; ) {
		const nameSize = view.getUint32(at, true);
		const descSize = view.getUint32(at + 4, true);
		const type = view.getUint32(at + 8, true);
		const desc = at + up(12 + nameSize);
		if (desc + descSize > notes.length) return undefined;
		const isXen =
			nameSize === 4 &&
			notes[at + 12] === 0x58 &&
			notes[at + 13] === 0x65 &&
			notes[at + 14] === 0x6e &&
			notes[at + 15] === 0;
		if (isXen && type === XEN_ELFNOTE_PHYS32_ENTRY && (descSize === 4 || descSize === 8)) {
			return view.getUint32(desc, true);
		}
		at += up(12 + nameSize) + up(descSize);
	}
	return undefined;
}

/** Where in guest-physical memory execution starts: some linkers leave a physical address in e_entry, others a virtual one. */
export function physicalEntry(elf: Elf): number {
	for (const { physAddr, memSize } of elf.segments) {
		if (elf.entry >= BigInt(physAddr) && elf.entry < BigInt(physAddr + memSize)) return Number(elf.entry);
	}
	for (const { physAddr, virtAddr, memSize } of elf.segments) {
		if (elf.entry >= virtAddr && elf.entry < virtAddr + BigInt(memSize)) return physAddr + Number(elf.entry - virtAddr);
	}
	throw new BootError(
		"MALFORMED",
		`the ELF entry point 0x${elf.entry.toString(16)} lies in none of the segments`,
		elf.entry.toString(),
	);
}
