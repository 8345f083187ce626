import { SYN, type TcpOptions } from "../wire/tcp.ts";
import type { TcpConnection } from "./connection.ts";
import { wantOutput } from "./events.ts";
import { advance, afterAdvance, isWindowLimited, type LossRecovery, limitReno, nonCongestionLoss } from "./loss.ts";
import { probeArrived, probeLost } from "./probe-result.ts";
import { markLost, removeSegment, unmarkLost } from "./queue.ts";
import { rackAdaptWindow, rackDelivered, rackDetectLoss, rackStillYoung } from "./rack.ts";
import { rttSample, stampOf } from "./rtt.ts";
import { duplicate, duplicateAhead, endsAt, pruneBlocks, putSack, touchBlock } from "./sack-blocks.ts";
import type { Segment } from "./segment.ts";
import { after, before, distance } from "./seq.ts";
import { CA_CWR, CA_DISORDER, CA_LOSS, CA_OPEN, CA_RECOVERY } from "./state.ts";
import { armLossProbe, sendTailProbe } from "./tail-probe.ts";
import { armRto, setRetransmit } from "./timers.ts";

/** What one acknowledgement did; reused, one per process of acknowledging. */
class AckOutcome {
	now = 0;
	advanced = false;
	/** Segments acknowledged cumulatively. */
	acked = 0;
	newlySacked = 0;
	dsack = false;
	retransmittedAcked = false;
	/** An original transmission from before the recovery was acknowledged selectively or below `highSeq` (for F-RTO). */
	originalAcked = false;
	duplicate = false;
	ece = false;
	firstRtt = -1;
	sackRtt = -1;
	hasEcho = false;
	echo = 0;
	priorUna = 0;
	/** Highest sequence selectively acknowledged before. */
	priorHighest = 0;
	reordered = false;
	reorderedFrom = 0;
	/** When the latest sent of the segments acknowledged cumulatively left. */
	lastSent = 0;
}

const outcome = /* @__PURE__ */ new AckOutcome();

function acknowledge(
	c: TcpConnection,
	ack: number,
	options: TcpOptions,
	ece: boolean,
	pure: boolean,
	now: number,
): void {
	const o = outcome;
	o.now = now;
	o.acked = o.newlySacked = 0;
	o.firstRtt = o.sackRtt = -1;
	o.dsack = o.originalAcked = o.retransmittedAcked = false;
	o.lastSent = 0;
	o.ece = ece && c.ecnOk;
	o.priorUna = c.sndUna;
	o.priorHighest = c.highestSacked;
	o.advanced = after(ack, c.sndUna);
	o.hasEcho = c.tsOk && options.hasTimestamp && options.tsEcr !== 0;
	o.echo = options.tsEcr;
	const priorDelivered = c.delivered;
	const priorLost = c.lostOut;
	c.rackAdvanced = false;
	c.frtoNew = false;
	const hadPackets = c.packetsOut > 0;
	if (c.sackOk && options.sackCount > 0) readSack(c, options, ack);
	if (o.advanced) cumulative(c, ack);
	if (!hadPackets) {
		// News of a retransmission that was not needed may come after everything is acknowledged.
		if (o.dsack) undoByDsack(c);
		if (o.advanced) afterAdvance(c, now);
		return;
	}
	o.duplicate = pure && !o.advanced && o.newlySacked === 0 && ack === c.sndUna;
	const duplicate = pure && !o.advanced;
	takeRtt(c);
	if (c.sackOk && c.layer.config.rack) rackAdaptWindow(c, ack);
	if (c.tlpActive) tailProbeAcked(c, ack);
	let needsCare = !o.advanced || c.caState !== CA_OPEN || c.sackedOut > 0 || c.lostOut > 0 || o.ece || o.dsack;
	if (needsCare && (duplicate || o.newlySacked > 0 || o.advanced || o.ece || o.dsack)) alert(c, duplicate);
	else needsCare = false;
	if (o.advanced) afterAdvance(c, now);
	// The receiver took its promise back (RFC 2018 section 8), unless acknowledgements overtook each other: soon known.
	if (o.advanced && c.firstSegment?.sacked === true) setRetransmit(c, "rto", now + Math.max(c.srtt / 2, 10));
	const deliveredNow = c.delivered - priorDelivered;
	if (c.caState === CA_CWR || c.caState === CA_RECOVERY) {
		reduceWindow(c, deliveredNow, c.lostOut > priorLost, o.advanced);
	} else if (
		deliveredNow > 0 &&
		(o.acked > 0 || (c.reordering > 3 && o.newlySacked > 0)) &&
		isWindowLimited(c) &&
		!(o.ece && c.cwnd >= c.ssthresh)
	) {
		c.congestion.onAck(c, deliveredNow, now);
	}
	if (o.advanced && c.caState === CA_OPEN) armLossProbe(c, now);
}

function cumulative(c: TcpConnection, ack: number): void {
	const o = outcome;
	const { now } = o;
	let segment = c.firstSegment;
	let reordered = false;
	let reorderedFrom = 0;
	while (segment !== undefined && !after(segment.end, ack)) {
		const { next } = segment;
		if (segment.resent) {
			c.retransOut--;
			segment.resent = false;
		}
		if (segment.retransmissions > 0) o.retransmittedAcked = true;
		else if (!segment.sacked) {
			if (o.firstRtt < 0) o.firstRtt = now - segment.sentAt;
			if (!reordered && (segment.flags & SYN) === 0) {
				// The first of them is the lowest.
				reordered = true;
				reorderedFrom = segment.seq;
			}
			if (!after(segment.end, c.highSeq)) o.originalAcked = true;
		}
		if (segment.sacked) c.sackedOut--;
		else if (c.sackOk) {
			c.delivered++;
			if ((segment.flags & SYN) === 0) rackDelivered(c, segment, now, o.hasEcho ? o.echo : undefined);
		}
		if (segment.sentAt > o.lastSent) o.lastSent = segment.sentAt;
		if (segment.lost) c.lostOut--;
		o.acked++;
		removeSegment(c, segment);
		segment = next;
	}
	if (segment !== undefined && after(ack, segment.seq)) segment.seq = ack;
	if (reordered && c.sackOk && before(reorderedFrom, o.priorHighest)) sawReordering(c, reorderedFrom);
	if (!c.sackOk && o.acked > 0) {
		c.delivered += Math.max(1, o.acked - c.sackedOut);
		c.sackedOut = o.acked - 1 >= c.sackedOut ? 0 : c.sackedOut - (o.acked - 1);
		limitReno(c);
	}
	if (c.probeSize > 0 && !after(c.probeEnd, ack)) probeArrived(c);
	if (before(c.highestSacked, ack)) c.highestSacked = ack;
	advance(c, ack, now);
}

function sawReordering(c: TcpConnection, from: number): void {
	c.rackReordered = true;
	c.reorderings++;
	const segments = Math.ceil(distance(c.highestSacked, from) / Math.max(c.mss, 1));
	c.reordering = Math.min(300, Math.max(c.reordering, segments));
}

/** Applies SACK blocks (RFC 2018, RFC 2883). */
function readSack(c: TcpConnection, options: TcpOptions, ack: number): void {
	const o = outcome;
	const { sack, sackCount } = options;
	let first = 0;
	const left = sack[0]!;
	const right = sack[1]!;
	const below = !after(right, ack) && before(left, right);
	const inside = sackCount > 1 && !before(left, sack[2]!) && !after(right, sack[3]!);
	if (below || inside) {
		first = 1;
		if (!before(left, (c.sndUna - Math.max(c.maxWindow, 65_535)) | 0) && !after(right, c.sndNxt)) {
			o.dsack = true;
			c.dsackDups++;
			c.rackDsackSeen = true;
			if (c.undoActive && c.undoRetransmits > 0 && after(right, c.undoMarker)) {
				c.undoRetransmits -= Math.max(1, Math.round(distance(right, left) / Math.max(c.mss, 1)));
				if (c.undoRetransmits < 0) c.undoRetransmits = 0;
			}
		}
	}
	let highest = c.sndUna;
	for (let i = first; i < sackCount; i++) {
		const end = sack[i * 2 + 1]!;
		if (after(end, highest) && !after(end, c.sndNxt) && before(sack[i * 2]!, end)) highest = end;
	}
	if (highest === c.sndUna) return;
	const priorHighest = c.highestSacked;
	o.reordered = false;
	for (let segment = c.firstSegment; segment !== undefined && before(segment.seq, highest); segment = segment.next) {
		if (segment.sacked || !after(segment.end, ack)) continue;
		for (let i = first; i < sackCount; i++) {
			const start = sack[i * 2]!;
			const end = sack[i * 2 + 1]!;
			if (after(end, c.sndNxt) || !before(start, end)) continue;
			if (before(segment.seq, start) || after(segment.end, end)) continue;
			sacked(c, segment, priorHighest);
			break;
		}
	}
	if (o.reordered) sawReordering(c, o.reorderedFrom);
}

function sacked(c: TcpConnection, segment: Segment, priorHighest: number): void {
	const o = outcome;
	if (segment.resent) {
		segment.resent = false;
		c.retransOut--;
		unmarkLost(c, segment);
	} else {
		if (segment.retransmissions === 0) {
			if (!o.reordered && before(segment.seq, priorHighest)) {
				o.reordered = true;
				o.reorderedFrom = segment.seq;
			}
			if (o.sackRtt < 0) o.sackRtt = o.now - segment.sentAt;
			if (!after(segment.end, c.highSeq)) o.originalAcked = true;
		}
		unmarkLost(c, segment);
	}
	rackDelivered(c, segment, o.now, o.hasEcho ? o.echo : undefined);
	segment.sacked = true;
	c.sackedOut++;
	c.delivered++;
	o.newlySacked++;
	if (after(segment.end, c.highestSacked)) c.highestSacked = segment.end;
}

function takeRtt(c: TcpConnection): void {
	const o = outcome;
	let rtt = o.firstRtt >= 0 && !o.retransmittedAcked ? o.firstRtt : o.sackRtt;
	// Karn's rule, lifted by timestamps (RFC 7323 4.3): only an acknowledgement of new data may be timed by its echo.
	if (rtt < 0 && o.advanced && o.hasEcho) {
		const since = distance(stampOf(c, o.now), o.echo);
		// An echo older than the last transmission may be of a segment whose acknowledgements were lost for long.
		if (since >= 0 && !before(o.echo, stampOf(c, o.lastSent))) rtt = Math.max(since, 1);
	}
	if (rtt >= 0) rttSample(c, rtt, o.now);
}

/** RFC 8985 section 7.4: what the acknowledgement says of a tail loss probe. */
function tailProbeAcked(c: TcpConnection, ack: number): void {
	const o = outcome;
	if (before(ack, c.tlpHighSeq)) return;
	if (!c.tlpRetransmitted || o.dsack) {
		c.tlpActive = false;
	} else if (after(ack, c.tlpHighSeq)) {
		c.tlpActive = false;
		// The probe repaired a loss: the window answers for it.
		startReduction(c);
		c.caState = CA_CWR;
		endReduction(c);
		keepOpen(c);
	} else if (!o.advanced && o.newlySacked === 0) {
		c.tlpActive = false;
	}
}

function alert(c: TcpConnection, duplicate: boolean): void {
	const o = outcome;
	if (o.ece) c.undoActive = false;
	if (o.advanced && c.firstSegment?.sacked === true) return;
	if (c.caState === CA_OPEN) {
		if (c.retransOut === 0) c.hasRetransStamp = false;
	} else if (!before(c.sndUna, c.highSeq)) {
		if (c.caState === CA_CWR) {
			if (c.sndUna !== c.highSeq) {
				endReduction(c);
				c.caState = CA_OPEN;
			}
		} else if (c.caState === CA_RECOVERY) {
			if (!c.sackOk) c.sackedOut = 0;
			if (undoRecovery(c)) return;
			endReduction(c);
		}
	}
	if (c.caState === CA_RECOVERY) {
		if (!o.advanced) {
			if (!c.sackOk && duplicate) addReno(c);
		} else if (undoPartial(c)) return;
		if (undoByDsack(c)) {
			tryOpen(c);
			return;
		}
		findLost(c, duplicate);
		return;
	}
	if (c.caState === CA_LOSS) {
		lossState(c, duplicate);
		if (c.caState === CA_LOSS || c.caState === CA_RECOVERY || c.frtoNew) {
			if (!c.frtoNew) findLost(c, duplicate);
			return;
		}
		findLost(c, duplicate);
		if (c.lostOut === 0 || c.caState !== CA_OPEN) return;
		enterRecovery(c);
		return;
	}
	if (!c.sackOk) {
		if (o.advanced) c.sackedOut = 0;
		if (duplicate) addReno(c);
	}
	undoByDsack(c);
	findLost(c, duplicate);
	if (c.lostOut === 0) {
		tryOpen(c);
		return;
	}
	enterRecovery(c);
}

function addReno(c: TcpConnection): void {
	c.sackedOut++;
	const before = c.sackedOut;
	limitReno(c);
	if (c.sackedOut === before) c.delivered++;
}

function findLost(c: TcpConnection, duplicate: boolean): void {
	const { now, advanced } = outcome;
	if (!c.sackOk) {
		const head = c.firstSegment;
		if (head === undefined) return;
		if ((c.caState < CA_RECOVERY && c.sackedOut >= c.reordering) || (c.caState === CA_RECOVERY && advanced)) {
			if (!head.lost) markLost(c, head);
			limitReno(c);
		}
		return;
	}
	if (c.layer.config.rack) {
		if (!c.rackAdvanced && !duplicate) return;
		const wait = rackDetectLoss(c, now);
		if (wait > 0) setRetransmit(c, "reorder", now + wait + 2);
		return;
	}
	let above = 0;
	for (let segment = c.lastSegment; segment !== undefined; segment = segment.previous) {
		if (segment.sacked) above++;
		else if (above >= c.reordering && !segment.lost && segment.retransmissions === 0) markLost(c, segment);
	}
}

/** The reorder timer of RACK ran out. */
function reorderTimeout(c: TcpConnection, now: number): void {
	const priorLost = c.lostOut;
	const wait = rackDetectLoss(c, now);
	if (c.lostOut > priorLost) {
		if (c.caState < CA_RECOVERY) {
			enterRecovery(c);
			reduceWindow(c, 1, true, false);
		} else if (c.caState === CA_RECOVERY) reduceWindow(c, 1, true, false);
	}
	if (wait > 0) setRetransmit(c, "reorder", now + wait);
	else armRto(c, now);
	wantOutput(c);
}

function lossState(c: TcpConnection, duplicate: boolean): void {
	const o = outcome;
	const recovered = !before(c.sndUna, c.highSeq);
	if (o.advanced && undoLoss(c, false)) return;
	if (c.frto) {
		// RFC 5682 section 3.1, with SACK's sight of originals (3.b there).
		if (o.originalAcked && undoLoss(c, true)) return;
		if (after(c.sndNxt, c.highSeq)) {
			if (o.newlySacked > 0 || duplicate) c.frto = false;
		} else if (o.advanced && !recovered) {
			c.highSeq = c.sndNxt;
			if (c.unsent > 0 && distance((c.sndUna + c.sndWnd) | 0, c.sndNxt) > 0) {
				c.frtoNew = true;
				return;
			}
			c.frto = false;
		}
	}
	if (recovered) {
		undoRecovery(c);
		return;
	}
	if (!c.sackOk) {
		if (after(c.sndNxt, c.highSeq) && duplicate) addReno(c);
		else if (o.advanced) c.sackedOut = 0;
	}
}

function packetDelayed(c: TcpConnection): boolean {
	const o = outcome;
	return c.hasRetransStamp && o.hasEcho && before(o.echo, c.retransStamp);
}

function mayUndo(c: TcpConnection): boolean {
	return c.undoActive && (c.undoRetransmits === 0 || packetDelayed(c));
}

function undo(c: TcpConnection, unmark: boolean): void {
	if (unmark) {
		for (let segment = c.firstSegment; segment !== undefined; segment = segment.next) unmarkLost(c, segment);
		c.resendHint = undefined;
	}
	c.cwnd = Math.max(c.cwnd, c.undoCwnd);
	if (c.undoSsthresh > c.ssthresh) c.ssthresh = c.undoSsthresh;
	c.congestion.onUndo(c);
	c.undoActive = false;
	c.rackAdvanced = true;
}

function anyRetransmitted(c: TcpConnection): boolean {
	return c.retransOut > 0 || (c.firstSegment !== undefined && c.firstSegment.retransmissions > 0);
}

function undoRecovery(c: TcpConnection): boolean {
	if (mayUndo(c)) undo(c, false);
	if (c.sndUna === c.highSeq && !c.sackOk) {
		// RFC 6582 section 3.2: stay until something above is acknowledged, against false fast retransmits.
		if (!anyRetransmitted(c)) c.hasRetransStamp = false;
		return true;
	}
	if (c.rackPersist > 0) c.rackPersist--;
	c.caState = CA_OPEN;
	c.frto = false;
	return false;
}

function undoByDsack(c: TcpConnection): boolean {
	if (!c.undoActive || c.undoRetransmits !== 0) return false;
	undo(c, false);
	return true;
}

function undoLoss(c: TcpConnection, byFrto: boolean): boolean {
	if (!byFrto && !mayUndo(c)) return false;
	undo(c, true);
	c.retransmits = 0;
	if (byFrto || c.sackOk) {
		c.caState = CA_OPEN;
		c.frto = false;
	}
	return true;
}

function undoPartial(c: TcpConnection): boolean {
	if (!c.undoActive || !packetDelayed(c)) return false;
	// The hole was filled by what came late, not by what was sent again.
	if (before(outcome.priorUna, outcome.priorHighest)) sawReordering(c, outcome.priorUna);
	if (c.retransOut > 0) return true;
	undo(c, true);
	keepOpen(c);
	return true;
}

function keepOpen(c: TcpConnection): void {
	const state = c.sackedOut + c.lostOut > 0 || anyRetransmitted(c) ? CA_DISORDER : CA_OPEN;
	if (c.caState !== state) {
		c.caState = state;
		c.highSeq = c.sndNxt;
	}
}

function tryOpen(c: TcpConnection): void {
	if (!anyRetransmitted(c)) c.hasRetransStamp = false;
	if (outcome.ece) enterCwr(c);
	if (c.caState !== CA_CWR) keepOpen(c);
}

/** PRR's start (RFC 6937, RFC 9937). */
function startReduction(c: TcpConnection): void {
	c.highSeq = c.sndNxt;
	c.tlpActive = false;
	c.priorCwnd = c.cwnd;
	c.prrDelivered = 0;
	c.prrOut = 0;
	c.ssthresh = c.congestion.ssthresh(c);
	if (c.ecnOk) c.ecnCwr = true;
}

function reduceWindow(c: TcpConnection, newlyDelivered: number, newlyLost: boolean, advanced: boolean): void {
	if (newlyDelivered <= 0 || c.priorCwnd === 0) return;
	c.prrDelivered += newlyDelivered;
	const inFlight = c.inFlight();
	const delta = c.ssthresh - inFlight;
	let quota: number;
	if (delta < 0) {
		quota = Math.ceil((c.ssthresh * c.prrDelivered) / c.priorCwnd) - c.prrOut;
	} else {
		quota = Math.max(c.prrDelivered - c.prrOut, newlyDelivered);
		if (advanced && !newlyLost) quota++;
		quota = Math.min(delta, quota);
	}
	quota = Math.max(quota, c.prrOut > 0 ? 0 : 1);
	c.cwnd = Math.max(1, inFlight + quota);
}

function endReduction(c: TcpConnection): void {
	if (c.ssthresh < 0x7fffffff && (c.caState === CA_CWR || c.undoActive)) c.cwnd = c.ssthresh;
}

function initUndo(c: TcpConnection): void {
	c.undoMarker = c.sndUna;
	c.undoActive = true;
	c.undoRetransmits = c.retransOut > 0 ? c.retransOut : -1;
	c.undoCwnd = c.cwnd;
	c.undoSsthresh = c.ssthresh;
}

function enterCwr(c: TcpConnection): void {
	if (c.caState >= CA_CWR) return;
	c.undoActive = false;
	startReduction(c);
	c.caState = CA_CWR;
}

function enterRecovery(c: TcpConnection): void {
	if (c.probeSize > 0 && c.caState < CA_CWR && c.sndUna === c.probeStart) {
		// A probe for a larger MTU was lost, and nothing else is known to be.
		probeLost(c);
		nonCongestionLoss(c);
		return;
	}
	if (c.caState < CA_CWR) {
		initUndo(c);
		startReduction(c);
	} else {
		initUndo(c);
		c.undoCwnd = c.priorCwnd;
		c.highSeq = c.sndNxt;
	}
	c.hasRetransStamp = false;
	c.caState = CA_RECOVERY;
}

/** The RTO fired, or the receiver reneged: everything unacknowledged counts as lost (RFC 5681 3.1, RFC 6675 5.1). */
function enterLoss(c: TcpConnection, now: number): void {
	const fresh = c.caState < CA_RECOVERY;
	if (c.probeSize > 0) probeLost(c);
	if (!c.sackOk) c.sackedOut = 0;
	const head = c.firstSegment;
	const renege = head?.sacked;
	for (let segment = head; segment !== undefined; segment = segment.next) {
		if (renege && segment.sacked) {
			segment.sacked = false;
			c.sackedOut--;
		} else if (segment.sacked) continue;
		else if (c.layer.config.rack && c.sackOk && segment !== head && rackStillYoung(c, segment, now)) continue;
		markLost(c, segment);
	}
	if (renege) c.highestSacked = c.sndUna;
	if (c.caState <= CA_DISORDER || !after(c.highSeq, c.sndUna) || (c.caState === CA_LOSS && c.retransmits === 0)) {
		const priorCwnd = c.cwnd;
		const priorSsthresh = c.ssthresh;
		c.ssthresh = c.congestion.ssthresh(c);
		c.congestion.onTimeout(c);
		initUndo(c);
		c.undoCwnd = priorCwnd;
		c.undoSsthresh = priorSsthresh;
	}
	c.cwnd = c.inFlight() + 1;
	c.hasRetransStamp = fresh ? false : c.hasRetransStamp;
	if (c.caState <= CA_DISORDER && c.sackedOut >= c.reordering) c.reordering = Math.min(c.reordering, 3);
	c.caState = CA_LOSS;
	c.highSeq = c.sndNxt;
	if (c.ecnOk) c.ecnCwr = true;
	c.frto = c.layer.config.frto && (fresh || c.retransmits > 0) && c.probedMss === 0;
	c.tlpActive = false;
	c.resendHint = c.firstSegment;
}

/** Loss recovery as Linux does it: SACK with DSACK, RACK-TLP (RFC 8985), F-RTO (RFC 5682), PRR (RFC 9937) and undo. */
export const SACK_RECOVERY: LossRecovery = {
	selective: true,
	acknowledge,
	enterLoss,
	timeout: (c, kind, now) => (kind === "tlp" ? sendTailProbe(c, now) : reorderTimeout(c, now)),
	armProbe: armLossProbe,
	putSack,
	touchBlock,
	pruneBlocks,
	duplicate,
	duplicateAhead,
	endsAt,
};
