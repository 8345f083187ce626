import { NM } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import type { Emitter } from "../emit/emitter.ts";
import { UOP_BASE, UOP_FLAGS } from "../emit/uop.ts";
import { checkPending } from "../emit/vector.ts";
import { F32, F64 } from "../fp/binary.ts";
import { extendedFrom, extendedFromInteger } from "../fp/extended.ts";
import { type FloatLibrary, floatLibrary, RESULT_SE } from "../fp/library.ts";
import {
	type Arithmetic,
	arithmeticMemory,
	arithmeticRegisters,
	BUSY,
	C1,
	changeSign,
	compareFlags,
	compareMemory,
	compareRegister,
	conditionalMove,
	ES,
	examineTop,
	exchange,
	finishStore,
	push,
	pushNarrow,
	pushRegister,
	storeExtended,
	storeForbidden,
	storeInteger,
	storeNarrow,
	storeRegister,
	storeUnchecked,
	unary,
} from "../fp/x87.ts";
import {
	add,
	and,
	c32,
	c64,
	type Expr,
	eq,
	eqz,
	extU,
	load32,
	load64,
	load64S,
	or,
	select,
	shl,
	shrU,
	sub,
	xor,
} from "../wasm/expr.ts";
import { type Callee, callExpr } from "../wasm/module.ts";
import { define, type Instruction } from "./define.ts";

/** The x87's instructions on its stack: loads, stores, arithmetic, comparisons, control. */

const X87 = ["x87"] as const;

function libraryOf(e: Emitter): FloatLibrary {
	return floatLibrary(e.f.module, e.state);
}

/** A row that first lets a waiting exception through, and keeps the instruction's address. */
function x87(
	name: string,
	opcode: string,
	operands: string,
	emit: (e: Emitter, library: FloatLibrary) => void,
): Instruction {
	return define(
		name,
		opcode,
		operands,
		(e) => {
			checkPending(e);
			emit(e, libraryOf(e));
		},
		{ attributes: X87 },
	);
}

/** A control instruction: changes no instruction pointer, and with `waits` false lets no exception through. */
function control(
	name: string,
	opcode: string,
	operands: string,
	waits: boolean,
	emit: (e: Emitter) => void,
	undefinedFlags = 0,
): Instruction {
	return define(
		name,
		opcode,
		operands,
		(e) => {
			if (waits) checkPending(e);
			emit(e);
		},
		{ attributes: X87, undefinedFlags },
	);
}

/** Keeps the address of the instruction and of its memory operand; after the last access that can fault. */
function note(e: Emitter): void {
	e.setQuad(L.FIP, e.rip());
	if (!e.operands.some((operand) => operand.place === "rm" && operand.mod === "memory")) return;
	const whole = e.effectiveAddress();
	// Address size 16, 32 or 64 of a segmented operand: 0, 1 or 2 in the micro-op.
	if (e.variant.rm === "segmented") {
		const size = e.f.let(and(shrU(load32(1, e.pc, UOP_FLAGS), c32(5)), c32(3)));
		const narrow = select(size, c64(0xffff_ffffn), c64(0xffffn));
		e.setQuad(L.FDP, and(whole, select(eq(size, c32(2)), c64(-1), e.f.let(narrow))));
	} else e.setQuad(L.FDP, e.variant.rm === "flat32" ? and(whole, c64(0xffff_ffffn)) : whole);
}

/** Slot of the ST(i) operand. */
const slotOf = (e: Emitter): Expr => e.field(UOP_BASE);

/** Calls for effect a function that answers something. */
function run(e: Emitter, callee: Callee, ...args: readonly Expr[]): void {
	e.f.call(callee, ...args);
}

type MemoryForm = "m32" | "m64" | "i16" | "i32";
const LETTER: Readonly<Record<MemoryForm, string>> = { m32: "Md", m64: "Mq", i16: "Mw", i32: "Md" };

/** Significand (in a local) of a memory operand; its word is in RESULT_SE. */
function widenMemory(e: Emitter, library: FloatLibrary, form: MemoryForm): Expr {
	const host = e.readable(form === "m64" ? 8 : form === "i16" ? 2 : 4);
	note(e);
	switch (form) {
		case "m32":
			return e.f.let(callExpr(extendedFrom(F32, library), load64(4, host)));
		case "m64":
			return e.f.let(callExpr(extendedFrom(F64, library), load64(8, host)));
		case "i16":
			return e.f.let(callExpr(extendedFromInteger(library), load64S(2, host)));
		case "i32":
			return e.f.let(callExpr(extendedFromInteger(library), load64S(4, host)));
	}
}

const ARITHMETIC: readonly (readonly [number, Arithmetic])[] = [
	[0, "add"],
	[1, "mul"],
	[4, "sub"],
	[5, "subr"],
	[6, "div"],
	[7, "divr"],
];
/** DC and DE exchange the reversed forms. */
const SWAPPED: Readonly<Record<Arithmetic, Arithmetic>> = {
	add: "add",
	mul: "mul",
	sub: "subr",
	subr: "sub",
	div: "divr",
	divr: "div",
};

const arithmetic: readonly Instruction[] = ARITHMETIC.flatMap(([digit, op]) => {
	const memory = (opcode: string, form: MemoryForm): Instruction =>
		x87(`f${form.startsWith("i") ? "i" : ""}${op}`, `${opcode} /${digit}`, LETTER[form], (e, library) => {
			const significand = widenMemory(e, library, form);
			run(e, arithmeticMemory(library, op), significand, library.word(RESULT_SE));
		});
	const registers = (
		mnemonic: string,
		opcode: string,
		to: "top" | "register",
		of: Arithmetic,
		pops: 0 | 1,
	): Instruction =>
		x87(mnemonic, `${opcode} /${digit}`, "STi", (e, library) => {
			note(e);
			const func = arithmeticRegisters(library, of);
			if (to === "top") run(e, func, c32(0), slotOf(e), c32(pops));
			else run(e, func, slotOf(e), c32(0), c32(pops));
		});
	const other = SWAPPED[op];
	return [
		memory("D8", "m32"),
		memory("DC", "m64"),
		memory("DA", "i32"),
		memory("DE", "i16"),
		registers(`f${op}`, "D8", "top", op, 0),
		registers(`f${other}`, "DC", "register", other, 0),
		registers(`f${other}p`, "DE", "register", other, 1),
	];
});

function compareRows(): readonly Instruction[] {
	const memory = (name: string, opcode: string, form: MemoryForm, pops: number): Instruction =>
		x87(name, opcode, LETTER[form], (e, library) => {
			const significand = widenMemory(e, library, form);
			run(e, compareMemory(library), significand, library.word(RESULT_SE), c32(1), c32(1), c32(pops));
		});
	const register = (name: string, opcode: string, signals: 0 | 1, pops: number): Instruction =>
		x87(name, opcode, "STi", (e, library) => {
			note(e);
			run(e, compareRegister(library), slotOf(e), c32(signals), c32(pops));
		});
	const second = (name: string, opcode: string, signals: 0 | 1): Instruction =>
		x87(name, opcode, "", (e, library) => {
			note(e);
			run(e, compareRegister(library), c32(16), c32(signals), c32(3));
		});
	const flags = (name: string, opcode: string, signals: 0 | 1, pops: 0 | 1): Instruction =>
		x87(name, opcode, "STi", (e, library) => {
			note(e);
			const result = e.f.let(callExpr(compareFlags(library), slotOf(e), c32(signals), c32(pops)));
			e.setArithmeticFlags(result);
		});
	return [
		...(
			[
				["", 2, 0],
				["p", 3, 1],
			] as const
		).flatMap(([suffix, digit, pops]) => [
			memory(`fcom${suffix}`, `D8 /${digit}`, "m32", pops),
			memory(`fcom${suffix}`, `DC /${digit}`, "m64", pops),
			memory(`ficom${suffix}`, `DA /${digit}`, "i32", pops),
			memory(`ficom${suffix}`, `DE /${digit}`, "i16", pops),
			register(`fcom${suffix}`, `D8 /${digit}`, 1, pops),
			// Undocumented, as every processor has it.
			register(`fcom${suffix}`, `DC /${digit}`, 1, pops),
		]),
		register("fcomp", "DE /2", 1, 1),
		register("fucom", "DD /4", 0, 0),
		register("fucomp", "DD /5", 0, 1),
		second("fcompp", "DE /3 mod=3 rm=1", 1),
		second("fucompp", "DA /5 mod=3 rm=1", 0),
		flags("fucomi", "DB /5", 0, 0),
		flags("fcomi", "DB /6", 1, 0),
		flags("fucomip", "DF /5", 0, 1),
		flags("fcomip", "DF /6", 1, 1),
		x87("ftst", "D9 /4 mod=3 rm=4", "", (e, library) => {
			note(e);
			run(e, compareMemory(library), c64(0), c32(0), c32(1), c32(1), c32(0));
		}),
		x87("fxam", "D9 /4 mod=3 rm=5", "", (e, library) => {
			note(e);
			run(e, examineTop(library));
		}),
	];
}

/** Constants: significand to nearest, word, and which rounding modes have a neighbour instead. */
function constantRow(
	name: string,
	rm: number,
	significand: bigint,
	word: number,
	inexact?: "above" | "below",
): Instruction {
	return x87(name, `D9 /5 mod=3 rm=${rm}`, "", (e, library) => {
		note(e);
		let value: Expr = c64(significand);
		if (inexact !== undefined) {
			const mode = and(shrU(e.word(L.FCW), c32(10)), c32(3));
			// The exact value lies above the nearest: up takes the next. It lies below: down and chop take the one before.
			if (inexact === "above") value = add(value, extU(eq(mode, c32(2))));
			else value = sub(value, extU(and(mode, c32(1))));
		}
		library.clearFlags(e.f);
		run(e, push(library), value, c32(word));
	});
}

/** Stores unless an exception forbids it; the address is checked all the same. */
function storeChecked(e: Emitter, library: FloatLibrary, size: number, store: (host: Expr) => void): void {
	const host = e.hostAddress(e.address(size, true), size, e.runtime.slowWrite, L.TLB_WRITE);
	e.f.if(eqz(storeForbidden(library)), () => {
		store(host);
		e.commitBounce(host);
	});
}

function storeFloat(name: string, opcode: string, form: "m32" | "m64", pops: 0 | 1): Instruction {
	const size = form === "m32" ? 4 : 8;
	return x87(name, opcode, LETTER[form], (e, library) => {
		const bits = e.f.let(callExpr(storeNarrow(library, form === "m32" ? F32 : F64)));
		storeChecked(e, library, size, (host) => e.f.store(size, host, bits));
		note(e);
		run(e, finishStore(library), c32(pops));
	});
}

function storeWhole(name: string, opcode: string, size: 2 | 4 | 8, pops: 0 | 1, truncate: 0 | 1): Instruction {
	return x87(name, opcode, size === 2 ? "Mw" : size === 4 ? "Md" : "Mq", (e, library) => {
		const value = e.f.let(callExpr(storeInteger(library), c32(size * 8), c32(truncate)));
		storeChecked(e, library, size, (host) => e.f.store(size, host, value));
		note(e);
		run(e, finishStore(library), c32(pops));
	});
}

function loadWhole(opcode: string, size: 2 | 4 | 8): Instruction {
	return x87("fild", opcode, size === 2 ? "Mw" : size === 4 ? "Md" : "Mq", (e, library) => {
		const host = e.readable(size);
		note(e);
		const value = size === 8 ? load64(8, host) : load64S(size, host);
		const significand = e.f.let(callExpr(extendedFromInteger(library), value));
		library.clearFlags(e.f);
		run(e, push(library), significand, library.word(RESULT_SE));
	});
}

const moves: readonly Instruction[] = [
	...(["D9 /0", "DD /0"] as const).map((opcode, i) =>
		x87("fld", opcode, i === 0 ? "Md" : "Mq", (e, library) => {
			const host = e.readable(i === 0 ? 4 : 8);
			note(e);
			run(e, pushNarrow(library, i === 0 ? F32 : F64), load64(i === 0 ? 4 : 8, host));
		}),
	),
	x87("fld", "DB /5", "Mt", (e, library) => {
		const host = e.readable(10);
		note(e);
		library.clearFlags(e.f);
		run(e, push(library), load64(8, host), load32(2, host, 8));
	}),
	x87("fld", "D9 /0", "STi", (e, library) => {
		note(e);
		run(e, pushRegister(library), slotOf(e));
	}),
	loadWhole("DF /0", 2),
	loadWhole("DB /0", 4),
	loadWhole("DF /5", 8),
	storeFloat("fst", "D9 /2", "m32", 0),
	storeFloat("fstp", "D9 /3", "m32", 1),
	storeFloat("fst", "DD /2", "m64", 0),
	storeFloat("fstp", "DD /3", "m64", 1),
	x87("fstp", "DB /7", "Mt", (e, library) => {
		const significand = e.f.let(callExpr(storeExtended(library)));
		storeChecked(e, library, 10, (host) => {
			e.f.store(8, host, significand);
			e.f.store(2, host, library.word(RESULT_SE), 8);
		});
		note(e);
		run(e, finishStore(library), c32(1));
	}),
	storeWhole("fist", "DF /2", 2, 0, 0),
	storeWhole("fistp", "DF /3", 2, 1, 0),
	storeWhole("fist", "DB /2", 4, 0, 0),
	storeWhole("fistp", "DB /3", 4, 1, 0),
	storeWhole("fistp", "DF /7", 8, 1, 0),
	storeWhole("fisttp", "DF /1", 2, 1, 1),
	storeWhole("fisttp", "DB /1", 4, 1, 1),
	storeWhole("fisttp", "DD /1", 8, 1, 1),
	...(
		[
			["fst", "DD /2", 0],
			["fstp", "DD /3", 1],
			["fstp", "DF /2", 1],
			["fstp", "DF /3", 1],
		] as const
	).map(([name, opcode, pops]) =>
		x87(name, opcode, "STi", (e, library) => {
			note(e);
			run(e, storeRegister(library), slotOf(e), c32(pops));
		}),
	),
	x87("fstp", "D9 /3", "STi", (e, library) => {
		note(e);
		run(e, storeUnchecked(library), slotOf(e));
	}),
	...["D9 /1", "DD /1", "DF /1"].map((opcode) =>
		x87("fxch", opcode, "STi", (e, library) => {
			note(e);
			run(e, exchange(library), slotOf(e));
		}),
	),
	...(["b", "e", "be", "u"] as const).flatMap((condition, digit) =>
		(
			[
				["", "DA", 0],
				["n", "DB", 1],
			] as const
		).map(([not, opcode, negated]) =>
			x87(`fcmov${not}${condition}`, `${opcode} /${digit}`, "STi", (e, library) => {
				note(e);
				const code = [2, 4, 6, 10][digit]! + negated;
				run(e, conditionalMove(library), slotOf(e), e.condition(code));
			}),
		),
	),
	constantRow("fld1", 0, 0x8000000000000000n, 0x3fff),
	constantRow("fldl2t", 1, 0xd49a784bcd1b8afen, 0x4000, "above"),
	constantRow("fldl2e", 2, 0xb8aa3b295c17f0bcn, 0x3fff, "below"),
	constantRow("fldpi", 3, 0xc90fdaa22168c235n, 0x4000, "below"),
	constantRow("fldlg2", 4, 0x9a209a84fbcff799n, 0x3ffd, "below"),
	constantRow("fldln2", 5, 0xb17217f7d1cf79acn, 0x3ffe, "below"),
	constantRow("fldz", 6, 0n, 0),
	x87("fchs", "D9 /4 mod=3 rm=0", "", (e, library) => {
		note(e);
		run(e, changeSign(library), c32(0xffff), c32(0x8000));
	}),
	x87("fabs", "D9 /4 mod=3 rm=1", "", (e, library) => {
		note(e);
		run(e, changeSign(library), c32(0x7fff), c32(0));
	}),
	x87("fsqrt", "D9 /7 mod=3 rm=2", "", (e, library) => {
		note(e);
		run(e, unary(library, "sqrt"));
	}),
	x87("frndint", "D9 /7 mod=3 rm=4", "", (e, library) => {
		note(e);
		run(e, unary(library, "toIntegral"));
	}),
];

/** Sets ES and B from the exceptions and their masks. */
function updateSummary(e: Emitter): void {
	const status = e.f.let(and(e.word(L.FSW), c32(~(ES | BUSY))));
	const waiting = and(and(status, xor(e.word(L.FCW), c32(-1))), c32(0x3f));
	e.setWord(L.FSW, select(waiting, or(status, c32(ES | BUSY)), status));
}

const statusWord = (e: Emitter): Expr => or(e.word(L.FSW), shl(e.word(L.FTOP), c32(11)));

function moveTop(name: string, rm: number, by: 1 | -1): Instruction {
	return x87(name, `D9 /6 mod=3 rm=${rm}`, "", (e) => {
		note(e);
		e.setWord(L.FTOP, and(add(e.word(L.FTOP), c32(by)), c32(7)));
		e.setWord(L.FSW, and(e.word(L.FSW), c32(~C1)));
	});
}

/** FFREE; FFREEP pops too. */
function free(name: string, opcode: string, pops: boolean): Instruction {
	return x87(name, opcode, "STi", (e) => {
		note(e);
		const top = e.f.let(e.word(L.FTOP));
		const register = shl(c32(1), and(add(top, shrU(slotOf(e), c32(4))), c32(7)));
		const freed = pops ? or(register, shl(c32(1), top)) : register;
		e.setWord(L.FTAG, and(e.word(L.FTAG), xor(freed, c32(-1))));
		e.setWord(L.FSW, and(e.word(L.FSW), c32(~C1)));
		if (pops) e.setWord(L.FTOP, and(add(top, c32(1)), c32(7)));
	});
}

const controls: readonly Instruction[] = [
	control("fldcw", "D9 /5", "Mw", true, (e) => {
		e.setWord(L.FCW, or(and(e.get(0), c32(0x1f3f)), c32(0x40)));
		updateSummary(e);
	}),
	control("fnstcw", "D9 /7", "Mw", false, (e) => e.storeMemory(2, e.word(L.FCW))),
	control("fnstsw", "DD /7", "Mw", false, (e) => e.storeMemory(2, statusWord(e))),
	control("fnstsw", "DF /4 mod=3 rm=0", "AX", false, (e) => e.set(0, statusWord(e))),
	control("fnclex", "DB /4 mod=3 rm=2", "", false, (e) => e.setWord(L.FSW, and(e.word(L.FSW), c32(0x7f00)))),
	control("fninit", "DB /4 mod=3 rm=3", "", false, (e) => {
		e.setWord(L.FCW, c32(0x37f));
		for (const word of [L.FSW, L.FTOP, L.FTAG, L.FOP]) e.setWord(word, c32(0));
		e.setQuad(L.FIP, c64(0));
		e.setQuad(L.FDP, c64(0));
	}),
	// FNENI, FNDISI and FNSETPM of earlier coprocessors do nothing.
	...[0, 1, 4].map((rm) => control("fnop", `DB /4 mod=3 rm=${rm}`, "", false, () => {})),
	x87("fnop", "D9 /2 mod=3 rm=0", "", note),
	moveTop("fdecstp", 6, -1),
	moveTop("fincstp", 7, 1),
	free("ffree", "DD /0", false),
	free("ffreep", "DF /0", true),
	define("fwait", "9B", "", (e) => {
		// Monitored by CR0.MP, other than the rest.
		e.f.if(eq(and(e.word(L.CR0), c32(0xa)), c32(0xa)), () => e.raise(NM));
		checkPending(e);
	}),
];

export const x87Basic: readonly Instruction[] = [...arithmetic, ...compareRows(), ...moves, ...controls];
