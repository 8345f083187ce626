import type { TcpConnection } from "./connection.ts";
import { advance, afterAdvance, isWindowLimited, type LossRecovery, limitReno } from "./loss.ts";
import { retransmit } from "./output.ts";
import { markLost, removeSegment } from "./queue.ts";
import { rttSample, stampOf } from "./rtt.ts";
import type { Segment } from "./segment.ts";
import { after, distance } from "./seq.ts";
import { CA_CWR, CA_LOSS, CA_OPEN, CA_RECOVERY } from "./state.ts";

/** Duplicate acknowledgements that mean a loss (RFC 5681 3.2). */
const DUPLICATES = 3;

function reduce(c: TcpConnection, state: number): void {
	c.highSeq = c.sndNxt;
	c.ssthresh = c.congestion.ssthresh(c);
	c.cwnd = c.ssthresh;
	c.caState = state;
	c.ecnCwr = c.ecnOk;
}

/** At once, whatever the window is by now (RFC 5681 3.2, RFC 6582 3.2). */
function resend(c: TcpConnection, head: Segment, now: number): void {
	markLost(c, head);
	limitReno(c);
	retransmit(c, head, now);
}

/** RFC 6582: fast retransmit and recovery by duplicate and partial acknowledgements, and the RTO for the rest. */
export const NEWRENO_RECOVERY: LossRecovery = {
	selective: false,
	acknowledge(c, ack, options, ece, pure, now) {
		const advanced = after(ack, c.sndUna);
		let acked = 0;
		if (advanced) {
			let rtt = -1;
			let head = c.firstSegment;
			while (head !== undefined && !after(head.end, ack)) {
				if (head.lost) c.lostOut--;
				if (head.resent) c.retransOut--;
				if (rtt < 0 && head.retransmissions === 0) rtt = now - head.sentAt;
				removeSegment(c, head);
				acked++;
				head = c.firstSegment;
			}
			if (head !== undefined && after(ack, head.seq)) head.seq = ack;
			if (rtt < 0 && c.tsOk && options.hasTimestamp && options.tsEcr !== 0)
				rtt = Math.max(1, distance(stampOf(c, now), options.tsEcr));
			if (rtt >= 0) rttSample(c, rtt, now);
			c.delivered += acked;
			c.sackedOut = c.caState === CA_RECOVERY ? Math.max(0, c.sackedOut - acked + 1) : 0;
			limitReno(c);
			advance(c, ack, now);
			if (c.caState !== CA_OPEN && !after(c.highSeq, ack)) {
				c.caState = CA_OPEN;
				c.sackedOut = 0;
			} else if (c.caState === CA_RECOVERY && head !== undefined) resend(c, head, now);
			afterAdvance(c, now);
		} else if (pure && c.packetsOut > 0 && c.caState !== CA_LOSS) {
			c.sackedOut++;
			limitReno(c);
			if (c.caState !== CA_RECOVERY && c.sackedOut >= DUPLICATES) {
				reduce(c, CA_RECOVERY);
				resend(c, c.firstSegment!, now);
			}
		}
		if (ece && c.ecnOk && c.caState === CA_OPEN) reduce(c, CA_CWR);
		else if (acked > 0 && (c.caState === CA_OPEN || c.caState === CA_LOSS) && isWindowLimited(c))
			c.congestion.onAck(c, acked, now);
	},
	enterLoss(c) {
		c.sackedOut = 0;
		for (let segment = c.firstSegment; segment !== undefined; segment = segment.next) markLost(c, segment);
		// Once per flight (RFC 5681 3.1).
		if (c.caState !== CA_LOSS || c.retransmits === 0) {
			c.ssthresh = c.congestion.ssthresh(c);
			c.congestion.onTimeout(c);
		}
		c.cwnd = 1;
		c.caState = CA_LOSS;
		c.highSeq = c.sndNxt;
		c.ecnCwr = c.ecnOk;
		c.resendHint = c.firstSegment;
	},
	timeout() {},
	armProbe() {},
	putSack: () => 0,
	touchBlock() {},
	pruneBlocks() {},
	duplicate() {},
	duplicateAhead() {},
	endsAt: () => false,
};
