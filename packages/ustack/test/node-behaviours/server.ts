import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { type Behaviour, failureOf, pause, textOf, until } from "./context.ts";

const counted = (server: Server): Promise<number> =>
	new Promise((resolve, reject) => server.getConnections((error, count) => (error ? reject(error) : resolve(count))));

const listening = async (server: Server): Promise<AddressInfo> => {
	await once(server, "listening");
	return server.address() as AddressInfo;
};

/** A server: listening, addresses, limits, closing. */
export const serving: readonly Behaviour[] = [
	[
		"listen(callback) picks a port",
		async (c) => {
			const server = c.net.createServer();
			await new Promise<void>((resolve) => server.listen(resolve));
			assert.ok((server.address() as AddressInfo).port > 0);
			server.close();
		},
	],
	[
		"listen(0) on every address of both families",
		async (c) => {
			const server = c.net.createServer().listen(0);
			const { address, family } = await listening(server);
			assert.deepEqual([address, family], ["::", "IPv6"]);
			server.close();
		},
	],
	[
		"listen(port, host, backlog, callback)",
		async (c) => {
			const port = await c.freePort();
			const server = c.net.createServer();
			await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", 5, resolve));
			assert.deepEqual(server.address(), { address: "127.0.0.1", family: "IPv4", port });
			server.close();
		},
	],
	[
		"listen(port, backlog)",
		async (c) => {
			const server = c.net.createServer().listen(0, 5);
			assert.equal((await listening(server)).family, "IPv6");
			server.close();
		},
	],
	[
		"listen({ port, host })",
		async (c) => {
			const server = c.net.createServer().listen({ port: 0, host: "127.0.0.1" });
			assert.equal((await listening(server)).address, "127.0.0.1");
			server.close();
		},
	],
	[
		"listen takes a port in a string",
		async (c) => {
			const port = await c.freePort();
			const server = c.net.createServer().listen(String(port) as unknown as number, "127.0.0.1");
			assert.equal((await listening(server)).port, port);
			server.close();
		},
	],
	[
		"listen on localhost by name",
		async (c) => {
			const server = c.net.createServer().listen(0, "localhost");
			assert.ok(["127.0.0.1", "::1"].includes((await listening(server)).address));
			server.close();
		},
	],
	[
		"listen returns the server; listening comes later",
		async (c) => {
			const server = c.net.createServer();
			let told = false;
			server.on("listening", () => {
				told = true;
			});
			assert.equal(server.listen(0), server);
			assert.equal(told, false);
			await once(server, "listening");
			assert.equal(server.listening, true);
			server.close();
		},
	],
	["address() is null before listen", async (c) => assert.equal(c.net.createServer().address(), null)],
	["listening is false before listen", async (c) => assert.equal(c.net.createServer().listening, false)],
	[
		"address() is null after close",
		async (c) => {
			const { server } = await c.serve();
			server.close();
			assert.equal(server.address(), null);
			assert.equal(server.listening, false);
		},
	],
	[
		"listen twice throws ERR_SERVER_ALREADY_LISTEN",
		async (c) => {
			const { server } = await c.serve();
			assert.throws(() => server.listen(0), { code: "ERR_SERVER_ALREADY_LISTEN" });
		},
	],
	[
		"listen twice in one go throws too",
		async (c) => {
			const server = c.net.createServer().listen(0);
			assert.throws(() => server.listen(0), { code: "ERR_SERVER_ALREADY_LISTEN" });
			await once(server, "listening");
			server.close();
		},
	],
	[
		"listen again after close",
		async (c) => {
			const { server, port } = await c.serve();
			await new Promise((resolve) => server.close(resolve));
			server.listen(port, "127.0.0.1");
			assert.equal((await listening(server)).port, port);
		},
	],
	[
		"bad ports throw",
		async (c) => {
			for (const port of [-1, 65_536, 1.5, "x"])
				assert.throws(() => c.net.createServer().listen({ port: port as number }), { code: "ERR_SOCKET_BAD_PORT" });
		},
	],
	[
		"listen of nonsense throws ERR_INVALID_ARG_VALUE",
		async (c) => {
			for (const bad of [{}, { host: "127.0.0.1" }, true, false])
				assert.throws(() => c.net.createServer().listen(bad as object), { code: "ERR_INVALID_ARG_VALUE" });
		},
	],
	[
		"a port in use: EADDRINUSE with all of its properties",
		async (c) => {
			const { port } = await c.serve();
			const server = c.net.createServer();
			server.listen(port, "127.0.0.1");
			const error = await failureOf(server);
			assert.deepEqual(
				[error.code, error.errno, error.syscall, error.address, error.port, error.message],
				["EADDRINUSE", -98, "listen", "127.0.0.1", port, `listen EADDRINUSE: address already in use 127.0.0.1:${port}`],
			);
			assert.equal(server.listening, false);
		},
	],
	[
		"an address that is not ours: EADDRNOTAVAIL",
		async (c) => {
			const server = c.net.createServer();
			server.listen(0, "192.0.2.77");
			const error = await failureOf(server);
			assert.deepEqual(
				[error.code, error.errno, error.syscall, error.address],
				["EADDRNOTAVAIL", -99, "listen", "192.0.2.77"],
			);
			assert.equal(error.message, "listen EADDRNOTAVAIL: address not available 192.0.2.77");
		},
	],
	[
		"an unknown host: ENOTFOUND",
		async (c) => {
			const server = c.net.createServer();
			server.listen(0, "no.such.name.invalid");
			const error = await failureOf(server);
			assert.ok(["ENOTFOUND", "EAI_AGAIN"].includes(error.code!));
			assert.equal(error.syscall, "getaddrinfo");
		},
	],
	[
		"a server that failed to listen may try again",
		async (c) => {
			const { port } = await c.serve();
			const server = c.net.createServer();
			server.listen(port, "127.0.0.1");
			await failureOf(server);
			server.listen(0, "127.0.0.1");
			assert.ok((await listening(server)).port > 0);
			server.close();
		},
	],
	[
		"the same port on two addresses",
		async (c) => {
			const { port } = await c.serve();
			const server = c.net.createServer().listen(port, "127.0.0.2");
			await once(server, "listening");
			server.close();
		},
	],
	[
		"ipv6Only leaves IPv4's port alone",
		async (c) => {
			const { port } = await c.serve();
			const server = c.net.createServer().listen({ port, host: "::", ipv6Only: true });
			await once(server, "listening");
			server.close();
		},
	],
	[
		":: without ipv6Only takes IPv4's port: EADDRINUSE",
		async (c) => {
			const { port } = await c.serve(undefined, {}, "0.0.0.0");
			const server = c.net.createServer();
			server.listen({ port, host: "::" });
			assert.equal((await failureOf(server)).code, "EADDRINUSE");
		},
	],
	[
		"an ipv6Only server refuses IPv4",
		async (c) => {
			const server = c.net.createServer().listen({ port: 0, host: "::", ipv6Only: true });
			const { port } = await listening(server);
			assert.equal((await failureOf(c.net.connect(port, "127.0.0.1"))).code, "ECONNREFUSED");
			server.close();
		},
	],
	[
		"a server on :: takes both families",
		async (c) => {
			const { port } = await c.serve(undefined, {}, "::");
			await c.dial(port);
			await c.dial(port, { host: "::1" });
		},
	],
	[
		"connection comes with the socket",
		async (c) => {
			const { server, port } = await c.serve();
			const taken = once(server, "connection");
			await c.dial(port);
			assert.ok((await taken)[0] instanceof c.net.Socket);
		},
	],
	[
		"the socket of a connection is open",
		async (c) => {
			const { far } = await c.pair();
			assert.deepEqual([far.connecting, far.pending, far.readyState], [false, false, "open"]);
		},
	],
	[
		"createServer takes options or a listener or both",
		async ({ net }) => {
			assert.equal(net.createServer(() => undefined).listenerCount("connection"), 1);
			assert.equal(net.createServer({ allowHalfOpen: true }, () => undefined).listenerCount("connection"), 1);
			assert.equal(net.createServer({ allowHalfOpen: true }).listenerCount("connection"), 0);
			assert.equal(new net.Server(() => undefined).listenerCount("connection"), 1);
		},
	],
	[
		"createServer of a string throws",
		async ({ net }) => void assert.throws(() => net.createServer("path" as never), { code: "ERR_INVALID_ARG_TYPE" }),
	],
	[
		"pauseOnConnect",
		async (c) => {
			const { near, far } = await c.pair({ pauseOnConnect: true });
			let got = "";
			assert.equal(far.isPaused(), true);
			far.on("data", (chunk) => {
				got += chunk;
			});
			near.write("wait");
			await pause(20);
			assert.equal(got, "");
			far.resume();
			await until(() => got === "wait");
		},
	],
	[
		"getConnections counts",
		async (c) => {
			const { server, near } = await c.pair();
			assert.equal(await counted(server), 1);
			near.destroy();
			for (let i = 0; i < 500 && (await counted(server)) > 0; i++) await pause(2);
			assert.equal(await counted(server), 0);
		},
	],
	[
		"getConnections returns the server",
		async (c) => {
			const { server } = await c.serve();
			assert.equal(
				server.getConnections(() => undefined),
				server,
			);
		},
	],
	[
		"maxConnections drops the rest, with an event",
		async (c) => {
			const { server, port } = await c.serve();
			server.maxConnections = 1;
			const first = await c.dial(port);
			const dropped = once(server, "drop");
			const second = c.keep(c.net.connect(port, "127.0.0.1"));
			const [data] = await dropped;
			assert.deepEqual(
				[data.localAddress, data.localPort, data.remoteAddress, data.remoteFamily],
				["127.0.0.1", port, "127.0.0.1", "IPv4"],
			);
			second.resume();
			await once(second, "close");
			assert.equal(first.destroyed, false);
		},
	],
	[
		"a place freed is given again",
		async (c) => {
			const { server, port } = await c.serve((socket) => socket.write("in"));
			server.maxConnections = 1;
			const first = await c.dial(port);
			await once(first, "data");
			first.destroy();
			for (let i = 0; i < 500 && (await counted(server)) > 0; i++) await pause(2);
			const second = await c.dial(port);
			assert.equal(String((await once(second, "data"))[0]), "in");
		},
	],
	[
		"close calls back and tells",
		async (c) => {
			const { server } = await c.serve();
			const told = once(server, "close");
			assert.equal(await new Promise((resolve) => server.close(resolve)), undefined);
			await told;
		},
	],
	[
		"close returns the server",
		async (c) => {
			const { server } = await c.serve();
			assert.equal(server.close(), server);
		},
	],
	[
		"close waits for connections",
		async (c) => {
			const { server, near, far } = await c.pair();
			far.resume();
			let closed = false;
			server.close(() => {
				closed = true;
			});
			await pause(20);
			assert.equal(closed, false);
			near.end();
			await until(() => closed);
		},
	],
	[
		"a connection lives on after close",
		async (c) => {
			const { server, near, far } = await c.pair();
			server.close();
			far.end("still here");
			assert.equal(await textOf(near), "still here");
		},
	],
	[
		"a closed server refuses",
		async (c) => {
			const { server, port } = await c.serve();
			await new Promise((resolve) => server.close(resolve));
			assert.equal((await failureOf(c.net.connect(port, "127.0.0.1"))).code, "ECONNREFUSED");
		},
	],
	[
		"close of a server not running: ERR_SERVER_NOT_RUNNING",
		async (c) => {
			const error = await new Promise<Error | undefined>((resolve) => c.net.createServer().close(resolve));
			assert.equal((error as { code?: string }).code, "ERR_SERVER_NOT_RUNNING");
		},
	],
	[
		"close right after listen",
		async (c) => {
			const server = c.net.createServer().listen(0, () => assert.fail("listening"));
			server.close();
			await once(server, "close");
		},
	],
	[
		"an AbortSignal closes a server",
		async (c) => {
			const controller = new AbortController();
			const server = c.net.createServer().listen({ port: 0, signal: controller.signal });
			await once(server, "listening");
			const closed = once(server, "close");
			controller.abort();
			await closed;
			assert.equal(server.listening, false);
		},
	],
	[
		"an AbortSignal aborted before closes it too",
		async (c) => {
			const server = c.net.createServer().listen({ port: 0, signal: AbortSignal.abort() });
			await once(server, "close");
		},
	],
	[
		"a signal that is none throws",
		async (c) =>
			void assert.throws(() => c.net.createServer().listen({ port: 0, signal: "x" as unknown as AbortSignal }), {
				code: "ERR_INVALID_ARG_TYPE",
			}),
	],
	[
		"ref and unref chain",
		async (c) => {
			const { server } = await c.serve();
			assert.equal(server.unref().ref(), server);
			assert.equal(c.net.createServer().unref().listening, false);
		},
	],
	[
		"Symbol.asyncDispose closes",
		async (c) => {
			const { server } = await c.serve();
			await server[Symbol.asyncDispose]();
			assert.equal(server.listening, false);
			await server[Symbol.asyncDispose]();
		},
	],
	[
		"a port is free again at once after close",
		async (c) => {
			const { near, far, server, port } = await c.pair();
			near.resume();
			far.end();
			await once(near, "close");
			await new Promise((resolve) => server.close(resolve));
			const again = c.net.createServer().listen(port, "127.0.0.1");
			await once(again, "listening");
			again.close();
		},
	],
	[
		"connections not yet taken go when the server closes",
		async (c) => {
			const { server, port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			server.close();
			await new Promise<void>((resolve) => {
				socket.once("close", () => resolve());
				socket.once("connect", resolve);
			});
		},
	],
];
