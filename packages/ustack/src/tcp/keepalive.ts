import { NEVER } from "../ip/timers.ts";
import type { TcpConnection } from "./connection.ts";
import { sendConnectionReset, sendProbe } from "./output.ts";
import { ESTABLISHED, FIN_WAIT_2 } from "./state.ts";
import { giveUp } from "./timeouts.ts";

/** Asks after idle peers (RFC 9293 3.8.4). */
export interface KeepAlive {
	/** When the next question is due; Infinity for never. */
	deadline(c: TcpConnection): number;
	/** The deadline has come. */
	due(c: TcpConnection, now: number): void;
}

/** RFC 9293 3.8.4, with Linux's count of probes and its user timeout. */
export const KEEP_ALIVE: KeepAlive = {
	deadline(c) {
		if (!c.keepAlive || c.state < ESTABLISHED || c.state > FIN_WAIT_2) return NEVER;
		return Math.max(c.lastReceivedAt, c.layer.stack.now - c.keepAliveIdleMs) + c.keepAliveIdleMs;
	},
	due(c, now) {
		if (!c.keepAlive || c.state < ESTABLISHED || c.state > FIN_WAIT_2) return;
		if (c.packetsOut > 0 || c.unsent > 0) {
			c.keepAliveAt = now + c.keepAliveIdleMs;
			return;
		}
		const idle = now - c.lastReceivedAt;
		if (idle < c.keepAliveIdleMs) {
			c.keepAliveAt = c.lastReceivedAt + c.keepAliveIdleMs;
			return;
		}
		const late =
			c.userTimeoutMs > 0 ? idle >= c.userTimeoutMs && c.keepAliveSent > 0 : c.keepAliveSent >= c.keepAliveProbes;
		if (late) {
			// A peer that is alive all the same is to know.
			sendConnectionReset(c, now);
			giveUp(c);
			return;
		}
		c.keepAliveSent++;
		sendProbe(c, now);
		c.keepAliveAt = now + c.keepAliveIntervalMs;
	},
};
