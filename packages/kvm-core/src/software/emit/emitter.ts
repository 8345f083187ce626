import * as L from "../cpu/layout.ts";
import type { OperandForm } from "../insn/operands.ts";
import {
	add,
	and,
	c32,
	c64,
	type Expr,
	eq,
	eqz,
	extS,
	extU,
	load32,
	load64,
	load64S,
	loadV128,
	ltS,
	ltU,
	ne,
	or,
	popcnt,
	sext8,
	sext16,
	shl,
	shrU,
	wrap,
	xor,
} from "../wasm/expr.ts";
import { type Callee, callExpr, type Func, type Signature } from "../wasm/module.ts";
import type { FlagSource } from "./fusion.ts";
import { UOP_BASE, UOP_BYTES, UOP_DISP, UOP_FLAGS, UOP_IMM, UOP_INDEX, UOP_META, UOP_REG } from "./uop.ts";

/** Integer operand sizes in bytes. */
export type Size = 1 | 2 | 4 | 8;

/** How a handler finds its ModRM.rm operand. */
export type RmKind =
	| "register"
	/** 64-bit address, flat segment (or a base that already is in the index slot). */
	| "flat64"
	/** 32-bit address, flat segment. */
	| "flat32"
	/** Any address size and segment, limits checked. */
	| "segmented";

/** Width of the stack pointer, and whether SS is flat. */
export type StackKind = "flat64" | "flat32" | "segmented";

/** What a handler is made for. */
export interface Variant {
	/** Operand size of `v`, `z` and `y` operands. */
	readonly size: Size;
	readonly rm: RmKind;
	readonly stack: StackKind;
	/** Repeat prefix of a `rep` row: 0, 0xf2 or 0xf3. */
	readonly repeat: 0 | 0xf2 | 0xf3;
}

/** Functions every handler may call. */
export interface Runtime {
	/** (lo, hi, size, pc) → host address of readable bytes, 0 = fault: leave. Size | 256 for stack accesses. */
	readonly slowRead: Callee;
	/** The same for writing; BOUNCE must be followed by `commit`. */
	readonly slowWrite: Callee;
	/** The same for read-modify-write: the bytes stand there already. */
	readonly slowModify: Callee;
	/** Writes BOUNCE through. Returns 0 = fault: leave. */
	readonly commit: Callee;
	/** (pc, size, write, displacement) → linear address of a segmented operand as i64; on a fault the FAULT word is set. */
	readonly segmented: Callee;
	/** (vector, error code or -1, pc): queues a fault; leave after it. */
	readonly raise: Callee;
	/** (divisor, pc) → 0 = #DE queued: leave. Divides RDX:RAX by an i64. */
	readonly divideU128: Callee;
	readonly divideS128: Callee;
	/** (rip) goes on at a RIP: a tail call; the second parameter is the micro-op that jumps. */
	readonly goto: Callee;
	/** (pc) → offset of the memory operand in its segment, cut to the address size, as i64. */
	readonly offset: Callee;
	/** (instruction number, pc) → next micro-op, 0 = leave. */
	readonly system: Callee;
}

/** Every handler: it gets its micro-op's address. */
export const HANDLER: Signature = { params: ["i32"] };

/** Marks the size of an access that must be aligned: where it is not, that comes before the segment's limit. */
export const ALIGNED = 0x200;

/** Where `segmented` reports that it queued a fault (i32, relative to the state). */
export const FAULT_FLAG: number = L.FAULT_FLAG;

/**
 * What an instruction's semantics are written against. Values are expressions: i32 for operands of 1, 2 and 4 bytes
 * (zero-extended), i64 for 8. Semantics must make every access that can fault before they change a register or flag.
 */
export class Emitter {
	readonly f: Func;
	readonly pc: Expr;
	readonly runtime: Runtime;
	readonly variant: Variant;
	/** The vCPU's base address. */
	readonly state: number;
	/** The instruction's operands. */
	readonly operands: readonly OperandForm[];
	private readonly aligned: boolean;
	/** Leaves the arithmetic flags alone: what follows overwrites them. */
	readonly flagless: boolean;
	/** What set the flags last. */
	flagSource: FlagSource | undefined;
	private linear: Expr | undefined;
	private displacement: Expr | undefined;

	constructor(
		f: Func,
		runtime: Runtime,
		state: number,
		variant: Variant,
		operands: readonly OperandForm[],
		aligned = false,
		flagless = false,
	) {
		this.f = f;
		this.pc = f.param(0);
		this.runtime = runtime;
		this.state = state;
		this.variant = variant;
		this.operands = operands;
		this.aligned = aligned;
		this.flagless = flagless;
	}

	/** Operand size in bytes of operand `n`, its letter and the variant considered. */
	size(n: number): Size {
		const { size } = this.operands[n]!;
		if (size === "v") return this.variant.size;
		if (size === "z") return this.variant.size === 2 ? 2 : 4;
		if (size === "y") return this.variant.size === 8 ? 8 : 4;
		return size as Size;
	}

	/** The value of operand `n`. A memory operand is read once: name the result with `f.let` before using it twice. */
	get(n: number): Expr {
		const operand = this.operands[n]!;
		const size = this.size(n);
		switch (operand.place) {
			case "reg":
				return this.readState(size, this.field(UOP_REG));
			case "rm":
				if (this.variant.rm === "register") return this.readState(size, this.field(UOP_BASE));
				return this.loadMemory(size);
			case "immediate":
				return size === 8
					? operand.wide === true
						? or(load64(4, this.pc, UOP_IMM), shl(load64(4, this.pc, UOP_DISP), c64(32)))
						: load64S(4, this.pc, UOP_IMM)
					: this.cut(load32(4, this.pc, UOP_IMM), size);
			case "fixed":
				return this.readState(size, c32(operand.offset!));
			case "one":
				return c32(1);
		}
	}

	/** Sets operand `n`, a register or memory; 32-bit registers are zero-extended. */
	set(n: number, value: Expr): void {
		const operand = this.operands[n]!;
		const size = this.size(n);
		if (operand.place === "reg") this.writeState(size, this.field(UOP_REG), value);
		else if (operand.place === "fixed") this.writeState(size, c32(operand.offset!), value);
		else if (operand.place === "rm" && this.variant.rm === "register")
			this.writeState(size, this.field(UOP_BASE), value);
		else if (operand.place === "rm") this.storeMemory(size, value);
		else throw new Error(`operand ${n} cannot be written`);
	}

	/**
	 * Reads operand `n`, computes and writes it back: one translation for memory. `compute` gets the old value in a
	 * local and returns the new one; what it emits, and `beforeWrite`, come before the write, which cannot fault any
	 * more.
	 */
	modify(n: number, compute: (old: Expr) => Expr, beforeWrite?: () => void): void {
		const operand = this.operands[n]!;
		const size = this.size(n);
		if (operand.place !== "rm" || this.variant.rm === "register") {
			const field =
				operand.place === "reg"
					? this.f.let(this.field(UOP_REG))
					: operand.place === "fixed"
						? c32(operand.offset!)
						: this.f.let(this.field(UOP_BASE));
			const old = this.f.let(this.readState(size, field));
			const value = this.f.let(compute(old));
			beforeWrite?.();
			this.writeState(size, field, value);
			return;
		}
		const host = this.modifiable(size);
		const old = this.f.let(size === 8 ? load64(8, host) : load32(size, host));
		const value = compute(old);
		beforeWrite?.();
		this.f.store(size, host, value);
		this.commitBounce(host);
	}

	/** Linear address (i64) of the memory operand, computed once. */
	address(size: number, write: boolean): Expr {
		if (this.linear !== undefined) return this.linear;
		const { rm } = this.variant;
		let linear: Expr;
		if (rm === "segmented") {
			linear = this.f.let(
				callExpr(
					this.runtime.segmented,
					this.pc,
					c32(this.aligned && size === 16 ? size | ALIGNED : size),
					c32(write ? 1 : 0),
					this.displacement ?? c64(0),
				),
			);
			this.leaveIf(load32(4, c32(this.state), FAULT_FLAG));
		} else {
			const sum = this.effectiveAddress();
			linear = this.f.let(rm === "flat32" ? and(sum, c64(0xffff_ffffn)) : sum);
		}
		if (this.aligned && size === 16) {
			this.f.if(wrap(and(linear, c64(15))), () => this.raise(13, 0));
		}
		this.linear = linear;
		return linear;
	}

	/** Moves the memory operand by `bytes` (i64) from where it was encoded; before its first use. */
	displace(bytes: Expr): void {
		this.displacement = this.f.let(bytes);
	}

	/** base + (index << scale) + displacement, as i64, neither cut nor based. */
	effectiveAddress(): Expr {
		const base = load64(8, load32(1, this.pc, UOP_BASE), this.state);
		const index = load64(8, load32(1, this.pc, UOP_INDEX), this.state);
		const scale = extU(and(load32(1, this.pc, UOP_FLAGS), c32(3)));
		const sum = add(add(base, shl(index, scale)), load64S(4, this.pc, UOP_DISP));
		return this.displacement === undefined ? sum : add(sum, this.displacement);
	}

	/** Reads the memory operand. */
	loadMemory(size: Size): Expr {
		const host = this.readable(size);
		return size === 8 ? load64(8, host) : load32(size, host);
	}

	/** Host address (in a local) of the memory operand's `size` readable bytes. */
	readable(size: number): Expr {
		return this.hostAddress(this.address(size, false), size, this.runtime.slowRead, L.TLB_READ);
	}

	/** Host address (in a local) of the memory operand's `size` bytes to be written; `commitBounce` behind the store. */
	writable(size: number): Expr {
		return this.hostAddress(this.address(size, true), size, this.runtime.slowWrite, L.TLB_WRITE);
	}

	/** Writes the memory operand; integers, floats and vectors by their type and `size`. */
	storeMemory(size: Size | 16, value: Expr): void {
		this.storeLinear(this.address(size, true), size, value);
	}

	/** Reads `size` bytes at a linear address that is in a local. */
	loadLinear(linear: Expr, size: Size, stack = false): Expr {
		const host = this.hostAddress(linear, size, this.runtime.slowRead, L.TLB_READ, stack);
		return size === 8 ? load64(8, host) : load32(size, host);
	}

	/** Writes at a linear address that is in a local. */
	storeLinear(linear: Expr, size: Size | 16, value: Expr, stack = false): void {
		const host = this.hostAddress(linear, size, this.runtime.slowWrite, L.TLB_WRITE, stack);
		this.f.store(size, host, value);
		this.commitBounce(host);
	}

	/**
	 * Translates through the TLB of the current privilege, or the slow path; leaves the handler on a fault.
	 *
	 * @returns host address in a local
	 */
	hostAddress(linear: Expr, size: number, slow: Callee, tlb: number, stack = false): Expr {
		const { f } = this;
		const low = f.let(wrap(linear));
		const entry = f.let(
			add(load32(4, c32(this.state), tlb), and(shrU(low, c32(8)), c32((L.TLB_ENTRIES - 1) * L.TLB_ENTRY_BYTES))),
		);
		const host = f.local("i32");
		const page = and(size === 1 ? linear : add(linear, c64(size - 1)), c64(-4096));
		f.if(
			eq(load64(8, entry), page),
			() => f.set(host, add(low, load32(4, entry, 8))),
			() => {
				f.set(host, callExpr(slow, low, wrap(shrU(linear, c64(32))), c32(stack ? size | 256 : size), this.pc));
				this.leaveIf(eqz(host));
			},
		);
		return host;
	}

	/** Must follow the last store to an address that `hostAddress` gave for writing. */
	commitBounce(host: Expr): void {
		this.f.if(eq(host, c32(this.state + L.BOUNCE)), () => {
			this.leaveIf(eqz(callExpr(this.runtime.commit, this.pc)));
		});
	}

	/** 16 bytes of vector operand `n`. */
	getVector(n: number): Expr {
		const operand = this.operands[n]!;
		if (operand.place === "reg") return loadV128(this.field(UOP_REG), this.state + L.XMM);
		if (operand.place === "fixed") return loadV128(c32(operand.offset!), this.state);
		if (this.variant.rm === "register") return loadV128(this.field(UOP_BASE), this.state + L.XMM);
		return loadV128(this.readable(16));
	}

	setVector(n: number, value: Expr): void {
		const operand = this.operands[n]!;
		if (operand.place === "reg") this.f.store(16, this.field(UOP_REG), value, this.state + L.XMM);
		else if (this.variant.rm === "register") this.f.store(16, this.field(UOP_BASE), value, this.state + L.XMM);
		else this.storeMemory(16, value);
	}

	/**
	 * Address of vector (`file` = L.XMM) or MMX (`file` = L.X87) operand `n` when it is a register; add the returned
	 * constant as the load's or store's offset.
	 */
	registerAddress(n: number, file: number): { address: Expr; offset: number } {
		const field = this.operands[n]!.place === "reg" ? UOP_REG : UOP_BASE;
		return { address: this.field(field), offset: this.state + file };
	}

	/** Whether operand `n` is in memory in this variant. */
	isMemory(n: number): boolean {
		return this.operands[n]!.place === "rm" && this.variant.rm !== "register";
	}

	/** The raw immediate, sign-extended to i32. */
	immediate(): Expr {
		return load32(4, this.pc, UOP_IMM);
	}

	/** Byte `offset` of the general registers (1 = AH). */
	registerByte(offset: number): Expr {
		return load32(1, c32(this.state), L.GPR + offset);
	}

	setRegisterByte(offset: number, value: Expr): void {
		this.f.store(1, c32(this.state), value, L.GPR + offset);
	}

	/** Host address (in a local) of `size` bytes of the memory operand, for a read-modify-write ended by `commitBounce`. */
	modifiable(size: number): Expr {
		return this.hostAddress(this.address(size, true), size, this.runtime.slowModify, L.TLB_WRITE);
	}

	/** A byte of the micro-op. */
	field(offset: number): Expr {
		return load32(1, this.pc, offset);
	}

	/** A word of the vCPU's state. */
	word(offset: number): Expr {
		return load32(4, c32(this.state), offset);
	}

	setWord(offset: number, value: Expr): void {
		this.f.store(4, c32(this.state), value, offset);
	}

	/** A quad word of the vCPU's state. */
	quad(offset: number): Expr {
		return load64(8, c32(this.state), offset);
	}

	setQuad(offset: number, value: Expr): void {
		this.f.store(8, c32(this.state), value, offset);
	}

	/** General register `n` (a number, not an operand), cut to `size`. */
	gpr(n: number, size: Size): Expr {
		return this.readState(size, c32(L.GPR + n * 8));
	}

	/** Low 32 bits of general register `n` as i64. */
	gprWide(n: number): Expr {
		return load64(4, c32(this.state), L.GPR + n * 8);
	}

	setGpr(n: number, size: Size, value: Expr): void {
		this.writeState(size, c32(L.GPR + n * 8), value);
	}

	private readState(size: Size, offset: Expr): Expr {
		return size === 8 ? load64(8, offset, this.state) : load32(size, offset, this.state);
	}

	private writeState(size: Size, offset: Expr, value: Expr): void {
		if (size === 4) this.f.store(8, offset, value.type === "i32" ? extU(value) : value, this.state);
		else this.f.store(size, offset, value, this.state);
	}

	/** RIP of this instruction, or of the next with `next`: i64, cut to 32 bits outside long mode by its users. */
	rip(next = false): Expr {
		const meta = load32(2, this.pc, UOP_META);
		if (!next) return add(this.quad(L.RIP_BASE), extU(and(meta, c32(0xfff))));
		const value = this.f.let(meta);
		return add(this.quad(L.RIP_BASE), extU(add(and(value, c32(0xfff)), shrU(value, c32(12)))));
	}

	/** Queues an exception and leaves the handler. Nothing may have been changed before. */
	raise(vector: number, errorCode?: number): void {
		this.f.call(this.runtime.raise, c32(vector), c32(errorCode ?? -1), this.pc);
		this.f.return();
	}

	/** Leaves generated code when `condition` is not zero. */
	leaveIf(condition: Expr): void {
		this.f.if(condition, () => this.f.return());
	}

	/** Goes on with the micro-op behind this one. */
	next(): void {
		this.f.returnCallIndirect(HANDLER, load32(2, this.pc, UOP_BYTES), add(this.pc, c32(UOP_BYTES)));
	}

	/** Goes on with the micro-op at `target`. */
	dispatch(target: Expr): void {
		const pc = this.f.let(target);
		this.f.returnCallIndirect(HANDLER, load32(2, pc), pc);
	}

	// ---- flags -------------------------------------------------------------------------------------------------

	/** Value cut to `size` bytes, zero-extended. */
	cut(value: Expr, size: Size): Expr {
		if (size === 1) return and(value, c32(0xff));
		if (size === 2) return and(value, c32(0xffff));
		return value;
	}

	/** Value of `size` bytes sign-extended to i64. */
	signExtend(value: Expr, size: Size): Expr {
		if (size === 8) return value;
		if (size === 4) return extS(value);
		return extS(size === 2 ? sext16(value) : sext8(value));
	}

	/** After AND, OR, XOR, TEST: CF, OF and AF clear, the rest from `result` (in a local). */
	flagsLogic(result: Expr, size: Size): void {
		this.flagSource = { kind: "logic", a: result, b: result, result, size };
		if (this.flagless) return;
		this.setQuad(L.FLAGS_RES, this.signExtend(result, size));
		this.setWord(L.FLAGS_AUX, c32(0));
	}

	/**
	 * After an addition: all three in locals, `result` cut to `size`. With a carry in, give it (i32 0 or 1).
	 */
	flagsAdd(a: Expr, b: Expr, result: Expr, size: Size, carryIn?: Expr): void {
		this.flagSource = { kind: "other", a, b, result, size };
		if (this.flagless) return;
		let carry = ltU(result, a);
		if (carryIn !== undefined) carry = or(carry, and(carryIn, eq(result, a)));
		this.setQuad(L.FLAGS_RES, this.signExtend(result, size));
		this.setWord(L.FLAGS_AUX, or(carry, this.overflowAndAdjust(a, b, result, size, false)));
	}

	/** After a subtraction a - b, compare or negation. With a borrow in, give it (i32 0 or 1). */
	flagsSub(a: Expr, b: Expr, result: Expr, size: Size, borrowIn?: Expr): void {
		this.flagSource = { kind: borrowIn === undefined ? "sub" : "other", a, b, result, size };
		if (this.flagless) return;
		let carry = ltU(a, b);
		if (borrowIn !== undefined) carry = or(carry, and(borrowIn, eq(a, b)));
		this.setQuad(L.FLAGS_RES, this.signExtend(result, size));
		this.setWord(L.FLAGS_AUX, or(carry, this.overflowAndAdjust(a, b, result, size, true)));
	}

	/** After INC (b = 1) and DEC: CF stays. */
	flagsIncDec(a: Expr, one: Expr, result: Expr, size: Size, decrement: boolean): void {
		this.flagSource = { kind: "other", a, b: one, result, size };
		if (this.flagless) return;
		const carry = this.f.let(and(this.word(L.FLAGS_AUX), c32(1)));
		this.setQuad(L.FLAGS_RES, this.signExtend(result, size));
		this.setWord(L.FLAGS_AUX, or(carry, this.overflowAndAdjust(a, one, result, size, decrement)));
	}

	/** OF and AF in their RFLAGS places. */
	private overflowAndAdjust(a: Expr, b: Expr, result: Expr, size: Size, subtraction: boolean): Expr {
		const toI32 = (value: Expr): Expr => (value.type === "i64" ? wrap(value) : value);
		const adjust = and(toI32(xor(xor(a, b), result)), c32(0x10));
		const signs = subtraction ? and(xor(a, b), xor(a, result)) : and(xor(a, result), xor(b, result));
		let overflow: Expr;
		if (size === 8) overflow = wrap(shrU(signs, c64(52)));
		else if (size === 4) overflow = shrU(signs, c32(20));
		else if (size === 2) overflow = shrU(signs, c32(4));
		else overflow = shl(signs, c32(4));
		return or(adjust, and(overflow, c32(L.OF)));
	}

	/** CF as i32 0 or 1. */
	carry(): Expr {
		return and(this.word(L.FLAGS_AUX), c32(1));
	}

	/** Sets CF alone, from i32 0 or 1. */
	setCarry(value: Expr): void {
		this.setWord(L.FLAGS_AUX, or(and(this.word(L.FLAGS_AUX), c32(~1)), value));
	}

	/** Sets CF and OF alone, each from i32 0 or 1 (rotates). */
	setCarryOverflow(carry: Expr, overflow: Expr): void {
		if (this.flagless) return;
		this.setWord(L.FLAGS_AUX, or(and(this.word(L.FLAGS_AUX), c32(~(L.CF | L.OF))), or(carry, shl(overflow, c32(11)))));
	}

	/** Sets all six arithmetic flags from an i32 in a local that has them in their RFLAGS places. */
	setArithmeticFlags(flags: Expr): void {
		// With ZF the result is 0, whose SF is 0 and PF 1; without it 1, whose SF is 0 and PF 0.
		const zero = this.f.let(and(shrU(flags, c32(6)), c32(1)));
		this.setQuad(L.FLAGS_RES, extU(xor(zero, c32(1))));
		this.setWord(L.FLAGS_AUX, xor(and(flags, c32(L.CF | L.AF | L.OF | L.SF | L.PF)), shl(zero, c32(2))));
	}

	/** The six arithmetic flags in their RFLAGS places, as i32. */
	arithmeticFlags(): Expr {
		const result = this.f.let(this.quad(L.FLAGS_RES));
		const aux = this.f.let(this.word(L.FLAGS_AUX));
		const zero = shl(eqz(result), c32(6));
		const sign = and(wrap(shrU(result, c64(56))), c32(L.SF));
		const parity = shl(this.evenParity(result), c32(2));
		return or(xor(and(aux, c32(L.CF | L.AF | L.OF | L.SF | L.PF)), or(sign, parity)), zero);
	}

	private evenParity(result: Expr): Expr {
		return and(xor(popcnt(and(wrap(result), c32(0xff))), c32(1)), c32(1));
	}

	/** Condition code 0..15 of Jcc, SETcc, CMOVcc: i32, zero or not (0 or 1 when `exact`). */
	condition(code: number, exact = false): Expr {
		const negate = (code & 1) === 1;
		const zero = (): Expr => eqz(this.quad(L.FLAGS_RES));
		const aux = (bit: number): Expr => and(shrU(this.word(L.FLAGS_AUX), c32(bit)), c32(1));
		const sign = (): Expr => xor(ltS(this.quad(L.FLAGS_RES), c64(0)), aux(7));
		const bool = (value: Expr): Expr => (negate ? eqz(value) : value);
		switch (code >> 1) {
			case 0:
				return bool(exact || negate ? aux(11) : and(this.word(L.FLAGS_AUX), c32(L.OF)));
			case 1:
				return bool(aux(0));
			case 2:
				return negate ? ne(this.quad(L.FLAGS_RES), c64(0)) : zero();
			case 3:
				return bool(or(aux(0), zero()));
			case 4:
				return bool(sign());
			case 5:
				return bool(xor(this.evenParity(this.quad(L.FLAGS_RES)), aux(2)));
			case 6:
				return bool(xor(sign(), aux(11)));
			default:
				return bool(or(zero(), xor(sign(), aux(11))));
		}
	}
}
