import { once } from "node:events";
import http from "node:http";
import { BlockList } from "node:net";
import { pipeline } from "node:stream/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createNet, type NetModule, type NetServer, type NetSocket } from "../src/node/index.node.ts";
import { hosts } from "./hosts.ts";
import { pattern } from "./world.ts";

let pair: ReturnType<typeof hosts>;
let client: NetModule;
let server: NetModule;

beforeEach(() => {
	pair = hosts();
	client = createNet(pair.a);
	server = createNet(pair.b);
});

afterEach(() => pair.close());

async function listen(
	onConnection: (socket: NetSocket) => void,
	options = {},
): Promise<{ listener: NetServer; port: number }> {
	const listener = server.createServer(options, onConnection);
	listener.listen(0);
	await once(listener, "listening");
	return { listener, port: listener.address()!.port };
}

async function collect(socket: NetSocket): Promise<Buffer> {
	const chunks: Buffer[] = [];
	for await (const chunk of socket) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}

describe("a socket", () => {
	test.each(["10.0.0.2", "fd00::2"])("echoes over %s and closes on both sides", async (host) => {
		const { listener, port } = await listen((socket) => void pipeline(socket, socket), { allowHalfOpen: true });
		const data = pattern(3_000_000);
		const socket = client.connect({ port, host });
		await once(socket, "connect");
		expect(socket.remoteAddress).toBe(host);
		expect(socket.remotePort).toBe(port);
		expect(socket.remoteFamily).toBe(host.includes(":") ? "IPv6" : "IPv4");
		socket.end(data);
		const back = await collect(socket);
		expect(Buffer.compare(back, data)).toBe(0);
		expect(socket.bytesRead).toBe(data.length);
		expect(socket.bytesWritten).toBe(data.length);
		const closed = once(listener, "close");
		listener.close();
		await closed;
	});

	test("is of the class, of a subclass, and takes the module's host", async () => {
		class Named extends client.Socket {
			readonly label = "mine";
		}
		const { port } = await listen((socket) => socket.end(String(socket instanceof server.Socket)));
		const socket = new Named({ allowHalfOpen: true });
		expect(socket).toBeInstanceOf(client.Socket);
		expect(socket.label).toBe("mine");
		expect(socket.host).toBe(pair.a);
		expect(socket.allowHalfOpen).toBe(true);
		socket.connect(port, "10.0.0.2");
		expect((await collect(socket)).toString()).toBe("true");
		socket.end();
		const bare = (client.Socket as unknown as () => NetSocket)();
		expect(bare.host).toBe(pair.a);
	});

	test("is refused with node's own error", async () => {
		const start = performance.now();
		const socket = client.connect(4, "10.0.0.2");
		const [error] = await once(socket, "error");
		expect(error).toMatchObject({
			code: "ECONNREFUSED",
			syscall: "connect",
			address: "10.0.0.2",
			port: 4,
			message: "connect ECONNREFUSED 10.0.0.2:4",
		});
		expect(error.errno).toBeLessThan(0);
		expect(performance.now() - start).toBeLessThan(1_000);
	});

	test("without a route: ENETUNREACH", async () => {
		const [error] = await once(client.connect(80, "203.0.113.1"), "error");
		expect(error.code).toBe("ENETUNREACH");
	});

	test("an unknown name: ENOTFOUND", async () => {
		const [error] = await once(client.connect(80, "no.such.name"), "error");
		expect(error.code).toBe("ENOTFOUND");
	});

	test("resetAndDestroy gives the peer ECONNRESET", async () => {
		const failed = new Promise<Error & { code: string }>((resolve) => {
			void listen((socket) => {
				socket.on("error", (error) => resolve(error as Error & { code: string }));
				socket.resume();
			}).then(async ({ port }) => {
				const socket = client.connect(port, "10.0.0.2");
				await once(socket, "connect");
				socket.resetAndDestroy();
			});
		});
		expect((await failed).code).toBe("ECONNRESET");
	});

	test("half-open: the server answers after the client's end", async () => {
		const { port } = await listen(
			(socket) => {
				socket.resume();
				socket.on("end", () => socket.end("late"));
			},
			{ allowHalfOpen: true },
		);
		const socket = client.connect({ port, host: "10.0.0.2", allowHalfOpen: true });
		socket.end("early");
		expect(String(await collect(socket))).toBe("late");
	});

	test("an idle timeout fires", async () => {
		const { port } = await listen((socket) => socket.resume());
		const socket = client.connect({ port, host: "10.0.0.2" });
		await once(socket, "connect");
		socket.setTimeout(30);
		await once(socket, "timeout");
		socket.destroy();
		await once(socket, "close");
	});

	test("an AbortSignal ends a connect", async () => {
		const controller = new AbortController();
		const socket = client.connect({ port: 80, host: "10.0.0.77", signal: controller.signal });
		setTimeout(() => controller.abort(), 10);
		const [error] = await once(socket, "error");
		expect(error).toMatchObject({ name: "AbortError", code: "ABORT_ERR" });
	});

	test("a BlockList blocks", async () => {
		const blockList = new BlockList();
		blockList.addAddress("10.0.0.2");
		const [error] = await once(client.connect({ port: 80, host: "10.0.0.2", blockList }), "error");
		expect(error.code).toBe("ERR_IP_BLOCKED");
	});

	test("happy eyeballs: a dead first family costs the attempt's delay only", async () => {
		const { port } = await listen((socket) => socket.end("hi"));
		const lookup = (
			_name: string,
			_options: unknown,
			callback: (error: null, list: { address: string; family: number }[]) => void,
		) =>
			callback(null, [
				{ address: "fd00::dead", family: 6 },
				{ address: "10.0.0.2", family: 4 },
			]);
		const socket = client.connect({ port, host: "example.test", lookup, autoSelectFamilyAttemptTimeout: 50 });
		expect(String(await collect(socket))).toBe("hi");
		expect(socket.autoSelectFamilyAttemptedAddresses).toEqual([`fd00::dead:${port}`, `10.0.0.2:${port}`]);
	});

	test("a bad port throws at once", () => {
		expect(() => client.connect(65_536, "10.0.0.2")).toThrow(expect.objectContaining({ code: "ERR_SOCKET_BAD_PORT" }));
	});

	test("back-pressure: write() says false, drain follows, memory stays bounded", async () => {
		let peer!: NetSocket;
		const { port } = await listen(
			(socket) => {
				peer = socket;
			},
			{ pauseOnConnect: true },
		);
		const socket = client.connect(port, "10.0.0.2");
		await once(socket, "connect");
		const block = Buffer.alloc(1 << 20, 7);
		let written = 0;
		while (written < 64 && socket.write(block)) written++;
		await new Promise((resolve) => setTimeout(resolve, 50));
		expect(socket.writableLength).toBeGreaterThan(0);
		const drained = once(socket, "drain");
		let got = 0;
		peer.on("data", (chunk: Buffer) => {
			got += chunk.length;
		});
		peer.resume();
		await drained;
		socket.end();
		await once(peer, "end");
		expect(got).toBe(socket.bytesWritten);
	});
});

describe("a server", () => {
	test("a port in use: EADDRINUSE", async () => {
		const { port } = await listen(() => {});
		const second = server.createServer();
		second.listen(port);
		const [error] = await once(second, "error");
		expect(error).toMatchObject({ code: "EADDRINUSE", syscall: "listen", port });
	});

	test("an address that is not ours: EADDRNOTAVAIL", async () => {
		const second = server.createServer();
		second.listen(80, "10.9.9.9");
		const [error] = await once(second, "error");
		expect(error.code).toBe("EADDRNOTAVAIL");
	});

	test("close() waits for its connections; a second close fails", async () => {
		const { listener, port } = await listen((socket) => socket.resume());
		const socket = client.connect(port, "10.0.0.2");
		await once(socket, "connect");
		await new Promise((resolve) => setTimeout(resolve, 10));
		let closed = false;
		listener.close(() => {
			closed = true;
		});
		await new Promise((resolve) => setTimeout(resolve, 20));
		expect(closed).toBe(false);
		expect(listener.listening).toBe(false);
		socket.end();
		await once(listener, "close");
		expect(closed).toBe(true);
		const error = await new Promise<Error | undefined>((resolve) => listener.close(resolve));
		expect(error).toMatchObject({ code: "ERR_SERVER_NOT_RUNNING" });
	});

	test("maxConnections drops with an event", async () => {
		const { listener, port } = await listen((socket) => socket.resume());
		listener.maxConnections = 1;
		const first = client.connect(port, "10.0.0.2");
		await once(first, "connect");
		const second = client.connect(port, "10.0.0.2");
		second.on("error", () => {});
		const [data] = await once(listener, "drop");
		expect(data.remoteAddress).toBe("::ffff:10.0.0.1");
		first.destroy();
	});
});

describe("programs", () => {
	test("http: server and keep-alive client, unmodified", async () => {
		const web = http.createServer((request, response) => {
			const chunks: Buffer[] = [];
			request.on("data", (chunk: Buffer) => chunks.push(chunk));
			request.on("end", () =>
				response.end(
					JSON.stringify({
						url: request.url,
						length: Buffer.concat(chunks).length,
						from: request.socket.remoteAddress,
					}),
				),
			);
		});
		const { port } = await listen((socket) => web.emit("connection", socket));
		const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
		(agent as unknown as { createConnection: unknown }).createConnection = (options: object) => client.connect(options);
		const ask = (path: string, body: Buffer) =>
			new Promise<string>((resolve, reject) => {
				const request = http.request({ host: "10.0.0.2", port, path, method: "POST", agent }, (response) => {
					let text = "";
					response.setEncoding("utf8");
					response.on("data", (chunk) => {
						text += chunk;
					});
					response.on("end", () => resolve(text));
				});
				request.on("error", reject);
				request.end(body);
			});
		const answers = await Promise.all([0, 1, 2, 3, 4, 5].map((i) => ask(`/${i}`, Buffer.alloc(i * 100_000))));
		answers.forEach((answer, i) => {
			expect(JSON.parse(answer)).toEqual({ url: `/${i}`, length: i * 100_000, from: "::ffff:10.0.0.1" });
		});
		agent.destroy();
		web.close();
	});
});
