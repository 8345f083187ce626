/**
 * XZ with the x86 branch filter, as Linux builds use it. The LZMA2 decoder is a library's, and that library knows no
 * filter; so the container is taken apart here, its blocks are decoded as plain LZMA2, and the filter is undone and the
 * check verified afterwards (The .xz File Format 1.2.1).
 */

const FILTER_X86 = 4;
const FILTER_LZMA2 = 0x21;
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;
/** Sizes of the check fields by check type. */
const CHECK_SIZES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

/** Decodes a plain .xz file of one LZMA2 block. */
export type PlainXzDecoder = (file: Uint8Array, size: number) => Promise<Uint8Array>;

/**
 * Decompresses an .xz stream of any number of blocks.
 *
 * @param size - bytes that are to come out; more is an error
 * @throws Error with a one-line reason
 */
export async function decompressXz(file: Uint8Array, size: number, decode: PlainXzDecoder): Promise<Uint8Array> {
	if (file.length < 12) throw new Error("the stream header is cut off");
	const checkType = file[7]! & 0x0f;
	const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
	if (view.getUint32(8, true) !== crc32(file.subarray(6, 8))) throw new Error("the stream header's CRC is wrong");
	const out = new Uint8Array(size);
	let at = 12;
	let written = 0;
	// A zero where a block header's size would be starts the index.
	while (at < file.length && file[at] !== 0) {
		const block = readBlockHeader(file, at);
		const data = measureLzma2(file, block.dataStart);
		if (written + data.uncompressedSize > size) throw new Error(`more than the ${size} bytes it announces come out`);
		const lzma2 = file.subarray(block.dataStart, data.end);
		const plain = await decode(wrapLzma2(lzma2, block.dictionary, data.uncompressedSize), data.uncompressedSize);
		if (plain.length !== data.uncompressedSize) throw new Error("a block is shorter than its chunks say");
		if (block.x86) undoX86Filter(plain);
		const checkStart = block.start + Math.ceil((data.end - block.start) / 4) * 4;
		const checkSize = CHECK_SIZES[checkType]!;
		if (checkStart + checkSize > file.length) throw new Error("a block's check is cut off");
		if (checkType === CHECK_CRC32 && view.getUint32(checkStart, true) !== crc32(plain))
			throw new Error("a block's CRC is wrong");
		out.set(plain, written);
		written += plain.length;
		at = checkStart + checkSize;
	}
	return out.subarray(0, written);
}

interface BlockHeader {
	readonly start: number;
	readonly dataStart: number;
	readonly x86: boolean;
	/** LZMA2's one property byte, the dictionary's size. */
	readonly dictionary: number;
}

function readBlockHeader(file: Uint8Array, start: number): BlockHeader {
	const headerSize = (file[start]! + 1) * 4;
	const dataStart = start + headerSize;
	if (dataStart > file.length) throw new Error("a block header is cut off");
	const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
	if (view.getUint32(dataStart - 4, true) !== crc32(file.subarray(start, dataStart - 4))) {
		throw new Error("a block header's CRC is wrong");
	}
	const flags = file[start + 1]!;
	const cursor = { at: start + 2 };
	if (flags & 0x40) readVarint(file, cursor);
	if (flags & 0x80) readVarint(file, cursor);
	let x86 = false;
	let dictionary: number | undefined;
	for (let i = 0; i <= (flags & 3); i++) {
		const id = readVarint(file, cursor);
		const propertiesSize = readVarint(file, cursor);
		if (cursor.at + propertiesSize > dataStart - 4) throw new Error("a filter's properties are cut off");
		if (id === FILTER_LZMA2 && propertiesSize === 1) dictionary = file[cursor.at]!;
		else if (id === FILTER_X86 && propertiesSize === 0 && dictionary === undefined) x86 = true;
		else throw new Error(`filter 0x${id.toString(16)} is not known`);
		cursor.at += propertiesSize;
	}
	if (dictionary === undefined) throw new Error("a block has no LZMA2 filter");
	return { start, dataStart, x86, dictionary };
}

function readVarint(file: Uint8Array, cursor: { at: number }): number {
	let value = 0;
	for (let i = 0; i < 7; i++) {
		const byte = file[cursor.at++];
		if (byte === undefined) break;
		value += (byte & 0x7f) * 2 ** (7 * i);
		if (byte < 0x80) return value;
	}
	throw new Error("a number is too long or cut off");
}

function varint(value: number): number[] {
	const bytes: number[] = [];
	for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80);
	return [...bytes, value];
}

/** Walks LZMA2's chunk headers: where the data ends and how much it holds. */
function measureLzma2(file: Uint8Array, start: number): { end: number; uncompressedSize: number } {
	let at = start;
	let uncompressedSize = 0;
	for (;;) {
		const control = file[at];
		if (control === undefined) throw new Error("the data is cut off");
		if (control === 0) return { end: at + 1, uncompressedSize };
		if (at + 6 > file.length) throw new Error("the data is cut off");
		const size = ((file[at + 1]! << 8) | file[at + 2]!) + 1;
		if (control >= 0x80) {
			uncompressedSize += ((control & 0x1f) << 16) + size;
			at += (control >= 0xc0 ? 6 : 5) + ((file[at + 3]! << 8) | file[at + 4]!) + 1;
		} else if (control <= 2) {
			uncompressedSize += size;
			at += 3 + size;
		} else throw new Error(`chunk type ${control} is not known`);
	}
}

/** A minimal .xz file around LZMA2 data: one block, no other filter, no check. */
function wrapLzma2(lzma2: Uint8Array, dictionary: number, uncompressedSize: number): Uint8Array {
	const flags = [0, CHECK_NONE];
	const blockHeader = [2, 0, FILTER_LZMA2, 1, dictionary, 0, 0, 0];
	const unpadded = blockHeader.length + 4 + lzma2.length;
	const index = [0, 1, ...varint(unpadded), ...varint(uncompressedSize)];
	while (index.length % 4 !== 0) index.push(0);
	const backwardSize = (index.length + 4) / 4 - 1;
	const footer = [...le32(backwardSize), ...flags];
	return concat([
		[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, ...withCrc(flags)],
		withCrc(blockHeader),
		lzma2,
		new Array<number>((4 - (unpadded % 4)) % 4).fill(0),
		withCrc(index),
		[...le32(crc32(Uint8Array.from(footer))), ...footer, 0x59, 0x5a],
	]);
}

function concat(pieces: readonly ArrayLike<number>[]): Uint8Array {
	const out = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
	let at = 0;
	for (const piece of pieces) {
		out.set(piece, at);
		at += piece.length;
	}
	return out;
}

function le32(value: number): number[] {
	return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

function withCrc(bytes: readonly number[]): number[] {
	return [...bytes, ...le32(crc32(Uint8Array.from(bytes)))];
}

const CRC_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
	let crc = byte;
	for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
	return crc;
});

function crc32(bytes: Uint8Array): number {
	let crc = 0xffff_ffff;
	for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
	return ~crc >>> 0;
}

/** Whether an operand may be one, by which of the three bytes before it were opcodes themselves. */
const MASK_ALLOWS = [true, true, true, false, true, false, false, false];
/** Index of the operand byte that the most recent of those opcodes would reach. */
const MASK_BYTE = [0, 1, 2, 2, 3, 3, 3, 3];

function looksRelative(byte: number): boolean {
	return byte === 0x00 || byte === 0xff;
}

/** Turns the operands of CALL and JMP (E8, E9) back from absolute to relative, in place. */
export function undoX86Filter(code: Uint8Array): void {
	const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
	let lastOpcode = -1;
	let mask = 0;
	for (let i = 0; i + 4 < code.length; i++) {
		if ((code[i]! & 0xfe) !== 0xe8) continue;
		const distance = i - lastOpcode;
		lastOpcode = i;
		mask = distance > 3 ? 0 : (mask << (distance - 1)) & 7;
		if (mask !== 0 && (!MASK_ALLOWS[mask] || looksRelative(code[i + 4 - MASK_BYTE[mask]!]!))) {
			mask = ((mask << 1) | 1) & 7;
			continue;
		}
		if (!looksRelative(code[i + 4]!)) {
			mask = ((mask << 1) | 1) & 7;
			continue;
		}
		let operand = view.getUint32(i + 1, true);
		for (;;) {
			operand = (operand - (i + 5)) | 0;
			const shift = MASK_BYTE[mask]! * 8;
			if (mask === 0 || !looksRelative((operand >>> (24 - shift)) & 0xff)) break;
			operand ^= shift === 0 ? -1 : (1 << (32 - shift)) - 1;
		}
		// Bit 24 is the sign; the top byte is nothing but it.
		operand = (operand << 7) >> 7;
		view.setInt32(i + 1, operand, true);
		i += 4;
	}
}
