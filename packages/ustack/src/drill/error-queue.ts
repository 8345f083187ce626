import type { TcpConnection } from "../tcp/connection.ts";
import { after } from "../tcp/seq.ts";

const ORIGIN_TIMESTAMPING = 4;
const ORIGIN_ZEROCOPY = 5;
const COPIED = 1;
const ENOMSG = 42;
const SENT = 0;
const SCHEDULED = 1;
const ACKNOWLEDGED = 2;
const TX_SOFTWARE = 2;
const OPT_ID = 128;
const TX_SCHED = 256;
const TX_ACK = 512;
const OPT_TSONLY = 2048;

/** One message of a socket's error queue: sock_extended_err and, for timestamps, when. */
export interface ErrorMessage {
	errno: number;
	origin: number;
	code: number;
	info: number;
	data: number;
	/** Milliseconds on the run's clock. */
	stamp?: number;
	/** The payload came with it and did not fit (MSG_TRUNC). */
	truncated: boolean;
}

/** MSG_ZEROCOPY's and SO_TIMESTAMPING's notifications of one socket. */
export class ErrorQueue {
	readonly messages: ErrorMessage[] = [];
	private readonly zerocopy: { id: number; end: number }[] = [];
	private readonly stamped: { end: number; key: number; sent: boolean }[] = [];
	private nextId = 0;
	/** SO_TIMESTAMPING's flags, and the sequence number keys count from. */
	timestamping = 0;
	keyBase = 0;

	/** A zerocopy write ended here: its notification comes with the acknowledgement. */
	wroteZerocopy(end: number): void {
		this.zerocopy.push({ id: this.nextId++, end });
	}

	/** A write ended here; `joined` says that it shares a buffer with the one before, whose stamp it takes over. */
	wrote(c: TcpConnection, end: number, joined: boolean): void {
		if ((this.timestamping & (TX_SOFTWARE | TX_SCHED | TX_ACK)) === 0) return;
		const last = this.stamped.at(-1);
		if (joined && last !== undefined && after(last.end, c.sndNxt)) this.stamped.pop();
		const key = (this.timestamping & OPT_ID) !== 0 ? (end - 1 - this.keyBase) | 0 : 0;
		this.stamped.push({ end, key, sent: false });
	}

	/** What has been sent and acknowledged meanwhile; true when messages came. */
	news(c: TcpConnection, now: number): boolean {
		const before = this.messages.length;
		let merged = false;
		for (const stamp of this.stamped) {
			if (stamp.sent || after(stamp.end, c.sndNxt)) continue;
			stamp.sent = true;
			if ((this.timestamping & TX_SCHED) !== 0) this.stamp(SCHEDULED, stamp.key, now);
			if ((this.timestamping & TX_SOFTWARE) !== 0) this.stamp(SENT, stamp.key, now);
		}
		while (this.stamped.length > 0 && !after(this.stamped[0]!.end, c.sndUna)) {
			const { key } = this.stamped.shift()!;
			if ((this.timestamping & TX_ACK) !== 0) this.stamp(ACKNOWLEDGED, key, now);
		}
		while (this.zerocopy.length > 0 && !after(this.zerocopy[0]!.end, c.sndUna)) {
			const { id } = this.zerocopy.shift()!;
			merged = true;
			const last = this.messages.at(-1);
			if (last?.origin === ORIGIN_ZEROCOPY && last.data + 1 === id) last.data = id;
			else
				this.messages.push({ errno: 0, origin: ORIGIN_ZEROCOPY, code: COPIED, info: id, data: id, truncated: false });
		}
		return merged || this.messages.length > before;
	}

	private stamp(info: number, key: number, now: number): void {
		this.messages.push({
			errno: ENOMSG,
			origin: ORIGIN_TIMESTAMPING,
			code: 0,
			info,
			data: key,
			stamp: now,
			truncated: (this.timestamping & OPT_TSONLY) === 0,
		});
	}
}
