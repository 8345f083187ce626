import type { TcpOptions } from "../wire/tcp.ts";
import type { TcpConnection } from "./connection.ts";
import { wantOutput } from "./events.ts";
import { distance } from "./seq.ts";
import { CA_CWR, CA_LOSS, CA_RECOVERY } from "./state.ts";
import { armRto } from "./timers.ts";

/** How a sender takes acknowledgements and finds out about losses. */
export interface LossRecovery {
	/** Selective acknowledgements (RFC 2018) can be offered. */
	readonly selective: boolean;
	/**
	 * Processes the acknowledgement of a segment that passed RFC 9293's checks: the queue, the round-trip time, loss
	 * detection and the congestion window. Sending what follows from it is `output`'s.
	 */
	acknowledge(c: TcpConnection, ack: number, options: TcpOptions, ece: boolean, pure: boolean, now: number): void;
	/** The RTO fired: everything unacknowledged counts as lost (RFC 5681 3.1, RFC 6675 5.1). */
	enterLoss(c: TcpConnection, now: number): void;
	/** Timer `tlp` or `reorder` ran out. */
	timeout(c: TcpConnection, kind: "tlp" | "reorder", now: number): void;
	/** Arms the tail loss probe. This and what follows is called with SACK negotiated only. */
	armProbe(c: TcpConnection, now: number): void;
	/** Writes the SACK option; returns its length. */
	putSack(c: TcpConnection, tx: Uint8Array, at: number): number;
	/** A range ahead of a hole has news. */
	touchBlock(c: TcpConnection, start: number, end: number): void;
	/** A hole was filled. */
	pruneBlocks(c: TcpConnection): void;
	/** Bytes came twice: the next acknowledgement says so. This and what follows is called without SACK as well. */
	duplicate(c: TcpConnection, start: number, end: number): void;
	/** The same of what `start..end` has in common with the range ahead at `i`. */
	duplicateAhead(c: TcpConnection, start: number, end: number, i: number): void;
	/** Whether a reset that is not at the next sequence number is where the peer's data ends. */
	endsAt(c: TcpConnection, seq: number): boolean;
}

/** Everything up to `ack` is the peer's: the send buffer gives it up. Its segments are off the queue already. */
export function advance(c: TcpConnection, ack: number, now: number): void {
	c.bytesAcked += distance(ack, c.sndUna);
	c.sndUna = ack;
	c.layer.meter?.acknowledged(c, now);
	const bytes = Math.min(distance(ack, c.dataSeq), c.sendRing.length);
	if (bytes > 0) {
		c.sendRing.discard(bytes, false);
		c.dataSeq = (c.dataSeq + bytes) | 0;
	}
}

/** New data was acknowledged: the path works. The RTO stays backed off until a round trip is measured (RFC 6298 5.7). */
export function afterAdvance(c: TcpConnection, now: number): void {
	c.retransmits = 0;
	c.troubleSince = -1;
	c.probesOut = 0;
	c.path.neighbor?.confirm(now);
	armRto(c, now);
	c.layer.tuning?.acknowledged(c);
}

/** Whether what is in flight was limited by the window, so that the window may grow (RFC 7661's concern). */
export function isWindowLimited(c: TcpConnection): boolean {
	return c.cwndLimited || (c.cwnd < c.ssthresh && c.cwnd < 2 * c.maxPacketsOut);
}

/** Without SACK, duplicate acknowledgements stand for segments that arrived; no more of them than can have. */
export function limitReno(c: TcpConnection): void {
	const holes = Math.min(Math.max(c.lostOut, 1), c.packetsOut);
	if (c.sackedOut + holes > c.packetsOut) c.sackedOut = c.packetsOut - holes;
}

/** Segments marked lost for another reason than congestion: they go again under the window there is (RFC 8201 5.4). */
export function nonCongestionLoss(c: TcpConnection): void {
	if (c.caState !== CA_LOSS) {
		c.highSeq = c.sndNxt;
		if (c.caState !== CA_CWR && c.caState !== CA_RECOVERY)
			c.ssthresh = Math.max(c.ssthresh, (c.cwnd >> 1) + (c.cwnd >> 2));
		c.undoActive = false;
		c.undoSsthresh = 0;
		c.caState = CA_LOSS;
	}
	wantOutput(c);
}
