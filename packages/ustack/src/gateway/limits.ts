import type { StackCore } from "../ip/core.ts";
import { CallbackTimer } from "../ip/timers.ts";

/** What one gateway's guests may use, plain data; changed by {@link Gateway.setLimits} while it runs. */
export interface GatewayLimits {
	/** TCP connections at once. @default 16_384 */
	readonly connections?: number;
	/** New TCP connections a second, with a burst of as many. @default no limit */
	readonly connectionsPerSecond?: number;
	/** UDP flows (a guest's port) at once; the oldest goes. @default 2_048 */
	readonly udpFlows?: number;
	/** DNS questions a second, with a burst of as many. @default no limit */
	readonly dnsPerSecond?: number;
	/** Bytes a second to the outside, TCP and UDP together; TCP waits, UDP is dropped. @default no limit */
	readonly bytesPerSecondOut?: number;
	/** The same towards the guests. @default no limit */
	readonly bytesPerSecondIn?: number;
}

/** A token bucket on the stack's clock. */
export class RateLimit {
	private rate: number;
	private burst: number;
	private tokens: number;
	private refilledAt = 0;
	private readonly waiting = new Set<() => void>();
	private readonly timer: CallbackTimer;
	private readonly stack: StackCore;

	constructor(stack: StackCore, perSecond: number | undefined, leastBurst: number) {
		this.stack = stack;
		this.rate = perSecond ?? Number.POSITIVE_INFINITY;
		this.burst = Math.max(this.rate, leastBurst);
		this.tokens = this.burst;
		this.timer = new CallbackTimer(() => this.wake());
	}

	get unlimited(): boolean {
		return this.rate === Number.POSITIVE_INFINITY;
	}

	set(perSecond: number | undefined, leastBurst: number): void {
		this.rate = perSecond ?? Number.POSITIVE_INFINITY;
		this.burst = Math.max(this.rate, leastBurst);
		this.tokens = Math.min(Number.isFinite(this.tokens) ? this.tokens : this.burst, this.burst);
		this.wake();
	}

	private refill(now: number): void {
		this.tokens = Math.min(this.burst, this.tokens + ((now - this.refilledAt) * this.rate) / 1000);
		this.refilledAt = now;
	}

	/** Takes up to `wanted`; returns how many there are. */
	take(wanted: number, now: number): number {
		if (this.unlimited) return wanted;
		this.refill(now);
		const granted = Math.min(wanted, Math.floor(this.tokens));
		this.tokens -= granted;
		return granted;
	}

	/** Takes all of it or nothing. */
	takeAll(wanted: number, now: number): boolean {
		if (this.unlimited) return true;
		this.refill(now);
		if (this.tokens < Math.min(wanted, this.burst)) return false;
		this.tokens -= wanted;
		return true;
	}

	/** Calls back once when there is something to take again. */
	wait(callback: () => void): void {
		this.waiting.add(callback);
		if (this.timer.timerIndex >= 0) return;
		const missing = Math.max(1, Math.min(this.burst, this.rate / 20) - this.tokens);
		this.stack.timers.schedule(this.timer, this.stack.now + Math.max(1, (missing * 1000) / this.rate));
		this.stack.onWork?.();
	}

	forget(callback: () => void): void {
		this.waiting.delete(callback);
	}

	private wake(): void {
		const callbacks = [...this.waiting];
		this.waiting.clear();
		for (const callback of callbacks) callback();
	}

	close(): void {
		this.stack.timers.cancel(this.timer);
		this.waiting.clear();
	}
}
