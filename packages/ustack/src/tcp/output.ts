import { NEVER } from "../ip/timers.ts";
import { TX_L4 } from "../ip/tx.ts";
import { put16, put32 } from "../wire/bytes.ts";
import { ECN_ECT0, PROTO_TCP } from "../wire/constants.ts";
import { ACK, CWR, ECE, FIN, PSH, putTimestamp, RST, SYN, TCP_HEADER } from "../wire/tcp.ts";
import type { TcpConnection } from "./connection.ts";
import { effectiveMss } from "./mss.ts";
import { appendSegment, splitSegment } from "./queue.ts";
import { currentRto, stampOf } from "./rtt.ts";
import type { Segment } from "./segment.ts";
import { after, before, distance } from "./seq.ts";
import { CA_CWR, CA_LOSS, CA_RECOVERY, CLOSED, ESTABLISHED, SYN_RECEIVED, SYN_SENT, TIME_WAIT } from "./state.ts";
import { armRto, setRetransmit } from "./timers.ts";
import { offeredWindow } from "./window.ts";

const MAX_PACKET = 65_535;
const CHECKSUM_AT = 16;
/** What one connection sends per poll at most: little enough to stay in the processor's cache on both sides. */
const BURST_BYTES = 262_144;

/** Writes header and options at TX_L4; returns the header's length. */
function header(c: TcpConnection, seq: number, flags: number, now: number): number {
	const { tx } = c.layer.stack;
	let options = 0;
	let at = TX_L4 + TCP_HEADER;
	if ((flags & SYN) !== 0) options = synOptions(c, flags, at, now);
	else {
		if (c.tsOk) {
			putTimestamp(tx, at, stampOf(c, now), c.tsRecent);
			at += 12;
			options = 12;
		}
		if (c.sackOk && (c.hasDsack || c.sackBlocks.length > 0)) options += c.layer.recovery.putSack(c, tx, at);
	}
	put16(tx, TX_L4, c.localPort);
	put16(tx, TX_L4 + 2, c.remotePort);
	put32(tx, TX_L4 + 4, seq);
	put32(tx, TX_L4 + 8, (flags & ACK) !== 0 ? c.rcvNxt : 0);
	let window: number;
	if ((flags & SYN) !== 0) {
		window = Math.max(0, c.receiveLimit - c.recvRing.length);
		// Whole segments, where there is room for one.
		const mss = c.advertisedMss - (c.tsOk ? 12 : 0);
		if (window > mss) window -= window % mss;
		window = Math.min(window, 0xffff);
		c.rcvWnd = window;
	} else {
		const bytes = offeredWindow(c);
		c.rcvWnd = bytes;
		window = bytes >>> c.rcvWscale;
	}
	tx[TX_L4 + 12] = ((TCP_HEADER + options) >> 2) << 4;
	tx[TX_L4 + 13] = flags;
	put16(tx, TX_L4 + 14, window);
	put32(tx, TX_L4 + 16, 0);
	if ((flags & ACK) !== 0) acknowledged(c);
	return TCP_HEADER + options;
}

/** An acknowledgement is on its way: nothing is owed any more. */
function acknowledged(c: TcpConnection): void {
	c.rcvWup = c.rcvNxt;
	c.hasDsack = false;
	c.ackPending = false;
	c.ackNow = 0;
	c.delayedAckAt = NEVER;
	if (c.quickAcks > 0) c.quickAcks--;
	if (c.quickAcks === 0 && c.ato > c.layer.config.delayedAckMs) c.ato = c.layer.config.delayedAckMs;
}

function synOptions(c: TcpConnection, flags: number, start: number, now: number): number {
	const { tx } = c.layer.stack;
	const answer = (flags & ACK) !== 0;
	let at = start;
	put32(tx, at, 0x02040000 | c.advertisedMss);
	at += 4;
	const timestamps = answer ? c.tsOk : c.layer.config.timestamps && !c.plainSyn;
	const sack = answer ? c.sackOk : c.layer.config.sack && !c.plainSyn;
	if (timestamps) {
		put32(tx, at, sack ? 0x0402080a : 0x0101080a);
		put32(tx, at + 4, c.cookieStamp === undefined ? stampOf(c, now) : c.cookieStamp);
		put32(tx, at + 8, answer ? c.tsRecent : 0);
		at += 12;
	} else if (sack) {
		put32(tx, at, 0x01010402);
		at += 4;
	}
	if (answer ? c.wscaleOk : c.layer.config.windowScaling && !c.plainSyn) {
		put32(tx, at, 0x01030300 | c.rcvWscale);
		at += 4;
	}
	if (c.fastOpenCookie !== undefined && at - start + c.fastOpenCookie.length + 4 <= 40) {
		at += c.layer.fastOpen!.put(c, tx, at, c.fastOpenCookie);
	}
	return at - start;
}

/**
 * Sends one segment. The payload is `length` bytes of the send buffer from `seq` on; with `gsoSize` the link cuts it.
 */
function transmit(
	c: TcpConnection,
	seq: number,
	length: number,
	flags: number,
	now: number,
	fresh: boolean,
	gsoSize: number,
): void {
	const { stack } = c.layer;
	let tos = c.tos;
	if (c.ecnOk && (flags & SYN) === 0) {
		if (c.ecnEcho) flags |= ECE;
		if (fresh && length > 0) {
			tos = (tos & ~3) | ECN_ECT0;
			if (c.ecnCwr) {
				flags |= CWR;
				c.ecnCwr = false;
			}
		}
	}
	const headerLength = header(c, seq, flags, now);
	c.segsOut++;
	c.lastSentAt = now;
	if (length > 0) {
		const dataStart = (flags & SYN) !== 0 ? seq + 1 : seq;
		c.sendRing.copyTo(distance(dataStart | 0, c.dataSeq), stack.tx, TX_L4 + headerLength, length);
		c.dataSegsOut++;
		c.bytesSent += length;
		c.lastDataSentAt = now;
	}
	stack.transmitter.transmit(
		c.path,
		PROTO_TCP,
		headerLength + length,
		c.ttl,
		tos,
		true,
		CHECKSUM_AT,
		gsoSize,
		headerLength,
	);
}

function dataLength(segment: Segment): number {
	return (
		distance(segment.end, segment.seq) - ((segment.flags & SYN) !== 0 ? 1 : 0) - ((segment.flags & FIN) !== 0 ? 1 : 0)
	);
}

/** An acknowledgement without data. */
export function sendAck(c: TcpConnection, now: number): void {
	transmit(c, c.sndNxt, 0, ACK, now, false, 0);
}

/** A probe the peer must answer: a sequence number it has seen already (as Linux does it; RFC 9293 3.8.4 allows it). */
export function sendProbe(c: TcpConnection, now: number): void {
	transmit(c, (c.sndUna - 1) | 0, 0, ACK, now, false, 0);
}

export function sendConnectionReset(c: TcpConnection, now: number): void {
	transmit(c, c.sndNxt, 0, RST | ACK, now, false, 0);
}

/** The opening segment: SYN, or SYN with ACK; with Fast Open, data as well. */
export function sendSyn(c: TcpConnection, now: number): void {
	const answer = c.state === SYN_RECEIVED;
	let flags = answer ? SYN | ACK : SYN;
	if (!answer && c.synEcn) flags |= ECE | CWR;
	if (answer && c.ecnOk) flags |= ECE;
	const { segments } = c.layer;
	const segment = segments.take(c.iss, (c.iss + 1) | 0, SYN);
	segment.sentAt = now;
	c.sndNxt = segment.end;
	appendSegment(c, segment);
	if (c.synBytes > 0) c.layer.fastOpen!.queueData(c, now);
	transmit(c, c.iss, c.synBytes, flags, now, false, 0);
	armRto(c, now);
}

/** Sends a segment of the queue again. */
export function retransmit(c: TcpConnection, segment: Segment, now: number): void {
	const mss = effectiveMss(c);
	const syn = (segment.flags & SYN) !== 0;
	if (dataLength(segment) > mss && !syn) splitSegment(c, segment, (segment.seq + mss) | 0);
	// A path that eats the option must not eat the connection (RFC 7413 4.1.3).
	if (c.state <= SYN_RECEIVED) c.fastOpenCookie = undefined;
	let { flags } = segment;
	if (!syn || c.state === SYN_RECEIVED) flags |= ACK;
	// A path may eat SYNs that ask for ECN: only the first one does (RFC 3168 6.1.1.1).
	if (syn && c.ecnOk) flags |= ECE;
	const length = syn ? 0 : dataLength(segment);
	if (!c.hasRetransStamp) {
		c.retransStamp = stampOf(c, now);
		c.hasRetransStamp = true;
	}
	segment.retransmissions++;
	if (!segment.resent) {
		segment.resent = true;
		c.retransOut++;
	}
	segment.sentAt = now;
	c.totalRetrans++;
	c.bytesRetrans += length;
	c.undoRetransmits = Math.max(0, c.undoRetransmits) + 1;
	transmit(c, segment.seq, length, flags, now, false, 0);
}

function resendLost(c: TcpConnection, now: number): void {
	if (c.lostOut <= c.retransOut && c.resendHint === undefined) return;
	let segment = c.resendHint;
	const windowEnd = (c.sndUna + c.sndWnd) | 0;
	while (segment !== undefined && c.inFlight() < c.cwnd) {
		if (segment.lost && !segment.sacked && !segment.resent) {
			if (after(segment.seq, windowEnd) && segment.seq !== c.sndUna) break;
			retransmit(c, segment, now);
			if (c.caState === CA_CWR || c.caState === CA_RECOVERY) c.prrOut++;
			if (segment === c.firstSegment && c.retransmitTimer !== "reorder") armRto(c, now);
			else if (c.retransmitTimer === "none") armRto(c, now);
		}
		segment = segment.next;
	}
	c.resendHint = segment;
}

/** Sends the next `length` bytes as one segment. */
export function sendSegment(c: TcpConnection, length: number, flags: number, now: number): void {
	const end = (c.sndNxt + length) | 0;
	const push = pushDue(c, end) ? PSH : flags & PSH;
	const segment = c.layer.segments.take(c.sndNxt, end, push);
	segment.sentAt = now;
	appendSegment(c, segment);
	c.sndNxt = end;
	transmit(c, segment.seq, length, flags | push, now, true, 0);
}

/** Nagle (RFC 9293 3.7.4) as Minshall refined it: one small segment may be outstanding. */
function nagleHolds(c: TcpConnection): boolean {
	if (c.pushNow) return false;
	if (c.cork || c.more) return true;
	if (c.noDelay || c.packetsOut === 0) return false;
	return after(c.smallEnd, c.sndUna) && !after(c.smallEnd, c.sndNxt);
}

/** Sends what windows and Nagle allow; true when the burst limit stopped it. */
function sendNew(c: TcpConnection, now: number): boolean {
	const mss = effectiveMss(c);
	const { features } = c.path.iface.link ?? NO_LINK;
	const canSegment = c.path.ops.family === 4 ? features.tso4 : features.tso6;
	let budget = Math.min(c.layer.config.burstSegments, Math.max(2, Math.floor(BURST_BYTES / mss)));
	const burst = c.layer.push?.burst(c, mss) ?? NEVER;
	let run = 0;
	let windowLimited = false;
	let sent = false;
	for (;;) {
		const dataEnd = (c.dataSeq + c.sendRing.length) | 0;
		const available = distance(dataEnd, c.sndNxt);
		const finDue = c.finQueued && !c.finSent;
		if (available <= 0 && !(finDue && available === 0)) break;
		// A last FIN need not wait for the window (it is no load).
		if (c.inFlight() >= c.cwnd && !(finDue && available <= mss)) break;
		if (budget <= 0) {
			afterSending(c, now, sent, false);
			return true;
		}
		if (!sent && c.packetsOut === 0) idleRestart(c, now);
		if (c.probedMss > 0 && !sent && c.layer.modules.probe?.send(c, now) === true) {
			sent = true;
			continue;
		}
		// An early connection's window counts from behind its SYN-ACK.
		const room = distance((c.sndUna + c.sndWnd) | 0, c.sndNxt) + (c.earlyOpen ? 1 : 0);
		const record = c.records.length > 0 ? distance(c.records[0]!, c.sndNxt) : available;
		let length = Math.min(record, mss);
		// A FIN needs room as well.
		if (length > room || room <= 0) {
			windowLimited = true;
			break;
		}
		const lastOne = length === available;
		if (length < mss && lastOne && available > 0 && !finDue && nagleHolds(c)) break;
		let count = 1;
		if (canSegment && length === mss && record >= 2 * mss) {
			count = Math.min(
				Math.max(1, budget),
				c.cwnd - c.inFlight(),
				Math.floor(room / mss),
				Math.floor(record / mss),
				Math.max(1, Math.floor((MAX_PACKET - 120) / mss)),
			);
			if (count > 1) length = count * mss;
		}
		const sendEnd = (c.sndNxt + length) | 0;
		run += count;
		let flags = pushDue(c, sendEnd) ? ACK | PSH : ACK;
		// Nothing can follow in this burst: its time is over, a window ends, or what is left is no whole segment.
		const burstEnds =
			run > 1 && (run >= burst || record - length < mss || room - length < mss || c.inFlight() + 1 >= c.cwnd);
		if (burstEnds || (flags & PSH) !== 0) run = 0;
		if (c.records[0] === sendEnd) c.records.shift();
		const withFin = finDue && length === available && room > length;
		if (withFin) flags |= FIN;
		let at = c.sndNxt;
		for (let i = 0; i < count; i++) {
			const last = i === count - 1;
			const end = (last ? c.sndNxt + length + (withFin ? 1 : 0) : at + mss) | 0;
			const segment = c.layer.segments.take(at, end, last ? flags & (FIN | PSH) : 0);
			segment.sentAt = now;
			appendSegment(c, segment);
			at = end;
		}
		const seq = c.sndNxt;
		c.sndNxt = at;
		if (withFin) c.finSent = true;
		if (length < mss && length > 0) c.smallEnd = c.sndNxt;
		// A reply soon after data: acknowledgements may ride on data from now on.
		if (length > 0 && now - c.lastDataAt < c.ato) c.pingPong = true;
		transmit(c, seq, length, burstEnds ? flags | PSH : flags, now, true, count > 1 ? mss : 0);
		if (c.caState === CA_CWR || c.caState === CA_RECOVERY) c.prrOut += count;
		budget -= count;
		sent = true;
	}
	c.pushNow = false;
	afterSending(c, now, sent, windowLimited);
	return false;
}

const NO_LINK = { features: { checksum: true, tso4: false, tso6: false, uso: false } };

/** Whether a segment ending at `end` asks the peer to hand its data on (RFC 9293 3.9.1.2). */
function pushDue(c: TcpConnection, end: number): boolean {
	const { push } = c.layer;
	return push === undefined ? end === ((c.dataSeq + c.sendRing.length) | 0) : push.due(c, end);
}

function afterSending(c: TcpConnection, now: number, sent: boolean, windowLimited: boolean): void {
	c.layer.meter?.sent(c, now, windowLimited, sent);
	if (sent) {
		if (c.retransmitTimer === "none" || c.retransmitTimer === "persist") armRto(c, now);
		if (c.sackOk) c.layer.recovery.armProbe(c, now);
	}
	// RFC 7661: whether the window is used, kept for a round trip.
	const full = c.inFlight() >= c.cwnd;
	if (!sent && !full) return;
	if (!before(c.sndUna, c.cwndUsedEnd) || full || (!c.cwndLimited && c.packetsOut > c.maxPacketsOut)) {
		c.cwndLimited = full;
		c.maxPacketsOut = c.packetsOut;
		c.cwndUsedEnd = c.sndNxt;
	}
}

/** RFC 5681 4.1: after an idle RTO the window decays towards its start. */
function idleRestart(c: TcpConnection, now: number): void {
	if (!c.layer.config.slowStartAfterIdle || c.lastSentAt < 0) return;
	const pause = now - c.lastSentAt;
	if (pause <= c.rto) return;
	c.congestion.onIdle(pause);
	const restart = Math.min(c.layer.config.initialWindowSegments, c.cwnd);
	c.ssthresh = Math.max(c.ssthresh, (c.cwnd >> 1) + (c.cwnd >> 2));
	for (let left = pause - c.rto; left > 0 && c.cwnd > restart; left -= c.rto) c.cwnd >>= 1;
	c.cwnd = Math.max(c.cwnd, restart);
	c.maxPacketsOut = 0;
}

/** Sends part of the next segment where the window is open for less than a whole one, or probes a closed one. */
export function wakeWindow(c: TcpConnection, now: number): void {
	const room = distance((c.sndUna + c.sndWnd) | 0, c.sndNxt);
	const { unsent } = c;
	if (room > 0 && unsent > 0) {
		const length = Math.min(room, effectiveMss(c), unsent);
		sendSegment(c, length, ACK | PSH, now);
		armRto(c, now);
		return;
	}
	sendProbe(c, now);
}

/** Everything that may be sent now: lost segments, new ones, a FIN, an acknowledgement. True: come back for more. */
export function output(c: TcpConnection, now: number): boolean {
	const { state } = c;
	if (state === CLOSED || state === TIME_WAIT) return false;
	if (state === SYN_SENT || state === SYN_RECEIVED) {
		if (c.packetsOut === 0 && before(c.sndUna, (c.iss + 1) | 0) && c.retransmits === 0) sendSyn(c, now);
		else if (c.ackNow > 0) {
			c.ackNow = 0;
			if (c.firstSegment !== undefined) retransmit(c, c.firstSegment, now);
		}
		if (!c.earlyOpen) return false;
	}
	let more = false;
	if (state >= ESTABLISHED || c.earlyOpen) {
		if (!c.frtoNew) resendLost(c, now);
		const hadRoom = !c.frtoNew || c.caState === CA_LOSS;
		if (hadRoom) more = sendNew(c, now);
		if (c.packetsOut === 0 && (c.unsent > 0 || c.finSent !== c.finQueued) && c.retransmitTimer === "none") {
			setRetransmit(c, "persist", now + Math.max(c.layer.config.minRtoMs, currentRto(c)));
		}
	}
	if (c.ackPending && c.ackNow === 0) decideAck(c, now);
	let owed = Math.min(c.ackNow, 64);
	while (owed-- > 0) sendAck(c, now);
	return more;
}

/** Now or later (RFC 9293 3.8.6.3, RFC 5681 4.2): every second full segment, at the start and when data is missing at once. */
function decideAck(c: TcpConnection, now: number): void {
	const outstanding = distance(c.rcvNxt, c.rcvWup);
	const windowGrows = offeredWindow(c) >= c.rcvWnd;
	if ((outstanding > c.rcvMss && windowGrows) || (c.quickAcks > 0 && !c.pingPong) || c.ahead.length > 0) {
		c.ackNow = 1;
		return;
	}
	if (c.delayedAckAt !== NEVER) return;
	let { ato } = c;
	const least = c.layer.config.delayedAckMs;
	if (ato > least) {
		let most = c.pingPong ? 200 : 500;
		if (c.srtt > 0) most = Math.min(most, Math.max(c.srtt, least));
		ato = Math.min(ato, most);
	}
	c.delayedAckAt = now + Math.min(Math.max(ato, least), 200);
	if (c.timerIndex < 0 || c.delayedAckAt < c.timerAt) c.layer.stack.timers.schedule(c, c.delayedAckAt);
}
