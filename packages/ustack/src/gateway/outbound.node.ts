import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { getServers } from "node:dns";
import { connect, createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { type IpAddress, type IpFamily, parseAddress } from "../wire/address.ts";
import { parseDns } from "../wire/dns.ts";
import type { Outbound, OutboundDatagrams, OutboundListener, OutboundStream } from "./outbound.ts";

/** Options of {@link createNodeOutbound}. */
export interface NodeOutboundOptions {
	/** Upstream DNS servers, `ADDRESS` or `ADDRESS:PORT`. @default the host's */
	dnsServers?: readonly string[];
	/** @default 30_000 */
	connectTimeoutMs?: number;
}

/** The host's own program: an ICMP socket is not to be had without native code. */
const PING = "ping";
const CONNECT_TIMEOUT_MS = 30_000;
const DNS_TIMEOUT_MS = 4_000;
const OWN_CACHE_MS = 5_000;

class NodeStream implements OutboundStream {
	onConnect: (() => void) | undefined;
	onData: ((bytes: Uint8Array) => void) | undefined;
	onEnd: (() => void) | undefined;
	onDrain: (() => void) | undefined;
	onClose: ((code: string | undefined) => void) | undefined;
	private readonly socket: Socket;
	private code: string | undefined;

	constructor(socket: Socket, timeoutMs: number) {
		this.socket = socket;
		socket.setNoDelay(true);
		if (timeoutMs > 0) socket.setTimeout(timeoutMs, () => this.fail("ETIMEDOUT"));
		socket.on("connect", () => {
			socket.setTimeout(0);
			this.onConnect?.();
		});
		socket.on("data", (chunk: Buffer) => this.onData?.(chunk));
		socket.on("end", () => this.onEnd?.());
		socket.on("drain", () => this.onDrain?.());
		socket.on("error", (error: Error & { code?: string }) => {
			this.code ??= error.code ?? "ECONNRESET";
		});
		socket.on("close", () => this.onClose?.(this.code));
	}

	private fail(code: string): void {
		this.code = code;
		this.socket.destroy();
	}

	write(bytes: Uint8Array): boolean {
		return this.socket.write(bytes);
	}

	end(): void {
		this.socket.end();
	}

	pause(): void {
		this.socket.pause();
	}

	resume(): void {
		this.socket.resume();
	}

	destroy(): void {
		this.socket.resetAndDestroy();
	}
}

class NodeDatagrams implements OutboundDatagrams {
	onMessage: ((bytes: Uint8Array, address: string, port: number) => void) | undefined;
	onError: ((code: string) => void) | undefined;
	private readonly socket: ReturnType<typeof createSocket>;
	private closed = false;

	constructor(family: IpFamily) {
		this.socket = createSocket(family === 4 ? "udp4" : "udp6");
		this.socket.on("message", (data, info) => this.onMessage?.(data, info.address, info.port));
		this.socket.on("error", (error: Error & { code?: string }) => this.onError?.(error.code ?? "EIO"));
		this.socket.unref();
	}

	send(bytes: Uint8Array, address: string, port: number): void {
		// A datagram that cannot leave is lost, as it would be on the way.
		if (!this.closed) this.socket.send(bytes, port, address, () => undefined);
	}

	close(): void {
		if (this.closed) return;
		this.closed = true;
		this.socket.close();
	}
}

/** The host's own network as a gateway's outside: its sockets, its resolver, its ping. */
export function createNodeOutbound(options: NodeOutboundOptions = {}): Outbound {
	const timeout = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
	let own: { at: number; list: IpAddress[] } | undefined;
	return {
		connect: (address, port) => new NodeStream(connect({ host: address, port, allowHalfOpen: true }), timeout),
		datagrams: (family) => new NodeDatagrams(family),
		ping: (address, timeoutMs) =>
			new Promise((resolve) => {
				execFile(
					PING,
					["-n", "-c", "1", "-W", String(Math.ceil(timeoutMs / 1000)), address],
					{ timeout: timeoutMs + 1_000 },
					(error) => resolve(error === null),
				);
			}),
		listen: (address, port, onConnection) =>
			new Promise<OutboundListener>((resolve, reject) => {
				const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
					onConnection(new NodeStream(socket, 0), {
						address: socket.remoteAddress ?? "",
						port: socket.remotePort ?? 0,
					}),
				);
				server.once("error", reject);
				server.listen(port, address, () => {
					server.off("error", reject);
					server.on("error", () => undefined);
					resolve({ port: (server.address() as { port: number }).port, close: () => void server.close() });
				});
			}),
		listenDatagrams: (address, port, onMessage) =>
			new Promise<OutboundListener>((resolve, reject) => {
				const socket = createSocket(parseAddress(address)?.family === 6 ? "udp6" : "udp4");
				socket.once("error", reject);
				socket.bind(port, address, () => {
					socket.off("error", reject);
					socket.on("error", () => undefined);
					socket.on("message", (data, info) =>
						onMessage(data, { address: info.address, port: info.port }, (bytes) =>
							socket.send(bytes, info.port, info.address, () => undefined),
						),
					);
					resolve({ port: socket.address().port, close: () => void socket.close() });
				});
			}),
		query: async (message) => {
			for (const server of options.dnsServers ?? getServers()) {
				const answer = await askServer(message, server);
				if (answer !== undefined) return answer;
			}
			return undefined;
		},
		ownAddresses: () => {
			const now = performance.now();
			if (own === undefined || now - own.at > OWN_CACHE_MS) {
				const list = Object.values(networkInterfaces()).flatMap((entries) =>
					(entries ?? []).map((entry) => parseAddress(entry.address.replace(/%.*/, ""))),
				);
				own = { at: now, list: list.filter((address) => address !== undefined) };
			}
			return own.list;
		},
	};
}

function splitServer(server: string): { host: string; port: number } {
	const match = /^\[(.+)\]:(\d+)$/.exec(server) ?? /^([^:]+):(\d+)$/.exec(server);
	return match === null ? { host: server, port: 53 } : { host: match[1]!, port: Number(match[2]) };
}

/** One server, by UDP; by TCP when the answer was cut (RFC 7766). */
async function askServer(message: Uint8Array, server: string): Promise<Uint8Array | undefined> {
	const { host, port } = splitServer(server);
	const answer = await new Promise<Uint8Array | undefined>((resolve) => {
		const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
		const timer = setTimeout(() => done(undefined), DNS_TIMEOUT_MS);
		const done = (result: Uint8Array | undefined) => {
			clearTimeout(timer);
			socket.close();
			resolve(result);
		};
		socket.once("error", () => done(undefined));
		socket.connect(port, host, () => socket.send(message));
		socket.on("message", (data) => {
			if (data.length >= 12 && data[0] === message[0] && data[1] === message[1]) done(data);
		});
	});
	if (answer === undefined || parseDns(answer)?.truncated !== true) return answer;
	return (await askByTcp(message, host, port)) ?? answer;
}

function askByTcp(message: Uint8Array, host: string, port: number): Promise<Uint8Array | undefined> {
	return new Promise((resolve) => {
		const socket = connect({ host, port });
		let buffered = Buffer.alloc(0);
		const done = (result: Uint8Array | undefined) => {
			socket.destroy();
			resolve(result);
		};
		socket.setTimeout(DNS_TIMEOUT_MS, () => done(undefined));
		socket.on("error", () => done(undefined));
		socket.on("close", () => resolve(undefined));
		socket.on("connect", () => {
			socket.write(Buffer.from([message.length >>> 8, message.length & 255]));
			socket.write(message);
		});
		socket.on("data", (chunk) => {
			buffered = Buffer.concat([buffered, chunk]);
			if (buffered.length >= 2 && buffered.length >= buffered.readUInt16BE(0) + 2)
				done(buffered.subarray(2, buffered.readUInt16BE(0) + 2));
		});
	});
}
