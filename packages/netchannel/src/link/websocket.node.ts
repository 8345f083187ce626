import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { request as secureRequest } from "node:https";
import type { Socket } from "node:net";
import { LinkBase, type LinkOptions } from "./base.ts";
import { LinkError } from "./errors.ts";
import type { Link } from "./link.ts";
import { fromSystemError } from "./system-error.ts";
import { applyMask, LONGEST_FRAME_HEADER, OPCODE, WebSocketDeframer, writeFrameHeader } from "./websocket-framing.ts";

/** Options of the WebSocket links of Node.js. */
export interface WebSocketOptions extends LinkOptions {
	/** Bytes that may wait in the socket before `send` returns false. @default 2 ** 20 */
	highWater?: number;
	/** Ends the opening. */
	signal?: AbortSignal;
}

/** Options of {@link createWebSocketServer}. */
export interface WebSocketServerOptions extends WebSocketOptions {
	/** @default "127.0.0.1" */
	host?: string;
	/** 0 for any free one. */
	port: number;
	/** Called with every peer that connects: plug it into a switch. */
	onLink(link: Link, request: IncomingMessage): void;
	/**
	 * Whether a browser page of that origin may connect; pages anywhere can reach a local server, so none is the default.
	 * Peers that are no browsers send no origin and are always let in.
	 */
	allowOrigin?(origin: string): boolean;
	/** Peers at a time. @default 256 */
	limit?: number;
}

/** A listening server; closing it leaves its links open. */
export interface WebSocketServerHandle {
	readonly host: string;
	readonly port: number;
	close(): Promise<void>;
}

/** Milliseconds what was sent may still take to leave after close. */
const LINGER_MS = 1000;

const accept = (key: string): string =>
	createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");

class WebSocketPeer extends LinkBase {
	private readonly socket: Socket;
	private readonly client: boolean;
	private readonly highWater: number;

	constructor(socket: Socket, client: boolean, head: Buffer, options: WebSocketOptions) {
		super(options);
		this.socket = socket;
		this.client = client;
		this.highWater = options.highWater ?? 2 ** 20;
		const deframer = new WebSocketDeframer(!client, 65536 + 4096);
		const take = (chunk: Uint8Array): void => {
			try {
				deframer.push(chunk, (opcode, payload) => this.message(opcode, payload));
			} catch (error) {
				this.fail(error as Error);
			}
		};
		socket.setNoDelay(true);
		socket.setTimeout(0);
		socket.on("data", take);
		socket.on("drain", () => this.writable());
		socket.on("error", (error) => this.fail(fromSystemError(error, "the WebSocket failed")));
		socket.on("close", () => this.fail(new LinkError("ERR_LINK_IO", "the peer closed the WebSocket")));
		// What came behind the handshake waits for the opener's callbacks to be set.
		if (head.length > 0) setImmediate(() => take(head));
	}

	get carrier(): boolean {
		return !this.closed;
	}

	protected override transmit(frame: Uint8Array): boolean {
		if (this.socket.writableLength > this.highWater) return false;
		this.write(OPCODE.binary, frame);
		return true;
	}

	protected override shutdown(): void {
		if (!this.socket.destroyed) this.write(OPCODE.close, Uint8Array.of(3, 232));
		this.socket.removeAllListeners("data");
		this.socket.destroySoon();
		// A peer that reads no more must not hold the process.
		this.socket.setTimeout(LINGER_MS, () => this.socket.destroy());
	}

	private write(opcode: number, payload: Uint8Array): void {
		const message = Buffer.allocUnsafe(LONGEST_FRAME_HEADER + payload.length);
		const mask = this.client ? randomBytes(4) : undefined;
		const at = writeFrameHeader(message, 0, opcode, payload.length, mask);
		message.set(payload, at);
		const end = at + payload.length;
		if (mask !== undefined) applyMask(message.subarray(at, end), mask);
		this.socket.write(message.subarray(0, end));
	}

	private message(opcode: number, payload: Uint8Array): void {
		if (this.closed) return;
		if (opcode === OPCODE.binary) this.deliver(payload);
		else if (opcode === OPCODE.text) this.rxDropped++;
		else if (opcode === OPCODE.ping) this.write(OPCODE.pong, payload);
		else if (opcode === OPCODE.close) this.fail(new LinkError("ERR_LINK_IO", "the peer closed the WebSocket"));
	}
}

/**
 * Connects to a WebSocket relay: one frame in each binary message.
 *
 * @param url - `ws:` or `wss:`
 * @throws LinkError `ERR_LINK_IO`, `ERR_LINK_PROTOCOL` when the server is no WebSocket server
 */
export async function connectWebSocket(url: string, options: WebSocketOptions = {}): Promise<Link> {
	options.signal?.throwIfAborted();
	const key = randomBytes(16).toString("base64");
	const target = new URL(url);
	const open = target.protocol === "wss:" ? secureRequest : request;
	return new Promise((resolve, reject) => {
		const asked = open({
			host: target.hostname.replace(/^\[|\]$/g, ""),
			port: target.port === "" ? (target.protocol === "wss:" ? 443 : 80) : Number(target.port),
			path: `${target.pathname}${target.search}`,
			headers: {
				Connection: "Upgrade",
				Upgrade: "websocket",
				"Sec-WebSocket-Key": key,
				"Sec-WebSocket-Version": "13",
				Host: target.host,
			},
			...(options.signal === undefined ? {} : { signal: options.signal }),
		});
		asked.on("error", (error) =>
			reject(options.signal?.aborted ? options.signal.reason : fromSystemError(error, `cannot connect to ${url}`)),
		);
		asked.on("response", (response) => {
			response.resume();
			reject(new LinkError("ERR_LINK_PROTOCOL", `${url} answered ${response.statusCode}: it is no WebSocket server`));
		});
		asked.on("upgrade", (response, socket, head) => {
			if (response.headers["sec-websocket-accept"] !== accept(key)) {
				socket.destroy();
				reject(new LinkError("ERR_LINK_PROTOCOL", `${url} answered the handshake wrongly`));
				return;
			}
			resolve(new WebSocketPeer(socket as Socket, true, head, options));
		});
		asked.end();
	});
}

function refuse(socket: Socket, status: string): void {
	socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** Listens for WebSocket peers, browsers included; each becomes a link of its own. */
export async function createWebSocketServer(options: WebSocketServerOptions): Promise<WebSocketServerHandle> {
	const { host = "127.0.0.1", port, limit = 256 } = options;
	const server: Server = createServer((_request, response) => {
		response.writeHead(426, { Upgrade: "websocket", "Content-Length": 0 }).end();
	});
	let peers = 0;
	server.on("upgrade", (asked: IncomingMessage, stream, head: Buffer) => {
		const socket = stream as Socket;
		socket.on("error", () => socket.destroy());
		const key = asked.headers["sec-websocket-key"];
		const { origin } = asked.headers;
		if (
			asked.headers.upgrade?.toLowerCase() !== "websocket" ||
			key === undefined ||
			asked.headers["sec-websocket-version"] !== "13"
		) {
			refuse(socket, "400 Bad Request");
		} else if (origin !== undefined && options.allowOrigin?.(origin) !== true) refuse(socket, "403 Forbidden");
		else if (peers >= limit) refuse(socket, "503 Service Unavailable");
		else {
			peers++;
			socket.once("close", () => peers--);
			socket.write(
				`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept(key)}\r\n\r\n`,
			);
			options.onLink(new WebSocketPeer(socket, false, head, options), asked);
		}
	});
	await new Promise<void>((resolve, reject) => {
		server.once("error", (error) => reject(fromSystemError(error, `cannot listen on ${host}:${port}`)));
		server.listen(port, host, () => resolve());
	});
	const address = server.address() as { port: number };
	return {
		host,
		port: address.port,
		close: async () => {
			server.close();
			server.closeIdleConnections();
		},
	};
}
