import type { MachineScheduler } from "../../src/machine/scheduler.ts";

/** Virtual time in nanoseconds, moved by scripts and by sleeping. */
export class VirtualTime {
	now = 1_000_000;
	yields = 0;
	/** Sleeps that were asked for, in milliseconds. */
	sleeps: number[] = [];
}

/** A scheduler that sleeps by moving the time. */
export function virtualScheduler(time: VirtualTime): MachineScheduler {
	return {
		yield: () => {
			time.yields++;
			return new Promise(setImmediate);
		},
		sleep(milliseconds) {
			time.sleeps.push(milliseconds);
			let cancel = (): void => undefined;
			const done = new Promise<void>((resolve) => {
				let over = false;
				cancel = () => {
					over = true;
					resolve();
				};
				if (!Number.isFinite(milliseconds)) return;
				setImmediate(() => {
					if (!over) time.now += milliseconds * 1e6;
					resolve();
				});
			});
			return { done, cancel: () => cancel() };
		},
	};
}
