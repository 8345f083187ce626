import { createHash } from "node:crypto";
import dgram from "node:dgram";
import { once } from "node:events";
import net from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createLinkPair } from "@x/netchannel";
import { createHost, type Host, Stack, type TcpConfig, TcpLayer } from "@x/ustack";
import { createDgram, createNet } from "@x/ustack/node";
import { seededBytes, VirtualNetwork, type WireOptions } from "@x/ustack/testing";
import { interleave, type Report, type Row, type Side, type Suite } from "../suite.ts";
import { besideTheKernel } from "../ustack/paths.ts";

const BULK_BYTES = 256 << 20;
const ROUND_TRIPS = 40_000;
const CONNECTIONS = 8_000;
const DATAGRAMS = 120_000;
const LIVE = 20_000;
const LONG_BYTES = 1_000_000_000;
const BLOCK = 65_536;
/** Random loss of a few segments decides a run: the mean of these is told. */
const SEEDS = [1, 2, 3, 4, 5];

interface Pair {
	a: Host;
	b: Host;
	close(): void;
}

function pair(mtu = 1500, offload = false): Pair {
	const [left, right] = createLinkPair({
		mtu,
		...(offload ? { features: { checksum: true, tso4: true, tso6: true } } : {}),
	});
	const a = createHost();
	const b = createHost();
	a.attach(left, { addresses: ["10.0.0.1/24"] });
	b.attach(right, { addresses: ["10.0.0.2/24"] });
	return {
		a,
		b,
		close() {
			a.close();
			b.close();
		},
	};
}

type Net = Pick<typeof net, "createServer" | "connect">;

/** MB/s through the Duplex face, content hashed by the receiver. */
async function duplexBulk(server: Net, client: Net, host: string): Promise<number> {
	const block = Buffer.alloc(BLOCK, 7);
	const hash = createHash("sha1");
	let got = 0;
	const listener = server.createServer();
	listener.listen(0, host);
	await once(listener, "listening");
	const { port } = listener.address() as net.AddressInfo;
	const done = new Promise<void>((resolve) => {
		listener.on("connection", (socket: net.Socket) => {
			socket.on("data", (chunk: Buffer) => {
				hash.update(chunk);
				got += chunk.length;
			});
			socket.on("end", () => resolve());
		});
	});
	const socket = client.connect({ port, host });
	await once(socket, "connect");
	const start = performance.now();
	for (let sent = 0; sent < BULK_BYTES; sent += BLOCK) {
		if (!socket.write(block)) await once(socket, "drain");
	}
	socket.end();
	await done;
	const seconds = (performance.now() - start) / 1000;
	listener.close();
	if (got !== BULK_BYTES || hash.digest("hex") === "") throw new Error(`${got} bytes arrived of ${BULK_BYTES}`);
	return got / seconds / 1e6;
}

/** MB/s through the callback face, content hashed by the receiver. */
async function callbackBulk(hosts: Pair): Promise<number> {
	const block = new Uint8Array(BLOCK).fill(7);
	const hash = createHash("sha1");
	let got = 0;
	let sent = 0;
	const done = new Promise<void>((resolve) => {
		hosts.b.tcp.listen({
			port: 80,
			onConnection: () => ({
				onReadable: (c) => {
					for (let view = c.peek(BLOCK); view.length > 0; view = c.peek(BLOCK)) {
						hash.update(view);
						got += view.length;
						c.consume(view.length);
					}
				},
				onEnd: () => resolve(),
			}),
		});
	});
	const start = performance.now();
	hosts.a.tcp.connect("10.0.0.2", 80, {
		onConnect: push,
		onWritable: push,
	});
	function push(c: import("@x/ustack").TcpConnection): void {
		while (sent < BULK_BYTES) {
			const count = c.write(sent % BLOCK === 0 ? block : block.subarray(sent % BLOCK));
			sent += count;
			if (count === 0) return;
		}
		c.end();
	}
	await done;
	if (got !== BULK_BYTES || hash.digest("hex") === "") throw new Error(`${got} bytes arrived of ${BULK_BYTES}`);
	return got / ((performance.now() - start) / 1000) / 1e6;
}

async function nodeRoundTrips(): Promise<number> {
	const message = Buffer.alloc(128);
	const listener = net.createServer((socket) => {
		socket.setNoDelay(true);
		socket.on("data", () => socket.write(message));
	});
	listener.listen(0, "127.0.0.1");
	await once(listener, "listening");
	const socket = net.connect((listener.address() as net.AddressInfo).port, "127.0.0.1");
	socket.setNoDelay(true);
	await once(socket, "connect");
	const start = performance.now();
	await new Promise<void>((resolve) => {
		let count = 0;
		socket.on("data", () => {
			if (++count === ROUND_TRIPS) resolve();
			else socket.write(message);
		});
		socket.write(message);
	});
	const rate = ROUND_TRIPS / ((performance.now() - start) / 1000);
	socket.destroy();
	listener.close();
	return rate;
}

async function ourRoundTrips(): Promise<number> {
	const hosts = pair();
	const message = new Uint8Array(128);
	hosts.b.tcp.listen({
		port: 80,
		onConnection: (connection) => {
			connection.setNoDelay(true);
			return {
				onReadable: (c) => {
					c.consume(c.readable);
					c.write(message);
				},
			};
		},
	});
	const start = performance.now();
	await new Promise<void>((resolve) => {
		let count = 0;
		hosts.a.tcp.connect(
			"10.0.0.2",
			80,
			{
				onConnect: (c) => void c.write(message),
				onReadable: (c) => {
					c.consume(c.readable);
					if (++count === ROUND_TRIPS) resolve();
					else c.write(message);
				},
			},
			{ noDelay: true },
		);
	});
	const rate = ROUND_TRIPS / ((performance.now() - start) / 1000);
	hosts.close();
	return rate;
}

async function nodeConnections(): Promise<number> {
	const listener = net.createServer((socket) => socket.resume());
	listener.listen(0, "127.0.0.1");
	await once(listener, "listening");
	const { port } = listener.address() as net.AddressInfo;
	const start = performance.now();
	for (let i = 0; i < CONNECTIONS; i++) {
		await new Promise<void>((resolve) => {
			const socket = net.connect(port, "127.0.0.1", () => socket.end());
			socket.resume();
			socket.on("close", () => resolve());
		});
	}
	const rate = CONNECTIONS / ((performance.now() - start) / 1000);
	listener.close();
	return rate;
}

async function ourConnections(): Promise<number> {
	const hosts = pair();
	hosts.b.tcp.listen({ port: 80, onConnection: () => ({ onEnd: (c) => c.close() }) });
	const start = performance.now();
	for (let i = 0; i < CONNECTIONS; i++) {
		await new Promise<void>((resolve) => {
			hosts.a.tcp.connect("10.0.0.2", 80, { onConnect: (c) => c.end(), onClose: () => resolve() });
		});
	}
	const rate = CONNECTIONS / ((performance.now() - start) / 1000);
	hosts.close();
	return rate;
}

/** Datagrams a second with a window of 64 on the way, so that neither side drops; `lost` counts what was lost all the same. */
async function datagrams(
	make: () =>
		| { send(): void; onMessage(action: () => void): void; close(): void }
		| Promise<{ send(): void; onMessage(action: () => void): void; close(): void }>,
): Promise<number> {
	const side = await make();
	const start = performance.now();
	let sent = 0;
	let got = 0;
	const done = new Promise<void>((resolve) => {
		side.onMessage(() => {
			got++;
			if (got === DATAGRAMS) resolve();
			else if (sent < DATAGRAMS) {
				sent++;
				side.send();
			}
		});
	});
	for (; sent < 64; sent++) side.send();
	await done;
	const rate = DATAGRAMS / ((performance.now() - start) / 1000);
	side.close();
	return rate;
}

async function nodeDatagrams() {
	const receiver = dgram.createSocket("udp4");
	receiver.bind(0, "127.0.0.1");
	await once(receiver, "listening");
	const sender = dgram.createSocket("udp4");
	const { port } = receiver.address();
	const message = Buffer.alloc(64);
	return {
		send: () => sender.send(message, port, "127.0.0.1"),
		onMessage: (action: () => void) => void receiver.on("message", action),
		close: () => {
			receiver.close();
			sender.close();
		},
	};
}

async function ourDgram() {
	const hosts = pair();
	const receiver = createDgram(hosts.b).createSocket("udp4");
	receiver.bind(9);
	await once(receiver, "listening");
	const sender = createDgram(hosts.a).createSocket("udp4");
	sender.bind(0);
	await once(sender, "listening");
	const message = Buffer.alloc(64);
	return {
		send: () => sender.send(message, 9, "10.0.0.2"),
		onMessage: (action: () => void) => void receiver.on("message", action),
		close: () => hosts.close(),
	};
}

function ourCallbacks() {
	const hosts = pair();
	let act: () => void = () => undefined;
	hosts.b.udp.open({ port: 9, onMessage: () => act() });
	const sender = hosts.a.udp.open();
	const message = new Uint8Array(64);
	let queued = 0;
	return {
		// Sent from the event loop, not from inside the receiver.
		send: () => {
			if (queued++ === 0) {
				setImmediate(() => {
					const count = queued;
					queued = 0;
					for (let i = 0; i < count; i++) sender.send(message, "10.0.0.2", 9);
				});
			}
		},
		onMessage: (action: () => void) => {
			act = action;
		},
		close: () => hosts.close(),
	};
}

/** Virtual time: bytes a second of one transfer over a modelled wire, and what the sender went through. */
function modelled(
	wire: WireOptions,
	config: Partial<TcpConfig>,
	bytes: number,
	seed: number,
): { rate: number; retransmitted: number; timeouts: number; whole: boolean } {
	const network = new VirtualNetwork(seed);
	const ends = network.wire(wire);
	const [a, b] = [0, 1].map((i) => {
		const stack = new Stack({ random: seededBytes(i + 5) });
		network.add(stack);
		const tcp = new TcpLayer(stack, config);
		stack.addAddress(network.attach(stack, ends[i]!), `10.0.0.${i + 1}/24`);
		return tcp;
	}) as [TcpLayer, TcpLayer];
	const sent = createHash("sha1");
	const received = createHash("sha1");
	let ended = false;
	b.listen({
		port: 80,
		onConnection: () => ({
			onReadable: (c) => {
				received.update(c.peek(c.readable).slice());
				c.consume(c.peek(c.readable).length);
				if (c.readable > 0) {
					received.update(c.peek(c.readable).slice());
					c.consume(c.readable);
				}
			},
			onEnd: () => {
				ended = true;
			},
		}),
	});
	const block = seededBlock();
	let offset = 0;
	const push = (c: import("@x/ustack").TcpConnection) => {
		while (offset < bytes) {
			const part = block.subarray(offset % BLOCK, Math.min(BLOCK, (offset % BLOCK) + bytes - offset));
			const count = c.write(part);
			sent.update(part.subarray(0, count));
			offset += count;
			if (count < part.length) return;
		}
		c.end();
	};
	const start = network.now;
	const c = a.connect("10.0.0.2", 80, { onConnect: push, onWritable: push });
	network.run(7_200_000, () => ended);
	return {
		rate: bytes / ((network.now - start) / 1000),
		retransmitted: c.totalRetrans,
		timeouts: c.timeouts,
		whole: ended && sent.digest("hex") === received.digest("hex"),
	};
}

function seededBlock(): Uint8Array {
	const block = new Uint8Array(BLOCK);
	seededBytes(3)(block);
	return block;
}

/** What the issue asks of a side: the least ratio and the aim. */
type Aims = Record<string, readonly [number, number]>;

function ratios(
	report: Report,
	title: string,
	unit: string,
	figures: Map<string, number>,
	base: string,
	aims: Aims,
): void {
	const of = figures.get(base)!;
	report.table(
		title,
		[...figures].map(
			([name, value]): Row => ({
				side: name,
				[unit]: Math.round(value),
				ratio: Number((value / of).toFixed(2)),
				least: aims[name]?.[0] ?? "",
				aim: aims[name]?.[1] ?? "",
			}),
		),
	);
}

function onNet(name: string, mtu: number, offload: boolean): Side {
	return {
		name,
		run: async () => {
			const hosts = pair(mtu, offload);
			const rate = await duplexBulk(
				createNet(hosts.b) as unknown as Net,
				createNet(hosts.a) as unknown as Net,
				"10.0.0.2",
			);
			hosts.close();
			return rate;
		},
	};
}

function onCallbacks(name: string, mtu: number, offload: boolean): Side {
	return {
		name,
		run: async () => {
			const hosts = pair(mtu, offload);
			const rate = await callbackBulk(hosts);
			hosts.close();
			return rate;
		},
	};
}

async function liveConnections(report: Report): Promise<void> {
	const hosts = pair();
	const kept: unknown[] = [];
	hosts.b.tcp.listen({
		port: 80,
		backlog: 4096,
		onConnection: (c) => {
			kept.push(c);
			return {};
		},
	});
	const collect = collector();
	collect();
	const before = process.memoryUsage();
	for (let i = 0; i < LIVE; i++) {
		await new Promise<void>((resolve) => {
			kept.push(hosts.a.tcp.connect("10.0.0.2", 80, { onConnect: () => resolve() }));
		});
	}
	await new Promise((resolve) => setTimeout(resolve, 200));
	collect();
	const after = process.memoryUsage();
	// Both ends are in this process.
	const each = (after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) / (LIVE * 2);
	report.table("Live connections", [
		{
			connections: LIVE,
			"heap bytes each": Math.round(each),
			most: 4096,
			kept: kept.length,
		},
	]);
	hosts.close();
}

/** A full collection on demand, whatever flags the process was started with. */
function collector(): () => void {
	setFlagsFromString("--expose-gc");
	return runInNewContext("gc") as () => void;
}

/** How much more memory is held at the end of a gigabyte through one connection than near its beginning. */
async function longTransfer(report: Report): Promise<void> {
	const hosts = pair();
	const collect = collector();
	const held = () => {
		collect();
		const { heapUsed, arrayBuffers } = process.memoryUsage();
		return heapUsed + arrayBuffers;
	};
	let received = 0;
	let before = 0;
	let after = 0;
	await new Promise<void>((resolve) => {
		hosts.b.tcp.listen({
			port: 80,
			onConnection: () => ({
				onReadable: (c) => {
					while (c.readable > 0) {
						const { length } = c.peek();
						received += length;
						c.consume(length);
					}
					if (before === 0 && received > 50_000_000) before = held();
					if (received < LONG_BYTES || after > 0) return;
					after = held();
					resolve();
				},
			}),
		});
		const block = new Uint8Array(BLOCK);
		let sent = 0;
		const push = (c: import("@x/ustack").TcpConnection) => {
			while (sent < LONG_BYTES) {
				const count = c.write(block.subarray(0, Math.min(BLOCK, LONG_BYTES - sent)));
				sent += count;
				if (count === 0) return;
			}
		};
		hosts.a.tcp.connect("10.0.0.2", 80, { onConnect: push, onWritable: push });
	});
	hosts.close();
	report.table("A long transfer", [
		{
			"MB moved": Math.round(received / 1e6),
			"MiB more held": Number(((after - before) / 2 ** 20).toFixed(1)),
			most: 16,
		},
	]);
}

const suite: Suite = async (report) => {
	report.note("bulk: 256 MiB a run, content hashed; five interleaved rounds, medians");
	ratios(
		report,
		"Bulk TCP between two stacks in one process, against node:net's loopback",
		"MB/s",
		await interleave([
			{ name: "node:net loopback", run: () => duplexBulk(net, net, "127.0.0.1") },
			onNet("Duplex, MTU 1500, checksums", 1500, false),
			onCallbacks("callbacks, MTU 1500, checksums", 1500, false),
			onNet("Duplex, MTU 65535, offload", 65_535, true),
			onCallbacks("callbacks, MTU 65535, offload", 65_535, true),
		]),
		"node:net loopback",
		{
			"Duplex, MTU 1500, checksums": [0.35, 0.5],
			"callbacks, MTU 1500, checksums": [0.5, 0.8],
			"Duplex, MTU 65535, offload": [1, 2],
			"callbacks, MTU 65535, offload": [1, 2],
		},
	);
	ratios(
		report,
		"128-byte request and response",
		"per second",
		await interleave([
			{ name: "node:net", run: nodeRoundTrips },
			{ name: "callbacks", run: ourRoundTrips },
		]),
		"node:net",
		{ callbacks: [1, 2] },
	);
	ratios(
		report,
		"Connect and close",
		"per second",
		await interleave([
			{ name: "node:net", run: nodeConnections },
			{ name: "callbacks", run: ourConnections },
		]),
		"node:net",
		{ callbacks: [1.5, 2] },
	);
	ratios(
		report,
		"UDP, 64 bytes, none lost",
		"per second",
		await interleave([
			{ name: "node:dgram", run: () => datagrams(nodeDatagrams) },
			{ name: "dgram look-alike", run: () => datagrams(ourDgram) },
			{ name: "callbacks", run: () => datagrams(ourCallbacks) },
		]),
		"node:dgram",
		{ "dgram look-alike": [2, 4], callbacks: [2, 4] },
	);
	await liveConnections(report);
	await longTransfer(report);
	const paths: [string, WireOptions, Partial<TcpConfig>, number][] = [
		["40 ms RTT, lossless", { delayMs: 20 }, {}, 20_000_000],
		["40 ms RTT, 1 % loss, NewReno", { delayMs: 20, loss: 0.01 }, { congestion: "reno" }, 20_000_000],
		["40 ms RTT, 1 % loss, CUBIC", { delayMs: 20, loss: 0.01 }, { congestion: "cubic" }, 20_000_000],
		[
			"15 % loss, duplication, reordering, corruption",
			{ delayMs: 5, loss: 0.15, duplicate: 0.15, reorder: 0.15, corrupt: 0.15 },
			{},
			100_000,
		],
		["40 ms RTT, 5 % reordering", { delayMs: 20, reorder: 0.05, reorderMs: 4 }, {}, 10_000_000],
	];
	report.table(
		"Paths in virtual time, means of five seeds; the kernel beside us is the next table",
		paths.map(([path, wire, config, bytes]): Row => {
			const runs = SEEDS.map((seed) => modelled(wire, config, bytes, seed));
			const mean = (of: (run: (typeof runs)[number]) => number) =>
				runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
			return {
				path,
				"KB/s": Math.round(mean((run) => run.rate) / 1000),
				retransmitted: Math.round(mean((run) => run.retransmitted)),
				timeouts: runs.reduce((sum, run) => sum + run.timeouts, 0),
				"every byte right": runs.every((run) => run.whole) ? "yes" : "NO",
			};
		}),
	);
	await besideTheKernel(report);
};

export default suite;
