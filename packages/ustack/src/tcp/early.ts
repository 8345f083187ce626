import type { Packet } from "../ip/packet.ts";
import { FIN } from "../wire/tcp.ts";
import { deliverAccepted } from "./accept.ts";
import type { TcpConnection } from "./connection.ts";
import { EVENT_READABLE, notify } from "./events.ts";
import type { SegmentIn } from "./input.ts";
import type { Listener } from "./listener.ts";
import { receiveData } from "./receive.ts";

/** A Fast Open's connection is its user's before the handshake is over, with the data that came on the SYN. */
export function openEarly(listener: Listener, c: TcpConnection, packet: Packet, s: SegmentIn): void {
	c.earlyOpen = true;
	listener.fastOpenPending++;
	c.rcvWnd = Math.min(c.receiveLimit, 65_535);
	if (s.length > 0) {
		c.synDataAcked = true;
		c.recvRing.write(0, packet.bytes, s.at, s.at + s.length);
		c.recvRing.length = s.length;
		c.rcvNxt = (c.rcvNxt + s.length) | 0;
		c.rcvWup = c.rcvNxt;
		c.bytesReceived = s.length;
		c.dataSegsIn++;
	}
	const fin = (s.flags & FIN) !== 0;
	if (fin) receiveData(c, packet.bytes, s.at, c.rcvNxt, 0, true, packet.now);
	deliverAccepted(c, listener);
	if (s.length > 0) notify(c, EVENT_READABLE);
}
