import { RingConsumer } from "./consumer.ts";
import { RingError } from "./errors.ts";
import type { RingHandle } from "./layout.ts";
import { type RingView, viewRing } from "./memory.ts";
import { sleepUntil, sleepUntilAsync, type WaitOptions } from "./sleep.ts";

/** The reading end of many rings made together: takes from each in turn, sleeps once for all. */
export class FanIn {
	readonly consumers: readonly RingConsumer[];
	private readonly view: RingView;
	private turn = 0;
	private closed = false;

	constructor(handles: readonly RingHandle[]) {
		const views = handles.map(viewRing);
		const [first] = views;
		if (
			first === undefined ||
			views.some((view) => view.doorbell !== first.doorbell || view.words.buffer !== first.words.buffer)
		) {
			throw new RingError("ERR_RING_OPTION", "a fan-in takes exactly the handles that createFanIn returned");
		}
		this.view = first;
		this.consumers = views.map((view) => new RingConsumer(view));
	}

	/**
	 * Calls `receive` with waiting records, at most `budget` from each ring so that a busy one starves nobody.
	 *
	 * @param receive - gets the payload in place, its meta word and the ring's index
	 * @returns how many there were
	 */
	drain(receive: (payload: Uint8Array, meta: number, producer: number) => void, budget = 64): number {
		let count = 0;
		const rings = this.consumers.length;
		this.turn = (this.turn + 1) % rings;
		for (let step = 0; step < rings; step++) {
			const index = (this.turn + step) % rings;
			count += this.consumers[index]!.drain((payload, meta) => receive(payload, meta, index), budget);
		}
		return count;
	}

	/** Stops this thread until a record waits; false after `timeoutMs`. */
	wait(timeoutMs: number = Number.POSITIVE_INFINITY): boolean {
		const { words, doorbell, sleeper } = this.view;
		if (this.readable) return true;
		if (!sleeper.canBlock) {
			throw new RingError("ERR_RING_CANNOT_BLOCK", "this thread cannot stop to wait: use waitAsync");
		}
		sleepUntil(words, doorbell, sleeper, timeoutMs, () => this.readable || this.ended || this.closed);
		return this.readable;
	}

	/** As {@link wait}, for an event loop. */
	async waitAsync(options: WaitOptions = {}): Promise<boolean> {
		const { words, doorbell, sleeper } = this.view;
		options.signal?.throwIfAborted();
		if (this.readable) return true;
		await sleepUntilAsync(words, doorbell, sleeper, options, () => this.readable || this.ended || this.closed);
		return this.readable;
	}

	/** Whether any ring has a record. */
	get readable(): boolean {
		return this.consumers.some((consumer) => consumer.readable);
	}

	/** Whether every producer closed; what they published is still to be read. */
	get ended(): boolean {
		return this.consumers.every((consumer) => consumer.peerClosed);
	}

	/** Closes every ring's reading end, and ends a wait of this thread's own. Idempotent. */
	close(): void {
		this.closed = true;
		for (const consumer of this.consumers) consumer.close();
	}

	[Symbol.dispose](): void {
		this.close();
	}
}

/** Opens the reading end of the rings of {@link createFanIn}. */
export function openFanIn(handles: readonly RingHandle[]): FanIn {
	return new FanIn(handles);
}
