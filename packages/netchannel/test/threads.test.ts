import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createProcessRing, openProcessRing } from "../src/index.node.ts";
import { createLinkPair, createNetchannels, createRing, openConsumer } from "../src/index.ts";
import { linkCompliance } from "../src/testing/index.ts";
import { answerEcho } from "./support/echo.ts";
import { makeNamespace, noNamespaces } from "./support/netns.ts";
import { makePacket } from "./support/packets.ts";
import { hasTool } from "./support/tools.ts";

const dist = new URL("../dist/index.js", import.meta.url);
const noBuild = existsSync(fileURLToPath(dist)) ? undefined : "not built: pnpm build";
const because = (reason: string | undefined): string => (reason === undefined ? "" : ` (skipped: ${reason})`);
/** The full proof is NETCHANNEL_SOAK=10000000, some minutes of two processors; every run takes a share of it. */
const RECORDS = Number(process.env["NETCHANNEL_SOAK"] ?? 40_000);
const PATIENCE_MS = 600_000 + RECORDS;
const CAPACITIES = [2 ** 15, 2 ** 16, 2 ** 18, 2 ** 20];

interface SoakResult {
	failure?: string;
	errors: number;
	stats: { sent: number; received: number };
}

function soak(message: object): Promise<SoakResult> {
	const worker = new Worker(new URL("./support/soak-worker.mjs", import.meta.url));
	return new Promise((resolve, reject) => {
		worker.once("message", (result: SoakResult) => {
			resolve(result);
			void worker.terminate();
		});
		worker.once("error", reject);
		worker.postMessage(message);
	});
}

/** A worker that runs `code` with the built package as `netchannel` and `data` as given. */
function thread(code: string, data: object): Worker {
	const source = `
		const { parentPort, workerData } = require("node:worker_threads");
		(async () => {
			const netchannel = await import(workerData.library);
			const node = await import(workerData.library.replace("index.js", "index.node.js"));
			${code}
		})().catch((error) => parentPort.postMessage({ failure: String(error.stack) }));`;
	return new Worker(source, { eval: true, workerData: { library: dist.href, ...data } });
}

const nextMessage = <T>(worker: Worker): Promise<T> =>
	new Promise((resolve, reject) => {
		worker.once("message", (message: T & { failure?: string }) =>
			message.failure === undefined ? resolve(message) : reject(new Error(message.failure)),
		);
		worker.once("error", reject);
	});

describe.skipIf(noBuild !== undefined)(`between threads${because(noBuild)}`, () => {
	test.each(CAPACITIES)(
		"a ring of %i bytes loses and damages nothing under stalls on both sides, past 2^32",
		async (capacity) => {
			const ring = createRing({ capacity, position: 2 ** 32 - 4096 });
			const common = { ring, count: RECORDS / CAPACITIES.length, seed: capacity + 7, library: dist.href };
			const [producer, consumer] = await Promise.all([
				soak({ ...common, role: "producer" }),
				soak({ ...common, role: "consumer" }),
			]);
			expect(producer.failure ?? consumer.failure).toBeUndefined();
			expect([producer.errors, consumer.errors]).toEqual([0, 0]);
			expect([consumer.stats.sent, consumer.stats.received]).toEqual([common.count, common.count]);
		},
		PATIENCE_MS,
	);

	test("batches of small and long records arrive whole and in order, in one call each side", async () => {
		const ring = createRing({ capacity: 2 ** 15, scratch: 2 ** 16, position: 2 ** 32 - 4096 });
		const count = 60_000;
		// A record of index n is (n * 7919) % 300 bytes of n, but every hundredth is long; its meta word is n.
		const shared = `
			const lengthOf = (index) => index % 100 === 99 ? 4000 : (index * 7919) % 300;
			const BATCH = 32;
			const tableOf = ({ scratch }) => new Int32Array(scratch.buffer, scratch.byteOffset, BATCH * 3);`;
		const sender = thread(
			`${shared}
			const producer = netchannel.openProducer(workerData.ring, { overflow: "block" });
			const table = tableOf(producer);
			for (let index = 0; index < workerData.count; ) {
				let at = table.byteLength, entries = 0;
				for (; entries < BATCH && index < workerData.count; entries++, index++) {
					const length = lengthOf(index);
					producer.scratch.fill(index, at, at + length);
					table.set([at, length, index], entries * 3);
					at += length;
				}
				producer.pushBatch(0, entries);
				producer.publish();
			}
			producer.close();`,
			{ ring, count },
		);
		const receiver = thread(
			`${shared}
			const consumer = netchannel.openConsumer(workerData.ring);
			const table = tableOf(consumer);
			let index = 0, wrong = 0;
			while (index < workerData.count) {
				const got = consumer.copyBatch(0, BATCH);
				if (got === 0 && !consumer.wait(20_000) && !consumer.readable) throw new Error("hang at " + index);
				for (let entry = 0; entry < got; entry++, index++) {
					const [at, length, meta] = table.subarray(entry * 3);
					if (length !== lengthOf(index) || meta !== index) wrong++;
					for (let byte = at; byte < at + length; byte++) if (consumer.scratch[byte] !== (index & 255)) wrong++;
				}
				consumer.release();
			}
			parentPort.postMessage({ wrong, stats: consumer.stats() });`,
			{ ring, count },
		);
		const { wrong, stats } = await nextMessage<{ wrong: number; stats: SoakResult["stats"] }>(receiver);
		await Promise.all([sender.terminate(), receiver.terminate()]);
		expect(wrong).toBe(0);
		expect([stats.sent, stats.received]).toEqual([count, count]);
	}, 120_000);

	test("a channel's packets are received by a blocking receive in a worker, and answered from there", async () => {
		const [link, world] = createLinkPair();
		const channels = createNetchannels({ link });
		const channel = channels.createChannel({ localPort: 53, shared: true });
		const answers: Uint8Array[] = [];
		world.onFrame = (frame) => answers.push(frame.slice());
		const worker = thread(
			`const channel = netchannel.openChannel(workerData.handle);
			parentPort.postMessage({ ready: true });
			for (;;) {
				const packet = channel.recvBlocking(5000);
				if (packet === undefined) break;
				channel.send(packet.bytes);
			}
			channel.close();`,
			{ handle: channel.handle() },
		);
		await nextMessage(worker);
		for (let count = 0; count < 100; count++) {
			world.send(makePacket({ sport: count }));
			if (count % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
		}
		while (answers.length < 100) await new Promise((resolve) => setTimeout(resolve, 2));
		expect(answers.map((frame) => (frame[34]! << 8) | frame[35]!)).toEqual(
			Array.from({ length: 100 }, (_, count) => count),
		);
		const gone = new Promise((resolve) => worker.once("exit", resolve));
		channel.close();
		expect(await gone).toBe(0);
	});

	test("a worker terminated in full traffic leaves the ring readable and nothing hanging", async () => {
		for (let cycle = 0; cycle < 8; cycle++) {
			const ring = createRing({ capacity: 2 ** 16 });
			const worker = thread(
				`const producer = netchannel.openProducer(workerData.ring, { overflow: "block" });
				const payload = new Uint8Array(500);
				for (;;) producer.send(payload);`,
				{ ring },
			);
			const consumer = openConsumer(ring);
			let records = 0;
			while (records < 500) {
				if (!(await consumer.waitAsync({ timeoutMs: 60_000 }))) break;
				consumer.drain((payload) => {
					expect(payload.length).toBe(500);
					records++;
				}, 100);
			}
			expect(records).toBeGreaterThanOrEqual(500);
			await worker.terminate();
			while (consumer.next()) expect(consumer.length).toBe(500);
		}
	});

	test.skipIf(process.platform !== "linux")(
		"between processes: blocking and asynchronous receives, and nothing a stranger's file could break",
		async () => {
			const there = await createProcessRing({ capacity: 2 ** 16, position: 2 ** 32 - 800 });
			const back = await createProcessRing({ capacity: 2 ** 16 });
			const code = `
			const { openProcessRing } = await import(${JSON.stringify(dist.href.replace("index.js", "index.node.js"))});
			const input = (await openProcessRing(${JSON.stringify(there.path)})).consumer();
			const output = (await openProcessRing(${JSON.stringify(back.path)})).producer({ overflow: "block" });
			while (input.wait(10_000)) input.drain((payload, meta) => output.send(payload, meta + 1));
			output.close();`;
			const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
				stdio: ["ignore", "ignore", "inherit"],
			});
			const producer = there.producer();
			const consumer = back.consumer();
			let received = 0;
			for (let sent = 0; sent < 5000; ) {
				while (sent < 5000 && producer.send(new Uint8Array(sent % 700).fill(sent), sent)) sent++;
				if (!(await consumer.waitAsync({ timeoutMs: 10_000 }))) throw new Error("nothing came back");
				consumer.drain((payload, meta) => {
					expect([payload.length, meta, payload.every((byte) => byte === (received & 255))]).toEqual([
						received % 700,
						received + 1,
						true,
					]);
					received++;
				});
			}
			while (received < 5000 && (await consumer.waitAsync({ timeoutMs: 10_000 })))
				consumer.drain(() => received++, 1000);
			expect(received).toBe(5000);
			producer.close();
			expect(await new Promise((resolve) => child.once("exit", resolve))).toBe(0);
			await expect(openProcessRing("/proc/self/exe")).rejects.toMatchObject({ name: "LinkError" });
			await expect(openProcessRing("/nowhere")).rejects.toMatchObject({ code: "ERR_LINK_NOT_FOUND" });
			there.close();
			back.close();
		},
	);

	const noThreads = noNamespaces();
	describe.skipIf(noThreads !== undefined)(`links with a thread of their own${because(noThreads)}`, () => {
		let space: ReturnType<typeof makeNamespace>;
		let node: typeof import("../src/index.node.ts");
		beforeAll(async () => {
			node = (await import(dist.href.replace("index.js", "index.node.js"))) as typeof node;
			space = makeNamespace();
			space.ip("link", "add", "t0", "type", "veth", "peer", "name", "t1");
			space.ip("link", "set", "t0", "up");
			space.ip("link", "set", "t1", "up");
		});
		afterAll(() => space.remove());

		linkCompliance("a threaded packet link", {
			describe,
			test,
			reliable: false,
			setup: async () => ({
				near: await node.openThreadedLink(`packet:t0?netns=${space.name}`),
				far: await node.openThreadedLink(`packet:t1?netns=${space.name}`),
			}),
		});

		test("answers a flood of pings over a TAP, fails with the errno, and leaves no descriptor after 15 openings", async () => {
			const link = await node.openThreadedLink(`tap:thr0?netns=${space.name}`);
			space.ip("address", "add", "10.76.0.1/24", "dev", "thr0");
			answerEcho(link, "10.76.0.2");
			const ping = spawn("ip", ["netns", "exec", space.name, "ping", "-f", "-c", "2000", "10.76.0.2"]);
			let output = "";
			ping.stdout.on("data", (data) => (output += data));
			await new Promise((resolve) => ping.once("close", resolve));
			if (hasTool("ping")) expect(output).toMatch(/2000 packets transmitted, 2000 received, 0% packet loss/);
			link.close();
			await expect(node.openThreadedLink(`packet:none0?netns=${space.name}`)).rejects.toMatchObject({
				code: "ERR_LINK_NOT_FOUND",
				errnoName: "ENODEV",
			});
			await expect(node.openThreadedLink("ws://x:1")).rejects.toMatchObject({ code: "ERR_LINK_OPTION" });
			await new Promise((resolve) => setTimeout(resolve, 300));
			const before = readdirSync("/proc/self/fd").length;
			for (let cycle = 0; cycle < 15; cycle++)
				(await node.openThreadedLink(`tap:thr1?netns=${space.name}&queue=1`)).close();
			for (let waited = 0; readdirSync("/proc/self/fd").length > before && waited < 200; waited++)
				await new Promise((resolve) => setTimeout(resolve, 20));
			expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(before);
		});
	});

	const noSpaces = noNamespaces();
	test.skipIf(noSpaces !== undefined)(
		`native links in workers that are terminated in full traffic abort nothing${because(noSpaces)}`,
		async () => {
			const space = makeNamespace();
			const folder = mkdtempSync(join(tmpdir(), "netchannel-term-"));
			try {
				space.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1");
				space.ip("link", "set", "v0", "up");
				space.ip("link", "set", "v1", "up");
				const before = readdirSync("/proc/self/fd").length;
				for (let cycle = 0; cycle < 4; cycle++) {
					const worker = thread(
						`const near = await node.openPacket({ interface: "v0", netns: workerData.space });
					const far = await node.openPacket({ interface: "v1", netns: workerData.space });
					const tap = await node.openTap({ name: "term0", netns: workerData.space });
					let received = 0;
					far.onFrame = () => { if (++received === 100) parentPort.postMessage({ received }); };
					setInterval(() => { for (let count = 0; count < 200; count++) near.send(new Uint8Array(100)); }, 1);
					if (workerData.orderly) parentPort.once("message", () => { near.close(); far.close(); tap.close(); process.exit(0); });`,
						{ space: space.name, orderly: cycle % 2 === 0 },
					);
					await nextMessage(worker);
					if (cycle % 2 === 0) {
						const gone = new Promise((resolve) => worker.once("exit", resolve));
						worker.postMessage("stop");
						expect(await gone).toBe(0);
					} else await worker.terminate();
				}
				expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(before);
			} finally {
				space.remove();
				rmSync(folder, { recursive: true });
			}
		},
	);
});

const chromium = ["chromium", "chromium-browser", "google-chrome"].find(hasTool);
const noBrowser = noBuild ?? (chromium === undefined ? "not installed: chromium" : undefined);
test.skipIf(noBrowser !== undefined)(
	`in Chromium's workers too, under COOP and COEP${because(noBrowser)}`,
	async () => {
		const root = fileURLToPath(new URL("../", import.meta.url));
		let report: (result: string) => void;
		const reported = new Promise<string>((resolve) => (report = resolve));
		const page = `<!doctype html><script type="module">
			import { createRing, createLinkPair, openProducer, openConsumer } from "/dist/index.js";
			const results = [];
			try {
				if (!crossOriginIsolated) throw new Error("not cross-origin isolated");
				for (const capacity of ${JSON.stringify(CAPACITIES)}) {
					const ring = createRing({ capacity, position: 2 ** 32 - 4096 });
					results.push(...await Promise.all(["producer", "consumer"].map((role) => new Promise((resolve, reject) => {
						const worker = new Worker("/test/support/soak-worker.mjs", { type: "module" });
						worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
						worker.onerror = (event) => reject(new Error(event.message));
						worker.postMessage({ role, ring, count: ${Math.floor(RECORDS / CAPACITIES.length)}, seed: capacity, library: "/dist/index.js" });
					}))));
				}
				const ring = createRing({ capacity: 1024 });
				const consumer = openConsumer(ring);
				const waiting = consumer.waitAsync({ timeoutMs: 5000 });
				openProducer(ring).send(new Uint8Array(5));
				results.push({ errors: (await waiting) && consumer.recv().length === 5 ? 0 : 1 });
				try { consumer.wait(10); results.push({ errors: 1 }); } catch (error) { results.push({ errors: error.code === "ERR_RING_CANNOT_BLOCK" ? 0 : 1 }); }
			} catch (error) { results.push({ failure: String(error.stack) }); }
			await fetch("/report", { method: "POST", body: JSON.stringify(results) });
		</script>`;
		const server = createServer((request, response) => {
			if (request.method === "POST") {
				let body = "";
				request.on("data", (chunk) => (body += chunk));
				request.on("end", () => {
					response.end();
					report(body);
				});
				return;
			}
			const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
			const path = request.url ?? "/";
			if (path === "/") response.writeHead(200, { ...headers, "Content-Type": "text/html" }).end(page);
			else if (
				/^\/(dist|test\/support)\/[\w./-]+$/.test(path) &&
				!path.includes("..") &&
				existsSync(join(root, path))
			) {
				const type = extname(path) === ".map" ? "application/json" : "text/javascript";
				response.writeHead(200, { ...headers, "Content-Type": type }).end(readFileSync(join(root, path)));
			} else response.writeHead(404).end();
		});
		await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
		const profile = mkdtempSync(join(tmpdir(), "netchannel-chromium-"));
		const browser = spawn(
			chromium!,
			[
				"--headless=new",
				"--no-sandbox",
				"--disable-gpu",
				"--disable-dev-shm-usage",
				`--user-data-dir=${profile}`,
				`http://127.0.0.1:${(server.address() as { port: number }).port}/`,
			],
			{ stdio: "ignore" },
		);
		try {
			const results = JSON.parse(await reported) as SoakResult[];
			expect(results.map((result) => result.failure ?? result.errors)).toEqual(
				new Array(2 * CAPACITIES.length + 2).fill(0),
			);
		} finally {
			const gone = new Promise((resolve) => browser.once("exit", resolve));
			browser.kill();
			await gone;
			server.closeAllConnections();
			server.close();
			rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
		}
	},
	PATIENCE_MS,
);
