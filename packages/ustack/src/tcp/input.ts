import type { Packet } from "../ip/packet.ts";
import { get16 } from "../wire/bytes.ts";
import { ECN_CE, ECN_MASK } from "../wire/constants.ts";
import { ACK, CWR, ECE, FIN, parseTcpOptions, RST, SYN, TCP_HEADER, type TcpOptions } from "../wire/tcp.ts";
import { accepted } from "./accept.ts";
import { enterFinWait2, enterTimeWait, finished, finState, resetOrphan } from "./closing.ts";
import type { TcpConnection } from "./connection.ts";
import { EVENT_CONNECT, EVENT_WRITABLE, notify, oweAck, wantOutput } from "./events.ts";
import { syncMss } from "./mss.ts";
import { clearQueue } from "./queue.ts";
import { quickAck, receiveData } from "./receive.ts";
import { sendReset } from "./reply.ts";
import { rttSample, stampOf } from "./rtt.ts";
import { after, before, distance } from "./seq.ts";
import {
	CLOSE_WAIT,
	CLOSED,
	CLOSING,
	ESTABLISHED,
	FIN_WAIT_1,
	LAST_ACK,
	SYN_RECEIVED,
	SYN_SENT,
	setState,
} from "./state.ts";
import { keepAliveChanged, setRetransmit } from "./timers.ts";

/** RFC 7323 5.5: a timestamp this old says nothing any more. */
const PAWS_IDLE_MS = 24 * 24 * 3600 * 1000;
/** Least time between answers to segments out of the window (RFC 5961 section 7 asks for a limit). */
const OUT_OF_WINDOW_MS = 500;

/** A parsed segment's numbers; reused. */
export interface SegmentIn {
	seq: number;
	ack: number;
	flags: number;
	window: number;
	/** Offset and length of the payload. */
	at: number;
	length: number;
	options: TcpOptions;
}

/** RFC 9293 section 3.10.7 for everything but CLOSED, LISTEN and TIME-WAIT, with RFC 5961's and 7323's changes. */
export function segmentArrives(c: TcpConnection, packet: Packet, s: SegmentIn): void {
	const { now } = packet;
	c.segsIn++;
	if (c.state === SYN_SENT) {
		synSent(c, packet, s);
		return;
	}
	const { ack, flags, options, seq } = s;
	const window = s.window << c.sndWscale;
	const span = s.length + ((flags & SYN) !== 0 ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0);
	// PAWS (RFC 7323 5.3).
	if (
		c.tsOk &&
		options.hasTimestamp &&
		((options.tsVal - c.tsRecent) | 0) < 0 &&
		now - c.tsRecentAt < PAWS_IDLE_MS &&
		(flags & RST) === 0 &&
		((flags & SYN) === 0 || c.state !== SYN_RECEIVED)
	) {
		// Acknowledgements overtake each other: an old one is no news, a repeated one counts.
		if (span > 0 || after(seq, c.rcvNxt)) duplicateSegment(c, s, now);
		if (span > 0 || seq !== c.rcvNxt || ack !== c.sndUna || window !== c.sndWnd) return;
	}
	const end = (seq + span) | 0;
	const windowEnd = (c.rcvWup + c.rcvWnd) | 0;
	const right = after(c.rcvNxt, windowEnd) ? c.rcvNxt : windowEnd;
	if (before(end, c.rcvWup) || after(seq, right)) {
		if ((flags & RST) !== 0) return;
		if (c.state === SYN_RECEIVED && (flags & SYN) !== 0 && seq === c.irs) {
			c.ackNow = 1;
			wantOutput(c);
			return;
		}
		duplicateSegment(c, s, now);
		return;
	}
	if ((flags & RST) !== 0) {
		reset(c, s, now);
		return;
	}
	if ((flags & SYN) !== 0) {
		if (c.state === SYN_RECEIVED && seq === c.irs) {
			// Our SYN-ACK was lost; or a simultaneous open's SYN-ACK, whose acknowledgement is taken below.
			if ((flags & ACK) === 0) {
				c.ackNow = 1;
				wantOutput(c);
				return;
			}
		} else {
			challenge(c, now);
			return;
		}
	}
	if ((flags & ACK) === 0) return;
	const again = c.state === SYN_RECEIVED && (flags & SYN) !== 0;
	if (!checkAck(c, packet, s)) return;
	if (again) {
		// A simultaneous open's SYN-ACK brings the SYN again.
		c.layer.recovery.duplicate(c, seq, (seq + 1) | 0);
		oweAck(c);
	}
	if (c.tsOk && options.hasTimestamp && !after(seq, c.rcvWup) && ((options.tsVal - c.tsRecent) | 0) >= 0) {
		c.tsRecent = options.tsVal;
		c.tsRecentAt = now;
	}
	c.lastReceivedAt = now;
	c.lastAckAt = now;
	// A held back end of a write waits for an acknowledgement at most.
	c.more = false;
	c.keepAliveSent = 0;
	if (c.ecnOk) explicitCongestion(c, packet, s);
	let windowUpdate = false;
	if (after(ack, c.sndUna) || after(seq, c.sndWl1) || (seq === c.sndWl1 && window > c.sndWnd)) {
		windowUpdate = window !== c.sndWnd;
		c.sndWnd = window;
		c.sndWl1 = seq;
		if (window > c.maxWindow) c.maxWindow = window;
	}
	if (windowUpdate && c.retransmitTimer === "persist") windowOpened(c);
	if (ack !== c.sndUna || c.packetsOut > 0 || c.sndUna !== c.sndNxt || options.sackCount > 0) {
		const pure = s.length === 0 && !windowUpdate && (flags & (SYN | FIN)) === 0;
		if (ack === c.sndNxt && c.sndNxt === c.sndUna) c.probesOut = 0;
		c.layer.recovery.acknowledge(c, ack, options, (flags & ECE) !== 0, pure, now);
		if (c.wantsWritable && c.sendRing.length <= c.sendLimit >> 1) notify(c, EVENT_WRITABLE);
	} else c.probesOut = 0;
	const finAcked = c.finSent && c.sndUna === c.sndNxt;
	if (finAcked) {
		if (c.state === FIN_WAIT_1) enterFinWait2(c);
		else if (c.state === CLOSING) {
			enterTimeWait(c, now);
			return;
		} else if (c.state === LAST_ACK) {
			finished(c, undefined);
			return;
		}
	}
	if (s.length > 0 && c.orphan && c.receiveShut && after((seq + s.length) | 0, c.rcvNxt)) {
		resetOrphan(c, packet, s);
		return;
	}
	if ((s.length > 0 || (flags & FIN) !== 0) && !c.finReceived) {
		if (c.tsOk) c.layer.tuning?.echo(c, s, now);
		const unit = packet.gsoSize > 0 ? Math.min(packet.gsoSize, s.length) : s.length;
		if (unit >= c.rcvMss) c.rcvMss = Math.min(unit, c.advertisedMss);
		receiveData(c, packet.bytes, s.at, seq, s.length, (flags & FIN) !== 0, now);
	} else if (span > 0 && before(seq, c.rcvNxt)) duplicateSegment(c, s, now);
	wantOutput(c);
}

/** The ACK field's checks; false when the segment ends here. */
function checkAck(c: TcpConnection, packet: Packet, s: SegmentIn): boolean {
	const { now } = packet;
	const { ack } = s;
	if (c.state === SYN_RECEIVED) {
		if (!after(ack, c.iss) || after(ack, c.sndNxt)) {
			sendReset(c.layer, packet, s);
			return false;
		}
		establish(c, s, now);
		return true;
	}
	if (after(ack, c.sndNxt)) {
		// RFC 5961 section 5: neither accepted nor ignored; Linux ignores it while established.
		if (c.layer.config.answerUnsentAck || c.state !== ESTABLISHED) challenge(c, now);
		return false;
	}
	if (before(ack, (c.sndUna - Math.max(c.maxWindow, 1)) | 0)) {
		challenge(c, now);
		return false;
	}
	return true;
}

function explicitCongestion(c: TcpConnection, packet: Packet, s: SegmentIn): void {
	if ((s.flags & CWR) !== 0 && s.length > 0) {
		c.ecnEcho = false;
		// Its window may be down to this segment.
		oweAck(c);
	}
	const mark = packet.tos & ECN_MASK;
	if (mark === 0) return;
	c.ecnSeen = true;
	if (mark === ECN_CE) {
		c.deliveredCe++;
		if (!c.ecnEcho) quickAck(c, 2);
		c.ecnEcho = true;
	}
}

function windowOpened(c: TcpConnection): void {
	if (distance((c.sndUna + c.sndWnd) | 0, c.sndNxt) <= 0) return;
	c.backoff = 0;
	c.probesOut = 0;
	setRetransmit(c, "none", 0);
}

/** RFC 5961 section 3: a reset counts only at the exact next sequence number. */
function reset(c: TcpConnection, s: SegmentIn, now: number): void {
	if (s.seq !== c.rcvNxt && !c.layer.recovery.endsAt(c, s.seq)) {
		challenge(c, now);
		return;
	}
	if (c.state === SYN_RECEIVED && c.listener !== undefined && !c.earlyOpen) {
		finished(c, "silent");
		return;
	}
	finished(
		c,
		c.state === SYN_RECEIVED && !c.earlyOpen ? "ECONNREFUSED" : c.state === CLOSE_WAIT ? "EPIPE" : "ECONNRESET",
	);
}

function challenge(c: TcpConnection, now: number): void {
	if (now - c.lastOutOfWindowAckAt < OUT_OF_WINDOW_MS && c.segsIn > 64) return;
	c.lastOutOfWindowAckAt = now;
	oweAck(c);
	wantOutput(c);
}

/** Unacceptable: answered with where we are, at a limited rate when it carries no data of its own. */
function duplicateSegment(c: TcpConnection, s: SegmentIn, now: number): void {
	if (s.length === 0 && now - c.lastOutOfWindowAckAt < OUT_OF_WINDOW_MS && (s.flags & (SYN | FIN)) === 0) return;
	if (s.length === 0) c.lastOutOfWindowAckAt = now;
	const span = s.length + (s.flags & FIN);
	if (span > 0 && before(s.seq, c.rcvNxt) && c.state >= ESTABLISHED) {
		const end = (s.seq + span) | 0;
		c.layer.recovery.duplicate(c, s.seq, after(end, c.rcvNxt) ? c.rcvNxt : end);
		quickAck(c, 16);
	}
	oweAck(c);
	wantOutput(c);
}

/** Takes a SYN's options into the connection; `offered` says which of them we had sent or would answer. */
export function takeSynOptions(c: TcpConnection, s: SegmentIn, packet: Packet): void {
	const { options } = s;
	const { config } = c.layer;
	c.irs = s.seq;
	c.rcvNxt = (s.seq + 1) | 0;
	c.rcvWup = c.rcvNxt;
	c.copiedSeq = c.rcvNxt;
	c.tuneSeq = c.rcvNxt;
	c.tuneAt = packet.now;
	c.peerMss = options.mss > 0 ? options.mss : packet.ops.family === 4 ? 536 : 1220;
	c.tsOk = config.timestamps && options.hasTimestamp && !c.plainSyn;
	c.sackOk = config.sack && options.sackPermitted && !c.plainSyn;
	c.wscaleOk = config.windowScaling && options.wscale >= 0 && !c.plainSyn;
	if (c.wscaleOk) c.sndWscale = options.wscale;
	else c.rcvWscale = 0;
	if (c.tsOk) {
		c.tsRecent = options.tsVal;
		c.tsRecentAt = packet.now;
	}
	syncMss(c);
	// What the peer's segments measure shows with the first; until then they count as small.
	c.rcvMss = Math.max(88, Math.min(c.advertisedMss, c.mss, 536));
	// SYN segments' windows are never scaled (RFC 7323 2.2).
	c.sndWnd = s.window;
	c.maxWindow = s.window;
	c.sndWl1 = s.seq;
}

/** SYN-RECEIVED becomes ESTABLISHED. */
export function establish(c: TcpConnection, s: SegmentIn, now: number): void {
	c.sndWnd = s.window << c.sndWscale;
	c.maxWindow = Math.max(c.maxWindow, c.sndWnd);
	c.sndWl1 = s.seq;
	c.lastReceivedAt = now;
	// Its acknowledgement is of the SYN as well, which is no byte.
	c.bytesAcked--;
	startTransfer(c, now);
	setState(c, ESTABLISHED);
	if (c.finQueued) finState(c);
	accepted(c);
}

function startTransfer(c: TcpConnection, now: number): void {
	// From here on it is what a segment of data may have.
	if (c.tsOk) c.advertisedMss -= 12;
	syncMss(c);
	// RFC 5681 3.1: after a lost SYN, start small.
	c.cwnd = c.totalRetrans > 1 ? 1 : c.layer.config.initialWindowSegments;
	c.layer.modules.probe?.begin(c);
	c.lastSentAt = now;
	c.lastAckAt = c.lastDataAt = now;
	c.maxPacketsOut = 0;
	c.cwndUsedEnd = c.sndNxt;
	c.receiveSsthresh = c.layer.tuning === undefined ? c.receiveLimit : Math.min(c.receiveLimit, 65_535);
	c.highestSacked = c.sndUna;
	c.rackTime = -1;
	c.tuneSpace = Math.min(c.rcvWnd, 10 * c.advertisedMss);
	if (c.keepAlive) keepAliveChanged(c);
}

function synSent(c: TcpConnection, packet: Packet, s: SegmentIn): void {
	const { now } = packet;
	const { flags, ack, options } = s;
	const acked = (flags & ACK) !== 0;
	if (acked && (!after(ack, c.iss) || after(ack, c.sndNxt))) {
		if ((flags & RST) === 0) {
			sendReset(c.layer, packet, s);
			// A half-open peer is free after the reset: ask it again at once.
			if (c.retransmits === 0) setRetransmit(c, "rto", now + 2);
		}
		return;
	}
	if (acked && c.layer.config.timestamps && !c.plainSyn && options.hasTimestamp && options.tsEcr !== 0) {
		// An echo we cannot have sent is an old duplicate (RFC 7323 and Linux's PAWSACTIVEREJECTED).
		if (distance(stampOf(c, now), options.tsEcr) < 0 && (flags & RST) === 0) {
			sendReset(c.layer, packet, s);
			return;
		}
	}
	if ((flags & RST) !== 0) {
		if (acked) finished(c, "ECONNREFUSED");
		return;
	}
	if ((flags & SYN) === 0) return;
	takeSynOptions(c, s, packet);
	if (!acked) {
		// Simultaneous open (RFC 9293 figure 7).
		setState(c, SYN_RECEIVED);
		c.ecnOk = c.synEcn && (flags & (ECE | CWR)) === (ECE | CWR);
		c.ackNow = 1;
		wantOutput(c);
		return;
	}
	c.ecnOk = c.synEcn && (flags & (ECE | CWR)) === ECE;
	const head = c.firstSegment;
	const clean = head?.retransmissions === 0;
	const sentAt = head?.sentAt ?? now;
	// The SYN and what rode on it are one delivery.
	c.delivered++;
	c.sndUna = ack;
	if (c.synData) c.layer.fastOpen!.dataAcknowledged(c, ack);
	else clearQueue(c);
	c.retransmits = 0;
	c.troubleSince = -1;
	setRetransmit(c, "none", 0);
	if (clean) rttSample(c, now - sentAt, now);
	else if (c.tsOk && options.tsEcr !== 0) rttSample(c, Math.max(1, distance(stampOf(c, now), options.tsEcr)), now);
	else c.rto = Math.max(c.rto, 3 * c.layer.config.initialRtoMs);
	c.backoff = 0;
	c.hasRetransStamp = false;
	startTransfer(c, now);
	setState(c, ESTABLISHED);
	c.layer.fastOpen?.answered(c, packet, s, now);
	if (c.unsent > 0) {
		// The acknowledgement rides on what waits, and those to come may as well.
		quickAck(c, 16);
		c.lastDataAt = now;
	}
	if (c.finQueued) finState(c);
	notify(c, EVENT_CONNECT | EVENT_WRITABLE);
	if (s.length > 0 || (flags & FIN) !== 0)
		receiveData(c, packet.bytes, s.at, c.rcvNxt, s.length, (flags & FIN) !== 0, now);
	if (c.state !== CLOSED) {
		oweAck(c);
		wantOutput(c);
	}
}

/** Reads the header of at least {@link TCP_HEADER} bytes; false when its data offset is impossible. */
export function readSegment(packet: Packet, into: SegmentIn): boolean {
	const { bytes, l4, end } = packet;
	const offset = (bytes[l4 + 12]! >>> 4) << 2;
	if (offset < TCP_HEADER || l4 + offset > end) return false;
	into.seq = (bytes[l4 + 4]! << 24) | (bytes[l4 + 5]! << 16) | (bytes[l4 + 6]! << 8) | bytes[l4 + 7]!;
	into.ack = (bytes[l4 + 8]! << 24) | (bytes[l4 + 9]! << 16) | (bytes[l4 + 10]! << 8) | bytes[l4 + 11]!;
	into.flags = bytes[l4 + 13]!;
	into.window = get16(bytes, l4 + 14);
	into.at = l4 + offset;
	into.length = end - into.at;
	parseTcpOptions(bytes, l4 + TCP_HEADER, into.at, into.options);
	return true;
}
