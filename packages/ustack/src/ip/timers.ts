/** A deadline that never comes. */
export const NEVER: number = Number.POSITIVE_INFINITY;

/** Something with a deadline in a {@link TimerHeap}; the two fields belong to the heap. */
export interface Timer {
	/** Position in the heap, -1 when not in it. */
	timerIndex: number;
	/** Milliseconds on the stack's clock. */
	timerAt: number;
	fire(now: number): void;
}

/** A binary heap of deadlines; scheduling and cancelling allocate nothing. */
export class TimerHeap {
	private readonly heap: Timer[] = [];

	/** The earliest deadline, Infinity when there is none. */
	next(): number {
		return this.heap.length === 0 ? NEVER : this.heap[0]!.timerAt;
	}

	schedule(timer: Timer, at: number): void {
		if (timer.timerIndex < 0) {
			timer.timerIndex = this.heap.length;
			timer.timerAt = at;
			this.heap.push(timer);
			this.up(timer.timerIndex);
			return;
		}
		const earlier = at < timer.timerAt;
		timer.timerAt = at;
		if (earlier) this.up(timer.timerIndex);
		else this.down(timer.timerIndex);
	}

	cancel(timer: Timer): void {
		const index = timer.timerIndex;
		if (index < 0) return;
		timer.timerIndex = -1;
		const last = this.heap.pop()!;
		if (last === timer) return;
		last.timerIndex = index;
		this.heap[index] = last;
		this.up(index);
		this.down(last.timerIndex);
	}

	/** Fires what is due, in order of deadline. A timer re-armed in the past while firing waits for the next run. */
	run(now: number): void {
		let budget = this.heap.length;
		while (budget-- > 0 && this.heap.length > 0 && this.heap[0]!.timerAt <= now) {
			const timer = this.heap[0]!;
			this.cancel(timer);
			timer.fire(now);
		}
	}

	private up(index: number): void {
		const { heap } = this;
		const timer = heap[index]!;
		while (index > 0) {
			const parentIndex = (index - 1) >> 1;
			const parent = heap[parentIndex]!;
			if (parent.timerAt <= timer.timerAt) break;
			heap[index] = parent;
			parent.timerIndex = index;
			index = parentIndex;
		}
		heap[index] = timer;
		timer.timerIndex = index;
	}

	private down(index: number): void {
		const { heap } = this;
		const timer = heap[index]!;
		const half = heap.length >> 1;
		while (index < half) {
			let childIndex = index * 2 + 1;
			if (childIndex + 1 < heap.length && heap[childIndex + 1]!.timerAt < heap[childIndex]!.timerAt) childIndex++;
			const child = heap[childIndex]!;
			if (child.timerAt >= timer.timerAt) break;
			heap[index] = child;
			child.timerIndex = index;
			index = childIndex;
		}
		heap[index] = timer;
		timer.timerIndex = index;
	}
}

/** A timer around a function, for things rarer than connections. */
export class CallbackTimer implements Timer {
	timerIndex = -1;
	timerAt = 0;
	fire: (now: number) => void;

	constructor(fire: (now: number) => void) {
		this.fire = fire;
	}
}
