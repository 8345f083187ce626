import type { Cpu } from "./cpu/cpu.ts";
import { GP, PF_VECTOR } from "./cpu/cpu.ts";
import { EXCEPTION, EXCEPTION_ERROR, EXCEPTION_VECTOR } from "./cpu/events.ts";
import * as L from "./cpu/layout.ts";
import { type CodeArena, CodeCache, type CodePage } from "./decode/code-cache.ts";
import { Decoder } from "./decode/decoder.ts";
import type { HandlerPlan } from "./emit/plan.ts";
import { ExecutionPosition } from "./execution-position.ts";
import type { PhysicalMemory } from "./memory.ts";
import { type CodeWatcher, type MmioHandler, Translator } from "./translate.ts";

/**
 * From where execution stands to the micro-op that is there: code is fetched by way of the page tables and CS's limit,
 * and decoded; a store to what is decoded drops it.
 */
export class CodeFetch extends ExecutionPosition implements CodeWatcher {
	readonly translator: Translator;
	readonly code: CodeCache;
	/** The VM's cores, this one among them: what one writes, the others may have decoded. */
	peers: readonly CodeFetch[] = [this];
	/** By KVM's names: page faults of the guest's own, TLB flushes, pages flushed one by one, external interrupts. */
	readonly counts = { pf_guest: 0, tlb_flush: 0, invlpg: 0, irq_exits: 0 };
	private readonly physical: PhysicalMemory;

	constructor(cpu: Cpu, physical: PhysicalMemory, arena: CodeArena, plan: HandlerPlan, mmio: MmioHandler) {
		const { buffer } = physical.u8;
		super(cpu, buffer);
		this.physical = physical;
		this.translator = new Translator(cpu, physical, mmio, this);
		this.code = new CodeCache(buffer, arena, new Decoder(plan), (page) => this.codeAppeared(page));
	}

	/** The micro-op at RIP, its page entered into the code TLB; 0 with a fault queued or the loop to be left. */
	protected lookUp(): number {
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
		if (this.entersDirectly(linear)) translator.fillCode(lo, hi, page.table);
		const offset = lo & 0xfff;
		const uop = this.code.entry(page, offset, host);
		const budget = this.budget;
		cpu.set64(L.RIP_BASE, BigInt.asUintN(64, rip - BigInt(offset)));
		cpu.set32(L.PC, uop);
		this.setBudget(budget);
		return uop;
	}

	/** Whether ways into the page need not come by `lookUp` once it is known. */
	protected entersDirectly(_linear: bigint): boolean {
		return true;
	}

	private hostOf(physical: number): number {
		const slot = this.physical.slotAt(physical);
		return slot === undefined ? -1 : slot.host + (physical - slot.physical);
	}

	protected dropCode(): void {
		this.settle(this.rip);
		this.code.clear();
		this.translator.flushCode();
	}

	// ---- what generated code calls -----------------------------------------------------------------------------

	protected crossing(pc: number): number {
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
