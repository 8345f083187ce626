import { type Cpu, MF } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { memoryOperand } from "../cpu/operand.ts";
import type { SystemOperation } from "../cpu/system-operation.ts";
import { BIAS } from "../fp/extended.ts";
import {
	addsUnit,
	bitLength,
	denormalFlag,
	type Extended,
	INDEFINITE,
	infinity,
	isInfinite,
	isNaNumber,
	isNegative,
	isUnsupported,
	isZero,
	lowExponent,
	ONE,
	type Rounded,
	roundingMode,
	roundNumber,
	specialResult,
	zero,
} from "../fp/extended-number.ts";
import { IE, PE, UP, ZE } from "../fp/library.ts";
import { arctangent, circular, logarithm, logarithmPlusOne, powerOfTwoMinusOne } from "../fp/transcendental.ts";
import { C0, C1, C2, C3, ES, SF } from "../fp/x87.ts";
import {
	commit,
	getSt,
	grow,
	isEmpty,
	OVERFLOW,
	pop,
	setConditions,
	setSt,
	settle,
	UNDERFLOW,
	x87Operation,
} from "../fp/x87-file.ts";
import { defineSystem, type Instruction } from "./define.ts";

/** The x87's elementary functions, remainders, scaling and decimal integers. */

/** ST(0) replaced by a function of it. */
function onTop(operation: (cpu: Cpu, x: Extended) => Rounded): SystemOperation {
	return x87Operation((cpu) => {
		commit(cpu, 0, isEmpty(cpu, 0) ? UNDERFLOW : operation(cpu, getSt(cpu, 0)));
	});
}

/** ST(1) replaced by a function of ST(0) and ST(1), ST(0) popped. */
function onTwo(operation: (cpu: Cpu, x: Extended, y: Extended) => Rounded): SystemOperation {
	return x87Operation((cpu) => {
		const empty = isEmpty(cpu, 0) || isEmpty(cpu, 1);
		commit(cpu, 1, empty ? UNDERFLOW : operation(cpu, getSt(cpu, 0), getSt(cpu, 1)), true);
	});
}

/** Replaces ST(0) and pushes a second result, with the exceptions of both. */
function replaceAndPush(cpu: Cpu, first: Rounded, second: Rounded): void {
	// C1 tells of the second.
	if (settle(cpu, (first.flags & ~UP) | second.flags)) return;
	setSt(cpu, 0, first);
	grow(cpu);
	setSt(cpu, 0, second);
}

/** FSIN, FCOS: C2 says that the argument was out of range. */
function circularOnTop(name: "sine" | "cosine"): SystemOperation {
	return x87Operation((cpu) => {
		cpu.set32(L.FSW, cpu.get32(L.FSW) & ~(C1 | C2));
		if (isEmpty(cpu, 0)) {
			commit(cpu, 0, UNDERFLOW);
			return;
		}
		const functions = circular(cpu, getSt(cpu, 0));
		if (functions === undefined) cpu.set32(L.FSW, cpu.get32(L.FSW) | C2);
		else commit(cpu, 0, functions[name]());
	});
}

/** FSINCOS, FPTAN: two results. */
function circularTwo(sincos: boolean): SystemOperation {
	return x87Operation((cpu) => {
		const empty = isEmpty(cpu, 0);
		if (empty || !isEmpty(cpu, 7)) {
			const fault = empty ? UNDERFLOW : OVERFLOW;
			cpu.set32(L.FSW, cpu.get32(L.FSW) & ~C2);
			replaceAndPush(cpu, fault, fault);
			return;
		}
		const x = getSt(cpu, 0);
		const functions = circular(cpu, x);
		cpu.set32(L.FSW, cpu.get32(L.FSW) & ~(C1 | C2));
		if (functions === undefined) {
			cpu.set32(L.FSW, cpu.get32(L.FSW) | C2);
			return;
		}
		const first = sincos ? functions.sine() : functions.tangent();
		const invalid = isNaNumber(first) || isUnsupported(x);
		const second = sincos ? functions.cosine() : invalid ? { ...first } : { ...ONE, flags: 0 };
		replaceAndPush(cpu, first, second);
	});
}

/** Exponent of a finite number's leading bit. */
const topExponent = (a: Extended): number => lowExponent(a) + bitLength(a.significand) - 1;

/** FPREM, FPREM1. */
function remainder(nearest: boolean): SystemOperation {
	return x87Operation((cpu) => {
		cpu.set32(L.FSW, cpu.get32(L.FSW) & ~C2);
		if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) {
			commit(cpu, 0, UNDERFLOW);
			return;
		}
		const x = getSt(cpu, 0);
		const y = getSt(cpu, 1);
		const special = specialResult(x, y) ?? (isInfinite(x) || isZero(y) ? { ...INDEFINITE, flags: IE } : undefined);
		if (special !== undefined) {
			commit(cpu, 0, special);
			return;
		}
		const flags = denormalFlag(x, y);
		if (isZero(x) || isInfinite(y)) {
			const whole = isZero(x) ? { ...x, flags } : exact(cpu, isNegative(x), x.significand, lowExponent(x), flags);
			if (commit(cpu, 0, whole)) setConditions(cpu, 0);
			return;
		}
		const distance = topExponent(x) - topExponent(y);
		// Both as integers times the smaller unit.
		const low = Math.min(lowExponent(x), lowExponent(y));
		const numerator = x.significand << BigInt(lowExponent(x) - low);
		let denominator = y.significand << BigInt(lowExponent(y) - low);
		let conditions = 0;
		if (distance >= 64) {
			conditions = C2;
			denominator <<= BigInt(distance - (32 + (distance & 31)));
		}
		let quotient = numerator / denominator;
		let rest = numerator - quotient * denominator;
		let negative = isNegative(x);
		if (nearest && distance < 64) {
			const twice = 2n * rest;
			if (twice > denominator || (twice === denominator && (quotient & 1n) === 1n)) {
				quotient++;
				rest = denominator - rest;
				negative = !negative;
			}
		}
		const result: Rounded = rest === 0n ? { ...zero(isNegative(x)), flags } : exact(cpu, negative, rest, low, flags);
		let status = result.flags;
		if (conditions === 0) {
			const q = Number(quotient & 7n);
			conditions = ((q & 4) !== 0 ? C0 : 0) | ((q & 2) !== 0 ? C3 : 0);
			if ((q & 1) !== 0) status |= C1;
		}
		if (commit(cpu, 0, { ...result, flags: status })) setConditions(cpu, conditions);
	});
}

function exact(cpu: Cpu, negative: boolean, magnitude: bigint, exponent: number, flags: number): Rounded {
	const result = roundNumber(cpu, negative, magnitude, exponent, false);
	return { ...result, flags: result.flags | flags };
}

/** ST(0) times two to the integral part of ST(1). */
function scale(cpu: Cpu): void {
	if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) {
		commit(cpu, 0, UNDERFLOW);
		return;
	}
	const x = getSt(cpu, 0);
	const by = getSt(cpu, 1);
	commit(cpu, 0, specialResult(x, by) ?? scaled(cpu, x, by));
}

function scaled(cpu: Cpu, x: Extended, by: Extended): Rounded {
	const flags = denormalFlag(x, by);
	if (isInfinite(by)) {
		if (isNegative(by)) return isInfinite(x) ? { ...INDEFINITE, flags: IE } : { ...zero(isNegative(x)), flags };
		return isZero(x) ? { ...INDEFINITE, flags: IE } : { ...infinity(isNegative(x)), flags };
	}
	if (isZero(x) || isInfinite(x)) return { ...x, flags };
	let steps = 0;
	const exponent = (by.se & 0x7fff) - BIAS;
	if (exponent >= 16) steps = 0x1_0000;
	else if (exponent >= 0) steps = Number(by.significand >> BigInt(63 - exponent));
	if (isNegative(by)) steps = -steps;
	return exact(cpu, isNegative(x), x.significand, lowExponent(x) + steps, flags);
}

/** ST(0) taken apart: its exponent there, its significand pushed. */
function extract(cpu: Cpu): void {
	const empty = isEmpty(cpu, 0);
	if (empty || !isEmpty(cpu, 7)) {
		const fault = empty ? UNDERFLOW : OVERFLOW;
		replaceAndPush(cpu, fault, fault);
		return;
	}
	const x = getSt(cpu, 0);
	const special = specialResult(x);
	if (special !== undefined) replaceAndPush(cpu, special, special);
	else if (isZero(x)) replaceAndPush(cpu, { ...infinity(true), flags: ZE }, { ...x, flags: 0 });
	else if (isInfinite(x)) replaceAndPush(cpu, { ...infinity(false), flags: 0 }, { ...x, flags: 0 });
	else {
		const top = topExponent(x);
		const flags = denormalFlag(x);
		const exponent: Rounded =
			top === 0 ? { ...zero(false), flags } : exact(cpu, top < 0, BigInt(Math.abs(top)), 0, flags);
		const significand = x.significand << BigInt(64 - bitLength(x.significand));
		replaceAndPush(cpu, exponent, { significand, se: (x.se & 0x8000) | BIAS, flags: 0 });
	}
}

/** FBLD: eighteen decimal digits and a sign. */
const loadDecimal: SystemOperation = (cpu, insn) => {
	if ((cpu.get32(L.FSW) & ES) !== 0) cpu.raise(MF);
	const at = memoryOperand(cpu, insn, 10, false);
	const low = cpu.memory.read64(at);
	const high = cpu.memory.read(at + 8n, 2);
	cpu.set64(L.FIP, cpu.rip);
	cpu.set64(L.FDP, insn.offset());
	let value = BigInt((high >> 4) & 15) * 10n + BigInt(high & 15);
	for (let digit = 15n; digit >= 0n; digit--) value = value * 10n + ((low >> (digit * 4n)) & 15n);
	const negative = (high & 0x8000) !== 0;
	const number: Rounded = value === 0n ? { ...zero(negative), flags: 0 } : roundNumber(cpu, negative, value, 0, false);
	const overflow = !isEmpty(cpu, 7);
	const result = overflow ? OVERFLOW : number;
	if (settle(cpu, result.flags, IE)) return;
	grow(cpu);
	setSt(cpu, 0, result);
};

/** FBSTP. */
const storeDecimal: SystemOperation = (cpu, insn) => {
	if ((cpu.get32(L.FSW) & ES) !== 0) cpu.raise(MF);
	const at = memoryOperand(cpu, insn, 10, true);
	cpu.memory.checkAlignment(at, 8);
	cpu.memory.probe(at, 10, true);
	cpu.set64(L.FIP, cpu.rip);
	cpu.set64(L.FDP, insn.offset());
	const x = getSt(cpu, 0);
	let flags = 0;
	let magnitude = 0n;
	if (isEmpty(cpu, 0)) flags = IE | SF;
	else if (isUnsupported(x) || (x.se & 0x7fff) >= BIAS + 60) flags = IE;
	else {
		const drop = BigInt(-Math.min(lowExponent(x), 0));
		magnitude = x.significand >> drop;
		const rest = x.significand - (magnitude << drop);
		if (rest !== 0n) {
			const half = drop === 0n ? 0n : 1n << (drop - 1n);
			const order = rest < half ? -1 : rest === half ? 0 : 1;
			const up = addsUnit(roundingMode(cpu), isNegative(x), order, (magnitude & 1n) === 1n);
			if (up) magnitude++;
			flags = up ? PE | UP : PE;
		}
		if (magnitude >= 10n ** 18n) flags = IE;
	}
	if (settle(cpu, flags)) return;
	let low = 0xc000_0000_0000_0000n;
	let high = 0xffff;
	if ((flags & IE) === 0) {
		low = 0n;
		for (let digit = 0n; digit < 16n; digit++) {
			low |= (magnitude % 10n) << (digit * 4n);
			magnitude /= 10n;
		}
		high = Number(magnitude % 10n) | (Number(magnitude / 10n) << 4) | (isNegative(x) ? 0x8000 : 0);
	}
	cpu.memory.write64(at, low);
	cpu.memory.write(at + 8n, 2, high);
	pop(cpu);
};

const row = (name: string, opcode: string, operation: SystemOperation, operands = ""): Instruction =>
	defineSystem(name, opcode, operands, operation, { attributes: ["x87"] });

export const x87Functions: readonly Instruction[] = [
	row("f2xm1", "D9 /6 mod=3 rm=0", onTop(powerOfTwoMinusOne)),
	row("fyl2x", "D9 /6 mod=3 rm=1", onTwo(logarithm)),
	row("fptan", "D9 /6 mod=3 rm=2", circularTwo(false)),
	row("fpatan", "D9 /6 mod=3 rm=3", onTwo(arctangent)),
	row("fxtract", "D9 /6 mod=3 rm=4", x87Operation(extract)),
	row("fprem1", "D9 /6 mod=3 rm=5", remainder(true)),
	row("fprem", "D9 /7 mod=3 rm=0", remainder(false)),
	row("fyl2xp1", "D9 /7 mod=3 rm=1", onTwo(logarithmPlusOne)),
	row("fsincos", "D9 /7 mod=3 rm=3", circularTwo(true)),
	row("fscale", "D9 /7 mod=3 rm=5", x87Operation(scale)),
	row("fsin", "D9 /7 mod=3 rm=6", circularOnTop("sine")),
	row("fcos", "D9 /7 mod=3 rm=7", circularOnTop("cosine")),
	row("fbld", "DF /4", loadDecimal, "Mt"),
	row("fbstp", "DF /6", storeDecimal, "Mt"),
];
