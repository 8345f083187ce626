import { GP, NM } from "../cpu/cpu.ts";
import * as L from "../cpu/layout.ts";
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
import { emitNear } from "./branch.ts";
import { writeDivision } from "./divide.ts";
import { Emitter, FAULT_FLAG, HANDLER, type Runtime } from "./emitter.ts";
import { conditionOf } from "./fusion.ts";
import { FIRST_ROW_HANDLER, type HandlerPlan, type PlannedHandler } from "./plan.ts";
import { UOP_BASE, UOP_BYTES, UOP_DISP, UOP_FLAGS, UOP_IMM, UOP_INDEX } from "./uop.ts";

/**
 * Generates the interpreter of one vCPU.
 *
 * @param plan - the handlers to write
 * @param state - the vCPU's base address, a constant in the code
 * @param memory - initial and maximum size of the memory it will be instantiated with
 * @returns the module's bytes
 */
export function generate(
	plan: HandlerPlan,
	state: number,
	memory: { initial: number; maximum: number },
): Uint8Array<ArrayBuffer> {
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
	for (const planned of plan.planned) handlers.push(writeHandler(module, imports.system, runtime, state, planned));
	module.setTable(handlers);
	return module.encode(memory);
}

function writeHandler(
	module: WasmModule,
	system: Callee,
	runtime: Runtime,
	state: number,
	planned: PlannedHandler,
): Callee {
	if (planned.kind === "system") {
		const f = module.func("system", HANDLER);
		const next = f.let(callExpr(system, c32(planned.number), f.param(0)));
		f.if(eqz(next), () => f.return());
		f.returnCallIndirect(HANDLER, load32(2, next), next);
		return f;
	}
	const { row, variant } = planned;
	const { insn } = row;
	const f = module.func(insn.name, HANDLER);
	const aligned = insn.attributes.includes("aligned");
	const e = new Emitter(f, runtime, state, variant, row.operands, aligned, planned.kind === "flagless");
	(planned.kind === "near" ? insn.near! : insn.emit!)(e);
	if (planned.kind !== "fused") {
		e.next();
		return f;
	}
	const branch = f.let(add(e.pc, c32(UOP_BYTES)));
	f.if(conditionOf(e, e.flagSource!, planned.condition), () => emitNear(e, branch));
	f.returnCallIndirect(HANDLER, load32(2, branch, UOP_BYTES), add(branch, c32(UOP_BYTES)));
	return f;
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
	const last = add(at, extU(sub(and(size, c32(0xff)), c32(1))));
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
		// CR0.EM makes MMX undefined, where it makes x87 unavailable.
		make("no mmx", (f) => {
			const emulated = and(shrU(load32(4, base, L.CR0), c32(2)), c32(1));
			f.call(imports.raise, sub(c32(NM), emulated), c32(-1), f.param(0));
		}),
		make("too long", (f) => f.call(imports.raise, c32(GP), c32(0), f.param(0))),
	];
	if (list.length !== FIRST_ROW_HANDLER) throw new Error("special handlers and their numbers differ");
	return list;
}
