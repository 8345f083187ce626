import type { Libc } from "./libc.node.ts";
import type { PollHandle, WatchByLoop } from "./loop-poll.node.ts";

const POLLIN = 1;
const POLLOUT = 4;
/** Longest a poll on the pool may hold up the end of its worker. */
const SLICE_MS = 100;

/** Calls back when a descriptor can be read, until closed. */
export interface Watch {
	/** Also calls `writable` once when the descriptor can be written. */
	wantWritable(): void;
	/** Must come before the descriptor is closed. */
	close(): void;
}

/** What a {@link Watch} calls. */
export interface WatchEvents {
	readable(): void;
	writable(): void;
}

/** Handles in use: one that is collected stops without a word. */
const handles = new Set<PollHandle>();

/** A descriptor whose owner polls by itself. */
export interface CollectedWatch {
	readonly fd: number;
	readonly events: WatchEvents;
}

let collected: CollectedWatch[] | undefined;

/** From here on this thread polls for itself: its links' descriptors are listed here instead of watched. */
export function collectWatches(): readonly CollectedWatch[] {
	collected ??= [];
	return collected;
}

/**
 * Watches a descriptor from this thread's event loop. On the main thread through libuv; in a worker, whose sudden end
 * under an active libuv handle aborts the process, through poll(2) on the pool.
 */
export function watchDescriptor(libc: Libc, fd: number, events: WatchEvents): Watch {
	if (collected !== undefined) {
		collected.push({ fd, events });
		return { wantWritable() {}, close() {} };
	}
	return libc.watch !== undefined ? watchByLoop(libc.watch, fd, events) : watchByPool(libc, fd, events);
}

function watchByLoop(watch: WatchByLoop, fd: number, events: WatchEvents): Watch {
	let writableWanted = false;
	const fired = (): void => {
		if (writableWanted) {
			writableWanted = false;
			handle.start({ readable: true }, fired);
			events.writable();
		}
		if (handles.has(handle)) events.readable();
	};
	const handle = watch(fd, { readable: true }, fired);
	handles.add(handle);
	return {
		wantWritable() {
			if (writableWanted) return;
			writableWanted = true;
			handle.start({ readable: true, writable: true }, fired);
		},
		close() {
			if (handles.delete(handle)) handle.close();
		},
	};
}

function watchByPool(libc: Libc, fd: number, events: WatchEvents): Watch {
	let closed = false;
	let writableWanted = false;
	const set = new Uint8Array(8);
	const words = new DataView(set.buffer);
	const run = async (): Promise<void> => {
		while (!closed) {
			words.setInt32(0, fd, true);
			words.setInt16(4, POLLIN | (writableWanted ? POLLOUT : 0), true);
			words.setInt16(6, 0, true);
			const ready = await libc.pollAsync(set, 1, SLICE_MS);
			if (closed || ready <= 0) continue;
			const got = words.getInt16(6, true);
			if (writableWanted && (got & POLLOUT) !== 0) {
				writableWanted = false;
				events.writable();
			}
			if ((got & ~POLLOUT) !== 0 && !closed) events.readable();
		}
	};
	void run();
	return {
		wantWritable() {
			writableWanted = true;
		},
		close() {
			closed = true;
		},
	};
}
