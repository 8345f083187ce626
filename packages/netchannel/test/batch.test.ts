import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createFanIn, createRing, openConsumer, openProducer, RingError, type RingOptions } from "../src/index.ts";
import { HEADER_BYTES, LAP, Word, WRAP } from "../src/ring/layout.ts";
import type { RingProducer } from "../src/ring/producer.ts";

const ENTRY = 3;
const SCRATCH = 4096;

function open(options: RingOptions = {}) {
	const handle = createRing({ capacity: 1024, scratch: SCRATCH, ...options });
	return { handle, producer: openProducer(handle), consumer: openConsumer(handle) };
}

/** A scratch area's words. */
const wordsOf = ({ buffer, byteOffset, length }: Uint8Array): Int32Array =>
	new Int32Array(buffer, byteOffset, length >> 2);

const filled = (length: number, seed: number): Uint8Array =>
	Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7) & 255);

/** Lays payloads out from `from` on, not aligned, describes them in a table at 0, and pushes them. */
function pushAll(producer: RingProducer, payloads: readonly Uint8Array[]): number {
	const table = wordsOf(producer.scratch);
	let at = payloads.length * ENTRY * 4;
	for (const [index, payload] of payloads.entries()) {
		producer.scratch.set(payload, at);
		table.set([at, payload.length, index - 3], index * ENTRY);
		at += payload.length;
	}
	return producer.pushBatch(0, payloads.length);
}

const codeOf = (run: () => unknown): string => {
	try {
		run();
	} catch (error) {
		if (error instanceof RingError) return error.code;
		throw error;
	}
	return "none";
};

describe.each([true, false])("one record through the scratch areas (shared: %s)", (shared) => {
	test("is copied whole wherever it lies in its page, and nothing beside it", () => {
		const scratch = 16_384;
		const { producer, consumer } = open({ shared, scratch, capacity: 2 ** 16 });
		const lengths = [0, 1, 2, 3, 5, 9, 16, 31, 33, 64, 65, 128, 193, 2000, 2048, 2049, 4095, 4096, 5001, 9000];
		for (let behind = -24; behind <= 48; behind += 8) {
			for (const [index, length] of lengths.entries()) {
				// Where the record's payload will start, and the place in the scratch area that many bytes before it, pages aside.
				const target = producer.reserve(length);
				producer.abort();
				const from = (target - producer.scratch.byteOffset - behind - (index % 3)) & 4095;
				const payload = filled(length, behind + index);
				producer.scratch.fill(0xee).set(payload, from);
				expect(producer.sendScratch(from, length, behind)).toBe(true);
				expect(consumer.next()).toBe(true);
				expect([consumer.length, consumer.meta, consumer.offset]).toEqual([length, behind, target]);
				expect(Buffer.compare(consumer.record(), payload)).toBe(0);
				const to = (target - consumer.scratch.byteOffset + behind) & 4095;
				consumer.scratch.fill(0xdd);
				consumer.copyToScratch(to);
				expect(Buffer.compare(consumer.scratch.subarray(to, to + length), payload)).toBe(0);
				expect(consumer.scratch.findLastIndex((byte, at) => byte !== 0xdd && (at < to || at >= to + length))).toBe(-1);
				expect(producer.scratch.subarray(from, from + length)).toEqual(payload);
				consumer.release();
			}
		}
	});

	test("is refused and dropped as any other, and is not looked for outside the scratch area", () => {
		const { handle, producer, consumer } = open({ shared, capacity: 256, packetLimit: 2 });
		expect(codeOf(() => producer.sendScratch(SCRATCH - 4, 5))).toBe("ERR_RING_MISUSE");
		expect(codeOf(() => producer.sendScratch(-1, 1))).toBe("ERR_RING_MISUSE");
		expect(codeOf(() => producer.sendScratch(0, 129))).toBe("ERR_RING_TOO_LONG");
		expect([producer.sendScratch(0, 8), producer.sendScratch(0, 8), producer.sendScratch(0, 8)]).toEqual([
			true,
			true,
			false,
		]);
		const dropping = openProducer(handle, { overflow: "drop-newest" });
		expect(dropping.sendScratch(0, 8)).toBe(true);
		expect(consumer.stats()).toMatchObject({ sent: 2, dropped: 1 });
	});
});

describe.each([true, false])("batches through the scratch areas (shared: %s)", (shared) => {
	test("are what a queue is, for any lengths, limits and starting counter", () => {
		const step = fc.oneof(
			fc.record({
				do: fc.constant("push" as const),
				lengths: fc.array(
					fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(15, 16, 32, 33, 64, 65, 128, 129, 500)),
					{
						maxLength: 7,
					},
				),
			}),
			fc.record({ do: fc.constant("copy" as const), limit: fc.integer({ min: 0, max: 9 }) }),
			fc.record({ do: fc.constant("recv" as const) }),
		);
		fc.assert(
			fc.property(
				fc.array(step, { maxLength: 60 }),
				fc.constantFrom(0, 2 ** 31 - 64, 2 ** 32 - 1000, 2 ** 32 - 8),
				fc.constantFrom(0, 0, 3),
				(script, position, packetLimit) => {
					const { producer, consumer } = open({ shared, position, packetLimit });
					const queue: { payload: Uint8Array; meta: number }[] = [];
					const into = wordsOf(consumer.scratch);
					const copyAll = (limit: number): number => {
						const table = 128;
						const count = consumer.copyBatch(table, limit);
						for (let index = 0; index < count; index++) {
							const [at, length, meta] = into.subarray((table >> 2) + index * ENTRY);
							const sent = queue.shift()!;
							expect([length, meta]).toEqual([sent.payload.length, sent.meta]);
							expect(Buffer.compare(consumer.scratch.subarray(at, at! + length!), sent.payload)).toBe(0);
						}
						consumer.release();
						return count;
					};
					let seed = 0;
					for (const action of script) {
						if (action.do === "push") {
							const payloads = action.lengths.map((length) => filled(length, ++seed));
							const taken = pushAll(producer, payloads);
							producer.publish();
							queue.push(...payloads.slice(0, taken).map((payload, index) => ({ payload, meta: index - 3 })));
							if (taken < payloads.length) expect(queue.length).toBeGreaterThan(0);
						} else if (action.do === "copy") {
							const waiting = queue.length;
							const copied = copyAll(action.limit);
							expect(copied).toBeLessThanOrEqual(action.limit);
							expect(copied > 0).toBe(Math.min(waiting, action.limit) > 0);
						} else expect(consumer.recv()).toEqual(queue.shift()?.payload);
					}
					while (copyAll(8) > 0);
					expect(queue).toEqual([]);
					const stats = consumer.stats();
					expect([stats.received, stats.receivedBytes, stats.depth]).toEqual([stats.sent, stats.sentBytes, 0]);
				},
			),
			{ seed: 43, numRuns: 200 },
		);
	});

	test("stop where the ring is full, or count what they drop", () => {
		const payloads = Array.from({ length: 10 }, (_, index) => filled(200, index));
		const { handle, producer, consumer } = open({ shared });
		expect(pushAll(producer, payloads)).toBe(4);
		producer.publish();
		const dropping = openProducer(handle, { overflow: "drop-newest" });
		expect(pushAll(dropping, payloads)).toBe(10);
		expect(dropping.stats().dropped).toBe(10);
		expect(consumer.copyBatch(0, 20)).toBe(4);
	});

	test("stop where the scratch area is full, and lose nothing", () => {
		const { producer, consumer } = open({ shared, scratch: 256, capacity: 1024 });
		for (let value = 1; value <= 3; value++) producer.send(filled(100, value));
		expect(consumer.copyBatch(0, 3)).toBe(2);
		expect(consumer.recv()).toEqual(filled(100, 3));
		producer.send(filled(300, 4));
		expect(codeOf(() => consumer.copyBatch(0, 1))).toBe("ERR_RING_MISUSE");
		expect(consumer.recv()).toEqual(filled(300, 4));
	});

	test("refuse tables and payloads outside the scratch area, and records no ring takes", () => {
		const { producer, consumer } = open({ shared });
		for (const [table, count] of [
			[-4, 1],
			[2, 1],
			[SCRATCH - 8, 1],
			[0, -1],
			[0, 0.5],
			[0, SCRATCH],
		] as const) {
			expect(codeOf(() => producer.pushBatch(table, count))).toBe("ERR_RING_MISUSE");
			expect(codeOf(() => consumer.copyBatch(table, count))).toBe("ERR_RING_MISUSE");
		}
		const table = wordsOf(producer.scratch);
		for (const [at, length, code] of [
			[SCRATCH - 4, 8, "ERR_RING_MISUSE"],
			[-8, 8, "ERR_RING_MISUSE"],
			[0, 1000, "ERR_RING_TOO_LONG"],
			[0, -1, "ERR_RING_MISUSE"],
			[2 ** 31 - 8, 400, "ERR_RING_MISUSE"],
		] as const) {
			table.set([0, 8, 0, at, length, 0]);
			expect(codeOf(() => producer.pushBatch(0, 2))).toBe(code);
			producer.publish();
			expect(consumer.recv()?.length).toBe(8);
			expect(consumer.recv()).toBeUndefined();
		}
	});
});

test("a peer that writes anything anywhere in the ring makes batches fail with typed errors, and touch nothing else", () => {
	const word = fc.oneof(
		fc.integer(),
		fc.constantFrom(-1, 0, 1, 7, 8, 256, 640, LAP, LAP + 8, LAP + 60, LAP + 256, 2 ** 31 - 1, WRAP, WRAP + LAP),
	);
	const writes = fc.array(
		fc.tuple(
			fc.constantFrom(Word.tail, Word.head, ...Array.from({ length: 72 }, (_, i) => HEADER_BYTES / 4 + i)),
			word,
		),
		{
			maxLength: 12,
		},
	);
	const [ring, neighbour] = createFanIn(2, { capacity: 256, scratch: 384 });
	const memory = new Uint8Array((ring!.memory as WebAssembly.Memory).buffer);
	const words = new Int32Array(memory.buffer);
	const pristine = memory.slice();
	fc.assert(
		fc.property(writes, writes, (early, late) => {
			memory.set(pristine);
			openProducer(ring!).send(filled(60, 1));
			for (const [index, value] of early) words[index] = value;
			const typed = (run: () => unknown): void =>
				expect(["none", "ERR_RING_CORRUPT", "ERR_RING_MISUSE", "ERR_RING_CLOSED"]).toContain(codeOf(run));
			typed(() => {
				const producer = openProducer(ring!);
				const consumer = openConsumer(ring!);
				for (const [index, value] of late) words[index] = value;
				const table = wordsOf(producer.scratch);
				for (let round = 0; round < 4; round++) {
					table.set([24, 40, 1, 24, 8, 2]);
					typed(() => producer.pushBatch(0, 2));
					typed(() => producer.publish());
					typed(() => consumer.copyBatch(0, 4));
					if (round % 2 === 1) typed(() => consumer.release());
				}
			});
			expect(Buffer.compare(memory.subarray(neighbour!.offset), pristine.subarray(neighbour!.offset))).toBe(0);
			memory.set(pristine);
		}),
		{ seed: 11, numRuns: 1000 },
	);
});
