import { isMainThread } from "node:worker_threads";
import type { Koffi } from "./libc.node.ts";

/** Events of {@link PollHandle}. */
export interface PollOptions {
	readable?: boolean;
	writable?: boolean;
}

/** libuv's watch over a descriptor; only for threads that are never terminated, and closed before its descriptor. */
export interface PollHandle {
	start(options: PollOptions, callback: () => void): void;
	close(): void;
}

/** Starts to watch a descriptor from the main thread's event loop. */
export type WatchByLoop = (fd: number, options: PollOptions, callback: () => void) => PollHandle;

const UV_POLL = 8;
const UV_READABLE = 1;
const UV_WRITABLE = 2;

const eventsOf = ({ readable, writable }: PollOptions): number =>
	(readable === true ? UV_READABLE : 0) | (writable === true ? UV_WRITABLE : 0);

/**
 * libuv's poll handles, called directly where Node.js exports its libuv; koffi's own handle makes an object with three
 * properties for every event, which is a third of what a wake costs.
 */
export function loopPoll(koffi: Koffi): WatchByLoop | undefined {
	if (!isMainThread) return undefined;
	const lib = koffi.load(null);
	const called = koffi.pointer(koffi.proto("void (uintptr_t handle)"));
	try {
		const loop = lib.func("uintptr_t uv_default_loop()")();
		if (!isOurs(lib.func("int uv_loop_alive(uintptr_t loop)"), loop)) return koffi.node?.poll;
		const bytes = lib.func("size_t uv_handle_size(int type)")(UV_POLL);
		const init = lib.func("int uv_poll_init(uintptr_t loop, uintptr_t handle, int fd)");
		const start = lib.func("uv_poll_start", "int", ["uintptr_t", "int", called]);
		const close = lib.func("void uv_close(uintptr_t handle, void *closed)");
		/** What to call for each handle; its memory must stay until libuv has let go of it. */
		const handles = new Map<number, { memory: Uint8Array; callback: (() => void) | undefined }>();
		// One for all and for ever: a callback that is given back while it runs, or before a late event, is a crash.
		const event = koffi.register((handle: number) => {
			try {
				handles.get(handle)?.callback?.();
			} catch (error) {
				// C has nobody to throw at.
				queueMicrotask(() => {
					throw error;
				});
			}
		}, called);
		return (fd, options, callback) => {
			// Over a hundred bytes: so long an array is not on the heap, where the collector would move it.
			const memory = new Uint8Array(bytes);
			const handle = Number(koffi.address(memory));
			const failed = init(loop, handle, fd);
			if (failed !== 0) throw new Error(`uv_poll_init(${fd}) failed with ${failed}`);
			const entry: { memory: Uint8Array; callback: (() => void) | undefined } = { memory, callback };
			handles.set(handle, entry);
			start(handle, eventsOf(options), event);
			return {
				start(wanted, then) {
					entry.callback = then;
					start(handle, eventsOf(wanted), event);
				},
				close() {
					if (entry.callback === undefined) return;
					entry.callback = undefined;
					close(handle, null);
					// libuv finishes closing at the end of a turn of the loop, after that turn's immediates.
					setImmediate(() => setImmediate(() => handles.delete(handle)));
				},
			};
		};
	} catch {
		return koffi.node?.poll;
	}
}

/** Whether Node.js runs this loop: one of its own, in a program that embeds it, would not have come alive. */
function isOurs(isAlive: (loop: number) => number, loop: number): boolean {
	const pending = setImmediate(() => {});
	const alive = isAlive(loop) !== 0;
	clearImmediate(pending);
	return alive;
}
