import type { TcpConnection } from "./connection.ts";
import { after } from "./seq.ts";

const MIN_RTT_WINDOW_MS = 300_000;

/**
 * A round-trip sample into RFC 6298's estimator, with the variance Linux keeps: its maximum over a round trip, decaying
 * slowly, never below the least RTO.
 */
export function rttSample(c: TcpConnection, sample: number, now: number): void {
	const rtt = Math.max(sample, 0.001);
	const floor = c.layer.config.minRtoMs;
	if (rtt <= c.minRtt || now - c.minRttAt > MIN_RTT_WINDOW_MS) {
		c.minRtt = rtt;
		c.minRttAt = now;
	}
	// mdev, mdevMax and rttvar are four mean deviations, as they enter the RTO.
	if (c.srtt === 0) {
		c.srtt = rtt;
		c.mdev = rtt * 2;
		c.rttvar = Math.max(c.mdev, floor);
		c.mdevMax = c.rttvar;
		c.rttSeq = c.sndNxt;
	} else {
		const error = rtt - c.srtt;
		c.srtt += error / 8;
		let step = Math.abs(error) - c.mdev / 4;
		// A sudden fall of the RTT must not raise the variance as much as a rise does.
		if (error < 0 && step > 0) step /= 8;
		c.mdev += step;
		if (c.mdev > c.mdevMax) {
			c.mdevMax = c.mdev;
			if (c.mdevMax > c.rttvar) c.rttvar = c.mdevMax;
		}
		if (after(c.sndUna, c.rttSeq)) {
			if (c.mdevMax < c.rttvar) c.rttvar -= (c.rttvar - c.mdevMax) / 4;
			c.rttSeq = c.sndNxt;
			c.mdevMax = floor;
		}
	}
	c.rto = Math.min(c.srtt + c.rttvar, c.layer.config.maxRtoMs);
	c.backoff = 0;
	c.congestion.onRtt(c, rtt, now);
}

/** The RTO with its backoff. */
export function currentRto(c: TcpConnection): number {
	return Math.min(c.rto * 2 ** c.backoff, c.layer.config.maxRtoMs);
}

/** A connection's timestamp clock (RFC 7323 5.4): milliseconds with an offset of its own. */
export function stampOf(c: TcpConnection, at: number): number {
	return (Math.floor(at) + c.tsOffset) | 0;
}
