import type { DebugPoint, VcpuEvent } from "../kvm/types.ts";
import { TSC_KHZ } from "./clock.ts";
import { BP, type Core, Cpu, DB, ExitRequest, GP, GuestFault, PF_VECTOR } from "./cpu/cpu.ts";
import { breakpoints, DR6_BS, matchExecution, noteDebug } from "./cpu/debug.ts";
import {
	DEBUG_TRAP,
	EXCEPTION,
	EXCEPTION_ERROR,
	EXCEPTION_VECTOR,
	INTERRUPT,
	INTERRUPT_VECTOR,
	MP_HALTED,
	MP_RUNNABLE,
	MP_STATE,
	NMI_INJECTED,
	NMI_MASKED,
	NMI_PENDING,
	OUTSIDE_TRAP,
} from "./cpu/events.ts";
import { deliver, type EventKind } from "./cpu/interrupts.ts";
import * as L from "./cpu/layout.ts";
import { deriveMode } from "./cpu/mode.ts";
import { SHADOW_MOV_SS } from "./cpu/segment-load.ts";
import { type AccessHost, DataAccess } from "./data-access.ts";
import type { ArmedPoint, DebugPoints } from "./debug-points.ts";
import { type CodeArena, CodeCache, type CodePage } from "./decode/code-cache.ts";
import { Decoder } from "./decode/decoder.ts";
import { CROSSING, type HandlerPlan, JOIN, LEAVE, STALE } from "./emit/plan.ts";
import { UOP_BYTES, UOP_IMM, UOP_META } from "./emit/uop.ts";
import { ExecutionPosition } from "./execution-position.ts";
import type { PhysicalMemory } from "./memory.ts";
import { SystemInsn } from "./system-insn.ts";
import { type MmioHandler, Translator } from "./translate.ts";

/** Opcode of the breakpoint instruction's row. */
const INT3 = "CC";

function eventName(kind: EventKind): VcpuEvent["kind"] {
	return kind === "icebp" ? "exception" : kind;
}

/** Why `ExecutionCore.run` came back. */
export type CoreStop =
	/** The budget is spent, or something asked for attention: look around and run on. */
	| "slice"
	/** The guest halted. */
	| "halt"
	/** An access that only the embedder can serve is noted down; run on once it is answered. */
	| "request"
	/** The guest waits in a loop for another vCPU. */
	| "pause"
	/** Triple fault. */
	| "shutdown"
	/** An instruction was stepped, or a breakpoint reached: `debugStatus` says which. */
	| "debug"
	/** Code is fetched from where there is no memory. */
	| "no-memory";

/** Where external interrupts come from. */
export interface InterruptSource {
	/** Whether a maskable interrupt waits. */
	pending(): boolean;
	/** Acknowledges it and returns its vector, or -1 when it is gone. */
	acknowledge(): number;
}

/**
 * Executes one vCPU's instructions: the loop between generated code, the decoder, and event delivery. It knows nothing
 * of time, devices or the embedder but through its callbacks.
 */
export class ExecutionCore extends ExecutionPosition implements Core, AccessHost {
	readonly translator: Translator;
	readonly code: CodeCache;
	/** The VM's cores, this one among them: what one writes, the others may have decoded. */
	peers: readonly ExecutionCore[] = [this];
	interrupts: InterruptSource | undefined;
	private debug: DebugPoints | undefined;
	/** Ran into by `debug`: what stopped it, DR6 bits. */
	debugStatus = 0;
	/** Exception vector that a debug stop is for: #DB or #BP. */
	debugException: number = DB;
	/** The point that a debug stop is for, if any. */
	debugPoint: DebugPoint | undefined;
	/** Virtual time: `run` comes back when a device may have a new deadline. */
	looksAtClock = false;
	/** `run` executes exactly as many instructions as its budget has. */
	exact = false;
	private clockChanged = false;
	/** Told of every event before its delivery. */
	onEvent: ((event: VcpuEvent) => void) | undefined;
	/**
	 * Number of the instruction the embedder has answered: it comes before any event, for asking again would read a
	 * device twice.
	 */
	answered = -1;
	/** By KVM's names: page faults of the guest's own, TLB flushes, pages flushed one by one, external interrupts. */
	readonly counts = { pf_guest: 0, tlb_flush: 0, invlpg: 0, irq_exits: 0 };
	private readonly physical: PhysicalMemory;
	private readonly plan: HandlerPlan;
	/** System instructions in front of which it stops. */
	leaves: ((opcode: string, reg: number) => boolean) | undefined;
	private readonly insn: SystemInsn;
	private readonly data: DataAccess;
	private enter!: (pc: number) => void;
	private stop: CoreStop | undefined;
	/** Translations or the mode changed: what follows is looked up anew. */
	private refetch = false;
	/** Part of AccessHost: the instruction in hand is to be the last before the loop. */
	leaveAsked = false;
	/** DR7 enables an instruction breakpoint. */
	private watchesCode = false;

	constructor(physical: PhysicalMemory, base: number, arena: CodeArena, plan: HandlerPlan, mmio: MmioHandler) {
		const { buffer } = physical.u8;
		super(new Cpu(buffer, base), buffer);
		this.physical = physical;
		this.plan = plan;
		this.insn = new SystemInsn(this.cpu, buffer);
		this.translator = new Translator(this.cpu, physical, mmio, this);
		this.data = new DataAccess(this.cpu, this.translator, physical.u8, this);
		this.code = new CodeCache(buffer, arena, new Decoder(plan), (page) => this.codeAppeared(page));
		this.cpu.memory = this.translator;
		this.cpu.core = this;
		this.cpu.set64(L.TWO_GIB, 0x8000_0000n);
		this.translator.flush(false);
		deriveMode(this.cpu);
	}

	/** The functions generated code imports. */
	imports(): Record<string, (...args: number[]) => number | undefined> {
		return {
			slowRead: (lo, hi, size, pc) => this.data.slowRead(lo!, hi!, size!, pc!),
			slowWrite: (lo, hi, size, pc) => this.data.slowWrite(lo!, hi!, size!, pc!, false),
			slowModify: (lo, hi, size, pc) => this.data.slowWrite(lo!, hi!, size!, pc!, true),
			commit: (pc) => this.data.commit(pc!),
			raise: (vector, code, pc) => {
				this.queueFault(vector!, code!, pc!);
				return undefined;
			},
			system: (number, pc) => this.system(number!, pc!),
			checkSegment: (segment, offset, size, write, pc) => this.data.checkSegment(segment!, offset!, size!, write!, pc!),
			redirect: (pc) => this.redirect(pc!),
			crossing: (pc) => this.crossing(pc!),
			unavailable: (sse, pc) => {
				this.data.unavailable(sse!, pc!);
				return undefined;
			},
		};
	}

	/** Connects the instantiated module. */
	connect(enter: (pc: number) => void): void {
		this.enter = enter;
	}

	// ---- Core: what instructions change beyond the state page --------------------------------------------------

	flushTlb(keepGlobal: boolean): void {
		this.counts.tlb_flush++;
		this.translator.flush(keepGlobal);
		this.refetch = true;
	}

	flushPage(linear: bigint): void {
		this.counts.invlpg++;
		this.translator.flushPage(Number(linear & 0xffff_ffffn));
		this.refetch = true;
	}

	modeChanged(): void {
		const before = this.cpu.get32(L.MODE);
		if (deriveMode(this.cpu) !== before) this.translator.flushCode();
		this.refetch = true;
	}

	interruptsChanged(): void {
		if (this.wantsAttention()) this.leaveAsked = true;
	}

	/** Where time and randomness come from. */
	readTscNow: () => bigint = () => 0n;
	writeTscNow: (value: bigint) => void = () => undefined;
	clockAt: (tsc: bigint) => bigint = () => 0n;
	wallClockNow: () => bigint = () => 0n;
	randomNow: () => bigint = () => 0n;
	readonly tscKhz: number = TSC_KHZ;

	readTsc(): bigint {
		return this.readTscNow();
	}

	clock(tsc: bigint): bigint {
		return this.clockAt(tsc);
	}

	wallClock(): bigint {
		return this.wallClockNow();
	}

	random(): bigint {
		return this.randomNow();
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

	/** Linear address of the next instruction. */
	get linearRip(): bigint {
		return this.cutRip(this.rip + this.cpu.get64(L.SEG_BASE + L.CS * 8));
	}

	/** The data point that was touched, if any; it is told of once. */
	private takeTouched(): ArmedPoint | undefined {
		this.cpu.set32(DEBUG_TRAP, this.cpu.get32(DEBUG_TRAP) & ~OUTSIDE_TRAP);
		const touched = this.debug?.touched;
		if (touched !== undefined) this.debug!.touched = undefined;
		return touched;
	}

	private stopForDebug(exception: number, armed: ArmedPoint | undefined, status: number): void {
		this.debugException = exception;
		this.debugPoint = armed?.status === 0 ? armed.point : undefined;
		this.debugStatus = status;
		this.stop = "debug";
	}

	writeTsc(value: bigint): void {
		this.writeTscNow(value);
	}

	halt(): void {
		this.cpu.set32(L.SHADOW, 0);
		this.cpu.set32(MP_STATE, MP_HALTED);
		this.leaveAsked = true;
	}

	pause(): void {
		// Whom it waits for cannot run before this one lets go.
		if (this.peers.length === 1) return;
		this.stop = "pause";
		this.leaveAsked = true;
	}

	shutdown(): void {
		this.stop = "shutdown";
		this.leaveAsked = true;
	}

	/** Makes the instruction in hand return to the embedder before the next one. */
	leaveSoon(): void {
		this.leaveAsked = true;
		this.clockChanged = this.looksAtClock;
	}

	// ---- the loop ----------------------------------------------------------------------------------------------

	/**
	 * Runs until something is up.
	 *
	 * @param budget - instructions at the most, up to 2^28
	 */
	run(budget: number): CoreStop {
		const { cpu } = this;
		// Whoever calls has just looked at the clock.
		this.clockChanged = false;
		this.retired = this.position;
		this.setBudget(budget);
		this.counted = budget;
		for (;;) {
			if (this.stop !== undefined) {
				const { stop } = this;
				this.stop = undefined;
				return stop;
			}
			if (this.requestPending) {
				return "request";
			}
			if (this.deliverEvents()) continue;
			if (cpu.get32(MP_STATE) !== MP_RUNNABLE) {
				return "halt";
			}
			if (this.budget <= 0 || this.clockChanged) {
				return "slice";
			}
			if (!this.code.hasRoom) this.dropCode();
			let pc = cpu.get32(L.PC);
			if (pc === 0) {
				pc = this.lookUp();
				if (pc === 0) continue;
			}
			this.refetch = false;
			this.leaveAsked = false;
			if (this.steps || this.answered === this.position) this.stepOne(pc);
			else this.enter(pc);
			if (this.trapped !== 0 || this.stolen !== 0) this.untrap();
		}
	}

	/** Something waits to be taken to the embedder before the guest goes on. */
	get requestPending(): boolean {
		return this.cpu.get32(L.REQUEST_FLAG) !== 0;
	}

	set requestPending(on: boolean) {
		this.cpu.set32(L.REQUEST_FLAG, on ? 1 : 0);
	}

	/** One instruction at a time: debugging, TF, the shadow of STI with an interrupt waiting. */
	private get steps(): boolean {
		const { cpu } = this;
		if (this.exact || (cpu.systemFlags & L.TF) !== 0 || this.watchesCode || cpu.get32(L.SHADOW) !== 0) return true;
		return this.debug !== undefined && (this.debug.singleStep || this.debug.stepsThrough(this.linearRip));
	}

	private wantsAttention(): boolean {
		const { cpu } = this;
		if (cpu.get32(NMI_PENDING) !== 0 && cpu.get32(NMI_MASKED) === 0) return true;
		if ((cpu.systemFlags & L.TF) !== 0) return true;
		return (cpu.systemFlags & L.IF) !== 0 && this.interrupts?.pending() === true;
	}

	/** Delivers what waits. Returns whether it did anything. */
	private deliverEvents(): boolean {
		const { cpu } = this;
		if (cpu.get32(EXCEPTION) !== 0) {
			cpu.set32(EXCEPTION, 0);
			cpu.set32(L.FAULT_FLAG, 0);
			// The instruction will be executed again, and meet its breakpoints again.
			cpu.set32(DEBUG_TRAP, 0);
			this.enterHandler(cpu.get32(EXCEPTION_VECTOR), "exception", cpu.i32[EXCEPTION_ERROR >> 2]!);
			return true;
		}
		if ((cpu.get32(DEBUG_TRAP) & OUTSIDE_TRAP) !== 0) {
			const touched = this.takeTouched();
			if (touched !== undefined) {
				this.stopForDebug(DB, touched, touched.status);
				return true;
			}
		}
		if (this.answered === this.position) return false;
		if (cpu.get32(INTERRUPT) !== 0) {
			const kind: EventKind = cpu.get32(INTERRUPT) === 2 ? "software" : "external";
			cpu.set32(INTERRUPT, 0);
			this.wake();
			this.enterHandler(cpu.get32(INTERRUPT_VECTOR), kind, -1);
			return true;
		}
		if (cpu.get32(NMI_INJECTED) !== 0) {
			cpu.set32(NMI_INJECTED, 0);
			this.wake();
			this.enterHandler(2, "nmi", -1);
			return true;
		}
		if (cpu.get32(DEBUG_TRAP) !== 0 && cpu.get32(L.SHADOW) !== SHADOW_MOV_SS) {
			noteDebug(cpu, cpu.get32(DEBUG_TRAP));
			cpu.set32(DEBUG_TRAP, 0);
			// HLT's own trap ends it.
			this.wake();
			this.enterHandler(DB, "exception", -1);
			return true;
		}
		if (cpu.get32(L.SHADOW) !== 0) return false;
		if (this.debug?.singleStep === true && this.debug.blockInterrupts) return false;
		if (cpu.get32(NMI_PENDING) !== 0 && cpu.get32(NMI_MASKED) === 0) {
			cpu.set32(NMI_PENDING, 0);
			cpu.set32(NMI_MASKED, 1);
			this.wake();
			this.enterHandler(2, "nmi", -1);
			return true;
		}
		if ((cpu.systemFlags & L.IF) !== 0 && this.interrupts?.pending() === true) {
			const vector = this.interrupts.acknowledge();
			if (vector < 0) return false;
			this.wake();
			this.enterHandler(vector, "external", -1);
			return true;
		}
		return false;
	}

	private wake(): void {
		if (this.cpu.get32(MP_STATE) === MP_HALTED) this.cpu.set32(MP_STATE, MP_RUNNABLE);
	}

	private enterHandler(vector: number, kind: EventKind, errorCode: number): void {
		const { cpu } = this;
		const rip = this.rip;
		cpu.rip = rip;
		cpu.nextRip = rip;
		cpu.jumped = false;
		if (kind === "external") this.counts.irq_exits++;
		if (this.onEvent !== undefined) this.onEvent({ kind: eventName(kind), vector, errorCode, rip });
		// An event takes its share of the budget, so that a handler that faults at once cannot go on for ever.
		this.setBudget(this.budget - 1);
		deliver(cpu, { vector, kind, errorCode, returnRip: rip });
		this.settle(this.cutRip(cpu.nextRip));
	}

	/** The micro-op at RIP, its page entered into the code TLB; 0 with a fault queued or the loop to be left. */
	private lookUp(): number {
		const { cpu, translator } = this;
		const rip = cpu.get64(L.RIP);
		if (cpu.get32(L.CODE_64) === 0 && rip > BigInt(cpu.segmentLimit(L.CS))) {
			this.queueException(GP, 0);
			return 0;
		}
		const base = cpu.get64(L.SEG_BASE + L.CS * 8);
		const linear = this.cutRip(rip + base);
		const lo = Number(linear & 0xffff_ffffn);
		const hi = Number(BigInt.asIntN(32, linear >> 32n));
		const physical = translator.translateFetch(lo, hi);
		if (physical < 0) {
			this.queueException(translator.faultVector, translator.faultCode);
			return 0;
		}
		const host = this.hostOf(physical);
		if (host < 0) {
			this.stop = "no-memory";
			return 0;
		}
		const page = this.code.page(physical, cpu.get32(L.MODE));
		// Pages with execution points stay out of the code TLB, so that every way into them comes by here.
		if (this.debug?.stepsThrough(linear) !== true) translator.fillCode(lo, hi, page.table);
		const offset = lo & 0xfff;
		const uop = this.code.entry(page, offset, host);
		const budget = this.budget;
		cpu.set64(L.RIP_BASE, BigInt.asUintN(64, rip - BigInt(offset)));
		cpu.set32(L.PC, uop);
		this.setBudget(budget);
		return uop;
	}

	private hostOf(physical: number): number {
		const slot = this.physical.slotAt(physical);
		return slot === undefined ? -1 : slot.host + (physical - slot.physical);
	}

	private dropCode(): void {
		this.settle(this.rip);
		this.code.clear();
		this.translator.flushCode();
	}

	// ---- single steps and early leaving ------------------------------------------------------------------------

	/** Executes the one instruction at a micro-op. */
	private stepOne(first: number): void {
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

	// ---- what generated code calls -----------------------------------------------------------------------------

	/** Part of AccessHost. */
	queueException(vector: number, errorCode: number): void {
		const { cpu } = this;
		if (vector === PF_VECTOR) this.counts.pf_guest++;
		cpu.set32(EXCEPTION, 1);
		cpu.set32(EXCEPTION_VECTOR, vector);
		cpu.i32[EXCEPTION_ERROR >> 2] = errorCode;
	}

	/** Part of AccessHost. */
	queueFault(vector: number, errorCode: number, pc: number): void {
		this.queueException(vector, errorCode);
		this.abandon(pc);
	}

	private crossing(pc: number): number {
		const { cpu, code } = this;
		if (!code.hasRoom) return this.redirect(pc);
		const rip = this.ripOf(pc);
		const linear = this.cutRip(rip + cpu.get64(L.SEG_BASE + L.CS * 8));
		const left = 0x1000n - (linear & 0xfffn);
		if (cpu.get32(L.CODE_64) === 0 && rip + left > BigInt(cpu.segmentLimit(L.CS))) {
			this.queueFault(GP, 0, pc);
			return 0;
		}
		const page = this.fetchPage(linear, pc);
		if (page === undefined) return 0;
		const next = this.cutRip((linear & ~0xfffn) + 0x1000n);
		const second = this.fetchPage(next, pc);
		if (second === undefined) return 0;
		return code.crossing(pc, page.page, page.host, second.page, second.host);
	}

	private fetchPage(linear: bigint, pc: number): { page: CodePage; host: number } | undefined {
		const { translator } = this;
		const lo = Number(linear & 0xffff_ffffn);
		const physical = translator.translateFetch(lo, Number(BigInt.asIntN(32, linear >> 32n)));
		if (physical < 0) {
			this.queueFault(translator.faultVector, translator.faultCode, pc);
			return undefined;
		}
		const host = this.hostOf(physical);
		if (host < 0) {
			this.stop = "no-memory";
			this.abandon(pc);
			return undefined;
		}
		return { page: this.code.page(physical, this.cpu.get32(L.MODE)), host };
	}

	/** Executes a system instruction; returns the micro-op to go on with, or 0. */
	private system(number: number, pc: number): number {
		const { cpu } = this;
		const handler = this.plan.systemHandlers[number]!;
		cpu.set32(L.PC, pc);
		const meta = this.u16[(pc + UOP_META) >>> 1]!;
		const rip = this.cutRip(cpu.get64(L.RIP_BASE) + BigInt(meta & 0xfff));
		cpu.rip = rip;
		cpu.nextRip = this.cutRip(rip + BigInt(meta >>> 12));
		cpu.jumped = false;
		this.refetch = false;
		this.leaveAsked = false;
		this.insn.load(pc, handler);
		if (this.debug?.software === true && handler.row.opcode === INT3) {
			this.stopForDebug(BP, undefined, 0);
			return this.abandon(pc);
		}
		if (this.leaves?.(handler.row.opcode, this.insn.reg) === true) {
			this.requestPending = true;
			return this.abandon(pc);
		}
		try {
			handler.row.system!(cpu, this.insn);
		} catch (error) {
			if (error instanceof GuestFault) this.queueFault(error.vector, error.errorCode, pc);
			else if (error instanceof ExitRequest) {
				this.requestPending = true;
				this.abandon(pc);
			} else throw error;
			return 0;
		}
		if (!cpu.jumped && !this.refetch && !this.leaveAsked && cpu.get32(DEBUG_TRAP) === 0) return pc + UOP_BYTES;
		const left = this.budgetAt(pc) - 1;
		cpu.set32(L.PC, 0);
		cpu.set64(L.RIP, this.cutRip(cpu.nextRip));
		cpu.i32[L.BUDGET >> 2] = left;
		return 0;
	}

	// ---- decoded code and memory -------------------------------------------------------------------------------

	/** Part of CodeWatcher: a store of this or another vCPU is about to change a page that holds decoded code. */
	codeWritten(physical: number, from: number, to: number): void {
		let held = false;
		let covered = false;
		for (const { code } of this.peers) {
			held ||= code.holds(physical);
			covered ||= code.covers(physical, from, to);
		}
		if (held && !covered) return;
		for (const peer of this.peers) peer.dropPage(physical);
		const slot = this.physical.slotAt(physical);
		if (slot !== undefined) slot.code[(physical - slot.physical) / 4096] = 0;
	}

	private dropPage(physical: number): void {
		this.code.drop(physical);
		this.dropTrapped();
	}

	/** Slots changed: whatever was translated or decoded may be gone. */
	memoryChanged(): void {
		this.settle(this.rip);
		this.code.clear();
		this.translator.flush(false);
	}

	private codeAppeared(physical: number): void {
		const slot = this.physical.slotAt(physical);
		if (slot === undefined) return;
		const page = (physical - slot.physical) / 4096;
		if (slot.code[page] !== 0) return;
		slot.code[page] = 1;
		for (const { translator } of this.peers) translator.protectPage(slot.host + page * 4096);
	}
}
