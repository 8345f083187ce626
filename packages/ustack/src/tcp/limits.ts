import type { TcpConnection } from "./connection.ts";

const UNLIMITED = 0;
const BUSY = 1;
const WINDOW_LIMITED = 2;
const BUFFER_LIMITED = 3;

/** Keeps the time sending waited, by what for; {@link TcpConnection.info} tells it. */
export interface LimitMeter {
	/** Bytes were queued. */
	queued(c: TcpConnection): void;
	/** What could be sent was, `something` at all; `windowLimited` says that the peer's window ended it. */
	sent(c: TcpConnection, now: number, windowLimited: boolean, something: boolean): void;
	/** Acknowledgements arrived. */
	acknowledged(c: TcpConnection, now: number): void;
	/** A user that waited for room is told of it. */
	resumed(c: TcpConnection): void;
}

function enter(c: TcpConnection, limit: number, now: number): void {
	c.limited ??= [0, 0, 0, 0];
	if (c.limit !== UNLIMITED) c.limited[c.limit]! += now - c.limitSince;
	c.limit = limit;
	c.limitSince = now;
}

/** Sending waits for something; the rarer reason counts. */
function start(c: TcpConnection, limit: number, now: number): void {
	if (limit > c.limit) enter(c, limit, now);
}

/** The wait is over; what is left is being busy, or nothing when all is acknowledged. */
function stop(c: TcpConnection, limit: number, now: number): void {
	if (c.packetsOut === 0 && c.unsent === 0) {
		if (c.limit !== UNLIMITED) enter(c, UNLIMITED, now);
	} else if (c.limit === limit && limit !== BUSY) enter(c, BUSY, now);
}

/** As Linux counts it. */
export const LIMIT_METER: LimitMeter = {
	queued(c) {
		start(c, BUSY, c.layer.stack.now);
	},
	sent(c, now, windowLimited, something) {
		if (windowLimited) start(c, WINDOW_LIMITED, now);
		else if (c.limit === WINDOW_LIMITED) stop(c, WINDOW_LIMITED, now);
		if (something && c.wantsWritable && c.unsent === 0) start(c, BUFFER_LIMITED, now);
	},
	acknowledged(c, now) {
		if (c.packetsOut === 0) stop(c, BUSY, now);
	},
	resumed(c) {
		stop(c, BUFFER_LIMITED, c.layer.stack.now);
	},
};

/** Milliseconds spent so far: sending at all, and of that waiting for the peer's window and for the user's buffer. */
export function limitTimes(c: TcpConnection, now: number): { busy: number; window: number; buffer: number } {
	const [, busy = 0, window = 0, buffer = 0] = (c.limited ?? []).map(
		(total, limit) => total + (c.limit === limit ? now - c.limitSince : 0),
	);
	return { busy: busy + window + buffer, window, buffer };
}
