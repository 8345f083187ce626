import { EventEmitter } from "node:events";
import { type StackError, StackError as StackErrorClass } from "../errors.ts";
import type { Interface } from "../link/interface.ts";
import type { Host } from "../socket/host.ts";
import type { UdpSocket } from "../udp/layer.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import { nodeError, systemError } from "./errors.node.ts";

/** Options of `dgram.createSocket`. */
export interface DgramOptions {
	type: "udp4" | "udp6";
	reuseAddr?: boolean;
	ipv6Only?: boolean;
	signal?: AbortSignal;
	recvBufferSize?: number;
	sendBufferSize?: number;
}

/** What comes with a message. */
export interface RemoteInfo {
	address: string;
	family: "IPv4" | "IPv6";
	port: number;
	size: number;
}

const DEFAULT_BUFFER = 212_992;

/** node:dgram's Socket over a {@link Host}. */
export class DgramSocket extends EventEmitter {
	readonly host: Host;
	readonly type: "udp4" | "udp6";
	private readonly options: DgramOptions;
	private socket: UdpSocket | undefined = undefined;
	private state: "unbound" | "binding" | "bound" | "closed" = "unbound";
	private connected: { address: string; family: "IPv4" | "IPv6"; port: number } | undefined = undefined;
	private received: { data: Buffer; info: RemoteInfo }[] = [];
	private receivedBytes = 0;
	private receiveBuffer: number;
	private sendBuffer: number;
	private queue: (() => void)[] = [];
	private settings: ((socket: UdpSocket) => void)[] = [];
	/** Datagrams dropped because nobody took the ones before. */
	dropped = 0;

	constructor(
		host: Host,
		options: DgramOptions | "udp4" | "udp6",
		onMessage?: (data: Buffer, info: RemoteInfo) => void,
	) {
		super();
		this.host = host;
		this.options = typeof options === "string" ? { type: options } : options;
		const { type, signal } = this.options;
		if (type !== "udp4" && type !== "udp6") {
			throw nodeError(TypeError, "ERR_SOCKET_BAD_TYPE", "Bad socket type specified. Valid types are: udp4, udp6");
		}
		this.type = type;
		this.receiveBuffer = this.options.recvBufferSize ?? DEFAULT_BUFFER;
		this.sendBuffer = this.options.sendBufferSize ?? DEFAULT_BUFFER;
		if (onMessage !== undefined) this.on("message", onMessage);
		if (signal !== undefined) {
			const close = () => this.close();
			if (signal.aborted) process.nextTick(close);
			else {
				signal.addEventListener("abort", close, { once: true });
				this.once("close", () => signal.removeEventListener("abort", close));
			}
		}
	}

	private get any(): string {
		return this.type === "udp4" ? "0.0.0.0" : "::";
	}

	private alive(): void {
		if (this.state === "closed") throw nodeError(Error, "ERR_SOCKET_DGRAM_NOT_RUNNING", "Not running");
	}

	/** As node's: `bind(port?, address?, callback?)` or `bind({ port, address }, callback?)`. */
	bind(...args: unknown[]): this {
		this.alive();
		if (this.state !== "unbound") throw nodeError(Error, "ERR_SOCKET_ALREADY_BOUND", "Socket is already bound");
		const callback = args.find((arg) => typeof arg === "function") as (() => void) | undefined;
		let port = 0;
		let address: string | undefined;
		if (typeof args[0] === "object" && args[0] !== null) {
			const options = args[0] as { port?: number; address?: string };
			port = options.port ?? 0;
			address = options.address;
		} else {
			port = Number(typeof args[0] === "function" ? 0 : (args[0] ?? 0));
			if (typeof args[1] === "string") address = args[1];
		}
		checkPort(port, true);
		if (callback !== undefined) this.once("listening", callback);
		this.state = "binding";
		void this.open(address ?? this.any, port).catch((error: Error) => {
			this.state = "unbound";
			process.nextTick(() => this.emit("error", error));
		});
		return this;
	}

	private async open(name: string, port: number): Promise<void> {
		const family = this.type === "udp4" ? 4 : 6;
		const address = parseAddress(name) ?? (await this.host.resolve(name, family))[0];
		if (this.state === "closed") return;
		if (address === undefined) throw systemError("ENOTFOUND", "getaddrinfo", name);
		try {
			this.socket = this.host.udp.open({
				address,
				port,
				reuse: this.options.reuseAddr ?? false,
				ipv6Only: this.options.ipv6Only ?? false,
				onMessage: (data, from) => this.take(data, from.address, from.port),
				onError: (error) => this.fail(error),
			});
		} catch (error) {
			throw systemError((error as StackError).code, "bind", name, port);
		}
		this.state = "bound";
		for (const apply of this.settings.splice(0)) apply(this.socket);
		process.nextTick(() => {
			if (this.state === "bound") this.emit("listening");
			for (const action of this.queue.splice(0)) action();
		});
	}

	private take(data: Uint8Array, from: IpAddress, port: number): void {
		if (this.receivedBytes + data.length > this.receiveBuffer && this.received.length > 0) {
			this.dropped++;
			return;
		}
		const copy = Buffer.allocUnsafe(data.length);
		copy.set(data);
		if (this.received.length === 0) process.nextTick(this.deliver);
		this.receivedBytes += data.length;
		this.received.push({
			data: copy,
			info: { address: from.toString(), family: from.family === 4 ? "IPv4" : "IPv6", port, size: data.length },
		});
	}

	private readonly deliver = (): void => {
		const batch = this.received;
		this.received = [];
		this.receivedBytes = 0;
		for (const { data, info } of batch) {
			if (this.state === "closed") return;
			this.emit("message", data, info);
		}
	};

	private fail(error: StackError): void {
		process.nextTick(() => {
			if (this.state !== "closed") this.emit("error", systemError(error.code, "recvmsg"));
		});
	}

	private whenBound(action: () => void): void {
		if (this.state === "bound") {
			action();
			return;
		}
		this.queue.push(action);
		if (this.state === "unbound") this.bind();
	}

	connect(port: number, address?: string | (() => void), callback?: (error?: Error) => void): void {
		this.alive();
		checkPort(port, false);
		if (this.connected !== undefined) throw nodeError(Error, "ERR_SOCKET_DGRAM_IS_CONNECTED", "Already connected");
		const done = typeof address === "function" ? address : callback;
		const name = typeof address === "string" ? address : this.type === "udp4" ? "127.0.0.1" : "::1";
		this.connected = { address: name, family: this.type === "udp4" ? "IPv4" : "IPv6", port };
		this.whenBound(() => {
			void this.host.resolve(name, this.type === "udp4" ? 4 : 6).then(
				([found]) => {
					if (this.state === "closed" || found === undefined) return;
					this.connected!.address = found.toString();
					this.socket!.connect(found, port);
					if (done !== undefined) this.once("connect", done as () => void);
					process.nextTick(() => this.emit("connect"));
				},
				(error: Error) => {
					this.connected = undefined;
					if (done !== undefined) (done as (error: Error) => void)(error);
					else this.emit("error", error);
				},
			);
		});
	}

	disconnect(): void {
		if (this.connected === undefined) throw nodeError(Error, "ERR_SOCKET_DGRAM_NOT_CONNECTED", "Not connected");
		this.connected = undefined;
		this.socket?.disconnect();
	}

	/** As node's: `send(msg, [offset, length,] [port] [, address] [, callback])`. */
	send(message: unknown, ...rest: unknown[]): void {
		this.alive();
		const callback = rest.find((arg) => typeof arg === "function") as
			| ((error: Error | null, bytes?: number) => void)
			| undefined;
		const args = rest.filter((arg) => typeof arg !== "function");
		let data = bytesOf(message);
		const numbers = args.filter((arg) => typeof arg === "number").length;
		if (this.connected === undefined ? numbers >= 3 : numbers >= 2) {
			const offset = args.shift() as number;
			const length = args.shift() as number;
			if (offset > data.length || offset + length > data.length) {
				throw nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", `"length" is outside of buffer bounds`);
			}
			data = data.subarray(offset, offset + length);
		}
		let port = 0;
		let name: string | undefined;
		if (this.connected === undefined) {
			port = Number(args[0]);
			checkPort(port, false);
			name = typeof args[1] === "string" && args[1] !== "" ? args[1] : this.type === "udp4" ? "127.0.0.1" : "::1";
		} else if (args.length > 0 && args[0] !== undefined) {
			throw nodeError(Error, "ERR_SOCKET_DGRAM_IS_CONNECTED", "Already connected");
		}
		const literal = name === undefined ? undefined : parseAddress(name);
		if (this.state === "bound" && (name === undefined || literal !== undefined)) {
			this.transmit(data, literal, port, callback);
			return;
		}
		const copy = Buffer.from(data);
		this.whenBound(() => {
			if (name === undefined || literal !== undefined) {
				this.transmit(copy, literal, port, callback);
				return;
			}
			void this.host.resolve(name, this.type === "udp4" ? 4 : 6).then(
				([found]) => this.transmit(copy, found, port, callback),
				(error: Error) => this.sendFailed(error, callback),
			);
		});
	}

	private sendFailed(error: Error, callback: ((error: Error | null) => void) | undefined): void {
		process.nextTick(() => {
			if (callback !== undefined) callback(error);
			else if (this.state !== "closed") this.emit("error", error);
		});
	}

	private transmit(
		data: Uint8Array,
		address: IpAddress | undefined,
		port: number,
		callback: ((error: Error | null, bytes?: number) => void) | undefined,
	): void {
		if (this.state === "closed") return;
		try {
			if (address === undefined) this.socket!.send(data);
			else this.socket!.send(data, address, port);
		} catch (error) {
			const code = error instanceof StackErrorClass ? error.code : "EINVAL";
			this.sendFailed(systemError(code, "send", address?.toString(), port), callback);
			return;
		}
		if (callback !== undefined) process.nextTick(callback, null, data.length);
	}

	close(callback?: () => void): this {
		this.alive();
		if (callback !== undefined) this.once("close", callback);
		this.state = "closed";
		this.socket?.close();
		this.queue = [];
		process.nextTick(() => this.emit("close"));
		return this;
	}

	address(): { address: string; family: "IPv4" | "IPv6"; port: number } {
		this.alive();
		if (this.socket === undefined) throw systemError("EBADF", "getsockname");
		const address = this.socket.address ?? parseAddress(this.any)!;
		return { address: address.toString(), family: this.type === "udp4" ? "IPv4" : "IPv6", port: this.socket.port };
	}

	remoteAddress(): { address: string; family: "IPv4" | "IPv6"; port: number } {
		if (this.connected === undefined) throw nodeError(Error, "ERR_SOCKET_DGRAM_NOT_CONNECTED", "Not connected");
		return this.connected;
	}

	private set(apply: (socket: UdpSocket) => void): void {
		this.alive();
		if (this.socket === undefined) {
			this.settings.push(apply);
			if (this.state === "unbound") this.bind();
		} else apply(this.socket);
	}

	private interfaceOf(address: string | undefined): Interface | undefined {
		if (address === undefined) return undefined;
		const named = this.host.stack.interfaceNamed(
			address.includes("%") ? address.slice(address.indexOf("%") + 1) : address,
		);
		if (named !== undefined) return named;
		const parsed = parseAddress(address);
		const found =
			parsed === undefined || parsed.isUnspecified
				? undefined
				: this.host.stack.interfaces.find((iface) => iface.find(parsed) !== undefined);
		if (found === undefined && parsed?.isUnspecified !== true) throw systemError("ENODEV", "addMembership", address);
		return found;
	}

	addMembership(group: string, iface?: string): void {
		const parsed = parseAddress(group);
		if (parsed === undefined || !parsed.isMulticast) throw systemError("EINVAL", "addMembership");
		const via = this.interfaceOf(iface);
		this.set((socket) => this.guard("addMembership", () => socket.joinGroup(parsed, via)));
	}

	dropMembership(group: string, iface?: string): void {
		const parsed = parseAddress(group);
		if (parsed === undefined || !parsed.isMulticast) throw systemError("EINVAL", "dropMembership");
		const via = this.interfaceOf(iface);
		this.set((socket) => this.guard("dropMembership", () => socket.leaveGroup(parsed, via)));
	}

	private guard(syscall: string, action: () => void): void {
		try {
			action();
		} catch (error) {
			throw systemError((error as StackError).code, syscall);
		}
	}

	setBroadcast(on: boolean): void {
		this.set((socket) => {
			socket.broadcast = on;
		});
	}

	setTTL(ttl: number): number {
		checkTtl(ttl, "setTTL", 1);
		this.set((socket) => {
			socket.hopLimit = ttl;
		});
		return ttl;
	}

	setMulticastTTL(ttl: number): number {
		checkTtl(ttl, "setMulticastTTL", 0);
		this.set((socket) => {
			socket.multicastHopLimit = ttl;
		});
		return ttl;
	}

	setMulticastLoopback(on: boolean): boolean {
		this.set((socket) => {
			socket.multicastLoop = on;
		});
		return on;
	}

	setMulticastInterface(address: string): void {
		const via = this.interfaceOf(address);
		this.set((socket) => {
			socket.multicastInterface = via;
		});
	}

	getRecvBufferSize(): number {
		return this.receiveBuffer;
	}

	getSendBufferSize(): number {
		return this.sendBuffer;
	}

	setRecvBufferSize(size: number): void {
		this.receiveBuffer = size;
	}

	setSendBufferSize(size: number): void {
		this.sendBuffer = size;
	}

	getSendQueueSize(): number {
		return 0;
	}

	getSendQueueCount(): number {
		return 0;
	}

	ref(): this {
		return this;
	}

	unref(): this {
		return this;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.state !== "closed") await new Promise<void>((resolve) => this.close(() => resolve()));
	}
}

function checkPort(port: number, zero: boolean): void {
	if (!Number.isInteger(port) || port < (zero ? 0 : 1) || port > 65_535) {
		throw nodeError(
			RangeError,
			"ERR_SOCKET_BAD_PORT",
			`Port should be ${zero ? ">= 0" : "> 0"} and < 65536. Received ${String(port)}.`,
		);
	}
}

function checkTtl(ttl: number, syscall: string, least: number): void {
	if (typeof ttl !== "number")
		throw nodeError(
			TypeError,
			"ERR_INVALID_ARG_TYPE",
			`The "ttl" argument must be of type number. Received ${typeof ttl}`,
		);
	if (ttl < least || ttl > 255) throw systemError("EINVAL", syscall);
}

function bytesOf(message: unknown): Uint8Array {
	if (typeof message === "string") return Buffer.from(message);
	if (message instanceof Uint8Array) return message;
	if (ArrayBuffer.isView(message)) return new Uint8Array(message.buffer, message.byteOffset, message.byteLength);
	if (Array.isArray(message)) return Buffer.concat(message.map(bytesOf));
	throw nodeError(
		TypeError,
		"ERR_INVALID_ARG_TYPE",
		`The "buffer" argument must be of type string or an instance of Buffer, TypedArray, or DataView. Received ${typeof message}`,
	);
}

/** node:dgram's functions and classes bound to one host. */
export interface DgramModule {
	createSocket(
		options: DgramOptions | "udp4" | "udp6",
		onMessage?: (data: Buffer, info: RemoteInfo) => void,
	): DgramSocket;
}

/** Makes the look-alike of `node:dgram` for a host. */
export function createDgram(host: Host): DgramModule {
	return { createSocket: (options, onMessage) => new DgramSocket(host, options, onMessage) };
}
