import type { TcpConnection } from "../tcp/connection.ts";
import { tailRoom } from "../tcp/push.ts";
import { CLOSE_WAIT, CLOSED, SYN_RECEIVED } from "../tcp/state.ts";
import { constant } from "./constants.ts";
import type { Attempt, SocketFile } from "./files.ts";
import type { SyscallHost } from "./syscalls.ts";

/** Buffers of the user's one packet buffer refers to at most. */
const MAX_FRAGMENTS = 17;

/** One write, from the first try to the last byte taken: buffer after buffer, as far as the send buffer lets it. */
export class Sender {
	readonly nonBlocking: boolean;
	readonly total: number;
	private left: number;
	private readonly host: SyscallHost;
	private readonly socket: SocketFile;
	private readonly bad: boolean;
	private readonly more: boolean;
	private readonly record: boolean;
	private readonly zerocopy: boolean;
	/** Offsets at which a zerocopy write has to begin another packet buffer. */
	private readonly cuts: number[] = [];

	constructor(host: SyscallHost, socket: SocketFile, lengths: readonly number[], flags: number, bad: boolean) {
		this.host = host;
		this.socket = socket;
		this.bad = bad;
		this.total = lengths.reduce((sum, length) => sum + length, 0);
		this.left = this.total;
		this.nonBlocking = socket.nonBlocking || (flags & constant("MSG_DONTWAIT")!) !== 0;
		this.more = (flags & constant("MSG_MORE")!) !== 0;
		this.record = (flags & constant("MSG_EOR")!) !== 0;
		this.zerocopy = (flags & constant("MSG_ZEROCOPY")!) !== 0 && socket.options.get("SO_ZEROCOPY") === 1;
		if (!this.zerocopy) return;
		let at = 0;
		for (const [i, length] of lengths.filter((each) => each > 0).entries()) {
			if (i > 0 && i % MAX_FRAGMENTS === 0) this.cuts.push(at);
			at += length;
		}
	}

	/** The SYN took the first bytes along, or all were queued behind it. */
	openedWith(c: TcpConnection): void {
		this.left = this.total - c.sendRing.length;
		if (c.sendRing.length > 0) this.wrote(c, c.sendRing.length, false);
	}

	private wrote(c: TcpConnection, count: number, joined: boolean): void {
		this.socket.sendBuffer.added(c, count, joined);
		if (this.left === 0) this.ending(c, joined);
	}

	/** The write's last byte has been taken: notifications are of it. */
	private ending(c: TcpConnection, joined: boolean): void {
		const { socket } = this;
		const end = (c.dataSeq + c.sendRing.length) | 0;
		if (this.zerocopy && this.total > 0) socket.errors.wroteZerocopy(end);
		socket.errors.wrote(c, end, joined);
	}

	step(): Attempt {
		const { socket } = this;
		const c = socket.connection;
		const fresh = this.left === this.total;
		if (socket.error !== undefined) return fresh ? socket.takeError() : { value: this.total - this.left };
		if (c === undefined || c.state === CLOSED) return this.ended("EPIPE");
		if (c.connecting && !(c.earlyOpen && c.state === SYN_RECEIVED))
			return this.nonBlocking ? { value: -1, errno: "EAGAIN" } : "blocked";
		if (c.finQueued || c.state > CLOSE_WAIT) return this.ended("EPIPE");
		socket.sendBuffer.opened(c, this.host.tcp.config.maxSendBuffer);
		if (this.bad && this.total > 0) return { value: -1, errno: "EFAULT" };
		if (socket.sendBuffer.noSpace && !socket.sendBuffer.writable(c) && !this.nonBlocking && !fresh) return "blocked";
		while (this.left > 0) {
			const joins = tailRoom(c) > 0;
			const room = socket.sendBuffer.room(c);
			if (room === 0) {
				socket.sendBuffer.noSpace = true;
				c.wantsWritable = true;
				// What is there goes out, whatever else is to follow.
				c.flush();
				this.host.settle();
				if (!this.nonBlocking) return "blocked";
				break;
			}
			const done = this.total - this.left;
			const cut = this.cuts.find((at) => at > done);
			const count = Math.min(room, this.left, cut === undefined ? this.left : cut - done);
			const last = count === this.left;
			const boundary = done + count === cut;
			this.left -= count;
			c.write(new Uint8Array(count), last ? this.more : !boundary, last ? this.record : boundary);
			this.wrote(c, count, joins);
			if (!last) this.host.settle();
		}
		if (this.left === this.total && this.total > 0) return { value: -1, errno: "EAGAIN" };
		c.wantsWritable = this.left > 0;
		if (this.left > 0) this.ending(c, false);
		return { value: this.total - this.left };
	}

	private ended(errno: string): Attempt {
		return this.left === this.total ? { value: -1, errno } : { value: this.total - this.left };
	}
}
