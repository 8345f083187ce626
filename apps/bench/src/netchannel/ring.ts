/** The ring between two workers against its rivals. */
import { execFileSync } from "node:child_process";
import { MessageChannel, Worker } from "node:worker_threads";
import { createRing, type RingHandle } from "@x/netchannel";
import { RingBuffer } from "ringbuf.js";
import { interleave, type Report, type Row, type Side } from "../suite.ts";

const script = new URL("./ring-side.mjs", import.meta.url);
const BATCH = 32;

type Data = Record<string, unknown>;

/**
 * How long and how often a spinning side is measured: see clean-windows.mjs. The windows are shorter than a turn of the
 * kernel's scheduler, so that a busy machine has clean ones too.
 */
const WINDOWS = { windowMs: 0.5, wanted: 100, budgetMs: 2000 };

/** Starts both ends, and returns what the second posts. */
async function pair<T>(first: Data, second: Data): Promise<T> {
	const workers = [first, second].map((workerData) => {
		const transferList = workerData["port"] === undefined ? [] : [workerData["port"] as MessagePort];
		return new Worker(script, { workerData, transferList: transferList as never, execArgv: [] });
	});
	try {
		return await new Promise<T>((resolve, reject) => {
			for (const worker of workers) worker.once("error", reject);
			workers[1]!.once("message", resolve);
		});
	} finally {
		await Promise.all(workers.map((worker) => worker.terminate()));
	}
}

interface Measured {
	rate: number;
	/** Windows in which both sides had a processor each, and windows in all. */
	clean?: number;
	windows?: number;
}

/** Fewer clean windows than this say nothing. */
const ENOUGH = 10;
const TRIES = 3;

/** Runs a side, again when the machine was too busy, and keeps count of the windows that were worth something. */
class Tally {
	clean = 0;
	windows = 0;
	poor = 0;

	async take(run: () => Measured | Promise<Measured>): Promise<number> {
		let best: Measured = { rate: 0, clean: -1 };
		for (let attempt = 0; attempt < TRIES && best.clean! < ENOUGH; attempt++) {
			const measured = await run();
			this.clean += measured.clean!;
			this.windows += measured.windows!;
			if (measured.clean! > best.clean!) best = measured;
		}
		if (best.clean! < ENOUGH) this.poor++;
		return best.rate;
	}
}

function rateSides(bytes: number, peer: string | undefined, tally: Tally): Side[] {
	const capacity = bytes > 10_000 ? 2 ** 21 : 2 ** 20;
	const common = (): Data => ({
		bytes,
		batch: BATCH,
		windows: WINDOWS,
		control: new Int32Array(new SharedArrayBuffer(128)),
	});
	const spinning = (ends: () => [producer: Data, consumer: Data]): Promise<number> =>
		tally.take(() => {
			const both = common();
			const [producer, consumer] = ends();
			return pair<Measured>({ ...both, ...producer }, { ...both, ...consumer });
		});
	const ringbuf = (joined: boolean) => (): Promise<number> =>
		spinning(() => {
			const storage = RingBuffer.getStorageForCapacity(capacity, Uint8Array);
			return [
				{ role: "produceRingbuf", storage, joined },
				{ role: "consumeRingbuf", storage, joined },
			];
		});
	const sides: Side[] = [
		{
			name: "ours",
			run: () =>
				spinning(() => {
					const ring = createRing({ capacity, scratch: 65536 });
					const joined = bytes * BATCH < 60_000;
					return [
						{ role: "produce", ring, joined },
						{ role: "consume", ring, joined },
					];
				}),
		},
		{ name: "ringbuf.js", run: ringbuf(false) },
		{
			name: "postMessage",
			run: async () => {
				const { port1, port2 } = new MessageChannel();
				const count = bytes > 10_000 ? 3000 : 40_000;
				const both = { ...common(), count };
				const { rate } = await pair<Measured>(
					{ ...both, role: "producePort", port: port1 },
					{ ...both, role: "consumePort", port: port2 },
				);
				return rate;
			},
		},
	];
	if (bytes * BATCH < capacity) sides.push({ name: "ringbuf.js, joined", run: ringbuf(true) });
	if (peer !== undefined) {
		const { windowMs, wanted, budgetMs } = WINDOWS;
		const words = ["spsc", bytes, BATCH, capacity, windowMs, wanted, budgetMs].map(String);
		sides.push({
			name: "C++",
			run: () =>
				tally.take(() => {
					const [rate, clean, windows] = execFileSync(peer, words, { encoding: "utf8" }).split(" ").map(Number);
					return { rate: rate!, clean: clean!, windows: windows! };
				}),
		});
	}
	return sides;
}

const AIMS: Record<number, Record<string, number>> = {
	64: { "ringbuf.js": 10, postMessage: 60, "C++": 0.5 },
	1500: { "ringbuf.js": 15, "C++": 0.85 },
	65536: { "C++": 0.95 },
};

/** Throughput by size, as ratios. */
export async function ringThroughput(report: Report, peer: string | undefined): Promise<void> {
	const rows: Row[] = [];
	for (const bytes of [64, 1500, 65536]) {
		const tally = new Tally();
		const figures = await interleave(rateSides(bytes, peer, tally));
		const ours = figures.get("ours")!;
		for (const rival of ["ringbuf.js", "ringbuf.js, joined", "postMessage", "C++"]) {
			const rate = figures.get(rival);
			const aim = AIMS[bytes]![rival];
			rows.push({
				bytes,
				"ours over": rival,
				ratio: rate === undefined ? "skipped" : Number((ours / rate).toFixed(2)),
				aim: aim === undefined ? "-" : `${aim} or more`,
				"ours, million/s": Number((ours / 1e6).toFixed(3)),
				"rival, million/s": rate === undefined ? "skipped" : Number((rate / 1e6).toFixed(3)),
			});
		}
		const doubt = tally.poor === 0 ? "" : `; in ${tally.poor} runs fewer than ${ENOUGH}, so do not trust the medians`;
		report.note(`ring, ${bytes} bytes: ${tally.clean} of ${tally.windows} windows had both processors${doubt}`);
	}
	report.table(`Ring between two workers, batches of ${BATCH}`, rows);
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
				return pair<number>({ role: "spinRingEcho", ring, count: spins }, { role: "spinRingAsk", ring, count: spins });
			},
		},
		{
			name: "JS atomics",
			run: () => {
				const words = new Int32Array(new SharedArrayBuffer(1024));
				return pair<number>({ role: "spinEcho", words, count: spins }, { role: "spinAsk", words, count: spins });
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
				return pair<number>({ role: "ringEcho", ring, count: sleeps }, { role: "ringAsk", ring, count: sleeps });
			},
		},
		{
			name: "MessagePort",
			run: () => {
				const { port1, port2 } = new MessageChannel();
				return pair<number>(
					{ role: "portEcho", port: port1, count: sleeps },
					{ role: "portAsk", port: port2, count: sleeps },
				);
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
