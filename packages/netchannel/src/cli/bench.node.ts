import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";
import { createRing, openConsumer } from "../ring/ring.ts";
import { type CommandIo, EXIT } from "./io.ts";

/** One size's result: messages a second, and how many times as fast the ring is. */
export interface BenchRow {
	readonly bytes: number;
	readonly ringPerSecond: number;
	readonly postMessagePerSecond: number;
	readonly ratio: number;
}

const SIZES = [64, 1500, 65536];
const ROUNDS = 5;
const BATCH = 32;

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

function ended(worker: Worker): Promise<void> {
	return new Promise((resolve, reject) => {
		worker.once("error", reject);
		worker.once("exit", () => resolve());
	});
}

/** Messages a second from a worker into this thread through the ring. */
async function ringRate(sender: URL, bytes: number, messages: number): Promise<number> {
	const ring = createRing({ capacity: 2 ** 21, scratch: 65536 });
	const worker = new Worker(sender, { workerData: { ring, bytes, messages, batch: BATCH } });
	const gone = ended(worker);
	const consumer = openConsumer(ring);
	let received = 0;
	consumer.wait();
	const started = performance.now();
	while (received < messages) {
		if (!consumer.next()) {
			consumer.wait();
			continue;
		}
		consumer.copyToScratch();
		if (++received % BATCH === 0) consumer.release();
	}
	const elapsed = performance.now() - started;
	consumer.close();
	await gone;
	return (messages / elapsed) * 1000;
}

/** The same through a MessagePort, a copy for each message. */
async function portRate(sender: URL, bytes: number, messages: number): Promise<number> {
	const { port1, port2 } = new MessageChannel();
	const worker = new Worker(sender, { workerData: { port: port2, bytes, messages }, transferList: [port2] });
	const gone = ended(worker);
	let received = 0;
	let started = 0;
	await new Promise<void>((resolve) => {
		port1.on("message", () => {
			if (received++ === 0) started = performance.now();
			while (receiveMessageOnPort(port1) !== undefined) received++;
			if (received >= messages) resolve();
		});
	});
	const elapsed = performance.now() - started;
	port1.close();
	await gone;
	return (messages / elapsed) * 1000;
}

/** Compares the ring with postMessage between this thread and a worker: interleaved rounds, medians. */
export async function bench(json: boolean, io: CommandIo): Promise<number> {
	const sender = new URL("./bench-sender.js", import.meta.url);
	const rows: BenchRow[] = [];
	for (const bytes of SIZES) {
		const ring: number[] = [];
		const port: number[] = [];
		for (let round = 0; round < ROUNDS; round++) {
			if (io.signal.aborted) return EXIT.interrupted;
			ring.push(await ringRate(sender, bytes, bytes > 10_000 ? 20_000 : 1_000_000));
			port.push(await portRate(sender, bytes, bytes > 10_000 ? 5000 : 50_000));
		}
		const [ringPerSecond, postMessagePerSecond] = [Math.round(median(ring)), Math.round(median(port))];
		rows.push({
			bytes,
			ringPerSecond,
			postMessagePerSecond,
			ratio: Math.round((10 * ringPerSecond) / postMessagePerSecond) / 10,
		});
		io.err(`${bytes} bytes: ring ${ringPerSecond}/s, postMessage ${postMessagePerSecond}/s`);
	}
	if (json) io.out(`${JSON.stringify({ schemaVersion: 1, rounds: ROUNDS, batch: BATCH, results: rows })}\n`);
	else {
		for (const row of rows)
			io.out(`${String(row.bytes).padStart(6)} bytes  ${String(row.ratio).padStart(6)} times postMessage\n`);
	}
	return EXIT.ok;
}
