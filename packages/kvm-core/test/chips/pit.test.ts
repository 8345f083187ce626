import fc from "fast-check";
import { expect, test } from "vitest";
import { PIT_HZ, Pit } from "../../src/chips/pit.ts";

function makePit(): { pit: Pit; edges: () => number } {
	let edges = 0;
	const pit = new Pit((level) => {
		if (level) edges++;
	});
	return { pit, edges: () => edges };
}

/** Advances through every deadline up to `end`, as a run loop does. */
function run(pit: Pit, end: number): void {
	while (pit.nextDeadline() <= end) {
		const at = pit.nextDeadline();
		pit.advanceTo(at);
		expect(pit.nextDeadline()).toBeGreaterThan(at);
	}
}

function program(pit: Pit, control: number, count: number, now: number): void {
	const port = 0x40 + (control >> 6);
	pit.write(0x43, control, now);
	pit.write(port, count & 0xff, now);
	pit.write(port, count >> 8, now);
}

test.each([
	["rate generator", 0x34],
	["square wave", 0x36],
])("mode of the %s ticks at its rate over a minute", (_name, control) => {
	const { pit, edges } = makePit();
	program(pit, control, 11_932, 1_000); // 100 Hz
	const before = edges();
	run(pit, 60e9 + 1_000);
	expect(Math.abs(edges() - before - (60 * PIT_HZ) / 11_932)).toBeLessThan(2);
});

test.each([
	["interrupt on terminal count", 0x30],
	["software strobe", 0x38],
])("%s gives one edge at its time", (_name, control) => {
	const { pit, edges } = makePit();
	program(pit, control, 1_193, 5_000);
	const before = edges();
	expect(Math.abs(pit.nextDeadline() - 5_000 - 1_193 * (1e9 / PIT_HZ))).toBeLessThan(3);
	pit.advanceTo(pit.nextDeadline() - 900);
	expect(edges()).toBe(before);
	run(pit, 1e9);
	expect(edges()).toBe(before + 1);
	expect(pit.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
});

test("late looks merge periods into one edge and keep the phase", () => {
	const { pit, edges } = makePit();
	program(pit, 0x34, 0, 0); // 65536
	const before = edges();
	const period = (65_536 / PIT_HZ) * 1e9;
	pit.advanceTo(10.5 * period);
	expect(edges() - before).toBe(1);
	expect(Math.abs(pit.nextDeadline() - 11 * period)).toBeLessThan(3);
});

test("counter 2 measures time the way Linux calibrates: gate on, mode 0, poll port 61h bit 5", () => {
	const { pit } = makePit();
	pit.write(0x61, (pit.read(0x61, 0) & ~2) | 1, 0);
	program(pit, 0xb0, 59_659, 0); // 50 ms
	expect(pit.read(0x61, 49_999_000) & 0x20).toBe(0);
	expect(pit.read(0x61, 50_001_000) & 0x20).toBe(0x20);
});

test("the gate stops counter 2 and lets it go on", () => {
	const { pit } = makePit();
	pit.write(0x61, 1, 0);
	program(pit, 0xb0, 10_000, 0);
	const count = (now: number) => {
		pit.write(0x43, 0x80, now);
		return pit.read(0x42, now) | (pit.read(0x42, now) << 8);
	};
	const at1ms = count(1e6);
	expect(at1ms).toBe(10_000 - 1_193);
	pit.write(0x61, 0, 1e6);
	expect(count(5e6)).toBe(at1ms);
	pit.write(0x61, 1, 5e6);
	expect(Math.abs(count(6e6) - (at1ms - 1_193))).toBeLessThan(2);
});

test("latched counts, read-back status and byte access", () => {
	const { pit } = makePit();
	pit.write(0x43, 0x34, 0);
	pit.write(0x43, 0xe2, 0); // read back the status of counter 0: null count
	expect(pit.read(0x40, 0)).toBe(0x80 | 0x40 | 0x34);
	pit.write(0x40, 0x34, 0);
	pit.write(0x40, 0x12, 0);
	pit.write(0x43, 0x00, 0);
	const late = 500_000;
	expect(pit.read(0x40, late)).toBe(0x34);
	expect(pit.read(0x40, late)).toBe(0x12);
	pit.write(0x43, 0x14, 0); // low byte only
	pit.write(0x40, 100, 0);
	expect(pit.read(0x40, 0)).toBe(100);
	expect(pit.read(0x40, 0)).toBe(100);
});

test("BCD counts decimally", () => {
	const { pit } = makePit();
	program(pit, 0x31, 0x1000, 0);
	pit.write(0x43, 0x00, 839); // one tick
	expect(pit.read(0x40, 839) | (pit.read(0x40, 839) << 8)).toBe(0x0999);
});

test("hostile programming never makes a deadline that is not in the future", () => {
	fc.assert(
		fc.property(
			fc.array(
				fc.record({
					port: fc.constantFrom(0x40, 0x41, 0x42, 0x43, 0x61),
					value: fc.integer({ min: 0, max: 255 }),
					wait: fc.integer({ min: 0, max: 2_000_000 }),
				}),
				{ maxLength: 60 },
			),
			(steps) => {
				const { pit } = makePit();
				let now = 3e15;
				for (const { port, value, wait } of steps) {
					pit.write(port, value, now);
					const got = pit.read(port, now);
					expect(Number.isInteger(got) && got >= 0 && got <= 255).toBe(true);
					now += wait;
					pit.advanceTo(now);
					expect(pit.nextDeadline()).toBeGreaterThan(now);
				}
				const twin = new Pit(() => undefined);
				twin.restore(JSON.parse(JSON.stringify(pit.save())), now);
				expect(twin.nextDeadline()).toBe(pit.nextDeadline());
			},
		),
		{ seed: 5, numRuns: 300 },
	);
});
