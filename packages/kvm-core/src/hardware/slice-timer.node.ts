import { KvmError } from "../kvm/errors.ts";
import type { Libc } from "./libc.node.ts";

/** No run is longer: a thread inside KVM_RUN cannot be ended, by `worker.terminate()` or `process.exit()`. */
const LONGEST_NANOSECONDS = 200e6;

/** Runs between two looks at the clock, and what a slice has at least when the guest leaves often. */
const RUNS_PER_LOOK = 32;
/** Slices between two signals while the guest leaves often by itself. */
const SLICES_PER_TICK = 8;

/** @throws KvmError EINVAL for what is no positive duration */
function nanoseconds(milliseconds: number): number {
	if (!(milliseconds > 0))
		throw new KvmError("EINVAL", "setSlice", `${milliseconds} ms; a positive duration is wanted`);
	return Math.max(1000, Math.round(Math.min(milliseconds * 1e6, LONGEST_NANOSECONDS)));
}

/**
 * Bounds how long KVM_RUN keeps the thread: a POSIX timer signals it. It is set once a slice and not once a run, for that
 * would cost a tenth of an exit; it repeats, so that a signal that comes just before KVM_RUN is entered is followed by
 * another. A signal itself costs as much as ten exits: while the guest leaves often enough by itself, its slices end by
 * the clock, and the timer, set slower, is there in case that it no longer does.
 */
export class SliceTimer {
	readonly #libc: Pick<Libc, "timerCreate" | "timerSet" | "timerDelete">;
	readonly #now: () => number;
	readonly #timer: number;
	#nanoseconds: number;
	/** The slice is over: the next run begins another. */
	#over = true;
	/** When it is over, in milliseconds. */
	#end = 0;
	/** Runs in this slice. */
	#runs = 0;
	/** The guest left often by itself in the last slice. */
	#often = false;
	/** Nanoseconds between the timer's signals; 0: it is stopped. */
	#period = 0;
	/** Runs since the event loop last turned. */
	#used = false;
	#watch: NodeJS.Immediate | undefined;

	/** @param now - milliseconds of a clock that only goes forward */
	constructor(
		libc: Pick<Libc, "timerCreate" | "timerSet" | "timerDelete">,
		milliseconds: number,
		now: () => number = () => performance.now(),
	) {
		this.#libc = libc;
		this.#now = now;
		this.#timer = libc.timerCreate();
		this.#nanoseconds = nanoseconds(milliseconds);
	}

	/** Of the slices to come; the one under way ends. */
	setLength(milliseconds: number): void {
		this.#nanoseconds = nanoseconds(milliseconds);
		this.#over = true;
		this.#often = false;
	}

	/** Before KVM_RUN. @returns false when the slice is over instead */
	enter(): boolean {
		this.#used = true;
		if (this.#over) this.#begin();
		else if (++this.#runs % RUNS_PER_LOOK === 0 && this.#now() >= this.#end) {
			this.end();
			return false;
		}
		return true;
	}

	/** KVM_RUN came back for a signal's sake. */
	end(): void {
		this.#over = true;
		this.#often = this.#runs >= RUNS_PER_LOOK;
	}

	close(): void {
		this.#stop();
		if (this.#watch !== undefined) clearImmediate(this.#watch);
		this.#libc.timerDelete(this.#timer);
	}

	#begin(): void {
		this.#over = false;
		this.#runs = 0;
		this.#end = this.#now() + this.#nanoseconds / 1e6;
		const period = this.#often ? Math.min(this.#nanoseconds * SLICES_PER_TICK, LONGEST_NANOSECONDS) : this.#nanoseconds;
		// Where the timer is to end the slice, it counts from here.
		if (!this.#often || period !== this.#period) this.#libc.timerSet(this.#timer, period);
		this.#period = period;
		this.#watch ??= setImmediate(this.#turn);
	}

	#stop(): void {
		this.#over = true;
		if (this.#period === 0) return;
		this.#period = 0;
		this.#libc.timerSet(this.#timer, 0);
	}

	/**
	 * A vCPU left alone for a turn of the event loop needs no ticks. Until then the loop must not sleep: the ticks would
	 * wake it again and again.
	 */
	readonly #turn = (): void => {
		this.#watch = undefined;
		if (this.#used) this.#watch = setImmediate(this.#turn);
		else this.#stop();
		this.#used = false;
	};
}
