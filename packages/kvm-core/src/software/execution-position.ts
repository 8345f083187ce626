import type { Cpu } from "./cpu/cpu.ts";
import * as L from "./cpu/layout.ts";
import { LEAVE, PAGE_END_16, PAGE_END_64, STALE } from "./emit/plan.ts";
import { UOP_BYTES, UOP_IMM, UOP_META } from "./emit/uop.ts";

/** Why the loop came back. */
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

/**
 * Where a vCPU's execution stands: at a micro-op (PC, from which RIP follows), or at a RIP that has none yet; with how
 * much of its budget; and how generated code is made to leave behind an instruction.
 */
export class ExecutionPosition {
	readonly cpu: Cpu;
	protected readonly u16: Uint16Array;
	protected readonly i32: Int32Array;
	/** Instructions executed up to the last time generated code was left, and the budget then. */
	protected retired = 0;
	protected counted = 0;
	/** Budget put aside to make generated code leave at once. */
	protected stolen = 0;
	/** Micro-op whose handler was replaced by LEAVE for a moment, and what stood there. */
	protected trapped = 0;
	private trappedHandler = 0;
	/** What the loop is to come back with. */
	protected stop: CoreStop | undefined;
	/** The instruction in hand is to be the last before the loop. */
	leaveAsked = false;

	constructor(cpu: Cpu, buffer: ArrayBufferLike) {
		this.cpu = cpu;
		this.u16 = new Uint16Array(buffer);
		this.i32 = new Int32Array(buffer);
	}

	/** Something waits to be taken to the embedder before the guest goes on. */
	get requestPending(): boolean {
		return this.cpu.get32(L.REQUEST_FLAG) !== 0;
	}

	set requestPending(on: boolean) {
		this.cpu.set32(L.REQUEST_FLAG, on ? 1 : 0);
	}

	/** RIP of the next instruction. */
	get rip(): bigint {
		const pc = this.cpu.get32(L.PC);
		return pc === 0 ? this.cpu.get64(L.RIP) : this.ripOf(pc);
	}

	set rip(value: bigint) {
		this.settle(value);
	}

	/** Instructions left of the budget. */
	get budget(): number {
		const pc = this.cpu.get32(L.PC);
		const raw = this.cpu.i32[L.BUDGET >> 2]!;
		return (pc === 0 ? raw : (raw - (pc >>> 4)) | 0) + this.stolen;
	}

	protected setBudget(value: number): void {
		const pc = this.cpu.get32(L.PC);
		this.stolen = 0;
		this.cpu.i32[L.BUDGET >> 2] = pc === 0 ? value : value + (pc >>> 4);
	}

	/** Linear address of the next instruction. */
	get linearRip(): bigint {
		return this.cutRip(this.rip + this.cpu.get64(L.SEG_BASE + L.CS * 8));
	}

	protected ripOf(pc: number): bigint {
		// What ends a page after an instruction across its boundary stands beyond the offsets a page has.
		const end = this.isPageEnd(this.u16[pc >>> 1]!);
		const offset = end ? this.i32[(pc + UOP_IMM) >>> 2]! : this.u16[(pc + UOP_META) >>> 1]! & 0xfff;
		return this.cutRip(this.cpu.get64(L.RIP_BASE) + BigInt(offset));
	}

	protected cutRip(rip: bigint): bigint {
		return this.cpu.get32(L.CODE_64) !== 0 ? BigInt.asUintN(64, rip) : rip & 0xffff_ffffn;
	}

	/** Stands at `rip` without a micro-op: it is looked up when execution goes on. */
	protected settle(rip: bigint): void {
		const budget = this.budget;
		this.cpu.set32(L.PC, 0);
		this.cpu.set64(L.RIP, rip);
		this.stolen = 0;
		this.cpu.i32[L.BUDGET >> 2] = budget;
	}

	/** Number of the instruction in hand: those executed before it. */
	get position(): number {
		return this.retired + this.counted - this.budget;
	}

	set position(value: number) {
		this.retired += value - this.position;
	}

	/** The instruction at `pc` is abandoned: it, or its fault's handler, is what comes next. */
	abandon(pc: number): 0 {
		this.cpu.set32(L.PC, pc);
		return 0;
	}

	protected redirect(pc: number): number {
		const budget = this.budgetAt(pc);
		this.cpu.set32(L.PC, 0);
		this.cpu.set64(L.RIP, this.ripOf(pc));
		this.cpu.i32[L.BUDGET >> 2] = budget;
		// Looked up in the loop, where there is room for whatever comes of it.
		return 0;
	}

	protected budgetAt(pc: number): number {
		return (this.cpu.i32[L.BUDGET >> 2]! - (pc >>> 4)) | 0;
	}

	protected isPageEnd(handler: number): boolean {
		return handler >= PAGE_END_16 && handler <= PAGE_END_64;
	}

	/** Makes generated code leave behind the instruction at `pc`, whichever way it goes on. */
	leaveAfter(pc: number): void {
		if (this.trapped !== 0) return;
		const raw = this.cpu.i32[L.BUDGET >> 2]!;
		this.stolen += ((raw - (pc >>> 4)) | 0) - 1;
		this.cpu.i32[L.BUDGET >> 2] = (pc >>> 4) + 1;
		const behind = pc + UOP_BYTES;
		this.trapped = behind;
		this.trappedHandler = this.u16[behind >>> 1]!;
		this.u16[behind >>> 1] = LEAVE;
	}

	protected untrap(): void {
		if (this.trapped !== 0) {
			this.u16[this.trapped >>> 1] = this.trappedHandler;
			this.trapped = 0;
		}
		this.setBudget(this.budget);
	}

	/** What is put back later must not bring code back that was dropped meanwhile. */
	protected dropTrapped(): void {
		if (this.trapped !== 0 && this.u16[this.trapped >>> 1] === STALE) this.trappedHandler = STALE;
	}
}
