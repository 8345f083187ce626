import type { TcpConnection } from "../tcp/connection.ts";
import type { Listener } from "../tcp/listener.ts";
import { CLOSED, LISTEN, SYN_RECEIVED, SYN_SENT } from "../tcp/state.ts";
import { EDGE, ERR, HUP, IN, ONESHOT, OUT, RDHUP } from "./constants.ts";
import { ErrorQueue } from "./error-queue.ts";
import type { SendBuffer } from "./send-buffer.ts";

/** What a system call came to. */
export type Attempt = "blocked" | Outcome;

export interface Outcome {
	value: number;
	errno?: string;
	/** poll()'s and epoll_wait()'s events by descriptor or user data. */
	events?: Map<number, number>;
	/** What getsockopt() and ioctl() wrote. */
	data?: number;
	bytes?: Uint8Array;
	/** What recvmsg() gave beside the data. */
	message?: { flags: number; control: ControlMessage[] };
	fds?: readonly [number, number];
}

/** One control message, its data as named numbers. */
export interface ControlMessage {
	level: number;
	type: number;
	data: Record<string, number>;
}

interface Watch {
	fd: number;
	events: number;
	data: number;
	ready: boolean;
}

/** A socket as the tested process has it. */
export class SocketFile {
	connection: TcpConnection | undefined;
	listener: Listener | undefined;
	/** sk_err: told once. */
	error: string | undefined;
	nonBlocking = false;
	bound = 0;
	/** Whether the last connect() is still to be told of its outcome. */
	connecting = false;
	connected = false;
	/** connect() left the SYN to the first write (TCP_FASTOPEN_CONNECT). */
	deferred = false;
	readShut = false;
	resetByPeer = false;
	readonly configure: ((c: TcpConnection) => void)[] = [];
	readonly options = new Map<string, number>();
	readonly errors = new ErrorQueue();
	sendBuffer: SendBuffer;
	fastOpenKeys: Uint8Array[] | undefined;
	private seen = { bytes: 0, fin: false, state: -1, queued: 0, error: false };

	constructor(sendBuffer: SendBuffer) {
		this.sendBuffer = sendBuffer;
	}

	get state(): number {
		return this.listener !== undefined ? LISTEN : (this.connection?.state ?? CLOSED);
	}

	takeError(): Outcome {
		const errno = this.error!;
		this.error = undefined;
		return { value: -1, errno };
	}

	/** poll()'s word on it (tcp_poll). */
	poll(): number {
		if (this.listener !== undefined) return this.listener.queue.length > 0 ? IN : 0;
		const c = this.connection;
		let mask = 0;
		if (this.deferred) mask |= OUT;
		else if (c === undefined || c.state === CLOSED || c.state > 9) mask |= HUP | OUT;
		if (c !== undefined) {
			const closed = c.state === CLOSED || c.state > 9;
			const ended = closed || c.finReceived || this.readShut;
			if (ended && (c.finQueued || closed)) mask |= HUP;
			if (ended) mask |= IN | RDHUP;
			if (c.state !== SYN_SENT && (c.state !== SYN_RECEIVED || c.earlyOpen)) {
				if (c.readable > 0) mask |= IN;
				if (!closed && !c.finQueued) {
					if (this.sendBuffer.writable(c)) mask |= OUT;
					else this.sendBuffer.noSpace = true;
				} else mask |= OUT;
			}
		}
		if (this.error !== undefined || this.errors.messages.length > 0) mask |= ERR;
		return mask;
	}

	/** What has happened since the last look, as the events that wake pollers; 0 in the list is a change of state. */
	news(now: number, mostSendBuffer: number): number[] {
		const { seen, listener, connection: c } = this;
		const wakes: number[] = [];
		if (listener !== undefined) {
			if (listener.queue.length > seen.queued) wakes.push(IN);
			seen.queued = listener.queue.length;
			return wakes;
		}
		if (c === undefined) return wakes;
		if (seen.state !== c.state) {
			const opened = seen.state <= SYN_RECEIVED && c.state > SYN_RECEIVED;
			if (opened || c.state === CLOSED) wakes.push(0);
			seen.state = c.state;
		}
		if (c.bytesReceived > seen.bytes) wakes.push(IN);
		seen.bytes = c.bytesReceived;
		if (c.finReceived && !seen.fin) wakes.push(0);
		seen.fin = c.finReceived;
		if (this.error !== undefined && !seen.error) wakes.push(ERR);
		seen.error = this.error !== undefined;
		if (this.errors.news(c, now)) wakes.push(ERR);
		if (this.sendBuffer.news(c, mostSendBuffer)) wakes.push(OUT);
		return wakes;
	}
}

/** An epoll instance: what it watches, and which of that woke since it was last told. */
export class EpollFile {
	private readonly watches: Watch[] = [];

	control(operation: string, fd: number, events: number, data: number, ready: number): Outcome {
		const at = this.watches.findIndex((watch) => watch.fd === fd);
		if (operation === "EPOLL_CTL_ADD") {
			if (at >= 0) return { value: -1, errno: "EEXIST" };
			this.watches.push({ fd, events, data, ready: (ready & (events | ERR | HUP)) !== 0 });
			return { value: 0 };
		}
		if (at < 0) return { value: -1, errno: "ENOENT" };
		if (operation === "EPOLL_CTL_DEL") this.watches.splice(at, 1);
		else this.watches[at] = { fd, events, data, ready: (ready & (events | ERR | HUP)) !== 0 };
		return { value: 0 };
	}

	forget(fd: number): void {
		const at = this.watches.findIndex((watch) => watch.fd === fd);
		if (at >= 0) this.watches.splice(at, 1);
	}

	/** A file's news; 0 wakes whoever watches it at all. */
	wake(fd: number, event: number): void {
		for (const watch of this.watches) {
			if (watch.fd !== fd || (watch.events & ~(EDGE | ONESHOT)) === 0) continue;
			if (event === 0 || (event & (watch.events | ERR | HUP)) !== 0) watch.ready = true;
		}
	}

	wait(most: number, poll: (fd: number) => number): Map<number, number> {
		const events = new Map<number, number>();
		for (const watch of this.watches) {
			if (events.size >= most) break;
			if (!watch.ready) continue;
			const got = poll(watch.fd) & (watch.events | ERR | HUP);
			watch.ready = false;
			if (got === 0) continue;
			events.set(watch.data, got);
			if ((watch.events & ONESHOT) !== 0) watch.events &= EDGE | ONESHOT;
			else if ((watch.events & EDGE) === 0) watch.ready = true;
		}
		return events;
	}
}

/** A pipe's end: how many bytes are in it. */
export class PipeFile {
	readonly pipe: { length: number };

	constructor(pipe: { length: number }) {
		this.pipe = pipe;
	}
}

/** A plain file to send from. */
export class PlainFile {
	readonly length: number;
	at = 0;

	constructor(length: number) {
		this.length = length;
	}
}

export type DrillFile = SocketFile | EpollFile | PipeFile | PlainFile;
