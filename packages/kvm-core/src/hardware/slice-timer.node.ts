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
 * Bounds how long KVM_RUN keeps the thread: a POSIX timer signals it. One timer serves a thread's vCPU through many
 * runs, because arming it for each would cost a tenth of an exit; it repeats, so that a signal that comes just before
 * KVM_RUN is entered is followed by another.
 */
export class SliceTimer {
	readonly #libc: Libc;
	readonly #timer: number;
	#nanoseconds: number;
	#armed = false;
	/** Runs since the event loop last turned. */
	#used = false;
	#watch: NodeJS.Immediate | undefined;

	constructor(libc: Libc, milliseconds: number) {
		this.#libc = libc;
		this.#timer = libc.timerCreate();
		this.#nanoseconds = nanoseconds(milliseconds);
	}

	setLength(milliseconds: number): void {
		this.#nanoseconds = nanoseconds(milliseconds);
		this.disarm();
	}

	/** Before KVM_RUN. */
	arm(): void {
		this.#used = true;
		if (this.#armed) return;
		this.#armed = true;
		this.#libc.timerSet(this.#timer, this.#nanoseconds);
		this.#watch ??= setImmediate(this.#turn).unref();
	}

	disarm(): void {
		if (!this.#armed) return;
		this.#armed = false;
		this.#libc.timerSet(this.#timer, 0);
	}

	close(): void {
		this.disarm();
		if (this.#watch !== undefined) clearImmediate(this.#watch);
		this.#libc.timerDelete(this.#timer);
	}

	/** A vCPU left alone for a turn of the event loop needs no ticks. */
	readonly #turn = (): void => {
		this.#watch = undefined;
		if (!this.#used) this.disarm();
		else if (this.#armed) this.#watch = setImmediate(this.#turn).unref();
		this.#used = false;
	};
}
