import { EventEmitter } from "node:events";
import type { BlockList } from "node:net";
import { Duplex, type DuplexOptions } from "node:stream";
import type { Host } from "../socket/host.ts";
import type { TcpConnection, TcpHandlers } from "../tcp/connection.ts";
import type { Listener } from "../tcp/listener.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import { nodeError, systemError } from "./errors.node.ts";

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
	/** RFC 8305: try the other family when one is slow. @default true */
	autoSelectFamily?: boolean;
	/** @default 250 */
	autoSelectFamilyAttemptTimeout?: number;
}

/** Options of a server, as `net.createServer` takes them. */
export interface NetServerOptions {
	allowHalfOpen?: boolean;
	pauseOnConnect?: boolean;
	noDelay?: boolean;
	keepAlive?: boolean;
	keepAliveInitialDelay?: number;
	highWaterMark?: number;
	blockList?: BlockList;
}

const READ_CHUNK = 65_536;
const ATTEMPT_DELAY_MS = 250;

/** node:net's Socket over a {@link Host}. */
export class NetSocket extends Duplex {
	readonly host: Host;
	connecting = false;
	pending = true;
	timeout: number | undefined = undefined;
	/** @internal The connection; undefined before connect and after close. */
	connection: TcpConnection | undefined = undefined;
	server: NetServer | null = null;
	autoSelectFamilyAttemptedAddresses: string[] = [];
	private timer: NodeJS.Timeout | undefined = undefined;
	private reading = false;
	private ended = false;
	private written: (() => void) | undefined = undefined;
	private waiting: Uint8Array[] = [];
	private failWrite: ((error?: Error | null) => void) | undefined = undefined;
	private noDelay = false;
	private keepAlive: { on: boolean; delay: number } | undefined = undefined;
	private readonly counted = { read: 0, written: 0 };
	private remote: { address: string; family: string; port: number } | undefined = undefined;
	private local: { address: string; family: string; port: number } | undefined = undefined;
	private resetting = false;

	constructor(host: Host, options: Partial<NetConnectOptions> = {}) {
		super({
			allowHalfOpen: options.allowHalfOpen ?? false,
			emitClose: true,
			autoDestroy: true,
			decodeStrings: true,
			...(options.highWaterMark === undefined ? {} : { highWaterMark: options.highWaterMark }),
		});
		this.host = host;
		this.on("end", onReadEnd);
		if (options.signal !== undefined) this.watch(options.signal);
	}

	private watch(signal: AbortSignal): void {
		const abort = () => this.destroy(abortError(signal));
		if (signal.aborted) queueMicrotask(abort);
		else {
			signal.addEventListener("abort", abort, { once: true });
			this.once("close", () => signal.removeEventListener("abort", abort));
		}
	}

	/** As node's: options, or port and host, and a listener for `connect`. */
	connect(...args: unknown[]): this {
		const [options, callback] = normalizeConnect(args);
		if (callback !== undefined) this.once("connect", callback);
		if (options.timeout !== undefined) this.setTimeout(options.timeout);
		if (options.noDelay) this.setNoDelay(true);
		if (options.keepAlive) this.setKeepAlive(true, options.keepAliveInitialDelay);
		const { port } = options;
		if (typeof port !== "number" || !(port >= 0 && port < 65_536) || !Number.isInteger(port)) {
			throw nodeError(RangeError, "ERR_SOCKET_BAD_PORT", `Port should be >= 0 and < 65536. Received ${String(port)}.`);
		}
		this.connecting = true;
		void this.open(options).catch((error: Error) => this.destroy(error));
		return this;
	}

	private async open(options: NetConnectOptions): Promise<void> {
		const name = options.host ?? "localhost";
		const family = options.family === 4 || options.family === 6 ? options.family : 0;
		let addresses: IpAddress[];
		const literal = parseAddress(name);
		if (literal !== undefined) addresses = [literal];
		else {
			try {
				addresses =
					options.lookup === undefined
						? await this.host.resolve(name, family)
						: await customLookup(options.lookup, name, family);
			} catch (error) {
				this.emit("lookup", error, null, null, name);
				throw error;
			}
			if (this.destroyed) return;
			for (const address of addresses) this.emit("lookup", null, address.toString(), address.family, name);
		}
		if (addresses.length === 0) throw systemError("ENOTFOUND", "getaddrinfo");
		if (this.destroyed) return;
		const blocked = options.blockList;
		const ordered = (options.autoSelectFamily ?? true) ? interleaveFamilies(addresses) : addresses.slice(0, 1);
		const failures: Error[] = [];
		for (let i = 0; i < ordered.length; i++) {
			const address = ordered[i]!;
			const text = address.toString();
			this.autoSelectFamilyAttemptedAddresses.push(`${text}:${options.port}`);
			if (blocked?.check(text, address.family === 4 ? "ipv4" : "ipv6")) {
				failures.push(nodeError(Error, "ERR_IP_BLOCKED", `IP(${text}) is blocked by net.BlockList`));
				continue;
			}
			this.emit("connectionAttempt", text, options.port, address.family);
			try {
				const last = i === ordered.length - 1;
				const limit = last ? 0 : (options.autoSelectFamilyAttemptTimeout ?? ATTEMPT_DELAY_MS);
				const connection = await this.attempt(address, options, limit);
				if (connection === undefined) {
					if (this.destroyed) return;
					this.emit("connectionAttemptTimeout", text, options.port, address.family);
					failures.push(systemError("ETIMEDOUT", "connect", text, options.port));
					continue;
				}
				this.adopt(connection);
				this.connecting = false;
				this.emit("connect");
				this.emit("ready");
				return;
			} catch (error) {
				if (this.destroyed) return;
				if (ordered.length > 1) this.emit("connectionAttemptFailed", text, options.port, address.family, error);
				failures.push(error as Error);
			}
		}
		if (failures.length === 1) throw failures[0];
		const all = new AggregateError(failures) as AggregateError & { code?: string };
		all.code = (failures[0] as { code?: string }).code!;
		throw all;
	}

	/** One try; undefined when it took longer than `limit` milliseconds or the socket went away. */
	private attempt(address: IpAddress, options: NetConnectOptions, limit: number): Promise<TcpConnection | undefined> {
		return new Promise((resolve, reject) => {
			let timer: NodeJS.Timeout | undefined;
			const text = address.toString();
			let connection: TcpConnection;
			const settle = () => {
				clearTimeout(timer);
				this.removeListener("close", gone);
			};
			const gone = () => {
				settle();
				connection.abort();
				resolve(undefined);
			};
			try {
				connection = this.host.tcp.connect(
					address,
					options.port,
					{
						onConnect: (c) => {
							settle();
							resolve(c);
						},
						onClose: (_c, error) => {
							settle();
							reject(systemError(error?.code ?? "ECONNRESET", "connect", text, options.port));
						},
					},
					{
						...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
						...(options.localPort === undefined ? {} : { localPort: options.localPort }),
						noDelay: this.noDelay,
					},
				);
			} catch (error) {
				reject(systemError((error as { code: string }).code, "connect", text, options.port));
				return;
			}
			this.once("close", gone);
			if (limit > 0) {
				timer = setTimeout(() => {
					settle();
					connection.abort();
					resolve(undefined);
				}, limit);
			}
		});
	}

	/** @internal Takes a connection over, established already. */
	adopt(connection: TcpConnection): void {
		this.connection = connection;
		this.pending = false;
		connection.handlers = this.handlers;
		connection.setNoDelay(this.noDelay);
		if (this.keepAlive !== undefined) this.setKeepAlive(this.keepAlive.on, this.keepAlive.delay);
		this.remote = addressOf(connection.remoteAddress, connection.remotePort);
		this.local = addressOf(connection.localAddress, connection.localPort);
		if (this.reading) this.pull();
		this.flush();
		if (connection.closeDelivered) this.over(connection.error);
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
		const { connection } = this;
		if (connection === undefined || this.ended) return;
		for (;;) {
			const view = connection.peek(READ_CHUNK);
			if (view.length === 0) break;
			const chunk = Buffer.allocUnsafeSlow(view.length);
			chunk.set(view);
			connection.consume(view.length);
			this.counted.read += chunk.length;
			if (!this.push(chunk)) {
				this.reading = false;
				return;
			}
		}
		if (connection.finReceived && connection.readable === 0) {
			this.ended = true;
			this.reading = false;
			this.push(null);
		}
	}

	override _read(): void {
		this.reading = true;
		if (this.connection !== undefined) this.pull();
	}

	override _write(chunk: Uint8Array, _encoding: string, callback: (error?: Error | null) => void): void {
		this.waiting.push(chunk);
		this.queue(callback);
	}

	override _writev(chunks: { chunk: Uint8Array }[], callback: (error?: Error | null) => void): void {
		for (const { chunk } of chunks) this.waiting.push(chunk);
		this.queue(callback);
	}

	private queue(callback: (error?: Error | null) => void): void {
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

	override _final(callback: (error?: Error | null) => void): void {
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

	override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
		clearTimeout(this.timer);
		this.connecting = false;
		const { connection } = this;
		this.connection = undefined;
		if (connection !== undefined) {
			connection.handlers = undefined;
			if (this.resetting) connection.abort();
			else connection.close();
		}
		this.server?.forget(this);
		callback(error);
	}

	/** Bytes read so far. */
	get bytesRead(): number {
		return this.counted.read;
	}

	get bytesWritten(): number {
		let waiting = 0;
		for (const chunk of this.waiting) waiting += chunk.length;
		return this.counted.written + waiting;
	}

	get bufferSize(): number {
		return this.writableLength;
	}

	get readyState(): string {
		if (this.connecting) return "opening";
		if (this.readable && this.writable && !this.destroyed) return this.connection === undefined ? "closed" : "open";
		if (this.readable && !this.writable) return "readOnly";
		if (!this.readable && this.writable) return "writeOnly";
		return "closed";
	}

	get remoteAddress(): string | undefined {
		return this.destroyed && this.remote === undefined ? undefined : this.remote?.address;
	}

	get remoteFamily(): string | undefined {
		return this.remote?.family;
	}

	get remotePort(): number | undefined {
		return this.remote?.port;
	}

	get localAddress(): string | undefined {
		return this.local?.address;
	}

	get localPort(): number | undefined {
		return this.local?.port;
	}

	get localFamily(): string | undefined {
		return this.local?.family;
	}

	address(): { address: string; family: string; port: number } | Record<string, never> {
		return this.local ?? {};
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
		if (typeof ms !== "number" || Number.isNaN(ms) || ms < 0) {
			throw nodeError(
				RangeError,
				"ERR_OUT_OF_RANGE",
				`The value of "msecs" is out of range. It must be a non-negative finite number. Received ${String(ms)}`,
			);
		}
		clearTimeout(this.timer);
		this.timeout = ms;
		if (ms === 0) {
			if (callback !== undefined) this.removeListener("timeout", callback);
			return this;
		}
		if (callback !== undefined) this.once("timeout", callback);
		this.timer = setTimeout(() => this.emit("timeout"), ms);
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

/** node:net's Server over a {@link Host}. */
export class NetServer extends EventEmitter {
	readonly host: Host;
	maxConnections: number | undefined = undefined;
	readonly allowHalfOpen: boolean;
	private readonly options: NetServerOptions;
	private listener: Listener | undefined = undefined;
	private readonly sockets = new Set<NetSocket>();
	private bound: { address: string; family: string; port: number } | undefined = undefined;

	constructor(host: Host, options: NetServerOptions = {}, onConnection?: (socket: NetSocket) => void) {
		super();
		this.host = host;
		this.options = options;
		this.allowHalfOpen = options.allowHalfOpen ?? false;
		if (onConnection !== undefined) this.on("connection", onConnection);
	}

	get listening(): boolean {
		return this.listener !== undefined;
	}

	/** As node's: `listen(port, host?, backlog?, callback?)` or `listen({ port, host, backlog, ipv6Only, signal }, callback?)`. */
	listen(...args: unknown[]): this {
		const callback = args.find((arg) => typeof arg === "function") as (() => void) | undefined;
		const given = args.filter((arg) => typeof arg !== "function");
		let options: { port?: number; host?: string; backlog?: number; ipv6Only?: boolean; signal?: AbortSignal };
		if (typeof given[0] === "object" && given[0] !== null) options = given[0] as typeof options;
		else {
			options = { port: given[0] === undefined ? 0 : Number(given[0]) };
			if (typeof given[1] === "string") options.host = given[1];
			const backlog = given.find((arg, i) => i > 0 && typeof arg === "number");
			if (backlog !== undefined) options.backlog = backlog as number;
		}
		if (this.listener !== undefined)
			throw nodeError(
				Error,
				"ERR_SERVER_ALREADY_LISTEN",
				"Listen method has been called more than once without closing.",
			);
		const port = options.port ?? 0;
		if (!Number.isInteger(port) || port < 0 || port > 65_535) {
			throw nodeError(
				RangeError,
				"ERR_SOCKET_BAD_PORT",
				`options.port should be >= 0 and < 65536. Received ${String(options.port)}.`,
			);
		}
		if (callback !== undefined) this.once("listening", callback);
		if (options.signal !== undefined) {
			const close = () => this.close();
			if (options.signal.aborted) process.nextTick(close);
			else options.signal.addEventListener("abort", close, { once: true });
		}
		void this.bind(port, options).catch((error: Error) => process.nextTick(() => this.emit("error", error)));
		return this;
	}

	private async bind(port: number, options: { host?: string; backlog?: number; ipv6Only?: boolean }): Promise<void> {
		let address: IpAddress | undefined;
		if (options.host !== undefined && options.host !== "") {
			const literal = parseAddress(options.host);
			address = literal ?? (await this.host.resolve(options.host))[0];
			if (address === undefined) throw systemError("ENOTFOUND", "getaddrinfo", options.host);
		}
		try {
			this.listener = this.host.tcp.listen({
				port,
				...(address === undefined ? {} : { address }),
				...(options.backlog === undefined ? {} : { backlog: options.backlog }),
				...(options.ipv6Only === undefined ? {} : { ipv6Only: options.ipv6Only }),
				onConnection: (connection) => this.take(connection),
			});
		} catch (error) {
			throw systemError((error as { code: string }).code, "listen", address?.toString() ?? "::", port);
		}
		this.bound = addressOf(address ?? parseAddress("::")!, this.listener.port);
		process.nextTick(() => {
			if (this.listener !== undefined) this.emit("listening");
		});
	}

	private take(connection: TcpConnection): undefined {
		const remote = connection.remoteAddress;
		const data = {
			localAddress: connection.localAddress.toString(),
			localPort: connection.localPort,
			remoteAddress: remote.toString(),
			remotePort: connection.remotePort,
			remoteFamily: remote.family === 4 ? "IPv4" : "IPv6",
		};
		if (
			(this.maxConnections !== undefined && this.sockets.size >= this.maxConnections) ||
			this.options.blockList?.check(data.remoteAddress, remote.family === 4 ? "ipv4" : "ipv6")
		) {
			connection.abort();
			this.emit("drop", data);
			return undefined;
		}
		const socket = new NetSocket(this.host, {
			allowHalfOpen: this.allowHalfOpen,
			...(this.options.highWaterMark === undefined ? {} : { highWaterMark: this.options.highWaterMark }),
		});
		socket.server = this;
		this.sockets.add(socket);
		if (this.options.noDelay) socket.setNoDelay(true);
		if (this.options.keepAlive) socket.setKeepAlive(true, this.options.keepAliveInitialDelay);
		// The layer sets the handlers to what this returns; the socket's go in after it.
		process.nextTick(() => {
			if (socket.destroyed) {
				connection.close();
				return;
			}
			socket.adopt(connection);
			if (this.options.pauseOnConnect) socket.pause();
			this.emit("connection", socket);
			if (!this.options.pauseOnConnect) socket.read(0);
		});
		return undefined;
	}

	/** @internal */
	forget(socket: NetSocket): void {
		this.sockets.delete(socket);
		this.finish();
	}

	private closing = false;

	private finish(): void {
		if (!this.closing || this.sockets.size > 0) return;
		this.closing = false;
		process.nextTick(() => this.emit("close"));
	}

	close(callback?: (error?: Error) => void): this {
		if (this.listener === undefined) {
			if (callback !== undefined) {
				const error = nodeError(Error, "ERR_SERVER_NOT_RUNNING", "Server is not running.");
				this.once("close", () => callback(error));
			}
			this.closing = true;
			this.finish();
			return this;
		}
		if (callback !== undefined) this.once("close", () => callback());
		this.listener.close();
		this.listener = undefined;
		this.closing = true;
		this.finish();
		return this;
	}

	address(): { address: string; family: string; port: number } | null {
		return this.listener === undefined ? null : this.bound!;
	}

	getConnections(callback: (error: Error | null, count: number) => void): this {
		process.nextTick(() => callback(null, this.sockets.size));
		return this;
	}

	ref(): this {
		return this;
	}

	unref(): this {
		return this;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.listener === undefined) return;
		await new Promise<void>((resolve) => this.close(() => resolve()));
	}
}

function addressOf(address: IpAddress, port: number): { address: string; family: string; port: number } {
	return { address: address.toString(), family: address.family === 4 ? "IPv4" : "IPv6", port };
}

function normalizeConnect(args: unknown[]): [NetConnectOptions, (() => void) | undefined] {
	const list = args.length === 1 && Array.isArray(args[0]) ? (args[0] as unknown[]) : args;
	const callback = list.find((arg) => typeof arg === "function") as (() => void) | undefined;
	if (typeof list[0] === "object" && list[0] !== null) {
		const options = list[0] as NetConnectOptions;
		return [typeof options.port === "string" ? { ...options, port: Number(options.port) } : options, callback];
	}
	const options: NetConnectOptions = { port: Number(list[0]) };
	if (typeof list[1] === "string") options.host = list[1];
	return [options, callback];
}

function customLookup(
	lookup: NonNullable<NetConnectOptions["lookup"]>,
	name: string,
	family: number,
): Promise<IpAddress[]> {
	return new Promise((resolve, reject) => {
		lookup(name, { all: true, family }, (error, result, single) => {
			if (error) {
				reject(error);
				return;
			}
			const list = typeof result === "string" ? [{ address: result, family: single ?? 4 }] : result;
			const parsed = list.map((entry) => parseAddress(entry.address));
			if (parsed.some((entry) => entry === undefined))
				reject(
					nodeError(
						TypeError,
						"ERR_INVALID_IP_ADDRESS",
						`Invalid IP address: ${list.map((entry) => entry.address).join(", ")}`,
					),
				);
			else resolve(parsed as IpAddress[]);
		});
	});
}

/** RFC 8305 section 4: the families in turn, the resolver's first choice first. */
function interleaveFamilies(addresses: readonly IpAddress[]): IpAddress[] {
	const first = addresses.filter((address) => address.family === addresses[0]!.family);
	const second = addresses.filter((address) => address.family !== addresses[0]!.family);
	const mixed: IpAddress[] = [];
	for (let i = 0; i < Math.max(first.length, second.length); i++) {
		if (i < first.length) mixed.push(first[i]!);
		if (i < second.length) mixed.push(second[i]!);
	}
	return mixed;
}

function abortError(signal: AbortSignal): Error {
	const error = new Error("The operation was aborted", { cause: signal.reason }) as Error & { code: string };
	error.name = "AbortError";
	error.code = "ABORT_ERR";
	return error;
}

/** node:net's functions and classes bound to one host, for code that takes `net` as a dependency. */
export interface NetModule {
	readonly Socket: new (options?: Partial<NetConnectOptions>) => NetSocket;
	readonly Server: new (
		options?: NetServerOptions | ((socket: NetSocket) => void),
		listener?: (socket: NetSocket) => void,
	) => NetServer;
	connect(...args: unknown[]): NetSocket;
	createConnection(...args: unknown[]): NetSocket;
	createServer(
		options?: NetServerOptions | ((socket: NetSocket) => void),
		listener?: (socket: NetSocket) => void,
	): NetServer;
	isIP(text: string): 0 | 4 | 6;
	isIPv4(text: string): boolean;
	isIPv6(text: string): boolean;
}

/** Makes the look-alike of `node:net` for a host. */
export function createNet(host: Host): NetModule {
	class Socket extends NetSocket {
		constructor(options: Partial<NetConnectOptions> = {}) {
			super(host, options);
		}
	}
	class Server extends NetServer {
		constructor(options?: NetServerOptions | ((socket: NetSocket) => void), listener?: (socket: NetSocket) => void) {
			super(host, typeof options === "function" ? {} : options, typeof options === "function" ? options : listener);
		}
	}
	const connect = (...args: unknown[]): NetSocket => {
		const [options] = normalizeConnect(args);
		return new Socket(options).connect(...args);
	};
	const isIP = (text: string) => parseAddress(String(text))?.family ?? 0;
	return {
		Socket,
		Server,
		connect,
		createConnection: connect,
		createServer: (options, listener) => new Server(options, listener),
		isIP,
		isIPv4: (text) => isIP(text) === 4,
		isIPv6: (text) => isIP(text) === 6,
	};
}
