import type { TcpConnection } from "./connection.ts";

export const UNLIMITED = 0;
export const BUSY = 1;
export const WINDOW_LIMITED = 2;
export const BUFFER_LIMITED = 3;

function enter(c: TcpConnection, limit: number, now: number): void {
	if (c.limit !== UNLIMITED) c.limited[c.limit]! += now - c.limitSince;
	c.limit = limit;
	c.limitSince = now;
}

/** Sending waits for something; the rarer reason counts. */
export function startLimit(c: TcpConnection, limit: number, now: number): void {
	if (limit > c.limit) enter(c, limit, now);
}

/** The wait is over; what is left is being busy, or nothing when all is acknowledged. */
export function stopLimit(c: TcpConnection, limit: number, now: number): void {
	if (c.packetsOut === 0 && c.unsent === 0) {
		if (c.limit !== UNLIMITED) enter(c, UNLIMITED, now);
	} else if (c.limit === limit && limit !== BUSY) enter(c, BUSY, now);
}

/** Milliseconds spent so far for one reason. */
export function limitTime(c: TcpConnection, limit: number, now: number): number {
	return c.limited[limit]! + (c.limit === limit ? now - c.limitSince : 0);
}
