import type { Packet } from "../ip/packet.ts";
import { TcpConnection } from "./connection.ts";
import type { TcpCore } from "./core.ts";
import { establish, type SegmentIn, segmentArrives, takeSynOptions } from "./input.ts";
import type { Listener } from "./listener.ts";
import { offerScale, prepare } from "./opening.ts";
import { sendSyn } from "./output.ts";
import { clearQueue } from "./queue.ts";
import { siphash } from "./siphash.ts";
import { SYN_RECEIVED } from "./state.ts";

/** The MSS values a cookie can say, as RFC 4987's survey has them. */
const MSS4 = [536, 1300, 1440, 1460];
const MSS6 = [1220, 1280, 1420, 1440];
const PERIOD_MS = 64_000;
/** Periods a cookie is good for: at most two minutes. */
const MAX_AGE = 2;
const OPTION_BITS = 6;
const OPTION_MASK = (1 << OPTION_BITS) - 1;

/** Sequence numbers that remember a SYN so that the listener need not (RFC 4987 section 3.6). */
export class SynCookies {
	readonly key: Uint8Array;

	constructor(key: Uint8Array) {
		this.key = key;
	}

	private hash(c: TcpConnection, count: number, salt: number): number {
		const { source, destination } = c.path;
		return siphash(this.key, [
			source.a,
			source.b,
			source.d,
			destination.a,
			destination.b,
			destination.d,
			(c.localPort << 16) | c.remotePort,
			count,
			salt,
		]);
	}

	make(c: TcpConnection, now: number): number {
		const table = c.path.ops.family === 4 ? MSS4 : MSS6;
		let index = table.length - 1;
		while (index > 0 && table[index]! > c.peerMss) index--;
		const count = Math.floor(now / PERIOD_MS) & 0xff;
		const data = (this.hash(c, count, 2) + index) & 0xffffff;
		return (this.hash(c, 0, 1) + c.irs + (count << 24) + data) | 0;
	}

	/** The MSS a cookie stands for, 0 when it is none of ours or too old. */
	check(c: TcpConnection, cookie: number, irs: number, now: number): number {
		const diff = (cookie - this.hash(c, 0, 1) - irs) | 0;
		const current = Math.floor(now / PERIOD_MS) & 0xff;
		const count = diff >>> 24;
		if (((current - count) & 0xff) >= MAX_AGE) return 0;
		const index = ((diff & 0xffffff) - (this.hash(c, count, 2) & 0xffffff)) & 0xffffff;
		const table = c.path.ops.family === 4 ? MSS4 : MSS6;
		return table[index] ?? 0;
	}

	/** A timestamp whose low bits keep the other options. */
	stamp(c: TcpConnection, now: number): number {
		const bits = (c.wscaleOk ? c.sndWscale : 15) | (c.sackOk ? 16 : 0) | (c.ecnOk ? 32 : 0);
		const clock = (Math.floor(now) + c.tsOffset) | 0;
		const stamp = (clock & ~OPTION_MASK) | bits;
		// Never ahead of the clock: the next segments must not look older than it.
		return ((stamp - clock) | 0) > 0 ? (stamp - (OPTION_MASK + 1)) | 0 : stamp;
	}

	optionsOf(_c: TcpConnection, echo: number): { wscale: number; sack: boolean; ecn: boolean } {
		const bits = echo & OPTION_MASK;
		return { wscale: (bits & 15) === 15 ? -1 : bits & 15, sack: (bits & 16) !== 0, ecn: (bits & 32) !== 0 };
	}

	/** Answers a SYN with a cookie and forgets it. */
	answer(layer: TcpCore, c: TcpConnection, packet: Packet): void {
		c.iss = this.make(c, packet.now);
		c.sndUna = c.sndNxt = c.iss;
		c.dataSeq = (c.iss + 1) | 0;
		if (c.tsOk) c.cookieStamp = this.stamp(c, packet.now);
		else {
			// Without timestamps there is nowhere to keep the options.
			c.wscaleOk = c.sackOk = c.ecnOk = false;
			c.rcvWscale = 0;
		}
		layer.stats.synCookiesSent++;
		sendSyn(c, packet.now);
		clearQueue(c);
		layer.stack.timers.cancel(c);
	}

	/** The last packet of a handshake nobody remembers: the cookie in it says that it was ours. */
	takes(
		layer: TcpCore,
		listener: Listener,
		packet: Packet,
		s: SegmentIn,
		localPort: number,
		remotePort: number,
	): boolean {
		if (
			!layer.config.synCookies ||
			packet.now - listener.overflowedAt > 120_000 ||
			listener.queue.length >= listener.backlog + 1
		)
			return false;
		const path = layer.stack.paths.replyTo(packet);
		if (path === undefined) return false;
		const c = new TcpConnection(layer, path, localPort, remotePort, undefined);
		prepare(c);
		c.listener = listener;
		listener.options.configure?.(c);
		offerScale(c);
		const mss = this.check(c, (s.ack - 1) | 0, (s.seq - 1) | 0, packet.now);
		if (mss === 0) return false;
		const { options } = s;
		options.mss = mss;
		const kept = options.hasTimestamp ? this.optionsOf(c, options.tsEcr) : undefined;
		options.sackPermitted = kept?.sack ?? false;
		options.wscale = kept?.wscale ?? -1;
		const { seq, window } = s;
		s.seq = (seq - 1) | 0;
		takeSynOptions(c, s, packet);
		s.seq = seq;
		s.window = window;
		c.ecnOk = (kept?.ecn ?? false) && layer.config.ecn !== "off";
		c.iss = (s.ack - 1) | 0;
		c.sndUna = c.sndNxt = s.ack;
		c.dataSeq = s.ack;
		c.rcvWnd = Math.min(c.receiveLimit, 65_535);
		c.state = SYN_RECEIVED;
		layer.table.add(c);
		layer.stats.synCookiesTaken++;
		layer.stats.passiveOpens++;
		listener.halfOpen++;
		establish(c, s, packet.now);
		segmentArrives(c, packet, s);
		return true;
	}
}
