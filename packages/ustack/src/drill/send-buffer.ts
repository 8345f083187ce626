import type { TcpConnection } from "../tcp/connection.ts";
import { runLength, tailRoom } from "../tcp/push.ts";
import { after, distance } from "../tcp/seq.ts";

/** What a buffer of the tested kernel weighs beside its bytes. */
const OVERHEAD = 1280;
const HEADER_SPACE = 640;
const DESCRIPTOR = 256;

/**
 * Linux's send-buffer accounting of one socket, which decides how much a write takes and when it may go on: bytes weigh
 * with their buffers' overhead, and a buffer once begun is filled.
 */
export class SendBuffer {
	/** Bytes; grown with the window unless the script fixed it. */
	limit: number;
	fixed = false;
	/** A write was short, or poll() said so: tell when there is room. */
	noSpace = false;
	/** TCP_NOTSENT_LOWAT. */
	lowWater: number;
	private started = false;
	private readonly runs: { end: number; bytes: number }[] = [];

	constructor(limit: number, lowWater: number) {
		this.limit = limit;
		this.lowWater = lowWater;
	}

	/** Memory queued, after what is acknowledged has been let go. */
	private queued(c: TcpConnection): number {
		while (this.runs.length > 0 && !after(this.runs[0]!.end, c.sndUna)) this.runs.shift();
		let total = 0;
		for (const [i, run] of this.runs.entries())
			total += OVERHEAD + (i === 0 ? Math.min(run.bytes, distance(run.end, c.sndUna)) : run.bytes);
		return total;
	}

	/** Whether another buffer may be begun. */
	free(c: TcpConnection): boolean {
		return this.queued(c) < this.limit && c.unsent < this.lowWater;
	}

	/** Whether it is worth waking a writer. */
	writable(c: TcpConnection): boolean {
		const queued = this.queued(c);
		return this.limit - queued >= queued >> 1 && c.unsent * 2 < this.lowWater && queued < this.limit;
	}

	/** Bytes the next step of a write may take; 0 where it has to wait. */
	room(c: TcpConnection): number {
		const tail = tailRoom(c);
		if (tail > 0) return tail;
		return this.free(c) ? runLength(c) : 0;
	}

	added(c: TcpConnection, bytes: number, joined: boolean): void {
		const end = (c.dataSeq + c.sendRing.length) | 0;
		const last = this.runs.at(-1);
		if (joined && last !== undefined) {
			last.end = end;
			last.bytes += bytes;
		} else this.runs.push({ end, bytes });
	}

	/** The connection is established: room for its first window. */
	opened(c: TcpConnection, most: number): void {
		if (this.started) return;
		this.started = true;
		this.grow(c, most);
	}

	/** Two congestion windows of whole segments with their overhead. */
	private grow(c: TcpConnection, most: number): void {
		if (this.fixed) return;
		const perSegment = 2 ** Math.ceil(Math.log2(c.peerMss + HEADER_SPACE)) + DESCRIPTOR;
		const wanted = 2 * Math.max(10, c.cwnd, c.reordering + 1) * perSegment;
		if (wanted > this.limit) this.limit = Math.min(wanted, most);
	}

	/** What was acknowledged makes room; the buffer follows the congestion window. True when a writer is to be woken. */
	news(c: TcpConnection, most: number): boolean {
		if (!this.noSpace) return false;
		if (c.inFlight() < c.cwnd) this.grow(c, most);
		if (!this.writable(c)) return false;
		this.noSpace = false;
		return true;
	}
}
