import { ACK, TCP_HEADER } from "../wire/tcp.ts";
import type { TcpConnection } from "./connection.ts";
import { sendSegment } from "./output.ts";
import { distance } from "./seq.ts";
import { CA_OPEN } from "./state.ts";

/** Where the search is close enough, in bytes. */
const CLOSE_ENOUGH = 8;
const LEAST_WINDOW = 11;
/** RFC 4821 7.3: a search that ended is taken up again after this. */
const AGAIN_MS = 600_000;

/** The largest MSS the peer and the interface let a search hope for. */
function ceiling(c: TcpConnection): number {
	const { path, peerMss, mssClamp } = c;
	const most = Math.min(peerMss, path.mtu - path.ops.headerLength - TCP_HEADER);
	return mssClamp > 0 ? Math.min(most, mssClamp) : most;
}

/**
 * Packetization-layer path MTU discovery (RFC 4821): while the MSS is held below what the path may carry, one segment in
 * the middle of what is known and what is hoped for goes out with plenty behind it. Its loss is no congestion.
 *
 * @returns whether a probe was sent
 */
export function probeMtu(c: TcpConnection, now: number): boolean {
	if (c.probedMss === 0 || c.probeSize > 0 || c.caState !== CA_OPEN || c.cwnd < LEAST_WINDOW || c.sackedOut > 0)
		return false;
	if (c.probeHigh === 0 || now - c.probeEndedAt >= AGAIN_MS) c.probeHigh = ceiling(c);
	if (c.probeHigh - c.probedMss < CLOSE_ENOUGH) {
		if (c.probeEndedAt === Number.POSITIVE_INFINITY) c.probeEndedAt = now;
		return false;
	}
	const size = (c.probeHigh + c.probedMss + 1) >> 1;
	const length = size - (c.tsOk ? 12 : 0);
	const needed = length + (c.reordering + 1) * c.mss;
	if (c.unsent < needed || distance((c.sndUna + c.sndWnd) | 0, c.sndNxt) < needed) return false;
	if (c.inFlight() + 2 > c.cwnd || c.records.length > 0) return false;
	c.probeSize = size;
	c.probeStart = c.sndNxt;
	c.probeEnd = (c.sndNxt + length) | 0;
	c.probeEndedAt = Number.POSITIVE_INFINITY;
	// Two segments' worth of load in one.
	c.cwnd--;
	sendSegment(c, length, ACK, now);
	return true;
}
