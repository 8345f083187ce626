import type { Libc } from "./libc.node.ts";

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
		this.#nanoseconds = Math.max(1, Math.round(milliseconds * 1e6));
	}

	setLength(milliseconds: number): void {
		this.#nanoseconds = Math.max(1, Math.round(milliseconds * 1e6));
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
