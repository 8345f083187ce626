import { MF } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { linearAddress } from "../cpu/operand.ts";
import type { SystemOperation } from "../cpu/system-operation.ts";
import type { Emitter } from "../emit/emitter.ts";
import {
	checkPending,
	enterMmx,
	getMmx,
	low32,
	low64,
	lowVector,
	mmxPlace,
	setMmx,
	setPart,
	xmmPlace,
} from "../emit/vector.ts";
import { add, and, c32, type Expr, eqz, extU, load32, load64, or, shl, shrU, wrap } from "../wasm/expr.ts";
import { byteLanes, fromLow, i8x16, i16x8, i32x4, i64x2, v128 } from "../wasm/simd.ts";
import { type Attribute, define, defineSystem, type Instruction } from "./define.ts";
import { laneMask } from "./packed-shift.ts";

const SSE: readonly Attribute[] = ["sse"];
const ALIGNED: readonly Attribute[] = ["sse", "aligned"];
const MMX: readonly Attribute[] = ["mmx"];

/** Load and store of whole registers. */
function whole(name: string, load: string, store: string, attributes: readonly Attribute[]): readonly Instruction[] {
	return [
		define(name, `${load} /r`, "Vdq,Wdq", (e) => e.setVector(0, e.getVector(1)), { attributes }),
		define(name, `${store} /r`, "Wdq,Vdq", (e) => e.setVector(0, e.getVector(1)), { attributes }),
	];
}

function storeOnly(name: string, opcode: string): Instruction {
	return define(name, `${opcode} /r mod=m`, "Mdq,Vdq", (e) => e.storeMemory(16, e.getVector(1)), {
		attributes: ALIGNED,
	});
}

/** MOVSS, MOVSD: from memory they clear what lies above, between registers they keep it. */
function scalar(name: string, prefix: string, size: 4 | 8): readonly Instruction[] {
	const letter = size === 4 ? "d" : "q";
	const low = (e: Emitter): Expr => (size === 4 ? low32(e, 1) : low64(e, 1));
	return [
		define(
			name,
			`${prefix} 0F 10 /r`,
			`Vdq,W${letter}`,
			(e) => {
				if (!e.isMemory(1)) setPart(e, 0, size, low(e));
				else e.setVector(0, v128.loadZero(size, e.readable(size)));
			},
			{ attributes: SSE },
		),
		define(
			name,
			`${prefix} 0F 11 /r`,
			`W${letter},Vdq`,
			(e) => {
				if (e.isMemory(0)) e.storeMemory(size, low(e));
				else setPart(e, 0, size, low(e));
			},
			{ attributes: SSE },
		),
	];
}

/** MOVLPS and kin: half a register from and to memory. */
function half(name: string, prefix: string, load: string, store: string, at: 0 | 8): readonly Instruction[] {
	return [
		define(name, `${prefix} ${load} /r mod=m`, "Vdq,Mq", (e) => setPart(e, 0, 8, load64(8, e.readable(8)), at), {
			attributes: SSE,
		}),
		define(
			name,
			`${prefix} ${store} /r mod=m`,
			"Mq,Vdq",
			(e) => {
				const { address, offset } = xmmPlace(e, 1);
				e.storeMemory(8, load64(8, address, offset + at));
			},
			{ attributes: SSE },
		),
	];
}

/** The duplicating moves of SSE3. */
function duplicate(name: string, opcode: string, width: 4 | 8, lanes: readonly number[]): Instruction {
	const size = width === 8 ? 8 : 16;
	return define(
		name,
		`${opcode} /r`,
		size === 8 ? "Vdq,Wq" : "Vdq,Wdq",
		(e) => {
			const b = e.f.let(lowVector(e, 1, size));
			e.setVector(0, i8x16.shuffle(b, b, byteLanes(width, lanes)));
		},
		{ attributes: size === 16 ? ALIGNED : SSE },
	);
}

/** PMOVSX, PMOVZX: the low 8, 4 or 2 bytes widened by the given steps. */
function widen(name: string, opcode: string, size: 2 | 4 | 8, steps: readonly ((a: Expr) => Expr)[]): Instruction {
	const letter = size === 8 ? "q" : size === 4 ? "d" : "w";
	return define(
		name,
		`66 ${opcode} /r`,
		`Vdq,W${letter}`,
		(e) =>
			e.setVector(
				0,
				steps.reduce((value, step) => step(value), lowVector(e, 1, size)),
			),
		{ attributes: SSE },
	);
}

/** Address of lane `index` (i32) of `width` bytes in a register's place. */
function lane(
	place: { address: Expr; offset: number },
	index: Expr,
	width: 1 | 2 | 4 | 8,
): { at: Expr; offset: number } {
	return { at: add(place.address, shl(index, c32(Math.log2(width)))), offset: place.offset };
}

/** PEXTRB and kin: to a general register, zero-extended, or to memory. */
function extract(name: string, opcode: string, operands: string, width: 1 | 2 | 4 | 8): Instruction {
	return define(
		name,
		opcode,
		operands,
		(e) => {
			const size = e.operands[0]!.size === "y" ? (e.size(0) as 4 | 8) : width;
			const { at, offset } = lane(xmmPlace(e, 1), and(e.get(2), c32(16 / size - 1)), size);
			if (e.isMemory(0)) e.storeMemory(size, size === 8 ? load64(8, at, offset) : load32(size, at, offset));
			else
				e.set(
					0,
					size === 8
						? load64(8, at, offset)
						: e.size(0) === 8
							? extU(load32(size, at, offset))
							: load32(size, at, offset),
				);
		},
		{ attributes: SSE },
	);
}

/** PINSRB and kin. */
function insert(name: string, opcode: string, operands: string, width: 1 | 2 | 4 | 8): Instruction {
	return define(
		name,
		opcode,
		operands,
		(e) => {
			const size = e.operands[1]!.size === "y" ? (e.size(1) as 4 | 8) : width;
			const value = e.f.let(
				e.isMemory(1) ? (size === 8 ? load64(8, e.readable(8)) : load32(size, e.readable(size))) : e.get(1),
			);
			const { at, offset } = lane(xmmPlace(e, 0), and(e.get(2), c32(16 / size - 1)), size);
			e.f.store(size, at, value, offset);
		},
		{ attributes: SSE },
	);
}

/** A mask of sign bits to a general register. */
function mask(name: string, opcode: string, operands: string, shape: { bitmask: (a: Expr) => Expr }): Instruction {
	return define(name, `${opcode} /r mod=3`, operands, (e) => e.set(0, shape.bitmask(e.getVector(1))), {
		attributes: SSE,
	});
}

/** MASKMOVQ, MASKMOVDQU: bytes whose mask has bit 7, to DS:rDI. */
function maskedStore(count: 8 | 16): SystemOperation {
	return (cpu, insn) => {
		if (count === 8 && (cpu.get32(L.FSW) & 0x80) !== 0) cpu.raise(MF);
		const file = count === 8 ? L.X87 : L.XMM;
		const data = file + insn.regOffset;
		const mask = file + insn.rmOffset;
		// Becoming MMX comes before anything that can fault.
		if (count === 8) {
			cpu.set32(L.FTOP, 0);
			cpu.set32(L.FTAG, 0xff);
		}
		const offset = BigInt.asUintN(insn.addressSize * 8, cpu.gpr(L.RDI));
		const linear = linearAddress(cpu, insn.segment, offset, count, true);
		const selected = Array.from({ length: count }, (_, i) => i).filter((i) => (cpu.u8[mask + i]! & 0x80) !== 0);
		// The address is checked whatever the mask selects.
		cpu.memory.checkAlignment(linear, 8);
		cpu.memory.probe(linear, count, true);
		for (const i of selected) cpu.memory.write(linear + BigInt(i), 1, cpu.u8[data + i]!);
	};
}

/** A row that reads one MMX operand. */
function mmx(name: string, opcode: string, operands: string, emit: (e: Emitter) => void): Instruction {
	return define(
		name,
		opcode,
		operands,
		(e) => {
			checkPending(e);
			emit(e);
		},
		{ attributes: MMX },
	);
}

/** A bitwise operation under its floating-point name. */
function logic(name: string, opcode: string, op: (a: Expr, b: Expr) => Expr): readonly Instruction[] {
	return ["NP", "66"].map((prefix) =>
		define(
			`${name}${prefix === "NP" ? "s" : "d"}`,
			`${prefix} ${opcode} /r`,
			"Vdq,Wdq",
			(e) => {
				const b = e.f.let(e.getVector(1));
				e.setVector(0, op(e.getVector(0), b));
			},
			{ attributes: ALIGNED },
		),
	);
}

/** INSERTPS: source lane (register sources only), destination lane, lanes to clear. */
function insertSingle(e: Emitter): void {
	const { f } = e;
	const imm = f.let(e.get(2));
	let value: Expr;
	if (e.isMemory(1)) value = low32(e, 1);
	else {
		const source = lane(xmmPlace(e, 1), shrU(and(imm, c32(0xff)), c32(6)), 4);
		value = load32(4, source.at, source.offset);
	}
	value = f.let(value);
	const target = lane(xmmPlace(e, 0), and(shrU(imm, c32(4)), c32(3)), 4);
	f.store(4, target.at, value, target.offset);
	e.setVector(0, v128.andnot(e.getVector(0), laneMask(i32x4, 4, imm)));
}

/** Both forms of a move between a general register or memory and a vector or MMX register. */
const moveGeneral: readonly Instruction[] = [
	mmx("movd", "NP 0F 6E /r", "Pq,Ey", (e) => {
		const value = e.f.let(e.get(1));
		enterMmx(e);
		setMmx(e, 0, value.type === "i32" ? extU(value) : value);
	}),
	define(
		"movd",
		"66 0F 6E /r",
		"Vdq,Ey",
		(e) => {
			const value = e.get(1);
			e.setVector(0, fromLow(value.type === "i32" ? extU(value) : value));
		},
		{ attributes: SSE },
	),
	mmx("movd", "NP 0F 7E /r", "Ey,Pq", (e) => {
		const value = e.f.let(getMmx(e, 1));
		e.set(0, e.size(0) === 8 ? value : wrap(value));
		enterMmx(e);
	}),
	define("movd", "66 0F 7E /r", "Ey,Vdq", (e) => e.set(0, e.size(0) === 8 ? low64(e, 1) : low32(e, 1)), {
		attributes: SSE,
	}),
];

const LANES_4 = { dup: [0, 0, 2, 2], high: [1, 1, 3, 3] } as const;

export const vectorMove: readonly Instruction[] = [
	...whole("movaps", "NP 0F 28", "NP 0F 29", ALIGNED),
	...whole("movapd", "66 0F 28", "66 0F 29", ALIGNED),
	...whole("movups", "NP 0F 10", "NP 0F 11", SSE),
	...whole("movupd", "66 0F 10", "66 0F 11", SSE),
	...whole("movdqa", "66 0F 6F", "66 0F 7F", ALIGNED),
	...whole("movdqu", "F3 0F 6F", "F3 0F 7F", SSE),
	define("lddqu", "F2 0F F0 /r mod=m", "Vdq,Mdq", (e) => e.setVector(0, e.getVector(1)), { attributes: SSE }),
	define("movntdqa", "66 0F 38 2A /r mod=m", "Vdq,Mdq", (e) => e.setVector(0, e.getVector(1)), {
		attributes: ALIGNED,
	}),
	storeOnly("movntps", "NP 0F 2B"),
	storeOnly("movntpd", "66 0F 2B"),
	storeOnly("movntdq", "66 0F E7"),
	define("movnti", "NP 0F C3 /r mod=m", "My,Gy", (e) => e.set(0, e.get(1))),
	...scalar("movss", "F3", 4),
	...scalar("movsd", "F2", 8),
	...half("movlps", "NP", "0F 12", "0F 13", 0),
	...half("movlpd", "66", "0F 12", "0F 13", 0),
	...half("movhps", "NP", "0F 16", "0F 17", 8),
	...half("movhpd", "66", "0F 16", "0F 17", 8),
	define(
		"movhlps",
		"NP 0F 12 /r mod=3",
		"Vdq,Udq",
		(e) => {
			const { address, offset } = xmmPlace(e, 1);
			setPart(e, 0, 8, load64(8, address, offset + 8));
		},
		{ attributes: SSE },
	),
	define("movlhps", "NP 0F 16 /r mod=3", "Vdq,Udq", (e) => setPart(e, 0, 8, low64(e, 1), 8), { attributes: SSE }),
	duplicate("movddup", "F2 0F 12", 8, [0, 0]),
	duplicate("movsldup", "F3 0F 12", 4, LANES_4.dup),
	duplicate("movshdup", "F3 0F 16", 4, LANES_4.high),

	...moveGeneral,
	mmx("movq", "NP 0F 6F /r", "Pq,Qq", (e) => {
		const value = e.f.let(getMmx(e, 1));
		enterMmx(e);
		setMmx(e, 0, value);
	}),
	mmx("movq", "NP 0F 7F /r", "Qq,Pq", (e) => {
		const value = e.f.let(getMmx(e, 1));
		if (e.isMemory(0)) e.storeMemory(8, value);
		else setMmx(e, 0, value);
		enterMmx(e);
	}),
	mmx("movntq", "NP 0F E7 /r mod=m", "Mq,Pq", (e) => {
		e.storeMemory(8, getMmx(e, 1));
		enterMmx(e);
	}),
	define("movq", "F3 0F 7E /r", "Vdq,Wq", (e) => e.setVector(0, fromLow(low64(e, 1))), { attributes: SSE }),
	define(
		"movq",
		"66 0F D6 /r",
		"Wq,Vdq",
		(e) => {
			if (e.isMemory(0)) e.storeMemory(8, low64(e, 1));
			else e.setVector(0, fromLow(low64(e, 1)));
		},
		{ attributes: SSE },
	),
	define(
		"movq2dq",
		"F3 0F D6 /r mod=3",
		"Vdq,Nq",
		(e) => {
			checkPending(e);
			e.setVector(0, fromLow(getMmx(e, 1)));
			enterMmx(e);
		},
		{ attributes: ["mmx", "sse"] },
	),
	define(
		"movdq2q",
		"F2 0F D6 /r mod=3",
		"Pq,Udq",
		(e) => {
			checkPending(e);
			setMmx(e, 0, low64(e, 1));
			enterMmx(e);
		},
		{ attributes: ["mmx", "sse"] },
	),
	defineSystem("maskmovq", "NP 0F F7 /r mod=3", "Pq,Nq", maskedStore(8), { attributes: MMX }),
	defineSystem("maskmovdqu", "66 0F F7 /r mod=3", "Vdq,Udq", maskedStore(16), { attributes: SSE }),

	mmx("pmovmskb", "NP 0F D7 /r mod=3", "Gd,Nq", (e) => {
		e.set(0, i8x16.bitmask(fromLow(getMmx(e, 1))));
		enterMmx(e);
	}),
	mask("pmovmskb", "66 0F D7", "Gd,Udq", i8x16),
	mask("movmskps", "NP 0F 50", "Gd,Udq", i32x4),
	mask("movmskpd", "66 0F 50", "Gd,Udq", i64x2),

	mmx("pinsrw", "NP 0F C4 /r", "Pq,Ed,Ib", (e) => {
		const value = e.f.let(e.isMemory(1) ? load32(2, e.readable(2)) : e.get(1));
		const place = mmxPlace(e, 0);
		const { at, offset } = lane(place, and(e.get(2), c32(3)), 2);
		e.f.store(2, at, value, offset);
		setMmx(e, 0, load64(8, place.address, place.offset));
		enterMmx(e);
	}),
	mmx("pextrw", "NP 0F C5 /r mod=3", "Gd,Nq,Ib", (e) => {
		const { at, offset } = lane(mmxPlace(e, 1), and(e.get(2), c32(3)), 2);
		e.set(0, load32(2, at, offset));
		enterMmx(e);
	}),
	insert("pinsrb", "66 0F 3A 20 /r", "Vdq,Ed,Ib", 1),
	insert("pinsrw", "66 0F C4 /r", "Vdq,Ed,Ib", 2),
	insert("pinsrd", "66 0F 3A 22 /r", "Vdq,Ey,Ib", 4),
	define("insertps", "66 0F 3A 21 /r", "Vdq,Wd,Ib", insertSingle, { attributes: SSE }),
	extract("pextrb", "66 0F 3A 14 /r", "Ed,Vdq,Ib", 1),
	extract("pextrw", "66 0F C5 /r mod=3", "Gd,Udq,Ib", 2),
	extract("pextrw", "66 0F 3A 15 /r", "Ed,Vdq,Ib", 2),
	extract("pextrd", "66 0F 3A 16 /r", "Ey,Vdq,Ib", 4),
	extract("extractps", "66 0F 3A 17 /r", "Ed,Vdq,Ib", 4),

	widen("pmovsxbw", "0F 38 20", 8, [i16x8.extendLowS]),
	widen("pmovsxbd", "0F 38 21", 4, [i16x8.extendLowS, i32x4.extendLowS]),
	widen("pmovsxbq", "0F 38 22", 2, [i16x8.extendLowS, i32x4.extendLowS, i64x2.extendLowS]),
	widen("pmovsxwd", "0F 38 23", 8, [i32x4.extendLowS]),
	widen("pmovsxwq", "0F 38 24", 4, [i32x4.extendLowS, i64x2.extendLowS]),
	widen("pmovsxdq", "0F 38 25", 8, [i64x2.extendLowS]),
	widen("pmovzxbw", "0F 38 30", 8, [i16x8.extendLowU]),
	widen("pmovzxbd", "0F 38 31", 4, [i16x8.extendLowU, i32x4.extendLowU]),
	widen("pmovzxbq", "0F 38 32", 2, [i16x8.extendLowU, i32x4.extendLowU, i64x2.extendLowU]),
	widen("pmovzxwd", "0F 38 33", 8, [i32x4.extendLowU]),
	widen("pmovzxwq", "0F 38 34", 4, [i32x4.extendLowU, i64x2.extendLowU]),
	widen("pmovzxdq", "0F 38 35", 8, [i64x2.extendLowU]),

	...logic("andp", "0F 54", v128.and),
	...logic("andnp", "0F 55", (a, b) => v128.andnot(b, a)),
	...logic("orp", "0F 56", v128.or),
	...logic("xorp", "0F 57", v128.xor),
	define(
		"ptest",
		"66 0F 38 17 /r",
		"Vdq,Wdq",
		(e) => {
			const b = e.f.let(e.getVector(1));
			const a = e.f.let(e.getVector(0));
			const zero = shl(eqz(v128.anyTrue(v128.and(a, b))), c32(6));
			e.setArithmeticFlags(e.f.let(or(zero, eqz(v128.anyTrue(v128.andnot(b, a))))));
		},
		{ attributes: ALIGNED },
	),
	mmx("emms", "NP 0F 77", "", (e) => {
		e.setWord(L.FTOP, c32(0));
		e.setWord(L.FTAG, c32(0));
	}),
];
