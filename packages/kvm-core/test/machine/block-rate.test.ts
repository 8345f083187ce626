import fc from "fast-check";
import { expect, test } from "vitest";
import { type BlockBackend, MemoryBlockBackend, VirtioBlock } from "../../src/machine/virtio/block.ts";
import { limitBlockRate } from "../../src/machine/virtio/block-rate.ts";
import { Driver } from "./virtio-driver.ts";

/** A clock that is moved by hand, and calls back in order. */
class HandClock {
	time = 0;
	#waiting: { at: number; callback: () => void }[] = [];

	now(): number {
		return this.time;
	}

	after(milliseconds: number, callback: () => void): void {
		this.#waiting.push({ at: this.time + milliseconds, callback });
	}

	move(milliseconds: number): void {
		this.time += milliseconds;
		const due = this.#waiting.filter(({ at }) => at <= this.time).sort((a, b) => a.at - b.at);
		this.#waiting = this.#waiting.filter(({ at }) => at > this.time);
		for (const { callback } of due) callback();
	}
}

test("in no stretch of time does a disk move more than its rate and its burst", () => {
	const step = fc.tuple(fc.integer({ min: 1, max: 4000 }), fc.integer({ min: 0, max: 400 }));
	fc.assert(
		fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1000, max: 20_000 }), (steps, bytesPerSecond) => {
			const clock = new HandClock();
			const started: { at: number; length: number }[] = [];
			const inner = new MemoryBlockBackend(new Uint8Array(8192));
			const backend: BlockBackend = {
				...{ bytes: 8192, readonly: false, flush: () => undefined, write: () => undefined },
				read: (offset, target) => {
					started.push({ at: clock.time, length: target.length });
					inner.read(offset, target);
				},
			};
			const limited = limitBlockRate(backend, { bytesPerSecond, burstSeconds: 0.5 }, clock);
			for (const [length, wait] of steps) {
				void limited.read(0, new Uint8Array(length));
				clock.move(wait);
			}
			for (let i = 0; i < 5000 && started.length < steps.length; i++) clock.move(50);
			expect(started.length).toBe(steps.length);
			for (let i = 0; i < started.length; i++) {
				let sum = 0;
				for (let k = i; k < started.length; k++) {
					sum += started[k].length;
					const allowed = bytesPerSecond * 0.5 + ((started[k].at - started[i].at + 50) / 1000) * bytesPerSecond + 4000;
					expect(sum).toBeLessThanOrEqual(allowed);
				}
			}
		}),
		{ seed: 5, numRuns: 100 },
	);
});

test("a guest's requests wait for their turn, failures included", async () => {
	const clock = new HandClock();
	let calls = 0;
	const backend: BlockBackend = {
		...{ bytes: 4096, readonly: false, write: () => undefined, flush: () => undefined },
		read: () => {
			if (calls++ > 0) throw new Error("broken");
		},
	};
	const device = new VirtioBlock({
		backend: limitBlockRate(backend, { operationsPerSecond: 10, burstSeconds: 0.1 }, clock),
	});
	const driver = new Driver(device).start();
	const read = () => driver.add(0, [{ send: new Uint8Array(16) }, { room: 512 }, { room: 1 }]);
	const [first, second] = [read(), read()];
	driver.kick(0);
	expect(driver.used(0).map(({ head }) => head)).toEqual([first.head]);
	clock.move(99);
	await new Promise(setImmediate);
	expect(driver.used(0)).toEqual([]);
	clock.move(2);
	await device.idle();
	expect(driver.used(0).map(({ head }) => head)).toEqual([second.head]);
	expect(second.rooms[1][0]).toBe(1);
	expect(() => limitBlockRate(backend, { bytesPerSecond: 0 }, clock)).toThrow(/more than 0/);
});
