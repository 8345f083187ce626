// One end of a ring, a port or a pair of atomics, in a worker that is terminated once the other has its figure: see
// ring.ts.
import { parentPort, workerData } from "node:worker_threads";
import { openConsumer, openProducer } from "@x/netchannel";
import { RingBuffer } from "ringbuf.js";
import { announce, cleanWindows } from "./clean-windows.mjs";

const { role, ring, storage, port, words, bytes, batch, count, control, windows, joined } = workerData;

/** Records between two looks at the clock. */
const LOOK_EVERY = Math.max(batch, Math.ceil(60_000 / bytes / batch) * batch);

/** Turns between two looks at the clock, which takes as long as half a turn. */
const GROUP = 50;

/** Posts the median over groups of `count` turns, in microseconds. */
function roundTrips(turn) {
	const times = new Float64Array(count / GROUP);
	for (let group = 0; group < times.length; group++) {
		const start = performance.now();
		for (let index = 0; index < GROUP; index++) turn();
		times[group] = (performance.now() - start) / GROUP;
	}
	parentPort.postMessage(times.sort()[times.length >> 1] * 1000);
}

const sides = {
	// One call a batch, every record with a header and a copy of its own, as on the C++ side; a batch of long ones does
	// not fit the scratch area, and costs nothing to walk.
	async produce() {
		await announce(control);
		const producer = openProducer(ring, { overflow: "block", spin: 1e9 });
		if (!joined) {
			for (;;) {
				for (let count = 0; count < batch; count++) producer.pushScratch(0, bytes);
				producer.publish();
			}
		}
		const { scratch } = producer;
		const table = new Int32Array(scratch.buffer, scratch.byteOffset, batch * 3);
		for (let entry = 0; entry < batch; entry++) table.set([table.byteLength, bytes, 0], entry * 3);
		for (;;) {
			producer.pushBatch(0, batch);
			producer.publish();
		}
	},
	async consume() {
		const consumer = openConsumer(ring);
		const measure = await cleanWindows(control, windows);
		let look = LOOK_EVERY;
		for (let received = 0, result; result === undefined; ) {
			if (joined) {
				received += consumer.copyBatch(0, batch);
				consumer.release();
			} else if (!consumer.next()) {
				// The ring may hold less than a batch of long records: what was read makes room.
				consumer.release();
				continue;
			} else {
				consumer.copyToScratch();
				if (++received % batch !== 0) continue;
				consumer.release();
			}
			if (received < look) continue;
			look = received + LOOK_EVERY;
			if ((result = measure(received)) !== undefined) parentPort.postMessage(result);
		}
	},
	// The rival moves bytes and knows no batches: a message is a push and a pop. `joined` is what a caller gets who
	// has a whole batch of one size in one buffer already.
	async produceRingbuf() {
		await announce(control);
		const rival = new RingBuffer(storage, Uint8Array);
		const payload = new Uint8Array(joined ? bytes * batch : bytes);
		for (;;) {
			while (rival.availableWrite() < payload.length);
			rival.push(payload);
		}
	},
	async consumeRingbuf() {
		const rival = new RingBuffer(storage, Uint8Array);
		const payload = new Uint8Array(joined ? bytes * batch : bytes);
		const measure = await cleanWindows(control, windows);
		for (let received = 0, result; result === undefined; ) {
			while (rival.availableRead() < payload.length);
			rival.pop(payload);
			received += joined ? batch : 1;
			if (received % LOOK_EVERY === 0 && (result = measure(received)) !== undefined) parentPort.postMessage(result);
		}
	},
	producePort() {
		const payload = new Uint8Array(bytes);
		for (let sent = 0; sent < count; sent++) port.postMessage(payload);
		port.once("message", () => port.close());
	},
	consumePort() {
		let received = 0;
		let started = 0;
		port.on("message", () => {
			if (received === 0) started = performance.now();
			if (++received < count) return;
			parentPort.postMessage({ rate: (count / (performance.now() - started)) * 1000 });
			port.postMessage("done");
			port.close();
		});
	},
	spinEcho() {
		for (let turn = 1; turn <= count; turn++) {
			while (Atomics.load(words, 0) !== turn);
			Atomics.store(words, 64, turn);
		}
	},
	spinAsk() {
		let turn = 0;
		roundTrips(() => {
			Atomics.store(words, 0, ++turn);
			while (Atomics.load(words, 64) !== turn);
		});
	},
	async ringEcho() {
		const consumer = openConsumer(ring[0], { spin: 0 });
		const producer = openProducer(ring[1]);
		for (let turn = 0; turn < count; turn++) {
			if (!consumer.readable) await consumer.waitAsync();
			consumer.next();
			consumer.release();
			producer.sendScratch(0, 64);
		}
	},
	async ringAsk() {
		const producer = openProducer(ring[0]);
		const consumer = openConsumer(ring[1], { spin: 0 });
		const times = new Float64Array(count);
		for (let turn = 0; turn < count; turn++) {
			const start = performance.now();
			producer.sendScratch(0, 64);
			await consumer.waitAsync();
			consumer.next();
			consumer.release();
			times[turn] = performance.now() - start;
		}
		parentPort.postMessage(times.sort()[count >> 1] * 1000);
	},
	// A wait gives the room back before it looks, while the other side is busy: nobody waits for that.
	spinRingEcho() {
		const consumer = openConsumer(ring[0], { spin: 1e9 });
		const producer = openProducer(ring[1]);
		for (let turn = 0; turn < count; turn++) {
			consumer.wait();
			consumer.next();
			producer.sendScratch(0, 64);
		}
	},
	spinRingAsk() {
		const producer = openProducer(ring[0]);
		const consumer = openConsumer(ring[1], { spin: 1e9 });
		roundTrips(() => {
			producer.sendScratch(0, 64);
			consumer.wait();
			consumer.next();
		});
	},
	portEcho() {
		port.on("message", (message) => {
			if (message === "done") port.close();
			else port.postMessage(message);
		});
	},
	portAsk() {
		const payload = new Uint8Array(64);
		const times = new Float64Array(count);
		let turn = 0;
		let start = performance.now();
		port.on("message", () => {
			times[turn++] = performance.now() - start;
			if (turn < count) {
				start = performance.now();
				port.postMessage(payload);
				return;
			}
			port.postMessage("done");
			port.close();
			parentPort.postMessage(times.sort()[count >> 1] * 1000);
		});
		port.postMessage(payload);
	},
};

await sides[role]();
