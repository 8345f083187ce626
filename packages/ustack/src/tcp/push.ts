import type { TcpConnection } from "./connection.ts";
import { effectiveMss } from "./mss.ts";
import { after, distance } from "./seq.ts";

/** Where segments carry a PSH, so that the peer hands on what it has (RFC 9293 3.9.1.2 leaves the choice). */
export interface PushMarks {
	/** Bytes from `start` to `end` were queued; `more` says that others follow at once. */
	queued(c: TcpConnection, start: number, end: number, more: boolean): void;
	/** The byte before `end` is to be handed on. */
	mark(c: TcpConnection, end: number): void;
	/** Whether a segment ending at `end` closes what was marked; marks before it are done with. */
	due(c: TcpConnection, end: number): boolean;
	/** Segments after which a burst ends, and with it what the peer need not wait for. */
	burst(c: TcpConnection, mss: number): number;
}

/** The longest run of bytes that is sent as one, on links that cut segments themselves. */
const LONGEST_RUN = 65_215;
const LEAST_BURST = 2;

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

function roomAt(c: TcpConnection, end: number, run: number): number {
	const start = after(c.sndNxt, c.tailStart) ? c.sndNxt : c.tailStart;
	if (!after(end, start) || c.records.at(-1) === end) return 0;
	return Math.max(0, run - distance(end, start));
}

function mark(c: TcpConnection, end: number): void {
	if (c.pushMarks.at(-1) !== end) c.pushMarks.push(end);
	c.pushedSeq = end;
}

/**
 * As Linux does it: a PSH where a write ended, unless later bytes join it before it is sent; whenever half of the peer's
 * window has gone by without one; and on the last segment of what is sent in a millisecond.
 */
export const LINUX_PUSH: PushMarks = {
	queued(c, start, end, more) {
		const run = runLength(c);
		const half = c.maxWindow >> 1;
		const room = roomAt(c, start, run);
		if (room > 0 && c.pushMarks.at(-1) === start) c.pushMarks.pop();
		if (room === 0) c.tailStart = start;
		let boundary = room > 0 ? (start + room) | 0 : (start + run) | 0;
		while (after(end, boundary)) {
			if (half > 0 && distance(boundary, c.pushedSeq) > half) mark(c, boundary);
			c.tailStart = boundary;
			boundary = (boundary + run) | 0;
		}
		if (!more || (half > 0 && distance(end, c.pushedSeq) > half)) mark(c, end);
	},
	mark,
	due(c, end) {
		const marks = c.pushMarks;
		let count = 0;
		while (count < marks.length && !after(marks[count]!, end)) count++;
		if (count === 0) return false;
		const due = marks[count - 1] === end;
		if (count === marks.length) marks.length = 0;
		else marks.splice(0, count);
		return due;
	},
	burst(c, mss) {
		if (c.srtt === 0) return LEAST_BURST;
		const perMs = (mss * c.cwnd * (c.cwnd < c.ssthresh / 2 ? 2 : 1.2)) / c.srtt;
		return Math.max(LEAST_BURST, Math.floor(Math.min(perMs, 65_535) / mss));
	},
};
