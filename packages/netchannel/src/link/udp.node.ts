import { createSocket, type Socket } from "node:dgram";
import { isIPv6 } from "node:net";
import { LinkBase, type LinkOptions } from "./base.ts";
import type { Link } from "./link.ts";
import { fromSystemError } from "./system-error.ts";

/** Options of {@link openUdpLink}. */
export interface UdpOptions extends LinkOptions {
	/** Where frames come in. @default any address, any port */
	local?: { host?: string; port: number };
	/** Where frames go, and the only place they are taken from. */
	remote: { host: string; port: number };
	/** Bytes that may wait for the kernel before `send` returns false. @default 2 ** 20 */
	highWater?: number;
	/** Receive buffer asked of the kernel. @default 2 ** 21 */
	receiveBuffer?: number;
	signal?: AbortSignal;
}

/** A UDP link knows where it listens. */
export interface UdpLink extends Link {
	readonly port: number;
}

class DatagramLink extends LinkBase implements UdpLink {
	readonly port: number;
	private readonly socket: Socket;
	private readonly highWater: number;
	private waiting = 0;

	constructor(socket: Socket, options: UdpOptions) {
		super(options);
		this.socket = socket;
		this.port = socket.address().port;
		this.highWater = options.highWater ?? 2 ** 20;
		socket.on("message", (message) => this.deliver(message));
		// A peer that is not there yet is no failure of the wire: ICMP errors are lost frames.
		socket.on("error", (error: Error & { code?: string }) => {
			if (error.code === "ECONNREFUSED" || error.code === "EHOSTUNREACH" || error.code === "ENETUNREACH")
				this.txDropped++;
			else this.fail(fromSystemError(error, "the UDP socket failed"));
		});
	}

	protected override transmit(frame: Uint8Array): boolean {
		if (this.waiting > this.highWater) return false;
		const { length } = frame;
		this.waiting += length;
		this.socket.send(frame.slice(), (error) => {
			this.waiting -= length;
			if (error !== null) this.txDropped++;
			if (this.waiting <= this.highWater) this.writable();
		});
		return true;
	}

	protected override shutdown(): void {
		this.socket.close();
	}
}

/** A wire made of UDP datagrams, one frame in each, to one peer; frames may be lost or reordered as datagrams are. */
export async function openUdpLink(options: UdpOptions): Promise<UdpLink> {
	options.signal?.throwIfAborted();
	const { local, remote } = options;
	const socket = createSocket({
		type: isIPv6(remote.host) ? "udp6" : "udp4",
		recvBufferSize: options.receiveBuffer ?? 2 ** 21,
	});
	try {
		await new Promise<void>((resolve, reject) => {
			socket.once("error", reject);
			socket.bind(local?.port ?? 0, local?.host, () => resolve());
		});
		await new Promise<void>((resolve, reject) => {
			socket.connect(remote.port, remote.host, (error?: Error) => (error == null ? resolve() : reject(error)));
		});
	} catch (error) {
		socket.close();
		throw fromSystemError(
			error,
			`cannot open UDP from ${local?.host ?? ""}:${local?.port ?? 0} to ${remote.host}:${remote.port}`,
		);
	}
	socket.removeAllListeners("error");
	return new DatagramLink(socket, options);
}
