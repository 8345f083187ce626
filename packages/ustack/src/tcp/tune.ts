import type { TcpConnection } from "./connection.ts";
import { distance } from "./seq.ts";

/**
 * Dynamic right-sizing: the buffer follows twice what the user takes in a round trip, up to the configured limit, so
 * that the window never limits a reader that keeps up.
 */
export function tuneReceive(c: TcpConnection, now: number): void {
	if (c.receiveFixed) return;
	const rtt = c.receiveRtt > 0 ? c.receiveRtt : c.srtt;
	if (now - c.tuneAt < rtt || rtt === 0) {
		if (c.tuneAt === 0) c.tuneAt = now;
		return;
	}
	const copied = distance(c.copiedSeq, c.tuneSeq);
	if (copied > c.tuneSpace) {
		c.tuneSpace = copied;
		const wanted = 2 * copied + 16 * c.advertisedMss;
		if (wanted > c.receiveLimit) c.receiveLimit = Math.min(wanted * 2, c.layer.config.maxReceiveBuffer);
	}
	c.tuneSeq = c.copiedSeq;
	c.tuneAt = now;
}
