/**
 * What native.c reads and writes. All little-endian.
 *
 * To it: batches of a header (magic, count, the contents of the two data pages) and `count` inputs. From it: once
 * (magic, input size, output size, bit 0: 16-bit segments are to be had, bit 1: protection keys are on), then per batch a u64 length and that many
 * bytes of outputs: 688 bytes each and behind them the stretch of the data pages that the case changed.
 */

/** Linear addresses, the same for the native process and the guest. A hole follows both pairs of pages. */
export const REGION = 0x1000_0000;
export const CODE: number = REGION + 0x1000;
export const CODE_BYTES = 0x2000;
export const DATA: number = REGION + 0x8000;
export const DATA_BYTES = 0x2000;
/** Bases of FS and GS in 64-bit code, and of FS in 16- and 32-bit code. */
export const FS_BASE: number = DATA + 0x400;
export const GS_BASE: number = DATA + 0x1400;

export const MAGIC = 0x3143524f;
export const HEADER_BYTES: number = 8 + DATA_BYTES;

/** struct input. */
export const INPUT_BYTES = 728;
export const CODE_MAX = 72;
export const IN = { mode: 0, offset: 2, length: 4, code: 8, gpr: 80, rflags: 208, fx: 216 } as const;

/** struct output. */
export const OUTPUT_BYTES = 688;
export const OUT = {
	trap: 0,
	error: 4,
	cr2: 8,
	rip: 16,
	rflags: 24,
	gpr: 32,
	selectors: 160,
	dirtyOffset: 172,
	dirtyLength: 174,
	fx: 176,
} as const;

/** Pseudo-vectors in `trap`: the case made a system call, or did not end. */
export const END_SYSCALL = 255;
export const END_TIMEOUT = 254;

/** FXSAVE area. */
export const FX = { fcw: 0, fsw: 2, ftw: 4, fop: 6, fip: 8, fdp: 16, mxcsr: 24, st: 32, xmm: 160 } as const;

/** Width of the code segment a case runs in. */
export type Mode = 16 | 32 | 64;

/** `mode` of struct input for `limited` cases. */
const LIMITED = 33;

/** One case as an object: what shrinking and vectors work on. */
export interface Case {
	mode: Mode;
	/** 32-bit code in a segment that ends behind the code pages. */
	limited?: true;
	/** Of the code in the code pages. */
	offset: number;
	code: Uint8Array;
	/** RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8.. */
	gpr: bigint[];
	rflags: bigint;
	/** 512 bytes. */
	fx: Uint8Array;
}

/** What a case did. */
export interface Outcome {
	trap: number;
	error: number;
	cr2: bigint;
	rip: bigint;
	rflags: bigint;
	gpr: bigint[];
	/** CS SS DS ES FS GS. */
	selectors: number[];
	dirtyOffset: number;
	dirty: Uint8Array;
	fx: Uint8Array;
}

/** Writes a case as struct input. */
export function writeInput(to: DataView, at: number, one: Case): void {
	const bytes = new Uint8Array(to.buffer, to.byteOffset + at, INPUT_BYTES);
	bytes.fill(0, 0, IN.gpr);
	to.setUint16(at + IN.mode, one.limited === true ? LIMITED : one.mode, true);
	to.setUint16(at + IN.offset, one.offset, true);
	to.setUint8(at + IN.length, one.code.length);
	bytes.set(one.code, IN.code);
	one.gpr.forEach((value, i) => {
		to.setBigUint64(at + IN.gpr + i * 8, value, true);
	});
	to.setBigUint64(at + IN.rflags, one.rflags, true);
	bytes.set(one.fx, IN.fx);
}

/** Header and inputs of one batch. */
export function writeBatch(data: Uint8Array, cases: readonly Case[]): Uint8Array {
	const batch = new Uint8Array(HEADER_BYTES + cases.length * INPUT_BYTES);
	const view = new DataView(batch.buffer);
	view.setUint32(0, MAGIC, true);
	view.setUint32(4, cases.length, true);
	batch.set(data, 8);
	cases.forEach((one, i) => {
		writeInput(view, HEADER_BYTES + i * INPUT_BYTES, one);
	});
	return batch;
}

/** Reads struct output and what follows it. */
export function readOutput(view: DataView, at: number): { outcome: Outcome; next: number } {
	const bytes = new Uint8Array(view.buffer, view.byteOffset);
	const length = view.getUint16(at + OUT.dirtyLength, true);
	const outcome: Outcome = {
		trap: view.getUint32(at + OUT.trap, true),
		error: view.getUint32(at + OUT.error, true),
		cr2: view.getBigUint64(at + OUT.cr2, true),
		rip: view.getBigUint64(at + OUT.rip, true),
		rflags: view.getBigUint64(at + OUT.rflags, true),
		gpr: Array.from({ length: 16 }, (_, i) => view.getBigUint64(at + OUT.gpr + i * 8, true)),
		selectors: Array.from({ length: 6 }, (_, i) => view.getUint16(at + OUT.selectors + i * 2, true)),
		dirtyOffset: view.getUint16(at + OUT.dirtyOffset, true),
		dirty: bytes.slice(at + OUTPUT_BYTES, at + OUTPUT_BYTES + length),
		fx: bytes.slice(at + OUT.fx, at + OUT.fx + 512),
	};
	return { outcome, next: at + OUTPUT_BYTES + length };
}
