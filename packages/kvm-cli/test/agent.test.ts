import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AgentClient, type AgentProcess, type SpawnFailure } from "../src/agent/client.ts";
import { encodeFrame, FRAME, FrameReader, HEADER_BYTES, type SpawnRequest } from "../src/agent/protocol.ts";
import { clientOf, type NativeAgent, noNativeAgent, request, startNativeAgent } from "./support/native-agent.ts";

interface Ended {
	status: number | undefined;
	failure: SpawnFailure | undefined;
	stdout: Buffer;
	stderr: Buffer;
	ends: number[];
}

/** Runs a program to its end, taking all it writes. */
async function run(
	client: AgentClient,
	spawn: SpawnRequest,
	input: Uint8Array = new Uint8Array(0),
	during?: (process: AgentProcess, text: string) => void,
): Promise<Ended> {
	const out: [Buffer[], Buffer[]] = [[], []];
	const ends: number[] = [];
	let process: AgentProcess | undefined;
	let rest = input;
	const feed = (): void => {
		if (process === undefined || rest.length === 0) return;
		rest = rest.subarray(process.input(rest));
		if (rest.length === 0) process.endInput();
	};
	return new Promise((resolve, reject) => {
		const end = (status: number | undefined, failure: SpawnFailure | undefined): void => {
			queueMicrotask(() => process?.release());
			resolve({ status, failure, stdout: Buffer.concat(out[0]), stderr: Buffer.concat(out[1]), ends });
		};
		client
			.spawn(spawn, {
				onOutput(stream, bytes) {
					out[stream - 1]!.push(Buffer.from(bytes));
					process?.grant(stream, bytes.length);
					during?.(process!, Buffer.concat(out[stream - 1]!).toString());
				},
				onOutputEnd: (stream) => ends.push(stream),
				onInputRoom: feed,
				onExit: (status) => end(status, undefined),
				onFailure: (failure) => end(undefined, failure),
				onLost: reject,
			})
			.then((started) => {
				process = started;
				if (rest.length > 0) feed();
				else if (spawn.terminal === undefined) process.endInput();
			}, reject);
	});
}

const describeAgent = describe.skipIf(noNativeAgent);

describeAgent("the agent, run natively", () => {
	let agent: NativeAgent;
	let client: AgentClient;
	beforeEach(() => {
		agent = startNativeAgent();
		client = clientOf(agent);
	});
	afterEach(async () => {
		expect(await agent.close()).toBe(0);
	});

	it("runs a program with arguments, environment, folder, outputs and exit status", async () => {
		const script = 'echo "$0 $1 $GREETING"; pwd; echo wrong >&2; exit 7';
		const ended = await run(
			client,
			request(["sh", "-c", script, "zero", "one two"], { environment: ["GREETING=hi there"], directory: "/usr" }),
		);
		expect(ended).toMatchObject({ status: 7 << 8, failure: undefined });
		expect(ended.stdout.toString()).toBe("zero one two hi there\n/usr\n");
		expect(ended.stderr.toString()).toBe("wrong\n");
		expect(ended.ends.sort()).toEqual([1, 2]);
	});

	it("carries 10 MB through standard input and output unharmed", async () => {
		const bytes = randomBytes(10_000_000);
		const echoed = await run(client, request(["cat"]), bytes);
		expect(echoed.stdout.equals(bytes)).toBe(true);
		const summed = await run(client, request(["sha256sum"]), bytes);
		expect(summed.stdout.toString()).toBe(`${createHash("sha256").update(bytes).digest("hex")}  -\n`);
	});

	it("runs many at once, more than it has channels", async () => {
		const all = await Promise.all(
			Array.from({ length: 300 }, (_, i) =>
				run(client, request(["sh", "-c", `read x; echo ${i} $x; exit ${i % 200}`]), Buffer.from(`in${i}\n`)),
			),
		);
		for (const [i, { status, stdout }] of all.entries()) {
			expect(stdout.toString()).toBe(`${i} in${i}\n`);
			expect(status).toBe((i % 200) << 8);
		}
	});

	it("says why a program does not start", async () => {
		const failure = async (spawn: SpawnRequest): Promise<SpawnFailure | undefined> =>
			(await run(client, spawn)).failure;
		const { ENOENT, EACCES, ENOEXEC, ENOTDIR } = constants.errno;
		expect(await failure(request(["nosuch"]))).toEqual({ errno: ENOENT, at: "program" });
		expect(await failure(request(["/etc/passwd"]))).toEqual({ errno: EACCES, at: "program" });
		expect(await failure(request(["/etc"]))).toEqual({ errno: EACCES, at: "program" });
		expect(await failure(request(["/etc/passwd/x"]))).toMatchObject({ at: "program" });
		expect(await failure(request(["true"], { directory: "/nosuch" }))).toEqual({ errno: ENOENT, at: "directory" });
		expect(await failure(request(["true"], { directory: "/etc/passwd" }))).toEqual({ errno: ENOTDIR, at: "directory" });
		expect(await failure(request(["x"], { candidates: ["/nosuch/x", "/etc/passwd"] }))).toEqual({
			errno: EACCES,
			at: "program",
		});
		expect(ENOEXEC).toBe(8);
		expect((await run(client, request(["true"]))).status).toBe(0);
	});

	it("tells signals, sends them to the whole group, and reaps orphans", async () => {
		const killed = await run(client, request(["sh", "-c", "kill -TERM $$"]));
		expect(killed.status! & 0x7f).toBe(15);
		const script = "sleep 1000 & echo ready; wait";
		const ended = await run(client, request(["sh", "-c", script]), undefined, (process, text) => {
			if (text.includes("ready")) process.signal(9);
		});
		expect(ended.status! & 0x7f).toBe(9);
	});

	it("does not wait for what a process leaves behind", async () => {
		const ended = await run(client, request(["sh", "-c", "sleep 1000 & echo $!"]));
		expect(ended.status).toBe(0);
		expect(ended.ends).toEqual([]);
		process.kill(Number(ended.stdout.toString()), "SIGKILL");
	});

	it("stops reading a process the host does not read", async () => {
		let received = 0;
		let process: AgentProcess | undefined;
		const exited = new Promise<number>((resolve, reject) => {
			client
				.spawn(request(["sh", "-c", "dd if=/dev/zero bs=1000 count=1000 2>/dev/null"], { credit: 5000 }), {
					onOutput: (_, bytes) => (received += bytes.length),
					onOutputEnd() {},
					onInputRoom() {},
					onExit: resolve,
					onFailure: reject,
					onLost: reject,
				})
				.then((started) => (process = started));
		});
		// Whatever the process wrote by now, a second one goes through after it.
		for (let i = 0; i < 3; i++) await run(client, request(["true"]));
		expect(received).toBeLessThanOrEqual(5000);
		process!.grant(1, 1_000_000);
		expect(await exited).toBe(0);
		expect(received).toBe(1_000_000);
	});

	it("gives a terminal with a size that changes, job control and an end", async () => {
		const terminal = { rows: 33, columns: 77 };
		const sized = await run(
			client,
			request(["sh", "-c", "stty size; tty; read line; stty size; exit 3"], { terminal }),
			undefined,
			(process, text) => {
				if (text.includes("/dev/pts/") && !text.includes("go")) {
					process.resize(44, 99);
					process.input(Buffer.from("go\n"));
				}
			},
		);
		expect(sized.stdout.toString()).toMatch(/^33 77\r\n\/dev\/pts\/\d+\r\n(go\r\n)44 99\r\n$/);
		expect(sized.status).toBe(3 << 8);
		const interrupted = await run(
			client,
			request(["sh", "-c", "echo on; exec sleep 1000"], { terminal }),
			undefined,
			(process, text) => {
				if (text.endsWith("on\r\n")) process.input(Uint8Array.of(3));
			},
		);
		expect(interrupted.status! & 0x7f).toBe(2);
	});

	it("makes system calls for the host", async () => {
		const folder = mkdtempSync(join(tmpdir(), "xkvm-call-"));
		const path = join(folder, "file");
		const opened = await client.call(257, [-100, path, 0o102, 0o600]);
		expect(opened.result).toBeGreaterThan(2);
		expect((await client.call(18, [opened.result, Buffer.from("content"), 7, 3])).result).toBe(7);
		expect(readFileSync(path, "latin1")).toBe("\0\0\0content");
		const read = await client.call(17, [opened.result, { output: 100 }, 100, 2]);
		expect(read.result).toBe(8);
		expect(Buffer.from(read.output.subarray(0, 8)).toString("latin1")).toBe("\0content");
		expect((await client.call(3, [opened.result])).result).toBe(0);
		expect((await client.call(257, [-100, "/nosuch/file", 0, 0])).result).toBe(-2);
		rmSync(folder, { recursive: true });
	});

	it("survives anything a host may say", async () => {
		const types = [1, 2, 3, 4, 5, 6, 7, 9, 16, 200];
		const frame = fc
			.record({
				channel: fc.oneof(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 100, max: 65_535 })),
				type: fc.constantFrom(...types),
				payload: fc.oneof(
					fc.uint8Array({ maxLength: 64 }),
					fc.uint8Array({ maxLength: 8 }),
					fc
						.tuple(fc.nat(3), fc.nat(5), fc.nat(5), fc.nat(5), fc.string({ maxLength: 60 }))
						.map(([flags, a, b, c, text]) => {
							const bytes = Buffer.alloc(28 + text.length);
							bytes.writeUInt32LE(flags & 1, 0);
							bytes.writeUInt32LE(1000, 16);
							bytes.writeUInt16LE(a, 20);
							bytes.writeUInt16LE(b, 22);
							bytes.writeUInt16LE(c, 24);
							bytes.write(text.replaceAll(" ", "\0"), 28, "latin1");
							return new Uint8Array(bytes);
						}),
				),
			})
			// A signal to a group that is not the agent's child would be the test's own mistake.
			.map(({ channel, type, payload }) => encodeFrame(channel, type, payload));
		agent.socket.removeAllListeners("data");
		const reader = new FrameReader();
		let answers = 0;
		let probe: (() => void) | undefined;
		agent.socket.on("data", (bytes) =>
			reader.push(bytes, ({ type }) => {
				answers++;
				if (type === FRAME.RESULT) probe?.();
			}),
		);
		const call = Buffer.alloc(64);
		call.writeUInt32LE(39, 0);
		await fc.assert(
			fc.asyncProperty(fc.array(frame, { minLength: 50, maxLength: 200 }), async (frames) => {
				const answered = new Promise<void>((resolve) => {
					probe = resolve;
				});
				agent.socket.write(Buffer.concat(frames));
				agent.socket.write(encodeFrame(9, FRAME.CALL, call));
				await answered;
			}),
			{ seed: 3, numRuns: 60 },
		);
		expect(answers).toBeGreaterThan(1000);
		expect(agent.child.exitCode).toBe(null);
	});
});

describe("the host's end", () => {
	const hello = encodeFrame(0, FRAME.HELLO, Uint8Array.from([1, 0, 0, 0, 128, 0, 0, 0, 0, 128, 0, 0]));

	it("takes anything a guest may say for an end, not an error", async () => {
		const frame = fc
			.record({
				channel: fc.integer({ min: 0, max: 3 }),
				type: fc.oneof(fc.integer({ min: 16, max: 29 }), fc.nat(255)),
				payload: fc.uint8Array({ maxLength: 40 }),
			})
			.map(({ channel, type, payload }) => encodeFrame(channel, type, payload));
		const noise = fc.oneof({ weight: 9, arbitrary: frame }, { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }) });
		await fc.assert(
			fc.asyncProperty(fc.array(noise, { maxLength: 60 }), fc.nat(20), async (frames, piece) => {
				let broken = 0;
				const client = new AgentClient(
					() => {},
					() => broken++,
				);
				client.receive(hello);
				let ends = 0;
				const listener = {
					onOutput() {},
					onOutputEnd() {},
					onInputRoom() {},
					onExit: () => ends++,
					onFailure: () => ends++,
					onLost: () => ends++,
				};
				await client.spawn(request(["true"]), listener);
				const called = client.call(39, []).catch(() => undefined);
				await Promise.resolve();
				const all = Buffer.concat(frames);
				for (let at = 0; at < all.length; at += piece + 1) client.receive(all.subarray(at, at + piece + 1));
				client.close(new Error("over"));
				await called;
				expect(ends).toBe(1);
				expect(broken).toBeLessThanOrEqual(1);
			}),
			{ seed: 5, numRuns: 500 },
		);
	});

	it("holds no more than one frame, and refuses longer ones", () => {
		const header = new Uint8Array(HEADER_BYTES);
		new DataView(header.buffer).setUint32(4, 65_537, true);
		expect(() => new FrameReader().push(header, () => {})).toThrow(/a frame of 65537 bytes/);
	});
});
