import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as node from "../src/index.node.ts";
import type { Link } from "../src/index.ts";
import * as core from "../src/index.ts";
import { everyLink, someFrame } from "./support/every-link.mjs";
import { makeNamespace, noNamespaces } from "./support/netns.ts";

const dist = new URL("../dist/index.js", import.meta.url);
const noBuild = existsSync(fileURLToPath(dist)) ? undefined : "not built: pnpm build";
const because = (reason: string | undefined): string => (reason === undefined ? "" : ` (skipped: ${reason})`);
const noSpaces = noNamespaces();
/** Openings of every link on each side, and workers terminated in full traffic: 200 of each are the full proof. */
const CYCLES = Number(process.env["NETCHANNEL_CYCLES"] ?? 20);
const TERMINATIONS = Number(process.env["NETCHANNEL_TERMINATIONS"] ?? 4);
/** What stays mapped shows in memory only after so many, whatever the environment says. */
const MAPPED_CYCLES = 200;
const cyclesOf = (kind: string): number => (/rings?\b/.test(kind) ? MAPPED_CYCLES : CYCLES);

const folder = mkdtempSync(join(tmpdir(), "netchannel-cycles-"));
let space: ReturnType<typeof makeNamespace> | undefined;
beforeAll(() => {
	if (noSpaces !== undefined) return;
	space = makeNamespace();
	space.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1");
	space.ip("link", "set", "v0", "up");
	space.ip("link", "set", "v1", "up");
});
afterAll(() => {
	space?.remove();
	rmSync(folder, { recursive: true, force: true });
});

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const descriptors = (): number => (existsSync("/proc/self/fd") ? readdirSync("/proc/self/fd").length : 0);

/** Waits until there are no more descriptors than before: what was closed last goes away in its own time. */
async function descriptorsBackTo(before: number): Promise<void> {
	for (let waited = 0; descriptors() > before && waited < 500; waited++) await pause(20);
	expect(descriptors()).toBeLessThanOrEqual(before);
}

/** Names of a run's own: a worker that was terminated leaves its sockets behind. */
let runs = 0;
type Openers = Record<string, () => Promise<Link[]>>;
const kinds = Object.keys(everyLink(core, node, { folder, space: noSpaces ?? "any", tag: "n", mapped: true }));
const openers = (tag: string): Openers => everyLink(core, node, { folder, space: space?.name, tag, mapped: true });

describe(`${CYCLES} openings and closings (${MAPPED_CYCLES} of rings) on the main thread leave nothing behind${because(noSpaces)}`, () => {
	test.each(kinds)(
		"%s",
		async (kind) => {
			const open = openers(`m${runs++}`)[kind];
			if (open === undefined) return;
			const cycle = async (): Promise<void> => {
				const ends = await open();
				for (const end of ends) {
					if (end.medium === undefined) continue;
					end.onFrame = () => {};
					end.onError = () => {};
				}
				ends[0]!.send(someFrame(ends[0]!.medium));
				for (const end of ends) end.close();
			};
			for (let count = 0; count < 5; count++) await cycle();
			await pause(20);
			const before = descriptors();
			const memory: number[] = [];
			for (let half = 0; half < 2; half++) {
				for (let count = 0; count < cyclesOf(kind) / 2; count++) {
					await cycle();
					if (count % 20 === 19) await pause(0);
				}
				await pause(5);
				collectGarbage();
				memory.push(process.memoryUsage().rss);
			}
			await descriptorsBackTo(before);
			// A ring of 512 KiB that stayed mapped a hundred times would be 50 MiB.
			expect(memory[1]! - memory[0]!).toBeLessThan(40 * 2 ** 20);
			if (space !== undefined) expect(space.ip("link")).not.toMatch(/ m\d+[au]\d/);
		},
		120_000,
	);
});

/** A worker that opens and closes every link, then keeps all of them busy until it is terminated. */
const busyWorker = (data: object): Worker =>
	new Worker(
		`const { parentPort, workerData } = require("node:worker_threads");
		(async () => {
			const core = await import(workerData.library);
			const node = await import(workerData.library.replace("index.js", "index.node.js"));
			const { everyLink, someFrame } = await import(workerData.links);
			const openers = Object.values(everyLink(core, node, workerData));
			for (let cycle = 0; cycle < workerData.cycles; cycle++) {
				for (const open of openers) for (const end of await open()) end.close();
			}
			const ends = [];
			for (const open of openers) ends.push(...(await open()));
			let received = 0;
			for (const end of ends) {
				end.onError = () => {};
				if (end.medium !== undefined) end.onFrame = () => received++;
			}
			const flood = () => {
				for (const end of ends) for (let count = 0; count < 20; count++) end.send(someFrame(end.medium));
				if (received > 2000) { received = -Infinity; parentPort.postMessage({ busy: true }); }
				setImmediate(flood);
			};
			flood();
		})().catch((error) => parentPort.postMessage({ failure: String(error.stack) }));`,
		{ eval: true, workerData: data },
	);

describe.skipIf(noBuild !== undefined)(`in workers${because(noBuild ?? noSpaces)}`, () => {
	const run = async (tag: string, cycles: number): Promise<void> => {
		const worker = busyWorker({
			library: dist.href,
			links: new URL("./support/every-link.mjs", import.meta.url).href,
			folder,
			space: space?.name,
			tag: `${tag}${runs++}`,
			cycles,
			mapped: false,
		});
		const said = await new Promise<{ failure?: string }>((resolve, reject) => {
			worker.once("message", resolve);
			worker.once("error", reject);
		});
		await worker.terminate();
		expect(said.failure).toBeUndefined();
	};

	test(`${CYCLES} openings and closings of every link leave nothing behind`, async () => {
		await run("w", 1);
		await pause(50);
		const before = descriptors();
		await run("x", CYCLES);
		await descriptorsBackTo(before);
		if (space !== undefined) expect(space.ip("link")).not.toMatch(/ [wx]\d+[au]\d/);
	}, 300_000);

	test(
		`${TERMINATIONS} workers terminated in full traffic on every link abort nothing and leave nothing`,
		async () => {
			await run("y", 0);
			await pause(50);
			const before = descriptors();
			const spaces = existsSync("/var/run/netns") ? readdirSync("/var/run/netns").length : 0;
			const memory: number[] = [];
			for (let half = 0; half < 2; half++) {
				for (let count = 0; count < TERMINATIONS / 2; count++) await run("z", 0);
				collectGarbage();
				memory.push(process.memoryUsage().rss);
			}
			await descriptorsBackTo(before);
			expect(memory[1]! - memory[0]!).toBeLessThan(64 * 2 ** 20);
			if (space !== undefined) expect(space.ip("link")).not.toMatch(/ z\d+[au]\d/);
			if (existsSync("/var/run/netns")) expect(readdirSync("/var/run/netns").length).toBeLessThanOrEqual(spaces + 4);
		},
		600_000 + 2000 * TERMINATIONS,
	);
});
