import { loadLibc } from "./libc.node.ts";

/** Makes a `run` in another thread return. */
export interface Kicks {
	/** Of the calling thread: what the thread of a vCPU tells those who may want to kick it. */
	threadId(): number;
	/**
	 * Makes the `run` that the thread is in return `intr`. One that it is only about to enter returns at the end of its
	 * slice, so keep slices short enough for that.
	 *
	 * @returns false when the thread is gone
	 */
	kick(threadId: number): boolean;
}

/**
 * Kicks work between the threads of a process: vCPUs of the hardware engine each run in a worker of their own.
 *
 * @throws HardwareUnavailableError without koffi
 */
export async function openKicks(): Promise<Kicks> {
	const libc = await loadLibc();
	return { threadId: () => libc.gettid(), kick: (threadId) => libc.kick(threadId) };
}
