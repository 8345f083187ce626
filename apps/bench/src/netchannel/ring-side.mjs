// One end of a ring, a port or a pair of atomics, in a worker that is terminated when the comparison is over: see
// ring.ts.
import { parentPort, workerData } from "node:worker_threads";
import { openConsumer, openProducer } from "@x/netchannel";
import { RingBuffer } from "ringbuf.js";
import { announce, answerTurns, measureAsyncTurns, measureRates, measureTurns, passGate } from "./slices.mjs";

const { role, ring, storage, port, words, bytes, batch, count, joined } = workerData;

/** Records between two looks at the clock. */
const LOOK_EVERY = Math.max(batch, Math.ceil(60_000 / bytes / batch) * batch);

const sides = {
	// One call a batch, every record with a header and a copy of its own, as on the C++ side; a batch of long ones does
	// not fit the scratch area, and costs nothing to walk.
	async produce() {
		await announce();
		const producer = openProducer(ring, { overflow: "block", spin: 1e9 });
		if (!joined) {
			for (;;) {
				for (let count = 0; count < batch; count++) producer.pushScratch(0, bytes);
				producer.publish();
				passGate();
			}
		}
		const { scratch } = producer;
		const table = new Int32Array(scratch.buffer, scratch.byteOffset, batch * 3);
		for (let entry = 0; entry < batch; entry++) table.set([table.byteLength, bytes, 0], entry * 3);
		for (;;) {
			producer.pushBatch(0, batch);
			producer.publish();
			passGate();
		}
	},
	async consume() {
		const consumer = openConsumer(ring, { spin: 100_000 });
		let taken = 0;
		// The ring may hold less than a batch of long records: what was read makes room.
		const done = (count) => {
			taken += count;
			if (count === 0 || taken >= batch) {
				consumer.release();
				taken = 0;
			}
			// Spins, and sleeps only between slices.
			if (count === 0) consumer.wait(1);
			return count;
		};
		await measureRates(
			joined
				? () => done(consumer.copyBatch(0, batch))
				: () => {
						if (!consumer.next()) return done(0);
						consumer.copyToScratch();
						return done(1);
					},
			LOOK_EVERY,
		);
	},
	// The rival moves bytes and knows no batches: a message is a push and a pop. `joined` is what a caller gets who
	// has a whole batch of one size in one buffer already.
	async produceRingbuf() {
		await announce();
		const rival = new RingBuffer(storage, Uint8Array);
		const payload = new Uint8Array(joined ? bytes * batch : bytes);
		for (;;) {
			for (let count = 0; count < (joined ? 1 : batch); count++) {
				while (rival.availableWrite() < payload.length);
				rival.push(payload);
			}
			passGate();
		}
	},
	async consumeRingbuf() {
		const rival = new RingBuffer(storage, Uint8Array);
		const payload = new Uint8Array(joined ? bytes * batch : bytes);
		await measureRates(() => {
			if (rival.availableRead() < payload.length) return 0;
			rival.pop(payload);
			return joined ? batch : 1;
		}, LOOK_EVERY);
	},
	producePort() {
		const payload = new Uint8Array(bytes);
		port.on("message", () => {
			for (let sent = 0; sent < count; sent++) port.postMessage(payload);
		});
	},
	consumePort() {
		let received = 0;
		let started = 0;
		port.on("message", () => {
			if (received === 0) started = performance.now();
			if (++received < count) return;
			parentPort.postMessage({ figure: (count / (performance.now() - started)) * 1000 });
			received = 0;
		});
		parentPort.on("message", () => port.postMessage("go"));
	},
	spinEcho() {
		let turn = 0;
		answerTurns(() => {
			turn++;
			while (Atomics.load(words, 0) !== turn);
			Atomics.store(words, 64, turn);
		});
	},
	spinAsk() {
		let turn = 0;
		measureTurns(() => {
			Atomics.store(words, 0, ++turn);
			while (Atomics.load(words, 64) !== turn);
		});
	},
	// A wait gives the room back before it looks, while the other side is busy: nobody waits for that.
	spinRingEcho() {
		const consumer = openConsumer(ring[0], { spin: 1e9 });
		const producer = openProducer(ring[1]);
		answerTurns(() => {
			consumer.wait();
			consumer.next();
			producer.sendScratch(0, 64);
		});
	},
	spinRingAsk() {
		const producer = openProducer(ring[0]);
		const consumer = openConsumer(ring[1], { spin: 1e9 });
		measureTurns(() => {
			producer.sendScratch(0, 64);
			consumer.wait();
			consumer.next();
		});
	},
	async ringEcho() {
		const consumer = openConsumer(ring[0]);
		const producer = openProducer(ring[1]);
		for (;;) {
			await consumer.waitAsync();
			consumer.next();
			consumer.release();
			producer.sendScratch(0, 64);
		}
	},
	ringAsk() {
		const producer = openProducer(ring[0]);
		const consumer = openConsumer(ring[1]);
		measureAsyncTurns(async () => {
			producer.sendScratch(0, 64);
			await consumer.waitAsync();
			consumer.next();
			consumer.release();
		});
	},
	// What the engine offers, and nothing around it.
	async bareEcho() {
		// A pending wait keeps no event loop going.
		setInterval(() => {}, 2 ** 30);
		for (let turn = 0; ; turn++) {
			const { async, value } = Atomics.waitAsync(words, 0, turn);
			if (async) await value;
			Atomics.add(words, 64, 1);
			Atomics.notify(words, 64);
		}
	},
	bareAsk() {
		let turn = 0;
		measureAsyncTurns(async () => {
			Atomics.add(words, 0, 1);
			Atomics.notify(words, 0);
			const { async, value } = Atomics.waitAsync(words, 64, turn++);
			if (async) await value;
		});
	},
	portEcho() {
		port.on("message", (message) => port.postMessage(message));
	},
	portAsk() {
		const payload = new Uint8Array(64);
		let arrived;
		port.on("message", () => arrived());
		measureAsyncTurns(
			() =>
				new Promise((resolve) => {
					arrived = resolve;
					port.postMessage(payload);
				}),
		);
	},
};

await sides[role]();
