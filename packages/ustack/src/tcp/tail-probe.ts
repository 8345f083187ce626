import { ACK } from "../wire/tcp.ts";
import type { TcpConnection } from "./connection.ts";
import { effectiveMss } from "./mss.ts";
import { retransmit, sendSegment } from "./output.ts";
import { before, distance } from "./seq.ts";
import { CA_OPEN } from "./state.ts";
import { armRto, setRetransmit, userDeadline } from "./timers.ts";

/** RFC 8985 section 7.2: a probe instead of the RTO while nothing is amiss. */
export function armLossProbe(c: TcpConnection, now: number): void {
	const { config } = c.layer;
	if (!config.tlp || !c.sackOk || c.packetsOut === 0 || c.caState !== CA_OPEN || c.sackedOut > 0 || c.tlpActive) return;
	if (c.retransmitTimer !== "rto" && c.retransmitTimer !== "tlp") return;
	let timeout = config.initialRtoMs;
	if (c.srtt > 0) timeout = 2 * c.srtt + (c.packetsOut === 1 ? config.minRtoMs : 2);
	const head = c.firstSegment!;
	const untilRto = head.sentAt + c.rto - now;
	if (untilRto > 0) timeout = Math.min(timeout, untilRto);
	if (now + timeout < userDeadline(c)) setRetransmit(c, "tlp", now + timeout);
}

/** Sends new data, or the tail again, as RFC 8985 section 7.3's probe. */
export function sendTailProbe(c: TcpConnection, now: number): void {
	const available = Math.min(c.unsent, effectiveMss(c));
	c.tlpHighSeq = c.sndNxt;
	if (available > 0 && available <= distance((c.sndUna + c.sndWnd) | 0, c.sndNxt)) {
		sendSegment(c, available, ACK, now);
		c.tlpHighSeq = c.sndNxt;
		c.tlpRetransmitted = false;
		c.tlpActive = true;
	} else if (c.lastSegment !== undefined && before(c.lastSegment.seq, (c.sndUna + Math.max(c.sndWnd, 1)) | 0)) {
		// The user's timeout counts from the first transmission (RFC 5482).
		if (c.troubleSince < 0) c.troubleSince = c.firstSegment!.sentAt;
		retransmit(c, c.lastSegment, now);
		c.tlpRetransmitted = true;
		c.tlpActive = true;
	}
	armRto(c, now);
}
