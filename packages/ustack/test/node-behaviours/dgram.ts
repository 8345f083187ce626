import assert from "node:assert/strict";
import type { RemoteInfo, Socket, SocketType } from "node:dgram";
import { once } from "node:events";
import { type Behaviour, type Failure, failureOf, pause, until } from "./context.ts";

const sent = (socket: Socket, ...args: unknown[]): Promise<{ error: Failure | null; bytes: number }> =>
	new Promise((resolve) =>
		(socket.send as (...all: unknown[]) => void)(...args, (error: Failure | null, bytes: number) =>
			resolve({ error, bytes }),
		),
	);

const message = async (socket: Socket): Promise<[string, RemoteInfo]> => {
	const [data, info] = await once(socket, "message");
	return [String(data), info];
};

const notRunning = { code: "ERR_SOCKET_DGRAM_NOT_RUNNING" };
const badPort = { code: "ERR_SOCKET_BAD_PORT" };

/** A datagram socket connected to another. */
async function linked(c: Parameters<Behaviour[1]>[0]): Promise<{ near: Socket; far: Socket; port: number }> {
	const { socket: far, port } = await c.bound();
	const near = c.udp();
	near.connect(port, "127.0.0.1");
	await once(near, "connect");
	return { near, far, port };
}

/** Datagrams: binding, every form of send, connecting, groups, options, closing. */
export const datagrams: readonly Behaviour[] = [
	[
		"bind picks a port and tells",
		async (c) => {
			const { socket, port } = await c.bound();
			assert.ok(port > 0);
			assert.deepEqual(socket.address(), { address: "127.0.0.1", family: "IPv4", port });
		},
	],
	[
		"bind(callback), on every address",
		async (c) => {
			const socket = c.udp();
			await new Promise<void>((resolve) => socket.bind(resolve));
			assert.equal(socket.address().address, "0.0.0.0");
		},
	],
	[
		"bind(port, callback)",
		async (c) => {
			const socket = c.udp();
			await new Promise<void>((resolve) => socket.bind(0, resolve));
			assert.ok(socket.address().port > 0);
		},
	],
	[
		"bind({ port, address })",
		async (c) => {
			const socket = c.udp();
			assert.equal(socket.bind({ port: 0, address: "127.0.0.1" }), socket);
			await once(socket, "listening");
			assert.equal(socket.address().address, "127.0.0.1");
		},
	],
	[
		"udp6 binds to ::",
		async (c) => {
			const socket = c.udp("udp6").bind();
			await once(socket, "listening");
			const { address, family } = socket.address();
			assert.deepEqual([address, family], ["::", "IPv6"]);
		},
	],
	[
		"bind twice throws ERR_SOCKET_ALREADY_BOUND",
		async (c) => {
			const { socket } = await c.bound();
			assert.throws(() => socket.bind(0), { code: "ERR_SOCKET_ALREADY_BOUND" });
		},
	],
	[
		"bind twice in one go throws too",
		async (c) => {
			const socket = c.udp().bind(0);
			assert.throws(() => socket.bind(0), { code: "ERR_SOCKET_ALREADY_BOUND" });
			await once(socket, "listening");
		},
	],
	[
		"a port in use: EADDRINUSE with all of its properties",
		async (c) => {
			const { port } = await c.bound();
			const socket = c.udp();
			socket.bind(port, "127.0.0.1");
			const error = await failureOf(socket);
			assert.deepEqual(
				[error.code, error.errno, error.syscall, error.address, error.port, error.message],
				["EADDRINUSE", -98, "bind", "127.0.0.1", port, `bind EADDRINUSE 127.0.0.1:${port}`],
			);
		},
	],
	[
		"an address that is not ours: EADDRNOTAVAIL",
		async (c) => {
			const socket = c.udp();
			socket.bind(0, "192.0.2.77");
			const error = await failureOf(socket);
			assert.deepEqual(
				[error.code, error.syscall, error.message],
				["EADDRNOTAVAIL", "bind", "bind EADDRNOTAVAIL 192.0.2.77"],
			);
		},
	],
	[
		"reuseAddr shares a port",
		async (c) => {
			const { port } = await c.bound({ type: "udp4", reuseAddr: true });
			const socket = c.udp({ type: "udp4", reuseAddr: true }).bind(port, "127.0.0.1");
			await once(socket, "listening");
		},
	],
	[
		"ipv6Only leaves IPv4's port alone",
		async (c) => {
			const first = c.udp({ type: "udp6", ipv6Only: true }).bind(0);
			await once(first, "listening");
			const second = c.udp("udp4").bind(first.address().port);
			await once(second, "listening");
		},
	],
	[
		":: without ipv6Only takes IPv4's datagrams, mapped",
		async (c) => {
			const socket = c.udp("udp6").bind(0);
			await once(socket, "listening");
			c.udp().send("x", socket.address().port, "127.0.0.1");
			const [, info] = await message(socket);
			assert.deepEqual([info.address, info.family], ["::ffff:127.0.0.1", "IPv6"]);
		},
	],
	[
		"a bad type throws",
		async ({ dgram }) => {
			for (const bad of ["udp", "", undefined, {}, { type: "tcp" }])
				assert.throws(() => dgram.createSocket(bad as SocketType), { code: "ERR_SOCKET_BAD_TYPE" });
		},
	],
	[
		"a message comes with its source",
		async (c) => {
			const { socket, port } = await c.bound();
			const { socket: sender, port: own } = await c.bound();
			sender.send("hello", port, "127.0.0.1");
			assert.deepEqual(await message(socket), ["hello", { address: "127.0.0.1", family: "IPv4", port: own, size: 5 }]);
		},
	],
	[
		"createSocket's listener is for messages",
		async (c) => {
			const got = new Promise<string>((resolve) => {
				const socket = c.dgram.createSocket("udp4", (data) => {
					resolve(String(data));
					socket.close();
				});
				socket.bind(0, "127.0.0.1", () => c.udp().send("x", socket.address().port, "127.0.0.1"));
			});
			assert.equal(await got, "x");
		},
	],
	[
		"this of listeners is the socket",
		async (c) => {
			const { socket, port } = await c.bound();
			const seen = new Promise((resolve) =>
				socket.on("message", function (this: Socket) {
					resolve(this);
				}),
			);
			c.udp().send("x", port, "127.0.0.1");
			assert.equal(await seen, socket);
		},
	],
	[
		"send calls back with the bytes",
		async (c) => {
			const { port } = await c.bound();
			assert.deepEqual(await sent(c.udp(), "äb", port, "127.0.0.1"), { error: null, bytes: 3 });
		},
	],
	[
		"send binds by itself",
		async (c) => {
			const { socket, port } = await c.bound();
			const sender = c.udp();
			sender.send("x", port, "127.0.0.1");
			const [, info] = await message(socket);
			assert.equal(sender.address().port, info.port);
		},
	],
	[
		"send(msg, offset, length, port, address)",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send(Buffer.from("hello"), 1, 3, port, "127.0.0.1");
			assert.equal((await message(socket))[0], "ell");
		},
	],
	[
		"send to no address goes to this host",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send("here", port);
			assert.equal((await message(socket))[0], "here");
		},
	],
	[
		"send to a name",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send("named", port, "localhost");
			assert.equal((await message(socket))[0], "named");
		},
	],
	[
		"send of an array is one datagram",
		async (c) => {
			const { socket, port } = await c.bound();
			const got = message(socket);
			const { bytes } = await sent(c.udp(), ["he", Buffer.from("ll"), Uint8Array.of(111)], port, "127.0.0.1");
			assert.equal(bytes, 5);
			assert.equal((await got)[0], "hello");
		},
	],
	[
		"send of an empty array is an empty datagram",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send([], port, "127.0.0.1");
			assert.equal((await message(socket))[1].size, 0);
		},
	],
	[
		"send of a DataView and of a Uint16Array",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send(new DataView(Uint8Array.of(97, 98).buffer), port, "127.0.0.1");
			assert.equal((await message(socket))[0], "ab");
			c.udp().send(Uint16Array.of(0x6463), port, "127.0.0.1");
			assert.equal((await message(socket))[0], "cd");
		},
	],
	[
		"an empty datagram arrives",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send("", port, "127.0.0.1");
			assert.deepEqual([(await message(socket))[1].size], [0]);
		},
	],
	[
		"what is sent before bound keeps its order",
		async (c) => {
			const { socket, port } = await c.bound();
			const got: string[] = [];
			socket.on("message", (data) => got.push(String(data)));
			const sender = c.udp();
			for (const text of ["1", "2", "3"]) sender.send(text, port, "127.0.0.1");
			await until(() => got.length === 3);
			assert.deepEqual(got, ["1", "2", "3"]);
		},
	],
	[
		"a port in a string",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send("x", String(port) as unknown as number, "127.0.0.1");
			await message(socket);
		},
	],
	[
		"the buffer may be changed once send has called back",
		async (c) => {
			const { socket, port } = await c.bound();
			const data = Buffer.from("old");
			const got = message(socket);
			await sent(c.udp(), data, port, "127.0.0.1");
			data.fill("x");
			assert.equal((await got)[0], "old");
		},
	],
	[
		"bad ports throw",
		async (c) => {
			const socket = c.udp();
			for (const port of [0, -1, 65_536, "x", undefined])
				assert.throws(() => socket.send("x", port as number, "127.0.0.1"), badPort);
		},
	],
	[
		"a bad buffer throws",
		async (c) => {
			for (const bad of [undefined, 7, {}, null])
				assert.throws(() => c.udp().send(bad as unknown as string, 9, "127.0.0.1"), { code: "ERR_INVALID_ARG_TYPE" });
		},
	],
	[
		"a bad array throws",
		async (c) =>
			void assert.throws(() => c.udp().send([7 as unknown as string], 9, "127.0.0.1"), {
				code: "ERR_INVALID_ARG_TYPE",
			}),
	],
	[
		"a bad address throws",
		async (c) =>
			void assert.throws(() => c.udp().send("x", 9, 7 as unknown as string), { code: "ERR_INVALID_ARG_TYPE" }),
	],
	[
		"offset and length outside of the buffer throw",
		async (c) => {
			for (const [offset, length] of [
				[0, 6],
				[6, 0],
				[3, 4],
			] as const)
				assert.throws(() => c.udp().send(Buffer.from("hello"), offset, length, 9, "127.0.0.1"), {
					code: "ERR_BUFFER_OUT_OF_BOUNDS",
				});
		},
	],
	[
		"too large: EMSGSIZE with all of its properties",
		async (c) => {
			const { port } = await c.bound();
			const { error } = await sent(c.udp(), Buffer.alloc(65_508), port, "127.0.0.1");
			assert.deepEqual(
				[error!.code, error!.errno, error!.syscall, error!.address, error!.port, error!.message],
				["EMSGSIZE", -90, "send", "127.0.0.1", port, `send EMSGSIZE 127.0.0.1:${port}`],
			);
		},
	],
	[
		"the largest datagram arrives",
		async (c) => {
			const { socket, port } = await c.bound();
			c.udp().send(Buffer.alloc(65_507, 7), port, "127.0.0.1");
			assert.equal((await message(socket))[1].size, 65_507);
		},
	],
	[
		"a send that fails without a callback fails silently",
		async (c) => {
			const { socket } = await c.bound();
			socket.on("error", (error) => assert.fail(error));
			socket.send(Buffer.alloc(65_508), 9, "127.0.0.1");
			await pause(10);
		},
	],
	[
		"broadcast must be asked for: EACCES",
		async (c) => {
			const { error } = await sent(c.udp(), "x", 9, "255.255.255.255");
			assert.equal(error!.code, "EACCES");
		},
	],
	[
		"setBroadcast before bound: EBADF",
		async (c) => {
			assert.throws(() => c.udp().setBroadcast(true), { code: "EBADF", syscall: "setBroadcast" });
		},
	],
	[
		"setBroadcast once bound",
		async (c) => {
			const { socket } = await c.bound();
			socket.setBroadcast(true);
			socket.setBroadcast(false);
		},
	],
	[
		"connect tells, and names the peer",
		async (c) => {
			const { near, port } = await linked(c);
			assert.deepEqual(near.remoteAddress(), { address: "127.0.0.1", family: "IPv4", port });
		},
	],
	[
		"connect(port, callback) goes to this host",
		async (c) => {
			const { port } = await c.bound();
			const socket = c.udp();
			await new Promise<void>((resolve) => socket.connect(port, resolve));
			assert.equal(socket.remoteAddress().address, "127.0.0.1");
		},
	],
	[
		"connect fixes the own address",
		async (c) => {
			const { near } = await linked(c);
			assert.equal(near.address().address, "127.0.0.1");
		},
	],
	[
		"a connected socket sends without an address",
		async (c) => {
			const { near, far } = await linked(c);
			const got = message(far);
			assert.deepEqual(await sent(near, "x"), { error: null, bytes: 1 });
			assert.equal((await got)[0], "x");
		},
	],
	[
		"a connected socket sends a part",
		async (c) => {
			const { near, far } = await linked(c);
			near.send(Buffer.from("hello"), 1, 2);
			assert.equal((await message(far))[0], "el");
		},
	],
	[
		"a connected socket takes no port",
		async (c) => {
			const { near, far } = await linked(c);
			const got = message(far);
			near.send("x", 9, "127.0.0.1");
			assert.equal((await got)[0], "x");
		},
	],
	[
		"connect twice throws",
		async (c) => {
			const { near, port } = await linked(c);
			assert.throws(() => near.connect(port), { code: "ERR_SOCKET_DGRAM_IS_CONNECTED" });
		},
	],
	[
		"connect to port 0 throws",
		async (c) => {
			for (const port of [0, undefined, -1, 65_536]) assert.throws(() => c.udp().connect(port as number), badPort);
		},
	],
	[
		"connect to an unknown name calls back with the error",
		async (c) => {
			const error = await new Promise<Failure>((resolve) =>
				(c.udp().connect as (...all: unknown[]) => void)(9, "no.such.name.invalid", resolve),
			);
			assert.ok(["ENOTFOUND", "EAI_AGAIN"].includes(error.code!));
		},
	],
	[
		"only the peer's datagrams are taken",
		async (c) => {
			const { near, far } = await linked(c);
			const { socket: other } = await c.bound();
			const got: string[] = [];
			near.on("message", (data) => got.push(String(data)));
			other.send("stranger", near.address().port, "127.0.0.1");
			await pause(10);
			far.send("peer", near.address().port, "127.0.0.1");
			await until(() => got.length > 0);
			assert.deepEqual(got, ["peer"]);
		},
	],
	[
		"a closed port: ECONNREFUSED",
		async (c) => {
			const { port, socket } = await c.bound();
			await new Promise<void>((resolve) => socket.close(resolve));
			const near = c.udp();
			near.connect(port, "127.0.0.1");
			await once(near, "connect");
			near.send("anybody?");
			const error = await failureOf(near);
			assert.deepEqual([error.code, error.syscall, error.errno], ["ECONNREFUSED", "recvmsg", -111]);
		},
	],
	[
		"disconnect",
		async (c) => {
			const { near, far, port } = await linked(c);
			near.disconnect();
			assert.throws(() => near.remoteAddress(), { code: "ERR_SOCKET_DGRAM_NOT_CONNECTED" });
			near.send("again", port, "127.0.0.1");
			assert.equal((await message(far))[0], "again");
		},
	],
	[
		"disconnect and remoteAddress of one not connected throw",
		async (c) => {
			const { socket } = await c.bound();
			for (const act of [() => socket.disconnect(), () => socket.remoteAddress()])
				assert.throws(act, { code: "ERR_SOCKET_DGRAM_NOT_CONNECTED" });
		},
	],
	[
		"connect again after disconnect",
		async (c) => {
			const { near, port } = await linked(c);
			near.disconnect();
			near.connect(port, "127.0.0.1");
			await once(near, "connect");
		},
	],
	[
		"close tells and calls back",
		async (c) => {
			const { socket } = await c.bound();
			let called = false;
			socket.close(() => {
				called = true;
			});
			await once(socket, "close");
			await until(() => called);
		},
	],
	[
		"close of one never bound",
		async (c) => {
			const socket = c.udp();
			socket.close();
			await once(socket, "close");
		},
	],
	[
		"close returns the socket",
		async (c) => {
			const { socket } = await c.bound();
			assert.equal(socket.close(), socket);
		},
	],
	[
		"close twice throws",
		async (c) => {
			const { socket } = await c.bound();
			socket.close();
			assert.throws(() => socket.close(), notRunning);
		},
	],
	[
		"everything on a closed socket throws",
		async (c) => {
			const { socket } = await c.bound();
			socket.close();
			for (const act of [
				() => socket.bind(0),
				() => socket.send("x", 9, "127.0.0.1"),
				() => socket.address(),
				() => socket.addMembership("224.0.0.114"),
			])
				assert.throws(act, notRunning);
		},
	],
	[
		"close inside message",
		async (c) => {
			const { socket, port } = await c.bound();
			socket.on("message", () => socket.close());
			c.udp().send("x", port, "127.0.0.1");
			await once(socket, "close");
		},
	],
	[
		"close while a bind is under way",
		async (c) => {
			const socket = c.udp().bind(0, () => assert.fail("listening"));
			socket.close();
			await once(socket, "close");
			await pause(5);
		},
	],
	[
		"address() before bound: EBADF",
		async (c) => void assert.throws(() => c.udp().address(), { code: "EBADF", syscall: "getsockname" }),
	],
	[
		"an AbortSignal closes it",
		async (c) => {
			const controller = new AbortController();
			const { socket } = await c.bound({ type: "udp4", signal: controller.signal });
			const closed = once(socket, "close");
			controller.abort();
			await closed;
		},
	],
	[
		"an AbortSignal aborted before closes it too",
		async (c) => void (await once(c.udp({ type: "udp4", signal: AbortSignal.abort() }), "close")),
	],
	[
		"a signal that is none throws",
		async ({ dgram }) =>
			void assert.throws(() => dgram.createSocket({ type: "udp4", signal: {} as AbortSignal }), {
				code: "ERR_INVALID_ARG_TYPE",
			}),
	],
	[
		"a lookup of its own",
		async (c) => {
			const { socket, port } = await c.bound();
			const asked: string[] = [];
			const sender = c.udp({
				type: "udp4",
				lookup: (name, _options, callback) => {
					asked.push(name);
					callback(null, "127.0.0.1", 4);
				},
			});
			sender.send("x", port, "named.test");
			await message(socket);
			assert.ok(asked.includes("named.test"));
		},
	],
	[
		"a lookup that is no function throws",
		async ({ dgram }) =>
			void assert.throws(() => dgram.createSocket({ type: "udp4", lookup: "x" as never }), {
				code: "ERR_INVALID_ARG_TYPE",
			}),
	],
	[
		"setTTL answers what was set",
		async (c) => {
			const { socket } = await c.bound();
			assert.equal(socket.setTTL(16), 16);
		},
	],
	[
		"setTTL checks its argument",
		async (c) => {
			const { socket } = await c.bound();
			assert.throws(() => socket.setTTL("x" as unknown as number), { code: "ERR_INVALID_ARG_TYPE" });
			for (const bad of [0, 256]) assert.throws(() => socket.setTTL(bad), { code: "EINVAL", syscall: "setTTL" });
		},
	],
	[
		"setMulticastTTL answers what was set, and checks",
		async (c) => {
			const { socket } = await c.bound();
			assert.equal(socket.setMulticastTTL(16), 16);
			assert.throws(() => socket.setMulticastTTL(1000), { code: "EINVAL" });
			assert.throws(() => socket.setMulticastTTL("x" as unknown as number), { code: "ERR_INVALID_ARG_TYPE" });
		},
	],
	[
		"setMulticastLoopback answers what was set",
		async (c) => {
			const { socket } = await c.bound();
			assert.deepEqual([socket.setMulticastLoopback(false), socket.setMulticastLoopback(true)], [false, true]);
		},
	],
	[
		"setTTL before bound: EBADF",
		async (c) => void assert.throws(() => c.udp().setTTL(5), { code: "EBADF", syscall: "setTTL" }),
	],
	[
		"buffer sizes before bound: ERR_SOCKET_BUFFER_SIZE",
		async (c) => {
			const socket = c.udp();
			for (const act of [
				() => socket.getRecvBufferSize(),
				() => socket.getSendBufferSize(),
				() => socket.setRecvBufferSize(4096),
				() => socket.setSendBufferSize(4096),
			])
				assert.throws(act, { code: "ERR_SOCKET_BUFFER_SIZE" });
		},
	],
	[
		"buffer sizes can be set and read (Linux doubles them)",
		async (c) => {
			const { socket } = await c.bound();
			socket.setRecvBufferSize(10_000);
			socket.setSendBufferSize(12_000);
			assert.deepEqual([socket.getRecvBufferSize(), socket.getSendBufferSize()], [20_000, 24_000]);
		},
	],
	[
		"buffer sizes of the options",
		async (c) => {
			const { socket } = await c.bound({ type: "udp4", recvBufferSize: 10_000, sendBufferSize: 12_000 });
			assert.deepEqual([socket.getRecvBufferSize(), socket.getSendBufferSize()], [20_000, 24_000]);
		},
	],
	[
		"bad buffer sizes throw",
		async (c) => {
			const { socket } = await c.bound();
			for (const bad of [-1, 1.5, "x", Number.POSITIVE_INFINITY])
				assert.throws(() => socket.setRecvBufferSize(bad as number), { code: "ERR_SOCKET_BAD_BUFFER_SIZE" });
		},
	],
	[
		"nothing waits in the send queue",
		async (c) => {
			const { socket } = await c.bound();
			assert.deepEqual([socket.getSendQueueSize(), socket.getSendQueueCount()], [0, 0]);
		},
	],
	[
		"ref and unref chain",
		async (c) => {
			const { socket } = await c.bound();
			assert.equal(socket.unref().ref(), socket);
		},
	],
	[
		"Symbol.asyncDispose closes, more than once too",
		async (c) => {
			const { socket } = await c.bound();
			await socket[Symbol.asyncDispose]();
			await socket[Symbol.asyncDispose]();
			assert.throws(() => socket.address(), notRunning);
		},
	],
	[
		"addMembership without an address throws",
		async (c) => {
			const { socket } = await c.bound();
			for (const act of ["addMembership", "dropMembership"] as const)
				assert.throws(() => (socket[act] as () => void)(), { code: "ERR_MISSING_ARGS" });
		},
	],
	[
		"addMembership of no group: EINVAL",
		async (c) => {
			const { socket } = await c.bound("udp4", "0.0.0.0");
			for (const act of ["addMembership", "dropMembership"] as const)
				assert.throws(() => socket[act]("256.256.256.256"), { code: "EINVAL" });
		},
	],
	[
		"membership is taken once: EADDRINUSE, and left once: EADDRNOTAVAIL",
		async (c) => {
			const { socket } = await c.bound("udp4", "0.0.0.0");
			socket.addMembership("239.7.7.7", "127.0.0.1");
			assert.throws(() => socket.addMembership("239.7.7.7", "127.0.0.1"), { code: "EADDRINUSE" });
			socket.dropMembership("239.7.7.7", "127.0.0.1");
			assert.throws(() => socket.dropMembership("239.7.7.7", "127.0.0.1"), { code: "EADDRNOTAVAIL" });
		},
	],
	[
		"a group's datagram reaches its members on this host",
		async (c) => {
			const member = c.udp({ type: "udp4", reuseAddr: true }).bind(0);
			await once(member, "listening");
			member.addMembership("239.7.7.8", "127.0.0.1");
			const { socket: sender } = await c.bound();
			sender.setMulticastInterface("127.0.0.1");
			sender.send("group", member.address().port, "239.7.7.8");
			assert.equal((await message(member))[0], "group");
		},
	],
	[
		"who left a group hears it no more",
		async (c) => {
			const { socket: member, port } = await c.bound("udp4", "0.0.0.0");
			member.addMembership("239.7.7.9", "127.0.0.1");
			member.dropMembership("239.7.7.9", "127.0.0.1");
			const got: string[] = [];
			member.on("message", (data) => got.push(String(data)));
			const { socket: sender } = await c.bound();
			sender.setMulticastInterface("127.0.0.1");
			sender.send("group", port, "239.7.7.9");
			await pause(10);
			sender.send("unicast", port, "127.0.0.1");
			await until(() => got.length > 0);
			assert.deepEqual(got, ["unicast"]);
		},
	],
	[
		"setMulticastInterface checks",
		async (c) => {
			const { socket } = await c.bound();
			socket.setMulticastInterface("0.0.0.0");
			assert.throws(() => socket.setMulticastInterface(7 as unknown as string), { code: "ERR_INVALID_ARG_TYPE" });
			assert.throws(() => socket.setMulticastInterface("not an address"), { code: "EINVAL" });
			assert.throws(() => socket.setMulticastInterface("192.0.2.77"), { code: "EADDRNOTAVAIL" });
		},
	],
	[
		"source-specific membership",
		async (c) => {
			const { socket } = await c.bound("udp4", "0.0.0.0");
			socket.addSourceSpecificMembership("127.0.0.1", "232.1.1.1", "127.0.0.1");
			const { socket: sender } = await c.bound();
			sender.setMulticastInterface("127.0.0.1");
			const got = message(socket);
			sender.send("wanted", socket.address().port, "232.1.1.1");
			assert.equal((await got)[0], "wanted");
			socket.dropSourceSpecificMembership("127.0.0.1", "232.1.1.1", "127.0.0.1");
			assert.throws(() => socket.dropSourceSpecificMembership("127.0.0.1", "232.1.1.1", "127.0.0.1"), {
				code: "EINVAL",
			});
		},
	],
	[
		"source-specific membership takes nobody else's datagrams",
		async (c) => {
			const { socket, port } = await c.bound("udp4", "0.0.0.0");
			socket.addSourceSpecificMembership("127.0.0.2", "232.1.1.2", "127.0.0.1");
			const got: string[] = [];
			socket.on("message", (data) => got.push(String(data)));
			const { socket: sender } = await c.bound();
			sender.setMulticastInterface("127.0.0.1");
			sender.send("unwanted", port, "232.1.1.2");
			await pause(10);
			sender.send("unicast", port, "127.0.0.1");
			await until(() => got.length > 0);
			assert.deepEqual(got, ["unicast"]);
		},
	],
	[
		"Socket is exported, and called without new",
		async ({ dgram }) => {
			const socket = dgram.createSocket("udp4");
			assert.ok(socket instanceof dgram.Socket);
			socket.close();
		},
	],
];
