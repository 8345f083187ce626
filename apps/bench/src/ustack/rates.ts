import dgram from "node:dgram";
import { once } from "node:events";
import net from "node:net";
import { createDgram, createNet } from "@x/ustack/node";
import type { Report } from "../suite.ts";
import { pair } from "./pair.ts";
import { compare } from "./ratios.ts";

const ROUND_TRIPS = 10_000;
const CONNECTIONS = 2_000;
const DATAGRAMS = 30_000;

type Net = Pick<typeof net, "createServer" | "connect">;

/** Runs over node:net's look-alike on two fresh hosts. */
async function onHosts(run: (server: Net, client: Net) => Promise<number>): Promise<number> {
	const hosts = pair();
	const figure = await run(createNet(hosts.b) as unknown as Net, createNet(hosts.a) as unknown as Net);
	hosts.close();
	return figure;
}

async function netRoundTrips(server: Net, client: Net, host: string): Promise<number> {
	const message = Buffer.alloc(128);
	const listener = server.createServer((socket) => {
		socket.setNoDelay(true);
		socket.on("data", () => socket.write(message));
	});
	listener.listen(0, host);
	await once(listener, "listening");
	const socket = client.connect((listener.address() as net.AddressInfo).port, host);
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

async function netConnections(server: Net, client: Net, host: string): Promise<number> {
	const listener = server.createServer((socket) => socket.resume());
	listener.listen(0, host);
	await once(listener, "listening");
	const { port } = listener.address() as net.AddressInfo;
	const start = performance.now();
	for (let i = 0; i < CONNECTIONS; i++) {
		await new Promise<void>((resolve) => {
			const socket = client.connect(port, host, () => socket.end());
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

/** Round trips, connections and datagrams a second. */
export async function rates(report: Report): Promise<void> {
	await compare(report, "128-byte request and response", "per second", 4, [
		{ name: "node:net", run: () => netRoundTrips(net, net, "127.0.0.1") },
		{
			name: "net look-alike",
			least: 1,
			run: () => onHosts((server, client) => netRoundTrips(server, client, "10.0.0.2")),
		},
		{ name: "callbacks", least: 1, aim: 2, run: ourRoundTrips },
	]);
	await compare(report, "Connect and close", "per second", 4, [
		{ name: "node:net", run: () => netConnections(net, net, "127.0.0.1") },
		{ name: "net look-alike", run: () => onHosts((server, client) => netConnections(server, client, "10.0.0.2")) },
		{ name: "callbacks", least: 1.5, aim: 2, run: ourConnections },
	]);
	await compare(report, "UDP, 64 bytes, none lost", "per second", 4, [
		{ name: "node:dgram", run: () => datagrams(nodeDatagrams) },
		{ name: "dgram look-alike", least: 2, aim: 4, run: () => datagrams(ourDgram) },
		{ name: "callbacks", least: 2, aim: 4, run: () => datagrams(ourCallbacks) },
	]);
}
