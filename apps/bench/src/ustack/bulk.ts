import { createHash } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import type { TcpConnection } from "@x/ustack";
import { createNet } from "@x/ustack/node";
import type { Report } from "../suite.ts";
import { type Pair, pair } from "./pair.ts";
import { type Contender, compare } from "./ratios.ts";

const BULK_BYTES = 64 << 20;
const BLOCK = 65_536;
const block = Buffer.alloc(BLOCK, "a block of bytes that is no power of two long ");

type Net = Pick<typeof net, "createServer" | "connect">;

/** What the receiver makes of the bytes: counted and hashed. */
class Receiver {
	private static expected: string | undefined;
	private readonly hash = createHash("sha1");
	private got = 0;

	take(chunk: Uint8Array): void {
		this.hash.update(chunk);
		this.got += chunk.length;
	}

	/** @throws Error when something else arrived than what was sent */
	check(): void {
		const digest = this.hash.digest("hex");
		if (Receiver.expected === undefined) {
			const hash = createHash("sha1");
			for (let sent = 0; sent < BULK_BYTES; sent += BLOCK) hash.update(block);
			Receiver.expected = hash.digest("hex");
		}
		if (this.got !== BULK_BYTES || digest !== Receiver.expected)
			throw new Error(`${this.got} bytes arrived of ${BULK_BYTES}, or other ones`);
	}
}

function rate(start: number): number {
	return BULK_BYTES / ((performance.now() - start) / 1000) / 1e6;
}

/** MB/s through the Duplex face. */
async function duplexBulk(server: Net, client: Net, host: string): Promise<number> {
	const receiver = new Receiver();
	const listener = server.createServer();
	listener.listen(0, host);
	await once(listener, "listening");
	const { port } = listener.address() as net.AddressInfo;
	const done = new Promise<void>((resolve) => {
		listener.on("connection", (socket: net.Socket) => {
			socket.on("data", (chunk: Buffer) => receiver.take(chunk));
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
	const figure = rate(start);
	listener.close();
	receiver.check();
	return figure;
}

/** MB/s through the callback face. */
async function callbackBulk(hosts: Pair): Promise<number> {
	const receiver = new Receiver();
	let sent = 0;
	const done = new Promise<void>((resolve) => {
		const listener = hosts.b.tcp.listen({
			port: 80,
			onConnection: () => ({
				onReadable: (c) => {
					for (let view = c.peek(BLOCK); view.length > 0; view = c.peek(BLOCK)) {
						receiver.take(view);
						c.consume(view.length);
					}
				},
				onEnd: () => {
					listener.close();
					resolve();
				},
			}),
		});
	});
	const start = performance.now();
	hosts.a.tcp.connect("10.0.0.2", 80, {
		onConnect: push,
		onWritable: push,
	});
	function push(c: TcpConnection): void {
		while (sent < BULK_BYTES) {
			const count = c.write(sent % BLOCK === 0 ? block : block.subarray(sent % BLOCK));
			sent += count;
			if (count === 0) return;
		}
		c.end();
	}
	await done;
	const figure = rate(start);
	receiver.check();
	return figure;
}

/** Over one pair of hosts, which stays: hosts live long. */
function contender(name: string, mtu: number, offload: boolean, least: number, aim: number): Contender {
	const hosts = pair(mtu, offload);
	const server = createNet(hosts.b) as unknown as Net;
	const client = createNet(hosts.a) as unknown as Net;
	const run = name.startsWith("callbacks") ? () => callbackBulk(hosts) : () => duplexBulk(server, client, "10.0.0.2");
	return { name, least, aim, run };
}

/** Megabytes a second from one stack to another. */
export async function bulk(report: Report): Promise<void> {
	report.note(`bulk: slices of ${BULK_BYTES >> 20} MiB, content hashed and compared`);
	await compare(report, "Bulk TCP between two stacks in one process, against node:net's loopback", "MB/s", 4, [
		{ name: "node:net loopback", run: () => duplexBulk(net, net, "127.0.0.1") },
		contender("Duplex, MTU 1500, checksums", 1500, false, 0.35, 0.5),
		contender("callbacks, MTU 1500, checksums", 1500, false, 0.5, 0.8),
		contender("Duplex, MTU 65535, offload", 65_535, true, 1, 2),
		contender("callbacks, MTU 65535, offload", 65_535, true, 1, 2),
	]);
}
