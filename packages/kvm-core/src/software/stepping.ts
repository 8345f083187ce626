import type { DebugPoint } from "../kvm/types.ts";
import { CodeFetch } from "./code-fetch.ts";
import { type Cpu, DB } from "./cpu/cpu.ts";
import { breakpoints, DR6_BS, matchExecution } from "./cpu/debug.ts";
import { DEBUG_TRAP, EXCEPTION, OUTSIDE_TRAP } from "./cpu/events.ts";
import * as L from "./cpu/layout.ts";
import { SHADOW_MOV_SS } from "./cpu/segment-load.ts";
import type { ArmedPoint, DebugPoints } from "./debug-points.ts";
import type { CodeArena } from "./decode/code-cache.ts";
import { CROSSING, type HandlerPlan, JOIN, LEAVE, STALE } from "./emit/plan.ts";
import { UOP_IMM } from "./emit/uop.ts";
import type { PhysicalMemory } from "./memory.ts";
import type { MmioHandler } from "./translate.ts";

/** Execution by one instruction at a time, and what it stops for: the guest's breakpoints and those of a debugger outside. */
export class Stepping extends CodeFetch {
	protected readonly plan: HandlerPlan;
	protected debug: DebugPoints | undefined;
	/** Ran into by `debug`: what stopped it, DR6 bits. */
	debugStatus = 0;
	/** Exception vector that a debug stop is for: #DB or #BP. */
	debugException: number = DB;
	/** The point that a debug stop is for, if any. */
	debugPoint: DebugPoint | undefined;
	/** `run` executes exactly as many instructions as its budget has. */
	exact = false;
	/**
	 * Number of the instruction the embedder has answered: it comes before any event, for asking again would read a
	 * device twice.
	 */
	answered = -1;
	protected enter!: (pc: number) => void;
	/** DR7 enables an instruction breakpoint. */
	private watchesCode = false;

	constructor(cpu: Cpu, physical: PhysicalMemory, arena: CodeArena, plan: HandlerPlan, mmio: MmioHandler) {
		super(cpu, physical, arena, plan, mmio);
		this.plan = plan;
	}

	/** Connects the instantiated module. */
	connect(enter: (pc: number) => void): void {
		this.enter = enter;
	}

	debugChanged(): void {
		const enabled = breakpoints(this.cpu);
		this.watchesCode = enabled.some(({ kind }) => kind === "execute");
		const watched = enabled.filter(({ kind }) => kind === "write" || kind === "access");
		this.translator.watch([...watched, ...(this.debug?.data ?? []).map(({ point }) => point)]);
		this.leaveAsked = true;
	}

	/** Takes a debugger's wishes, or undefined when it is gone. */
	setDebug(debug: DebugPoints | undefined): void {
		this.settle(this.rip);
		this.debug = debug;
		this.translator.debug = debug;
		this.cpu.set32(DEBUG_TRAP, this.cpu.get32(DEBUG_TRAP) & ~OUTSIDE_TRAP);
		this.translator.flushCode();
		this.debugChanged();
	}

	/** The data point that was touched, if any; it is told of once. */
	protected takeTouched(): ArmedPoint | undefined {
		this.cpu.set32(DEBUG_TRAP, this.cpu.get32(DEBUG_TRAP) & ~OUTSIDE_TRAP);
		const touched = this.debug?.touched;
		if (touched !== undefined) this.debug!.touched = undefined;
		return touched;
	}

	protected stopForDebug(exception: number, armed: ArmedPoint | undefined, status: number): void {
		this.debugException = exception;
		this.debugPoint = armed?.status === 0 ? armed.point : undefined;
		this.debugStatus = status;
		this.stop = "debug";
	}

	/** One instruction at a time: debugging, TF, the shadow of STI with an interrupt waiting. */
	protected get steps(): boolean {
		const { cpu } = this;
		if (this.exact || (cpu.systemFlags & L.TF) !== 0 || this.watchesCode || cpu.get32(L.SHADOW) !== 0) return true;
		return this.debug !== undefined && (this.debug.singleStep || this.debug.stepsThrough(this.linearRip));
	}

	// Pages with execution points stay out of the code TLB, so that every way into them is seen.
	protected override entersDirectly(linear: bigint): boolean {
		return this.debug?.stepsThrough(linear) !== true;
	}

	/** Executes the one instruction at a micro-op. */
	protected stepOne(first: number): void {
		const { cpu } = this;
		const pc = this.realUop(first);
		if (pc === 0) return;
		const stepped = (cpu.systemFlags & L.TF) !== 0;
		if (this.breakpointAt(pc)) return;
		const shadow = cpu.get32(L.SHADOW);
		cpu.set32(L.SHADOW, 0);
		cpu.stepSuppressed = false;
		this.leaveAfter(pc);
		const handler = this.u16[pc >>> 1]!;
		const plain = this.plan.plain[handler]!;
		this.u16[pc >>> 1] = plain;
		this.enter(pc);
		this.untrap();
		if (this.u16[pc >>> 1] === plain) this.u16[pc >>> 1] = handler;
		const finished = cpu.get32(EXCEPTION) === 0 && !this.requestPending;
		if (!finished) cpu.set32(L.SHADOW, shadow);
		// The single-step trap of MOV SS is lost, its data breakpoints wait for the instruction behind it.
		if (stepped && finished && !cpu.stepSuppressed && cpu.get32(L.SHADOW) !== SHADOW_MOV_SS) {
			cpu.set32(DEBUG_TRAP, cpu.get32(DEBUG_TRAP) | DR6_BS);
		}
		if (this.debug?.singleStep === true && finished) {
			const touched = this.takeTouched();
			if (this.stop === undefined) this.stopForDebug(DB, touched, DR6_BS | (touched?.status ?? 0));
		}
	}

	/** Stops at a breakpoint of the embedder's or the guest's before the instruction. */
	private breakpointAt(pc: number): boolean {
		const { cpu } = this;
		if ((cpu.systemFlags & L.RF) !== 0) {
			cpu.set32(L.RFLAGS_SYS, cpu.systemFlags & ~L.RF);
			return false;
		}
		const linear = this.cutRip(this.ripOf(pc) + cpu.get64(L.SEG_BASE + L.CS * 8));
		const point = this.debug?.executionAt(linear);
		if (point !== undefined) {
			this.stopForDebug(DB, point, point.status);
			return true;
		}
		if (!this.watchesCode || this.debug !== undefined || cpu.get32(L.SHADOW) === SHADOW_MOV_SS) return false;
		const bits = matchExecution(cpu, linear);
		if (bits !== 0) {
			cpu.set32(DEBUG_TRAP, bits);
			return true;
		}
		return false;
	}

	/** Follows what stands for an instruction to the instruction itself. */
	private realUop(first: number): number {
		let pc = first;
		for (;;) {
			const handler = this.u16[pc >>> 1]!;
			let next: number;
			if (handler === JOIN) next = this.i32[(pc + UOP_IMM) >>> 2]!;
			else if (handler === CROSSING) next = this.crossing(pc);
			else if (handler === STALE) next = this.redirect(pc);
			else if (handler === LEAVE) throw new Error("a trap was left in place");
			else if (this.isPageEnd(handler)) {
				const rip = this.cpu.get64(L.RIP_BASE) + BigInt(this.i32[(pc + UOP_IMM) >>> 2]!);
				this.settle(this.cutRip(rip));
				return 0;
			} else return pc;
			if (next === 0) return 0;
			const budget = this.budget;
			this.cpu.set32(L.PC, next);
			this.setBudget(budget);
			pc = next;
		}
	}
}
