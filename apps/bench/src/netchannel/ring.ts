/** The ring between two workers against its rivals. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { createRing, type RingHandle } from "@x/netchannel";
import { RingBuffer } from "ringbuf.js";
import { median, type Report, type Row } from "../suite.ts";

const script = new URL("./ring-side.mjs", import.meta.url);
const BATCH = 32;
const ROUNDS = 5;
/** Turns of every side in a round. */
const TURNS = 6;
const SLICE_MS = 60;
/** Shorter than a turn of the kernel's scheduler, so that a busy machine has clean windows too. */
const WINDOW_MS = 0.5;
/** Fewer clean windows than this say nothing. */
const ENOUGH = 10;

type Data = Record<string, unknown>;

interface Slice {
	readonly figure: number;
	/** Windows in which both threads had a processor each, and windows in all. */
	readonly clean?: number;
	readonly windows?: number;
}

/** A side that is there all the time, and asleep but when its turn comes. */
interface Standing {
	readonly name: string;
	/** Runs for as long as `budget` says: milliseconds, or a count. */
	slice(budget: number): Promise<Slice>;
	close(): Promise<void>;
}

/** Two workers; the second measures, and is asked for each slice. */
function workers(name: string, first: Data, second: Data): Standing {
	const control = new Int32Array(new SharedArrayBuffer(128));
	const both = [first, second].map((data) => {
		const transferList = data["port"] === undefined ? [] : [data["port"] as MessagePort];
		const workerData = { control, windowMs: WINDOW_MS, batch: BATCH, ...data };
		return new Worker(script, { workerData, transferList, execArgv: [] });
	});
	return {
		name,
		slice: (budget) =>
			new Promise((resolve, reject) => {
				for (const worker of both) worker.removeAllListeners("error").once("error", reject);
				both[1]!.once("message", resolve);
				both[1]!.postMessage(budget);
			}),
		close: async () => {
			await Promise.all(both.map((worker) => worker.terminate()));
		},
	};
}

/** The C++ program, which gets a line for each slice. */
function program(name: string, peer: string, words: readonly (string | number)[]): Standing {
	const child: ChildProcess = spawn(peer, words.map(String), { stdio: ["pipe", "pipe", "inherit"] });
	const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
	return {
		name,
		slice: async (budget) => {
			child.stdin!.write(`${budget}\n`);
			const line = await lines.next();
			if (line.done === true) throw new Error(`${name} ended`);
			const [figure, clean, windows] = line.value.split(" ").map(Number);
			return clean === undefined ? { figure: figure! } : { figure: figure!, clean, windows: windows! };
		},
		close: async () => {
			const gone = once(child, "exit");
			child.stdin!.end();
			await gone;
		},
	};
}

/** What came of one side: its ratio to the first in each round, and its own figure. */
interface Outcome {
	/** Medians over a round's turns of the first side's figure over this one's. */
	readonly ratios: number[];
	readonly figures: number[];
}

/**
 * Lets the sides take short turns, the order reversed every other time, so that a pair of figures was taken within a
 * tenth of a second: what the host does with our processors changes more slowly, and the ratio of a pair does not know
 * of it. A round's ratio is the median of its pairs'.
 */
async function takeTurns(
	sides: readonly (Standing & { budget: number })[],
	tally?: { clean: number; windows: number; poor: number },
): Promise<Map<string, Outcome>> {
	const outcomes = new Map(sides.map(({ name }): [string, Outcome] => [name, { ratios: [], figures: [] }]));
	const measure = async (side: Standing & { budget: number }): Promise<number> => {
		const { figure, clean = ENOUGH, windows = ENOUGH } = await side.slice(side.budget);
		if (tally !== undefined && side.budget === SLICE_MS) {
			tally.clean += clean;
			tally.windows += windows;
			if (clean < ENOUGH) tally.poor++;
		}
		return clean < ENOUGH ? Number.NaN : figure;
	};
	try {
		for (let warm = 0; warm < 3; warm++) for (const side of sides) await side.slice(side.budget * 2);
		for (let round = 0; round < ROUNDS; round++) {
			const pairs = new Map(sides.map(({ name }): [string, number[]] => [name, []]));
			for (let turn = 0; turn < TURNS; turn++) {
				const figures = new Map<string, number>();
				for (const side of turn % 2 === 0 ? sides : sides.toReversed()) figures.set(side.name, await measure(side));
				const ours = figures.get(sides[0]!.name)!;
				for (const [name, figure] of figures) {
					if (Number.isNaN(figure)) continue;
					outcomes.get(name)!.figures.push(figure);
					if (!Number.isNaN(ours)) pairs.get(name)!.push(ours / figure);
				}
			}
			for (const [name, ratios] of pairs) if (ratios.length > 0) outcomes.get(name)!.ratios.push(median(ratios));
		}
	} finally {
		await Promise.all(sides.map((side) => side.close()));
	}
	return outcomes;
}

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
const ratioOf = (outcome: Outcome | undefined): string | number =>
	outcome === undefined || outcome.ratios.length === 0 ? "skipped" : round(median(outcome.ratios));
const rangeOf = (outcome: Outcome | undefined): string =>
	outcome === undefined || outcome.ratios.length === 0
		? "-"
		: `${round(Math.min(...outcome.ratios))}-${round(Math.max(...outcome.ratios))}`;

function rateSides(bytes: number, peer: string | undefined): (Standing & { budget: number })[] {
	const capacity = bytes > 10_000 ? 2 ** 21 : 2 ** 20;
	const ring = createRing({ capacity, scratch: 65536 });
	const mode = { bytes, ring, joined: bytes * BATCH < 60_000 };
	const ringbuf = (name: string, joined: boolean): Standing => {
		const storage = RingBuffer.getStorageForCapacity(capacity, Uint8Array);
		const data = { bytes, storage, joined };
		return workers(name, { ...data, role: "produceRingbuf" }, { ...data, role: "consumeRingbuf" });
	};
	const { port1, port2 } = new MessageChannel();
	const posts = { bytes, count: bytes > 10_000 ? 500 : 5000 };
	const sides: Standing[] = [
		workers("ours", { ...mode, role: "produce" }, { ...mode, role: "consume" }),
		...(peer === undefined ? [] : [program("C++", peer, ["spsc", bytes, BATCH, capacity, WINDOW_MS])]),
		ringbuf("ringbuf.js", false),
		...(bytes * BATCH < capacity ? [ringbuf("ringbuf.js, joined", true)] : []),
		workers(
			"postMessage",
			{ ...posts, role: "producePort", port: port1 },
			{ ...posts, role: "consumePort", port: port2 },
		),
	];
	return sides.map((side) => ({ ...side, budget: side.name === "postMessage" ? 1 : SLICE_MS }));
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
		const tally = { clean: 0, windows: 0, poor: 0 };
		const outcomes = await takeTurns(rateSides(bytes, peer), tally);
		const millions = (name: string): string | number => {
			const figures = outcomes.get(name)?.figures ?? [];
			return figures.length === 0 ? "skipped" : round(median(figures) / 1e6, 3);
		};
		for (const rival of ["ringbuf.js", "ringbuf.js, joined", "postMessage", "C++"]) {
			const aim = AIMS[bytes]![rival];
			rows.push({
				bytes,
				"ours over": rival,
				ratio: ratioOf(outcomes.get(rival)),
				"of the rounds": rangeOf(outcomes.get(rival)),
				aim: aim === undefined ? "-" : `${aim} or more`,
				"ours, million/s": millions("ours"),
				"rival, million/s": millions(rival),
			});
		}
		const [cpp, rival] = ["C++", "ringbuf.js"].map((name) => outcomes.get(name)?.figures ?? []);
		if (cpp!.length > 0 && rival!.length > 0) {
			const times = round(median(cpp!) / median(rival!), 1);
			report.note(`ring, ${bytes} bytes: C++ itself was ${times} times as fast as ringbuf.js`);
		}
		const doubt = tally.poor === 0 ? "" : `; ${tally.poor} slices had fewer than ${ENOUGH} and were left out`;
		report.note(`ring, ${bytes} bytes: ${tally.clean} of ${tally.windows} windows had both processors${doubt}`);
	}
	report.table(`Ring between two workers, batches of ${BATCH}`, rows);
}

const SPINS = 20_000;
const SLEEPS = 300;

/** Round trips, as ratios. */
export async function ringRoundTrip(report: Report, peer: string | undefined): Promise<void> {
	const rings = (): RingHandle[] => [
		createRing({ capacity: 65536, scratch: 128 }),
		createRing({ capacity: 65536, scratch: 128 }),
	];
	const pair = (name: string, echo: string, ask: string, data: Data): Standing =>
		workers(name, { ...data, role: echo }, { ...data, role: ask });
	const words = (): Data => ({ words: new Int32Array(new SharedArrayBuffer(1024)) });
	const spinning = await takeTurns(
		[
			pair("ring, spinning", "spinRingEcho", "spinRingAsk", { ring: rings() }),
			...(peer === undefined ? [] : [program("C++ atomics", peer, ["pingpong"])]),
			pair("JS atomics", "spinEcho", "spinAsk", words()),
		].map((side) => ({ ...side, budget: SPINS })),
	);
	const { port1, port2 } = new MessageChannel();
	const sleeping = await takeTurns(
		[
			pair("ring, waitAsync", "ringEcho", "ringAsk", { ring: rings() }),
			workers("MessagePort", { role: "portEcho", port: port1 }, { role: "portAsk", port: port2 }),
			pair("bare Atomics.waitAsync", "bareEcho", "bareAsk", words()),
		].map((side) => ({ ...side, budget: SLEEPS })),
	);
	const outcomes = [...spinning, ...sleeping];
	report.note(outcomes.map(([name, { figures }]) => `${name} ${median(figures).toFixed(2)} us`).join(", "));
	const row = (ours: string, rival: string, from: Map<string, Outcome>, aim: string): Row => ({
		what: `${ours} / ${rival}`,
		ratio: ratioOf(from.get(rival)),
		"of the rounds": rangeOf(from.get(rival)),
		aim,
	});
	report.table("Round trip of 64 bytes (times the rival's, smaller is better)", [
		row("ring, spinning", "C++ atomics", spinning, "2 or less"),
		row("ring, spinning", "JS atomics", spinning, "-"),
		row("ring, waitAsync", "MessagePort", sleeping, "1 or less"),
		row("ring, waitAsync", "bare Atomics.waitAsync", sleeping, "-"),
	]);
}
