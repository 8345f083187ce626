import { KvmError } from "../kvm/errors.ts";
import type { GuestMemory, Kvm, Msi, Vcpu, VcpuExit, Vm } from "../kvm/types.ts";
import { Board, type BoardEvent, type BoardState, boardRoutes } from "./board.ts";
import { cpuidFor } from "./cpuid.ts";
import { MachineError } from "./errors.ts";
import { GuestRam } from "./guest-ram.ts";
import { type MemoryMapEntry, makeMemoryMap, planRam } from "./memory-map.ts";
import type { MachineScheduler } from "./scheduler.ts";
import type { VirtioDevice } from "./virtio/device.ts";

const MTRR_DEFAULT_TYPE = 0x2ff;
const MTRR_ENABLED_WRITE_BACK = 0x806n;
/** Nanoseconds a machine runs before it lets the event loop have a turn. */
const TURN_NS = 4e6;
/**
 * Instructions a vCPU executes before the next one has its turn, where several share the thread: each may wait in a
 * loop for what another is to do.
 */
const SHARED_INSTRUCTIONS = 20_000;
/** Exits between two looks at the clock. */
const EXITS_PER_LOOK = 64;
const LEAST_SLICE_MS = 0.1;
/** Below this a timer of the event loop is too coarse to wait with. */
const SHORT_WAIT_MS = 0.5;

/** A read-only image in the guest's memory map, as a firmware chip is one. */
export interface MachineRom {
	/** A multiple of 4096, as is the image's length. */
	physAddr: number;
	bytes: Uint8Array;
}

/** Options of {@link createMachine}. */
export interface MachineOptions {
	kvm: Kvm;
	/** Guest RAM, whole pages, 2 MiB to 3 GiB. */
	memoryBytes: number;
	/** @default 1 */
	cpus?: number;
	/** A clock that only goes forward, in nanoseconds; the one the engine runs its timers by. */
	now: () => number;
	/** Seconds since 1970 (UTC) now, for the guest's real-time clock. */
	epochSeconds: number;
	scheduler: MachineScheduler;
	/** What the guest sent through its first serial port. The array is valid during the call only. */
	onSerial?: (bytes: Uint8Array) => void;
	/** Room again in the serial port's input queue after it had been full. */
	onSerialDrained?: () => void;
	/** What firmware and guests write to the debug console, port 402h. */
	onDebug?: (bytes: Uint8Array) => void;
	/** Virtio devices, by PCI slot from 2 on. @default none */
	virtio?: readonly VirtioDevice[];
	/** Port of an isa-debug-exit device. @default none */
	debugExitPort?: number;
	/** Adds pc-testdev. @default false */
	testDevice?: boolean;
	/** Firmware. @default none */
	roms?: readonly MachineRom[];
}

/** Why a machine stopped running. */
export type MachineExit =
	| BoardEvent
	/** A triple fault. */
	| { reason: "shutdown" }
	/** Every vCPU executed HLT with interrupts off: nothing can ever wake the guest. */
	| { reason: "halted" }
	/** `stop` was called; `run` goes on from there. */
	| { reason: "stopped" }
	/** What `setGuestDebug` asked for, an engine that cannot go on, or an entry the hardware refused. */
	| ({ vcpu: number } & Extract<VcpuExit, { reason: "debug" | "internal-error" | "fail-entry" }>);

/** Sees what the guest gets from outside, so that a run of it can be gone through again. */
export interface MachineRecorder {
	/** A port or memory-mapped access was answered; the answer to a read stands in `data`, during the call only. */
	served(exit: Extract<VcpuExit, { reason: "io" | "mmio" }>): void;
	/** A vCPU came to the end of its slice. */
	paused(): void;
	/** A device raised or lowered an interrupt or wrote to memory, or idle time went by. */
	changed(): void;
}

/** Plain state of a {@link Machine}, but for what its memory holds. */
export interface MachineState {
	/** What the machine's clock said when it was made, and when this was taken. */
	readonly start: number;
	readonly now: number;
	/** The engine's own. */
	readonly vm: unknown;
	readonly board: BoardState;
}

/** A VM of an engine whose state can be kept and put back. */
interface KeptVm {
	saveState(): unknown;
	restoreState(state: unknown): void;
}

/** A PC around KVM's objects. */
export class Machine {
	readonly vm: Vm;
	readonly vcpus: readonly Vcpu[];
	readonly ram: GuestRam = new GuestRam();
	/** What is behind `ram`. */
	readonly memory: GuestMemory;
	readonly board: Board;
	/** The memory map to give to a guest booted without firmware. */
	readonly memoryMap: readonly MemoryMapEntry[];
	/** vCPUs, by id, that `run` leaves alone: a debugger holds them. */
	readonly held: Set<number> = new Set();
	/**
	 * vCPU, by id, that stops behind an instruction whose port or memory-mapped I/O was served here: KVM's single step
	 * passes over those.
	 */
	stepping: number | undefined;
	/** Sees every exit before it is served. The array in it is live during the call only. */
	onExit: ((vcpu: Vcpu, exit: VcpuExit) => void) | undefined;
	recorder: MachineRecorder | undefined;
	readonly #roms: readonly MachineRom[];
	readonly #now: () => number;
	#start: number;
	readonly #scheduler: MachineScheduler;
	/** GSIs that devices hold up, since there is a recorder. */
	readonly #raised = new Set<number>();
	#running = false;
	#closed = false;
	#ending: MachineExit | undefined;
	/** Something happened since the vCPUs halted. */
	#woken = false;
	#cancelSleep: (() => void) | undefined;
	/** Milliseconds last given to the vCPUs as their slice. */
	#slice = 0;

	constructor(options: MachineOptions) {
		const { kvm, memoryBytes } = options;
		const cpus = options.cpus ?? 1;
		const ranges = planRam(memoryBytes);
		if (!Number.isInteger(cpus) || cpus < 1 || cpus > kvm.getMaxVcpus()) {
			throw new MachineError("ERR_MACHINE_OPTION", `${cpus} processors: from 1 to ${kvm.getMaxVcpus()}`, cpus);
		}
		this.#now = options.now;
		this.#start = options.now();
		this.#scheduler = options.scheduler;
		this.memoryMap = makeMemoryMap(memoryBytes);
		const roms = options.roms ?? [];
		this.#roms = roms;
		this.vm = kvm.createVm({
			memoryBytes: roms.reduce((sum, { bytes }) => sum + bytes.length, memoryBytes),
			vcpus: cpus,
			// With one, whatever comes for it comes from a device, or while it runs.
			...(cpus > 1 && { onWake: () => this.wake() }),
		});
		try {
			const memory = this.vm.createMemory(memoryBytes);
			this.memory = memory;
			const devicesMemory: GuestMemory = {
				size: memory.size,
				view: (offset, length) => memory.view(offset, length),
				written: (offset, length) => {
					memory.written(offset, length);
					this.recorder?.changed();
				},
			};
			for (const [slot, { start, length, memoryOffset }] of ranges.entries()) {
				this.vm.setUserMemoryRegion({
					slot,
					guestPhysAddr: start,
					memorySize: length,
					memory,
					memoryOffset,
				});
				this.ram.add(start, length, devicesMemory, memoryOffset);
			}
			for (const [i, rom] of roms.entries()) this.#addRom(ranges.length + i, rom);
			this.vm.createIrqChip();
			this.vm.createPit2();
			this.vm.setGsiRouting(boardRoutes());
			const supported = kvm.getSupportedCpuid();
			this.vcpus = Array.from({ length: cpus }, (_, id) => {
				const vcpu = this.vm.createVcpu(id);
				vcpu.setCpuid2(cpuidFor(supported, id, cpus));
				return vcpu;
			});
			this.board = new Board({
				memoryBytes,
				cpus,
				ram: this.ram,
				now: () => this.#now() - this.#start,
				epochSeconds: options.epochSeconds,
				setIrqLine: (gsi, level) => {
					this.vm.setIrqLine(gsi, level);
					if (this.recorder !== undefined) this.#noteLine(this.recorder, gsi, level);
					if (level) this.wake();
				},
				signalMsi: (msi) => {
					this.#signalMsi(msi);
					this.recorder?.changed();
					this.wake();
				},
				onEvent: (event) => this.#end(event),
				onSerial: options.onSerial ?? (() => undefined),
				onSerialDrained: options.onSerialDrained,
				virtio: options.virtio ?? [],
				debugExitPort: options.debugExitPort,
				onDebug: options.onDebug,
				testDevice: options.testDevice,
			});
		} catch (error) {
			this.vm.close();
			throw error;
		}
	}

	/**
	 * Puts bytes into guest memory.
	 *
	 * @throws MachineError ERR_MACHINE_OUT_OF_GUEST_MEMORY
	 */
	write(physAddr: number, bytes: Uint8Array): void {
		this.ram.load(physAddr, bytes);
	}

	/**
	 * Copies out of what the guest sees as memory: RAM and ROMs.
	 *
	 * @returns false where there is neither, with the rest of `target` untouched
	 */
	read(physAddr: number, target: Uint8Array): boolean {
		if (this.ram.read(physAddr, target)) return true;
		for (const rom of this.#roms) {
			const at = physAddr - rom.physAddr;
			if (at < 0 || at + target.length > rom.bytes.length) continue;
			target.set(rom.bytes.subarray(at, at + target.length));
			return true;
		}
		return false;
	}

	/**
	 * Clears guest memory.
	 *
	 * @throws MachineError ERR_MACHINE_OUT_OF_GUEST_MEMORY
	 */
	zero(physAddr: number, size: number): void {
		this.ram.clear(physAddr, size);
	}

	/**
	 * Does what firmware would have done, for guests started without: ACPI tables, PCI windows, memory types.
	 *
	 * @returns the address of ACPI's root pointer
	 */
	prepareWithoutFirmware(): number {
		// All memory write-back, as firmware leaves the MTRRs.
		for (const vcpu of this.vcpus) vcpu.setMsrs([{ index: MTRR_DEFAULT_TYPE, data: MTRR_ENABLED_WRITE_BACK }]);
		return this.board.prepareWithoutFirmware(this.ram);
	}

	/**
	 * Runs the guest until something ends it; then it can be called again where that makes sense (`stopped`, `debug`).
	 * The event loop has a turn every few milliseconds, and all of the time while the guest is idle.
	 *
	 * @throws MachineError ERR_MACHINE_STATE when it runs already, ERR_MACHINE_CLOSED
	 */
	async run(): Promise<MachineExit> {
		if (this.#closed) throw new MachineError("ERR_MACHINE_CLOSED", "the machine is closed");
		if (this.#running) throw new MachineError("ERR_MACHINE_STATE", "the machine runs already");
		this.#running = true;
		this.#ending = undefined;
		try {
			for (;;) {
				const halted = this.#turn();
				this.board.flush();
				const ending = this.#takeEnding();
				if (ending !== undefined) return ending;
				if (!halted || this.#woken) await this.#scheduler.yield();
				else if (this.#hopeless()) return { reason: "halted" };
				else await this.#rest();
			}
		} finally {
			this.#running = false;
		}
	}

	/** Ends `run` soon, with `stopped`. */
	stop(): void {
		this.#end({ reason: "stopped" });
	}

	/** Ends the wait of halted vCPUs; devices and other vCPUs call it when they raise an interrupt. */
	wake(): void {
		this.#woken = true;
		this.#cancelSleep?.();
	}

	/** Whether the engine can keep its state: the software engine can. */
	get canSave(): boolean {
		return "saveState" in this.vm;
	}

	/**
	 * The state between two runs. What memory holds (`ram.windows`) is for the caller to keep beside it, as is waiting for
	 * devices with something under way (`board.idle`).
	 *
	 * @throws MachineError ERR_MACHINE_STATE while it runs, or when the engine cannot
	 */
	save(): MachineState {
		const vm = this.#kept();
		return { start: this.#start, now: this.#now(), vm: vm.saveState(), board: this.board.save() };
	}

	/**
	 * Goes on where another machine with the same options was, once memory holds what its memory held. The clock given to
	 * machine and engine goes on from there too: it must not be before that moment.
	 *
	 * @throws MachineError ERR_MACHINE_STATE while it runs, when the engine cannot, or for a clock that is behind
	 */
	restore(state: MachineState): void {
		const vm = this.#kept();
		const now = this.#now();
		if (now < state.now) {
			throw new MachineError("ERR_MACHINE_STATE", `the clock says ${now}, before the state's ${state.now}`, now);
		}
		this.#start = state.start;
		this.board.restore(state.board);
		vm.restoreState(state.vm);
	}

	/** Devices say again and again what a line's level is: what is no news changes nothing. */
	#noteLine(recorder: MachineRecorder, gsi: number, level: boolean): void {
		if (level === this.#raised.has(gsi)) return;
		recorder.changed();
		if (level) this.#raised.add(gsi);
		else this.#raised.delete(gsi);
	}

	#kept(): KeptVm {
		if (this.#running || this.#closed || !this.canSave) {
			throw new MachineError("ERR_MACHINE_STATE", "the machine runs, is closed, or has an engine that keeps no state");
		}
		return this.vm as Vm & KeptVm;
	}

	/** Gives the VM and everything in it back. A `run` under way ends with `stopped`. */
	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		this.stop();
		this.vm.close();
		// What still holds the machine must not hold the guest's memory.
		this.ram.release();
	}

	/** The guest wrote the message: one that KVM refuses, or that no processor is addressed by, is lost as on a bus. */
	#signalMsi(msi: Msi): void {
		try {
			this.vm.signalMsi(msi);
		} catch (error) {
			if (!(error instanceof KvmError)) throw error;
		}
	}

	#addRom(slot: number, { physAddr, bytes }: MachineRom): void {
		const memory = this.vm.createMemory(bytes.length);
		memory.view(0, bytes.length).set(bytes);
		this.vm.setUserMemoryRegion({
			slot,
			guestPhysAddr: physAddr,
			memorySize: bytes.length,
			memory,
			readonly: true,
		});
	}

	#end(exit: MachineExit): void {
		this.#ending ??= exit;
		this.wake();
	}

	#takeEnding(): MachineExit | undefined {
		return this.#ending;
	}

	/**
	 * Runs every vCPU in turn for some milliseconds.
	 *
	 * @returns whether all of them are halted
	 */
	#turn(): boolean {
		if (this.#closed) return true;
		const { board, vcpus } = this;
		let now = this.#now();
		const end = now + TURN_NS;
		for (;;) {
			const deadline = board.nextDeadline() + this.#start;
			if (now >= deadline) board.advance();
			const until = Math.min(end, deadline > now ? deadline : end);
			this.#setSlice(Math.max(LEAST_SLICE_MS, (until - now) / 1e6));
			this.#woken = false;
			let halted = true;
			for (const vcpu of vcpus) {
				if (this.held.has(vcpu.id)) continue;
				if (!this.#runVcpu(vcpu, end)) halted = false;
				if (this.#ending !== undefined) return false;
			}
			if (halted && !this.#woken) return true;
			now = this.#now();
			if (now >= end) return false;
		}
	}

	/**
	 * Runs one vCPU until its slice is over, serving its exits.
	 *
	 * @returns whether it is halted
	 */
	#runVcpu(vcpu: Vcpu, end: number): boolean {
		const { bus } = this.board;
		for (let exits = 1; ; exits++) {
			const exit = vcpu.run();
			this.onExit?.(vcpu, exit);
			switch (exit.reason) {
				case "io":
					bus.handleIo(exit);
					this.recorder?.served(exit);
					break;
				case "mmio":
					bus.handleMmio(exit);
					this.recorder?.served(exit);
					break;
				case "hlt":
					return true;
				case "intr":
					this.recorder?.paused();
					return false;
				case "irq-window-open":
					return false;
				case "shutdown":
					this.#end({ reason: "shutdown" });
					return false;
				default:
					this.#end({ ...exit, vcpu: vcpu.id });
					return false;
			}
			if (this.#ending !== undefined) {
				this.#finishExit(vcpu);
				return false;
			}
			if (this.stepping === vcpu.id) {
				this.#finishExit(vcpu);
				this.#end({ ...stepExit(vcpu), vcpu: vcpu.id });
				return false;
			}
			if (exits % EXITS_PER_LOOK === 0 && this.#now() >= end) {
				return false;
			}
		}
	}

	/** Lets the vCPU take the answer to its last exit, so that its state is that of the next instruction. */
	#finishExit(vcpu: Vcpu): void {
		if (this.#closed) return;
		const { bus } = this.board;
		vcpu.setImmediateExit(true);
		for (let exit = vcpu.run(); exit.reason !== "intr"; exit = vcpu.run()) {
			if (exit.reason === "io") bus.handleIo(exit);
			else if (exit.reason === "mmio") bus.handleMmio(exit);
			else break;
			this.recorder?.served(exit);
		}
		vcpu.setImmediateExit(false);
	}

	#setSlice(milliseconds: number): void {
		if (milliseconds === this.#slice) return;
		this.#slice = milliseconds;
		const slice = this.vcpus.length > 1 ? { milliseconds, instructions: SHARED_INSTRUCTIONS } : { milliseconds };
		for (const vcpu of this.vcpus) vcpu.setSlice(slice);
	}

	/** All vCPUs are halted: whether none of them could take an interrupt. */
	#hopeless(): boolean {
		return this.vcpus.every(
			(vcpu) => (vcpu.id > 0 && vcpu.getMpState() === "uninitialized") || (vcpu.getRegs().rflags & 0x200n) === 0n,
		);
	}

	/** Waits for the next timer or event without using the processor. */
	async #rest(): Promise<void> {
		const deadline = Math.min(this.vm.nextDeadline(), this.board.nextDeadline() + this.#start);
		const wait = (deadline - this.#now()) / 1e6;
		const { isExact } = this.#scheduler;
		if (wait < SHORT_WAIT_MS && isExact !== true) {
			await this.#scheduler.yield();
			return;
		}
		const { done, cancel } = this.#scheduler.sleep(isExact === true ? wait : Math.round(wait));
		this.#cancelSleep = cancel;
		await done;
		this.#cancelSleep = undefined;
	}
}

const DEBUG_VECTOR = 1;
/** DR6.BS and the bits that always read as 1. */
const DR6_STEPPED = 0xffff_4ff0n;
const DR7_FIXED = 0x400n;

/** The exit that a single step over the instruction just finished would have had. */
export function stepExit(vcpu: Vcpu): Extract<VcpuExit, { reason: "debug" }> {
	const { rip } = vcpu.getRegs();
	const { cs } = vcpu.getSregs();
	const pc = cs.l === 1 ? rip : (rip + cs.base) & 0xffff_ffffn;
	return { reason: "debug", exception: DEBUG_VECTOR, pc, dr6: DR6_STEPPED, dr7: DR7_FIXED };
}

/**
 * Makes a PC with `memoryBytes` of RAM, its devices and its vCPUs, switched on but without anything in memory.
 *
 * @throws MachineError for options that make no machine, KvmError from the engine
 */
export function createMachine(options: MachineOptions): Machine {
	return new Machine(options);
}
