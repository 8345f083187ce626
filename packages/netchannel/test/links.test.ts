import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { connectQemuStream, listenQemuStream, openLink } from "../src/index.node.ts";
import { createLinkPair, type Link } from "../src/index.ts";
import { LengthDeframer, writeLength } from "../src/link/length-framing.ts";
import { linkCompliance } from "../src/testing/index.ts";

const folder = mkdtempSync(join(tmpdir(), "netchannel-"));
afterAll(() => rmSync(folder, { recursive: true }));
let serial = 0;
const socketPath = (): string => join(folder, `s${serial++}`);
const until = async (condition: () => boolean): Promise<void> => {
	for (let waited = 0; !condition(); waited++) {
		if (waited > 1000) throw new Error("waited too long");
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
};

linkCompliance("the memory pair", {
	describe,
	test,
	setup: () => {
		const [near, far] = createLinkPair();
		return { near, far };
	},
});
linkCompliance("the memory pair for IP", {
	describe,
	test,
	setup: () => {
		const [near, far] = createLinkPair({ medium: "ip", mtu: 1280 });
		return { near, far };
	},
});
linkCompliance("QEMU stream over a Unix socket", {
	describe,
	test,
	setup: async () => {
		const path = socketPath();
		const far = await openLink(`qemu-listen:unix:${path}`);
		const near = await openLink(`qemu:unix:${path}`);
		await until(() => far.carrier === true);
		return { near, far };
	},
});
linkCompliance("QEMU stream, accepting end", {
	describe,
	test,
	setup: async () => {
		const path = socketPath();
		const near = await listenQemuStream({ path });
		const far = await connectQemuStream({ path });
		await until(() => near.carrier === true);
		return { near, far };
	},
});

test("the deframer finds the frames however the stream is cut", () => {
	fc.assert(
		fc.property(
			fc.array(fc.uint8Array({ minLength: 1, maxLength: 700 }), { maxLength: 12 }),
			fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 40 }),
			(frames, cuts) => {
				const stream = new Uint8Array(frames.reduce((sum, frame) => sum + 4 + frame.length, 0));
				let at = 0;
				for (const frame of frames) {
					writeLength(stream, at, frame.length);
					stream.set(frame, at + 4);
					at += 4 + frame.length;
				}
				const got: Uint8Array[] = [];
				const deframer = new LengthDeframer();
				for (let start = 0, turn = 0; start < stream.length; turn++) {
					const end = Math.min(stream.length, start + cuts[turn % cuts.length]!);
					deframer.push(stream.slice(start, end), (frame) => got.push(frame.slice()));
					start = end;
				}
				expect(got.map((frame) => [...frame])).toEqual(frames.map((frame) => [...frame]));
			},
		),
		{ seed: 5, numRuns: 300 },
	);
});

test("the deframer survives any bytes", () => {
	fc.assert(
		fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), (chunks) => {
			const deframer = new LengthDeframer(100);
			try {
				for (const chunk of chunks) deframer.push(chunk, (frame) => expect(frame.length).toBeLessThanOrEqual(100));
			} catch (error) {
				expect(error).toMatchObject({ code: "ERR_LINK_PROTOCOL" });
			}
		}),
		{ seed: 6, numRuns: 500 },
	);
});

test("a peer that comes back finds the link again", async () => {
	const path = socketPath();
	const near = await connectOnceListening(path);
	near.far.close();
	await until(() => near.link.carrier === false);
	expect(near.link.send(new Uint8Array(60))).toBe(true);
	expect(near.link.stats!().txDropped).toBe(1);
	const far = await listenQemuStream({ path });
	await until(() => near.link.carrier === true && far.carrier === true);
	let received = 0;
	far.onFrame = () => received++;
	near.link.send(new Uint8Array(60));
	await until(() => received === 1);
	near.link.close();
	far.close();
});

async function connectOnceListening(path: string): Promise<{ link: Link; far: Link }> {
	const far = await listenQemuStream({ path });
	const link = await connectQemuStream({ path }, { reconnectMs: 10 });
	await until(() => far.carrier === true);
	return { link, far };
}

test("without reconnect the peer's end is an error, and the link is closed by then", async () => {
	const path = socketPath();
	const far = await listenQemuStream({ path });
	const near = await connectQemuStream({ path });
	const failed = new Promise<Error>((resolve) => (near.onError = resolve));
	far.close();
	expect(await failed).toMatchObject({ code: "ERR_LINK_IO" });
	expect(() => near.send(new Uint8Array(60))).toThrowError(expect.objectContaining({ code: "ERR_LINK_CLOSED" }));
});

test("a peer that speaks something else is hung up on", async () => {
	const path = socketPath();
	const link = await listenQemuStream({ path });
	const socket = connect({ path });
	socket.write("GET / HTTP/1.1\r\n\r\n");
	await new Promise((resolve) => socket.once("close", resolve));
	expect(link.carrier).toBe(false);
	link.close();
});

test("a second peer is turned away while the first is there", async () => {
	const path = socketPath();
	const link = await listenQemuStream({ path });
	const first = await connectQemuStream({ path });
	await until(() => link.carrier === true);
	const second = connect({ path });
	await new Promise((resolve) => second.once("close", resolve));
	expect(link.carrier).toBe(true);
	first.close();
	link.close();
});

test("a socket left behind by a dead process is replaced", async () => {
	const path = socketPath();
	const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
	spawnSync(process.execPath, ["-e", script]);
	expect(existsSync(path)).toBe(true);
	const link = await listenQemuStream({ path });
	const near = await connectQemuStream({ path });
	near.close();
	link.close();
});

describe("openLink refuses", () => {
	test.each([
		["nonsense", "ERR_LINK_OPTION", /tap:NAME/],
		["tap:", "ERR_LINK_OPTION", /tap:NAME/],
		["qemu:unix:", "ERR_LINK_OPTION", /path/],
		["qemu:somewhere", "ERR_LINK_OPTION", /HOST:PORT/],
		["qemu:unix:/x?recconect=5", "ERR_LINK_OPTION", /recconect/],
		["qemu:unix:/x?mtu=many", "ERR_LINK_OPTION", /whole number/],
		["qemu:unix:/x?mtu=10", "ERR_LINK_OPTION", /68/],
	])("%s", async (url, code, message) => {
		await expect(openLink(url)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
	});

	test("a path where nothing listens, with the errno", async () => {
		await expect(openLink(`qemu:unix:${folder}/nobody`)).rejects.toMatchObject({
			code: "ERR_LINK_NOT_FOUND",
			errnoName: "ENOENT",
			errno: 2,
		});
		writeFileSync(join(folder, "file"), "");
		await expect(openLink(`qemu:unix:${folder}/file`)).rejects.toMatchObject({
			code: "ERR_LINK_IO",
			errnoName: "ECONNREFUSED",
		});
	});

	test("an address where somebody else listens", async () => {
		const path = socketPath();
		const server = createServer().listen(path);
		await new Promise((resolve) => server.once("listening", resolve));
		await expect(openLink(`qemu-listen:unix:${path}`)).rejects.toMatchObject({ code: "ERR_LINK_BUSY" });
		server.close();
	});
});
