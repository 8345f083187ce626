// Measuring in slices: between them a side's threads sleep, so that the sides can take turns many times a second, and
// each turn sees the machine as the one before it did.
//
// Rates are those of the windows of a slice in which both threads had a processor to themselves: two threads that spin
// measure the scheduler otherwise. A thread's CPU time over a window says so; where it cannot be read, every window
// counts.
import { parentPort, workerData } from "node:worker_threads";

const { control, windowMs } = workerData;
const [PRODUCER, GATE, PARKED] = [0, 1, 2];
const CLOCK_OF_THREAD = 6;
/** Share of a window each thread must have run. */
const FULL = 0.97;
/** Turns between two looks at the clock, which takes as long as half a turn. A slice is some groups. */
const GROUP = 50;

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
export async function announce() {
	Atomics.store(control, PRODUCER, (await threadClock()).own);
}

/** Where the side that does not measure sleeps between slices: to be passed now and then. */
export function passGate() {
	if (Atomics.load(control, GATE) !== 0) return;
	Atomics.store(control, PARKED, 1);
	Atomics.wait(control, GATE, 0);
	Atomics.store(control, PARKED, 0);
}

function openGate() {
	Atomics.store(control, GATE, 1);
	Atomics.notify(control, GATE);
}

const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];

/** Answers each message of `ms` with the slice's result; `take` returns how many records it received. */
export async function measureRates(take, lookEvery) {
	const { own, ranFor } = await threadClock();
	const ran = () => (ranFor === undefined ? [0, 0] : [ranFor(own), ranFor(Atomics.load(control, PRODUCER))]);
	const slice = (ms) => {
		const clean = [];
		let windows = 0;
		let seen = 0;
		let look = lookEvery;
		openGate();
		let before = ran();
		const begun = performance.now();
		let since = begun;
		for (let received = 0; ; ) {
			received += take();
			if (received < look) continue;
			look = received + lookEvery;
			const now = performance.now();
			const wall = now - since;
			if (wall < windowMs) continue;
			const after = ran();
			windows++;
			if (ranFor === undefined || after.every((time, side) => time - before[side] >= FULL * wall)) {
				clean.push(((received - seen) / wall) * 1000);
			}
			if (now - begun > ms) break;
			seen = received;
			before = after;
			since = performance.now();
		}
		Atomics.store(control, GATE, 0);
		while (take() > 0 || Atomics.load(control, PARKED) === 0);
		return { figure: clean.length === 0 ? 0 : middle(clean), clean: clean.length, windows };
	};
	parentPort.on("message", (ms) => parentPort.postMessage(slice(ms)));
}

/** Answers turns, for as long as the other side asks. */
export function answerTurns(turn) {
	for (;;) {
		for (let index = 0; index < GROUP; index++) turn();
		passGate();
	}
}

/** Answers each message of a count with the median over groups of turns, in microseconds. */
export function measureTurns(turn) {
	parentPort.on("message", (count) => {
		const times = new Array(count / GROUP).fill(0);
		openGate();
		for (let group = 0; group < times.length; group++) {
			const start = performance.now();
			turn();
			// The other side looks at the gate between groups: it is past the last one before this.
			if (group === times.length - 1) Atomics.store(control, GATE, 0);
			for (let index = 1; index < GROUP; index++) turn();
			times[group] = ((performance.now() - start) / GROUP) * 1000;
		}
		parentPort.postMessage({ figure: middle(times) });
	});
}

/** The same for turns that an event loop takes. */
export function measureAsyncTurns(turn) {
	parentPort.on("message", async (count) => {
		const times = new Array(count).fill(0);
		for (let index = 0; index < count; index++) {
			const start = performance.now();
			await turn();
			times[index] = (performance.now() - start) * 1000;
		}
		parentPort.postMessage({ figure: middle(times) });
	});
}
