import { type Cpu, GP, GuestFault, NM, SS_VECTOR, UD } from "./cpu/cpu.ts";
import { DEBUG_TRAP } from "./cpu/events.ts";
import * as L from "./cpu/layout.ts";
import { linearAddress } from "./cpu/operand.ts";
import { ALIGNED } from "./emit/emitter.ts";
import { UOP_FLAGS } from "./emit/uop.ts";
import type { Translator } from "./translate.ts";

/** What an access that did not work out does to the execution around it. */
export interface AccessHost {
	/** Something waits to be taken to the embedder before the guest goes on. */
	requestPending: boolean;
	/** The instruction in hand is to be the last before the loop. */
	leaveAsked: boolean;
	/** Makes generated code leave behind the instruction at `pc`. */
	leaveAfter(pc: number): void;
	/** The instruction at `pc` is abandoned. */
	abandon(pc: number): 0;
	queueException(vector: number, errorCode: number): void;
	/** Both of these. */
	queueFault(vector: number, errorCode: number, pc: number): void;
}

/** The data accesses that generated code does not settle by itself: what its imports of these names do. */
export class DataAccess {
	private readonly cpu: Cpu;
	private readonly translator: Translator;
	private readonly u8: Uint8Array;
	private readonly host: AccessHost;

	constructor(cpu: Cpu, translator: Translator, u8: Uint8Array, host: AccessHost) {
		this.cpu = cpu;
		this.translator = translator;
		this.u8 = u8;
		this.host = host;
	}

	slowRead(lo: number, hi: number, size: number, pc: number): number {
		this.cpu.set32(L.PC, pc);
		if (this.passesEnd(lo, size, pc)) return 0;
		const host = this.translator.readable(lo, hi, size & 0xff, this.usesStack(size, pc));
		if (this.cpu.get32(DEBUG_TRAP) !== 0) this.host.leaveAfter(pc);
		return host > 0 ? host : this.missed(host, pc);
	}

	slowWrite(lo: number, hi: number, size: number, pc: number, modify: boolean): number {
		this.cpu.set32(L.PC, pc);
		if (this.passesEnd(lo, size, pc)) return 0;
		const host = this.translator.writable(lo, hi, size & 0xff, this.usesStack(size, pc), modify);
		if (this.cpu.get32(DEBUG_TRAP) !== 0) this.host.leaveAfter(pc);
		return host > 0 ? host : this.missed(host, pc);
	}

	/** Outside 64-bit code nothing reaches beyond the end of a flat segment, whose limit generated code does not check. */
	private passesEnd(lo: number, size: number, pc: number): boolean {
		const { cpu } = this;
		if ((lo >>> 0) + (size & 0xff) <= 2 ** 32 || cpu.get32(L.CODE_64) !== 0) return false;
		const stack = this.usesStack(size, pc);
		const segment = stack ? L.SS : (this.u8[pc + UOP_FLAGS]! >> 2) & 7;
		if (cpu.get64(L.SEG_BASE + segment * 8) !== 0n) return false;
		this.host.queueFault(stack ? SS_VECTOR : GP, 0, pc);
		return true;
	}

	/** Whether an access goes through SS, implicitly or by its operand: a non-canonical address is #SS then. */
	private usesStack(size: number, pc: number): boolean {
		return (size & 0x100) !== 0 || ((this.u8[pc + UOP_FLAGS]! >> 2) & 7) === L.SS;
	}

	/** A fault (0) or a request (-1). */
	private missed(result: number, pc: number): 0 {
		if (result === 0) {
			const { translator } = this;
			// What is not canonical is #SS through the stack segment, and 64-bit code names that only by its base register.
			const stack = translator.faultVector === GP && ((this.u8[pc + UOP_FLAGS]! >> 2) & 7) === L.SS;
			this.host.queueException(stack ? SS_VECTOR : translator.faultVector, translator.faultCode);
		} else this.host.requestPending = true;
		return this.host.abandon(pc);
	}

	commit(pc: number): number {
		this.cpu.set32(L.PC, pc);
		this.host.leaveAsked = false;
		this.translator.commit();
		if (this.host.leaveAsked || this.host.requestPending) this.host.leaveAfter(pc);
		return 1;
	}

	checkSegment(segment: number, offset: number, size: number, write: number, pc: number): number {
		const { cpu } = this;
		try {
			linearAddress(cpu, segment, BigInt(offset >>> 0), size & 0xff, write !== 0);
			return 1;
		} catch (error) {
			if (!(error instanceof GuestFault)) throw error;
			const misaligned = ((cpu.u32[(L.SEG_BASE + segment * 8) >> 2]! + offset) & 15) !== 0;
			if ((size & ALIGNED) !== 0 && misaligned) {
				this.host.queueFault(GP, 0, pc);
				return 0;
			}
			this.host.queueFault(error.vector, error.errorCode, pc);
			return 0;
		}
	}

	unavailable(sse: number, pc: number): void {
		const { cr0, cr4 } = this.cpu;
		const em = (cr0 & 4) !== 0;
		this.host.queueFault(sse !== 0 && (em || (cr4 & 0x200) === 0) ? UD : NM, -1, pc);
	}
}
