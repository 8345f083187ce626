import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BufferPool, ByteRing } from "../src/tcp/ring.ts";

class CountingPool extends BufferPool {
	taken: number[] = [];

	override take(shift: number): Uint8Array {
		this.taken.push(shift);
		return super.take(shift);
	}
}

describe("the byte ring", () => {
	test("holds what a plain list of bytes holds, whatever the order of writes, reads and reuse", () => {
		const pool = new BufferPool();
		const step = fc.record({
			kind: fc.constantFrom("write", "take", "release"),
			count: fc.integer({ min: 0, max: 9000 }),
		});
		fc.assert(
			fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
				const ring = new ByteRing(pool);
				let model: number[] = [];
				let next = 0;
				for (const { kind, count } of steps) {
					if (kind === "write") {
						const bytes = Uint8Array.from({ length: count }, () => next++ & 255);
						ring.write(ring.length, bytes, 0, count);
						ring.length += count;
						model.push(...bytes);
					} else if (kind === "take") {
						const taken = new Uint8Array(Math.min(count, ring.length));
						ring.copyTo(0, taken, 0, taken.length);
						expect([...taken]).toEqual(model.slice(0, taken.length));
						ring.discard(taken.length, false);
						model = model.slice(taken.length);
					} else {
						ring.release();
						model = [];
					}
					expect(ring.length).toBe(model.length);
				}
				ring.release();
			}),
			{ seed: 5, numRuns: 200 },
		);
	});

	test("a refill takes at once what the last fill needed, and less when that needed less", () => {
		const pool = new CountingPool();
		const ring = new ByteRing(pool);
		const fill = (bytes: number) => {
			pool.taken = [];
			for (let i = 0; i < bytes; i += 1000) {
				ring.write(ring.length, new Uint8Array(1000), 0, 1000);
				ring.length += 1000;
			}
			ring.discard(ring.length, false);
			return pool.taken;
		};
		expect(fill(60_000)).toEqual([11, 12, 13, 14, 15, 16]);
		expect(fill(60_000)).toEqual([16]);
		expect(fill(3_000)).toEqual([16]);
		expect(fill(3_000)).toEqual([12]);
	});
});
