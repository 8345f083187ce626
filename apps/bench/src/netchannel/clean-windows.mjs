// Rates over the moments in which both threads had a processor to themselves: two threads that spin measure the
// scheduler otherwise. A thread's CPU time over a window says so; where it cannot be read, every window counts.

const CLOCK_OF_THREAD = 6;
/** Share of a window each thread must have run. */
const FULL = 0.97;
/** Milliseconds of a thread's own time that belong to the compiler. */
const WARM_UP = 100;

async function threadClock() {
	try {
		const { default: koffi } = await import("koffi");
		const libc = koffi.load(null);
		const read = libc.func("int clock_gettime(int clock, void *time)");
		const time = new BigInt64Array(2);
		return {
			own: libc.func("int gettid()")(),
			/** Milliseconds a thread of this process ran, by its number (the kernel's MAKE_THREAD_CPUCLOCK). */
			ranFor(thread) {
				return read((~thread << 3) | CLOCK_OF_THREAD, time) === 0 ? Number(time[0]) * 1e3 + Number(time[1]) / 1e6 : 0;
			},
		};
	} catch {
		return { own: 0, ranFor: undefined };
	}
}

/** The producing side says who it is. */
export async function announce(control) {
	Atomics.store(control, 0, (await threadClock()).own);
}

const middle = (rates) => rates.sort((a, b) => a - b)[rates.length >> 1];

/**
 * For the receiving side: the function returned is called with the count so far, now and then, and returns the result
 * once there are `wanted` clean windows or the time is up: their median rate a second, or, without any, the best
 * window's.
 */
export async function cleanWindows(control, { windowMs, wanted, budgetMs }) {
	const { own, ranFor } = await threadClock();
	const clean = [];
	const all = [];
	let begun = 0;
	let since = 0;
	let seen = 0;
	let ran = [0, 0];
	let warm = 0;
	const look = () => (ranFor === undefined ? [0, 0] : [ranFor(own), ranFor(Atomics.load(control, 0))]);
	return (received) => {
		const now = performance.now();
		if (begun === 0) {
			begun = since = now;
			seen = received;
			ran = look();
			warm = ran[0] + WARM_UP;
			return undefined;
		}
		const wall = now - since;
		if (wall < windowMs) return undefined;
		const running = look();
		const full = ranFor === undefined || running.every((ms, side) => ms - ran[side] >= FULL * wall);
		all.push(((received - seen) / wall) * 1000);
		if (full && (ranFor === undefined ? now - begun > WARM_UP : running[0] > warm)) clean.push(all.at(-1));
		if (clean.length >= wanted || now - begun > budgetMs) {
			return { rate: clean.length > 0 ? middle(clean) : Math.max(...all), clean: clean.length, windows: all.length };
		}
		seen = received;
		ran = running;
		since = performance.now();
		return undefined;
	};
}
