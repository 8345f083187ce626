import { EventEmitter } from "node:events";
import type { BlockList } from "node:net";
import { inspect } from "node:util";
import type { Host } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import type { Listener } from "../tcp/listener.ts";
import { ANY6, type IpAddress, parseAddress } from "../wire/address.ts";
import { checkSignal, portOf, wrongType } from "./arguments.node.ts";
import { type Endpoint, endpointOf } from "./endpoint.node.ts";
import { nodeError, systemError } from "./errors.node.ts";
import { NetSocket } from "./socket.node.ts";

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

interface ListenArguments {
	port?: number | string | null;
	host?: string;
	backlog?: number;
	ipv6Only?: boolean;
	signal?: AbortSignal;
}

/** node:net's Server over a {@link Host}. */
export class NetServer extends EventEmitter {
	readonly host: Host;
	maxConnections: number | undefined;
	readonly allowHalfOpen: boolean;
	private readonly options: NetServerOptions;
	private listener: Listener | undefined;
	private opening = false;
	private closing = false;
	private readonly sockets = new Set<NetSocket>();
	private bound: Endpoint | undefined;

	constructor(
		host: Host,
		options: NetServerOptions | ((socket: NetSocket) => void) = {},
		onConnection?: (socket: NetSocket) => void,
	) {
		super();
		const listener = typeof options === "function" ? options : onConnection;
		const given = typeof options === "function" ? {} : options;
		if (typeof given !== "object") throw wrongType("options", "object", given);
		this.host = host;
		this.options = given ?? {};
		this.allowHalfOpen = this.options.allowHalfOpen ?? false;
		if (listener !== undefined) this.on("connection", listener);
	}

	get listening(): boolean {
		return this.listener !== undefined;
	}

	/** As node's: `listen(port, host?, backlog?, callback?)` or `listen({ port, host, backlog, ipv6Only, signal }, callback?)`. */
	listen(...args: unknown[]): this {
		if (this.listener !== undefined || this.opening) {
			throw nodeError(
				Error,
				"ERR_SERVER_ALREADY_LISTEN",
				"Listen method has been called more than once without closing.",
			);
		}
		const callback = args.find((arg) => typeof arg === "function") as (() => void) | undefined;
		const options = listenArguments(args.filter((arg) => typeof arg !== "function"));
		checkSignal(options.signal, "options.signal");
		const port = options.port === undefined || options.port === null ? 0 : portOf(options.port, "options.port");
		if (callback !== undefined) this.once("listening", callback);
		if (options.signal !== undefined) {
			const close = () => this.close();
			if (options.signal.aborted) process.nextTick(close);
			else options.signal.addEventListener("abort", close, { once: true });
		}
		this.opening = true;
		void this.bind(port, options).catch((error: Error) => {
			this.opening = false;
			process.nextTick(() => this.emit("error", error));
		});
		return this;
	}

	private async bind(port: number, options: ListenArguments): Promise<void> {
		let address: IpAddress | undefined;
		if (options.host) {
			address = parseAddress(options.host) ?? (await this.host.resolve(options.host))[0];
			if (address === undefined) throw systemError("ENOTFOUND", "getaddrinfo", options.host);
			if (!this.opening) return;
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
			throw systemError((error as { code: string }).code, "listen", address?.toString() ?? "::", port, true);
		}
		this.opening = false;
		this.bound = endpointOf(address ?? ANY6, this.listener.port, false);
		process.nextTick(() => {
			if (this.listener !== undefined) this.emit("listening");
		});
	}

	private take(connection: TcpConnection): undefined {
		const mapped = this.bound!.family === "IPv6";
		const local = endpointOf(connection.localAddress, connection.localPort, mapped);
		const remote = endpointOf(connection.remoteAddress, connection.remotePort, mapped);
		if (
			(this.maxConnections !== undefined && this.sockets.size >= this.maxConnections) ||
			this.options.blockList?.check(remote.address, remote.family === "IPv4" ? "ipv4" : "ipv6")
		) {
			connection.close();
			this.emit("drop", {
				localAddress: local.address,
				localPort: local.port,
				localFamily: local.family,
				remoteAddress: remote.address,
				remotePort: remote.port,
				remoteFamily: remote.family,
			});
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
			socket.adopt(connection, mapped);
			if (this.options.pauseOnConnect) socket.pause();
			this.emit("connection", socket);
			socket.start();
		});
		return undefined;
	}

	/** @internal */
	forget(socket: NetSocket): void {
		this.sockets.delete(socket);
		this.finish();
	}

	private finish(): void {
		if (!this.closing || this.sockets.size > 0) return;
		this.closing = false;
		process.nextTick(() => this.emit("close"));
	}

	close(callback?: (error?: Error) => void): this {
		const running = this.listener !== undefined || this.opening;
		if (callback !== undefined) {
			const error = running ? undefined : nodeError(Error, "ERR_SERVER_NOT_RUNNING", "Server is not running.");
			this.once("close", () => callback(error));
		}
		this.listener?.close();
		this.listener = undefined;
		this.opening = false;
		this.closing = true;
		this.finish();
		return this;
	}

	address(): Endpoint | null {
		return this.listener === undefined ? null : this.bound!;
	}

	getConnections(callback: (error: Error | null, count: number) => void): this {
		process.nextTick(() => callback(null, this.sockets.size));
		return this;
	}

	/** The event loop is held by the link, not by its sockets. */
	ref(): this {
		return this;
	}

	unref(): this {
		return this;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.listener === undefined && !this.opening) return;
		await new Promise<void>((resolve) => this.close(() => resolve()));
	}
}

function listenArguments(given: unknown[]): ListenArguments {
	const [first] = given;
	if (typeof first === "object" && first !== null) {
		if (!("port" in first)) {
			throw nodeError(
				TypeError,
				"ERR_INVALID_ARG_VALUE",
				`The argument 'options' must have the property "port". Received ${inspect(first)}`,
			);
		}
		return first as ListenArguments;
	}
	if (first !== undefined && first !== null && typeof first !== "number" && typeof first !== "string") {
		throw nodeError(
			TypeError,
			"ERR_INVALID_ARG_VALUE",
			`The argument 'options' is invalid. Received ${inspect(first)}`,
		);
	}
	const options: ListenArguments = { port: first ?? 0 };
	if (typeof given[1] === "string") options.host = given[1];
	const backlog = given.find((arg, i) => i > 0 && typeof arg === "number");
	if (backlog !== undefined) options.backlog = backlog as number;
	return options;
}
