/** The ring between two workers against its rivals. */
import { execFileSync } from "node:child_process";
import { MessageChannel, Worker } from "node:worker_threads";
import { createRing, type RingHandle } from "@x/netchannel";
import { RingBuffer } from "ringbuf.js";
import { interleave, type Report, type Row, type Side } from "../suite.ts";

const script = new URL("./ring-side.mjs", import.meta.url);
const BATCH = 32;

type Data = Record<string, unknown>;

/** Starts both ends, and returns the figure the second posts. */
async function pair(first: Data, second: Data): Promise<number> {
	const workers = [first, second].map((workerData) => {
		const transferList = workerData["port"] === undefined ? [] : [workerData["port"] as MessagePort];
		return new Worker(script, { workerData, transferList: transferList as never, execArgv: [] });
	});
	const ends = workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve)));
	const figure = await new Promise<number>((resolve, reject) => {
		for (const worker of workers) worker.once("error", reject);
		workers[1]!.once("message", resolve);
	});
	await Promise.all(ends);
	return figure;
}

/** The better of two runs: a busy machine makes single ones poor. */
const best = async (run: () => Promise<number>): Promise<number> => Math.max(await run(), await run());

function rateSides(bytes: number, peer: string | undefined): Side[] {
	const scale = bytes > 10_000 ? 51_200 : bytes > 1000 ? 320_000 : 3_200_000;
	const capacity = bytes > 10_000 ? 2 ** 21 : bytes > 1000 ? 2 ** 18 : 2 ** 17;
	const common = { bytes, batch: BATCH };
	const sides: Side[] = [
		{
			name: "ours",
			run: () =>
				best(() => {
					const ring = createRing({ capacity, scratch: 65536 });
					return pair(
						{ ...common, role: "produce", ring, count: scale },
						{ ...common, role: "consume", ring, count: scale },
					);
				}),
		},
		{
			name: "ringbuf.js",
			run: () =>
				best(() => {
					const storage = RingBuffer.getStorageForCapacity(2 * bytes * BATCH, Uint8Array);
					const count = Math.ceil(scale / 16 / BATCH) * BATCH;
					return pair(
						{ ...common, role: "produceRingbuf", storage, count },
						{ ...common, role: "consumeRingbuf", storage, count },
					);
				}),
		},
		{
			name: "postMessage",
			run: () =>
				best(() => {
					const { port1, port2 } = new MessageChannel();
					const count = bytes > 10_000 ? 5000 : 50_000;
					return pair(
						{ ...common, role: "producePort", port: port1, count },
						{ ...common, role: "consumePort", port: port2, count },
					);
				}),
		},
	];
	if (peer !== undefined) {
		sides.push({
			name: "C++",
			run: () =>
				best(async () =>
					Number(
						execFileSync(peer, ["spsc", String(bytes), String(BATCH), String(scale), String(capacity)], {
							encoding: "utf8",
						}),
					),
				),
		});
	}
	return sides;
}

/** Throughput by size, as ratios. */
export async function ringThroughput(report: Report, peer: string | undefined): Promise<void> {
	const rows: Row[] = [];
	for (const bytes of [64, 1500, 65536]) {
		const figures = await interleave(rateSides(bytes, peer));
		const ours = figures.get("ours")!;
		const ratio = (name: string): string | number =>
			figures.has(name) ? Number((ours / figures.get(name)!).toFixed(2)) : "skipped";
		rows.push({
			bytes,
			"ours, million/s": Number((ours / 1e6).toFixed(3)),
			"x ringbuf.js": ratio("ringbuf.js"),
			"x postMessage": ratio("postMessage"),
			"x C++ memcpy": ratio("C++"),
		});
		report.note(
			`ring, ${bytes} bytes: ${[...figures].map(([name, rate]) => `${name} ${Math.round(rate)}/s`).join(", ")}`,
		);
	}
	report.table(
		"Ring between two workers, batches of 32 (times the rival; targets 64 B: 10, 60, 0.5; 1500 B: 15, -, 0.85; 64 KiB: -, -, 0.95)",
		rows,
	);
}

/** Round trips, as ratios. */
export async function ringRoundTrip(report: Report, peer: string | undefined): Promise<void> {
	const rings = (): RingHandle[] => [
		createRing({ capacity: 65536, scratch: 128 }),
		createRing({ capacity: 65536, scratch: 128 }),
	];
	const spins = 50_000;
	const sleeps = 3000;
	const sides: Side[] = [
		{
			name: "ring, spinning",
			run: () => {
				const ring = rings();
				return pair({ role: "spinRingEcho", ring, count: spins }, { role: "spinRingAsk", ring, count: spins });
			},
		},
		{
			name: "JS atomics",
			run: () => {
				const words = new Int32Array(new SharedArrayBuffer(1024));
				return pair({ role: "spinEcho", words, count: spins }, { role: "spinAsk", words, count: spins });
			},
		},
		...(peer === undefined
			? []
			: [
					{
						name: "C++ atomics",
						run: () => Number(execFileSync(peer, ["pingpong", String(spins)], { encoding: "utf8" })),
					},
				]),
		{
			name: "ring, waitAsync",
			run: () => {
				const ring = rings();
				return pair({ role: "ringEcho", ring, count: sleeps }, { role: "ringAsk", ring, count: sleeps });
			},
		},
		{
			name: "MessagePort",
			run: () => {
				const { port1, port2 } = new MessageChannel();
				return pair({ role: "portEcho", port: port1, count: sleeps }, { role: "portAsk", port: port2, count: sleeps });
			},
		},
	];
	const figures = await interleave(sides);
	const over = (name: string, rival: string): string | number =>
		figures.has(rival) ? Number((figures.get(name)! / figures.get(rival)!).toFixed(2)) : "skipped";
	report.note([...figures].map(([name, us]) => `${name} ${us.toFixed(2)} us`).join(", "));
	report.table("Round trip of 64 bytes (times the rival's, smaller is better)", [
		{ what: "ring spinning / C++ atomics", ratio: over("ring, spinning", "C++ atomics"), target: "2 or less" },
		{ what: "bare JS atomics / C++ atomics", ratio: over("JS atomics", "C++ atomics"), target: "-" },
		{ what: "ring waitAsync / MessagePort", ratio: over("ring, waitAsync", "MessagePort"), target: "1 or less" },
	]);
}
