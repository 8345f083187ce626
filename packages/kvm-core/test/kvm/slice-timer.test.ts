import { expect, test } from "vitest";
import { SliceTimer } from "../../src/hardware/slice-timer.node.ts";

const MS = 1e6;

/** A timer of slices of a millisecond, and what it asked the kernel for. */
function setUp() {
	const time = { ms: 0 };
	const set: number[] = [];
	const timer = new SliceTimer(
		{ timerCreate: () => 7, timerSet: (_, nanoseconds) => set.push(nanoseconds), timerDelete: () => set.push(-1) },
		1,
		() => time.ms,
	);
	/** Runs until the slice is over, each run taking so many milliseconds. */
	const slice = (each: number): number => {
		for (let runs = 0; ; runs++) {
			if (!timer.enter()) return runs;
			time.ms += each;
		}
	};
	return { time, timer, set, slice };
}

test("a guest that does not leave by itself is stopped by a signal, counted anew from every slice's beginning", () => {
	const { timer, set } = setUp();
	for (let i = 0; i < 3; i++) {
		expect(timer.enter()).toBe(true);
		timer.end();
	}
	expect(set).toEqual([MS, MS, MS]);
	timer.close();
	expect(set.slice(3)).toEqual([0, -1]);
});

test("one that leaves often has its slices ended by the clock, and a signal only in case that it no longer does", () => {
	const { timer, set, slice } = setUp();
	const runs = [slice(0.01), slice(0.01), slice(0.01)];
	for (const count of runs) {
		expect(count).toBeGreaterThanOrEqual(100);
		expect(count).toBeLessThan(140);
	}
	expect(set).toEqual([MS, 8 * MS]);
	// It spins: the slow signal comes, and from then on the fast one.
	timer.enter();
	timer.end();
	timer.enter();
	expect(set).toEqual([MS, 8 * MS, MS]);
	timer.close();
});

test("a slice that was set takes effect at once, and no signal waits longer than a thread may be kept", () => {
	const { timer, set, slice } = setUp();
	slice(0.01);
	timer.enter();
	timer.setLength(100);
	timer.enter();
	expect(set).toEqual([MS, 8 * MS, 100 * MS]);
	slice(1);
	timer.enter();
	expect(set.at(-1)).toBe(200 * MS);
	expect(() => timer.setLength(0)).toThrow(expect.objectContaining({ code: "EINVAL" }));
	timer.close();
});
