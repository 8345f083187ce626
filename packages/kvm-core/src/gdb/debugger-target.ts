import type { Debugger, PointKind, StopEvent } from "../debug/debugger.ts";
import type { Regs } from "../kvm/types.ts";
import { type GdbRegister, REGISTERS_32, REGISTERS_64, type RegisterPart, type RegisterState } from "./registers.ts";
import type { GdbPoint, GdbResume, GdbStop, GdbTarget } from "./target.ts";

const KERNEL_GS_BASE = 0xc000_0102;
const SIGINT = 2;
const SIGTRAP = 5;
const SIGABRT = 6;

/** What a {@link DebuggerTarget} is given beside the debugger. */
export interface DebuggerTargetOptions {
	readonly debugger: Debugger;
	/** Which registers gdb is shown. @default 64 */
	readonly bits?: 32 | 64;
	/** Answers gdb's `monitor`. */
	monitor(command: string): Promise<string>;
	/** The guest is to run on, unwatched. */
	onDetach(): void;
	onKill(): void;
}

/** The gdb protocol's view of a {@link Debugger}: threads are vCPUs, numbered from 1. */
export class DebuggerTarget implements GdbTarget {
	readonly bits: 32 | 64;
	readonly reversible: boolean;
	readonly #debugger: Debugger;
	readonly #options: DebuggerTargetOptions;
	#interrupted = false;

	constructor(options: DebuggerTargetOptions) {
		this.#options = options;
		this.#debugger = options.debugger;
		this.bits = options.bits ?? 64;
		this.reversible = options.debugger.history !== undefined;
	}

	get threads(): number[] {
		return this.#debugger.target.vcpus.map(({ id }) => id + 1);
	}

	get #registers(): readonly GdbRegister[] {
		return this.bits === 64 ? REGISTERS_64 : REGISTERS_32;
	}

	describeThread(thread: number): string {
		const vcpu = this.#debugger.vcpu(thread - 1);
		const { cs } = vcpu.getSregs();
		return `${vcpu.getMpState()}, CPL ${cs.selector & 3}, ${this.#debugger.codeBits(thread - 1)}-bit code`;
	}

	#state(thread: number): RegisterState {
		const id = thread - 1;
		const vcpu = this.#debugger.vcpu(id);
		const regs: Regs = { ...vcpu.getRegs(), rip: this.#debugger.pc(id) };
		const kernelGsBase = vcpu.getMsrs([KERNEL_GS_BASE])[0]?.data ?? 0n;
		return { regs, sregs: vcpu.getSregs(), fpu: vcpu.getFpu(), kernelGsBase };
	}

	readRegisters(thread: number): Uint8Array[] {
		const state = this.#state(thread);
		return this.#registers.map((register) => register.get(state));
	}

	writeRegisters(thread: number, values: readonly (readonly [number, Uint8Array])[]): boolean {
		const id = thread - 1;
		const vcpu = this.#debugger.vcpu(id);
		const state = this.#state(thread);
		const pc = state.regs.rip;
		const changed = new Set<RegisterPart>();
		for (const [number, value] of values) {
			const register = this.#registers[number];
			if (register === undefined || !register.set(state, value)) return false;
			changed.add(register.part);
		}
		if (changed.size > 0) this.#debugger.history?.changed();
		if (changed.has("sregs")) vcpu.setSregs(state.sregs);
		if (changed.has("regs")) {
			vcpu.setRegs({ ...state.regs, rip: vcpu.getRegs().rip });
			if (state.regs.rip !== pc) this.#debugger.setPc(id, state.regs.rip);
		}
		if (changed.has("fpu")) vcpu.setFpu(state.fpu);
		if (changed.has("msr")) vcpu.setMsrs([{ index: KERNEL_GS_BASE, data: state.kernelGsBase }]);
		return true;
	}

	readMemory(thread: number, address: bigint, length: number): Uint8Array {
		return this.#debugger.readMemory(thread - 1, address, length);
	}

	writeMemory(thread: number, address: bigint, bytes: Uint8Array): void {
		this.#debugger.writeMemory(thread - 1, address, bytes);
	}

	addPoint(kind: GdbPoint, address: bigint, length: number): void {
		this.#debugger.addPoint(pointOf(kind, address, length));
	}

	removePoint(kind: GdbPoint, address: bigint, length: number): void {
		this.#debugger.removePoint(pointOf(kind, address, length));
	}

	jump(thread: number, address: bigint): void {
		this.#debugger.setPc(thread - 1, address);
	}

	async resume({ run, step, range }: GdbResume): Promise<GdbStop> {
		this.#interrupted = false;
		const others = run.map((thread) => thread - 1);
		for (;;) {
			const stop = await this.#debugger.resume({ run: others, ...(step === undefined ? {} : { step: step - 1 }) });
			if (range === undefined || stop.reason !== "step" || this.#interrupted) return this.#stopOf(stop);
			const pc = this.#debugger.pc(stop.vcpu);
			if (pc < range.start || pc >= range.end) return this.#stopOf(stop);
		}
	}

	async reverse(thread: number, step: boolean): Promise<GdbStop> {
		this.#interrupted = false;
		const stop = step ? await this.#debugger.reverseStep(thread - 1) : await this.#debugger.reverseContinue(thread - 1);
		return this.#stopOf(stop);
	}

	interrupt(): void {
		this.#interrupted = true;
		this.#debugger.interrupt();
	}

	memoryMap(): string {
		// gdb's addresses are linear: all of them may be memory, as the page tables of the moment have it.
		const half = `length="0x8000000000000000"`;
		return `<?xml version="1.0"?><!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "http://sourceware.org/gdb/gdb-memory-map.dtd"><memory-map><memory type="ram" start="0x0" ${half}/><memory type="ram" start="0x8000000000000000" ${half}/></memory-map>`;
	}

	monitor(command: string): Promise<string> {
		return this.#options.monitor(command);
	}

	detach(): void {
		this.#debugger.detach();
		this.#options.onDetach();
	}

	kill(): void {
		this.#options.onKill();
	}

	#stopOf(stop: StopEvent): GdbStop {
		const thread = stop.vcpu + 1;
		switch (stop.reason) {
			case "breakpoint":
				return {
					kind: "signal",
					thread,
					signal: SIGTRAP,
					because: { kind: stop.point.kind === "software" ? "swbreak" : "hwbreak" },
				};
			case "watchpoint": {
				const { kind, address } = stop.point;
				const name = kind === "write" ? "watch" : kind === "read" ? "rwatch" : "awatch";
				return { kind: "signal", thread, signal: SIGTRAP, because: { kind: name, address } };
			}
			case "step":
				return { kind: "signal", thread, signal: SIGTRAP };
			case "interrupted":
				return { kind: "signal", thread, signal: SIGINT };
			case "history-begin":
				return { kind: "signal", thread, signal: SIGTRAP, because: { kind: "replaylog", end: "begin" } };
			case "ended":
				switch (stop.exit.reason) {
					case "power-off":
					case "reset":
						return { kind: "exited", status: 0 };
					case "debug-exit":
						return { kind: "exited", status: stop.exit.status };
					default:
						// The guest cannot go on, but there is something to look at.
						return { kind: "signal", thread, signal: SIGABRT };
				}
		}
	}
}

function pointOf(
	kind: GdbPoint,
	address: bigint,
	length: number,
): { kind: PointKind; address: bigint; length: number } {
	const isBreakpoint = kind === "software" || kind === "hardware";
	return { kind, address, length: isBreakpoint ? 1 : length };
}
