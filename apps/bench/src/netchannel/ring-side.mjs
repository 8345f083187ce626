// One end of a ring, a port or a pair of atomics, in a worker: see ring.ts.
import { parentPort, workerData } from "node:worker_threads";
import { openConsumer, openProducer } from "@x/netchannel";
import { RingBuffer } from "ringbuf.js";

const { role, ring, storage, port, words, bytes, batch, count } = workerData;

/**
 * The rate of the best of many windows. Two threads that spin need two whole cores, which a busy machine gives for
 * moments only: every spinning side, C++ too, is judged by its best window, each of at least ten ring-fulls.
 */
function windows() {
	const size = Math.floor(count / 160);
	let best = 0;
	let seen = 0;
	let since = 0;
	return (received) => {
		if (received === 0) since = performance.now();
		if (received - seen < size) return best;
		const now = performance.now();
		best = Math.max(best, ((received - seen) / (now - since)) * 1000);
		seen = received;
		since = now;
		return best;
	};
}

const sides = {
	produce() {
		const producer = openProducer(ring, { overflow: "block", spin: 1e9 });
		for (let sent = 0; sent < count; sent++) {
			producer.pushScratch(0, bytes);
			if (sent % batch === batch - 1) producer.publish();
		}
		producer.publish();
	},
	consume() {
		const consumer = openConsumer(ring);
		const measure = windows();
		let rate = 0;
		for (let received = 0; received < count; ) {
			if (!consumer.next()) continue;
			if (received === 0) measure(0);
			consumer.copyToScratch();
			if (++received % batch !== 0) continue;
			consumer.release();
			rate = measure(received);
		}
		consumer.release();
		parentPort.postMessage(rate);
	},
	// The rival moves bytes, not records: a whole batch is one push, which spares it the bookkeeping of each.
	produceRingbuf() {
		const rival = new RingBuffer(storage, Uint8Array);
		const payload = new Uint8Array(bytes * batch);
		for (let sent = 0; sent < count; sent += batch) {
			while (rival.availableWrite() < payload.length);
			rival.push(payload);
		}
	},
	consumeRingbuf() {
		const rival = new RingBuffer(storage, Uint8Array);
		const payload = new Uint8Array(bytes * batch);
		const measure = windows();
		let rate = 0;
		for (let received = 0; received < count; received += batch) {
			while (rival.availableRead() < payload.length);
			rate = measure(received);
			rival.pop(payload);
		}
		parentPort.postMessage(measure(count) || rate);
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
			parentPort.postMessage((count / (performance.now() - started)) * 1000);
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
		const times = new Float64Array(count);
		for (let turn = 1; turn <= count; turn++) {
			const start = performance.now();
			Atomics.store(words, 0, turn);
			while (Atomics.load(words, 64) !== turn);
			times[turn - 1] = performance.now() - start;
		}
		parentPort.postMessage(times.sort()[count >> 1] * 1000);
	},
	async ringEcho() {
		const consumer = openConsumer(ring[0], { spin: 0 });
		const producer = openProducer(ring[1]);
		for (let turn = 0; turn < count; turn++) {
			if (!consumer.readable) await consumer.waitAsync();
			consumer.next();
			consumer.release();
			producer.pushScratch(0, 64);
			producer.publish();
		}
	},
	async ringAsk() {
		const producer = openProducer(ring[0]);
		const consumer = openConsumer(ring[1], { spin: 0 });
		const times = new Float64Array(count);
		for (let turn = 0; turn < count; turn++) {
			const start = performance.now();
			producer.pushScratch(0, 64);
			producer.publish();
			await consumer.waitAsync();
			consumer.next();
			consumer.release();
			times[turn] = performance.now() - start;
		}
		parentPort.postMessage(times.sort()[count >> 1] * 1000);
	},
	spinRingEcho() {
		const consumer = openConsumer(ring[0]);
		const producer = openProducer(ring[1]);
		for (let turn = 0; turn < count; turn++) {
			while (!consumer.next());
			consumer.release();
			producer.pushScratch(0, 64);
			producer.publish();
		}
	},
	spinRingAsk() {
		const producer = openProducer(ring[0]);
		const consumer = openConsumer(ring[1]);
		const times = new Float64Array(count);
		for (let turn = 0; turn < count; turn++) {
			const start = performance.now();
			producer.pushScratch(0, 64);
			producer.publish();
			while (!consumer.next());
			consumer.release();
			times[turn] = performance.now() - start;
		}
		parentPort.postMessage(times.sort()[count >> 1] * 1000);
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
