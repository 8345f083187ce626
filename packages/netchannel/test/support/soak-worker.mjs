// One end of a ring under stress, in a worker of Node.js or of a browser. Told by a message:
// { role, ring, count, seed, library }; answers { errors, ... }.

const SIZES = 9001;

function generator(seed) {
	let state = seed | 0 || 1;
	return () => {
		state ^= state << 13;
		state ^= state >>> 17;
		state ^= state << 5;
		return state >>> 0;
	};
}

/** What the payloads are cut from: both sides make the same. */
function pool() {
	const next = generator(12345);
	return Uint8Array.from({ length: 65536 }, () => next());
}

/** Over words, and the bytes behind the last: ten million records must not take an hour. */
function checksum(words, bytes, from, length) {
	let a = 1;
	let b = 0;
	const first = from >> 2;
	const last = first + (length >> 2);
	for (let at = first; at < last; at++) {
		a = (a + words[at]) | 0;
		b = (b + a) | 0;
	}
	for (let at = last << 2; at < from + length; at++) {
		a = (a + bytes[at]) | 0;
		b = (b + a) | 0;
	}
	return (a ^ Math.imul(b, 0x9e3779b1)) | 0;
}

async function run({ role, ring, count, seed, library }) {
	const { openProducer, openConsumer } = await import(library);
	const stall = generator(seed + (role === "producer" ? 1 : 2));
	const lengths = generator(seed);
	const pause = () => {
		const draw = stall();
		if (draw % 5000 === 0) {
			const until = performance.now() + ((draw >>> 16) % 3);
			while (performance.now() < until);
		}
		return draw;
	};
	let errors = 0;
	if (role === "producer") {
		const producer = openProducer(ring, { overflow: "block" });
		const source = pool();
		const sourceWords = new Int32Array(source.buffer);
		const header = new DataView(producer.bytes.buffer);
		const largest = Math.min(SIZES, producer.maxLength - 8);
		for (let index = 0; index < count; index++) {
			const length = lengths() % largest;
			const from = (lengths() % (source.length - largest)) & ~3;
			let at = producer.reserve(8 + length);
			while (at < 0) {
				producer.waitWritable(8 + length);
				at = producer.reserve(8 + length);
			}
			producer.bytes.set(source.subarray(from, from + length), at + 8);
			header.setInt32(at, index, true);
			header.setInt32(at + 4, checksum(sourceWords, source, from, length), true);
			producer.commit(8 + length, index ^ length);
			if (pause() % 7 === 0) producer.publish();
		}
		producer.close();
		return { role, errors, stats: producer.stats() };
	}
	const consumer = openConsumer(ring);
	const source = pool();
	const largest = Math.min(SIZES, consumer.bytes.length);
	const words = new Int32Array(consumer.bytes.buffer);
	const header = new DataView(consumer.bytes.buffer);
	const size = Math.min(largest, words[2] / 2 - 16);
	for (let index = 0; index < count; index++) {
		while (!consumer.next()) {
			if (!consumer.wait(20_000) && !consumer.readable) throw new Error(`hang: no record ${index} within 20 s`);
		}
		const length = lengths() % size;
		lengths() % (source.length - size);
		const { offset } = consumer;
		const sum = checksum(words, consumer.bytes, offset + 8, consumer.length - 8);
		if (
			consumer.length !== 8 + length ||
			header.getInt32(offset, true) !== index ||
			consumer.meta !== (index ^ length) ||
			header.getInt32(offset + 4, true) !== sum
		)
			errors++;
		if (pause() % 5 === 0) consumer.release();
	}
	consumer.release();
	return { role, errors, stats: consumer.stats() };
}

if (typeof process === "object" && process.versions?.node !== undefined) {
	const { parentPort } = await import("node:worker_threads");
	parentPort.once("message", (message) => {
		run(message).then(
			(result) => parentPort.postMessage(result),
			(error) => parentPort.postMessage({ failure: String(error?.stack ?? error) }),
		);
	});
} else {
	globalThis.onmessage = ({ data }) => {
		run(data).then(
			(result) => globalThis.postMessage(result),
			(error) => globalThis.postMessage({ failure: String(error?.stack ?? error) }),
		);
	};
}
