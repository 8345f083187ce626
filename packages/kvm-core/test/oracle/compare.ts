import { END_SYSCALL, END_TIMEOUT, FX, type Outcome } from "./protocol.ts";

/** Where user space ends: TASK_SIZE_MAX. */
const USER_END = 0x7fff_ffff_f000n;
const PAGE_FAULT = 14;
/** Of a memory operand: #SS, #GP, #PF. */
const FAULTS: readonly number[] = [12, 13, 14];
/** Present: Linux sets it for addresses beyond user space's, so as not to tell what is mapped there. */
const PRESENT = 1;
const hex = (value: bigint | number): string => value.toString(16);

/** Instructions that access a few neighbouring words: which one first, and so which one faults, is the processor's choice. */
const SEVERAL = /\b(retf|iret.?|call|jmp|l[defgs]s|pusha|popa|enter|bound)\b/;

/** Whether the address of a page fault may be the one or the other. */
function mayFaultAt(name: string, want: bigint, got: bigint): boolean {
	if (/\bcmps\b/.test(name)) return true;
	const distance = want > got ? want - got : got - want;
	return SEVERAL.test(name) && distance < 64n;
}

/** What differs between two outcomes of a case, in words; empty when they agree. */
export function compare(
	{ name, undefinedFlags }: { name: string; undefinedFlags: number },
	want: Outcome,
	got: Outcome,
): string[] {
	const differences: string[] = [];
	const expect = (what: string, wanted: bigint | number, actual: bigint | number): void => {
		if (wanted !== actual) differences.push(`${what} ${hex(wanted)}, got ${hex(actual)}`);
	};
	if (want.trap === END_SYSCALL || want.trap === END_TIMEOUT) return [];
	// Bit 17 is AMD's: the engine's CPUID is not.
	if ((new DataView(want.fx.buffer, want.fx.byteOffset).getUint32(FX.mxcsr, true) & 0x2_0000) !== 0) return [];
	// Masked stores across 4 GiB: whether the limit or the page is looked at first is the processor's choice.
	if (/\bmaskmov/.test(name) && FAULTS.includes(want.trap) && FAULTS.includes(got.trap)) return [];
	// Where both operands of a comparison fault, which of them is told is the processor's choice.
	if (/\bcmps\b/.test(name) && FAULTS.includes(want.trap) && FAULTS.includes(got.trap)) return [];
	expect("vector", want.trap, got.trap);
	const kernelHalf = want.trap === PAGE_FAULT && want.cr2 >= USER_END;
	expect("error code", kernelHalf ? want.error | PRESENT : want.error, kernelHalf ? got.error | PRESENT : got.error);
	if (want.trap === PAGE_FAULT && !mayFaultAt(name, want.cr2, got.cr2)) expect("cr2", want.cr2, got.cr2);
	expect("rip", want.rip, got.rip);
	const defined = ~BigInt(undefinedFlags);
	expect("rflags", want.rflags & defined, got.rflags & defined);
	const is64 = want.selectors[0] === 0x33;
	for (let i = 0; i < 16; i++) {
		// Outside 64-bit mode the upper halves are nobody's.
		const cut = is64 ? 64 : i < 8 ? 32 : 0;
		expect(`r${i}`, BigInt.asUintN(cut, want.gpr[i]!), BigInt.asUintN(cut, got.gpr[i]!));
	}
	// The kernel's IRET to the signal handler has made every null selector 0.
	const plain = (selector: number): number => (selector < 4 ? 0 : selector);
	want.selectors.forEach((selector, i) => {
		expect(["cs", "ss", "ds", "es", "fs", "gs"][i]!, plain(selector), plain(got.selectors[i] ?? -1));
	});
	expect("first byte written", want.dirtyOffset, got.dirtyOffset);
	if (Buffer.compare(want.dirty, got.dirty) !== 0) {
		differences.push(
			`memory ${Buffer.from(want.dirty).toString("hex")}, got ${Buffer.from(got.dirty).toString("hex")}`,
		);
	}
	compareFx(want.fx, got.fx, differences);
	return differences;
}

/** The FXSAVE area without the last instruction's opcode and pointers. */
function compareFx(want: Uint8Array, got: Uint8Array, differences: string[]): void {
	const wanted = new DataView(want.buffer, want.byteOffset);
	const actual = new DataView(got.buffer, got.byteOffset);
	const expect = (what: string, a: number, b: number): void => {
		if (a !== b) differences.push(`${what} ${hex(a)}, got ${hex(b)}`);
	};
	expect("fcw", wanted.getUint16(FX.fcw, true), actual.getUint16(FX.fcw, true));
	expect("fsw", wanted.getUint16(FX.fsw, true), actual.getUint16(FX.fsw, true));
	expect("ftw", want[FX.ftw]!, got[FX.ftw]!);
	expect("mxcsr", wanted.getUint32(FX.mxcsr, true), actual.getUint32(FX.mxcsr, true));
	const bytes = (what: string, at: number, length: number): void => {
		const a = Buffer.from(want.subarray(at, at + length));
		const b = Buffer.from(got.subarray(at, at + length));
		if (a.compare(b) !== 0)
			differences.push(`${what} ${a.reverse().toString("hex")}, got ${b.reverse().toString("hex")}`);
	};
	for (let i = 0; i < 8; i++) bytes(`st${i}`, FX.st + i * 16, 10);
	for (let i = 0; i < 16; i++) bytes(`xmm${i}`, FX.xmm + i * 16, 16);
}
