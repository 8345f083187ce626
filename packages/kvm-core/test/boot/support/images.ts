/** Minimal files of each kind, made here byte by byte, so that tests can bend any field. */

export interface ElfOptions {
	bits?: 32 | 64;
	entry?: number;
	segments?: { physAddr: number; virtAddr?: bigint; bytes: Uint8Array; memSize?: number }[];
	pvhEntry?: number;
}

export function makeElf(options: ElfOptions = {}): Uint8Array {
	const { bits = 64, entry = 0x100000, pvhEntry } = options;
	const segments = options.segments ?? [{ physAddr: 0x100000, bytes: Uint8Array.of(0xf4), memSize: 0x2000 }];
	const wide = bits === 64;
	const headerSize = wide ? 64 : 52;
	const entrySize = wide ? 56 : 32;
	const count = segments.length + (pvhEntry === undefined ? 0 : 1);
	const note = new Uint8Array(20);
	const noteView = new DataView(note.buffer);
	noteView.setUint32(0, 4, true);
	noteView.setUint32(4, 4, true);
	noteView.setUint32(8, 18, true);
	note.set([0x58, 0x65, 0x6e, 0], 12);
	noteView.setUint32(16, pvhEntry ?? 0, true);
	let at = headerSize + count * entrySize;
	const parts = segments.map((segment) => {
		const offset = at;
		at += segment.bytes.length;
		return { ...segment, offset, type: 1 };
	});
	const all = pvhEntry === undefined ? parts : [...parts, { physAddr: 0, bytes: note, offset: at, type: 4 }];
	const file = new Uint8Array(at + (pvhEntry === undefined ? 0 : note.length));
	const view = new DataView(file.buffer);
	file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
	view.setUint16(16, 2, true);
	view.setUint16(18, wide ? 62 : 3, true);
	const word = (offset: number, value: bigint | number): void =>
		wide ? view.setBigUint64(offset, BigInt(value), true) : view.setUint32(offset, Number(value), true);
	word(24, entry);
	word(wide ? 32 : 28, headerSize);
	view.setUint16(wide ? 54 : 42, entrySize, true);
	view.setUint16(wide ? 56 : 44, count, true);
	all.forEach((segment, i) => {
		const p = headerSize + i * entrySize;
		view.setUint32(p, segment.type, true);
		word(p + (wide ? 8 : 4), segment.offset);
		word(
			p + (wide ? 16 : 8),
			"virtAddr" in segment && segment.virtAddr !== undefined ? segment.virtAddr : segment.physAddr,
		);
		word(p + (wide ? 24 : 12), segment.physAddr);
		word(p + (wide ? 32 : 16), segment.bytes.length);
		word(p + (wide ? 40 : 20), ("memSize" in segment ? segment.memSize : undefined) ?? segment.bytes.length);
		word(p + (wide ? 48 : 28), 4);
		file.set(segment.bytes, segment.offset);
	});
	return file;
}

export interface BzImageOptions {
	payload?: Uint8Array;
	version?: number;
	initSize?: number;
	cmdlineSize?: number;
	initrdAddrMax?: number;
	is64Bit?: boolean;
}

export const KERNEL_VERSION = "6.1.0-test (someone@somewhere) #1";

export function makeBzImage(options: BzImageOptions = {}): Uint8Array {
	const payload = options.payload ?? makeElf();
	const setupSects = 4;
	const setupSize = (setupSects + 1) * 512;
	const payloadOffset = 0x300;
	const systemSize = Math.ceil((payloadOffset + payload.length) / 16) * 16;
	const file = new Uint8Array(setupSize + systemSize);
	const view = new DataView(file.buffer);
	file[0x1f1] = setupSects;
	view.setUint32(0x1f4, systemSize / 16, true);
	view.setUint16(0x1fe, 0xaa55, true);
	file.set([0xeb, 0x6a], 0x200);
	view.setUint32(0x202, 0x53726448, true);
	view.setUint16(0x206, options.version ?? 0x020f, true);
	view.setUint16(0x20e, 0x400, true);
	file.set(new TextEncoder().encode(KERNEL_VERSION), 0x600);
	file[0x211] = 1;
	view.setUint32(0x214, 0x100000, true);
	view.setUint32(0x22c, options.initrdAddrMax ?? 0x7fffffff, true);
	view.setUint32(0x230, 0x200000, true);
	file[0x234] = 1;
	view.setUint16(0x236, (options.is64Bit ?? true) ? 0x7f : 0, true);
	view.setUint32(0x238, options.cmdlineSize ?? 2047, true);
	view.setUint32(0x248, payloadOffset, true);
	view.setUint32(0x24c, payload.length, true);
	view.setBigUint64(0x258, 0x1000000n, true);
	view.setUint32(0x260, options.initSize ?? 0x100000, true);
	file.set(payload, setupSize + payloadOffset);
	return file;
}

/** The multiboot header that kvm-unit-tests put at the start of their text: no flags. */
export function multibootHeader(flags = 0, addresses: readonly number[] = []): Uint8Array {
	const words = [0x1badb002, flags, -(0x1badb002 + flags) >>> 0, ...addresses];
	return new Uint8Array(Uint32Array.from(words).buffer);
}
