import type { TcpConfig } from "./config.ts";

/** What a controller reads and writes of its connection; windows in segments, times in milliseconds. */
export interface CongestionView {
	cwnd: number;
	ssthresh: number;
	mss: number;
	/** Smoothed RTT, 0 before the first sample. */
	srtt: number;
	minRtt: number;
	/** Segments in flight before the acknowledgement. */
	inFlight(): number;
	sndUna: number;
	sndNxt: number;
}

/** A congestion controller; `onAck` is called only when the window was the limit. */
export interface Congestion {
	readonly name: string;
	/** `acked` segments were newly acknowledged outside recovery. */
	onAck(connection: CongestionView, acked: number, now: number): void;
	/** A round-trip sample, also when the window was not the limit. */
	onRtt(connection: CongestionView, rtt: number): void;
	/** The window to fall to upon a congestion event. */
	ssthresh(connection: CongestionView): number;
	/** A retransmission timeout: what was learned of the path is void. */
	onTimeout(connection: CongestionView): void;
	/** Sending starts again after a pause of this long. */
	onIdle(pause: number): void;
	/** A reduction turned out wrong. */
	onUndo(connection: CongestionView): void;
}

/** Slow start; returns what of `acked` is left once ssthresh is reached (RFC 5681 3.1 with byte counting by segment). */
function slowStart(connection: CongestionView, acked: number): number {
	const target = Math.min(connection.cwnd + acked, Math.max(connection.ssthresh, connection.cwnd));
	const used = target - connection.cwnd;
	connection.cwnd = target;
	return acked - used;
}

/** RFC 5681 and 6582's window. */
export class NewReno implements Congestion {
	readonly name: string = "reno";
	private counted = 0;

	onAck(connection: CongestionView, acked: number, _now: number): void {
		let left = acked;
		if (connection.cwnd < connection.ssthresh) {
			left = slowStart(connection, left);
			if (left === 0) return;
		}
		this.counted += left;
		if (this.counted >= connection.cwnd) {
			const steps = Math.floor(this.counted / connection.cwnd);
			this.counted -= steps * connection.cwnd;
			connection.cwnd += steps;
		}
	}

	onRtt(): void {}

	ssthresh(connection: CongestionView): number {
		return Math.max(connection.cwnd >> 1, 2);
	}

	onTimeout(): void {
		this.counted = 0;
	}

	onIdle(): void {}

	onUndo(): void {}
}

const BETA = 0.7;
const C = 0.4;
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);
/** RFC 9406's constants. */
const MIN_RTT_THRESH = 4;
const MAX_RTT_THRESH = 16;
const MIN_RTT_DIVISOR = 8;
const RTT_SAMPLES = 8;
const CSS_GROWTH = 4;
const CSS_ROUNDS = 5;

/** CUBIC (RFC 9438) with HyStart++ (RFC 9406). */
export class Cubic implements Congestion {
	readonly name: string = "cubic";
	private readonly hystart: boolean;
	private wMax = 0;
	private k = 0;
	private epochStart = -1;
	private origin = 0;
	private wEst = 0;
	/** The window at the last congestion event. */
	private prior = 0;
	private credit = 0;
	/** HyStart++: the round's end, its and the last round's least RTT, samples in it; rounds spent in CSS or -1. */
	private roundEnd = 0;
	private inRound = false;
	private roundMin = Number.POSITIVE_INFINITY;
	private lastRoundMin = Number.POSITIVE_INFINITY;
	private samples = 0;
	private cssRounds = -1;
	private cssBaseline = Number.POSITIVE_INFINITY;
	private cssCredit = 0;

	constructor(hystart: boolean) {
		this.hystart = hystart;
	}

	onAck(connection: CongestionView, acked: number, now: number): void {
		let left = acked;
		if (connection.cwnd < connection.ssthresh) {
			if (this.cssRounds >= 0) {
				this.cssCredit += left;
				const step = Math.floor(this.cssCredit / CSS_GROWTH);
				this.cssCredit -= step * CSS_GROWTH;
				slowStart(connection, step);
				return;
			}
			left = slowStart(connection, left);
			if (left === 0) return;
		}
		this.avoid(connection, left, now);
	}

	private avoid(connection: CongestionView, acked: number, now: number): void {
		const { cwnd } = connection;
		if (this.epochStart < 0) {
			this.epochStart = now;
			this.credit = 0;
			this.wEst = cwnd;
			if (cwnd < this.wMax) {
				this.k = Math.cbrt((this.wMax - cwnd) / C);
				this.origin = this.wMax;
			} else {
				this.k = 0;
				this.origin = cwnd;
			}
		}
		const rtt =
			connection.minRtt > 0 && connection.minRtt < Number.POSITIVE_INFINITY ? connection.minRtt : connection.srtt;
		const t = (now - this.epochStart + rtt) / 1000 - this.k;
		const cubic = this.origin + C * t * t * t;
		// As fast as Reno again once the loss is made up for (RFC 9438 4.3).
		this.wEst += ((this.wEst >= this.prior ? 1 : ALPHA) * acked) / cwnd;
		let target = Math.min(Math.max(cubic, cwnd), cwnd * 1.5);
		if (this.wEst > target) target = this.wEst;
		this.credit += (acked * (target - cwnd)) / cwnd;
		// At least a slow probe: one segment a hundred windows, as the plateau is crossed.
		this.credit += acked * 0.01;
		if (this.credit >= 1) {
			const steps = Math.floor(this.credit);
			this.credit -= steps;
			connection.cwnd += Math.min(steps, acked);
		}
	}

	onRtt(connection: CongestionView, rtt: number): void {
		if (!this.hystart || connection.cwnd >= connection.ssthresh) return;
		if (!this.inRound || ((connection.sndUna - this.roundEnd) | 0) > 0) {
			this.startRound(connection);
		}
		this.samples++;
		if (rtt < this.roundMin) this.roundMin = rtt;
		if (this.samples < RTT_SAMPLES) return;
		if (this.cssRounds >= 0) {
			if (this.roundMin < this.cssBaseline) {
				this.cssBaseline = Number.POSITIVE_INFINITY;
				this.cssRounds = -1;
			}
			return;
		}
		if (this.lastRoundMin === Number.POSITIVE_INFINITY || connection.cwnd < 16) return;
		const threshold = Math.max(MIN_RTT_THRESH, Math.min(this.lastRoundMin / MIN_RTT_DIVISOR, MAX_RTT_THRESH));
		if (this.roundMin >= this.lastRoundMin + threshold) {
			this.cssBaseline = this.roundMin;
			this.cssRounds = 0;
		}
	}

	private startRound(connection: CongestionView): void {
		if (this.inRound && this.cssRounds >= 0 && ++this.cssRounds >= CSS_ROUNDS) {
			connection.ssthresh = connection.cwnd;
			this.cssRounds = -1;
		}
		this.inRound = true;
		this.roundEnd = connection.sndNxt;
		this.lastRoundMin = this.roundMin;
		this.roundMin = Number.POSITIVE_INFINITY;
		this.samples = 0;
	}

	ssthresh(connection: CongestionView): number {
		this.epochStart = -1;
		const { cwnd } = connection;
		this.prior = cwnd;
		// Fast convergence (RFC 9438 4.7).
		this.wMax = cwnd < this.wMax ? (cwnd * (1 + BETA)) / 2 : cwnd;
		return Math.max(Math.floor(cwnd * BETA), 2);
	}

	onTimeout(): void {
		this.epochStart = -1;
		this.wMax = 0;
		this.inRound = false;
		this.cssRounds = -1;
		this.roundMin = Number.POSITIVE_INFINITY;
	}

	onIdle(pause: number): void {
		if (this.epochStart >= 0) this.epochStart += pause;
	}

	onUndo(connection: CongestionView): void {
		this.wMax = Math.max(this.wMax, connection.cwnd);
		this.epochStart = -1;
	}
}

export function createCongestion(config: TcpConfig): Congestion {
	return config.congestion === "reno" ? new NewReno() : new Cubic(config.hystart);
}
