import { KvmError } from "../kvm/errors.ts";
import type { Libc } from "./libc.node.ts";

/** No run is longer: a thread inside KVM_RUN cannot be ended, by `worker.terminate()` or `process.exit()`. */
const LONGEST_MILLISECONDS = 200;

/** @throws KvmError EINVAL for what is no positive duration */
function nanoseconds(milliseconds: number): number {
	if (!(milliseconds > 0))
		throw new KvmError("EINVAL", "setSlice", `${milliseconds} ms; a positive duration is wanted`);
	return Math.max(1000, Math.round(Math.min(milliseconds, LONGEST_MILLISECONDS) * 1e6));
}

/**
 * Bounds how long KVM_RUN keeps the thread: a POSIX timer signals it. It is set once a slice and not once a run, for that
 * would cost a tenth of an exit; it repeats, so that a signal that comes just before KVM_RUN is entered is followed by
 * another.
 */
export class SliceTimer {
	readonly #libc: Libc;
	readonly #timer: number;
	#nanoseconds: number;
	/** The slice is over: the next run begins another. */
	#over = true;
	#ticks = false;
	/** Runs since the event loop last turned. */
	#used = false;
	#watch: NodeJS.Immediate | undefined;

	constructor(libc: Libc, milliseconds: number) {
		this.#libc = libc;
		this.#timer = libc.timerCreate();
		this.#nanoseconds = nanoseconds(milliseconds);
	}

	/** Of the slices to come; the one under way ends. */
	setLength(milliseconds: number): void {
		this.#nanoseconds = nanoseconds(milliseconds);
		this.#over = true;
	}

	/** Before KVM_RUN. */
	enter(): void {
		this.#used = true;
		if (this.#over) this.#begin();
	}

	/** KVM_RUN came back for a signal's sake. */
	end(): void {
		this.#over = true;
	}

	close(): void {
		this.#stop();
		if (this.#watch !== undefined) clearImmediate(this.#watch);
		this.#libc.timerDelete(this.#timer);
	}

	#begin(): void {
		this.#over = false;
		this.#ticks = true;
		this.#libc.timerSet(this.#timer, this.#nanoseconds);
		this.#watch ??= setImmediate(this.#turn);
	}

	#stop(): void {
		this.#over = true;
		if (!this.#ticks) return;
		this.#ticks = false;
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
