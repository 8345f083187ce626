import type { GuestMemory, Vcpu, VcpuExit } from "../kvm/types.ts";
import type { SoftwareVmState } from "../software/vm.ts";
import { DebugError } from "./errors.ts";
import type { History } from "./history.ts";

const PAGE = 4096;
const RF = 1n << 16n;
/** Instructions between two checkpoints. */
const SPACING = 1_000_000;
/** With more checkpoints the oldest are given up. */
const MOST_CHECKPOINTS = 256;
/** With more answers to reads than this the past begins anew. */
const MOST_ANSWERS = 2 ** 20;

/** A VM whose state can be kept and put back: the software engine's. */
export interface KeptVm {
	readonly isVirtual: boolean;
	saveState(): SoftwareVmState;
	restoreState(state: SoftwareVmState): void;
}

/** Options of {@link VmHistory}. */
export interface VmHistoryOptions {
	/** A VM in virtual time, with one vCPU. */
	readonly vm: KeptVm;
	readonly vcpu: Vcpu;
	/** All memory the guest can write. */
	readonly memory: readonly GuestMemory[];
	/** Answers the guest's port and memory-mapped I/O for `run`; not called again when that is replayed. */
	serve?(exit: Extract<VcpuExit, { reason: "io" | "mmio" }>): void;
	/** Instructions between two checkpoints. @default 1_000_000 */
	readonly spacing?: number;
}

interface Checkpoint {
	readonly instant: number;
	readonly state: SoftwareVmState;
	/** Pages that differ from the checkpoint before, by memory and number; all that are not zero in the first. */
	readonly pages: Map<number, Uint8Array>;
}

/**
 * The past of a guest in virtual time: vCPU, memory and interrupt controllers, with checkpoints at intervals and a record
 * of all answers to its I/O between them. Time is the count of instructions, so replaying from a checkpoint comes by the
 * same instants in the same states.
 */
export class VmHistory implements History {
	readonly #options: VmHistoryOptions;
	readonly #spacing: number;
	readonly #checkpoints: Checkpoint[] = [];
	/** Answers to reads, in order, by the instant that asked. */
	readonly #answers = new Map<number, Uint8Array[]>();
	/** Reads that the instruction in hand has asked for in this replay. */
	#asked = { instant: -1, count: 0 };
	/** What memory held at the last checkpoint. */
	#shadow: Uint8Array[] = [];
	#farthest = 0;
	#answerCount = 0;
	/** Something happened that a replay would not bring about. */
	#isOver = false;

	constructor(options: VmHistoryOptions) {
		if (!options.vm.isVirtual) {
			throw new DebugError(
				"ERR_DEBUG_HISTORY",
				"the VM runs by the host's clock; open the engine with virtual time",
				"",
			);
		}
		this.#options = options;
		this.#spacing = options.spacing ?? SPACING;
		this.#keep();
	}

	get first(): number {
		return this.#isOver ? this.now : this.#checkpoints[0]!.instant;
	}

	get now(): number {
		return this.#options.vcpu.instructionsRetired!;
	}

	get checkpoints(): readonly number[] {
		return this.#isOver ? [] : this.#checkpoints.map(({ instant }) => instant);
	}

	changed(): void {
		this.#isOver = true;
	}

	/**
	 * Before the vCPU is run by others than `run`: lets the past go on as it went up to where it was left, and where there
	 * is none any more begins another.
	 *
	 * @returns what stops the vCPU on the way
	 */
	catchUp(): VcpuExit | undefined {
		if (this.#isOver) {
			this.#restart();
			return undefined;
		}
		return this.now < this.#farthest ? this.#replay(this.#farthest) : undefined;
	}

	/** An access was answered by others than `serve`. */
	served(exit: Extract<VcpuExit, { reason: "io" | "mmio" }>): void {
		if (!this.#isOver && isRead(exit)) this.#record(exit.data.slice());
	}

	/** The vCPU, run by others than `run`, stands between two instructions: the time for a checkpoint, when it is due. */
	paused(): void {
		if (!this.#isOver && this.now >= this.#checkpoints.at(-1)!.instant + this.#spacing) this.#keep();
	}

	/** Runs forward and records, until an exit that is not I/O or the end of a slice. */
	run(): VcpuExit {
		// The past goes on as it went: up to where it was left, nothing is asked anew.
		const stop = this.catchUp();
		if (stop !== undefined) return stop;
		for (;;) {
			const last = this.#checkpoints.at(-1)!.instant;
			this.#options.vcpu.setSlice({ instructions: Math.max(1, last + this.#spacing - this.now) });
			const exit = this.#options.vcpu.run();
			if (exit.reason === "io" || exit.reason === "mmio") {
				this.#options.serve?.(exit);
				this.served(exit);
				continue;
			}
			this.#farthest = Math.max(this.#farthest, this.now);
			if (exit.reason !== "intr") return exit;
			this.paused();
		}
	}

	goTo(instant: number): void {
		if (instant < this.first || instant > Math.max(this.#farthest, this.now)) {
			throw new DebugError("ERR_DEBUG_HISTORY", `instant ${instant} is not in what was recorded`, instant);
		}
		this.#farthest = Math.max(this.#farthest, this.now);
		const from = this.#checkpoints.findLastIndex((one) => one.instant <= instant);
		this.#restore(from);
		this.#options.vcpu.setGuestDebug({ enable: false });
		const stop = this.#replay(instant);
		if (this.now !== instant || stop !== undefined) {
			throw new DebugError(
				"ERR_DEBUG_HISTORY",
				`the replay came to instant ${this.now} instead of ${instant}`,
				instant,
			);
		}
	}

	replayTo(instant: number, onStop: (instant: number) => void): void {
		while (this.now < instant) {
			const stop = this.#replay(instant);
			if (stop === undefined) continue;
			if (stop.reason !== "debug") return;
			onStop(this.now);
			if (stop.point?.kind !== "execute") continue;
			// RF lets the instruction at a breakpoint be executed.
			const { vcpu } = this.#options;
			const regs = vcpu.getRegs();
			vcpu.setRegs({ ...regs, rflags: regs.rflags | RF });
		}
	}

	/** Executes up to an instant with the recorded answers. Returns an exit that is neither I/O nor a slice's end. */
	#replay(instant: number): VcpuExit | undefined {
		const { vcpu } = this.#options;
		while (this.now < instant) {
			vcpu.setSlice({ instructions: instant - this.now });
			const exit = vcpu.run();
			if (exit.reason === "io" || exit.reason === "mmio") {
				if (isRead(exit)) {
					const answer = this.#recorded();
					if (answer === undefined)
						throw new DebugError("ERR_DEBUG_HISTORY", "the replay asks what was never asked", this.now);
					exit.data.set(answer);
				}
			} else if (exit.reason !== "intr") return exit;
		}
		// The answer to the last access is taken before the next instruction.
		vcpu.setImmediateExit(true);
		vcpu.run();
		vcpu.setImmediateExit(false);
		return undefined;
	}

	#record(bytes: Uint8Array): void {
		const list = this.#answers.get(this.now);
		if (list === undefined) this.#answers.set(this.now, [bytes]);
		else list.push(bytes);
		if (++this.#answerCount > MOST_ANSWERS) this.#isOver = true;
	}

	#restart(): void {
		this.#checkpoints.length = 0;
		this.#answers.clear();
		this.#answerCount = 0;
		this.#asked = { instant: -1, count: 0 };
		this.#shadow = [];
		this.#farthest = this.now;
		this.#isOver = false;
		this.#keep();
	}

	/** The oldest checkpoint goes, into the next. */
	#forgetOldest(): void {
		const [oldest, next] = this.#checkpoints as [Checkpoint, Checkpoint];
		for (const [key, page] of oldest.pages) if (!next.pages.has(key)) next.pages.set(key, page);
		this.#checkpoints.shift();
		for (const [instant, answers] of this.#answers) {
			if (instant >= next.instant) break;
			this.#answers.delete(instant);
			this.#answerCount -= answers.length;
		}
	}

	#recorded(): Uint8Array | undefined {
		if (this.#asked.instant !== this.now) this.#asked = { instant: this.now, count: 0 };
		return this.#answers.get(this.now)?.[this.#asked.count++];
	}

	#keep(): void {
		const pages = new Map<number, Uint8Array>();
		const next: Uint8Array[] = [];
		for (const [m, memory] of this.#options.memory.entries()) {
			const bytes = memory.view(0, memory.size);
			const shadow = this.#shadow[m] ?? new Uint8Array(memory.size);
			for (let at = 0; at < memory.size; at += PAGE) {
				const page = bytes.subarray(at, at + PAGE);
				if (same(page, shadow.subarray(at, at + PAGE))) continue;
				const copy = page.slice();
				pages.set(m * 2 ** 32 + at, copy);
				shadow.set(copy, at);
			}
			next.push(shadow);
		}
		this.#shadow = next;
		this.#checkpoints.push({ instant: this.now, state: this.#options.vm.saveState(), pages });
		if (this.#checkpoints.length > MOST_CHECKPOINTS) this.#forgetOldest();
	}

	#restore(index: number): void {
		for (const [m, memory] of this.#options.memory.entries()) {
			const wanted = new Uint8Array(memory.size);
			for (const { pages } of this.#checkpoints.slice(0, index + 1)) {
				for (const [key, page] of pages) if (Math.floor(key / 2 ** 32) === m) wanted.set(page, key % 2 ** 32);
			}
			const bytes = memory.view(0, memory.size);
			for (let at = 0; at < memory.size; at += PAGE) {
				const page = wanted.subarray(at, at + PAGE);
				if (same(page, bytes.subarray(at, at + PAGE))) continue;
				bytes.set(page, at);
				memory.written(at, PAGE);
			}
		}
		this.#options.vm.restoreState(this.#checkpoints[index]!.state);
		this.#asked = { instant: -1, count: 0 };
	}
}

function isRead(exit: Extract<VcpuExit, { reason: "io" | "mmio" }>): boolean {
	return exit.reason === "io" ? exit.direction === "in" : !exit.isWrite;
}

/** Of two pages at addresses that 4 divides. */
function same(a: Uint8Array, b: Uint8Array): boolean {
	const [x, y] = [new Uint32Array(a.buffer, a.byteOffset, PAGE / 4), new Uint32Array(b.buffer, b.byteOffset, PAGE / 4)];
	for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return false;
	return true;
}
