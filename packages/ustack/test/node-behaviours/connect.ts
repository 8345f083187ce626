import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo, LookupFunction } from "node:net";
import { type Behaviour, closeOf, type Failure, failureOf, pause, textOf, until } from "./context.ts";

const badPort = { name: "RangeError", code: "ERR_SOCKET_BAD_PORT" };

/** Opening a connection: arguments, addresses, states, failures. */
export const connecting: readonly Behaviour[] = [
	[
		"connect(port, host, listener)",
		async (c) => {
			const { port } = await c.serve();
			await new Promise<void>((resolve) => c.keep(c.net.connect(port, "127.0.0.1", resolve)));
		},
	],
	[
		"connect(options, listener)",
		async (c) => {
			const { port } = await c.serve();
			await new Promise<void>((resolve) => c.keep(c.net.connect({ port, host: "127.0.0.1" }, resolve)));
		},
	],
	[
		"createConnection is connect",
		async (c) => {
			const { port } = await c.serve();
			await once(c.keep(c.net.createConnection({ port, host: "127.0.0.1" })), "connect");
		},
	],
	[
		"new Socket().connect",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(new c.net.Socket());
			assert.equal(socket.connect(port, "127.0.0.1"), socket);
			await once(socket, "connect");
		},
	],
	[
		"a port in a string",
		async (c) => {
			const { port } = await c.serve();
			await once(c.keep(c.net.connect({ port: String(port) as unknown as number, host: "127.0.0.1" })), "connect");
		},
	],
	[
		"localhost by name",
		async (c) => {
			const { port } = await c.serve();
			await once(c.keep(c.net.connect(port, "localhost")), "connect");
		},
	],
	[
		"no host is localhost",
		async (c) => {
			const { port } = await c.serve();
			await once(c.keep(c.net.connect(port)), "connect");
		},
	],
	[
		"IPv6 loopback",
		async (c) => {
			const { port } = await c.serve(undefined, {}, "::1");
			const socket = await c.dial(port, { host: "::1" });
			assert.equal(socket.remoteFamily, "IPv6");
			assert.equal(socket.remoteAddress, "::1");
		},
	],
	[
		"the unspecified address is this host",
		async (c) => {
			const { port } = await c.serve();
			await c.dial(port, { host: "0.0.0.0" });
		},
	],
	[
		"connect and ready follow each other",
		async (c) => {
			const { port } = await c.serve();
			const seen: string[] = [];
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			for (const name of ["connect", "ready"]) socket.on(name, () => seen.push(name));
			await once(socket, "ready");
			assert.deepEqual(seen, ["connect", "ready"]);
		},
	],
	[
		"connecting, pending and readyState on the way",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			assert.deepEqual([socket.connecting, socket.pending, socket.readyState], [true, true, "opening"]);
			await once(socket, "connect");
			assert.deepEqual([socket.connecting, socket.pending, socket.readyState], [false, false, "open"]);
			socket.destroy();
			assert.equal(socket.readyState, "closed");
		},
	],
	[
		"a fresh Socket is not connecting, pending, and open to streams",
		async (c) => {
			const socket = c.keep(new c.net.Socket());
			assert.deepEqual([socket.connecting, socket.pending, socket.readyState], [false, true, "open"]);
			assert.deepEqual(socket.address(), {});
		},
	],
	[
		"readyState is readOnly after end, writeOnly after the peer's",
		async (c) => {
			const { near, far } = await c.pair({ allowHalfOpen: true }, { allowHalfOpen: true });
			far.resume();
			near.end();
			assert.equal(near.readyState, "readOnly");
			await once(far, "end");
			assert.equal(far.readyState, "writeOnly");
		},
	],
	[
		"local and remote names agree on both ends",
		async (c) => {
			const { near, far, port } = await c.pair();
			assert.equal(near.remotePort, port);
			assert.equal(far.localPort, port);
			assert.equal(near.localPort, far.remotePort);
			assert.deepEqual([near.localAddress, far.remoteAddress], ["127.0.0.1", "127.0.0.1"]);
			assert.deepEqual([near.remoteFamily, far.remoteFamily, near.localFamily], ["IPv4", "IPv4", "IPv4"]);
		},
	],
	[
		"address() of a socket is its own end",
		async (c) => {
			const { near } = await c.pair();
			assert.deepEqual(near.address(), { address: "127.0.0.1", family: "IPv4", port: near.localPort });
		},
	],
	[
		"names are gone after destroy unless asked for before",
		async (c) => {
			const { near } = await c.pair();
			near.destroy();
			await once(near, "close");
			assert.deepEqual([near.remoteAddress, near.remotePort, near.remoteFamily], [undefined, undefined, undefined]);
		},
	],
	[
		"a remote address asked for before is kept after destroy",
		async (c) => {
			const { near, port } = await c.pair();
			assert.equal(near.remotePort, port);
			near.destroy();
			await once(near, "close");
			assert.equal(near.remotePort, port);
		},
	],
	[
		"remoteAddress is undefined before connect",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			assert.equal(socket.remoteAddress, undefined);
			await once(socket, "connect");
			assert.equal(socket.remoteAddress, "127.0.0.1");
		},
	],
	[
		"localPort binds",
		async (c) => {
			const { port } = await c.serve();
			const localPort = await c.freePort();
			assert.equal((await c.dial(port, { localPort })).localPort, localPort);
		},
	],
	[
		"localAddress binds",
		async (c) => {
			const { port } = await c.serve();
			assert.equal((await c.dial(port, { localAddress: "127.0.0.2" })).localAddress, "127.0.0.2");
		},
	],
	[
		"a localAddress that is not ours: EADDRNOTAVAIL",
		async (c) => {
			const { port } = await c.serve();
			const error = await failureOf(c.net.connect({ port, host: "127.0.0.1", localAddress: "192.0.2.77" }));
			assert.deepEqual([error.code, error.syscall, error.address], ["EADDRNOTAVAIL", "bind", "192.0.2.77"]);
		},
	],
	[
		"a localAddress that is none throws",
		async (c) => {
			assert.throws(() => c.keep(c.net.connect({ port: 1, host: "127.0.0.1", localAddress: "nowhere" })), {
				code: "ERR_INVALID_IP_ADDRESS",
			});
		},
	],
	[
		"a localPort that is no number throws",
		async (c) => {
			assert.throws(() => c.keep(c.net.connect({ port: 1, host: "127.0.0.1", localPort: "x" as unknown as number })), {
				code: "ERR_INVALID_ARG_TYPE",
			});
		},
	],
	[
		"a localPort in use: EADDRINUSE",
		async (c) => {
			const { port } = await c.serve();
			const other = await c.serve();
			const error = await failureOf(c.net.connect({ port, host: "127.0.0.1", localPort: other.port }));
			assert.deepEqual([error.code, error.port], ["EADDRINUSE", other.port]);
		},
	],
	[
		"ECONNREFUSED with all of its properties",
		async (c) => {
			const port = await c.freePort();
			const error = await failureOf(c.net.connect(port, "127.0.0.1"));
			assert.deepEqual(
				[error.code, error.errno, error.syscall, error.address, error.port, error.message],
				["ECONNREFUSED", -111, "connect", "127.0.0.1", port, `connect ECONNREFUSED 127.0.0.1:${port}`],
			);
		},
	],
	[
		"ECONNREFUSED over IPv6 names the address without brackets",
		async (c) => {
			const port = await c.freePort();
			const error = await failureOf(c.net.connect(port, "::1"));
			assert.equal(error.message, `connect ECONNREFUSED ::1:${port}`);
		},
	],
	[
		"a refused localhost is an AggregateError of both families",
		async (c) => {
			const port = await c.freePort();
			const error = (await failureOf(
				c.net.connect({
					port,
					host: "both.test",
					lookup: ((_name: string, _options: object, callback: (e: null, list: object[]) => void) =>
						callback(null, [
							{ address: "127.0.0.1", family: 4 },
							{ address: "::1", family: 6 },
						])) as unknown as LookupFunction,
				}),
			)) as AggregateError & { code: string };
			assert.equal(error.constructor.name, "AggregateError");
			assert.equal(error.code, "ECONNREFUSED");
			assert.deepEqual(
				error.errors.map((each: { address: string }) => each.address),
				["127.0.0.1", "::1"],
			);
		},
	],
	[
		"a failed connect closes with hadError",
		async (c) => {
			const socket = c.keep(c.net.connect(await c.freePort(), "127.0.0.1"));
			assert.equal(await closeOf(socket), true);
			assert.equal(socket.destroyed, true);
		},
	],
	[
		"a group is no peer of TCP: ENETUNREACH",
		async (c) => {
			const error = await failureOf(c.net.connect(80, "224.0.0.1"));
			assert.deepEqual([error.code, error.syscall], ["ENETUNREACH", "connect"]);
		},
	],
	["a port too large throws", async (c) => void assert.throws(() => c.net.connect(65_536, "127.0.0.1"), badPort)],
	["a port below zero throws", async (c) => void assert.throws(() => c.net.connect(-1, "127.0.0.1"), badPort)],
	["a broken port throws", async (c) => void assert.throws(() => c.net.connect({ port: 1.5 }), badPort)],
	["a port of NaN throws", async (c) => void assert.throws(() => c.net.connect({ port: Number.NaN }), badPort)],
	[
		"a host that is no string throws",
		async (c) =>
			void assert.throws(() => c.net.connect({ port: 80, host: 7 as unknown as string }), {
				code: "ERR_INVALID_ARG_TYPE",
			}),
	],
	[
		"no port and no path throws",
		async (c) => void assert.throws(() => c.net.connect({ host: "127.0.0.1" } as never), { code: "ERR_MISSING_ARGS" }),
	],
	[
		"lookup is asked with the name and may answer a single address",
		async (c) => {
			const { port } = await c.serve();
			let asked = "";
			const socket = c.keep(
				c.net.connect({
					port,
					host: "some.test",
					autoSelectFamily: false,
					lookup: (name, _options, callback) => {
						asked = name;
						setImmediate(callback, null, "127.0.0.1", 4);
					},
				}),
			);
			const seen = once(socket, "lookup");
			await once(socket, "connect");
			assert.equal(asked, "some.test");
			assert.deepEqual(await seen, [null, "127.0.0.1", 4, "some.test"]);
		},
	],
	[
		"lookup's failure is the connection's",
		async (c) => {
			const failed = Object.assign(new Error("no"), { code: "ENOTFOUND" });
			const socket = c.net.connect({
				port: 80,
				host: "some.test",
				lookup: (_name, _options, callback) => callback(failed, "", 0),
			});
			assert.equal(await failureOf(socket), failed);
		},
	],
	[
		"lookup that is no function throws",
		async (c) =>
			void assert.throws(() => c.net.connect({ port: 80, host: "a.test", lookup: 1 as unknown as LookupFunction }), {
				code: "ERR_INVALID_ARG_TYPE",
			}),
	],
	[
		"a literal is not looked up",
		async (c) => {
			const { port } = await c.serve();
			const lookup = (() => assert.fail("asked")) as unknown as LookupFunction;
			await c.dial(port, { lookup });
		},
	],
	[
		"an AbortSignal aborted before ends it",
		async (c) => {
			const error = await failureOf(
				c.net.connect({ port: 9, host: "127.0.0.1", signal: AbortSignal.abort() } as never),
			);
			assert.deepEqual([error.name, error.code], ["AbortError", "ABORT_ERR"]);
		},
	],
	[
		"an AbortSignal ends an open connection",
		async (c) => {
			const { port } = await c.serve();
			const controller = new AbortController();
			const socket = await c.dial(port, { signal: controller.signal } as never);
			const failed = failureOf(socket);
			controller.abort();
			assert.equal((await failed).name, "AbortError");
			assert.equal(socket.destroyed, true);
		},
	],
	[
		"happy eyeballs goes on to the family that answers",
		async (c) => {
			const { port } = await c.serve((socket) => socket.end("hi"));
			const socket = c.keep(
				c.net.connect({
					port,
					host: "both.test",
					autoSelectFamily: true,
					lookup: ((_name: string, options: { all: boolean }, callback: (e: null, list: object[]) => void) => {
						assert.equal(options.all, true);
						callback(null, [
							{ address: "::1", family: 6 },
							{ address: "127.0.0.1", family: 4 },
						]);
					}) as unknown as LookupFunction,
				}),
			);
			assert.equal(await textOf(socket), "hi");
			assert.deepEqual(socket.autoSelectFamilyAttemptedAddresses, [`::1:${port}`, `127.0.0.1:${port}`]);
		},
	],
	[
		"happy eyeballs tells of every attempt",
		async (c) => {
			const { port } = await c.serve();
			const seen: unknown[] = [];
			const socket = c.keep(
				c.net.connect({
					port,
					host: "both.test",
					lookup: ((_name: string, _options: object, callback: (e: null, list: object[]) => void) =>
						setImmediate(callback, null, [
							{ address: "::1", family: 6 },
							{ address: "127.0.0.1", family: 4 },
						])) as unknown as LookupFunction,
				}),
			);
			socket.on("connectionAttempt", (address) => seen.push(["try", address]));
			socket.on("connectionAttemptFailed", (address, _port, _family, error) =>
				seen.push([(error as Failure).code, address]),
			);
			await once(socket, "connect");
			assert.deepEqual(seen, [
				["try", "::1"],
				["ECONNREFUSED", "::1"],
				["try", "127.0.0.1"],
			]);
		},
	],
	[
		"autoSelectFamilyAttemptTimeout must be positive",
		async (c) =>
			void assert.throws(
				() => c.net.connect({ port: 9, host: "127.0.0.1", autoSelectFamily: true, autoSelectFamilyAttemptTimeout: 0 }),
				{ code: "ERR_OUT_OF_RANGE" },
			),
	],
	[
		"autoSelectFamily must be a boolean",
		async (c) =>
			void assert.throws(() => c.net.connect({ port: 9, autoSelectFamily: "yes" as unknown as boolean }), {
				code: "ERR_INVALID_ARG_TYPE",
			}),
	],
	[
		"the defaults of happy eyeballs can be read and set",
		async (c) => {
			const { net } = c;
			const before = net.getDefaultAutoSelectFamily();
			net.setDefaultAutoSelectFamily(!before);
			assert.equal(net.getDefaultAutoSelectFamily(), !before);
			net.setDefaultAutoSelectFamily(before);
			assert.ok(net.getDefaultAutoSelectFamilyAttemptTimeout() >= 10);
		},
	],
	[
		"destroy while connecting: close without connect",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1", () => assert.fail("connected")));
			socket.destroy();
			assert.deepEqual(await once(socket, "close"), [false]);
			assert.equal(socket.connecting, false);
		},
	],
	[
		"destroy with an error while connecting gives that error",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.net.connect(port, "127.0.0.1");
			const error = new Error("enough");
			socket.destroy(error);
			assert.equal(await failureOf(socket), error);
		},
	],
	[
		"what is written while connecting arrives",
		async (c) => {
			let got!: Promise<string>;
			const { port } = await c.serve((socket) => {
				got = textOf(socket);
			});
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			socket.write("a");
			socket.end("b");
			await once(socket, "close");
			assert.equal(await got, "ab");
		},
	],
	[
		"end in the connect listener",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1", () => socket.end()));
			assert.deepEqual(await once(socket, "close"), [false]);
		},
	],
	[
		"end at once, before connect",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			socket.end();
			assert.deepEqual(await once(socket, "close"), [false]);
		},
	],
	[
		"a socket connects again after close",
		async (c) => {
			const { port } = await c.serve((socket) => socket.end("x"));
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			socket.resume();
			await once(socket, "close");
			socket.connect(port, "127.0.0.1");
			socket.resume();
			await once(socket, "connect");
			await once(socket, "close");
		},
	],
	[
		"a second connection has a port of its own",
		async (c) => {
			const { port } = await c.serve();
			assert.notEqual((await c.dial(port)).localPort, (await c.dial(port)).localPort);
		},
	],
	[
		"timeout of the options fires when idle",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect({ port, host: "127.0.0.1", timeout: 30 }));
			assert.equal(socket.timeout, 30);
			await once(socket, "timeout");
			assert.equal(socket.destroyed, false);
		},
	],
	[
		"a connection to itself (simultaneous open)",
		async (c) => {
			const port = await c.freePort();
			const socket = await c.dial(port, { localPort: port });
			socket.write("me");
			assert.equal(String((await once(socket, "data"))[0]), "me");
		},
	],
	[
		"many connections at once",
		async (c) => {
			let count = 0;
			const { port } = await c.serve((socket) => {
				count++;
				socket.end(String(socket.remotePort));
			});
			const all = await Promise.all(
				Array.from({ length: 100 }, async () => {
					const socket = await c.dial(port);
					return [String(socket.localPort), await textOf(socket)];
				}),
			);
			assert.equal(count, 100);
			for (const [own, said] of all) assert.equal(said, own);
		},
	],
	[
		"isIP, isIPv4, isIPv6",
		async ({ net }) => {
			const texts = ["127.0.0.1", "::1", "x", "", "1.2.3", "1.2.3.4.5", "::ffff:1.2.3.4", "fe80::1%eth0", "1::2::3"];
			assert.deepEqual(
				texts.map((text) => net.isIP(text)),
				[4, 6, 0, 0, 0, 0, 6, 6, 0],
			);
			assert.deepEqual([net.isIPv4("10.0.0.1"), net.isIPv4("::1"), net.isIPv6("::1")], [true, false, true]);
		},
	],
	[
		"Stream is Socket, BlockList and SocketAddress are there",
		async ({ net }) => {
			assert.equal((net as unknown as { Stream: unknown }).Stream, net.Socket);
			const list = new net.BlockList();
			list.addSubnet("10.0.0.0", 8);
			assert.equal(list.check("10.1.2.3"), true);
			assert.equal(new net.SocketAddress({ address: "::1", family: "ipv6", port: 7 }).port, 7);
		},
	],
	[
		"instanceof Socket and Server",
		async (c) => {
			const { server, near, far } = await c.pair();
			assert.ok(near instanceof c.net.Socket && far instanceof c.net.Socket);
			assert.ok(server instanceof c.net.Server);
		},
	],
	[
		"Socket and Server without new",
		async ({ net }) => {
			const bare = net as unknown as { Server: () => unknown };
			assert.ok(bare.Server() instanceof net.Server);
		},
	],
	[
		"a server's socket knows its server",
		async (c) => {
			const { far, server } = await c.pair();
			assert.equal((far as unknown as { server: unknown }).server, server);
		},
	],
	[
		"IPv4 over a server on :: has mapped addresses",
		async (c) => {
			let remote: string | undefined;
			const { server } = await c.serve(
				(socket) => {
					remote = socket.remoteAddress;
					socket.resume();
				},
				{},
				"::",
			);
			await c.dial((server.address() as AddressInfo).port);
			await until(() => remote !== undefined);
			assert.equal(remote, "::ffff:127.0.0.1");
		},
	],
	[
		"a destroyed socket's writes fail and call back",
		async (c) => {
			const { near } = await c.pair();
			near.destroy();
			const error = await new Promise<Error | null | undefined>((resolve) => near.write("x", resolve));
			assert.equal((error as { code?: string }).code, "ERR_STREAM_DESTROYED");
			await pause(1);
		},
	],
];
