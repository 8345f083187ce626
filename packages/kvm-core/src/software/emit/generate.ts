import * as L from "../cpu/layout.ts";
import type { Instruction } from "../insn/define.ts";
import { type OperandForm, parseOperands } from "../insn/operands.ts";
import {
	add,
	and,
	c32,
	c64,
	eq,
	eqz,
	extU,
	gtS,
	leU,
	load32,
	load64,
	load64S,
	mul,
	shl,
	shrU,
	sub,
	wrap,
} from "../wasm/expr.ts";
import { type Callee, callExpr, type Func, WasmModule } from "../wasm/module.ts";
import { writeDivision } from "./divide.ts";
import {
	Emitter,
	FAULT_FLAG,
	HANDLER,
	type RmKind,
	type Runtime,
	type Size,
	type StackKind,
	type Variant,
} from "./emitter.ts";
import { UOP_BASE, UOP_DISP, UOP_FLAGS, UOP_IMM, UOP_INDEX } from "./uop.ts";

/** Handlers that no row makes, by their place in the function table. */
export const STALE = 0;
/** Leaves generated code with PC at this micro-op. */
export const LEAVE = 1;
/** Goes on at the micro-op in the immediate: joins a run that was decoded before. */
export const JOIN = 2;
/** The page ends here; the immediate is the offset to go on at. By code size 16, 32, 64. */
export const PAGE_END_16 = 3;
export const PAGE_END_32 = 4;
export const PAGE_END_64 = 5;
/** #UD. */
export const INVALID = 6;
/** An instruction that reaches into the next page. */
export const CROSSING = 7;
/** x87 or MMX while CR0 forbids it; SSE likewise. */
export const NO_FPU = 8;
export const NO_SSE = 9;
const FIRST_ROW_HANDLER = 10;

const SIZES: readonly Size[] = [2, 4, 8];
const RM_KINDS: readonly RmKind[] = ["register", "flat64", "flat32", "segmented"];
const STACKS: readonly StackKind[] = ["flat64", "flat32", "segmented"];
const REPEATS = [0, 0xf2, 0xf3] as const;
/** Handler slots a row has: size x rm x stack x repeat, then the near form per size and stack. */
const NEAR_SLOTS = 9;
const SLOTS_PER_ROW: number = 3 * 4 * 3 * 3 + NEAR_SLOTS;

/** A handler that calls into TypeScript: what it must know besides its micro-op. */
export interface SystemHandler {
	readonly row: Instruction;
	readonly operandSize: 1 | 2 | 4 | 8;
	readonly isMemory: boolean;
	readonly repeat: 0 | 0xf2 | 0xf3;
	/** reg and rm hold general registers' byte offsets rather than numbers. */
	readonly generalReg: boolean;
	readonly generalRm: boolean;
}

/** The generated module's bytes with what decoder and run loop need to use it. */
export interface Generated {
	readonly bytes: Uint8Array<ArrayBuffer>;
	readonly rows: readonly Row[];
	readonly systemHandlers: readonly SystemHandler[];
	/** Handler number by row and slot; 0 where there is none. */
	readonly handlers: Uint16Array;
	readonly handlerCount: number;
}

/** A table row with what is derived from it once. */
export interface Row {
	readonly number: number;
	readonly insn: Instruction;
	readonly operands: readonly OperandForm[];
	readonly sized: boolean;
	readonly byteSized: boolean;
}

/** Where a row's handler stands in `Generated.handlers`. */
export function slotOf(row: number, size: Size, rm: RmKind, stack: StackKind, repeat: 0 | 0xf2 | 0xf3): number {
	const sizeIndex = size === 2 ? 0 : size === 4 ? 1 : 2;
	const rmIndex = rm === "register" ? 0 : rm === "flat64" ? 1 : rm === "flat32" ? 2 : 3;
	const stackIndex = stack === "flat64" ? 0 : stack === "flat32" ? 1 : 2;
	const repeatIndex = repeat === 0 ? 0 : repeat === 0xf2 ? 1 : 2;
	return row * SLOTS_PER_ROW + ((sizeIndex * 4 + rmIndex) * 3 + stackIndex) * 3 + repeatIndex;
}

/** Where the near form of a branch stands. */
export function nearSlotOf(row: number, size: Size, stack: StackKind): number {
	const sizeIndex = size === 2 ? 0 : size === 4 ? 1 : 2;
	const stackIndex = stack === "flat64" ? 0 : stack === "flat32" ? 1 : 2;
	return row * SLOTS_PER_ROW + 108 + sizeIndex * 3 + stackIndex;
}

/** Prepares table rows: operands parsed, numbered. */
export function prepareRows(table: readonly Instruction[]): Row[] {
	return table.map((insn, number) => {
		const operands = parseOperands(insn.operands);
		const sized =
			insn.attributes.includes("sized") ||
			insn.attributes.includes("stack") ||
			operands.some(({ size }) => size === "v" || size === "z" || size === "y" || size === "far");
		const byteSized = !sized && operands.some(({ size, place }) => size === 1 && place !== "immediate");
		return { number, insn, operands, sized: sized || (insn.system !== undefined && !byteSized), byteSized };
	});
}

/**
 * Generates the interpreter of one vCPU.
 *
 * @param table - instruction rows
 * @param state - the vCPU's base address, a constant in the code
 * @param memory - initial and maximum size of the memory it will be instantiated with
 */
export function generate(
	table: readonly Instruction[],
	state: number,
	memory: { initial: number; maximum: number },
): Generated {
	const module = new WasmModule();
	const slow = { params: ["i32", "i32", "i32", "i32"], result: "i32" } as const;
	const imports = {
		slowRead: module.import("slowRead", slow),
		slowWrite: module.import("slowWrite", slow),
		slowModify: module.import("slowModify", slow),
		commit: module.import("commit", { params: ["i32"], result: "i32" }),
		raise: module.import("raise", { params: ["i32", "i32", "i32"] }),
		system: module.import("system", { params: ["i32", "i32"], result: "i32" }),
		checkSegment: module.import("checkSegment", {
			params: ["i32", "i32", "i32", "i32", "i32"],
			result: "i32",
		}),
		redirect: module.import("redirect", { params: ["i32"], result: "i32" }),
		crossing: module.import("crossing", { params: ["i32"], result: "i32" }),
		unavailable: module.import("unavailable", { params: ["i32", "i32"] }),
	};
	const goto = module.func("goto", { params: ["i64", "i32"] });
	const offset = module.func("offset", { params: ["i32", "i64"], result: "i64" });
	const segmented = module.func("segmented", { params: ["i32", "i32", "i32", "i64"], result: "i64" });
	const divideU128 = module.func("divideU128", { params: ["i64", "i32"], result: "i32" });
	const divideS128 = module.func("divideS128", { params: ["i64", "i32"], result: "i32" });
	const enter = module.func("enter", { params: ["i32"] }, true);
	const runtime: Runtime = { ...imports, goto, offset, segmented, divideU128, divideS128 };
	writeGoto(goto, state);
	writeOffset(offset, state);
	writeSegmented(segmented, offset, imports.checkSegment, state);
	writeDivision(divideU128, divideS128, imports.raise, state);
	enter.returnCallIndirect(HANDLER, load32(2, enter.param(0)), enter.param(0));

	const handlers: Callee[] = writeSpecial(module, imports, runtime, state);
	const rows = prepareRows(table);
	const numbers = new Uint16Array(rows.length * SLOTS_PER_ROW);
	const systemHandlers: SystemHandler[] = [];
	for (const row of rows) {
		for (const { variant, slot, near } of variantsOf(row)) {
			const f = module.func(row.insn.name, HANDLER);
			numbers[slot] = handlers.length;
			handlers.push(f);
			const operation = systemOperation(row.insn, variant);
			if (operation !== undefined) {
				const number = systemHandlers.length;
				systemHandlers.push({
					row: operation === row.insn.system ? row.insn : { ...row.insn, system: operation },
					operandSize: row.byteSized ? 1 : variant.size,
					isMemory: variant.rm !== "register",
					repeat: variant.repeat,
					generalReg: row.operands.some(({ place, file }) => place === "reg" && file === "general"),
					generalRm: row.operands.some(({ place, file }) => place === "rm" && file === "general"),
				});
				const next = f.let(callExpr(imports.system, c32(number), f.param(0)));
				f.if(eqz(next), () => f.return());
				f.returnCallIndirect(HANDLER, load32(2, next), next);
				continue;
			}
			const aligned = row.insn.attributes.includes("aligned");
			const emitter = new Emitter(f, runtime, state, variant, row.operands, aligned);
			(near ? row.insn.near! : row.insn.emit!)(emitter);
			emitter.next();
		}
	}
	module.setTable(handlers);
	return { bytes: module.encode(memory), rows, systemHandlers, handlers: numbers, handlerCount: handlers.length };
}

function systemOperation(insn: Instruction, variant: Variant): Instruction["system"] {
	if (insn.system !== undefined) return insn.system;
	if (insn.segmented === undefined) return undefined;
	if (insn.attributes.includes("stack")) return variant.stack === "segmented" ? insn.segmented : undefined;
	return variant.rm === "segmented" ? insn.segmented : undefined;
}

/** Every combination a row needs a handler for. */
function variantsOf(row: Row): { variant: Variant; slot: number; near: boolean }[] {
	const { insn, operands } = row;
	const has = (attribute: Instruction["attributes"][number]): boolean => insn.attributes.includes(attribute);
	const rmOperand = operands.find(({ place }) => place === "rm");
	const modrmMemory = insn.opcode.includes("mod=m");
	const modrmRegister = insn.opcode.includes("mod=3");
	const rms = RM_KINDS.filter((rm) => {
		if (has("string")) return rm !== "register";
		if (rmOperand === undefined) return rm === "register" || (modrmMemory && rm === "segmented");
		if (rm === "register") return rmOperand.mod !== "memory" && !modrmMemory && rmOperand.encoding === undefined;
		if (insn.system !== undefined) return rm === "segmented" && rmOperand.mod !== "register" && !modrmRegister;
		return rmOperand.mod !== "register" && !modrmRegister;
	});
	const branches = operands.some(({ encoding }) => encoding === "jb" || encoding === "jz");
	const sizes = row.sized || branches || has("f64") ? SIZES : [8 as Size];
	const stacks: readonly StackKind[] = has("stack") ? STACKS : ["flat64"];
	const out: { variant: Variant; slot: number; near: boolean }[] = [];
	for (const size of sizes) {
		if (size === 8 && has("i64") && sizes.length > 1) continue;
		if (size !== 8 && has("o64") && has("f64")) continue;
		for (const stack of stacks) {
			if (has("stack") && stack === "flat64" && size === 4) continue;
			if (has("stack") && stack !== "flat64" && size === 8) continue;
			for (const rm of rms) {
				for (const repeat of has("rep") ? REPEATS : [0 as const]) {
					const variant: Variant = { size, rm, stack, repeat };
					out.push({ variant, slot: slotOf(row.number, size, rm, stack, repeat), near: false });
				}
			}
			if (insn.near !== undefined && stack !== "segmented") {
				const variant: Variant = { size, rm: "register", stack, repeat: 0 };
				out.push({ variant, slot: nearSlotOf(row.number, size, stack), near: true });
			} else if (insn.near !== undefined && !has("stack")) {
				throw new Error("a near form without a stack has no segmented variant");
			}
		}
	}
	return out;
}

/**
 * goto(rip, pc): settles the budget for the run that ends with the micro-op at pc, and goes on at rip if the code TLB
 * and the page's table know it; otherwise leaves with RIP set and PC zero.
 */
function writeGoto(f: Func, state: number): void {
	const rip = f.param(0);
	const base = c32(state);
	const left = f.let(sub(sub(load32(4, base, L.BUDGET), shrU(f.param(1), c32(4))), c32(1)));
	// Outside long mode RIP has 32 bits and the sum wraps; in long mode CS has no base.
	const long = load32(4, base, L.CODE_64);
	const linear = f.let(add(rip, load64(8, base, L.SEG_BASE + L.CS * 8)));
	f.if(eqz(long), () => f.set(linear, and(linear, c64(0xffff_ffffn))));
	const entry = f.let(
		add(load32(4, base, L.TLB_CODE), and(wrap(shrU(linear, c64(8))), c32((L.CODE_TLB_ENTRIES - 1) * 16))),
	);
	f.if(and(eq(load64(8, entry), and(linear, c64(-4096))), gtS(left, c32(0))), () => {
		const within = f.let(and(wrap(linear), c32(0xfff)));
		const target = f.let(load32(4, add(load32(4, entry, 8), shl(within, c32(2)))));
		f.if(target, () => {
			f.store(4, base, add(left, shrU(target, c32(4))), L.BUDGET);
			f.store(8, base, sub(rip, extU(within)), L.RIP_BASE);
			f.returnCallIndirect(HANDLER, load32(2, target), target);
		});
	});
	// With PC zero the budget is the rest itself.
	f.store(4, base, left, L.BUDGET);
	f.store(8, base, rip, L.RIP);
	f.store(4, base, c32(0), L.PC);
}

/** offset(pc, more): the memory operand's offset in its segment, cut to its address size. */
function writeOffset(f: Func, state: number): void {
	const pc = f.param(0);
	const flags = f.let(load32(1, pc, UOP_FLAGS));
	const base = load64(8, load32(1, pc, UOP_BASE), state);
	const index = load64(8, load32(1, pc, UOP_INDEX), state);
	const sum = f.let(add(add(add(base, shl(index, extU(and(flags, c32(3))))), load64S(4, pc, UOP_DISP)), f.param(1)));
	const size = and(shrU(flags, c32(5)), c32(3));
	f.if(eq(size, c32(2)), () => f.return(sum));
	f.if(eq(size, c32(1)), () => f.return(and(sum, c64(0xffff_ffffn))));
	f.return(and(sum, c64(0xffffn)));
	f.unreachable();
}

/** segmented(pc, size, write, more): linear address, limits checked; with a fault queued when they are not met. */
function writeSegmented(f: Func, offset: Callee, checkSegment: Callee, state: number): void {
	const [pc, size, write] = [f.param(0), f.param(1), f.param(2)];
	const at = f.let(callExpr(offset, pc, f.param(3)));
	const segment = f.let(and(shrU(load32(1, pc, UOP_FLAGS), c32(2)), c32(7)));
	const record = f.let(add(c32(state + L.SEGMENTS), mul(segment, c32(L.SEGMENT_BYTES))));
	const fast = f.let(load32(4, record, L.SEGMENT_FAST));
	const linear = f.let(add(load64(8, add(c32(state + L.SEG_BASE), shl(segment, c32(3)))), at));
	f.if(and(fast, c32(L.FAST_UNLIMITED)), () => f.return(linear));
	const permitted = and(shrU(fast, write), c32(1));
	const last = add(at, extU(sub(size, c32(1))));
	f.if(eqz(and(permitted, leU(last, load64(4, record, 8)))), () => {
		f.if(eqz(callExpr(checkSegment, segment, wrap(at), size, write, pc)), () =>
			f.store(4, c32(state), c32(1), FAULT_FLAG),
		);
	});
	f.return(and(linear, c64(0xffff_ffffn)));
	f.unreachable();
}

function writeSpecial(
	module: WasmModule,
	imports: { redirect: Callee; crossing: Callee; raise: Callee; unavailable: Callee },
	runtime: Runtime,
	state: number,
): Func[] {
	const base = c32(state);
	const make = (name: string, write: (f: Func) => void): Func => {
		const f = module.func(name, HANDLER);
		write(f);
		return f;
	};
	/** Goes on at `next` as if it stood here. */
	const replace = (f: Func, next: ReturnType<Func["let"]>): void => {
		const moved = sub(shrU(next, c32(4)), shrU(f.param(0), c32(4)));
		f.store(4, base, add(load32(4, base, L.BUDGET), moved), L.BUDGET);
		f.returnCallIndirect(HANDLER, load32(2, next), next);
	};
	const pageEnd =
		(mask: bigint | undefined) =>
		(f: Func): void => {
			const sum = add(load64(8, base, L.RIP_BASE), load64(4, f.param(0), UOP_IMM));
			// The end of a page is no instruction.
			f.store(4, base, add(load32(4, base, L.BUDGET), c32(1)), L.BUDGET);
			f.returnCall(runtime.goto, mask === undefined ? sum : and(sum, c64(mask)), f.param(0));
		};
	const list = [
		make("stale", (f) => {
			const next = f.let(callExpr(imports.redirect, f.param(0)));
			f.if(eqz(next), () => f.return());
			replace(f, next);
		}),
		make("leave", (f) => f.store(4, base, f.param(0), L.PC)),
		make("join", (f) => replace(f, f.let(load32(4, f.param(0), UOP_IMM)))),
		make("page end 16", pageEnd(0xffffn)),
		make("page end 32", pageEnd(0xffff_ffffn)),
		make("page end 64", pageEnd(undefined)),
		make("invalid", (f) => f.call(imports.raise, c32(6), c32(-1), f.param(0))),
		make("crossing", (f) => {
			const next = f.let(callExpr(imports.crossing, f.param(0)));
			f.if(eqz(next), () => f.return());
			replace(f, next);
		}),
		make("no fpu", (f) => f.call(imports.unavailable, c32(0), f.param(0))),
		make("no sse", (f) => f.call(imports.unavailable, c32(1), f.param(0))),
	];
	if (list.length !== FIRST_ROW_HANDLER) throw new Error("special handlers and their numbers differ");
	return list;
}
