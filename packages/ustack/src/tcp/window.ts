import type { TcpConnection } from "./connection.ts";
import { oweAck, wantOutput } from "./events.ts";
import { distance } from "./seq.ts";
import { ESTABLISHED, TIME_WAIT } from "./state.ts";

/** What the peer may still send of the window last offered. */
export function windowLeft(c: TcpConnection): number {
	return Math.max(0, distance((c.rcvWup + c.rcvWnd) | 0, c.rcvNxt));
}

/** The window to offer, in bytes (RFC 9293 3.8.6.2.2: never in silly steps, never taken back). */
export function offeredWindow(c: TcpConnection): number {
	const offered = windowLeft(c);
	const free = Math.min(Math.max(0, c.receiveLimit - c.recvRing.length), c.receiveSsthresh);
	const step = Math.min(c.receiveLimit >> 1, c.rcvMss);
	let window = free - offered >= step ? free : offered;
	const scale = c.rcvWscale;
	if (scale > 0) {
		// Rounded up what was promised, down what is new.
		const unit = (1 << scale) - 1;
		const promised = (offered + unit) & ~unit;
		window = window > offered ? Math.max(window & ~unit, promised) : (window + unit) & ~unit;
	}
	return Math.min(window, 0xffff << scale);
}

/** The user took bytes: tune the buffer, and open the window when it is worth a segment. */
export function consumed(c: TcpConnection): void {
	c.layer.tuning?.consumed(c, c.layer.stack.now);
	if (c.state < ESTABLISHED || c.finReceived || c.state === TIME_WAIT) return;
	const offered = windowLeft(c);
	const window = offeredWindow(c);
	if (window > offered && (window >= 2 * offered || window - offered >= c.receiveLimit >> 1)) {
		oweAck(c);
		wantOutput(c);
	}
}
