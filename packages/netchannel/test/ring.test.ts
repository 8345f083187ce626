import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	createFanIn,
	createRing,
	openConsumer,
	openFanIn,
	openProducer,
	RingError,
	type RingOptions,
} from "../src/index.ts";
import { HEADER_BYTES, LAP, VERSION, Word, WRAP } from "../src/ring/layout.ts";
import { viewRing } from "../src/ring/memory.ts";

/** Where records start, in words. */
const DATA = HEADER_BYTES / 4;
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const filled = (length: number, seed: number): Uint8Array =>
	Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7) & 255);

function open(options: RingOptions = {}) {
	const handle = createRing({ capacity: 1024, ...options });
	return { handle, producer: openProducer(handle), consumer: openConsumer(handle) };
}

describe.each([true, false])("a ring (shared: %s)", (shared) => {
	test("keeps records, their order and their meta words", () => {
		const { producer, consumer } = open({ shared });
		expect(producer.send(bytes(1, 2, 3), 7)).toBe(true);
		expect(producer.send(bytes(), -1)).toBe(true);
		expect(consumer.next()).toBe(true);
		expect([...consumer.record()]).toEqual([1, 2, 3]);
		expect(consumer.meta).toBe(7);
		expect(consumer.next()).toBe(true);
		expect([consumer.length, consumer.meta]).toEqual([0, -1]);
		expect(consumer.next()).toBe(false);
	});

	test("is what a queue is, for any script and any starting counter", () => {
		const action = fc.oneof(
			{
				weight: 4,
				arbitrary: fc.record({ do: fc.constant("send" as const), length: fc.integer({ min: 0, max: 500 }) }),
			},
			{ weight: 2, arbitrary: fc.record({ do: fc.constant("recv" as const) }) },
			{
				weight: 2,
				arbitrary: fc.record({ do: fc.constant("drain" as const), budget: fc.integer({ min: 1, max: 5 }) }),
			},
			{
				weight: 1,
				arbitrary: fc.record({
					do: fc.constant("bulk" as const),
					lengths: fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 5 }),
				}),
			},
			{
				weight: 1,
				arbitrary: fc.record({ do: fc.constant("abort" as const), length: fc.integer({ min: 0, max: 500 }) }),
			},
			{
				weight: 1,
				arbitrary: fc.record({
					do: fc.constant("scratch" as const),
					length: fc.integer({ min: 0, max: 128 }),
					atOnce: fc.boolean(),
				}),
			},
		);
		fc.assert(
			fc.property(
				fc.array(action, { maxLength: 200 }),
				fc.constantFrom(0, 2 ** 31 - 64, 2 ** 32 - 1000, 2 ** 32 - 8),
				fc.constantFrom(0, 1, 3),
				(script, position, packetLimit) => {
					const { producer, consumer } = open({ shared, position, packetLimit, scratch: 128, capacity: 1024 });
					const queue: Uint8Array[] = [];
					let seed = 0;
					let taken = 0;
					for (const step of script) {
						if (step.do === "send") {
							const record = filled(step.length, ++seed);
							if (producer.send(record)) queue.push(record);
							else expect(queue.length).toBeGreaterThan(0);
						} else if (step.do === "bulk") {
							const records = step.lengths.map((length) => filled(length, ++seed));
							if (producer.sendBulk(records)) queue.push(...records);
						} else if (step.do === "abort") {
							if (producer.reserve(step.length) >= 0) producer.abort();
						} else if (step.do === "scratch") {
							const record = filled(step.length, ++seed);
							producer.scratch.set(record);
							if (step.atOnce) {
								if (producer.sendScratch(0, step.length, seed)) queue.push(record);
							} else if (producer.pushScratch(0, step.length)) queue.push(record);
							producer.publish();
						} else if (step.do === "recv") {
							expect(consumer.recv()).toEqual(queue.shift());
							taken++;
						} else {
							consumer.drain((payload) => expect([...payload]).toEqual([...queue.shift()!]), step.budget);
						}
					}
					for (let record = consumer.recv(); record !== undefined; record = consumer.recv())
						expect(record).toEqual(queue.shift());
					expect(queue).toEqual([]);
					const stats = consumer.stats();
					expect(stats.received).toBe(stats.sent);
					expect(stats.depth).toBe(0);
					expect(taken).toBeGreaterThanOrEqual(0);
				},
			),
			{ seed: 41, numRuns: 300 },
		);
	});

	test("wakes an asynchronous consumer, and ends its iteration when the producer closes", async () => {
		const { producer, consumer } = open({ shared });
		const got: number[] = [];
		const reading = (async () => {
			for await (const record of consumer) got.push(record[0]!);
		})();
		for (let value = 1; value <= 5; value++) {
			await new Promise((resolve) => setTimeout(resolve, 2));
			producer.send(bytes(value));
		}
		producer.close();
		await reading;
		expect(got).toEqual([1, 2, 3, 4, 5]);
	});

	test("wakes an asynchronous producer when there is room", async () => {
		const { producer, consumer } = open({ shared, capacity: 256 });
		while (producer.send(filled(100, 1)));
		const room = producer.waitWritableAsync(100);
		await Promise.resolve();
		consumer.recv();
		expect(await room).toBe(true);
		expect(producer.send(filled(100, 2))).toBe(true);
		expect(await producer.waitWritableAsync(100, { timeoutMs: 5 })).toBe(false);
		const waiting = producer.waitWritableAsync(100, { signal: AbortSignal.timeout(5) });
		await expect(waiting).rejects.toMatchObject({ name: "TimeoutError" });
	});

	test("a wake that is late, meant for a sleep that is over, ends no wait", async () => {
		const { handle, producer, consumer } = open({ shared });
		const waiting = consumer.waitAsync({ timeoutMs: 5000 });
		await new Promise((resolve) => setTimeout(resolve, 5));
		// What a producer does that was interrupted between clearing the flag of an earlier sleep and waking it.
		viewRing(handle).sleeper.wake(Word.consumerSleeps);
		await new Promise((resolve) => setTimeout(resolve, 5));
		producer.send(bytes(1));
		expect(await waiting).toBe(true);
	});

	test("a wait ends by timeout and by signal", async () => {
		const { consumer } = open({ shared });
		expect(await consumer.waitAsync({ timeoutMs: 5 })).toBe(false);
		const stop = new AbortController();
		const waiting = consumer.waitAsync({ signal: stop.signal });
		stop.abort(new Error("enough"));
		await expect(waiting).rejects.toThrow("enough");
	});

	test("closing one end ends that end's own wait: nobody else may be there to do it", async () => {
		const { consumer } = open({ shared });
		const reading = consumer.waitAsync();
		consumer.close();
		expect(await reading).toBe(false);
		const { producer } = open({ shared, capacity: 256 });
		while (producer.send(bytes(1)));
		const writing = producer.waitWritableAsync(200);
		producer.close();
		expect(await writing).toBe(false);
	});
});

test("overflow policies: fail, drop-newest with a count, and a packet limit", () => {
	const handle = createRing({ capacity: 256, packetLimit: 2 });
	const producer = openProducer(handle, { overflow: "drop-newest" });
	const consumer = openConsumer(handle);
	for (let value = 0; value < 5; value++) expect(producer.send(bytes(value))).toBe(true);
	expect(producer.stats()).toMatchObject({ sent: 2, dropped: 3 });
	expect([consumer.recv(), consumer.recv(), consumer.recv()]).toEqual([bytes(0), bytes(1), undefined]);
	const plain = openProducer(createRing({ capacity: 256, packetLimit: 1 }));
	expect([plain.send(bytes(1)), plain.send(bytes(2))]).toEqual([true, false]);
});

test("nobody is woken who is awake", async () => {
	const { producer, consumer } = open();
	for (let value = 0; value < 10; value++) producer.send(bytes(value));
	expect(producer.stats().wakeups).toBe(0);
	while (consumer.recv());
	const waiting = consumer.waitAsync();
	producer.send(bytes(1));
	producer.send(bytes(2));
	expect(await waiting).toBe(true);
	expect(producer.stats().wakeups).toBe(1);
});

describe.each([true, false])("a ring that is full to the last byte (shared: %s)", (shared) => {
	/** Reads everything, asks once too often, and goes on. */
	const readAll = ({ producer, consumer }: ReturnType<typeof open>, lengths: readonly number[]): void => {
		expect(producer.send(bytes(1))).toBe(false);
		for (const length of lengths) expect(consumer.next() && consumer.length).toBe(length);
		expect(consumer.next()).toBe(false);
		consumer.release();
		expect([consumer.readable, consumer.next()]).toEqual([false, false]);
		for (let value = 0; value < 100; value++) {
			expect(producer.send(filled(value, value), value)).toBe(true);
			expect(consumer.recv()).toEqual(filled(value, value));
			expect(consumer.recv()).toBeUndefined();
		}
	};

	test.each([0, 256, 2 ** 32 - 256])("ends where the oldest record began, from %i on", (position) => {
		const ends = open({ shared, position, capacity: 256, scratch: 128 });
		for (let record = 0; record < 4; record++) expect(ends.producer.send(filled(56, record))).toBe(true);
		readAll(ends, [56, 56, 56, 56]);
	});

	test.each([0, 256, 2 ** 32 - 256])("ends where the last lap jumped to the start, from %i on", (position) => {
		const ends = open({ shared, position, capacity: 256, scratch: 128 });
		for (let record = 0; record < 2; record++) expect(ends.producer.send(filled(96, record))).toBe(true);
		for (let record = 0; record < 2; record++) expect(ends.consumer.recv()?.length).toBe(96);
		expect(ends.producer.sendBurst([filled(96, 1), filled(96, 2)])).toBe(2);
		readAll(ends, [96, 96]);
	});

	test("is continued by another producer, from its records and not from its counters", () => {
		const ends = open({ shared, capacity: 256 });
		for (let record = 0; record < 4; record++) expect(ends.producer.send(filled(56, record))).toBe(true);
		const { words } = viewRing(ends.handle);
		words[Word.head] = 64;
		readAll({ ...ends, producer: openProducer(ends.handle) }, [56, 56, 56, 56]);
	});
});

test.each([true, false])("what takes a quarter of the ring is published on the way (shared: %s)", (shared) => {
	const { producer, consumer } = open({ shared, scratch: 1024 });
	for (let record = 0; record < 4; record++) expect(producer.push(filled(56, record))).toBe(true);
	expect(consumer.next()).toBe(false);
	expect(producer.push(filled(56, 4))).toBe(true);
	for (let record = 0; record < 5; record++) expect(consumer.recv()).toEqual(filled(56, record));
	const table = new Int32Array(producer.scratch.buffer, producer.scratch.byteOffset, 18);
	for (let record = 0; record < 6; record++) table.set([128, 56, record], record * 3);
	expect(producer.pushBatch(0, 4)).toBe(4);
	expect(consumer.readable).toBe(false);
	expect(producer.pushBatch(0, 6)).toBe(6);
	expect(consumer.readable).toBe(true);
	for (let record = 0; record < 10; record++) expect(consumer.recv()?.length).toBe(56);
});

test("each end sees that the other goes on, or says it is alive", () => {
	const { producer, consumer } = open({ scratch: 128 });
	const seen = new Set([consumer.peerBeat]);
	producer.send(bytes(1));
	seen.add(consumer.peerBeat);
	producer.sendScratch(0, 8);
	seen.add(consumer.peerBeat);
	producer.beat();
	expect(seen.add(consumer.peerBeat).size).toBe(4);
	const heard = new Set([producer.peerBeat]);
	consumer.recv();
	heard.add(producer.peerBeat);
	consumer.beat();
	expect(heard.add(producer.peerBeat).size).toBe(3);
});

test("reserve and commit write in place, shorter than reserved", () => {
	const { producer, consumer } = open();
	const at = producer.reserve(100);
	producer.bytes.set([9, 8, 7], at);
	producer.commit(3, 5);
	expect(consumer.next()).toBe(false);
	producer.publish();
	expect(consumer.recv()).toEqual(bytes(9, 8, 7));
	expect(() => producer.commit(1)).toThrowError(expect.objectContaining({ code: "ERR_RING_MISUSE" }));
});

test("a consumer's callback that throws loses nothing but its own record", () => {
	const { producer, consumer } = open();
	producer.sendBurst([bytes(1), bytes(2)]);
	expect(() =>
		consumer.drain(() => {
			throw new Error("mine");
		}),
	).toThrow("mine");
	expect(consumer.recv()).toEqual(bytes(2));
});

test("a fan-in takes from every producer and starves none", async () => {
	const handles = createFanIn(3, { capacity: 1024 });
	const producers = handles.map((handle) => openProducer(handle));
	const fanIn = openFanIn(handles);
	const waiting = fanIn.waitAsync();
	producers[2]!.send(bytes(2));
	expect(await waiting).toBe(true);
	for (let round = 0; round < 20; round++) producers[0]!.send(bytes(0));
	producers[1]!.send(bytes(1));
	const seen: number[] = [];
	expect(fanIn.drain((_payload, _meta, producer) => seen.push(producer), 4)).toBe(6);
	expect(new Set(seen)).toEqual(new Set([0, 1, 2]));
	for (const producer of producers) producer.close();
	expect(fanIn.ended).toBe(true);
});

describe("refuses", () => {
	const code = (run: () => unknown): string => {
		try {
			run();
		} catch (error) {
			if (error instanceof RingError) return error.code;
			throw error;
		}
		return "none";
	};

	test("options that make no ring", () => {
		for (const options of [
			{ capacity: 1000 },
			{ capacity: 128 },
			{ packetLimit: -1 },
			{ scratch: 100 },
			{ position: 3 },
		]) {
			expect(code(() => createRing(options))).toBe("ERR_RING_OPTION");
		}
	});

	test("records that can never fit", () => {
		const { producer } = open({ capacity: 256 });
		expect(producer.maxLength).toBe(120);
		expect(code(() => producer.send(new Uint8Array(121)))).toBe("ERR_RING_TOO_LONG");
	});

	test("memory without a ring, a damaged header, and a ring of a future version", () => {
		expect(code(() => openConsumer({ memory: new ArrayBuffer(65536), offset: 0 }))).toBe("ERR_RING_FORMAT");
		expect(code(() => openConsumer({ memory: new ArrayBuffer(65536), offset: 4 }))).toBe("ERR_RING_FORMAT");
		const { handle, producer } = open({ shared: false });
		producer.send(bytes(1));
		const words = new Int32Array(handle.memory as ArrayBuffer);
		words[1] = VERSION + 1;
		expect(code(() => openConsumer(handle))).toBe("ERR_RING_VERSION");
		words[1] = VERSION;
		expect(openConsumer(handle).recv()).toEqual(bytes(1));
		words[2] = 2 ** 29;
		expect(code(() => openConsumer(handle))).toBe("ERR_RING_FORMAT");
	});

	test("whatever hostile words another process writes, with a typed error and no other", () => {
		fc.assert(
			fc.property(
				fc.array(
					fc.tuple(
						fc.constantFrom(Word.tail, Word.head, ...Array.from({ length: 64 }, (_, i) => DATA + i)),
						fc.integer(),
					),
					{
						maxLength: 20,
					},
				),
				(writes) => {
					const { handle, producer, consumer } = open({ shared: false, capacity: 256 });
					const words = new Int32Array(handle.memory as ArrayBuffer);
					producer.send(filled(50, 1));
					for (const [index, value] of writes) words[index] = value;
					try {
						for (let step = 0; step < 50 && consumer.next(); step++) {
							expect(consumer.offset + consumer.length).toBeLessThanOrEqual(HEADER_BYTES + 256);
							consumer.release();
						}
						producer.send(filled(20, 2));
					} catch (error) {
						expect(error).toBeInstanceOf(RingError);
					}
				},
			),
			{ seed: 7, numRuns: 2000 },
		);
	});

	test("records and jumps that go past what there can be", () => {
		for (const [at, word] of [
			[0, -(2 ** 31)],
			[24, 2 ** 30 - 1],
			[24, 240],
			[24, WRAP + 8],
		] as const) {
			const { handle, producer, consumer } = open({ shared: false, capacity: 256 });
			const words = new Int32Array(handle.memory as ArrayBuffer);
			if (at > 0) {
				producer.send(filled(at - 8, 1));
				expect(consumer.next()).toBe(true);
			}
			words[DATA + at / 4] = word ^ LAP;
			expect(code(() => consumer.next())).toBe("ERR_RING_CORRUPT");
			expect(code(() => consumer.next())).toBe("ERR_RING_CORRUPT");
		}
	});

	test.each([true, false])("records that were changed after they were seen (shared: %s)", (shared) => {
		for (const word of [WRAP, WRAP + 8, 240, 1017, LAP, LAP - 1]) {
			const { handle, producer, consumer } = open({ shared });
			producer.sendBurst(Array.from({ length: 8 }, (_, record) => filled(24, record)));
			expect([consumer.next(), consumer.next()]).toEqual([true, true]);
			const { words } = viewRing(handle);
			words.fill(word ^ LAP, DATA + 16, DATA + 64);
			const found = code(() => {
				for (let record = 0; record < 6; record++) {
					if (!consumer.next()) break;
					expect(consumer.offset + consumer.length).toBeLessThanOrEqual(HEADER_BYTES + 1024);
				}
			});
			// What is an end, or leads to one, is no damage that shows.
			if ([WRAP, LAP, 240].includes(word)) expect(["none", "ERR_RING_CORRUPT"]).toContain(found);
			else expect(found).toBe("ERR_RING_CORRUPT");
		}
	});

	test("records without an end: not more than a ring holds before something is given back", () => {
		const { handle, producer, consumer } = open({ shared: false, capacity: 256 });
		const words = new Int32Array(handle.memory as ArrayBuffer);
		for (let record = 0; record < 8; record++) producer.send(filled(24, record));
		for (let record = 0; record < 8; record++) expect(consumer.next()).toBe(true);
		words[DATA] = 24;
		expect(code(() => consumer.next())).toBe("ERR_RING_CORRUPT");
	});

	test("counters that are none, whichever end is opened on them", () => {
		const { handle, producer } = open({ shared: false, capacity: 256 });
		producer.send(bytes(1));
		const words = new Int32Array(handle.memory as ArrayBuffer);
		words[Word.tail] = 4;
		expect(code(() => openConsumer(handle))).toBe("ERR_RING_CORRUPT");
		expect(code(() => openProducer(handle))).toBe("ERR_RING_CORRUPT");
	});

	test("any words at all in the whole ring, before it is opened and after: typed errors, nothing outside, no end missed", () => {
		const word = fc.oneof(
			fc.integer(),
			fc.constantFrom(-1, 0, 1, 7, 8, 256, 640, LAP, LAP + 8, LAP + 60, LAP + 256, 2 ** 31 - 1, WRAP, WRAP + LAP),
		);
		const writes = fc.array(fc.tuple(fc.nat(DATA + 256 / 4 - 1), word), { maxLength: 12 });
		const typed = (run: () => void): void => {
			try {
				run();
			} catch (error) {
				expect(error).toBeInstanceOf(RingError);
			}
		};
		fc.assert(
			fc.property(writes, writes, fc.boolean(), (early, late, fanIn) => {
				const [handle] = fanIn
					? createFanIn(1, { shared: false, capacity: 256 })
					: [createRing({ shared: false, capacity: 256 })];
				const words = new Int32Array(handle!.memory as ArrayBuffer);
				openProducer(handle!).send(filled(60, 1));
				for (const [index, value] of early) words[index] = value;
				typed(() => {
					const consumer = fanIn ? openFanIn([handle!]).consumers[0]! : openConsumer(handle!);
					const producer = openProducer(handle!, { overflow: "drop-newest" });
					const round = (): void => {
						for (let step = 0; step < 40 && consumer.next(); step++) {
							expect(consumer.length).toBeGreaterThanOrEqual(0);
							expect(consumer.offset).toBeGreaterThanOrEqual(HEADER_BYTES + 8);
							expect(consumer.offset + consumer.length).toBeLessThanOrEqual(HEADER_BYTES + 256);
						}
						consumer.release();
						producer.sendBurst([filled(30, 2), filled(90, 3)]);
						producer.stats();
					};
					typed(round);
					for (const [index, value] of late) words[index] = value;
					typed(round);
					typed(round);
					typed(() => void consumer.drain(() => {}));
					typed(() => producer.close());
					typed(() => consumer.close());
				});
				// The page behind the ring belongs to somebody else.
				expect(words.subarray(DATA + 256 / 4).every((value) => value === 0)).toBe(true);
			}),
			{ seed: 8, numRuns: 3000 },
		);
	});

	test("a full ring whose consumer is gone", () => {
		const { producer, consumer } = open({ capacity: 256 });
		consumer.close();
		expect(producer.peerClosed).toBe(true);
		expect(
			code(() => {
				while (producer.send(filled(100, 1)));
			}),
		).toBe("ERR_RING_CLOSED");
	});
});
