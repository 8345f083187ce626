import type { Generated } from "./generate.ts";
import { compareKernel, type KernelMode, type KernelOutcome } from "./kernel-guest.ts";
import { CODE, CODE_BYTES, REGION } from "./protocol.ts";

/**
 * Where a KVM that emulates kernel code (kvm-pvm; Linux's x86 emulator) is not the processor it stands for. A
 * difference of one of these classes is no difference of the engine's: the test checks that the processor itself,
 * running the case natively, sides with the engine, or the class has a proof of its own.
 */
export interface HostClass {
	name: string;
	why: string;
	applies(difference: Difference): boolean;
	/** Why the processor need not be asked. */
	proof?: string;
}

/** One case on both engines, and what differs. */
export interface Difference {
	mode: KernelMode;
	made: Generated;
	words: readonly string[];
	software: KernelOutcome;
	hardware: KernelOutcome;
}

const DB = 1;
const UD = 6;
const SS = 12;
const GP = 13;
const PF = 14;
/** Of a page fault's error code: a reserved bit is set in a table. */
const RESERVED = 8;

export const AC = 0x4_0000;
const SF = 0x80;
const ZF = 0x40;
const PARITY = 4;
const ARITHMETIC = 0x8d5;
const FIRST_NON_CANONICAL = 0x8000_0000_0000n;
const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
const FAULTS: ReadonlySet<unknown> = new Set([SS, GP, PF]);

const only = (words: readonly string[], ...what: string[]): boolean =>
	words.every((text) => what.some((start) => text.startsWith(`${start} `)));
const uses = (made: Generated, pattern: RegExp): boolean => made.rows.some((row) => pattern.test(row.name));

/** A prefix of one of the instructions. */
function hasPrefix({ one, starts, rows }: Generated, ...prefixes: readonly number[]): boolean {
	return rows.some((_, i) => {
		for (let at = starts[i]!; PREFIXES.has(one.code[at] ?? 0); at++) if (prefixes.includes(one.code[at]!)) return true;
		return false;
	});
}

/** Whether some flags, in the register or in an event's frame, are all that differs. */
function onlyFlags({ mode, made, software, hardware }: Difference, flags: number): boolean {
	return compareKernel(mode, made.undefinedFlags | flags, software, hardware).length === 0;
}

/** A page fault right below or at the first address that is not canonical. */
function isLastCanonical(address: bigint): boolean {
	return address > FIRST_NON_CANONICAL - 64n && address <= FIRST_NON_CANONICAL;
}

/**
 * The alignment flag behind an event in protected mode. SDM 2, INT n, and SDM 3A, 7.12.1.3: the gate clears TF, NT, RF
 * and VM, and IF; the host clears AC too, as it does for its own handlers. It comes on top of other differences.
 */
export function losesAlignmentFlag({ mode, software, hardware }: Omit<Difference, "words">): boolean {
	const lost = software.regs.rflags & ~hardware.regs.rflags;
	return mode === "protected" && typeof software.end === "number" && (Number(lost) & AC) !== 0;
}

/** Instructions that the emulator does not have: `internal-error`, or #UD. The case says nothing. */
export const NOT_EMULATED: readonly (readonly [RegExp, string])[] = [
	[/^(nop|prefetch.*|endbr.*)$/, "hint opcodes 0F 0D and 0F 18 to 0F 1E other than 0F 1F"],
	[/^[lms]fence$/, "fences, but for the ModRM bytes E8, F0 and F8"],
	[/^(clac|stac)$/, "SMAP's flag"],
	[/^(clwb|clflushopt|pcommit)$/, "cache-line writes"],
	[/^(aaa|aas|daa|das)$/, "decimal adjustment"],
	[/^(popcnt|movbe|crc32|bextr|andn|bls.*|rdpid)$/, "SSE4.2's and later integer instructions"],
	[/^cmpxchg(8|16)b$/, "the 16-byte form"],
];

/** Rows that are not drawn, and why. */
const LEFT_OUT: readonly (readonly [RegExp, string])[] = [
	[/^movbe /, "not emulated: #UD, whose frame may have no room"],
	[/^nop 0F/, "hints: most are not emulated, and some with 16-bit addresses are taken for longer than they are"],
	[
		/^push (06|0E|16|1E|0F A0|0F A8)$/,
		"SDM, PUSH: the upper half of a 32-bit slot is zeroed or left alone, as the processor likes; the emulator leaves it",
	],
];

/** Whether cases may be made of a row. */
export function isDrawn(row: { name: string; opcode: string }): boolean {
	return !LEFT_OUT.some(([pattern]) => pattern.test(`${row.name} ${row.opcode}`));
}

/** Rows that code at CPL 3 is not made of, and why: there the host's own control registers count. */
const LEFT_OUT_NATIVE: readonly (readonly [RegExp, string])[] = [
	[/^(int|into|int3)$/, "INT n is #UD"],
	[/^(in|out|ins|outs|cli|sti)$/, "there is no IOPL"],
	[
		/^(lar|lsl|verr|verw|l[defgs]s|retf|iret.?|call[fp]?|jmp[fp]?|lcall|ljmp|callf|jmpf)$/,
		"the processor looks into the host's descriptor tables (near indirect branches are of the same names)",
	],
	[/^(rdpkru|wrpkru)$/, "the host has protection keys on, and the guest's pages then have them too"],
];

/** Whether cases at CPL 3 may be made of a row. */
export function isDrawnNative(row: { name: string; opcode: string }): boolean {
	if (SEGMENT_LOADS.test(`${row.name} ${row.opcode}`)) return false;
	return !LEFT_OUT_NATIVE.some(([pattern]) => pattern.test(row.name));
}

/** Like the far branches. */
const SEGMENT_LOADS = /^(mov 8E|pop (07|17|1F|0F A1|0F A9))/;

/** Why the hardware's outcome says nothing, or undefined. */
export function notEmulated(mode: KernelMode, made: Generated, hardware: KernelOutcome): string | undefined {
	if (hardware.end !== "failed" && hardware.end !== 6) return undefined;
	if (hardware.end === "failed" && !isOwnCode(mode, made, hardware.regs.rip)) return "what a branch led to";
	return NOT_EMULATED.find(([pattern]) => uses(made, pattern))?.[1];
}

/** Whether an instruction is the case's own, and not what some memory holds. */
function isOwnCode(mode: KernelMode, { one }: Generated, rip: bigint): boolean {
	const start = BigInt((mode === "real" ? CODE - REGION : CODE) + one.offset);
	return rip >= start && rip < start + BigInt(one.code.length);
}

export const HOST_CLASSES: readonly HostClass[] = [
	{
		name: "POPF sets TF",
		why: "no single-step trap behind the next instruction when that is emulated",
		applies: ({ made, words, software }) => only(words, "end") && software.end === DB && uses(made, /^popf/),
	},
	{
		name: "ESP behind a fault in real mode",
		why: "SDM 2, INT n and PUSH: a 16-bit stack leaves the upper half of ESP alone; the host clears it as it injects a fault",
		applies: ({ mode, words, software, hardware }) =>
			mode === "real" &&
			only(words, "rsp") &&
			typeof software.end === "number" &&
			hardware.regs.rsp === (software.regs.rsp & 0xffffn),
		proof: "its own INT n and INT3, which go by the same table to the same stack, leave it alone (a test shows it)",
	},
	{
		name: "repeated store over its own code",
		why: "SDM 3A, 8.1.3 and 10.1.3: what was fetched may go on; the emulator fetches the instruction anew now and then",
		applies: ({ mode, made, software, hardware }) =>
			mode !== "long" &&
			software.codeWritten &&
			hardware.codeWritten &&
			uses(made, /^(stos|movs)$/) &&
			hasPrefix(made, 0xf2, 0xf3),
		proof:
			"RIP stays at the instruction between elements, so it may be fetched anew there: Linux's x86_emulate_insn does whenever RCX is a multiple of 1024, this host also right after an element that changed the instruction (13FFh over 1400h, 141h of 16Eh to go)",
	},
	{
		name: "access across the last canonical address",
		why: "SDM, 3A: #GP (#SS through SS); the emulator looks at the first byte's address, and finds its page missing",
		applies: ({ mode, words, software, hardware }) =>
			mode === "long" &&
			only(words, "end") &&
			(software.end === GP || software.end === SS) &&
			hardware.end === PF &&
			isLastCanonical(hardware.cr2),
	},
	{
		name: "segment override in 64-bit mode",
		why: "APM 2, 4.5.3: CS, DS, ES and SS are ignored, and the base register says #SS or #GP; the emulator goes by the prefix",
		applies: ({ mode, made, words, software, hardware }) =>
			mode === "long" &&
			only(words, "end") &&
			((software.end === GP && hardware.end === SS && hasPrefix(made, 0x36)) ||
				(software.end === SS && hardware.end === GP && hasPrefix(made, 0x26, 0x2e, 0x3e))),
	},
	{
		name: "overlong instruction into a missing page",
		why: "its first 15 bytes are fetched before it is too long: #PF; the emulator counts before it fetches",
		applies: ({ mode, made, words, software, hardware }) =>
			mode === "long" &&
			only(words, "end") &&
			software.end === PF &&
			hardware.end === GP &&
			made.one.offset + made.one.code.length === CODE_BYTES,
	},
	{
		name: "LOCK before a fence or an FS or GS base",
		why: "SDM, LOCK: #UD; the emulator decodes this group past the prefix",
		applies: ({ made, words, software, hardware }) =>
			only(words, "end") &&
			software.end === UD &&
			hardware.end !== UD &&
			uses(made, /^([lms]fence|(rd|wr)[fg]sbase)$/) &&
			hasPrefix(made, 0xf0),
	},
	{
		name: "comparison of strings that both fault",
		why: "which of the two is told is the processor's choice",
		applies: ({ made, words, software, hardware }) =>
			uses(made, /^cmps$/) && only(words, "end", "cr2") && FAULTS.has(software.end) && FAULTS.has(hardware.end),
	},
	{
		name: "bit scan of zero",
		why: "SDM, BSF and BSR: the destination is undefined; the processor leaves all of it alone, the emulator not its upper half",
		applies: ({ made, words }) => uses(made, /^bs[fr]$/) && words.every((text) => /^r[a-z0-9]+ /.test(text)),
	},
	{
		name: "LEAVE from a non-canonical RBP",
		why: "SDM: #SS; the emulator pops by way of a truncated address",
		applies: ({ made, words, software }) => uses(made, /^leave$/) && only(words, "end", "cr2") && software.end === SS,
	},
	{
		name: "cache-line flush or bit string through SS",
		why: "SDM: a non-canonical address in SS is #SS; the emulator says #GP",
		applies: ({ made, words, software }) =>
			uses(made, /^(clflush.*|bt[crs]?)$/) && only(words, "end") && software.end === SS,
	},
	{
		name: "AAM and AAD",
		why: "SDM: SF, ZF and PF of AL; the emulator takes them of AX or EAX",
		applies: (difference) => uses(difference.made, /^(aam|aad)$/) && onlyFlags(difference, SF | ZF | PARITY),
	},
	{
		name: "CMPXCHG that fails",
		why: "a 32-bit register destination keeps its upper half; the emulator clears it",
		applies: ({ made, words }) => uses(made, /^cmpxchg$/) && words.every((text) => /^r[a-z0-9]+ /.test(text)),
	},
	{
		name: "repeated compare cut short by a fault",
		why: "the flags are those of the last element compared; the emulator has not written them back",
		applies: (difference) =>
			uses(difference.made, /^(scas|cmps)$/) &&
			hasPrefix(difference.made, 0xf2, 0xf3) &&
			onlyFlags(difference, ARITHMETIC),
	},
	{
		name: "store across into a page that faults",
		why: "SDM, 3A: nothing of it is written; the emulator writes up to the page's end",
		applies: ({ mode, words, software, hardware }) =>
			mode === "long" &&
			only(words, "memory", "first") &&
			software.end === PF &&
			(-(hardware.dirtyOffset + hardware.dirty.length) & 4095) < 8,
	},
	{
		name: "near call to a non-canonical address with a stack that faults",
		why: "the push comes before the check of the target; the emulator has them the other way round",
		applies: ({ made, words, software, hardware }) =>
			uses(made, /^call$/) && only(words, "end") && software.end === PF && hardware.end === GP,
	},
];

/** Of code at CPL 3, which such a host runs natively: what is left to it are the faults, some of which it answers by emulating. */
export function hostFault(
	made: Generated,
	software: { trap: number; error: number },
	hardware: { trap: number; error: number },
	words: readonly string[],
): string | undefined {
	if (hardware.trap === PF && only(words, "error") && (hardware.error ^ software.error) === RESERVED)
		return "#PF that tells of reserved bits, of which only the host's own tables have any";
	if (software.trap === UD && hardware.trap === GP)
		return "#UD of a register that is not there, which the host takes for #GP";
	if (software.trap !== GP) return undefined;
	if (hardware.trap === UD) return "#GP that the host answers by emulating, and with #UD where it cannot";
	if (hardware.trap === SS && hasPrefix(made, 0x36))
		return "#GP emulated to #SS by an override that counts for nothing";
	if (uses(made, /^fx(save|rstor)$/) && hardware.trap !== GP)
		return "#GP of a misaligned area, which the emulator saves to and restores from";
	return hardware.trap === GP && only(words, "error") ? "#GP whose error code is lost on the way" : undefined;
}
