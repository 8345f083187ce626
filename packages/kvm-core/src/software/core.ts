import type { VcpuEvent } from "../kvm/types.ts";
import { TSC_KHZ } from "./clock.ts";
import { BP, type Core, Cpu, DB, ExitRequest, GuestFault } from "./cpu/cpu.ts";
import { noteDebug } from "./cpu/debug.ts";
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
import type { CodeArena } from "./decode/code-cache.ts";
import type { HandlerPlan } from "./emit/plan.ts";
import { UOP_BYTES, UOP_META } from "./emit/uop.ts";
import type { CoreStop } from "./execution-position.ts";
import type { PhysicalMemory } from "./memory.ts";
import { Stepping } from "./stepping.ts";
import { SystemInsn } from "./system-insn.ts";
import type { MmioHandler } from "./translate.ts";

/** Opcode of the breakpoint instruction's row. */
const INT3 = "CC";

function eventName(kind: EventKind): VcpuEvent["kind"] {
	return kind === "icebp" ? "exception" : kind;
}

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
export class ExecutionCore extends Stepping implements Core, AccessHost {
	interrupts: InterruptSource | undefined;
	/** Virtual time: `run` comes back when a device may have a new deadline. */
	looksAtClock = false;
	private clockChanged = false;
	/** Told of every event before its delivery. */
	onEvent: ((event: VcpuEvent) => void) | undefined;
	/** System instructions in front of which it stops. */
	leaves: ((opcode: string, reg: number) => boolean) | undefined;
	private readonly insn: SystemInsn;
	private readonly data: DataAccess;
	/** Translations or the mode changed: what follows is looked up anew. */
	private refetch = false;

	constructor(physical: PhysicalMemory, base: number, arena: CodeArena, plan: HandlerPlan, mmio: MmioHandler) {
		const { buffer } = physical.u8;
		super(new Cpu(buffer, base), physical, arena, plan, mmio);
		this.insn = new SystemInsn(this.cpu, buffer);
		this.data = new DataAccess(this.cpu, this.translator, physical.u8, this);
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

	// ---- what generated code calls -----------------------------------------------------------------------------

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
}
