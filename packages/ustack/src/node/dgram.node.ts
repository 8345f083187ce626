import { EventEmitter } from "node:events";
import { type StackError, StackError as StackErrorClass } from "../errors.ts";
import type { Interface } from "../link/interface.ts";
import type { Host } from "../socket/host.ts";
import type { UdpSocket } from "../udp/layer.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import { checkSignal, checkType, portOf, wrongType } from "./arguments.node.ts";
import { type Endpoint, endpointOf } from "./endpoint.node.ts";
import { nodeError, systemError } from "./errors.node.ts";

/** Options of `dgram.createSocket`. */
export interface DgramOptions {
	type: "udp4" | "udp6";
	reuseAddr?: boolean;
	ipv6Only?: boolean;
	signal?: AbortSignal;
	recvBufferSize?: number;
	sendBufferSize?: number;
	/** Resolves names instead of the host. */
	lookup?: (
		hostname: string,
		options: { family: number },
		callback: (error: Error | null, address: string, family: number) => void,
	) => void;
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
	private socket: UdpSocket | undefined;
	private state: "unbound" | "binding" | "bound" | "closed" = "unbound";
	private connected: Endpoint | undefined;
	private received: { data: Buffer; info: RemoteInfo }[] = [];
	private receivedBytes = 0;
	private receiveBuffer: number;
	private sendBuffer: number;
	private queue: (() => void)[] = [];
	/** Groups joined for some sources only (RFC 4607), by group. */
	private readonly sources = new Map<string, Set<string>>();
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
		this.options = typeof options === "object" && options !== null ? options : { type: options };
		const { type, signal, lookup } = this.options;
		if (type !== "udp4" && type !== "udp6") {
			throw nodeError(TypeError, "ERR_SOCKET_BAD_TYPE", "Bad socket type specified. Valid types are: udp4, udp6");
		}
		checkSignal(signal, "options.signal");
		checkType(lookup, "lookup", "function");
		this.type = type;
		this.receiveBuffer = doubled(this.options.recvBufferSize) ?? DEFAULT_BUFFER;
		this.sendBuffer = doubled(this.options.sendBufferSize) ?? DEFAULT_BUFFER;
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
			port = typeof args[0] === "function" ? 0 : ((args[0] ?? 0) as number);
			if (typeof args[1] === "string") address = args[1];
		}
		port = portOf(port, "Port");
		if (callback !== undefined) this.once("listening", callback);
		this.state = "binding";
		void this.open(address ?? this.any, port).catch((error: Error) => {
			this.state = "unbound";
			process.nextTick(() => this.emit("error", error));
		});
		return this;
	}

	/** A name's address, by the socket's own look-up where it has one; undefined when there is none of its family. */
	private async find(name: string): Promise<IpAddress | undefined> {
		const { lookup } = this.options;
		const family = this.type === "udp4" ? 4 : 6;
		if (lookup === undefined) return (await this.host.resolve(name, family))[0];
		return await new Promise((resolve, reject) => {
			lookup(name, { family }, (error, address) => (error ? reject(error) : resolve(parseAddress(address))));
		});
	}

	private async open(name: string, port: number): Promise<void> {
		const address = parseAddress(name) ?? (await this.find(name));
		if (this.state === "closed") return;
		if (address === undefined) throw systemError("ENOTFOUND", "getaddrinfo", name);
		try {
			this.socket = this.host.udp.open({
				address,
				port,
				reuse: this.options.reuseAddr ?? false,
				ipv6Only: this.options.ipv6Only ?? false,
				onMessage: (data, from, _socket, group) => {
					if (this.wants(from.address, group)) this.take(data, from.address, from.port);
				},
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

	private wants(from: IpAddress, group: IpAddress | undefined): boolean {
		if (group === undefined || this.sources.size === 0) return true;
		return this.sources.get(group.toString())?.has(from.toString()) ?? true;
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
			info: { ...endpointOf(from, port, this.type === "udp6"), size: data.length },
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
		// What waits goes first.
		if (this.state === "bound" && this.queue.length === 0) {
			action();
			return;
		}
		this.queue.push(action);
		if (this.state === "unbound") this.bind();
	}

	connect(port: number, address?: string | (() => void), callback?: (error?: Error) => void): void {
		this.alive();
		const to = portOf(port, "Port", false);
		if (this.connected !== undefined) throw nodeError(Error, "ERR_SOCKET_DGRAM_IS_CONNECTED", "Already connected");
		const done = typeof address === "function" ? address : callback;
		const name = typeof address === "string" ? address : this.type === "udp4" ? "127.0.0.1" : "::1";
		this.connected = { address: name, family: this.type === "udp4" ? "IPv4" : "IPv6", port: to };
		this.whenBound(() => {
			void this.find(name).then(
				(found) => {
					if (this.state === "closed" || found === undefined || this.connected === undefined) return;
					this.connected.address = found.toString();
					this.socket!.connect(found, to);
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
			if (offset < 0 || length < 0 || offset > data.length || offset + length > data.length) {
				throw nodeError(RangeError, "ERR_BUFFER_OUT_OF_BOUNDS", `"length" is outside of buffer bounds`);
			}
			data = data.subarray(offset, offset + length);
		}
		let port = 0;
		let name: string | undefined;
		if (this.connected === undefined) {
			port = portOf(args[0], "Port", false);
			if (args[1] !== undefined && args[1] !== null) checkType(args[1], "address", "string");
			name = typeof args[1] === "string" && args[1] !== "" ? args[1] : this.type === "udp4" ? "127.0.0.1" : "::1";
		}
		const literal = name === undefined ? undefined : parseAddress(name);
		if (this.state === "bound" && this.queue.length === 0 && (name === undefined || literal !== undefined)) {
			this.transmit(data, literal, port, callback);
			return;
		}
		const copy = Buffer.from(data);
		this.whenBound(() => {
			if (name === undefined || literal !== undefined) {
				this.transmit(copy, literal, port, callback);
				return;
			}
			void this.find(name).then(
				(found) => this.transmit(copy, found, port, callback),
				(error: Error) => {
					if (callback !== undefined) callback(error);
					else if (this.state !== "closed") this.emit("error", error);
				},
			);
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
			// Without a callback nobody hears of it, as with node.
			if (callback !== undefined)
				process.nextTick(callback, systemError(code, "send", (address ?? this.socket!.remote)?.toString(), port));
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

	address(): Endpoint {
		this.alive();
		if (this.socket === undefined) throw systemError("EBADF", "getsockname");
		const { remote } = this.socket;
		const bound = this.socket.address ?? parseAddress(this.any)!;
		const address = bound.isUnspecified && remote !== undefined ? (this.socket.localFor(remote) ?? bound) : bound;
		return { address: address.toString(), family: this.type === "udp4" ? "IPv4" : "IPv6", port: this.socket.port };
	}

	remoteAddress(): Endpoint {
		if (this.connected === undefined) throw nodeError(Error, "ERR_SOCKET_DGRAM_NOT_CONNECTED", "Not connected");
		return this.connected;
	}

	/** Membership binds by itself. */
	private member(apply: (socket: UdpSocket) => void): void {
		if (this.socket !== undefined) {
			apply(this.socket);
			return;
		}
		this.settings.push(apply);
		if (this.state === "unbound") this.bind();
	}

	/** An option of a socket that is bound. */
	private set(syscall: string): UdpSocket {
		this.alive();
		if (this.socket === undefined) throw systemError("EBADF", syscall);
		return this.socket;
	}

	private interfaceOf(address: string | undefined, syscall: string, missing: string): Interface | undefined {
		if (address === undefined) return undefined;
		const named = this.host.stack.interfaceNamed(
			address.includes("%") ? address.slice(address.indexOf("%") + 1) : address,
		);
		if (named !== undefined) return named;
		const parsed = parseAddress(address);
		if (parsed === undefined) throw systemError("EINVAL", syscall);
		if (parsed.isUnspecified) return undefined;
		const found = this.host.stack.interfaces.find((iface) => iface.find(parsed) !== undefined);
		if (found === undefined) throw systemError(missing, syscall);
		return found;
	}

	addMembership(group: string, iface?: string): void {
		const { parsed, via } = this.groupOf(group, iface, "addMembership");
		this.member((socket) => this.guard("addMembership", () => socket.joinGroup(parsed, via)));
	}

	dropMembership(group: string, iface?: string): void {
		const { parsed, via } = this.groupOf(group, iface, "dropMembership");
		this.member((socket) => this.guard("dropMembership", () => socket.leaveGroup(parsed, via)));
	}

	/** Joins a group for one source's datagrams; what others send to it is not told. */
	addSourceSpecificMembership(source: string, group: string, iface?: string): void {
		const from = this.sourceOf(source, "addSourceSpecificMembership");
		const { parsed, via } = this.groupOf(group, iface, "addSourceSpecificMembership");
		const key = parsed.toString();
		const known = this.sources.get(key);
		if (known?.has(from)) throw systemError("EADDRNOTAVAIL", "addSourceSpecificMembership");
		if (known === undefined) {
			this.member((socket) => this.guard("addSourceSpecificMembership", () => socket.joinGroup(parsed, via)));
			this.sources.set(key, new Set([from]));
		} else known.add(from);
	}

	dropSourceSpecificMembership(source: string, group: string, iface?: string): void {
		const from = this.sourceOf(source, "dropSourceSpecificMembership");
		const { parsed, via } = this.groupOf(group, iface, "dropSourceSpecificMembership");
		const key = parsed.toString();
		const known = this.sources.get(key);
		if (known?.delete(from) !== true)
			throw systemError(known === undefined ? "EINVAL" : "EADDRNOTAVAIL", "dropSourceSpecificMembership");
		if (known.size > 0) return;
		this.sources.delete(key);
		this.member((socket) => this.guard("dropSourceSpecificMembership", () => socket.leaveGroup(parsed, via)));
	}

	private sourceOf(source: string, syscall: string): string {
		if (typeof source !== "string") throw wrongType("sourceAddress", "string", source);
		const parsed = parseAddress(source);
		if (parsed === undefined) throw systemError("EINVAL", syscall);
		return parsed.toString();
	}

	private groupOf(
		group: string,
		iface: string | undefined,
		syscall: string,
	): { parsed: IpAddress; via: Interface | undefined } {
		this.alive();
		if (!group) {
			throw nodeError(TypeError, "ERR_MISSING_ARGS", 'The "multicastAddress" argument must be specified');
		}
		const parsed = parseAddress(group);
		if (!parsed?.isMulticast) throw systemError("EINVAL", syscall);
		return { parsed, via: this.interfaceOf(iface, syscall, "ENODEV") };
	}

	private guard(syscall: string, action: () => void): void {
		try {
			action();
		} catch (error) {
			throw systemError((error as StackError).code, syscall);
		}
	}

	setBroadcast(on: boolean): void {
		this.set("setBroadcast").broadcast = on;
	}

	setTTL(ttl: number): number {
		checkTtl(ttl, "setTTL", 1);
		this.set("setTTL").hopLimit = ttl;
		return ttl;
	}

	setMulticastTTL(ttl: number): number {
		checkTtl(ttl, "setMulticastTTL", 0);
		this.set("setMulticastTTL").multicastHopLimit = ttl;
		return ttl;
	}

	setMulticastLoopback(on: boolean): boolean {
		this.set("setMulticastLoopback").multicastLoop = on;
		return on;
	}

	setMulticastInterface(address: string): void {
		this.alive();
		if (typeof address !== "string") throw wrongType("interfaceAddress", "string", address);
		const via = this.interfaceOf(address, "setMulticastInterface", "EADDRNOTAVAIL");
		this.set("setMulticastInterface").multicastInterface = via;
	}

	getRecvBufferSize(): number {
		this.sized("recv");
		return this.receiveBuffer;
	}

	getSendBufferSize(): number {
		this.sized("send");
		return this.sendBuffer;
	}

	setRecvBufferSize(size: number): void {
		checkSize(size);
		this.sized("recv");
		this.receiveBuffer = size * 2;
	}

	setSendBufferSize(size: number): void {
		checkSize(size);
		this.sized("send");
		this.sendBuffer = size * 2;
	}

	private sized(which: string): void {
		if (this.socket !== undefined && this.state !== "closed") return;
		const { errno } = systemError("EBADF", `uv_${which}_buffer_size`);
		throw Object.assign(
			nodeError(
				Error,
				"ERR_SOCKET_BUFFER_SIZE",
				`Could not get or set buffer size: uv_${which}_buffer_size returned EBADF (bad file descriptor)`,
			),
			{ errno, syscall: `uv_${which}_buffer_size` },
		);
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

/** Linux doubles what is asked for, to have room for its own bookkeeping (socket(7)). */
function doubled(size: number | undefined): number | undefined {
	return size === undefined ? undefined : size * 2;
}

function checkSize(size: number): void {
	if (!Number.isInteger(size) || size < 0 || size > 0xffffffff) {
		throw nodeError(TypeError, "ERR_SOCKET_BAD_BUFFER_SIZE", "Buffer size must be a positive integer");
	}
}

function checkTtl(ttl: number, syscall: string, least: number): void {
	if (typeof ttl !== "number") throw wrongType("ttl", "number", ttl);
	if (ttl < least || ttl > 255) throw systemError("EINVAL", syscall);
}

function bytesOf(message: unknown): Uint8Array {
	if (typeof message === "string") return Buffer.from(message);
	if (message instanceof Uint8Array) return message;
	if (ArrayBuffer.isView(message)) return new Uint8Array(message.buffer, message.byteOffset, message.byteLength);
	if (Array.isArray(message)) return Buffer.concat(message.map(bytesOf));
	throw wrongType("buffer", "string or an instance of Buffer, TypedArray, or DataView", message);
}

/** node:dgram's functions and classes bound to one host. */
export interface DgramModule {
	readonly Socket: new (
		options: DgramOptions | "udp4" | "udp6",
		onMessage?: (data: Buffer, info: RemoteInfo) => void,
	) => DgramSocket;
	createSocket(
		options: DgramOptions | "udp4" | "udp6",
		onMessage?: (data: Buffer, info: RemoteInfo) => void,
	): DgramSocket;
}

/** Makes the look-alike of `node:dgram` for a host. */
export function createDgram(host: Host): DgramModule {
	class Socket extends DgramSocket {
		constructor(options: DgramOptions | "udp4" | "udp6", onMessage?: (data: Buffer, info: RemoteInfo) => void) {
			super(host, options, onMessage);
		}
	}
	return { Socket, createSocket: (options, onMessage) => new Socket(options, onMessage) };
}
