import type { Packet } from "../ip/packet.ts";
import { CallbackTimer, type TimerHeap } from "../ip/timers.ts";
import type { IpAddress } from "../wire/address.ts";
import type { TcpConnection } from "./connection.ts";

/** What is kept of a connection in TIME-WAIT: enough to answer a late FIN and to tell a new SYN from an old one. */
export interface TimeWait {
	readonly key: string;
	sndNxt: number;
	rcvNxt: number;
	readonly rcvWnd: number;
	readonly rcvWscale: number;
	readonly tsOk: boolean;
	tsRecent: number;
	readonly tsOffset: number;
	readonly since: number;
	expires: number;
	lastAckAt: number;
}

/** The connections in TIME-WAIT, bounded: the oldest go first. */
export class TimeWaitTable {
	readonly entries: Map<string, TimeWait> = new Map();
	private readonly timers: TimerHeap;
	private readonly most: number;
	private readonly timer: CallbackTimer;

	constructor(timers: TimerHeap, most: number) {
		this.timers = timers;
		this.most = most;
		this.timer = new CallbackTimer((now) => this.expire(now));
	}

	add(c: TcpConnection, now: number, lifetime: number): void {
		const entry: TimeWait = {
			key: keyOf(c.path.source, c.localPort, c.path.destination, c.remotePort),
			sndNxt: c.sndNxt,
			rcvNxt: c.rcvNxt,
			rcvWnd: c.rcvWnd,
			rcvWscale: c.rcvWscale,
			tsOk: c.tsOk,
			tsRecent: c.tsRecent,
			tsOffset: c.tsOffset,
			since: now,
			expires: now + lifetime,
			lastAckAt: Number.NEGATIVE_INFINITY,
		};
		if (this.entries.size >= this.most) this.entries.delete(this.entries.keys().next().value!);
		this.entries.set(entry.key, entry);
		this.arm(entry.expires);
	}

	/** Makes sure the table is looked at when its oldest entry is over. */
	arm(at: number): void {
		if (this.timer.timerIndex < 0) this.timers.schedule(this.timer, at);
	}

	find(local: IpAddress, localPort: number, remote: IpAddress, remotePort: number): TimeWait | undefined {
		return this.entries.size === 0 ? undefined : this.entries.get(keyOf(local, localPort, remote, remotePort));
	}

	findFor(packet: Packet, localPort: number, remotePort: number): TimeWait | undefined {
		if (this.entries.size === 0) return undefined;
		return this.find(packet.destination(), localPort, packet.source(), remotePort);
	}

	remove(entry: TimeWait): void {
		this.entries.delete(entry.key);
	}

	/** A FIN came again: the wait starts over (RFC 9293 3.10.7.4, eighth). */
	restart(entry: TimeWait, now: number, lifetime: number): void {
		this.remove(entry);
		entry.expires = now + lifetime;
		this.entries.set(entry.key, entry);
	}

	private expire(now: number): void {
		for (const entry of this.entries.values()) {
			if (entry.expires > now) {
				this.timers.schedule(this.timer, entry.expires);
				return;
			}
			this.remove(entry);
		}
	}
}

function keyOf(local: IpAddress, localPort: number, remote: IpAddress, remotePort: number): string {
	return `${local.a},${local.b},${local.d},${localPort},${remote.a},${remote.b},${remote.d},${remotePort}`;
}
