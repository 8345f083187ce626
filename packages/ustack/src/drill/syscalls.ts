import { StackError } from "../errors.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import type { TcpLayer } from "../tcp/layer.ts";
import { CLOSE_WAIT, CLOSED, ESTABLISHED, SYN_RECEIVED, SYN_SENT } from "../tcp/state.ts";
import { constant, ERR, fieldOf, HUP, iovLengths, nameOf, numberOf } from "./constants.ts";
import { type Attempt, type DrillFile, EpollFile, type Outcome, PipeFile, PlainFile, SocketFile } from "./files.ts";
import { getOption, setOption } from "./options.ts";
import { receiveMessage } from "./receive.ts";
import type { Expression } from "./script.ts";
import { Sender } from "./send.ts";
import { SendBuffer } from "./send-buffer.ts";

export interface SyscallHost {
	readonly tcp: TcpLayer;
	readonly remote: string;
	now(): number;
	/** Lets the stack send what it wants to. */
	settle(): void;
	/** A connection was opened by a call. */
	opened(socket: SocketFile): void;
	/** A new socket, which is what the script's next packets are about. */
	created(): void;
	/** TCP_NOTSENT_LOWAT's default. */
	lowWater(): number;
	/** Length of a file the script made, undefined when there is none. */
	fileLength(name: string): number | undefined;
}

const FAULT: Outcome = { value: -1, errno: "EFAULT" };
/** Where a buffer would be and NULL is. */
function isNull(argument: Expression | undefined): boolean {
	return argument?.type === "name" && argument.value === "NULL";
}

/** The system calls of a script, over one TCP layer. */
export class Syscalls {
	readonly files = new Map<number, DrillFile>();
	private readonly host: SyscallHost;

	constructor(host: SyscallHost) {
		this.host = host;
	}

	/** A script gave a descriptor another number. */
	rename(from: number, to: number): void {
		const file = this.files.get(from);
		if (file === undefined || from === to) return;
		this.files.delete(from);
		this.files.set(to, file);
	}

	private install(file: DrillFile): number {
		let fd = 3;
		while (this.files.has(fd)) fd++;
		this.files.set(fd, file);
		return fd;
	}

	private socket(): SocketFile {
		const { config } = this.host.tcp;
		return new SocketFile(new SendBuffer(config.sendBuffer, this.host.lowWater()));
	}

	/** Wakes pollers about whatever happened since the last look. */
	news(): void {
		const { config } = this.host.tcp;
		for (const [fd, file] of this.files) {
			if (!(file instanceof SocketFile)) continue;
			for (const event of file.news(this.host.now(), config.maxSendBuffer)) {
				for (const other of this.files.values()) if (other instanceof EpollFile) other.wake(fd, event);
			}
		}
	}

	private pollFile(fd: number): number {
		const file = this.files.get(fd);
		return file instanceof SocketFile ? file.poll() : 0;
	}

	/** Gives a function that tries the call, once or until it no longer blocks. */
	prepare(name: string, args: readonly Expression[]): () => Attempt {
		const number = (i: number): number => numberOf(args[i]);
		switch (name) {
			case "socket":
				return () => {
					const socket = this.socket();
					socket.nonBlocking = /SOCK_NONBLOCK/.test(JSON.stringify(args[1] ?? ""));
					this.host.created();
					return { value: this.install(socket) };
				};
			case "epoll_create":
			case "epoll_create1":
				return () => ({ value: this.install(new EpollFile()) });
			case "poll":
				return this.poll(args);
			case "pipe":
				return () => {
					const pipe = { length: 0 };
					const fds = [this.install(new PipeFile(pipe)), this.install(new PipeFile(pipe))] as const;
					return { value: 0, fds };
				};
			case "open":
				return () => {
					const length = this.host.fileLength(args[0]?.type === "string" ? args[0].value : "");
					return length === undefined ? { value: -1, errno: "ENOENT" } : { value: this.install(new PlainFile(length)) };
				};
			default: {
				const file = this.files.get(number(0));
				if (file === undefined) return () => ({ value: -1, errno: "EBADF" });
				if (name === "close") return () => this.close(number(0), file);
				if (file instanceof EpollFile) return this.epoll(file, name, args);
				if (file instanceof SocketFile) return this.socketCall(file, name, args);
				throw new StackError("ERR_BAD_SCRIPT", `the call ${name}() on such a file is not known here`);
			}
		}
	}

	private socketCall(socket: SocketFile, name: string, args: readonly Expression[]): () => Attempt {
		const number = (i: number): number => numberOf(args[i]);
		const { tcp } = this.host;
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
				return () => this.accept(socket, name === "accept4" && (number(3) & 0x800) !== 0);
			case "connect":
				return this.connect(socket, nameOf(args[1]) === "AF_UNSPEC");
			case "fcntl":
				return () => {
					if (nameOf(args[1]) === "F_GETFL") return { value: 2 | (socket.nonBlocking ? 0x800 : 0) };
					if (nameOf(args[1]) === "F_SETFL") socket.nonBlocking = (number(2) & 0x800) !== 0;
					return { value: 0 };
				};
			case "setsockopt":
				return () => setOption(tcp, socket, nameOf(args[2]), args[3], number(4));
			case "getsockopt":
				return () => getOption(tcp, socket, nameOf(args[2]));
			case "write":
			case "send":
			case "sendto": {
				const flags = name === "write" ? 0 : number(3);
				const unspecified = name === "sendto" && nameOf(args[4]) === "AF_UNSPEC";
				return this.send(socket, [number(2)], flags, isNull(args[1]), unspecified);
			}
			case "writev":
				return this.send(socket, iovLengths(args[1]), 0, false, false);
			case "sendmsg":
				return this.send(socket, iovLengths(args[1]), number(2), false, false);
			case "read":
			case "recv":
			case "recvfrom": {
				const flags = name === "read" ? 0 : number(3);
				return () => this.receive(socket, number(2), flags, isNull(args[1]));
			}
			case "readv":
				return () => this.receive(socket, sum(iovLengths(args[1])), 0, false);
			case "recvmsg":
				return () => {
					const flags = number(2);
					if ((flags & constant("MSG_ERRQUEUE")!) !== 0) return receiveMessage(socket, undefined);
					const outcome = this.receive(socket, sum(iovLengths(args[1])), flags, false);
					if (outcome === "blocked" || outcome.errno !== undefined) return outcome;
					return receiveMessage(socket, outcome.value);
				};
			case "shutdown":
				return () => this.shutdown(socket, nameOf(args[1]));
			case "ioctl":
				return () => ioctl(socket, nameOf(args[1]));
			case "sendfile": {
				const source = this.files.get(number(1));
				if (!(source instanceof PlainFile)) return () => ({ value: -1, errno: "EBADF" });
				const length = Math.min(number(3), source.length - source.at);
				source.at += length;
				return this.send(socket, [length], 0, false, false);
			}
			case "splice": {
				const target = this.files.get(number(2));
				if (!(target instanceof PipeFile)) return () => ({ value: -1, errno: "EINVAL" });
				return () => {
					const outcome = this.receive(socket, number(4), 0, false);
					if (outcome !== "blocked" && outcome.value > 0) target.pipe.length += outcome.value;
					return outcome;
				};
			}
			default:
				throw new StackError("ERR_BAD_SCRIPT", `the call ${name}() is not known here`);
		}
	}

	private close(fd: number, file: DrillFile): Outcome {
		this.files.delete(fd);
		for (const other of this.files.values()) if (other instanceof EpollFile) other.forget(fd);
		if (file instanceof SocketFile) {
			file.listener?.close();
			file.connection?.close();
		}
		return { value: 0 };
	}

	private listen(socket: SocketFile, backlog: number): Outcome {
		if (socket.listener !== undefined) {
			socket.listener.backlog = Math.max(1, backlog);
			return { value: 0 };
		}
		if (socket.connection !== undefined && socket.connection.state !== CLOSED) return { value: -1, errno: "EINVAL" };
		const queue = socket.options.get("TCP_FASTOPEN");
		try {
			socket.listener = this.host.tcp.listen({
				port: socket.bound || 8080,
				backlog,
				configure: (c) => {
					for (const apply of socket.configure) apply(c);
				},
				...(queue === undefined ? {} : { fastOpenQueue: queue }),
			});
		} catch (error) {
			return { value: -1, errno: (error as StackError).code };
		}
		socket.listener.fastOpenKeys = socket.fastOpenKeys;
		socket.listener.fastOpenNoCookie = socket.options.get("TCP_FASTOPEN_NO_COOKIE") === 1;
		return { value: 0 };
	}

	private accept(socket: SocketFile, nonBlocking: boolean): Attempt {
		if (socket.listener === undefined) return { value: -1, errno: "EINVAL" };
		const c = socket.listener.accept();
		if (c === undefined) return socket.nonBlocking ? { value: -1, errno: "EAGAIN" } : "blocked";
		const made = this.socket();
		made.nonBlocking = nonBlocking;
		for (const [name, value] of socket.options) if (name !== "SO_ERROR") made.options.set(name, value);
		if (socket.sendBuffer.fixed) {
			made.sendBuffer.limit = socket.sendBuffer.limit;
			made.sendBuffer.fixed = true;
		}
		made.sendBuffer.lowWater = socket.sendBuffer.lowWater;
		this.adopt(made, c);
		made.connected = true;
		this.host.opened(made);
		return { value: this.install(made) };
	}

	/** Joins a socket and a connection: errors become the socket's. */
	private adopt(socket: SocketFile, c: TcpConnection): void {
		socket.connection = c;
		c.setSendBuffer(1 << 30);
		c.handlers = {
			onClose: (_c, error) => {
				if (error !== undefined) socket.error = error.code;
			},
		};
		if (c.error !== undefined) socket.error = c.error.code;
	}

	/** Sends the SYN; `data` makes it a Fast Open. */
	private open(socket: SocketFile, data: Uint8Array | undefined, whole: boolean): Outcome | undefined {
		try {
			const c = this.host.tcp.connect(this.host.remote, 8080, undefined, {
				configure: (made) => {
					made.setSendBuffer(1 << 30);
					for (const apply of socket.configure) apply(made);
				},
				...(data === undefined
					? {}
					: {
							fastOpen: data,
							fastOpenWhole: whole,
							fastOpenNoCookie: socket.options.get("TCP_FASTOPEN_NO_COOKIE") === 1,
						}),
			});
			socket.deferred = false;
			socket.connecting = true;
			this.adopt(socket, c);
			this.host.opened(socket);
			return undefined;
		} catch (error) {
			return { value: -1, errno: (error as StackError).code };
		}
	}

	private connect(socket: SocketFile, unspecified: boolean): () => Attempt {
		let started = false;
		return () => {
			const c = socket.connection;
			if (!started) {
				started = true;
				if (unspecified) {
					c?.abort();
					socket.connection = undefined;
					socket.connecting = socket.connected = socket.deferred = false;
					return { value: 0 };
				}
				if (socket.listener !== undefined || socket.connected || socket.deferred)
					return { value: -1, errno: "EISCONN" };
				if (socket.connecting && c?.state === SYN_SENT && socket.nonBlocking) return { value: -1, errno: "EALREADY" };
				if (!socket.connecting) {
					const fast = socket.options.get("TCP_FASTOPEN_CONNECT") === 1;
					const offer = fast
						? this.host.tcp.fastOpen.offer(
								this.host.remote,
								socket.options.get("TCP_FASTOPEN_NO_COOKIE") === 1,
								this.host.now(),
							)
						: undefined;
					if (offer?.data === true) {
						socket.deferred = true;
						return { value: 0 };
					}
					const failed = this.open(socket, fast ? new Uint8Array(0) : undefined, true);
					if (failed !== undefined) return failed;
					return socket.nonBlocking ? { value: -1, errno: "EINPROGRESS" } : "blocked";
				}
			}
			return this.connected(socket);
		};
	}

	/** Whether a connect() begun earlier has ended, and how. */
	private connected(socket: SocketFile): Attempt {
		const c = socket.connection!;
		if (c.state === SYN_SENT || (c.state === SYN_RECEIVED && !c.earlyOpen)) return "blocked";
		if (socket.error !== undefined || c.state === CLOSED) {
			socket.connecting = false;
			return socket.error !== undefined ? socket.takeError() : { value: -1, errno: "ECONNABORTED" };
		}
		socket.connecting = false;
		socket.connected = true;
		return { value: 0 };
	}

	private send(
		socket: SocketFile,
		lengths: readonly number[],
		flags: number,
		bad: boolean,
		unspecified: boolean,
	): () => Attempt {
		const sender = new Sender(this.host, socket, lengths, flags, bad);
		const fast = (flags & constant("MSG_FASTOPEN")!) !== 0;
		let phase = 0;
		return () => {
			if (phase === 0 && (fast || socket.deferred)) {
				if (!this.host.tcp.fastOpen.clientEnabled || unspecified) return { value: -1, errno: "EOPNOTSUPP" };
				const opening = this.openByWrite(socket, sender, bad);
				if (opening !== undefined) {
					if (opening === "blocked") phase = 1;
					return opening;
				}
			}
			if (phase === 1) {
				const state = this.connected(socket);
				if (state === "blocked" || state.value < 0) return state;
			}
			phase = 2;
			return sender.step();
		};
	}

	/** sendto() with MSG_FASTOPEN as connect(); undefined where it goes on as an ordinary write. */
	private openByWrite(socket: SocketFile, sender: Sender, bad: boolean): Attempt | undefined {
		const c = socket.connection;
		if (socket.connected) return { value: -1, errno: "EISCONN" };
		if (socket.connecting && c !== undefined) {
			if (c.state === SYN_SENT) return sender.nonBlocking ? { value: -1, errno: "EALREADY" } : "blocked";
			const state = this.connected(socket);
			return state !== "blocked" && state.value === 0 ? undefined : state;
		}
		if (bad) return FAULT;
		const failed = this.open(socket, new Uint8Array(sender.total), !sender.nonBlocking);
		if (failed !== undefined) return failed;
		const made = socket.connection!;
		sender.openedWith(made);
		this.host.settle();
		if (!sender.nonBlocking) return "blocked";
		return made.synBytes > 0 ? { value: made.synBytes } : { value: -1, errno: "EINPROGRESS" };
	}

	private receive(socket: SocketFile, length: number, flags: number, bad: boolean): Attempt {
		const c = socket.connection;
		if (c === undefined) return { value: -1, errno: socket.deferred ? "EAGAIN" : "ENOTCONN" };
		const wanted = (flags & constant("MSG_WAITALL")!) !== 0 ? length : 1;
		if (c.readable >= Math.min(wanted, Math.max(1, length)) || (c.readable > 0 && c.finReceived)) {
			if (bad) return FAULT;
			const into = new Uint8Array(Math.min(length, c.readable));
			if ((flags & constant("MSG_PEEK")!) !== 0) return { value: into.length };
			return { value: c.read(into) };
		}
		if (socket.error !== undefined) return socket.takeError();
		if (c.finReceived || socket.readShut) return { value: 0 };
		if (c.state === CLOSED) return { value: 0 };
		if (socket.nonBlocking || (flags & constant("MSG_DONTWAIT")!) !== 0) return { value: -1, errno: "EAGAIN" };
		return "blocked";
	}

	private shutdown(socket: SocketFile, how: string): Outcome {
		if (socket.listener !== undefined) {
			socket.listener.close();
			return { value: 0 };
		}
		const c = socket.connection;
		if (c === undefined || c.state === CLOSED) return { value: -1, errno: "ENOTCONN" };
		if (how !== "SHUT_RD") c.end();
		// As on Linux, what still arrives can be read; only waiting for it ends.
		if (how !== "SHUT_WR") socket.readShut = true;
		return { value: 0 };
	}

	private poll(args: readonly Expression[]): () => Attempt {
		const list = args[0]?.type === "list" ? args[0].items : [];
		const timeout = numberOf(args[2]);
		let startedAt = -1;
		return () => {
			if (startedAt < 0) startedAt = this.host.now();
			const events = new Map<number, number>();
			for (const item of list) {
				const fd = numberOf(fieldOf(item, "fd"));
				const got = this.pollFile(fd) & (numberOf(fieldOf(item, "events")) | ERR | HUP);
				if (got !== 0) events.set(fd, got);
			}
			const late = timeout >= 0 && this.host.now() - startedAt >= timeout;
			return events.size > 0 || late ? { value: events.size, events } : "blocked";
		};
	}

	private epoll(epoll: EpollFile, name: string, args: readonly Expression[]): () => Attempt {
		if (name === "epoll_ctl") {
			return () => {
				const fd = numberOf(args[2]);
				const event = args[3];
				const data = fieldOf(event, "fd") ?? fieldOf(event, "ptr") ?? fieldOf(event, "u32") ?? fieldOf(event, "u64");
				return epoll.control(
					nameOf(args[1]),
					fd,
					numberOf(fieldOf(event, "events")),
					numberOf(data),
					this.pollFile(fd),
				);
			};
		}
		if (name !== "epoll_wait" && name !== "epoll_pwait")
			throw new StackError("ERR_BAD_SCRIPT", `the call ${name}() on an epoll file is not known here`);
		const timeout = numberOf(args[3]);
		let startedAt = -1;
		return () => {
			if (startedAt < 0) startedAt = this.host.now();
			const events = epoll.wait(numberOf(args[2]), (fd) => this.pollFile(fd));
			const late = timeout >= 0 && this.host.now() - startedAt >= timeout;
			return events.size > 0 || late ? { value: events.size, events } : "blocked";
		};
	}
}

function sum(lengths: readonly number[]): number {
	return lengths.reduce((total, length) => total + length, 0);
}

function ioctl(socket: SocketFile, request: string): Outcome {
	const c = socket.connection;
	switch (request) {
		case "SIOCINQ":
		case "FIONREAD":
			if (socket.listener !== undefined) return { value: -1, errno: "EINVAL" };
			return { value: 0, data: c?.readable ?? 0 };
		case "SIOCOUTQ":
			return { value: 0, data: c === undefined || c.state < ESTABLISHED ? 0 : outstanding(c) };
		case "SIOCOUTQNSD":
			return { value: 0, data: c?.unsent ?? 0 };
		default:
			throw new StackError("ERR_BAD_SCRIPT", `ioctl ${request} is not known here`);
	}
}

/** Sequence numbers written and not acknowledged, a FIN's too. */
function outstanding(c: TcpConnection): number {
	return c.sendRing.length + (c.finQueued && c.state !== CLOSE_WAIT ? 1 : 0);
}
