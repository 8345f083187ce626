import type { BlockList } from "node:net";
import { Duplex, type DuplexOptions } from "node:stream";
import type { Host } from "../socket/host.ts";
import type { TcpConnection, TcpHandlers } from "../tcp/connection.ts";
import { abortError, checkSignal, checkType, wrongType } from "./arguments.node.ts";
import { checkConnect, normalizeConnect, openConnection } from "./connect.node.ts";
import { type Endpoint, endpointOf } from "./endpoint.node.ts";
import { nodeError, systemError } from "./errors.node.ts";
import type { NetServer } from "./server.node.ts";

/** Received bytes go into the caller's own buffer instead of `data` events, as node's `onread` option has it. */
export interface OnRead {
	buffer: Uint8Array | (() => Uint8Array);
	/** @returns false to stop reading until `resume()` */
	callback: (bytes: number, buffer: Uint8Array) => unknown;
}

/** node's `net.connect` options that are honoured here; the rest are ignored as node ignores them. */
export interface NetConnectOptions extends DuplexOptions {
	port: number;
	host?: string;
	localAddress?: string;
	localPort?: number;
	family?: number;
	lookup?: (
		hostname: string,
		options: { all?: boolean; family?: number },
		callback: (error: Error | null, address: string | { address: string; family: number }[], family?: number) => void,
	) => void;
	noDelay?: boolean;
	keepAlive?: boolean;
	keepAliveInitialDelay?: number;
	timeout?: number;
	signal?: AbortSignal;
	allowHalfOpen?: boolean;
	blockList?: BlockList;
	onread?: OnRead;
	/** RFC 8305: try the other family when one is slow. @default true */
	autoSelectFamily?: boolean;
	/** @default 250 */
	autoSelectFamilyAttemptTimeout?: number;
}

const READ_CHUNK = 65_536;
const MAX_TIMEOUT = 2 ** 31 - 1;

type WriteCallback = (error?: Error | null) => void;

/** node:net's Socket over a {@link Host}. */
export class NetSocket extends Duplex {
	readonly host: Host;
	connecting = false;
	timeout: number | undefined;
	/** @internal The connection; undefined before connect and after close. */
	connection: TcpConnection | undefined;
	server: NetServer | null = null;
	autoSelectFamilyAttemptedAddresses: string[] | undefined;
	private timer: NodeJS.Timeout | undefined;
	private reading = false;
	private ended = false;
	private written: (() => void) | undefined = undefined;
	private waiting: Uint8Array[] = [];
	private failWrite: WriteCallback | undefined;
	private noDelay = false;
	private keepAlive: { on: boolean; delay: number } | undefined = undefined;
	private readonly counted = { read: 0, written: 0 };
	private readonly onread: OnRead | undefined;
	private remote: Endpoint | undefined;
	private local: Endpoint | undefined;
	/** Taken by a server of IPv6. */
	private mapped = false;
	private resetting = false;
	private stopWatching: (() => void) | undefined = undefined;

	constructor(host: Host, options: Partial<NetConnectOptions> = {}) {
		super({
			allowHalfOpen: options.allowHalfOpen ?? false,
			// `close` says whether there was an error, which a stream's does not.
			emitClose: false,
			autoDestroy: true,
			decodeStrings: true,
			...(options.highWaterMark === undefined ? {} : { highWaterMark: options.highWaterMark }),
		});
		this.host = host;
		this.onread = options.onread;
		this.on("end", onReadEnd);
		checkSignal(options.signal, "options.signal");
		if (options.signal !== undefined) this.watch(options.signal);
	}

	private watch(signal: AbortSignal): void {
		const abort = () => this.destroy(abortError(signal));
		if (signal.aborted) queueMicrotask(abort);
		else {
			signal.addEventListener("abort", abort, { once: true });
			this.stopWatching = () => signal.removeEventListener("abort", abort);
		}
	}

	/** Neither connected nor about to be. */
	get pending(): boolean {
		return this.connection === undefined || this.connecting;
	}

	/** As node's: options, or port and host, and a listener for `connect`. */
	connect(...args: unknown[]): this {
		const [options, callback] = normalizeConnect(args);
		const port = checkConnect(options);
		if (this.destroyed) this.renew();
		if (callback !== undefined) this.once("connect", callback);
		if (options.timeout !== undefined) this.setTimeout(options.timeout);
		if (options.noDelay) this.setNoDelay(true);
		if (options.keepAlive) this.setKeepAlive(true, options.keepAliveInitialDelay);
		this.connecting = true;
		void openConnection(this, { ...options, port }, this.noDelay).then(
			(connection) => {
				if (connection === undefined) return;
				this.connecting = false;
				this.adopt(connection);
				this.emit("connect");
				this.emit("ready");
				this.start();
			},
			(error: Error) => this.destroy(error),
		);
		return this;
	}

	/** A closed socket may connect again. */
	private renew(): void {
		(this as unknown as { _undestroy(): void })._undestroy();
		this.remote = this.local = undefined;
		this.ended = this.reading = this.resetting = false;
		this.counted.read = this.counted.written = 0;
		this.waiting = [];
	}

	/** @internal Takes a connection over, established already. */
	adopt(connection: TcpConnection, mapped = false): void {
		this.connection = connection;
		this.mapped = mapped;
		connection.handlers = this.handlers;
		connection.setNoDelay(this.noDelay);
		if (this.keepAlive !== undefined) this.setKeepAlive(this.keepAlive.on, this.keepAlive.delay);
		if (this.reading) this.pull();
		this.flush();
		if (connection.closeDelivered) this.over(connection.error);
	}

	/** @internal Reads ahead, so that the peer's end is noticed before anybody asks for data. */
	start(): void {
		if (this.readable && !this.destroyed && !this.isPaused()) this.read(0);
	}

	private readonly handlers: TcpHandlers = {
		onReadable: () => {
			this.touch();
			if (this.reading) this.pull();
		},
		onEnd: () => {
			this.touch();
			if (this.reading) this.pull();
		},
		onWritable: () => {
			this.touch();
			this.flush();
		},
		onClose: (_c, error) => this.over(error),
	};

	private over(error: { code: string } | undefined): void {
		if (error === undefined) {
			if (this.reading) this.pull();
			return;
		}
		const failed = systemError(error.code, this.failWrite === undefined ? "read" : "write");
		const { failWrite } = this;
		this.failWrite = undefined;
		if (failWrite !== undefined) failWrite(failed);
		else this.destroy(failed);
	}

	/** Moves received bytes into the stream until it has enough. */
	private pull(): void {
		if (this.ended) return;
		for (;;) {
			const { connection } = this;
			if (connection === undefined) return;
			const view = connection.peek(READ_CHUNK);
			if (view.length === 0) break;
			if (!(this.onread === undefined ? this.pushCopy(connection, view) : this.fill(connection, view, this.onread))) {
				this.reading = false;
				return;
			}
		}
		const { connection } = this;
		if (connection?.finReceived && connection.readable === 0) {
			this.ended = true;
			this.reading = false;
			this.push(null);
			// With nothing buffered this is what makes the stream tell its end.
			this.read(0);
		}
	}

	private pushCopy(connection: TcpConnection, view: Uint8Array): boolean {
		const chunk = Buffer.allocUnsafeSlow(view.length);
		chunk.set(view);
		connection.consume(view.length);
		this.counted.read += chunk.length;
		return this.push(chunk);
	}

	private fill(connection: TcpConnection, view: Uint8Array, onread: OnRead): boolean {
		const buffer = typeof onread.buffer === "function" ? onread.buffer() : onread.buffer;
		const count = Math.min(view.length, buffer.length);
		buffer.set(count === view.length ? view : view.subarray(0, count));
		connection.consume(count);
		this.counted.read += count;
		return onread.callback(count, buffer) !== false;
	}

	override _read(): void {
		this.reading = true;
		if (this.connection !== undefined) this.pull();
	}

	override resume(): this {
		this.readOn();
		return super.resume();
	}

	override pause(): this {
		if (this.onread !== undefined && this.connection !== undefined) this.reading = false;
		return super.pause();
	}

	/** With `onread` the stream's own buffer never asks for more. */
	private readOn(): void {
		if (this.onread === undefined || this.connection === undefined || this.reading) return;
		this.reading = true;
		process.nextTick(() => {
			if (this.reading) this.pull();
		});
	}

	override _write(chunk: Uint8Array, _encoding: string, callback: WriteCallback): void {
		this.waiting.push(chunk);
		this.queue(callback);
	}

	override _writev(chunks: { chunk: Uint8Array }[], callback: WriteCallback): void {
		for (const { chunk } of chunks) this.waiting.push(chunk);
		this.queue(callback);
	}

	private queue(callback: WriteCallback): void {
		if (this.connection === undefined && !this.connecting) {
			this.waiting = [];
			callback(nodeError(Error, "ERR_SOCKET_CLOSED", "Socket is closed"));
			return;
		}
		this.touch();
		this.failWrite = callback;
		this.written = () => {
			this.failWrite = undefined;
			callback();
		};
		this.flush();
	}

	private flush(): void {
		const { connection } = this;
		if (connection === undefined || this.written === undefined) return;
		try {
			while (this.waiting.length > 0) {
				const chunk = this.waiting[0]!;
				const count = connection.write(chunk);
				this.counted.written += count;
				if (count < chunk.length) {
					this.waiting[0] = chunk.subarray(count);
					return;
				}
				this.waiting.shift();
			}
		} catch (error) {
			const { failWrite } = this;
			this.failWrite = this.written = undefined;
			this.waiting = [];
			failWrite?.(systemError((error as { code: string }).code, "write"));
			return;
		}
		const { written } = this;
		this.written = undefined;
		written();
	}

	override _final(callback: WriteCallback): void {
		const { connection } = this;
		if (connection === undefined) {
			if (!this.connecting) {
				callback();
				return;
			}
			this.once("connect", () => this._final(callback));
			return;
		}
		connection.end();
		callback();
	}

	override _destroy(error: Error | null, callback: WriteCallback): void {
		clearTimeout(this.timer);
		this.timer = undefined;
		this.stopWatching?.();
		const { connection, failWrite, connecting } = this;
		this.connecting = false;
		this.connection = undefined;
		this.failWrite = this.written = undefined;
		if (connection !== undefined) {
			connection.handlers = undefined;
			if (this.resetting) connection.abort();
			else connection.close();
		}
		if (connecting)
			failWrite?.(
				nodeError(Error, "ERR_SOCKET_CLOSED_BEFORE_CONNECTION", "Socket closed before the connection was established"),
			);
		callback(error);
		process.nextTick(() => this.emit("close", error !== null && error !== undefined));
		this.server?.forget(this);
	}

	/** Bytes read so far. */
	get bytesRead(): number {
		return this.counted.read;
	}

	/** Bytes given to {@link write}, those still waiting included. */
	get bytesWritten(): number {
		let waiting = 0;
		for (const chunk of this.waiting) waiting += chunk.length;
		const { writableBuffer } = this as unknown as { writableBuffer: { chunk: Uint8Array }[] };
		for (const { chunk } of writableBuffer) waiting += chunk.length;
		return this.counted.written + waiting;
	}

	get bufferSize(): number | undefined {
		return this.connecting || this.connection !== undefined ? this.writableLength : undefined;
	}

	get readyState(): string {
		if (this.connecting) return "opening";
		if (this.readable && this.writable) return "open";
		if (this.readable) return "readOnly";
		return this.writable ? "writeOnly" : "closed";
	}

	/** Looked up while connected and kept: who never asked before the end gets nothing, as with node. */
	private peer(): Endpoint | undefined {
		const { connection } = this;
		if (connection !== undefined)
			this.remote ??= endpointOf(connection.remoteAddress, connection.remotePort, this.mapped);
		return this.remote;
	}

	private self(): Endpoint | undefined {
		const { connection } = this;
		if (connection !== undefined) this.local ??= endpointOf(connection.localAddress, connection.localPort, this.mapped);
		return this.local;
	}

	get remoteAddress(): string | undefined {
		return this.peer()?.address;
	}

	get remoteFamily(): string | undefined {
		return this.peer()?.family;
	}

	get remotePort(): number | undefined {
		return this.peer()?.port;
	}

	get localAddress(): string | undefined {
		return this.self()?.address;
	}

	get localPort(): number | undefined {
		return this.self()?.port;
	}

	get localFamily(): string | undefined {
		return this.self()?.family;
	}

	address(): Endpoint | Record<string, never> {
		return this.self() ?? {};
	}

	setNoDelay(on = true): this {
		this.noDelay = on;
		this.connection?.setNoDelay(on);
		return this;
	}

	setKeepAlive(on = false, initialDelay = 0): this {
		this.keepAlive = { on, delay: initialDelay };
		this.connection?.setKeepAlive(on, initialDelay > 0 ? initialDelay : undefined);
		return this;
	}

	setTimeout(ms: number, callback?: () => void): this {
		if (typeof ms !== "number") throw wrongType("msecs", "number", ms);
		if (!(ms >= 0 && ms < Number.POSITIVE_INFINITY)) {
			throw nodeError(
				RangeError,
				"ERR_OUT_OF_RANGE",
				`The value of "msecs" is out of range. It must be a non-negative finite number. Received ${String(ms)}`,
			);
		}
		checkType(callback, "callback", "function");
		clearTimeout(this.timer);
		this.timer = undefined;
		this.timeout = ms;
		if (ms === 0) {
			if (callback !== undefined) this.removeListener("timeout", callback);
			return this;
		}
		if (callback !== undefined) this.once("timeout", callback);
		this.timer = setTimeout(() => this.emit("timeout"), Math.min(ms, MAX_TIMEOUT));
		this.timer.unref();
		return this;
	}

	private touch(): void {
		if (this.timer !== undefined && this.timeout) this.timer.refresh();
	}

	/** The event loop is held by the link, not by its sockets. */
	ref(): this {
		return this;
	}

	unref(): this {
		return this;
	}

	/** Closes once everything written has been handed over. */
	destroySoon(): void {
		if (this.writable) this.end();
		if (this.writableFinished) this.destroy();
		else this.once("finish", () => this.destroy());
	}

	/** Closes with a reset instead of a FIN. */
	resetAndDestroy(): this {
		this.resetting = true;
		if (this.connecting) this.once("connect", () => this.destroy());
		else
			this.destroy(
				this.connection === undefined ? nodeError(Error, "ERR_SOCKET_CLOSED", "Socket is closed") : undefined,
			);
		return this;
	}
}

function onReadEnd(this: NetSocket): void {
	if (!this.allowHalfOpen && this.writable) this.end();
}
