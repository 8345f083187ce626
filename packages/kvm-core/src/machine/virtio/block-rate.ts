import { MachineError } from "../errors.ts";
import type { BlockBackend } from "./block.ts";

/** Time for a rate limit: given, so that tests can do it in virtual time. */
export interface RateClock {
	/** Milliseconds; only goes forward. */
	now(): number;
	/** Calls back after so many milliseconds. */
	after(milliseconds: number, callback: () => void): void;
}

/** What a disk may do; what is not given is not limited. */
export interface BlockRate {
	bytesPerSecond?: number;
	/** Reads, writes, zeroings and flushes. */
	operationsPerSecond?: number;
	/** Seconds' worth that may be used at once after a rest. @default 1 */
	burstSeconds?: number;
}

/** Tokens that come back at a rate; one may go into debt, and then waits until it is paid. */
class TokenBucket {
	readonly #rate: number;
	readonly #capacity: number;
	#tokens: number;
	#then: number;

	constructor(rate: number, capacity: number, now: number) {
		this.#rate = rate;
		this.#capacity = capacity;
		this.#tokens = capacity;
		this.#then = now;
	}

	/** Takes tokens; gives the milliseconds until what was taken is there. */
	take(count: number, now: number): number {
		this.#tokens = Math.min(this.#capacity, this.#tokens + ((now - this.#then) * this.#rate) / 1000);
		this.#then = now;
		this.#tokens -= count;
		return this.#tokens >= 0 ? 0 : (-this.#tokens / this.#rate) * 1000;
	}
}

/**
 * Holds a disk to a rate: operations start when their turn has come. A guest's ring bounds how many wait.
 *
 * @throws MachineError ERR_MACHINE_OPTION for a rate or burst that is not positive
 */
export function limitBlockRate(backend: BlockBackend, rate: BlockRate, clock: RateClock): BlockBackend {
	const { bytesPerSecond, operationsPerSecond, burstSeconds = 1 } = rate;
	for (const value of [bytesPerSecond ?? 1, operationsPerSecond ?? 1, burstSeconds]) {
		if (!(value > 0))
			throw new MachineError("ERR_MACHINE_OPTION", `a rate of ${value}: more than 0 is expected`, value);
	}
	const bucket = (perSecond: number | undefined): TokenBucket | undefined =>
		perSecond === undefined ? undefined : new TokenBucket(perSecond, perSecond * burstSeconds, clock.now());
	const bytes = bucket(bytesPerSecond);
	const operations = bucket(operationsPerSecond);
	const whenDue = (length: number, work: () => void | Promise<void>): void | Promise<void> => {
		const now = clock.now();
		const wait = Math.max(bytes?.take(length, now) ?? 0, operations?.take(1, now) ?? 0);
		if (wait === 0) return work();
		return new Promise((resolve, reject) => {
			clock.after(wait, () => {
				try {
					resolve(work());
				} catch (error) {
					reject(error);
				}
			});
		});
	};
	return {
		bytes: backend.bytes,
		readonly: backend.readonly,
		read: (offset, target) => whenDue(target.length, () => backend.read(offset, target)),
		write: (offset, source) => whenDue(source.length, () => backend.write(offset, source)),
		flush: () => whenDue(0, () => backend.flush()),
		...(backend.zero && { zero: (offset, length) => whenDue(0, () => backend.zero?.(offset, length)) }),
	};
}
