import { createEventLoopScheduler, type Kvm, type Machine, type MachineScheduler, openKvm } from "@x/kvm-core";

/** What a guest's time goes by. */
export interface GuestClock {
	/** Nanoseconds that never go back. */
	now(): number;
	readonly scheduler: MachineScheduler;
}

/** The host's time. */
export const hostClock: GuestClock = {
	now: () => performance.now() * 1e6,
	scheduler: createEventLoopScheduler(),
};

/** The host's time, or one that goes on where another machine was. */
export class ContinuedClock implements GuestClock {
	readonly scheduler: MachineScheduler = hostClock.scheduler;
	#behind = 0;

	readonly now = (): number => hostClock.now() + this.#behind;

	/** From now on it goes on from this moment, in nanoseconds. */
	continueAt(nanoseconds: number): void {
		this.#behind += nanoseconds - this.now();
	}
}

/** About the speed that the software engine has. */
const NANOSECONDS_PER_INSTRUCTION = 10;

/** A machine in virtual time, which the engine keeps. */
interface VirtualVm {
	now(): number;
	executed(instructions: number): void;
}

/**
 * Time that only the guest's instructions move, so that a run of it can be gone through again. While the guest is idle it
 * skips to what the guest waits for.
 */
export class VirtualClock implements GuestClock {
	/** The engine that keeps this time. */
	readonly kvm: Kvm;
	readonly scheduler: MachineScheduler;
	#machine: Machine | undefined;

	constructor() {
		const epoch = Date.now();
		const loop = createEventLoopScheduler();
		this.kvm = openKvm({
			time: { kind: "virtual", nanosecondsPerInstruction: NANOSECONDS_PER_INSTRUCTION },
			wallClock: () => epoch + this.now() / 1e6,
			random: () => scrambled(BigInt(Math.floor(this.now()))),
		});
		this.scheduler = {
			isExact: true,
			yield: () => loop.yield(),
			sleep: (milliseconds) => {
				if (milliseconds === Number.POSITIVE_INFINITY) return loop.sleep(milliseconds);
				this.#vm?.executed(Math.ceil((milliseconds * 1e6) / NANOSECONDS_PER_INSTRUCTION));
				this.#machine?.recorder?.changed();
				return { done: loop.yield(), cancel: () => undefined };
			},
		};
	}

	get #vm(): VirtualVm | undefined {
		return this.#machine?.vm as VirtualVm | undefined;
	}

	now(): number {
		return this.#vm?.now() ?? 0;
	}

	/** The machine whose engine keeps the time: there is none before. */
	keptBy(machine: Machine): void {
		this.#machine = machine;
	}
}

/** 64 bits that look random and are the same at the same instant (SplitMix64). */
function scrambled(instant: bigint): bigint {
	let z = BigInt.asUintN(64, instant + 0x9e37_79b9_7f4a_7c15n);
	z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n);
	z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn);
	return z ^ (z >> 31n);
}
