/** How a machine shares its thread: given to it, so that tests can do it in virtual time. */
export interface MachineScheduler {
	/** Sleeps are as long as they are asked for, however short: those of virtual time. @default false */
	readonly isExact?: boolean;
	/** Lets everything else on the event loop have a turn. */
	yield(): Promise<void>;
	/** Waits without using the processor, until the time is over or `cancel` is called. */
	sleep(milliseconds: number): { done: Promise<void>; cancel(): void };
}

/** Longest wait a timer takes. */
const LONGEST = 2 ** 31 - 1;

/** The event loop of Node or a browser. */
export function createEventLoopScheduler(): MachineScheduler {
	return {
		yield: yieldToEventLoop,
		sleep(milliseconds) {
			let cancel = (): void => undefined;
			const done = new Promise<void>((resolve) => {
				const timer = setTimeout(resolve, Math.min(milliseconds, LONGEST));
				cancel = () => {
					clearTimeout(timer);
					resolve();
				};
			});
			return { done, cancel: () => cancel() };
		},
	};
}

/** setImmediate where there is one; elsewhere a message to oneself, which unlike setTimeout has no least delay. */
function yieldToEventLoop(): Promise<void> {
	return new Promise((resolve) => {
		if (typeof setImmediate === "function") {
			setImmediate(resolve);
			return;
		}
		const { port1, port2 } = new MessageChannel();
		port1.onmessage = () => {
			port1.close();
			resolve();
		};
		port2.postMessage(null);
	});
}
