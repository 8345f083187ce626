import { StackError } from "../errors.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import type { TcpLayer } from "../tcp/layer.ts";
import type { Listener } from "../tcp/listener.ts";
import { CLOSE_WAIT, CLOSED, ESTABLISHED, SYN_RECEIVED, SYN_SENT } from "../tcp/state.ts";
import type { Expression } from "./script.ts";

/** What a system call came to. */
export type Attempt = "blocked" | { value: number; errno?: string; events?: Map<number, number>; data?: number };

interface Socket {
	fd: number;
	connection: TcpConnection | undefined;
	listener: Listener | undefined;
	/** What close() and errors left. */
	error: string | undefined;
	nonBlocking: boolean;
	bound: number;
	configure: ((c: TcpConnection) => void)[];
	options: Map<string, number>;
	epoll: Map<number, { events: number; data: number; seen: string }> | undefined;
	fastOpenQueue: number;
	closedByError: boolean;
	readShut: boolean;
	/** connect() left the SYN to the first write (TCP_FASTOPEN_CONNECT). */
	deferred: boolean;
}

const POLL: Record<string, number> = {
	POLLIN: 1,
	POLLPRI: 2,
	POLLOUT: 4,
	POLLERR: 8,
	POLLHUP: 16,
	POLLRDHUP: 0x2000,
	EPOLLIN: 1,
	EPOLLPRI: 2,
	EPOLLOUT: 4,
	EPOLLERR: 8,
	EPOLLHUP: 16,
	EPOLLRDHUP: 0x2000,
	EPOLLET: 0x80000000 | 0,
	EPOLLONESHOT: 1 << 30,
};
const EDGE = 0x80000000 | 0;
const CONSTANTS: Record<string, number> = {
	O_NONBLOCK: 0x800,
	O_RDWR: 2,
	SHUT_RD: 0,
	SHUT_WR: 1,
	SHUT_RDWR: 2,
	...POLL,
};

/** The socket calls of a script, over one TCP layer. */
export class Sockets {
	private readonly tcp: TcpLayer;
	private readonly files = new Map<number, Socket>();
	private readonly onConnect: () => void;
	private readonly remote: string;
	private last: TcpConnection | undefined = undefined;

	constructor(tcp: TcpLayer, remote: string, onConnect: () => void) {
		this.remote = remote;
		this.tcp = tcp;
		this.onConnect = onConnect;
	}

	/** The connection asserts speak of. */
	current(): TcpConnection | undefined {
		return this.last ?? this.latest();
	}

	/** The newest connection there is. */
	latest(): TcpConnection | undefined {
		let newest: TcpConnection | undefined = this.last;
		for (const c of this.tcp.connections()) newest = c;
		return newest;
	}

	connecting(): boolean {
		return [...this.files.values()].some((socket) => socket.connection?.state === SYN_SENT);
	}

	listeningPort(): number | undefined {
		for (const socket of this.files.values()) if (socket.listener !== undefined) return socket.listener.port;
		return undefined;
	}

	/** A script gave a descriptor another number. */
	rename(from: number, to: number): void {
		const socket = this.files.get(from);
		if (socket === undefined || from === to) return;
		this.files.delete(from);
		socket.fd = to;
		this.files.set(to, socket);
	}

	private fresh(): number {
		let fd = 3;
		while (this.files.has(fd)) fd++;
		return fd;
	}

	private create(fd: number): Socket {
		const socket: Socket = {
			fd,
			connection: undefined,
			listener: undefined,
			error: undefined,
			nonBlocking: false,
			bound: 0,
			configure: [],
			options: new Map(),
			epoll: undefined,
			fastOpenQueue: 0,
			closedByError: false,
			readShut: false,
			deferred: false,
		};
		this.files.set(fd, socket);
		return socket;
	}

	/** Gives a function that tries the call, once or until it no longer blocks. */
	prepare(name: string, args: readonly Expression[], now: () => number): () => Attempt {
		const number = (i: number): number => numberOf(args[i]);
		const flagsAt = (i: number): string[] => namesOf(args[i]);
		if (name === "socket") {
			return () => ({ value: this.create(this.fresh()).fd });
		}
		if (name === "epoll_create" || name === "epoll_create1") {
			return () => {
				const socket = this.create(this.fresh());
				socket.epoll = new Map();
				return { value: socket.fd };
			};
		}
		if (name === "poll") return this.poll(args, now);
		const socket = this.files.get(number(0));
		if (socket === undefined) return () => ({ value: -1, errno: "EBADF" });
		switch (name) {
			case "bind":
				return () => {
					socket.bound = 8080;
					return { value: 0 };
				};
			case "listen":
				return () => this.listen(socket, number(1));
			case "accept":
			case "accept4":
				return () => this.accept(socket, name === "accept4" && flagsAt(3).includes("SOCK_NONBLOCK"));
			case "connect":
				return this.connect(socket);
			case "fcntl":
				return () => {
					if (flagsAt(1)[0] === "F_GETFL") return { value: 2 | (socket.nonBlocking ? 0x800 : 0) };
					if (flagsAt(1)[0] === "F_SETFL") socket.nonBlocking = flagsAt(2).includes("O_NONBLOCK");
					return { value: 0 };
				};
			case "setsockopt":
				return () => this.setOption(socket, flagsAt(2)[0] ?? "", args[3]);
			case "getsockopt":
				return () => this.getOption(socket, flagsAt(2)[0] ?? "");
			case "write":
			case "send":
			case "sendto":
				return this.send(socket, number(2), name === "write" ? [] : flagsAt(3));
			case "sendmsg":
				return this.send(socket, iovLength(args[1]), flagsAt(2));
			case "writev":
				return this.send(socket, iovLength(args[1]), []);
			case "read":
			case "recv":
			case "recvfrom":
				return () => this.receive(socket, number(2), name === "read" ? [] : flagsAt(3));
			case "readv":
				return () => this.receive(socket, iovLength(args[1]), []);
			case "recvmsg":
				return () => this.receive(socket, iovLength(args[1]), flagsAt(2));
			case "shutdown":
				return () => {
					const c = socket.connection;
					if (c === undefined || c.state === CLOSED) return { value: -1, errno: "ENOTCONN" };
					if (!flagsAt(1).includes("SHUT_RD")) c.end();
					// As on Linux, what still arrives can be read; only waiting for it ends.
					if (!flagsAt(1).includes("SHUT_WR")) socket.readShut = true;
					return { value: 0 };
				};
			case "close":
				return () => {
					this.files.delete(socket.fd);
					for (const other of this.files.values()) other.epoll?.delete(socket.fd);
					socket.listener?.close();
					socket.connection?.close();
					return { value: 0 };
				};
			case "ioctl":
				return () => {
					const c = socket.connection;
					const request = flagsAt(1)[0];
					if (request === "SIOCINQ" || request === "FIONREAD") return { value: 0, data: c?.readable ?? 0 };
					if (request === "SIOCOUTQ") return { value: 0, data: c?.sendRing.length ?? 0 };
					if (request === "SIOCOUTQNSD") return { value: 0, data: c?.unsent ?? 0 };
					throw new StackError("ERR_BAD_SCRIPT", `ioctl ${request} is not known here`);
				};
			case "epoll_ctl":
				return () => {
					const { epoll } = socket;
					if (epoll === undefined) return { value: -1, errno: "EINVAL" };
					if (flagsAt(1)[0] === "EPOLL_CTL_DEL") epoll.delete(number(2));
					else epoll.set(number(2), { events: fieldOf(args[3], "events"), data: fieldOf(args[3], "fd"), seen: "" });
					return { value: 0 };
				};
			case "epoll_wait":
				return this.epollWait(socket, number(3), now);
			default:
				throw new StackError("ERR_BAD_SCRIPT", `the call ${name}() is not known here`);
		}
	}

	private listen(socket: Socket, backlog: number): Attempt {
		if (socket.listener !== undefined) {
			socket.listener.backlog = Math.max(1, backlog);
			return { value: 0 };
		}
		try {
			socket.listener = this.tcp.listen({
				port: socket.bound || 8080,
				backlog,
				configure: (c) => {
					for (const apply of socket.configure) apply(c);
				},
				...(socket.fastOpenQueue > 0 ? { fastOpenQueue: socket.fastOpenQueue } : {}),
			});
		} catch (error) {
			return { value: -1, errno: (error as StackError).code };
		}
		return { value: 0 };
	}

	private accept(socket: Socket, nonBlocking: boolean): Attempt {
		if (socket.listener === undefined) return { value: -1, errno: "EINVAL" };
		const c = socket.listener.accept();
		if (c === undefined) return socket.nonBlocking ? { value: -1, errno: "EAGAIN" } : "blocked";
		const made = this.create(this.fresh());
		made.nonBlocking = nonBlocking;
		this.adopt(made, c);
		return { value: made.fd };
	}

	private adopt(socket: Socket, c: TcpConnection): void {
		socket.connection = c;
		this.last = c;
		c.handlers = {
			onClose: (_c, error) => {
				if (error !== undefined) {
					socket.error = error.code;
					socket.closedByError = true;
				}
			},
		};
		if (c.error !== undefined) socket.error = c.error.code;
	}

	private open(socket: Socket, fastOpen?: Uint8Array): Attempt | undefined {
		try {
			const c = this.tcp.connect(this.remote, 8080, undefined, {
				configure: (made) => {
					for (const apply of socket.configure) apply(made);
				},
				...(fastOpen === undefined ? {} : { fastOpen }),
			});
			this.adopt(socket, c);
			this.onConnect();
			return undefined;
		} catch (error) {
			return { value: -1, errno: (error as StackError).code };
		}
	}

	private connect(socket: Socket): () => Attempt {
		let started = false;
		return () => {
			const c = socket.connection;
			if (!started) {
				started = true;
				if (c !== undefined && c.state === SYN_SENT) return { value: -1, errno: "EALREADY" };
				if (c !== undefined && c.state >= ESTABLISHED) return { value: -1, errno: "EISCONN" };
				if (socket.error !== undefined) return this.takeError(socket);
				const late = socket.options.get("TCP_FASTOPEN_CONNECT") === 1;
				if (late && this.tcp.fastOpenCache.has(this.remote)) {
					socket.deferred = true;
					return { value: 0 };
				}
				const failed = this.open(socket, late ? new Uint8Array(0) : undefined);
				if (failed !== undefined) return failed;
				return socket.nonBlocking ? { value: -1, errno: "EINPROGRESS" } : "blocked";
			}
			if (socket.error !== undefined) return this.takeError(socket);
			return socket.connection!.state >= ESTABLISHED ? { value: 0 } : "blocked";
		};
	}

	private takeError(socket: Socket): Attempt {
		const errno = socket.error!;
		socket.error = undefined;
		return { value: -1, errno };
	}

	private send(socket: Socket, length: number, flags: readonly string[]): () => Attempt {
		let left = length;
		let waiting = false;
		return () => {
			if ((flags.includes("MSG_FASTOPEN") || socket.deferred) && socket.connection === undefined && !waiting) {
				if ((this.tcp.config.fastOpen & 1) === 0) return { value: -1, errno: "EOPNOTSUPP" };
				socket.deferred = false;
				const before = new Uint8Array(length);
				const failed = this.open(socket, before);
				if (failed !== undefined) return failed;
				const c = socket.connection!;
				if (c.synData) {
					left -= c.sendRing.length;
					if (socket.nonBlocking) return { value: length - left };
					waiting = true;
					return "blocked";
				}
				c.sendRing.release();
				if (socket.nonBlocking) return { value: -1, errno: "EINPROGRESS" };
				waiting = true;
				return "blocked";
			}
			const c = socket.connection;
			if (socket.error !== undefined && (left === length || waiting)) return this.takeError(socket);
			if (c === undefined || (c.state === CLOSED && !socket.closedByError))
				return { value: -1, errno: c === undefined ? "ENOTCONN" : "EPIPE" };
			if (c.connecting && !(c.synData && c.state === SYN_RECEIVED))
				return socket.nonBlocking ? { value: -1, errno: "EAGAIN" } : "blocked";
			if (c.finQueued || c.state > CLOSE_WAIT || c.state === CLOSED) return { value: -1, errno: "EPIPE" };
			const more = flags.includes("MSG_MORE");
			left -= c.write(new Uint8Array(left), more);
			if (left === 0) return { value: length };
			if (!socket.nonBlocking && !flags.includes("MSG_DONTWAIT")) return "blocked";
			return left === length ? { value: -1, errno: "EAGAIN" } : { value: length - left };
		};
	}

	private receive(socket: Socket, length: number, flags: readonly string[]): Attempt {
		const c = socket.connection;
		if (c === undefined) return { value: -1, errno: "ENOTCONN" };
		if (c.readable > 0) {
			const into = new Uint8Array(Math.min(length, c.readable));
			if (flags.includes("MSG_PEEK")) return { value: into.length };
			return { value: c.read(into) };
		}
		if (socket.error !== undefined) return this.takeError(socket);
		if (c.finReceived || socket.readShut || c.state === CLOSED) return { value: 0 };
		if (socket.nonBlocking || flags.includes("MSG_DONTWAIT")) return { value: -1, errno: "EAGAIN" };
		return "blocked";
	}

	private setOption(socket: Socket, name: string, argument: Expression | undefined): Attempt {
		const value = numberOf(argument?.type === "list" ? argument.items[0] : argument);
		socket.options.set(name, value);
		const apply = (action: (c: TcpConnection) => void): Attempt => {
			socket.configure.push(action);
			if (socket.connection !== undefined) action(socket.connection);
			return { value: 0 };
		};
		switch (name) {
			case "TCP_NODELAY":
				return apply((c) => c.setNoDelay(value !== 0));
			case "TCP_CORK":
				return apply((c) => c.setCork(value !== 0));
			case "SO_SNDBUF":
				return apply((c) => c.setSendBuffer(value * 2));
			case "SO_RCVBUF":
				return apply((c) => c.setReceiveBuffer(value * 2));
			case "SO_KEEPALIVE":
				return apply((c) => c.setKeepAlive(value !== 0));
			case "TCP_KEEPIDLE":
				return apply((c) => c.setKeepAlive(c.keepAlive, value * 1000));
			case "TCP_KEEPINTVL":
				return apply((c) => {
					c.keepAliveIntervalMs = value * 1000;
				});
			case "TCP_KEEPCNT":
				return apply((c) => {
					c.keepAliveProbes = value;
				});
			case "TCP_USER_TIMEOUT":
				return apply((c) => {
					c.userTimeoutMs = value;
				});
			case "SO_LINGER": {
				const on = fieldOf(argument, "onoff");
				const linger = fieldOf(argument, "linger");
				return apply((c) => {
					c.lingerMs = on !== 0 ? linger * 1000 : -1;
				});
			}
			case "TCP_MAXSEG":
				return apply((c) => {
					c.advertisedMss = Math.min(c.advertisedMss, value);
					c.mssClamp = value;
				});
			case "TCP_FASTOPEN":
				socket.fastOpenQueue = value;
				if (socket.listener !== undefined) socket.listener.fastOpenQueue = value;
				return { value: 0 };
			case "TCP_NOTSENT_LOWAT":
			case "TCP_FASTOPEN_CONNECT":
			case "IP_MTU_DISCOVER":
			case "SO_REUSEADDR":
			case "SO_REUSEPORT":
			case "SO_PRIORITY":
			case "TCP_QUICKACK":
				return { value: 0 };
			default:
				throw new StackError("ERR_BAD_SCRIPT", `the socket option ${name} is not known here`);
		}
	}

	private getOption(socket: Socket, name: string): Attempt {
		if (name === "SO_ERROR") {
			const errno = socket.error;
			socket.error = undefined;
			return { value: 0, data: errno === undefined ? 0 : (ERRNO[errno] ?? -1) };
		}
		if (name === "TCP_MAXSEG") return { value: 0, data: socket.connection?.mss ?? socket.options.get(name) ?? 536 };
		if (name === "SO_SNDBUF" || name === "SO_RCVBUF") {
			const set = socket.options.get(name);
			if (set !== undefined) return { value: 0, data: set * 2 };
		}
		const kept = socket.options.get(name);
		if (kept !== undefined) return { value: 0, data: kept };
		throw new StackError("ERR_BAD_SCRIPT", `the socket option ${name} is not known here`);
	}

	private ready(fd: number): number {
		const socket = this.files.get(fd);
		if (socket === undefined) return 0;
		if (socket.listener !== undefined) return socket.listener.queue.length > 0 ? POLL["POLLIN"]! : 0;
		const c = socket.connection;
		if (c === undefined) return POLL["POLLOUT"]! | POLL["POLLHUP"]!;
		let events = 0;
		if (c.readable > 0 || c.finReceived || c.state === CLOSED || socket.readShut) events |= 1;
		if (c.finReceived || c.state === CLOSED || socket.readShut) events |= POLL["POLLRDHUP"]!;
		const lowat = socket.options.get("TCP_NOTSENT_LOWAT") ?? Number.POSITIVE_INFINITY;
		const room = c.sendRing.length <= (c.sendLimit * 2) / 3 && c.unsent < lowat;
		if ((!c.connecting && (c.finQueued || room)) || c.state === CLOSED) events |= POLL["POLLOUT"]!;
		if (c.state === CLOSED || (c.finReceived && c.finQueued)) events |= POLL["POLLHUP"]!;
		if (socket.error !== undefined) events |= POLL["POLLERR"]!;
		return events;
	}

	private poll(args: readonly Expression[], now: () => number): () => Attempt {
		const list = args[0]?.type === "list" ? args[0].items : [];
		const timeout = numberOf(args[2]);
		let startedAt = -1;
		return () => {
			if (startedAt < 0) startedAt = now();
			const events = new Map<number, number>();
			for (const item of list) {
				const fd = fieldOf(item, "fd");
				const got = this.ready(fd) & (fieldOf(item, "events") | POLL["POLLERR"]! | POLL["POLLHUP"]!);
				if (got !== 0) events.set(fd, got);
			}
			if (events.size > 0 || (timeout >= 0 && now() - startedAt >= timeout)) return { value: events.size, events };
			return "blocked";
		};
	}

	private epollWait(socket: Socket, timeout: number, now: () => number): () => Attempt {
		let startedAt = -1;
		return () => {
			if (startedAt < 0) startedAt = now();
			const events = new Map<number, number>();
			for (const [fd, wanted] of socket.epoll ?? []) {
				const got = this.ready(fd) & (wanted.events | POLL["POLLERR"]! | POLL["POLLHUP"]!);
				const c = this.files.get(fd)?.connection;
				// An edge is news: other readiness, more bytes in, or room that had run out.
				const news = `${got},${c?.bytesReceived},${(got & 4) !== 0 && (wanted.events & 1) === 0 ? c?.bytesAcked : 0}`;
				const edge = (wanted.events & EDGE) !== 0;
				if (got === 0) wanted.seen = "";
				else if (!edge || news !== wanted.seen) {
					events.set(wanted.data, got);
					wanted.seen = news;
				}
			}
			if (events.size > 0 || (timeout >= 0 && now() - startedAt >= timeout)) return { value: events.size, events };
			return "blocked";
		};
	}

	/** Compares what a call wrote through its arguments: poll's events, getsockopt's and ioctl's numbers. */
	checkOutputs(name: string, args: readonly Expression[], result: Exclude<Attempt, "blocked">): string | undefined {
		if (result.errno !== undefined) return undefined;
		if (name === "getsockopt" || name === "ioctl") {
			const wanted = args[name === "ioctl" ? 2 : 3];
			const item = wanted?.type === "list" ? wanted.items[0] : undefined;
			if (item === undefined || item.type === "ellipsis" || result.data === undefined) return undefined;
			const value = item.type === "name" ? (ERRNO[item.value] ?? numberOf(item)) : numberOf(item);
			return value === result.data ? undefined : `${name}() gives ${result.data}, expected ${value}`;
		}
		if (name === "poll" || name === "epoll_wait") {
			const list = args[name === "poll" ? 0 : 1];
			const items = list?.type === "list" ? list.items : list === undefined ? [] : [list];
			for (const item of items) {
				if (item.type !== "struct") continue;
				const fd = fieldOf(item, "fd");
				const wanted = name === "poll" ? fieldOf(item, "revents") : fieldOf(item, "events");
				const got = result.events?.get(fd) ?? 0;
				if (result.value > 0 && wanted !== got) return `${name}() reports ${got} for ${fd}, expected ${wanted}`;
			}
		}
		return undefined;
	}
}

const ERRNO: Record<string, number> = {
	EPIPE: 32,
	ECONNRESET: 104,
	ETIMEDOUT: 110,
	ECONNREFUSED: 111,
	EHOSTUNREACH: 113,
	ENETUNREACH: 101,
	ECONNABORTED: 103,
	EINPROGRESS: 115,
};

function numberOf(expression: Expression | undefined): number {
	if (expression === undefined) return 0;
	switch (expression.type) {
		case "number":
			return expression.value;
		case "name":
			return CONSTANTS[expression.value] ?? ERRNO[expression.value] ?? 0;
		case "or":
			return expression.items.reduce((sum, item) => sum | numberOf(item), 0);
		default:
			return 0;
	}
}

function namesOf(expression: Expression | undefined): string[] {
	if (expression?.type === "name") return [expression.value];
	return expression?.type === "or" ? expression.items.flatMap(namesOf) : [];
}

function fieldOf(expression: Expression | undefined, name: string): number {
	return expression?.type === "struct" ? numberOf(expression.fields.get(name)) : 0;
}

/** Bytes an iovec (or a msghdr's) holds. */
function iovLength(expression: Expression | undefined): number {
	if (expression === undefined) return 0;
	if (expression.type === "struct") {
		const iov = expression.fields.get("msg_iov");
		if (iov !== undefined) return iovLength(iov);
		return numberOf(expression.fields.get("1"));
	}
	if (expression.type === "list") return expression.items.reduce((sum, item) => sum + iovLength(item), 0);
	return expression.type === "call" ? expression.args.reduce((sum, item) => sum + iovLength(item), 0) : 0;
}
