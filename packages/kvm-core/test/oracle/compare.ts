import { END_SYSCALL, END_TIMEOUT, FX, type Outcome } from "./protocol.ts";
import { APPROXIMATE, ELEMENTARY } from "./rows.ts";

/** Where user space ends: TASK_SIZE_MAX. */
const USER_END = 0x7fff_ffff_f000n;
const PAGE_FAULT = 14;
const GENERAL_PROTECTION = 13;
const ALIGNMENT = 17;
const RDI = 7;
const MISALIGNED_MASK = 0x2_0000;
const C1 = 0x200;
const PE = 0x20;
const UE = 0x10;
/** ES and B. */
const SUMMARY = 0x8080;
/** Of a memory operand: #SS, #GP, #PF. */
const FAULTS: readonly number[] = [12, 13, 14];
/** Present: Linux sets it for addresses beyond user space's, so as not to tell what is mapped there. */
const PRESENT = 1;
const hex = (value: bigint | number): string => value.toString(16);

/** Instructions that access a few neighbouring words: which one first, and so which one faults, is the processor's choice. */
const SEVERAL = /\b(retf|iret.?|call|jmp|l[defgs]s|pusha|popa|enter|bound)\b/;
/** The same, over areas of some hundred bytes. */
const AREAS = /\b(f(n?save|xsave|xrstor|rstor|n?stenv|ldenv)|xsave|xsaveopt|xsavec|xrstor)\b/;

/** Whether the address of a page fault may be the one or the other. */
function mayFaultAt(name: string, want: bigint, got: bigint): boolean {
	if (/\bcmps\b/.test(name)) return true;
	// The addresses behind the last one are the first.
	const ahead = BigInt.asIntN(64, want - got);
	const distance = ahead < 0n ? -ahead : ahead;
	return (SEVERAL.test(name) && distance < 64n) || (AREAS.test(name) && distance < 1024n);
}

/** What of a case a comparison must know. */
export interface Compared {
	name: string;
	undefinedFlags: number;
	/** General registers that hold what the machine says of itself. */
	ignored?: readonly number[];
}

/** What differs between two outcomes of a case, in words; empty when they agree. */
export function compare({ name, undefinedFlags, ignored }: Compared, want: Outcome, got: Outcome): string[] {
	const differences: string[] = [];
	const expect = (what: string, wanted: bigint | number, actual: bigint | number): void => {
		if (wanted !== actual) differences.push(`${what} ${hex(wanted)}, got ${hex(actual)}`);
	};
	if (want.trap === END_SYSCALL || want.trap === END_TIMEOUT) return [];
	// AMD's misaligned SSE mode: a processor whose CPUID does not offer it has no such bit in MXCSR_MASK.
	if ((new DataView(want.fx.buffer, want.fx.byteOffset).getUint32(FX.mxcsr, true) & MISALIGNED_MASK) !== 0) {
		expect("vector", GENERAL_PROTECTION, got.trap);
		return differences;
	}
	// Masked stores across 4 GiB: whether the limit or the page is looked at first is the processor's choice.
	const wraps = (want.gpr[RDI]! & 0xffff_ffffn) > 0xffff_fff0n - 16n;
	if (/\bmaskmov/.test(name) && wraps && FAULTS.includes(want.trap) && FAULTS.includes(got.trap)) return [];
	// The same for areas of some hundred bytes across 4 GiB, a half of all addresses, or the end of a 16-bit segment.
	if (AREAS.test(name) && FAULTS.includes(want.trap) && FAULTS.includes(got.trap) && want.trap !== got.trap) {
		const faulted = want.trap === PAGE_FAULT ? want.cr2 : got.trap === PAGE_FAULT ? got.cr2 : undefined;
		const bits = want.selectors[0] === 0x07 ? 16 : 32;
		if (faulted !== undefined && BigInt.asUintN(bits, faulted + 0x400n) < 0x800n) return [];
	}
	// Far returns look at what lies behind what they release, in an order of their own.
	if (/\b(retf|iret.?)\b/.test(name) && want.trap === ALIGNMENT && FAULTS.includes(got.trap)) return [];
	// From a 16-bit stack a call to 64-bit code pushes to where only some processors do.
	if (/\bcallf\b/.test(name) && want.trap === PAGE_FAULT && got.selectors[0] === 0x33) return [];
	// Where both operands of a comparison fault, which of them is told is the processor's choice.
	const faults = (trap: number): boolean => trap === ALIGNMENT || FAULTS.includes(trap);
	if (/\bcmps\b/.test(name) && faults(want.trap) && faults(got.trap)) return [];
	expect("vector", want.trap, got.trap);
	const kernelHalf = want.trap === PAGE_FAULT && want.cr2 >= USER_END;
	// An area whose two pages both fault: which of them is told is the processor's choice.
	const eitherPage = AREAS.test(name) && want.cr2 >> 12n !== got.cr2 >> 12n;
	if (!eitherPage)
		expect("error code", kernelHalf ? want.error | PRESENT : want.error, kernelHalf ? got.error | PRESENT : got.error);
	if (want.trap === PAGE_FAULT && !mayFaultAt(name, want.cr2, got.cr2)) expect("cr2", want.cr2, got.cr2);
	expect("rip", want.rip, got.rip);
	const defined = ~BigInt(undefinedFlags);
	expect("rflags", want.rflags & defined, got.rflags & defined);
	const is64 = want.selectors[0] === 0x33;
	for (let i = 0; i < 16; i++) {
		// Outside 64-bit mode the upper halves are nobody's.
		const cut = ignored?.includes(i) === true ? 0 : is64 ? 64 : i < 8 ? 32 : 0;
		expect(`r${i}`, BigInt.asUintN(cut, want.gpr[i]!), BigInt.asUintN(cut, got.gpr[i]!));
	}
	// The kernel's IRET to the signal handler has made every null selector 0.
	const plain = (selector: number): number => (selector < 4 ? 0 : selector);
	want.selectors.forEach((selector, i) => {
		expect(["cs", "ss", "ds", "es", "fs", "gs"][i]!, plain(selector), plain(got.selectors[i] ?? -1));
	});
	expect("first byte written", want.dirtyOffset, got.dirtyOffset);
	if (AREAS.test(name)) alignMxcsrMasks(want, got);
	if (Buffer.compare(want.dirty, got.dirty) !== 0) {
		const at = want.dirty.findIndex((byte, i) => byte !== got.dirty[i]);
		const there = ({ dirty }: Outcome): string => Buffer.from(dirty.subarray(at, at + 32)).toString("hex");
		differences.push(`memory ${hex(want.dirtyOffset + at)}: ${there(want)}, got ${there(got)}`);
	}
	compareFx(want.fx, got.fx, differences, toleranceOf(name));
	return differences;
}

/** The FXSAVE area without the last instruction's opcode and pointers. */
function compareFx(want: Uint8Array, got: Uint8Array, differences: string[], tolerance: Tolerance): void {
	const wanted = new DataView(want.buffer, want.byteOffset);
	const actual = new DataView(got.buffer, got.byteOffset);
	const expect = (what: string, a: number, b: number): void => {
		if (a !== b) differences.push(`${what} ${hex(a)}, got ${hex(b)}`);
	};
	expect("fcw", wanted.getUint16(FX.fcw, true), actual.getUint16(FX.fcw, true));
	// C1 says which way the result was rounded: with other last digits that may be the other way.
	const status = tolerance === "elementary" ? ~(C1 | unsureOf(wanted, actual)) : ~0;
	expect("fsw", wanted.getUint16(FX.fsw, true) & status, actual.getUint16(FX.fsw, true) & status);
	expect("ftw", want[FX.ftw]!, got[FX.ftw]!);
	expect("mxcsr", wanted.getUint32(FX.mxcsr, true), actual.getUint32(FX.mxcsr, true));
	const bytes = (what: string, at: number, length: number): void => {
		const a = Buffer.from(want.subarray(at, at + length));
		const b = Buffer.from(got.subarray(at, at + length));
		if (a.compare(b) !== 0 && !isClose(tolerance, a, b))
			differences.push(`${what} ${a.reverse().toString("hex")}, got ${b.reverse().toString("hex")}`);
	};
	for (let i = 0; i < 8; i++) bytes(`st${i}`, FX.st + i * 16, 10);
	for (let i = 0; i < 16; i++) bytes(`xmm${i}`, FX.xmm + i * 16, 16);
}

/**
 * An elementary function may report as inexact what happens to be exact, for its algorithm cannot tell, and with it
 * a denormal result as an underflow.
 */
function unsureOf(want: DataView, got: DataView): number {
	const inexact = (view: DataView): boolean => (view.getUint16(FX.fsw, true) & PE) !== 0;
	return inexact(want) && !inexact(got) ? PE | UE | SUMMARY : 0;
}

/** MXCSR_MASK, in an area that was written, tells of AMD's misaligned mode too; the engine's must not. */
function alignMxcsrMasks(want: Outcome, got: Outcome): void {
	const length = Math.min(want.dirty.length, got.dirty.length) - 4;
	// At 28 in areas on multiples of 16.
	for (let at = (28 - want.dirtyOffset) & 15; at <= length; at += 16) {
		const mask = Buffer.from(want.dirty.buffer, want.dirty.byteOffset + at, 4);
		if (mask.readUInt32LE() === (0xffff | MISALIGNED_MASK) && got.dirty[at + 2] === 0) mask[2] = 0;
	}
}

/** How equal registers must be: `elementary` for x87's functions, `approximate` for the reciprocals. */
type Tolerance = "none" | "elementary" | "approximate";

function toleranceOf(name: string): Tolerance {
	const last = name.split(" ").at(-1)!;
	if (ELEMENTARY.test(last)) return "elementary";
	return APPROXIMATE.test(last) ? "approximate" : "none";
}

function isClose(tolerance: Tolerance, want: Buffer, got: Buffer): boolean {
	if (tolerance === "elementary") return want.length === 10 && isCloseExtended(want, got);
	if (tolerance !== "approximate" || want.length !== 16) return false;
	for (let at = 0; at < 16; at += 4) if (!isCloseSingle(want.readFloatLE(at), got.readFloatLE(at))) return false;
	return true;
}

/**
 * Each side may be off by one unit in the last place when it rounds to nearest and by 1.5 otherwise, so that they may be
 * three units apart.
 */
function isCloseExtended(want: Buffer, got: Buffer): boolean {
	const special = (value: Buffer): boolean => {
		const exponent = value.readUInt16LE(8) & 0x7fff;
		return exponent === 0x7fff || (exponent !== 0 && (value.readUInt8(7) & 0x80) === 0);
	};
	if (special(want) || special(got)) return false;
	// Sign and exponent go on where the significand ends, but for the integer bit, which follows from them.
	const order = (value: Buffer): bigint =>
		(BigInt(value.readUInt16LE(8)) << 63n) | (value.readBigUInt64LE(0) & ~(1n << 63n));
	const distance = order(want) - order(got);
	return distance >= -3n && distance <= 3n;
}

/** Each side may be off by 1.5 * 2^-12; zeros, infinities, NaNs and denormals are exact. */
function isCloseSingle(want: number, got: number): boolean {
	const special = (value: number): boolean =>
		!(Math.abs(value) >= 2 ** -126 && Math.abs(value) < Number.POSITIVE_INFINITY);
	// Right above where results are flushed to zero it is the table's choice which are.
	const atEdge = (a: number, b: number): boolean => a === 0 && Math.abs(b) < 2 ** -126 * (1 + 2 ** -10);
	if (atEdge(want, got) || atEdge(got, want)) return Math.sign(1 / want) === Math.sign(1 / got);
	if (special(want) || special(got)) return Object.is(want, got);
	return Math.abs(want - got) <= 3 * 2 ** -12 * Math.abs(want);
}
