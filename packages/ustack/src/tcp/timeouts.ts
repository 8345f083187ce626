import { NEVER } from "../ip/timers.ts";
import { finished } from "./closing.ts";
import type { TcpConnection } from "./connection.ts";
import { retransmit, sendAck, wakeWindow } from "./output.ts";
import { currentRto } from "./rtt.ts";
import { FIN_WAIT_2, SYN_RECEIVED, SYN_SENT } from "./state.ts";
import { armRto, setRetransmit, userDeadline } from "./timers.ts";

/** Retransmissions after which the path is suspected (RFC 1122 4.2.3.5). */
export const R1 = 3;

/** A connection's timer ran out: whichever of its deadlines are due. */
export function onTimer(c: TcpConnection, now: number): void {
	if (c.delayedAckAt <= now) delayedAck(c, now);
	if (c.retransmitAt <= now) {
		const kind = c.retransmitTimer;
		c.retransmitTimer = "none";
		c.retransmitAt = NEVER;
		if (kind === "rto") retransmitTimeout(c, now);
		else if (kind === "tlp" || kind === "reorder") c.layer.recovery.timeout(c, kind, now);
		else if (kind === "persist") persist(c, now);
	}
	if (c.keepAliveAt > now) return;
	c.keepAliveAt = NEVER;
	if (c.orphan && c.state === FIN_WAIT_2) finished(c, "silent");
	else c.layer.keepAlive?.due(c, now);
}

function delayedAck(c: TcpConnection, now: number): void {
	c.delayedAckAt = NEVER;
	if (!c.ackPending) return;
	if (c.pingPong) {
		c.pingPong = false;
		c.ato = c.layer.config.delayedAckMs;
	} else c.ato = Math.min(c.ato * 2, c.rto);
	sendAck(c, now);
}

export function giveUp(c: TcpConnection): void {
	finished(c, c.softError ?? "ETIMEDOUT");
}

function timedOut(c: TcpConnection, now: number): boolean {
	const { config } = c.layer;
	if (now >= userDeadline(c)) return true;
	if (c.state === SYN_SENT) return c.retransmits >= c.synRetries + config.synLinearTimeouts;
	if (c.state === SYN_RECEIVED) return c.retransmits >= config.synAckRetries;
	return c.retransmits >= (c.orphan ? config.orphanRetries : config.retries);
}

/** RFC 6298 section 5, with RFC 5681's collapse of the window. */
function retransmitTimeout(c: TcpConnection, now: number): void {
	const head = c.firstSegment;
	if (head === undefined) return;
	if (c.troubleSince < 0) c.troubleSince = head.sentAt;
	const over = timedOut(c, now);
	c.layer.fastOpen?.timedOut(c, over, now);
	if (over) {
		if (c.state === SYN_RECEIVED && c.listener !== undefined) finished(c, "silent");
		else giveUp(c);
		return;
	}
	const { config } = c.layer;
	c.layer.modules.probe?.timedOut(c);
	if (c.state === SYN_SENT && c.retransmits >= 4 + config.synLinearTimeouts) c.plainSyn = true;
	c.layer.recovery.enterLoss(c, now);
	c.timeouts++;
	c.retransmits++;
	if (c.retransmits === R1) c.path.neighbor?.table.suspect(c.path.neighbor);
	retransmit(c, c.firstSegment!, now);
	if (c.state !== SYN_SENT || c.timeouts > config.synLinearTimeouts) c.backoff++;
	armRto(c, now);
}

/** RFC 9293 3.8.6.1: a closed window is asked after for as long as the peer answers. */
function persist(c: TcpConnection, now: number): void {
	if (c.packetsOut > 0) {
		c.probesOut = 0;
		return;
	}
	if (c.troubleSince < 0) c.troubleSince = now;
	const { config } = c.layer;
	const limit = c.orphan ? config.orphanRetries : config.retries;
	if (c.probesOut >= limit || now >= userDeadline(c)) {
		giveUp(c);
		return;
	}
	wakeWindow(c, now);
	if (c.packetsOut > 0) {
		c.probesOut = 0;
		c.backoff = 0;
		return;
	}
	c.probesOut++;
	c.backoff++;
	setRetransmit(c, "persist", now + Math.max(config.minRtoMs, currentRto(c)));
}
