import { abort } from "./closing.ts";
import type { TcpConnection } from "./connection.ts";
import { EVENT_CONNECT, EVENT_WRITABLE, notify } from "./events.ts";
import type { Listener } from "./listener.ts";

/** A connection is established that this side did not open alone: to its user, or into its listener's queue. */
export function accepted(c: TcpConnection): void {
	const { listener } = c;
	if (listener === undefined) {
		notify(c, EVENT_CONNECT | EVENT_WRITABLE);
		return;
	}
	c.listener = undefined;
	if (c.earlyOpen) {
		listener.fastOpenPending--;
		c.earlyOpen = false;
	} else deliverAccepted(c, listener);
}

/** Gives a connection to its listener's user, or into the queue. */
export function deliverAccepted(c: TcpConnection, listener: Listener): void {
	if (listener.closed) {
		abort(c);
		return;
	}
	c.owner = listener;
	if (listener.options.onConnection === undefined) listener.queue.push(c);
	notify(c, EVENT_CONNECT);
}
