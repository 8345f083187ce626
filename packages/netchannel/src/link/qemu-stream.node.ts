import { unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { LinkBase, type LinkOptions } from "./base.ts";
import { LinkError } from "./errors.ts";
import type { Link } from "./link.ts";
import { StreamPeer } from "./stream-peer.node.ts";
import { fromSystemError } from "./system-error.ts";

/** A Unix socket's path, or a TCP address. */
export type StreamAddress = { path: string } | { host: string; port: number };

/** Options of the QEMU stream links. */
export interface QemuStreamOptions extends LinkOptions {
	/** Bytes that may wait for the peer before `send` returns false. @default 2 ** 20 */
	highWater?: number;
	/** Ends the opening (not the open link). */
	signal?: AbortSignal;
}

/** Options of {@link connectQemuStream}. */
export interface QemuConnectOptions extends QemuStreamOptions {
	/** Milliseconds between attempts after the peer went away, 0 to fail instead. @default 0 */
	reconnectMs?: number;
}

const name = (address: StreamAddress): string => ("path" in address ? address.path : `${address.host}:${address.port}`);

abstract class QemuStreamLink extends LinkBase {
	onCarrier: ((up: boolean) => void) | undefined = undefined;
	private readonly highWater: number;
	private peer: StreamPeer | undefined = undefined;

	constructor(options: QemuStreamOptions) {
		super(options);
		this.highWater = options.highWater ?? 2 ** 20;
	}

	get carrier(): boolean {
		return this.peer !== undefined;
	}

	protected override transmit(frame: Uint8Array): boolean {
		return this.peer === undefined ? this.dropSent(frame) : this.peer.write(frame);
	}

	protected override shutdown(): void {
		this.onCarrier = undefined;
		this.peer?.destroy();
		this.peer = undefined;
	}

	/** Takes a connection over; there must be none. */
	protected adopt(socket: Socket): void {
		this.peer = new StreamPeer(socket, this.highWater, {
			frame: (frame) => this.deliver(frame),
			drain: () => this.writable(),
			gone: (error) => {
				this.peer = undefined;
				this.writable();
				this.call(this.onCarrier, false);
				if (!this.closed) this.lost(error);
			},
		});
		this.call(this.onCarrier, true);
	}

	/** The peer went away. */
	protected abstract lost(error: Error | undefined): void;
}

class QemuClient extends QemuStreamLink {
	private readonly address: StreamAddress;
	private readonly reconnectMs: number;
	private timer: ReturnType<typeof setTimeout> | undefined = undefined;
	private attempt: Socket | undefined = undefined;

	constructor(address: StreamAddress, options: QemuConnectOptions) {
		super(options);
		this.address = address;
		this.reconnectMs = options.reconnectMs ?? 0;
	}

	/** One attempt; settles when it is known how it went. */
	dial(signal?: AbortSignal): Promise<void> {
		return new Promise((resolve, reject) => {
			const socket = connect({ ...this.address });
			this.attempt = socket;
			const stop = (): void => {
				socket.destroy();
				reject(signal?.reason);
			};
			const failed = (error: Error): void => {
				signal?.removeEventListener("abort", stop);
				reject(fromSystemError(error, `cannot connect to ${name(this.address)}`));
			};
			signal?.addEventListener("abort", stop, { once: true });
			socket.once("error", failed);
			socket.once("connect", () => {
				signal?.removeEventListener("abort", stop);
				socket.off("error", failed);
				this.attempt = undefined;
				if (this.closed) socket.destroy();
				else this.adopt(socket);
				resolve();
			});
		});
	}

	protected override shutdown(): void {
		clearTimeout(this.timer);
		this.attempt?.on("error", () => {});
		this.attempt?.destroy();
		super.shutdown();
	}

	protected override lost(error: Error | undefined): void {
		if (this.reconnectMs > 0) {
			this.timer = setTimeout(() => {
				this.dial().catch(() => {
					if (!this.closed) this.lost(undefined);
				});
			}, this.reconnectMs);
			return;
		}
		this.fail(
			error === undefined
				? new LinkError("ERR_LINK_IO", `${name(this.address)} closed the connection`)
				: fromSystemError(error, `the connection to ${name(this.address)} failed`),
		);
	}
}

class QemuListener extends QemuStreamLink {
	private readonly server: Server;

	constructor(server: Server, options: QemuStreamOptions) {
		super(options);
		this.server = server;
		server.on("connection", (socket) => {
			// A wire has two ends: a second peer is turned away until the first is gone.
			if (this.carrier) socket.destroy();
			else this.adopt(socket);
		});
		server.on("error", (error) => this.fail(fromSystemError(error, "the listening socket failed")));
	}

	protected override shutdown(): void {
		this.server.close();
		super.shutdown();
	}

	protected override lost(): void {}
}

/**
 * Connects to a QEMU `-netdev stream,server=on`, to passt, or to another end of this package.
 *
 * @throws LinkError `ERR_LINK_NOT_FOUND`, `ERR_LINK_PERMISSION` or `ERR_LINK_IO` when the first attempt fails
 */
export async function connectQemuStream(address: StreamAddress, options: QemuConnectOptions = {}): Promise<Link> {
	options.signal?.throwIfAborted();
	const link = new QemuClient(address, options);
	try {
		await link.dial(options.signal);
	} catch (error) {
		link.close();
		throw error;
	}
	return link;
}

async function listening(address: StreamAddress, signal: AbortSignal | undefined): Promise<Server> {
	signal?.throwIfAborted();
	const attempt = (): Promise<Server> =>
		new Promise((resolve, reject) => {
			const server = createServer();
			server.once("error", reject);
			server.listen({ ...address }, () => {
				server.off("error", reject);
				resolve(server);
			});
		});
	try {
		return await attempt();
	} catch (error) {
		const stale = "path" in address && (error as { code?: string }).code === "EADDRINUSE" && !(await answers(address));
		if (!stale) throw fromSystemError(error, `cannot listen on ${name(address)}`);
		unlinkSync(address.path);
		return attempt();
	}
}

/** Whether somebody still accepts on a Unix socket; one that was left behind refuses. */
function answers(address: StreamAddress): Promise<boolean> {
	return new Promise((resolve) => {
		const socket = connect({ ...address });
		socket.once("connect", () => {
			socket.destroy();
			resolve(true);
		});
		socket.once("error", (error) => resolve((error as { code?: string }).code !== "ECONNREFUSED"));
	});
}

/**
 * Listens for a QEMU `-netdev stream,server=off` (or passt's peer). One peer at a time; when it goes away the next may
 * come.
 *
 * @throws LinkError `ERR_LINK_BUSY` when somebody else listens there; a socket left behind by a dead process is replaced
 */
export async function listenQemuStream(address: StreamAddress, options: QemuStreamOptions = {}): Promise<Link> {
	return new QemuListener(await listening(address, options.signal), options);
}
