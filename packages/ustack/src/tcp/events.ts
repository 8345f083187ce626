import type { TcpConnection } from "./connection.ts";

/** What a connection's user is told in the next poll, as bits. */
export const EVENT_CONNECT = 1;
export const EVENT_READABLE = 2;
export const EVENT_END = 4;
export const EVENT_WRITABLE = 8;
export const EVENT_CLOSE = 16;

/** The user is told in the next poll. */
export function notify(c: TcpConnection, events: number): void {
	if (c.events === 0) {
		c.layer.eventful.push(c);
		c.layer.stack.onWork?.();
	}
	c.events |= events;
}

/** The next poll sees what there is to send. */
export function wantOutput(c: TcpConnection): void {
	if (c.needsOutput) return;
	c.needsOutput = true;
	c.layer.outputs.push(c);
	c.layer.stack.onWork?.();
}

/** An acknowledgement is owed, at once. */
export function oweAck(c: TcpConnection): void {
	c.ackNow = Math.max(1, c.ackNow);
}
