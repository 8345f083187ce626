import { errorOf, type IcmpErrorKind } from "../ip/icmp.ts";
import type { Packet } from "../ip/packet.ts";
import { get16, get32 } from "../wire/bytes.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import { finished } from "./closing.ts";
import type { TcpConnection } from "./connection.ts";
import type { TcpCore } from "./core.ts";
import { wantOutput } from "./events.ts";
import { nonCongestionLoss } from "./loss.ts";
import { refreshPath, syncMss } from "./mss.ts";
import { markLost, splitSegment } from "./queue.ts";
import { after, before, distance } from "./seq.ts";
import { CA_LOSS, SYN_RECEIVED, SYN_SENT } from "./state.ts";

/** RFC 9293 3.9.2.2, RFC 5927: an ICMP error counts only for a sequence number in flight. */
export function errorIn(layer: TcpCore, quoted: Packet, kind: IcmpErrorKind, mtu: number): void {
	const { bytes, l4 } = quoted;
	const localPort = get16(bytes, l4);
	const remotePort = get16(bytes, l4 + 2);
	const c = layer.table.get(quoted.source(), localPort, quoted.destination(), remotePort);
	if (c === undefined) return;
	const seq = get32(bytes, l4 + 4);
	if (before(seq, c.sndUna) || after(seq, c.sndNxt)) return;
	if (kind === "too-big") {
		pathMtu(layer, c, mtu);
		return;
	}
	const code = errorOf(kind);
	if (code === undefined) return;
	const waits = c.listener !== undefined && !c.earlyOpen;
	// An early connection its user has is like an established one.
	const held = c.earlyOpen && c.owner !== c.listener;
	if (c.state === SYN_SENT || (c.state === SYN_RECEIVED && !held)) finished(c, waits ? "silent" : code);
	else c.softError = code;
}

/** RFC 1191, RFC 8201: smaller segments from now on, and again what was too large. */
function pathMtu(layer: TcpCore, c: TcpConnection, mtu: number): void {
	if (mtu >= c.path.mtu && mtu !== 0) return;
	const learned = layer.stack.paths.learnMtu(c.path.destination, mtu === 0 ? Math.max(552, c.path.mtu >> 1) : mtu);
	if (learned >= c.path.mtu) return;
	refreshPath(c);
	const oldMss = c.mss;
	syncMss(c);
	if (c.state === SYN_SENT) {
		const { path } = c;
		c.advertisedMss = Math.min(c.advertisedMss, path.mtu - path.ops.headerLength - TCP_HEADER);
		if (!c.synData) return;
		// The SYN goes again at once, without the data that was too large.
		for (let segment = c.firstSegment; segment !== undefined; segment = segment.next) markLost(c, segment);
		c.ackNow = 1;
		wantOutput(c);
		return;
	}
	if (c.mss >= oldMss || c.packetsOut === 0) return;
	for (let segment = c.firstSegment; segment !== undefined; segment = segment.next) {
		if (distance(segment.end, segment.seq) <= c.mss || segment.sacked) continue;
		splitSegment(c, segment, (segment.seq + c.mss) | 0);
		markLost(c, segment);
		markLost(c, segment.next!);
	}
	if (c.lostOut > 0 && c.caState !== CA_LOSS) {
		nonCongestionLoss(c);
	}
	wantOutput(c);
}
