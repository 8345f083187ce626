import type { TcpConnection } from "./connection.ts";
import { BUSY, startLimit } from "./limits.ts";
import { effectiveMss } from "./mss.ts";
import { after, distance } from "./seq.ts";

/** The longest run of bytes that is sent as one, on links that cut segments themselves. */
const LONGEST_RUN = 65_215;

/** Bytes one run holds: whole segments, no more than half of the peer's largest window (RFC 9293 3.8.6.2.1). */
export function runLength(c: TcpConnection): number {
	const mss = effectiveMss(c);
	const half = c.maxWindow > 536 ? c.maxWindow >> 1 : c.maxWindow === 0 ? LONGEST_RUN : c.maxWindow;
	return Math.max(mss, Math.floor(Math.min(LONGEST_RUN, half) / mss) * mss);
}

/** Bytes the next write adds to a run begun earlier and not sent yet. */
export function tailRoom(c: TcpConnection): number {
	return roomAt(c, (c.dataSeq + c.sendRing.length) | 0, runLength(c));
}

/**
 * Puts bytes behind the send buffer's and notes where segments end with a PSH: where a write ended, unless later bytes
 * join it before it is sent, and whenever half of the peer's window has gone by without one.
 */
export function enqueue(c: TcpConnection, bytes: Uint8Array, count: number, more: boolean, record: boolean): void {
	const { sendRing, pushMarks } = c;
	const start = (c.dataSeq + sendRing.length) | 0;
	sendRing.write(sendRing.length, bytes, 0, count);
	sendRing.length += count;
	const end = (start + count) | 0;
	const run = runLength(c);
	const half = c.maxWindow >> 1;
	const room = roomAt(c, start, run);
	if (room > 0 && pushMarks.at(-1) === start) pushMarks.pop();
	if (room === 0) c.tailStart = start;
	let boundary = room > 0 ? (start + room) | 0 : (start + run) | 0;
	while (after(end, boundary)) {
		if (half > 0 && distance(boundary, c.pushedSeq) > half) {
			pushMarks.push(boundary);
			c.pushedSeq = boundary;
		}
		c.tailStart = boundary;
		boundary = (boundary + run) | 0;
	}
	if (!more || (half > 0 && distance(end, c.pushedSeq) > half)) {
		if (pushMarks.at(-1) !== end) pushMarks.push(end);
		c.pushedSeq = end;
	}
	if (record) c.records.push(end);
	c.more = more;
	startLimit(c, BUSY, c.layer.stack.now);
}

function roomAt(c: TcpConnection, end: number, run: number): number {
	const start = after(c.sndNxt, c.tailStart) ? c.sndNxt : c.tailStart;
	if (!after(end, start) || c.records.at(-1) === end) return 0;
	return Math.max(0, run - distance(end, start));
}
