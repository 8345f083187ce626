import type { CongestionView } from "./congestion.ts";

/** Least and largest rise of the RTT that counts as a queue, in milliseconds, and the share of the RTT between them. */
const LEAST_RISE = 4;
const LARGEST_RISE = 16;
const RISE_DIVISOR = 8;
const SAMPLES = 8;
const LOW_WINDOW = 16;
const CSS_GROWTH = 4;
const CSS_ROUNDS = 5;
/** Acknowledgements closer than this are one train. */
const TRAIN_GAP_MS = 2;

/** Leaves slow start before loss does: told of every RTT sample in it. */
export interface SlowStartExit {
	/** Segments of growth that `acked` segments earn. */
	growth(acked: number): number;
	onRtt(connection: CongestionView, rtt: number, delayMin: number, now: number): void;
	reset(): void;
}

function rise(of: number): number {
	return Math.max(LEAST_RISE, Math.min(of / RISE_DIVISOR, LARGEST_RISE));
}

/** HyStart++ (RFC 9406): a rise of the RTT slows the growth first, and ends slow start when it lasts. */
export class HyStartPlusPlus implements SlowStartExit {
	private roundEnd = 0;
	private inRound = false;
	private roundMin = Number.POSITIVE_INFINITY;
	private lastRoundMin = Number.POSITIVE_INFINITY;
	private samples = 0;
	/** Rounds of conservative slow start so far, -1 outside of it. */
	private cssRounds = -1;
	private cssBaseline = Number.POSITIVE_INFINITY;
	private credit = 0;

	growth(acked: number): number {
		if (this.cssRounds < 0) return acked;
		this.credit += acked;
		const step = Math.floor(this.credit / CSS_GROWTH);
		this.credit -= step * CSS_GROWTH;
		return step;
	}

	onRtt(connection: CongestionView, rtt: number): void {
		if (!this.inRound || ((connection.sndUna - this.roundEnd) | 0) > 0) this.startRound(connection);
		this.samples++;
		if (rtt < this.roundMin) this.roundMin = rtt;
		if (this.samples < SAMPLES) return;
		if (this.cssRounds >= 0) {
			if (this.roundMin < this.cssBaseline) {
				this.cssBaseline = Number.POSITIVE_INFINITY;
				this.cssRounds = -1;
			}
			return;
		}
		if (this.lastRoundMin === Number.POSITIVE_INFINITY || connection.cwnd < LOW_WINDOW) return;
		if (this.roundMin >= this.lastRoundMin + rise(this.lastRoundMin)) {
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

	reset(): void {
		this.inRound = false;
		this.cssRounds = -1;
		this.roundMin = Number.POSITIVE_INFINITY;
		this.lastRoundMin = Number.POSITIVE_INFINITY;
	}
}

/** HyStart as Linux has it: a rise of the RTT, or a train of acknowledgements half an RTT long, ends slow start. */
export class HyStartClassic implements SlowStartExit {
	private roundEnd = 0;
	private roundStart = -1;
	private lastAck = 0;
	private roundMin = Number.POSITIVE_INFINITY;
	private samples = 0;
	private found = false;

	growth(acked: number): number {
		return acked;
	}

	onRtt(connection: CongestionView, rtt: number, delayMin: number, now: number): void {
		if (this.found) return;
		if (this.roundStart < 0 || ((connection.sndUna - this.roundEnd) | 0) > 0) {
			this.roundStart = this.lastAck = now;
			this.roundEnd = connection.sndNxt;
			this.roundMin = Number.POSITIVE_INFINITY;
			this.samples = 0;
		}
		if (connection.cwnd < LOW_WINDOW) return;
		if (now - this.lastAck <= TRAIN_GAP_MS) {
			this.lastAck = now;
			if (now - this.roundStart > delayMin / 2) this.leave(connection);
		}
		if (rtt < this.roundMin) this.roundMin = rtt;
		if (this.samples < SAMPLES) this.samples++;
		else if (this.roundMin > delayMin + rise(delayMin)) this.leave(connection);
	}

	private leave(connection: CongestionView): void {
		this.found = true;
		connection.ssthresh = connection.cwnd;
	}

	reset(): void {
		this.found = false;
		this.roundStart = -1;
	}
}
