import { type Cpu, DE } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { defineSystem, type Instruction } from "./define.ts";

const AL = L.GPR;
const AH = L.GPR + 1;

/** Flags after `al`: SF, ZF and PF by it, AF and CF as given, OF clear. */
function setFlags(cpu: Cpu, al: number, carry: boolean, adjust: boolean): void {
	cpu.set64(L.FLAGS_RES, BigInt.asUintN(64, BigInt((al << 24) >> 24)));
	cpu.set32(L.FLAGS_AUX, (carry ? L.CF : 0) | (adjust ? L.AF : 0));
}

/** DAA (`sign` 1) and DAS (-1): packed decimal. */
function adjustPacked(cpu: Cpu, sign: 1 | -1): void {
	const { flags } = cpu;
	const old = cpu.u8[AL]!;
	let al = old;
	let carry = (flags & L.CF) !== 0;
	const high = old > 0x99 || carry;
	const adjust = (old & 0xf) > 9 || (flags & L.AF) !== 0;
	if (adjust) {
		if (sign < 0) carry ||= al < 6;
		al = (al + 6 * sign) & 0xff;
	}
	if (high) {
		al = (al + 0x60 * sign) & 0xff;
		carry = true;
	} else if (sign > 0) carry = false;
	cpu.u8[AL] = al;
	setFlags(cpu, al, carry, adjust);
}

/** AAA (`sign` 1) and AAS (-1): unpacked decimal. */
function adjustUnpacked(cpu: Cpu, sign: 1 | -1): void {
	const { flags } = cpu;
	const adjust = (cpu.u8[AL]! & 0xf) > 9 || (flags & L.AF) !== 0;
	if (adjust) cpu.setGpr(L.RAX, 2, (cpu.gpr16(L.RAX) + 0x106 * sign) & 0xffff);
	const al = cpu.u8[AL]! & 0xf;
	cpu.u8[AL] = al;
	setFlags(cpu, al, adjust, adjust);
}

const PACKED_UNDEFINED: number = L.OF;
const UNPACKED_UNDEFINED: number = L.OF | L.SF | L.ZF | L.PF;
const MULTIPLY_UNDEFINED: number = L.OF | L.AF | L.CF;

/** Decimal arithmetic, which 64-bit mode does not have. */
export const decimalRows: readonly Instruction[] = [
	defineSystem("daa", "27", "", (cpu) => adjustPacked(cpu, 1), {
		attributes: ["i64"],
		undefinedFlags: PACKED_UNDEFINED,
	}),
	defineSystem("das", "2F", "", (cpu) => adjustPacked(cpu, -1), {
		attributes: ["i64"],
		undefinedFlags: PACKED_UNDEFINED,
	}),
	defineSystem("aaa", "37", "", (cpu) => adjustUnpacked(cpu, 1), {
		attributes: ["i64"],
		undefinedFlags: UNPACKED_UNDEFINED,
	}),
	defineSystem("aas", "3F", "", (cpu) => adjustUnpacked(cpu, -1), {
		attributes: ["i64"],
		undefinedFlags: UNPACKED_UNDEFINED,
	}),
	defineSystem(
		"aam",
		"D4",
		"Ib",
		(cpu, insn) => {
			const base = insn.immediate & 0xff;
			if (base === 0) cpu.raise(DE);
			const value = cpu.u8[AL]!;
			cpu.u8[AH] = Math.floor(value / base);
			cpu.u8[AL] = value % base;
			setFlags(cpu, value % base, false, false);
		},
		{ attributes: ["i64"], undefinedFlags: MULTIPLY_UNDEFINED },
	),
	defineSystem(
		"aad",
		"D5",
		"Ib",
		(cpu, insn) => {
			const al = (cpu.u8[AL]! + cpu.u8[AH]! * (insn.immediate & 0xff)) & 0xff;
			cpu.setGpr(L.RAX, 2, al);
			setFlags(cpu, al, false, false);
		},
		{ attributes: ["i64"], undefinedFlags: MULTIPLY_UNDEFINED },
	),
	// Not in the manuals, in every processor: AL = CF ? FFh : 0.
	defineSystem(
		"salc",
		"D6",
		"",
		(cpu) => {
			cpu.u8[AL] = (cpu.flags & L.CF) !== 0 ? 0xff : 0;
		},
		{ attributes: ["i64"] },
	),
];
