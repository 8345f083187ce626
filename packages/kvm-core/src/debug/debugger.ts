import type { DebugPoint, GuestDebug, HardwareBreakpoint, Vcpu, Vm } from "../kvm/types.ts";
import type { MachineExit } from "../machine/machine.ts";
import { DebugError } from "./errors.ts";
import type { History } from "./history.ts";
import { describeWalk, type WalkResult, walkPages } from "./page-walk.ts";
import { PlantedBreakpoints } from "./planted.ts";

const RF = 1n << 16n;
const BREAKPOINT_VECTOR = 3;
const PAGE = 4096;
/** Bytes one watchpoint covers at most, where an engine has its own. */
const LONGEST_WATCH = 65_536;

/** What is debugged: a {@link Machine} is one. */
export interface DebugTarget {
	readonly vm: Pick<Vm, "checkExtension">;
	readonly vcpus: readonly Vcpu[];
	/** vCPUs, by id, that `run` leaves alone. */
	readonly held: Set<number>;
	/** vCPU, by id, that stops behind an instruction whose I/O `run` served. */
	stepping: number | undefined;
	run(): Promise<MachineExit>;
	stop(): void;
	/** Guest-physical memory; false where there is none. */
	read(physAddr: number, into: Uint8Array): boolean;
	readonly ram: { write(address: number, source: Uint8Array): boolean };
}

/**
 * How a breakpoint or watchpoint is set: `software` breakpoints have no limit, of the others a processor has four, on an
 * engine without points of its own.
 */
export type PointKind = "software" | "hardware" | "read" | "write" | "access";

/** A breakpoint or watchpoint, by linear address. */
export interface Point {
	readonly kind: PointKind;
	readonly address: bigint;
	/** Bytes watched; 1 for breakpoints. */
	readonly length: number;
}

/** Why the guest stands still. */
export type StopEvent =
	| { readonly reason: "breakpoint" | "watchpoint"; readonly vcpu: number; readonly point: Point }
	| { readonly reason: "step"; readonly vcpu: number }
	/** `interrupt` was called. */
	| { readonly reason: "interrupted"; readonly vcpu: number }
	/** Going back came to the first instant that is kept. */
	| { readonly reason: "history-begin"; readonly vcpu: number }
	/** The run has come to an end, or cannot go on. */
	| { readonly reason: "ended"; readonly vcpu: number; readonly exit: MachineExit };

/** What each vCPU is to do; those that no list names stand still. */
export interface Resume {
	/** vCPUs to run, by id. @default all */
	readonly run?: readonly number[];
	/** One that executes a single instruction; what `run` names runs beside it. */
	readonly step?: number;
	/** Lets interrupts through while it steps. @default false */
	readonly interrupts?: boolean;
}

/** Watches over a machine's vCPUs, on either engine. The guest stands still whenever no `resume` is under way. */
export class Debugger {
	readonly target: DebugTarget;
	readonly #points: Point[] = [];
	readonly #planted: PlantedBreakpoints;
	/** Where the INT3 of a software breakpoint was planted. */
	readonly #places = new Map<bigint, number>();
	readonly #ownPoints: boolean;
	#running = false;
	#interrupting = false;
	#attached = false;

	/** The machine's past, where there is one. */
	readonly history: History | undefined;

	constructor(target: DebugTarget, history?: History) {
		this.target = target;
		this.history = history;
		this.#ownPoints = target.vm.checkExtension("debug-points") > 0;
		this.#planted = new PlantedBreakpoints(
			(address, into) => target.read(address, into),
			(address, bytes) => target.ram.write(address, bytes),
		);
	}

	get running(): boolean {
		return this.#running;
	}

	/**
	 * The vCPU of an id.
	 *
	 * @throws DebugError ERR_DEBUG_VCPU
	 */
	vcpu(id: number): Vcpu {
		const vcpu = this.target.vcpus.find((candidate) => candidate.id === id);
		if (vcpu === undefined) throw new DebugError("ERR_DEBUG_VCPU", `there is no vCPU ${id}`, id);
		return vcpu;
	}

	/** Linear address of a vCPU's next instruction: RIP, with the base of CS where that counts. */
	pc(id: number): bigint {
		const vcpu = this.vcpu(id);
		const { rip } = vcpu.getRegs();
		const { cs } = vcpu.getSregs();
		return cs.l === 1 ? rip : (rip + cs.base) & 0xffff_ffffn;
	}

	/** Makes a linear address the next instruction's. */
	setPc(id: number, linear: bigint): void {
		const vcpu = this.vcpu(id);
		const { cs } = vcpu.getSregs();
		const rip = cs.l === 1 ? BigInt.asUintN(64, linear) : (linear - cs.base) & 0xffff_ffffn;
		this.history?.changed();
		vcpu.setRegs({ ...vcpu.getRegs(), rip });
	}

	/** Bits of the code a vCPU executes now. */
	codeBits(id: number): 16 | 32 | 64 {
		const { cs } = this.vcpu(id).getSregs();
		return cs.l === 1 ? 64 : cs.db === 1 ? 32 : 16;
	}

	/** Translates a linear address as a vCPU would, without side effects. */
	translate(id: number, linear: bigint): WalkResult {
		return walkPages(this.vcpu(id).getSregs(), linear, (address, into) => this.target.read(address, into));
	}

	/**
	 * Reads by linear address, whatever the rights of the pages.
	 *
	 * @returns as many bytes as can be had without a gap
	 */
	readMemory(id: number, linear: bigint, length: number): Uint8Array {
		const bytes = new Uint8Array(length);
		let done = 0;
		while (done < length) {
			const piece = this.#piece(id, linear + BigInt(done), length - done);
			const into = bytes.subarray(done, done + piece.length);
			if (piece.physical === undefined || !this.target.read(piece.physical, into)) break;
			this.#planted.hide(piece.physical, into);
			done += piece.length;
		}
		return bytes.subarray(0, done);
	}

	/**
	 * Writes by linear address, whatever the rights of the pages.
	 *
	 * @throws DebugError ERR_DEBUG_ADDRESS, with what comes before the address written
	 */
	writeMemory(id: number, linear: bigint, bytes: Uint8Array): void {
		this.history?.changed();
		for (let done = 0; done < bytes.length; ) {
			const at = linear + BigInt(done);
			const piece = this.#piece(id, at, bytes.length - done);
			if (piece.physical === undefined) {
				throw new DebugError("ERR_DEBUG_ADDRESS", describeWalk(at, this.translate(id, at)), at);
			}
			const part = this.#planted.cover(piece.physical, bytes.subarray(done, done + piece.length));
			if (!this.target.ram.write(piece.physical, part)) {
				const where = `0x${piece.physical.toString(16)}`;
				throw new DebugError("ERR_DEBUG_ADDRESS", `no memory that can be written at physical ${where}`, at);
			}
			done += piece.length;
		}
	}

	/** What of a linear range lies in one page, and where. */
	#piece(id: number, linear: bigint, length: number): { physical: number | undefined; length: number } {
		const address = BigInt.asUintN(64, linear);
		const walked = this.translate(id, address);
		const room = PAGE - Number(address & BigInt(PAGE - 1));
		return { physical: walked.ok ? walked.physical : undefined, length: Math.min(length, room) };
	}

	// ---- points ------------------------------------------------------------------------------------------------

	get points(): readonly Point[] {
		return this.#points;
	}

	/**
	 * Sets a breakpoint or watchpoint; one that is set already stays as it is.
	 *
	 * @param id - vCPU by whose page tables a software breakpoint is planted
	 * @throws DebugError ERR_DEBUG_POINT, ERR_DEBUG_ADDRESS
	 */
	addPoint(point: Point, id = 0): void {
		const address = BigInt.asUintN(64, point.address);
		if (this.#find({ ...point, address }) >= 0) return;
		this.#check({ ...point, address });
		if (point.kind === "software" && !this.#ownPoints) {
			const walked = this.translate(id, address);
			if (!walked.ok) throw new DebugError("ERR_DEBUG_ADDRESS", describeWalk(address, walked), address);
			if (!this.#planted.plant(walked.physical)) {
				throw new DebugError("ERR_DEBUG_ADDRESS", `the memory at ${hex(address)} cannot be written`, address);
			}
			this.#places.set(address, walked.physical);
		}
		this.#points.push({ ...point, address });
	}

	/** Takes a point away. Returns whether there was one. */
	removePoint(point: Point): boolean {
		const at = this.#find({ ...point, address: BigInt.asUintN(64, point.address) });
		if (at < 0) return false;
		const [removed] = this.#points.splice(at, 1);
		const place = this.#places.get(removed!.address);
		if (removed!.kind === "software" && place !== undefined) {
			this.#planted.remove(place);
			this.#places.delete(removed!.address);
		}
		return true;
	}

	#find({ kind, address, length }: Point): number {
		return this.#points.findIndex(
			(one) =>
				one.kind === kind &&
				one.address === address &&
				(kind === "software" || kind === "hardware" || one.length === length),
		);
	}

	#check({ kind, address, length }: Point): void {
		if (kind === "software" || (kind === "hardware" && this.#ownPoints)) return;
		if (this.#ownPoints) {
			if (Number.isInteger(length) && length >= 1 && length <= LONGEST_WATCH) return;
			throw new DebugError("ERR_DEBUG_POINT", `${length} bytes cannot be watched; from 1 to ${LONGEST_WATCH}`, length);
		}
		const used = this.#points.filter((one) => one.kind !== "software").length;
		if (used >= 4) throw new DebugError("ERR_DEBUG_POINT", "the processor's four debug registers are in use", address);
		if (kind === "read") {
			throw new DebugError("ERR_DEBUG_POINT", "the processor cannot watch reads alone; watch accesses", address);
		}
		if (kind !== "hardware" && (![1, 2, 4, 8].includes(length) || address % BigInt(length) !== 0n)) {
			const message = `${length} bytes at ${hex(address)}: the processor watches 1, 2, 4 or 8 aligned bytes`;
			throw new DebugError("ERR_DEBUG_POINT", message, address);
		}
	}

	// ---- running -----------------------------------------------------------------------------------------------

	/**
	 * Lets vCPUs go on until something stops the guest.
	 *
	 * @throws DebugError ERR_DEBUG_RUNNING, ERR_DEBUG_VCPU
	 */
	async resume(resume: Resume = {}): Promise<StopEvent> {
		if (this.#running) throw new DebugError("ERR_DEBUG_RUNNING", "the guest runs already; interrupt it first", "");
		this.#running = true;
		this.#interrupting = false;
		try {
			const passed = await this.#passBreakpoints(resume);
			if (passed !== undefined) return passed;
			this.#hold(resume);
			this.#arm(resume);
			return await this.#run(resume);
		} finally {
			this.#running = false;
			this.target.held.clear();
			this.target.stepping = undefined;
		}
	}

	/** Executes one instruction of one vCPU; the others stand still. */
	step(id = 0): Promise<StopEvent> {
		return this.resume({ run: [], step: id });
	}

	/**
	 * Goes back by one instruction.
	 *
	 * @throws DebugError ERR_DEBUG_HISTORY
	 */
	async reverseStep(id = 0): Promise<StopEvent> {
		const history = this.#past();
		if (history.now <= history.first) return { reason: "history-begin", vcpu: id };
		history.goTo(history.now - 1);
		return { reason: "step", vcpu: id };
	}

	/**
	 * Goes back to where a point last stopped, or would have stopped, the guest.
	 *
	 * @throws DebugError ERR_DEBUG_HISTORY
	 */
	async reverseContinue(id = 0): Promise<StopEvent> {
		const history = this.#past();
		let end = history.now;
		for (const start of history.checkpoints.filter((instant) => instant < end).reverse()) {
			history.goTo(start);
			let last = -1;
			this.#arm({});
			history.replayTo(end, (instant) => {
				if (instant < end) last = instant;
			});
			if (last >= 0) {
				history.goTo(last);
				return this.#stopHere(id);
			}
			end = start;
		}
		history.goTo(history.first);
		return { reason: "history-begin", vcpu: id };
	}

	/** What stands at the present instant: the breakpoint at the program counter, or the watchpoint just touched. */
	#stopHere(id: number): StopEvent {
		const pc = this.pc(id);
		const here = this.#points.find(({ kind, address }) => kind.endsWith("ware") && address === pc);
		if (here !== undefined) return { reason: "breakpoint", vcpu: id, point: here };
		const watched = this.#points.find(({ kind }) => !kind.endsWith("ware"));
		return watched === undefined ? { reason: "step", vcpu: id } : { reason: "watchpoint", vcpu: id, point: watched };
	}

	#past(): History {
		if (this.#running) throw new DebugError("ERR_DEBUG_RUNNING", "the guest runs; interrupt it first", "");
		if (this.history === undefined) {
			throw new DebugError("ERR_DEBUG_HISTORY", "nothing is recorded: run the guest in deterministic mode", "");
		}
		return this.history;
	}

	/** Ends a `resume` under way with `interrupted`. */
	interrupt(): void {
		if (!this.#running) return;
		this.#interrupting = true;
		this.target.stop();
	}

	/** Takes all points away and lets go of the vCPUs: the guest can run as if nobody had watched it. */
	detach(): void {
		for (const point of [...this.#points]) this.removePoint(point);
		if (!this.#attached) return;
		for (const vcpu of this.target.vcpus) vcpu.setGuestDebug({ enable: false });
		this.#attached = false;
	}

	/** Gets vCPUs off the breakpoints they stand on: by RF, or by a step with the breakpoint taken away. */
	async #passBreakpoints({ run, step }: Resume): Promise<StopEvent | undefined> {
		for (const vcpu of this.target.vcpus) {
			const moves = step === vcpu.id || run === undefined || run.includes(vcpu.id);
			if (!moves) continue;
			const pc = this.pc(vcpu.id);
			const here = this.#points.filter(
				({ kind, address }) => address === pc && (kind === "software" || kind === "hardware"),
			);
			if (here.length === 0) continue;
			if (this.#ownPoints) {
				const regs = vcpu.getRegs();
				vcpu.setRegs({ ...regs, rflags: regs.rflags | RF });
				continue;
			}
			const place = this.#places.get(pc);
			if (place !== undefined) this.#planted.remove(place);
			try {
				const only: Resume = { run: [], step: vcpu.id };
				this.#hold(only);
				// RF does not hold off the registers on every host.
				this.#arm(only, false);
				const stop = await this.#run(only);
				if (stop.reason !== "step" || step === vcpu.id) return stop;
			} finally {
				if (place !== undefined) this.#planted.plant(place);
			}
		}
		return undefined;
	}

	#hold({ run, step }: Resume): void {
		const { held, vcpus } = this.target;
		held.clear();
		if (run === undefined) return;
		for (const { id } of vcpus) if (id !== step && !run.includes(id)) held.add(id);
	}

	#arm({ step, interrupts }: Resume, registers = true): void {
		this.#attached = true;
		this.target.stepping = step;
		const software = this.#places.size > 0;
		const hardware = this.#ownPoints || !registers ? [] : this.#registers();
		for (const vcpu of this.target.vcpus) {
			const debug: GuestDebug = {
				enable: true,
				singleStep: vcpu.id === step,
				// Only an interrupt gets a halted processor to its next instruction.
				blockInterrupts: interrupts !== true && vcpu.getMpState() !== "halted",
				softwareBreakpoints: software,
				hardwareBreakpoints: hardware,
				...(this.#ownPoints ? { points: this.#points.map(enginePoint) } : {}),
			};
			vcpu.setGuestDebug(debug);
		}
	}

	/** The points that take a debug register each. */
	#registers(): HardwareBreakpoint[] {
		return this.#points
			.filter(({ kind }) => kind !== "software")
			.map(({ kind, address, length }) => ({
				address,
				kind: kind === "hardware" ? "execute" : kind === "write" ? "write" : "access",
				length: (kind === "hardware" ? 1 : length) as 1 | 2 | 4 | 8,
			}));
	}

	async #run({ step }: Resume): Promise<StopEvent> {
		for (;;) {
			if (this.#interrupting) return { reason: "interrupted", vcpu: step ?? this.target.vcpus[0]!.id };
			const exit = await this.target.run();
			if (exit.reason === "stopped") {
				if (this.#interrupting) continue;
				return { reason: "ended", vcpu: step ?? this.target.vcpus[0]!.id, exit };
			}
			if (exit.reason !== "debug") {
				const vcpu = "vcpu" in exit ? exit.vcpu : this.target.vcpus[0]!.id;
				return { reason: "ended", vcpu, exit };
			}
			const stop = this.#stopOf(exit);
			if (stop !== undefined) return stop;
		}
	}

	#stopOf(exit: Extract<MachineExit, { reason: "debug" }>): StopEvent | undefined {
		const { vcpu, pc } = exit;
		if (exit.exception === BREAKPOINT_VECTOR) {
			const point = this.#points.find(({ kind, address }) => kind === "software" && address === pc);
			if (point !== undefined) return { reason: "breakpoint", vcpu, point };
			this.#giveBack(vcpu);
			return undefined;
		}
		if (exit.point !== undefined) {
			const point = this.#points.find((one) => samePlace(enginePoint(one), exit.point!));
			if (point !== undefined)
				return { reason: point.kind.endsWith("ware") ? "breakpoint" : "watchpoint", vcpu, point };
		}
		const register = [0, 1, 2, 3].find((bit) => (exit.dr6 & (1n << BigInt(bit))) !== 0n);
		if (register !== undefined && !this.#ownPoints) {
			const point = this.#points.filter(({ kind }) => kind !== "software")[register];
			if (point !== undefined) return { reason: point.kind === "hardware" ? "breakpoint" : "watchpoint", vcpu, point };
		}
		return { reason: "step", vcpu };
	}

	/** An INT3 of the guest's own, which stopped it because breakpoints are planted: the guest gets its exception. */
	#giveBack(id: number): void {
		const vcpu = this.vcpu(id);
		const regs = vcpu.getRegs();
		vcpu.setRegs({ ...regs, rip: regs.rip + 1n });
		const events = vcpu.getVcpuEvents();
		const exception = { injected: true, pending: false, nr: BREAKPOINT_VECTOR, hasErrorCode: false, errorCode: 0 };
		vcpu.setVcpuEvents({ ...events, exception });
	}
}

function enginePoint({ kind, address, length }: Point): DebugPoint {
	return kind === "software" || kind === "hardware"
		? { kind: "execute", address, length: 1 }
		: { kind, address, length };
}

function samePlace(a: DebugPoint, b: DebugPoint): boolean {
	return a.kind === b.kind && a.address === b.address && a.length === b.length;
}

function hex(value: bigint): string {
	return `0x${value.toString(16)}`;
}
