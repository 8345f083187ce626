import type { TcpConnection } from "./connection.ts";
import { siphash } from "./siphash.ts";

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
	private readonly key: Uint8Array;

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
}
