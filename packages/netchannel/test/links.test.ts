import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, request } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import {
	connectQemuStream,
	createWebSocketServer,
	listenQemuStream,
	listenWebSocket,
	openLink,
	openUdpLink,
	type UdpLink,
} from "../src/index.node.ts";
import { createBroadcastLink, createLinkPair, createMessagePortLink, type Link, type PortLike } from "../src/index.ts";
import { LengthDeframer, writeLength } from "../src/link/length-framing.ts";
import {
	applyMask,
	LONGEST_FRAME_HEADER,
	OPCODE,
	WebSocketDeframer,
	writeFrameHeader,
} from "../src/link/websocket-framing.ts";
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

linkCompliance("UDP", {
	describe,
	test,
	reliable: false,
	setup: async () => {
		const near = await openUdpLink({ local: { host: "127.0.0.1", port: 0 }, remote: { host: "127.0.0.1", port: 9 } });
		const far = await openLink(`udp:127.0.0.1:${near.port}?local=127.0.0.1:0`);
		near.close();
		const again = await openUdpLink({
			local: { host: "127.0.0.1", port: near.port },
			remote: { host: "127.0.0.1", port: (far as UdpLink).port },
		});
		return { near: again, far };
	},
});
linkCompliance("WebSocket, client to listener", {
	describe,
	test,
	setup: async () => {
		const far = await listenWebSocket({ port: 0 });
		const near = await openLink(`ws://127.0.0.1:${far.port}/any/path`);
		await until(() => far.carrier === true);
		return { near, far };
	},
});
linkCompliance("WebSocket, server to client", {
	describe,
	test,
	setup: async () => {
		let near: Link | undefined;
		const server = await createWebSocketServer({ port: 0, onLink: (link) => (near = link) });
		const far = await openLink(`ws://127.0.0.1:${server.port}`);
		await until(() => near !== undefined);
		return { near: near!, far, teardown: () => server.close() };
	},
});
linkCompliance("MessagePort", {
	describe,
	test,
	setup: () => {
		const { port1, port2 } = new MessageChannel();
		return {
			near: createMessagePortLink(port1 as unknown as PortLike),
			far: createMessagePortLink(port2 as unknown as PortLike),
		};
	},
});
linkCompliance("BroadcastChannel", {
	describe,
	test,
	setup: () => {
		const name = `netchannel-${serial++}`;
		return { near: createBroadcastLink(name), far: createBroadcastLink(name) };
	},
});

describe("WebSocket framing", () => {
	test("messages of any size come out whole, masked or not, however they are cut and fragmented", () => {
		const message = fc.record({
			size: fc.constantFrom(0, 1, 125, 126, 127, 65535, 65536, 66000),
			parts: fc.integer({ min: 1, max: 4 }),
		});
		fc.assert(
			fc.property(
				fc.array(message, { maxLength: 4 }),
				fc.boolean(),
				fc.integer({ min: 1, max: 50_000 }),
				(messages, client, cut) => {
					const chunks: Uint8Array[] = [];
					const payloads = messages.map(({ size }, index) =>
						Uint8Array.from({ length: size }, (_, at) => at * 7 + index),
					);
					payloads.forEach((payload, index) => {
						const { parts } = messages[index]!;
						for (let part = 0; part < parts; part++) {
							const piece = payload.slice(
								Math.floor((part * payload.length) / parts),
								Math.floor(((part + 1) * payload.length) / parts),
							);
							const header = new Uint8Array(LONGEST_FRAME_HEADER);
							const mask = client ? Uint8Array.of(1, 2, 3, 4) : undefined;
							const end = writeFrameHeader(
								header,
								0,
								part === 0 ? OPCODE.binary : OPCODE.continuation,
								piece.length,
								mask,
							);
							if (part < parts - 1) header[0]! &= 0x7f;
							if (mask !== undefined) applyMask(piece, mask);
							chunks.push(header.slice(0, end), piece);
							if (part === 0) {
								const ping = new Uint8Array(LONGEST_FRAME_HEADER);
								chunks.push(ping.slice(0, writeFrameHeader(ping, 0, OPCODE.ping, 0, mask)));
							}
						}
					});
					const stream = Buffer.concat(chunks);
					const got: Uint8Array[] = [];
					const deframer = new WebSocketDeframer(client, 70_000);
					for (let at = 0; at < stream.length; at += cut) {
						deframer.push(stream.subarray(at, at + cut), (opcode, payload) => {
							if (opcode === OPCODE.binary) got.push(payload.slice());
						});
					}
					expect(got.map((payload) => Buffer.compare(payload, payloads[got.indexOf(payload)]!))).toEqual(
						payloads.map(() => 0),
					);
				},
			),
			{ seed: 51, numRuns: 60 },
		);
	});

	test("any bytes are messages or a protocol error", () => {
		fc.assert(
			fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 10 }), fc.boolean(), (chunks, client) => {
				const deframer = new WebSocketDeframer(client, 1000);
				try {
					for (const chunk of chunks)
						deframer.push(chunk, (_opcode, payload) => expect(payload.length).toBeLessThanOrEqual(1000));
				} catch (error) {
					expect(error).toMatchObject({ code: "ERR_LINK_PROTOCOL" });
				}
			}),
			{ seed: 52, numRuns: 1000 },
		);
	});

	test("pages of other sites are kept out, allowed ones let in; what is no WebSocket server is told", async () => {
		const server = await createWebSocketServer({
			port: 0,
			onLink: (link) => link.close(),
			allowOrigin: (origin) => origin === "https://good.example",
		});
		const status = (origin: string): Promise<number> =>
			new Promise((resolve, reject) => {
				const asked = request({
					port: server.port,
					headers: {
						Connection: "Upgrade",
						Upgrade: "websocket",
						"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
						"Sec-WebSocket-Version": "13",
						Origin: origin,
					},
				});
				asked.on("response", (response) => resolve(response.statusCode!));
				asked.on("upgrade", (response, socket) => {
					socket.destroy();
					resolve(response.statusCode!);
				});
				asked.on("error", reject);
				asked.end();
			});
		expect(await status("https://evil.example")).toBe(403);
		expect(await status("https://good.example")).toBe(101);
		await server.close();
		const plain = createHttpServer((_request, response) => response.end("hello")).listen(0);
		await new Promise((resolve) => plain.once("listening", resolve));
		const { port } = plain.address() as { port: number };
		await expect(openLink(`ws://127.0.0.1:${port}`)).rejects.toMatchObject({
			code: "ERR_LINK_PROTOCOL",
			message: expect.stringContaining("200"),
		});
		plain.close();
		await expect(openLink("ws://127.0.0.1:1")).rejects.toMatchObject({ code: "ERR_LINK_IO" });
	});
});

test("a port whose other end says nonsense is not harmed", async () => {
	const { port1, port2 } = new MessageChannel();
	const link = createMessagePortLink(port1 as unknown as PortLike);
	let received = 0;
	link.onFrame = () => received++;
	for (const message of [
		null,
		5,
		"text",
		{ frame: "text" },
		{ acknowledge: -5 },
		{ acknowledge: "x" },
		{ frame: new Uint8Array(100) },
	])
		port2.postMessage(message);
	await until(() => received === 1);
	link.close();
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
