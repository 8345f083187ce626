import { NEVER } from "../ip/timers.ts";
import type { RetransmitTimer, TcpConnection } from "./connection.ts";
import { currentRto } from "./rtt.ts";

/** Makes sure the stack's heap wakes the connection for its earliest deadline; later wake-ups stay, they cost little. */
export function rearm(c: TcpConnection): void {
	const at = Math.min(c.retransmitAt, c.delayedAckAt, c.keepAliveAt);
	if (at === NEVER) return;
	if (c.timerIndex < 0 || at < c.timerAt) c.layer.stack.timers.schedule(c, at);
}

export function setRetransmit(c: TcpConnection, kind: RetransmitTimer, at: number): void {
	c.retransmitTimer = kind;
	c.retransmitAt = kind === "none" ? NEVER : at;
	if (kind !== "none" && (c.timerIndex < 0 || at < c.timerAt)) c.layer.stack.timers.schedule(c, at);
}

/** When the user's patience with what is outstanding ends (RFC 5482): counted from its first transmission. */
export function userDeadline(c: TcpConnection): number {
	if (c.userTimeoutMs === 0) return NEVER;
	return (c.troubleSince < 0 ? c.firstSegment!.sentAt : c.troubleSince) + c.userTimeoutMs;
}

/** RFC 6298 5.1 to 5.3: runs while anything is outstanding, from the last progress. */
export function armRto(c: TcpConnection, now: number): void {
	if (c.packetsOut === 0) {
		if (c.retransmitTimer !== "persist") setRetransmit(c, "none", 0);
		return;
	}
	setRetransmit(c, "rto", Math.min(now + currentRto(c), Math.max(userDeadline(c), now + 1)));
}

/** Probes of an idle peer were switched on or off, or may begin. */
export function keepAliveChanged(c: TcpConnection): void {
	c.keepAliveAt = c.layer.keepAlive?.deadline(c) ?? NEVER;
	rearm(c);
}
