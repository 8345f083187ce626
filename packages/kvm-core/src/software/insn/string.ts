import type { Cpu } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
import { linearAddress, readSized, writeSized } from "../cpu/operand.ts";
import type { DecodedInsn, SystemOperation } from "../cpu/system-operation.ts";
import type { Emitter, Size } from "../emit/emitter.ts";
import {
	add,
	and,
	c32,
	c64,
	type Expr,
	eq,
	eqz,
	geU,
	load32,
	load64,
	ltU,
	mul,
	ne,
	select,
	shl,
	shrU,
	sub,
	wrap,
} from "../wasm/expr.ts";
import { define, type Instruction } from "./define.ts";

type StringOperation = "movs" | "stos" | "lods" | "scas" | "cmps";

const reads = (operation: StringOperation): boolean => operation !== "stos" && operation !== "scas";
const usesDestination = (operation: StringOperation): boolean => operation !== "lods";
const compares = (operation: StringOperation): boolean => operation === "scas" || operation === "cmps";

/** Elements after which a repeated instruction leaves generated code for a moment, to be gone on with. */
const ELEMENTS_PER_STRETCH = 4096;

function emitString(operation: StringOperation): (e: Emitter) => void {
	return (e) => {
		const { f } = e;
		const size = e.size(operation === "lods" ? 1 : 0);
		const flat32 = e.variant.rm === "flat32";
		const cut = (value: Expr): Expr => (flat32 ? and(value, c64(0xffff_ffffn)) : value);
		const register = (n: number): Expr => (flat32 ? e.gprWide(n) : e.gpr(n, 8));
		const step = f.let(select(and(e.word(L.RFLAGS_SYS), c32(L.DF)), c64(-size), c64(size)));
		const source = f.local("i64");
		const destination = f.local("i64");
		const advance = (by: Expr): void => {
			if (reads(operation)) e.setQuad(L.GPR + L.RSI * 8, cut(add(source, by)));
			if (usesDestination(operation)) e.setQuad(L.GPR + L.RDI * 8, cut(add(destination, by)));
		};
		const load = (): void => {
			if (reads(operation)) f.set(source, register(L.RSI));
			if (usesDestination(operation)) f.set(destination, register(L.RDI));
		};
		const element = (): void => {
			if (operation === "movs") {
				e.storeLinear(destination, size, f.let(e.loadLinear(source, size)));
			} else if (operation === "stos") e.storeLinear(destination, size, e.gpr(L.RAX, size));
			else if (operation === "lods") e.setGpr(L.RAX, size, e.loadLinear(source, size));
			else {
				const a = f.let(operation === "cmps" ? e.loadLinear(source, size) : e.gpr(L.RAX, size));
				const b = f.let(e.loadLinear(destination, size));
				e.flagsSub(a, b, f.let(e.cut(sub(a, b), size)), size);
			}
			advance(step);
		};
		if (e.variant.repeat === 0) {
			load();
			element();
			return;
		}
		const count = f.let(register(L.RCX));
		const stretch = f.let(c32(ELEMENTS_PER_STRETCH));
		f.block((done) => {
			f.brIf(done, eqz(count));
			f.loop((again) => {
				load();
				const moved = f.local("i64");
				f.set(moved, c64(0));
				if (operation === "movs" || operation === "stos")
					bulk(e, operation, size, source, destination, count, moved, step);
				f.if(
					eqz(moved),
					() => {
						element();
						f.set(moved, c64(1));
					},
					() => advance(mul(moved, c64(size))),
				);
				f.set(count, sub(count, moved));
				e.setQuad(L.GPR + L.RCX * 8, count);
				f.brIf(done, eqz(count));
				if (compares(operation)) {
					const zero = e.condition(4, true);
					f.brIf(done, e.variant.repeat === 0xf3 ? eqz(zero) : zero);
				}
				f.set(stretch, sub(stretch, c32(1)));
				f.brIf(again, select(e.word(L.REQUEST_FLAG), c32(0), stretch));
				e.setWord(L.PC, e.pc);
				f.return();
			});
		});
	};
}

/** Moves or fills what lies within one page on either side at once; sets `moved` to the elements done, or leaves it 0. */
function bulk(
	e: Emitter,
	operation: "movs" | "stos",
	size: Size,
	source: Expr,
	destination: Expr,
	count: Expr,
	moved: Expr,
	step: Expr,
): void {
	const { f } = e;
	const shift = c64(size === 8 ? 3 : size === 4 ? 2 : size === 2 ? 1 : 0);
	const entryOf = (linear: Expr, tlb: number): Expr =>
		f.let(add(e.word(tlb), and(wrap(shrU(linear, c64(8))), c32((L.TLB_ENTRIES - 1) * L.TLB_ENTRY_BYTES))));
	const hits = (entry: Expr, linear: Expr): Expr => eq(load64(8, entry), and(linear, c64(-4096)));
	const room = (linear: Expr): Expr => shrU(sub(c64(4096), and(linear, c64(4095))), shift);
	const least = (a: Expr, b: Expr): Expr => {
		const x = f.let(a);
		const y = f.let(b);
		return f.let(select(ltU(x, y), x, y));
	};
	f.if(and(eq(step, c64(size)), geU(count, c64(4))), () => {
		const to = entryOf(destination, L.TLB_WRITE);
		if (operation === "movs") {
			const from = entryOf(source, L.TLB_READ);
			f.if(and(hits(to, destination), hits(from, source)), () => {
				const n = least(least(room(destination), room(source)), count);
				// A destination that starts inside the source is to repeat it, element by element.
				const apart = geU(sub(destination, source), shl(n, shift));
				f.if(and(apart, ne(n, c64(0))), () => {
					f.memoryCopy(
						add(wrap(destination), load32(4, to, 8)),
						add(wrap(source), load32(4, from, 8)),
						wrap(shl(n, shift)),
					);
					f.set(moved, n);
				});
			});
			return;
		}
		f.if(hits(to, destination), () => {
			const n = least(room(destination), count);
			f.if(ne(n, c64(0)), () => {
				const at = f.let(add(wrap(destination), load32(4, to, 8)));
				const value = f.let(e.gpr(L.RAX, size));
				const bytes = f.let(wrap(shl(n, shift)));
				if (size === 1) f.memoryFill(at, value, bytes);
				else {
					const zero = eqz(value);
					f.if(
						zero,
						() => f.memoryFill(at, c32(0), bytes),
						() => {
							const end = f.let(add(at, bytes));
							f.loop((again) => {
								f.store(size, at, value);
								f.set(at, add(at, c32(size)));
								f.brIf(again, ltU(at, end));
							});
						},
					);
				}
				f.set(moved, n);
			});
		});
	});
}

/** One element at a time, with all of segmentation: 16-bit addresses, segments that are not flat. */
function slowString(operation: StringOperation): SystemOperation {
	return (cpu, insn) => {
		const bits = insn.addressSize * 8;
		const repeated = insn.repeat !== 0;
		if (repeated && BigInt.asUintN(bits, cpu.gpr(L.RCX)) === 0n) return;
		const size = insn.operandSize;
		let equal = false;
		const source = (): bigint => stringAddress(cpu, insn, insn.segment, L.RSI, size, false);
		const destination = (write: boolean): bigint => stringAddress(cpu, insn, L.ES, L.RDI, size, write);
		if (operation === "movs") {
			const value = readSized(cpu, source(), size);
			writeSized(cpu, destination(true), size, value);
		} else if (operation === "stos") {
			writeSized(cpu, destination(true), size, BigInt.asUintN(size * 8, cpu.gpr(L.RAX)));
		} else if (operation === "lods") cpu.setGpr(L.RAX, size, readSized(cpu, source(), size));
		else {
			const a = operation === "cmps" ? readSized(cpu, source(), size) : BigInt.asUintN(size * 8, cpu.gpr(L.RAX));
			equal = compareFlags(cpu, a, readSized(cpu, destination(false), size), size);
		}
		const step = (cpu.systemFlags & L.DF) !== 0 ? -BigInt(size) : BigInt(size);
		const width = insn.addressSize;
		const advance = (n: number): void => cpu.setGpr(n, width, BigInt.asUintN(bits, cpu.gpr(n) + step));
		if (reads(operation)) advance(L.RSI);
		if (usesDestination(operation)) advance(L.RDI);
		if (!repeated) return;
		const left = BigInt.asUintN(bits, cpu.gpr(L.RCX) - 1n);
		cpu.setGpr(L.RCX, width, left);
		if (left === 0n) return;
		if (compares(operation) && equal !== (insn.repeat === 0xf3)) return;
		cpu.jump(cpu.rip);
	};
}

function stringAddress(
	cpu: Cpu,
	insn: DecodedInsn,
	segment: number,
	register: number,
	size: number,
	write: boolean,
): bigint {
	return linearAddress(cpu, segment, BigInt.asUintN(insn.addressSize * 8, cpu.gpr(register)), size, write);
}

/** Sets the flags of a - b; returns whether they are equal. */
function compareFlags(cpu: Cpu, a: bigint, b: bigint, size: number): boolean {
	const width = size * 8;
	const result = BigInt.asUintN(width, a - b);
	const overflow = ((a ^ b) & (a ^ result)) >> BigInt(width - 1);
	cpu.set64(L.FLAGS_RES, BigInt.asUintN(64, BigInt.asIntN(width, result)));
	cpu.set32(L.FLAGS_AUX, (a < b ? L.CF : 0) | Number((a ^ b ^ result) & 0x10n) | (overflow === 1n ? L.OF : 0));
	return a === b;
}

function rows(operation: StringOperation, opcode: number, byte: string, sized: string): Instruction[] {
	const attributes = ["rep", "string"] as const;
	const emit = emitString(operation);
	const segmented = slowString(operation);
	const hex = (value: number): string => value.toString(16).toUpperCase();
	return [
		define(operation, hex(opcode), byte, emit, { attributes, segmented }),
		define(operation, hex(opcode + 1), sized, emit, { attributes, segmented }),
	];
}

/** String instructions but INS and OUTS. */
export const strings: readonly Instruction[] = [
	...rows("movs", 0xa4, "Yb,Xb", "Yv,Xv"),
	...rows("cmps", 0xa6, "Xb,Yb", "Xv,Yv"),
	...rows("stos", 0xaa, "Yb,AL", "Yv,rAX"),
	...rows("lods", 0xac, "AL,Xb", "rAX,Xv"),
	...rows("scas", 0xae, "AL,Yb", "rAX,Yv"),
];
