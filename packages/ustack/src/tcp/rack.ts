import type { TcpConnection } from "./connection.ts";
import { markLost } from "./queue.ts";
import { stampOf } from "./rtt.ts";
import type { Segment } from "./segment.ts";
import { after } from "./seq.ts";
import { CA_RECOVERY } from "./state.ts";

/** RFC 8985's RACK_RECOVERY_THRESH: recoveries a widened window persists. */
const PERSIST = 16;

/** A segment arrived at the peer: is it the latest sent of those (RFC 8985 section 6.2, steps 1 and 2)? */
export function rackDelivered(c: TcpConnection, segment: Segment, now: number, tsEcho: number | undefined): void {
	const rtt = now - segment.sentAt;
	if (segment.retransmissions > 0) {
		// An echo older than the retransmission, or an answer faster than any, is of the first transmission.
		if (tsEcho !== undefined && after(stampOf(c, segment.sentAt), tsEcho)) return;
		if (rtt < c.minRtt) return;
	}
	c.rackAdvanced = true;
	c.rackRtt = rtt;
	if (segment.sentAt > c.rackTime || (segment.sentAt === c.rackTime && after(segment.end, c.rackEnd))) {
		c.rackTime = segment.sentAt;
		c.rackEnd = segment.end;
	}
}

function reorderWindow(c: TcpConnection): number {
	if (!c.rackReordered) {
		if (c.caState >= CA_RECOVERY) return 0;
		if (c.sackedOut >= c.reordering) return 0;
	}
	const minRtt = c.minRtt === Number.POSITIVE_INFINITY ? 0 : c.minRtt;
	return Math.min((minRtt / 4) * c.rackSteps, c.srtt);
}

/**
 * Marks what must be lost because something sent later has arrived (RFC 8985 section 6.2, step 5).
 *
 * @returns milliseconds until the next segment would count as lost, 0 for none
 */
export function rackDetectLoss(c: TcpConnection, now: number): number {
	if (c.rackTime < 0) return 0;
	const window = reorderWindow(c);
	let wait = 0;
	for (let segment = c.firstSegment; segment !== undefined; segment = segment.next) {
		if (segment.sacked || (segment.lost && !segment.resent)) continue;
		const sentAfter = c.rackTime > segment.sentAt || (c.rackTime === segment.sentAt && after(c.rackEnd, segment.end));
		if (!sentAfter) {
			// New data is in order of time: nothing behind a first transmission was sent earlier.
			if (segment.retransmissions === 0) break;
			continue;
		}
		const remaining = segment.sentAt + c.rackRtt + window - now;
		if (remaining <= 0) markLost(c, segment);
		else wait = Math.max(wait, remaining);
	}
	return wait;
}

/** Whether RACK's clock still gives a segment time when the RTO fires. */
export function rackStillYoung(c: TcpConnection, segment: Segment, now: number): boolean {
	return segment.sentAt + c.rackRtt + reorderWindow(c) - now > 0;
}

/** Widens the reordering window by DSACK reports, once per round trip (RFC 8985 section 6.2, step 4). */
export function rackAdaptWindow(c: TcpConnection, ackSeq: number): void {
	if (c.rackDsackSeen && !after(c.rackDsackRound, ackSeq)) {
		c.rackDsackSeen = false;
		c.rackSteps = Math.min(255, c.rackSteps + 1);
		c.rackPersist = PERSIST;
		c.rackDsackRound = c.sndNxt;
	} else if (c.rackPersist === 0) {
		c.rackSteps = 1;
	}
}
