import { ACK, TCP_HEADER } from "../wire/tcp.ts";
import type { TcpConnection } from "./connection.ts";
import { syncMss } from "./mss.ts";
import { sendSegment } from "./output.ts";
import { distance } from "./seq.ts";
import { CA_OPEN, ESTABLISHED } from "./state.ts";
import { R1 } from "./timeouts.ts";

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

/** Packetization-layer path MTU discovery (RFC 4821). */
export interface PathProbe {
	/** A connection is established. */
	begin(c: TcpConnection): void;
	/** A retransmission timed out. */
	timedOut(c: TcpConnection): void;
	/** Sends a probe where one is due; whether it did. */
	send(c: TcpConnection, now: number): boolean;
}

/**
 * The search: while the MSS is held below what the path may carry, one segment in the middle of what is known and what is
 * hoped for goes out with plenty behind it. Its loss is no congestion.
 */
export const PATH_PROBE: PathProbe = {
	begin(c) {
		if (c.layer.config.mtuProbing === "always" && c.probedMss === 0) startOver(c);
	},
	timedOut(c) {
		// RFC 4821 7.7: a black hole for large packets looks like this.
		if (c.layer.config.mtuProbing !== "off" && c.retransmits >= R1 && c.state >= ESTABLISHED) startOver(c);
	},
	send: probeMtu,
};

function startOver(c: TcpConnection): void {
	const { baseMss } = c.layer.config;
	if (c.mss <= baseMss) return;
	c.probedMss = baseMss;
	syncMss(c);
}

function probeMtu(c: TcpConnection, now: number): boolean {
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
