import type { Packet } from "../ip/packet.ts";
import { TX_L4 } from "../ip/tx.ts";
import { get16, put16, put32 } from "../wire/bytes.ts";
import { PROTO_TCP } from "../wire/constants.ts";
import { ACK, FIN, putTimestamp, RST, SYN, TCP_HEADER } from "../wire/tcp.ts";
import type { TcpCore } from "./core.ts";
import type { SegmentIn } from "./input.ts";
import { after, before } from "./seq.ts";
import type { TimeWait } from "./timewait.ts";

const CHECKSUM_AT = 16;

/** TIME-WAIT's answers (RFC 9293 3.10.7.4); true when a new SYN may go on to the listener. */
export function timeWaitIn(layer: TcpCore, entry: TimeWait, packet: Packet, s: SegmentIn, localPort: number): boolean {
	const { flags, options } = s;
	if ((flags & RST) !== 0) {
		// RFC 1337: TIME-WAIT is not to be assassinated.
		return false;
	}
	const stale = entry.tsOk && options.hasTimestamp && before(options.tsVal, entry.tsRecent);
	if ((flags & (SYN | ACK)) === SYN && !stale) {
		const newer =
			after(s.seq, entry.rcvNxt) || (entry.tsOk && options.hasTimestamp && after(options.tsVal, entry.tsRecent));
		if (newer && layer.listeners.has(localPort)) return true;
	}
	if ((flags & FIN) !== 0 && !stale) layer.timeWaits.restart(entry, packet.now, layer.config.timeWaitMs);
	if (packet.now - entry.lastAckAt >= 500 || (flags & FIN) !== 0 || (flags & SYN) !== 0) {
		entry.lastAckAt = packet.now;
		sendBare(layer, packet, s, entry.sndNxt, entry.rcvNxt, ACK, entry);
	}
	return false;
}

/** RFC 9293 3.10.7.1: what a segment for nobody gets. */
export function sendReset(layer: TcpCore, packet: Packet, s: SegmentIn): void {
	layer.stats.resetsSent++;
	if ((s.flags & ACK) !== 0) sendBare(layer, packet, s, s.ack, 0, RST, undefined);
	else {
		const span = s.length + ((s.flags & SYN) !== 0 ? 1 : 0) + ((s.flags & FIN) !== 0 ? 1 : 0);
		sendBare(layer, packet, s, 0, (s.seq + span) | 0, RST | ACK, undefined);
	}
}

function sendBare(
	layer: TcpCore,
	packet: Packet,
	s: SegmentIn,
	seq: number,
	ack: number,
	flags: number,
	entry: TimeWait | undefined,
): void {
	const { stack } = layer;
	const path = stack.paths.replyTo(packet);
	if (path === undefined) return;
	const { bytes, l4 } = packet;
	const { tx } = stack;
	const options = entry?.tsOk === true && s.options.hasTimestamp ? 12 : 0;
	put16(tx, TX_L4, get16(bytes, l4 + 2));
	put16(tx, TX_L4 + 2, get16(bytes, l4));
	put32(tx, TX_L4 + 4, seq);
	put32(tx, TX_L4 + 8, ack);
	tx[TX_L4 + 12] = ((TCP_HEADER + options) >> 2) << 4;
	tx[TX_L4 + 13] = flags;
	put16(tx, TX_L4 + 14, entry === undefined ? 0 : Math.min(0xffff, Math.floor(entry.rcvWnd / 2 ** entry.rcvWscale)));
	put32(tx, TX_L4 + 16, 0);
	if (options > 0)
		putTimestamp(tx, TX_L4 + TCP_HEADER, (Math.floor(packet.now) + entry!.tsOffset) | 0, entry!.tsRecent);
	stack.transmitter.transmit(path, PROTO_TCP, TCP_HEADER + options, 0, packet.tos & ~3, true, CHECKSUM_AT, 0);
}
