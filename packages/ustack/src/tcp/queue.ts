import type { TcpConnection } from "./connection.ts";
import type { Segment } from "./segment.ts";

/** Appends a segment just sent to the retransmission queue. */
export function appendSegment(c: TcpConnection, segment: Segment): void {
	segment.previous = c.lastSegment;
	if (c.lastSegment === undefined) c.firstSegment = segment;
	else c.lastSegment.next = segment;
	c.lastSegment = segment;
	c.packetsOut++;
}

/** Takes a segment out and gives it back to the pool; the counters of its flags are the caller's. */
export function removeSegment(c: TcpConnection, segment: Segment): void {
	const { next, previous } = segment;
	if (previous === undefined) c.firstSegment = next;
	else previous.next = next;
	if (next === undefined) c.lastSegment = previous;
	else next.previous = previous;
	if (c.resendHint === segment) c.resendHint = next;
	c.packetsOut--;
	c.layer.segments.give(segment);
}

/** Cuts a segment in two at `at` (its path took a smaller MTU); both keep their marks. */
export function splitSegment(c: TcpConnection, segment: Segment, at: number): void {
	const rest = c.layer.segments.take(at, segment.end, segment.flags);
	rest.sentAt = segment.sentAt;
	rest.retransmissions = segment.retransmissions;
	rest.sacked = segment.sacked;
	rest.lost = segment.lost;
	rest.resent = segment.resent;
	segment.end = at;
	// FIN and PSH stay with the end.
	segment.flags = 0;
	rest.next = segment.next;
	rest.previous = segment;
	if (segment.next === undefined) c.lastSegment = rest;
	else segment.next.previous = rest;
	segment.next = rest;
	c.packetsOut++;
	if (rest.sacked) c.sackedOut++;
	if (rest.lost) c.lostOut++;
	if (rest.resent) c.retransOut++;
}

export function markLost(c: TcpConnection, segment: Segment): void {
	if (segment.lost && !segment.resent) return;
	if (!segment.lost) {
		segment.lost = true;
		c.lostOut++;
	}
	if (segment.resent) {
		segment.resent = false;
		c.retransOut--;
	}
	if (c.resendHint === undefined || ((segment.seq - c.resendHint.seq) | 0) < 0) c.resendHint = segment;
}

export function unmarkLost(c: TcpConnection, segment: Segment): void {
	if (!segment.lost) return;
	segment.lost = false;
	c.lostOut--;
}

/** Drops the whole queue (reset, restore). */
export function clearQueue(c: TcpConnection): void {
	for (let segment = c.firstSegment; segment !== undefined; ) {
		const { next } = segment;
		c.layer.segments.give(segment);
		segment = next;
	}
	c.firstSegment = c.lastSegment = c.resendHint = undefined;
	c.packetsOut = c.sackedOut = c.lostOut = c.retransOut = 0;
}
