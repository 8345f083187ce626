import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryBlockBackend } from "../../src/machine/virtio/block.ts";
import { MemoryClusterStore, OverlayBlockBackend } from "../../src/machine/virtio/overlay.ts";
import { PagedBitmap } from "../../src/machine/virtio/paged-bitmap.ts";

const BYTES = 20 * 512;

function makeBase() {
	const contents = Uint8Array.from({ length: BYTES }, (_, i) => (i * 13 + (i >> 9)) & 0xff);
	return { contents, base: new MemoryBlockBackend(contents) };
}

/** Operations at byte offsets, as drivers with any alignment make them. */
const operation = fc.record({
	kind: fc.constantFrom("write", "read", "zero"),
	at: fc.integer({ min: 0, max: BYTES - 1 }),
	length: fc.integer({ min: 1, max: 6000 }),
	fill: fc.integer({ min: 1, max: 255 }),
});

describe("an overlay", () => {
	test.each([512, 1024, 4096])("in clusters of %i bytes is the disk it would have been without", (clusterBytes) => {
		fc.assert(
			fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
				const { base, contents } = makeBase();
				const before = contents.slice();
				const model = contents.slice();
				const overlay = new OverlayBlockBackend({ base, store: new MemoryClusterStore(clusterBytes) });
				for (const { kind, at, length, fill } of operations) {
					const size = Math.min(length, BYTES - at);
					if (kind === "write") {
						const bytes = Uint8Array.from({ length: size }, (_, i) => (fill + i) & 0xff);
						overlay.write(at, bytes);
						model.set(bytes, at);
					} else if (kind === "zero") {
						overlay.zero(at, size);
						model.fill(0, at, at + size);
					} else {
						const target = new Uint8Array(size);
						overlay.read(at, target);
						expect(Buffer.compare(target, model.subarray(at, at + size))).toBe(0);
					}
				}
				const all = new Uint8Array(BYTES);
				overlay.read(0, all);
				expect(Buffer.compare(all, model)).toBe(0);
				expect(Buffer.compare(contents, before)).toBe(0);
			}),
			{ seed: 7, numRuns: 300 },
		);
	});

	test("holds what it is allowed to hold, and gives back what is zeroed", () => {
		const overlay = new OverlayBlockBackend({ ...makeBase(), limitBytes: 8192 });
		overlay.write(100, new Uint8Array(5000).fill(1));
		expect(overlay.usedBytes).toBe(8192);
		overlay.write(0, new Uint8Array(8192).fill(2));
		expect(() => overlay.write(8191, new Uint8Array(2).fill(3))).toThrowError(
			expect.objectContaining({ code: "ERR_MACHINE_OVERLAY_FULL", value: 8192 }),
		);
		const kept = new Uint8Array(2);
		overlay.read(8191, kept);
		expect([...kept]).toEqual([2, makeBase().contents[8192]]);
		overlay.zero(0, 4096);
		expect(overlay.usedBytes).toBe(4096);
		overlay.write(9000, Uint8Array.of(3));
	});

	test("costs next to nothing for a huge disk that is thrown away", () => {
		const base = {
			bytes: 2 ** 42,
			readonly: true,
			read: (_offset: number, target: Uint8Array) => void target.fill(9),
			write: () => expect.unreachable(),
			flush: () => undefined,
		};
		const overlay = new OverlayBlockBackend({ base });
		overlay.write(2 ** 41, new Uint8Array(4096));
		overlay.zero(0, 2 ** 36);
		const read = new Uint8Array(8192);
		overlay.read(2 ** 36 - 4096, read);
		expect([read[4095], read[4096]]).toEqual([0, 9]);
		expect(overlay.usedBytes).toBe(4096);
	});

	test("clusters have a size that is a power of two", () => {
		expect(() => new OverlayBlockBackend({ ...makeBase(), store: new MemoryClusterStore(1000) })).toThrowError(
			expect.objectContaining({ code: "ERR_MACHINE_OPTION", value: 1000 }),
		);
	});
});

test("a paged bitmap is a set of numbers", () => {
	const range = fc.tuple(fc.integer({ min: 0, max: 100_000 }), fc.integer({ min: 0, max: 70_000 }), fc.boolean());
	fc.assert(
		fc.property(fc.array(range, { maxLength: 6 }), (ranges) => {
			const bitmap = new PagedBitmap();
			const model = new Uint8Array(170_000);
			for (const [first, count, on] of ranges) {
				bitmap.fill(first, count, on);
				model.fill(on ? 1 : 0, first, first + count);
			}
			const again = new PagedBitmap();
			for (const [number, bytes] of bitmap.pages()) again.load(number, bytes);
			for (let i = 0; i < model.length; i += 1 + (i % 5)) {
				if (again.has(i) !== (model[i] === 1)) throw new Error(`bit ${i}`);
			}
		}),
		{ seed: 3, numRuns: 40 },
	);
});
