import { type StackErrorCode, socketError } from "../errors.ts";
import type { Packet } from "../ip/packet.ts";
import { NEVER } from "../ip/timers.ts";
import type { TcpConnection } from "./connection.ts";
import { EVENT_CLOSE, notify, wantOutput } from "./events.ts";
import type { SegmentIn } from "./input.ts";
import { refreshIfStale } from "./mss.ts";
import { output, sendConnectionReset } from "./output.ts";
import { clearQueue } from "./queue.ts";
import { sendReset } from "./reply.ts";
import {
	CLOSE_WAIT,
	CLOSED,
	ESTABLISHED,
	FIN_WAIT_1,
	FIN_WAIT_2,
	LAST_ACK,
	SYN_RECEIVED,
	SYN_SENT,
	setState,
	TIME_WAIT,
} from "./state.ts";
import { rearm } from "./timers.ts";

/** The user's close of the sending side has met an established connection. */
export function finState(c: TcpConnection): void {
	if (c.state === ESTABLISHED) setState(c, FIN_WAIT_1);
	else if (c.state === CLOSE_WAIT) setState(c, LAST_ACK);
}

export function enterFinWait2(c: TcpConnection): void {
	setState(c, FIN_WAIT_2);
	if (c.orphan) waitForFin(c);
}

/** Nobody waits for the peer's FIN but the stack, and not for ever. */
function waitForFin(c: TcpConnection): void {
	c.keepAliveAt = c.layer.stack.now + c.layer.config.finWait2Ms;
	rearm(c);
}

export function enterTimeWait(c: TcpConnection, now: number): void {
	const { layer } = c;
	// The last acknowledgement must leave before the connection is only a memory.
	if (c.ackNow > 0 || c.ackPending) {
		c.ackNow = 1;
		output(c, now);
	}
	layer.table.remove(c);
	layer.timeWaits.add(c, now, layer.config.timeWaitMs);
	release(c);
	setState(c, TIME_WAIT);
	notify(c, EVENT_CLOSE);
}

function release(c: TcpConnection): void {
	clearQueue(c);
	c.sendRing.release();
	c.retransmitAt = c.delayedAckAt = c.keepAliveAt = NEVER;
	c.layer.stack.timers.cancel(c);
	c.layer.stalled.delete(c);
	c.ahead.length = 0;
}

/** The connection is over: by both FINs, or by an error. `silent` tells nobody. */
export function finished(c: TcpConnection, code: StackErrorCode | "silent" | undefined): void {
	if (c.state === CLOSED) return;
	if (code !== undefined && code !== "silent") {
		c.error = c.connecting
			? socketError(code, "connect", c.remoteAddress.toString(), c.remotePort)
			: socketError(code, "read");
	}
	if (c.layer.table.remove(c)) release(c);
	setState(c, CLOSED);
	if (code !== "silent") notify(c, EVENT_CLOSE);
}

/** See {@link TcpConnection.close}. */
export function close(c: TcpConnection): void {
	if (c.orphan) return;
	c.orphan = true;
	c.handlers = undefined;
	const unread = c.recvRing.length > 0;
	c.recvRing.release();
	c.receiveShut = true;
	c.copiedSeq = c.rcvNxt;
	if (c.state === CLOSED || c.state === TIME_WAIT) return;
	if (c.state === SYN_SENT) finished(c, "silent");
	else if ((unread && (c.state !== SYN_RECEIVED || c.earlyOpen)) || c.lingerMs === 0) abort(c);
	else if (c.state === FIN_WAIT_2) waitForFin(c);
	else {
		c.finQueued = true;
		finState(c);
		wantOutput(c);
	}
}

/** See {@link TcpConnection.abort}. */
export function abort(c: TcpConnection): void {
	c.orphan = true;
	c.handlers = undefined;
	c.recvRing.release();
	if (c.state >= SYN_RECEIVED && c.state !== TIME_WAIT) {
		refreshIfStale(c);
		sendConnectionReset(c, c.layer.stack.now);
	}
	finished(c, "silent");
}

/** Data for a connection whose user has gone (RFC 9293 3.6.1). */
export function resetOrphan(c: TcpConnection, packet: Packet, s: SegmentIn): void {
	sendReset(c.layer, packet, s);
	finished(c, "silent");
}
