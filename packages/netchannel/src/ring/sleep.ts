/** How one side of a ring sleeps and is woken. Words are indices into the ring memory's Int32Array. */
export interface Sleeper {
	/** Whether {@link wait} may stop this thread. */
	readonly canBlock: boolean;
	/** Sleeps while the word is 1, at most `timeoutMs`. */
	wait(word: number, timeoutMs: number): void;
	/** The same without stopping the thread; settles when woken, never rejects. Undefined when the word is not 1. */
	waitAsync(word: number, timeoutMs: number): Promise<unknown> | undefined;
	/** Whether the event loop would end under a sleep of {@link waitAsync} that nothing else keeps going. */
	readonly holdsLoop: boolean;
	/** Wakes whoever sleeps on the word, in any thread. */
	wake(word: number): void;
}

type AsyncWait = (
	words: Int32Array,
	index: number,
	value: number,
) => { async: false; value: string } | { async: true; value: Promise<string> };

/** Longest single sleep: browsers and Node clamp timers near 2^31 ms. */
const LONGEST_MS = 2 ** 30;

// A pending Atomics.waitAsync does not keep Node's event loop alive; a timer does. One serves every sleeper of a thread,
// and is armed once: what a wait costs is held against a MessagePort's.
let sleepers = 0;
let keepAlive: { ref?(): void; unref?(): void } | undefined;

function holdLoop(): void {
	if (sleepers++ > 0) return;
	keepAlive ??= setInterval(() => {}, LONGEST_MS) as unknown as { ref?(): void; unref?(): void };
	keepAlive.ref?.();
}

function releaseLoop(): void {
	if (--sleepers === 0) keepAlive?.unref?.();
}

/** Memory shared between threads: futexes of the language. */
export function createSharedSleeper(words: Int32Array): Sleeper {
	const waitAsync = (Atomics as unknown as { waitAsync?: AsyncWait }).waitAsync;
	let canBlock: boolean | undefined;
	return {
		get canBlock(): boolean {
			if (canBlock === undefined) {
				try {
					// Times out at once where waiting is allowed, throws on a browser's main thread.
					Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0);
					canBlock = true;
				} catch {
					canBlock = false;
				}
			}
			return canBlock;
		},
		holdsLoop: true,
		wait(word, timeoutMs) {
			Atomics.wait(words, word, 1, timeoutMs);
		},
		waitAsync(word, timeoutMs) {
			if (waitAsync === undefined) return pollWord(words, word, timeoutMs);
			const outcome = waitAsync(words, word, 1);
			if (!outcome.async) return undefined;
			if (timeoutMs >= LONGEST_MS) return outcome.value;
			// A timeout of the engine's is a task for the event loop, which wakes it once more; a timer is not.
			const timer = setTimeout(() => Atomics.notify(words, word), Math.ceil(timeoutMs));
			return outcome.value.then(() => clearTimeout(timer));
		},
		wake(word) {
			Atomics.notify(words, word);
		},
	};
}

/** Engines without `Atomics.waitAsync` look again every millisecond; the sleeping flag is cleared by whoever wakes. */
function pollWord(words: Int32Array, word: number, timeoutMs: number): Promise<void> {
	return new Promise((resolve) => {
		let waited = 0;
		const timer = setInterval(() => {
			if (Atomics.load(words, word) === 1 && ++waited < timeoutMs) return;
			clearInterval(timer);
			resolve();
		}, 1);
	});
}

const localWaiters = new WeakMap<ArrayBufferLike, Map<number, Set<() => void>>>();

/** Memory of one thread: both sides live on the same event loop, so waking is a call. */
export function createLocalSleeper(words: Int32Array): Sleeper {
	let byWord = localWaiters.get(words.buffer);
	if (byWord === undefined) localWaiters.set(words.buffer, (byWord = new Map()));
	const waiters = byWord;
	return {
		canBlock: false,
		holdsLoop: false,
		wait() {},
		waitAsync(word, timeoutMs) {
			if (words[word] !== 1) return undefined;
			return new Promise<void>((resolve) => {
				let timer: ReturnType<typeof setTimeout> | undefined;
				const wake = (): void => {
					clearTimeout(timer);
					waiters.get(word)?.delete(wake);
					resolve();
				};
				if (timeoutMs < LONGEST_MS) timer = setTimeout(wake, timeoutMs);
				const set = waiters.get(word) ?? new Set();
				waiters.set(word, set.add(wake));
			});
		},
		wake(word) {
			for (const waiter of [...(waiters.get(word) ?? [])]) waiter();
		},
	};
}

/** Options of a wait. */
export interface WaitOptions {
	/** Milliseconds; without it the wait has no end. */
	timeoutMs?: number;
	/** Ends the wait early with the signal's reason. */
	signal?: AbortSignal;
}

/**
 * Sleeps until `ready`, at most `timeoutMs`. A wake may be late, meant for a sleep that is over already: whoever was
 * woken looks again, and sleeps on.
 */
export function sleepUntil(
	words: Int32Array,
	word: number,
	sleeper: Sleeper,
	timeoutMs: number,
	ready: () => boolean,
): void {
	const end = performance.now() + timeoutMs;
	for (;;) {
		Atomics.store(words, word, 1);
		const left = end - performance.now();
		if (ready() || left <= 0) break;
		sleeper.wait(word, left);
	}
	Atomics.store(words, word, 0);
}

/** As {@link sleepUntil}, for an event loop. @throws the signal's reason */
export async function sleepUntilAsync(
	words: Int32Array,
	word: number,
	sleeper: Sleeper,
	options: WaitOptions,
	ready: () => boolean,
): Promise<void> {
	const { timeoutMs = Number.POSITIVE_INFINITY, signal } = options;
	const end = timeoutMs < LONGEST_MS ? performance.now() + timeoutMs : Number.POSITIVE_INFINITY;
	const stop = (): void => {
		Atomics.store(words, word, 0);
		sleeper.wake(word);
	};
	signal?.addEventListener("abort", stop, { once: true });
	if (sleeper.holdsLoop) holdLoop();
	try {
		for (;;) {
			Atomics.store(words, word, 1);
			const left = end === Number.POSITIVE_INFINITY ? end : end - performance.now();
			if (ready() || left <= 0 || signal?.aborted === true) break;
			await sleeper.waitAsync(word, left);
			// Mostly it was a wake, and whoever woke has cleared the word.
			if (ready()) break;
		}
	} finally {
		Atomics.store(words, word, 0);
		if (sleeper.holdsLoop) releaseLoop();
		signal?.removeEventListener("abort", stop);
	}
	signal?.throwIfAborted();
}
