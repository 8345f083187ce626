import assert from "node:assert/strict";
import { once } from "node:events";
import { pipeline } from "node:stream/promises";
import { type Behaviour, closeOf, type Failure, failureOf, pause, textOf, until } from "./context.ts";

/** An open connection: bytes, ends, pauses, resets. */
export const streaming: readonly Behaviour[] = [
	[
		"an echo of a megabyte",
		async (c) => {
			const { port } = await c.serve((socket) => void socket.pipe(socket), { allowHalfOpen: true });
			const socket = await c.dial(port);
			const data = Buffer.alloc(1 << 20, "0123456789abcdef!");
			socket.end(data);
			assert.equal(await textOf(socket), data.toString());
		},
	],
	[
		"pipeline finishes both ways",
		async (c) => {
			const { port } = await c.serve((socket) => void pipeline(socket, socket), { allowHalfOpen: true });
			const socket = await c.dial(port);
			socket.end("there and back");
			assert.equal(await textOf(socket), "there and back");
		},
	],
	[
		"write answers true while there is room and calls back",
		async (c) => {
			const { near } = await c.pair();
			let called = 0;
			assert.equal(
				near.write("x", () => called++),
				true,
			);
			await until(() => called === 1);
		},
	],
	[
		"write(string, encoding)",
		async (c) => {
			const { near, far } = await c.pair();
			near.end("68656c6c6f", "hex");
			assert.equal(await textOf(far), "hello");
		},
	],
	[
		"write takes a Uint8Array",
		async (c) => {
			const { near, far } = await c.pair();
			near.end(Uint8Array.of(104, 105));
			assert.equal(await textOf(far), "hi");
		},
	],
	[
		"write of a number throws",
		async (c) => {
			const { near } = await c.pair();
			assert.throws(() => near.write(7 as unknown as string), { code: "ERR_INVALID_ARG_TYPE" });
		},
	],
	[
		"write of null throws",
		async (c) => {
			const { near } = await c.pair();
			assert.throws(() => near.write(null as unknown as string), { code: "ERR_STREAM_NULL_VALUES" });
		},
	],
	[
		"writes arrive in order",
		async (c) => {
			const { near, far } = await c.pair();
			const got = textOf(far);
			let all = "";
			for (let i = 0; i < 500; i++) {
				all += `${i},`;
				near.write(`${i},`);
			}
			near.end();
			assert.equal(await got, all);
		},
	],
	[
		"cork and uncork",
		async (c) => {
			const { near, far } = await c.pair();
			near.cork();
			near.write("a");
			near.write("b");
			assert.equal(near.writableLength, 2);
			near.uncork();
			assert.equal(String((await once(far, "data"))[0]), "ab");
		},
	],
	[
		"setEncoding gives strings, multi-byte characters whole",
		async (c) => {
			const { near, far } = await c.pair();
			far.setEncoding("utf8");
			let text = "";
			far.on("data", (chunk) => {
				assert.equal(typeof chunk, "string");
				text += chunk;
			});
			const bytes = Buffer.from("€uro");
			near.setNoDelay(true);
			near.write(bytes.subarray(0, 1));
			await pause(10);
			near.end(bytes.subarray(1));
			await once(far, "end");
			assert.equal(text, "€uro");
		},
	],
	[
		"data comes as Buffers",
		async (c) => {
			const { near, far } = await c.pair();
			near.write("x");
			assert.ok(Buffer.isBuffer((await once(far, "data"))[0]));
		},
	],
	[
		"pause holds data back, resume gives it",
		async (c) => {
			const { near, far } = await c.pair();
			let got = 0;
			far.on("data", (chunk) => {
				got += chunk.length;
			});
			far.pause();
			near.write("hello");
			await pause(20);
			assert.equal(got, 0);
			assert.equal(far.isPaused(), true);
			far.resume();
			await until(() => got === 5);
		},
	],
	[
		"pause holds back the end as well",
		async (c) => {
			const { near, far } = await c.pair();
			let ended = false;
			far.on("end", () => {
				ended = true;
			});
			far.pause();
			near.end("x");
			await pause(20);
			assert.equal(ended, false);
			far.resume();
			await until(() => ended);
		},
	],
	[
		"read() and readable",
		async (c) => {
			const { near, far } = await c.pair();
			near.end("abc");
			await once(far, "readable");
			assert.equal(String(far.read(2)), "ab");
			assert.equal(String(far.read()), "c");
		},
	],
	[
		"back-pressure: write says false, drain follows",
		async (c) => {
			const { near, far } = await c.pair({ pauseOnConnect: true });
			const block = Buffer.alloc(1 << 20);
			for (let i = 0; i < 32; i++) near.write(block);
			await pause(10);
			assert.equal(near.writableNeedDrain, true);
			far.resume();
			await once(near, "drain");
		},
	],
	[
		"bytesWritten and bytesRead count bytes",
		async (c) => {
			const { near, far } = await c.pair();
			near.write("äö");
			near.end("x");
			far.resume();
			await once(far, "close");
			assert.deepEqual([near.bytesWritten, far.bytesRead], [5, 5]);
		},
	],
	[
		"bytesWritten counts what waits for the connection",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			socket.write("hello");
			assert.equal(socket.bytesWritten, 5);
			socket.write("€");
			assert.equal(socket.bytesWritten, 8);
			await once(socket, "connect");
			assert.equal(socket.bytesWritten, 8);
		},
	],
	[
		"bytesRead outlives the connection",
		async (c) => {
			const { port } = await c.serve((socket) => socket.end("12345"));
			const socket = await c.dial(port);
			socket.resume();
			await once(socket, "close");
			assert.equal(socket.bytesRead, 5);
		},
	],
	[
		"bufferSize is what waits",
		async (c) => {
			const { port } = await c.serve();
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			socket.write("12345");
			assert.equal((socket as unknown as { bufferSize: number }).bufferSize, 5);
		},
	],
	[
		"bufferSize of a fresh socket is undefined",
		async (c) => {
			const socket = c.keep(new c.net.Socket());
			assert.equal((socket as unknown as { bufferSize?: number }).bufferSize, undefined);
		},
	],
	[
		"highWaterMark of the options",
		async (c) => {
			const { near } = await c.pair({}, { highWaterMark: 10 });
			assert.equal(near.writableHighWaterMark, 10);
		},
	],
	[
		"the server's highWaterMark reaches its sockets",
		async (c) => {
			const { far } = await c.pair({ highWaterMark: 4321 } as never);
			assert.equal(far.readableHighWaterMark, 4321);
		},
	],
	[
		"onread puts bytes into the caller's buffer",
		async (c) => {
			const { port } = await c.serve((socket) => socket.end("0123456789"));
			const buffer = Buffer.alloc(4);
			const seen: string[] = [];
			const socket = c.keep(
				c.net.connect({
					port,
					host: "127.0.0.1",
					onread: {
						buffer,
						callback: (count, view) => {
							assert.equal(view, buffer);
							seen.push(String(buffer.subarray(0, count)));
							return true;
						},
					},
				}),
			);
			socket.on("data", () => assert.fail("data with onread"));
			await once(socket, "end");
			assert.equal(seen.join(""), "0123456789");
			assert.ok(seen.length >= 3);
		},
	],
	[
		"onread's buffer may be made anew each time",
		async (c) => {
			const { port } = await c.serve((socket) => socket.end("0123456789"));
			const made: Uint8Array[] = [];
			let text = "";
			const socket = c.keep(
				c.net.connect({
					port,
					host: "127.0.0.1",
					onread: {
						buffer: () => {
							made.push(new Uint8Array(3));
							return made.at(-1)!;
						},
						callback: (count, view) => {
							text += Buffer.from(view.subarray(0, count)).toString();
							return true;
						},
					},
				}),
			);
			await once(socket, "end");
			assert.equal(text, "0123456789");
			assert.ok(made.length >= 3);
		},
	],
	[
		"onread's callback pauses with false",
		async (c) => {
			const { port } = await c.serve((socket) => socket.end("abcdef"));
			let text = "";
			const socket = c.keep(
				c.net.connect({
					port,
					host: "127.0.0.1",
					onread: {
						buffer: Buffer.alloc(2),
						callback: (count, view) => {
							text += Buffer.from(view.subarray(0, count)).toString();
							return false;
						},
					},
				}),
			);
			await until(() => text === "ab");
			await pause(20);
			assert.equal(text, "ab");
			socket.resume();
			await until(() => text === "abcd");
		},
	],
	[
		"end closes both sides without allowHalfOpen",
		async (c) => {
			const { near, far } = await c.pair();
			far.resume();
			near.resume();
			near.end();
			assert.deepEqual(await Promise.all([once(near, "close"), once(far, "close")]), [[false], [false]]);
		},
	],
	[
		"allowHalfOpen: the other side goes on writing",
		async (c) => {
			const { near, far } = await c.pair({ allowHalfOpen: true }, { allowHalfOpen: true });
			near.end("question");
			assert.equal(await textOf(far), "question");
			assert.equal(far.writable, true);
			far.end("answer");
			assert.equal(await textOf(near), "answer");
		},
	],
	[
		"allowHalfOpen is a property",
		async (c) => {
			const { near, far } = await c.pair({ allowHalfOpen: true });
			assert.deepEqual([near.allowHalfOpen, far.allowHalfOpen], [false, true]);
		},
	],
	[
		"end, finish and close come in order",
		async (c) => {
			const { near, far } = await c.pair();
			const seen: string[] = [];
			for (const name of ["end", "finish", "close"]) far.on(name, () => seen.push(name));
			far.resume();
			near.end();
			await once(far, "close");
			assert.deepEqual(seen, ["end", "finish", "close"]);
		},
	],
	[
		"end calls back when finished",
		async (c) => {
			const { near } = await c.pair();
			await new Promise<void>((resolve) => near.end("x", resolve));
			assert.equal(near.writableFinished, true);
		},
	],
	[
		"write after end: ERR_STREAM_WRITE_AFTER_END",
		async (c) => {
			const { near } = await c.pair();
			near.end();
			const failed = failureOf(near);
			near.write("late");
			assert.equal((await failed).code, "ERR_STREAM_WRITE_AFTER_END");
		},
	],
	[
		"write after the peer's end, without allowHalfOpen: EPIPE",
		async (c) => {
			const { near, far } = await c.pair();
			far.end();
			near.resume();
			await once(near, "end");
			const error = await new Promise<Failure>((resolve) => near.write("late", (failed) => resolve(failed as Failure)));
			assert.ok(["EPIPE", "ERR_STREAM_DESTROYED", "ERR_STREAM_WRITE_AFTER_END"].includes(error.code!));
		},
	],
	[
		"write on a socket never connected: ERR_SOCKET_CLOSED",
		async (c) => {
			const socket = c.keep(new c.net.Socket());
			const error = await new Promise<Failure>((resolve) => socket.write("x", (failed) => resolve(failed as Failure)));
			assert.equal(error.code, "ERR_SOCKET_CLOSED");
		},
	],
	[
		"close() flushes: everything written before end arrives",
		async (c) => {
			const { near, far } = await c.pair();
			let got = 0;
			far.on("data", (chunk) => {
				got += chunk.length;
			});
			near.end(Buffer.alloc(3_000_000));
			await once(far, "end");
			assert.equal(got, 3_000_000);
		},
	],
	[
		"destroySoon flushes first",
		async (c) => {
			const { near, far } = await c.pair();
			near.write("last words");
			near.destroySoon();
			assert.equal(await textOf(far), "last words");
			assert.equal(near.destroyed, true);
		},
	],
	[
		"destroy closes once, hadError false",
		async (c) => {
			const { near } = await c.pair();
			let closes = 0;
			near.on("close", () => closes++);
			assert.equal(near.destroy(), near);
			near.destroy();
			assert.deepEqual(await once(near, "close"), [false]);
			await pause(5);
			assert.equal(closes, 1);
		},
	],
	[
		"destroy with an error: error, then close with hadError",
		async (c) => {
			const { near } = await c.pair();
			const seen: unknown[] = [];
			const error = new Error("boom");
			near.on("error", (failed) => seen.push(failed));
			near.on("close", (had) => seen.push(had));
			near.destroy(error);
			await closeOf(near);
			assert.deepEqual(seen, [error, true]);
		},
	],
	[
		"destroy ends the peer",
		async (c) => {
			const { near, far } = await c.pair();
			far.resume();
			near.destroy();
			await once(far, "close");
		},
	],
	[
		"destroy with unread data resets: ECONNRESET",
		async (c) => {
			const { near, far } = await c.pair({ pauseOnConnect: true });
			near.write("unread");
			await pause(20);
			const failed = failureOf(near);
			near.resume();
			far.destroy();
			const error = await failed;
			assert.deepEqual([error.code, error.syscall, error.errno], ["ECONNRESET", "read", -104]);
		},
	],
	[
		"resetAndDestroy: ECONNRESET at the peer",
		async (c) => {
			const { near, far } = await c.pair();
			const failed = failureOf(far);
			far.resume();
			assert.equal(near.resetAndDestroy(), near);
			const error = await failed;
			assert.deepEqual([error.code, error.syscall, error.message], ["ECONNRESET", "read", "read ECONNRESET"]);
			assert.equal(near.destroyed, true);
		},
	],
	[
		"resetAndDestroy while connecting",
		async (c) => {
			const { port } = await c.serve((socket) => void socket.resume());
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			socket.resetAndDestroy();
			assert.deepEqual(await once(socket, "close"), [false]);
		},
	],
	[
		"resetAndDestroy of a fresh socket: ERR_SOCKET_CLOSED",
		async (c) => {
			const socket = new c.net.Socket();
			const failed = failureOf(socket);
			socket.resetAndDestroy();
			assert.equal((await failed).code, "ERR_SOCKET_CLOSED");
		},
	],
	[
		"the peer's reset leaves a socket destroyed",
		async (c) => {
			const { near, far } = await c.pair();
			far.resume();
			near.resetAndDestroy();
			assert.equal(await closeOf(far), true);
			assert.equal(far.destroyed, true);
		},
	],
	[
		"setTimeout fires once idle, does not close",
		async (c) => {
			const { near } = await c.pair();
			assert.equal(near.setTimeout(20), near);
			await once(near, "timeout");
			assert.deepEqual([near.destroyed, near.timeout], [false, 20]);
		},
	],
	[
		"setTimeout takes a listener, once",
		async (c) => {
			const { near } = await c.pair();
			await new Promise<void>((resolve) => near.setTimeout(20, resolve));
			assert.equal(near.listenerCount("timeout"), 0);
		},
	],
	[
		"setTimeout(0) turns it off",
		async (c) => {
			const { near } = await c.pair();
			near.setTimeout(20, () => assert.fail("fired"));
			near.setTimeout(0);
			await pause(50);
			assert.equal(near.timeout, 0);
		},
	],
	[
		"writing puts the timeout off",
		async (c) => {
			const { near, far } = await c.pair();
			far.resume();
			let fired = 0;
			near.setTimeout(1_500, () => fired++);
			for (let i = 0; i < 10; i++) {
				near.write("x");
				await pause(170);
			}
			assert.equal(fired, 0);
		},
	],
	[
		"setTimeout checks its arguments",
		async (c) => {
			const socket = c.keep(new c.net.Socket());
			for (const bad of [-1, Number.POSITIVE_INFINITY, Number.NaN])
				assert.throws(() => socket.setTimeout(bad), { code: "ERR_OUT_OF_RANGE" });
			assert.throws(() => socket.setTimeout("100" as unknown as number), { code: "ERR_INVALID_ARG_TYPE" });
			assert.throws(() => socket.setTimeout(1, 5 as unknown as () => void), { code: "ERR_INVALID_ARG_TYPE" });
		},
	],
	[
		"setNoDelay and setKeepAlive chain, before and after connect",
		async (c) => {
			const socket = c.keep(new c.net.Socket());
			assert.equal(socket.setNoDelay(), socket);
			assert.equal(socket.setKeepAlive(true, 1000), socket);
			const { near } = await c.pair();
			assert.equal(near.setNoDelay(true), near);
			assert.equal(near.setKeepAlive(false), near);
		},
	],
	[
		"ref and unref chain, before and after connect",
		async (c) => {
			const socket = c.keep(new c.net.Socket());
			assert.equal(socket.unref(), socket);
			const { near } = await c.pair();
			assert.equal(near.unref().ref(), near);
		},
	],
	[
		"noDelay and keepAlive of the options",
		async (c) => {
			const { near, far } = await c.pair({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 5000 } as never, {
				noDelay: true,
				keepAlive: true,
			});
			near.end("x");
			assert.equal(await textOf(far), "x");
		},
	],
	[
		"for await over a socket",
		async (c) => {
			const { near, far } = await c.pair();
			far.end("over");
			let text = "";
			for await (const chunk of near) text += chunk;
			assert.equal(text, "over");
		},
	],
	[
		"the peer's end with data still unread is told after the data",
		async (c) => {
			const { near, far } = await c.pair();
			const seen: string[] = [];
			far.end("data");
			await pause(10);
			near.on("data", () => seen.push("data"));
			near.on("end", () => seen.push("end"));
			await once(near, "close");
			assert.deepEqual(seen, ["data", "end"]);
		},
	],
	[
		"both ends at once close cleanly",
		async (c) => {
			const { near, far } = await c.pair();
			near.resume();
			far.resume();
			near.end("a");
			far.end("b");
			assert.deepEqual(await Promise.all([once(near, "close"), once(far, "close")]), [[false], [false]]);
		},
	],
	[
		"writev: an array of writes is one flow",
		async (c) => {
			const { port } = await c.serve((socket) => void socket.pipe(socket), { allowHalfOpen: true });
			const socket = c.keep(c.net.connect(port, "127.0.0.1"));
			for (const part of ["a", Buffer.from("b"), "Yw=="]) {
				if (part === "Yw==") socket.write(part, "base64");
				else socket.write(part);
			}
			socket.end();
			assert.equal(await textOf(socket), "abc");
		},
	],
	[
		"an empty write calls back and sends nothing",
		async (c) => {
			const { near, far } = await c.pair();
			await new Promise<void>((resolve) => near.write("", () => resolve()));
			near.end("x");
			assert.equal(await textOf(far), "x");
		},
	],
	[
		"destroy inside data stops at once",
		async (c) => {
			const { near, far } = await c.pair();
			let chunks = 0;
			far.on("data", () => {
				chunks++;
				far.destroy();
			});
			near.write(Buffer.alloc(1_000_000));
			await once(far, "close");
			assert.equal(chunks, 1);
		},
	],
	[
		"closed and errored of the stream",
		async (c) => {
			const { near } = await c.pair();
			const error = new Error("x");
			near.destroy(error);
			await closeOf(near);
			assert.deepEqual([near.closed, near.errored], [true, error]);
		},
	],
];
