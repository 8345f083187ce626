import { enterTimeWait } from "./closing.ts";
import type { TcpConnection } from "./connection.ts";
import { EVENT_END, EVENT_READABLE, notify, oweAck } from "./events.ts";
import { after, before, distance } from "./seq.ts";
import { CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, SYN_RECEIVED, setState } from "./state.ts";
import { windowLeft } from "./window.ts";

/** Ranges kept of data ahead of a hole; a peer that makes more of them must send again. */
const MAX_RANGES = 256;
const QUICK_ACKS = 16;

/** Answers the next segments at once (RFC 5681 3.2 asks it after loss; Linux also at the start). */
export function quickAck(c: TcpConnection, most: number): void {
	let count = Math.floor(c.rcvWnd / (2 * Math.max(c.rcvMss, 1)));
	if (count === 0) count = 2;
	c.quickAcks = Math.max(c.quickAcks, Math.min(count, most));
	c.pingPong = false;
	c.ato = c.layer.config.delayedAckMs;
}

/** Bookkeeping of delayed acknowledgements upon data: how far apart segments come. */
function dataArrived(c: TcpConnection, length: number, now: number): void {
	if (c.ato === 0) {
		quickAck(c, QUICK_ACKS);
		c.ato = c.layer.config.delayedAckMs;
	} else {
		const gap = now - c.lastDataAt;
		const least = c.layer.config.delayedAckMs;
		if (gap <= least / 2) c.ato = c.ato / 2 + least / 2;
		else if (gap < c.ato) c.ato = Math.min(c.ato / 2 + gap, c.rto);
		else if (gap > c.rto) quickAck(c, QUICK_ACKS);
	}
	c.lastDataAt = now;
	c.ackPending = true;
	c.layer.tuning?.arrived(c, length, now);
}

/** Takes the data and FIN of a segment (RFC 9293 3.10.7.4, seventh and eighth). */
export function receiveData(
	c: TcpConnection,
	bytes: Uint8Array,
	from: number,
	seq: number,
	length: number,
	fin: boolean,
	now: number,
): void {
	let start = seq;
	let at = from;
	let end = (seq + length) | 0;
	if (length > 0) {
		c.dataSegsIn++;
		if (!after(end, c.rcvNxt)) {
			// All of it again: a lost acknowledgement or a spurious retransmission; or only the FIN behind it is news.
			if (!fin || before(end, c.rcvNxt)) {
				c.layer.recovery.duplicate(c, seq, end);
				quickAck(c, QUICK_ACKS);
				oweAck(c);
				return;
			}
		} else {
			let limit = (c.rcvNxt + windowLeft(c)) | 0;
			if (c.layer.config.beyondWindow === "whole" && after(end, limit)) {
				// All of it where nothing waits to be read, which does no harm; else none.
				limit = c.recvRing.length > 0 || start !== c.rcvNxt ? start : end;
			}
			if (!before(start, limit)) {
				quickAck(c, QUICK_ACKS);
				c.ackNow++;
				return;
			}
			if (after(end, limit)) {
				end = limit;
				fin = false;
			}
			if (before(start, c.rcvNxt)) {
				c.layer.recovery.duplicate(c, start, c.rcvNxt);
				at += distance(c.rcvNxt, start);
				start = c.rcvNxt;
				oweAck(c);
				quickAck(c, QUICK_ACKS);
			}
			if (start === c.rcvNxt) {
				dataArrived(c, distance(end, start), now);
				inOrder(c, bytes, at, start, end);
			} else {
				if (fin) {
					c.finAhead = true;
					c.finSeq = end;
				}
				aheadOfHole(c, bytes, at, start, end);
			}
		}
	}
	if (fin) {
		if (end === c.rcvNxt) finInOrder(c, now);
		else if (length === 0) finBehindHole(c, end);
	}
	if (c.finAhead && c.finSeq === c.rcvNxt) finInOrder(c, now);
}

function inOrder(c: TcpConnection, bytes: Uint8Array, at: number, start: number, end: number): void {
	const ring = c.recvRing;
	const length = distance(end, start);
	const { ahead } = c;
	if (!c.receiveShut) ring.write(ring.length, bytes, at, at + length);
	let total = length;
	c.rcvNxt = end;
	if (ahead.length > 0) {
		let covered = 0;
		while (covered < ahead.length && !after(ahead[covered]!, c.rcvNxt)) {
			const rangeEnd = ahead[covered + 1]!;
			// What of the front came again is told first.
			if (covered === 0 && !c.hasDsack) c.layer.recovery.duplicateAhead(c, start, end, 0);
			if (after(rangeEnd, c.rcvNxt)) {
				total += distance(rangeEnd, c.rcvNxt);
				c.rcvNxt = rangeEnd;
			}
			covered += 2;
		}
		if (covered > 0) {
			ahead.splice(0, covered);
			if (c.sackOk) c.layer.recovery.pruneBlocks(c);
			// A filled hole is news the sender waits for (RFC 5681 4.2).
			oweAck(c);
		}
	}
	if (c.receiveShut) c.copiedSeq = c.rcvNxt;
	else ring.length += total;
	c.bytesReceived += total;
	notify(c, EVENT_READABLE);
}

function aheadOfHole(c: TcpConnection, bytes: Uint8Array, at: number, start: number, end: number): void {
	c.outOfOrderIn++;
	if (c.sackOk) c.layer.tuning?.ahead(c, distance(end, start));
	c.ackNow++;
	c.pingPong = false;
	quickAck(c, QUICK_ACKS);
	const { ahead } = c;
	let i = 0;
	while (i < ahead.length && before(ahead[i + 1]!, start)) i += 2;
	if (i < ahead.length) {
		c.layer.recovery.duplicateAhead(c, start, end, i);
		if (!after(ahead[i]!, start) && !before(ahead[i + 1]!, end)) {
			if (c.sackOk) c.layer.recovery.touchBlock(c, ahead[i]!, ahead[i + 1]!);
			return;
		}
	}
	if (ahead.length >= MAX_RANGES * 2 && (i >= ahead.length || before(end, ahead[i]!))) return;
	// What was there stays: the first copy of a byte wins, so overlaps cannot rewrite it.
	if (!c.receiveShut) writeHoles(c, bytes, at, start, end);
	let j = i;
	let mergedStart = start;
	let mergedEnd = end;
	while (j < ahead.length && !after(ahead[j]!, mergedEnd)) {
		if (before(ahead[j]!, mergedStart)) mergedStart = ahead[j]!;
		if (after(ahead[j + 1]!, mergedEnd)) mergedEnd = ahead[j + 1]!;
		j += 2;
	}
	if (j === i) ahead.splice(i, 0, mergedStart, mergedEnd);
	else {
		ahead[i] = mergedStart;
		ahead[i + 1] = mergedEnd;
		ahead.splice(i + 2, j - i - 2);
	}
	if (c.sackOk) c.layer.recovery.touchBlock(c, mergedStart, mergedEnd);
}

function writeHoles(c: TcpConnection, bytes: Uint8Array, at: number, start: number, end: number): void {
	const ring = c.recvRing;
	const base = ring.length;
	let from = start;
	const put = (to: number) => {
		if (!after(to, from)) return;
		const offset = at + distance(from, start);
		ring.write(base + distance(from, c.rcvNxt), bytes, offset, offset + distance(to, from));
	};
	for (let i = 0; i < c.ahead.length && before(c.ahead[i]!, end); i += 2) {
		const rangeStart = c.ahead[i]!;
		const rangeEnd = c.ahead[i + 1]!;
		if (!after(rangeEnd, from)) continue;
		if (after(rangeStart, from)) put(rangeStart);
		from = rangeEnd;
	}
	if (before(from, end)) put(end);
}

/** A FIN without data behind a hole. */
function finBehindHole(c: TcpConnection, seq: number): void {
	c.finAhead = true;
	c.finSeq = seq;
	c.ackNow++;
	const { ahead } = c;
	const last = ahead.length - 2;
	if (c.sackOk) c.layer.recovery.touchBlock(c, ahead[last + 1] === seq ? ahead[last]! : seq, seq);
}

function finInOrder(c: TcpConnection, now: number): void {
	if (c.finReceived) return;
	c.finReceived = true;
	c.rcvNxt = (c.rcvNxt + 1) | 0;
	// After data its acknowledgement may wait for ours to be finished too; not where it was waited for.
	if (c.finAhead || c.state > ESTABLISHED || c.ato === 0 || c.ahead.length > 0 || c.rcvWnd === 0) oweAck(c);
	else {
		c.ackPending = true;
		c.pingPong = true;
	}
	c.finAhead = false;
	c.ahead.length = 0;
	c.sackBlocks.length = 0;
	switch (c.state) {
		case SYN_RECEIVED:
		case ESTABLISHED:
			setState(c, CLOSE_WAIT);
			break;
		case FIN_WAIT_1:
			setState(c, CLOSING);
			break;
		case FIN_WAIT_2:
			enterTimeWait(c, now);
			break;
		default:
			break;
	}
	notify(c, EVENT_END);
}
