import type { Packet } from "../ip/packet.ts";
import { ACK, FIN, RST, SYN } from "../wire/tcp.ts";
import { TcpConnection } from "./connection.ts";
import type { TcpCore } from "./core.ts";
import { wantOutput } from "./events.ts";
import { type SegmentIn, takeSynOptions } from "./input.ts";
import type { Listener } from "./listener.ts";
import { offerScale, prepare } from "./opening.ts";
import { sendReset } from "./reply.ts";
import { SYN_RECEIVED } from "./state.ts";

/** RFC 9293 3.10.7.2: a segment for a port somebody listens on. */
export function listenIn(
	layer: TcpCore,
	listener: Listener,
	packet: Packet,
	s: SegmentIn,
	localPort: number,
	remotePort: number,
): void {
	const { flags } = s;
	if ((flags & RST) !== 0) return;
	if ((flags & ACK) !== 0) {
		if ((flags & SYN) === 0 && layer.cookies?.takes(layer, listener, packet, s, localPort, remotePort) === true) return;
		sendReset(layer, packet, s);
		return;
	}
	// A SYN that ends what it begins is no honest opening: Linux drops it too, so that a scan learns nothing by it.
	if ((flags & (SYN | FIN)) !== SYN) return;
	if (packet.source().isUnspecified) return;
	const verdict = listener.options.onSyn?.(packet.source(), remotePort, packet.destination(), localPort) ?? true;
	if (verdict !== true) {
		if (verdict === "reset") sendReset(layer, packet, s);
		return;
	}
	const full = listener.queue.length >= listener.backlog + 1;
	const crowded = listener.halfOpen >= Math.max(listener.backlog, 8);
	if (full || (crowded && (layer.cookies === undefined || !layer.config.synCookies))) {
		listener.overflowedAt = packet.now;
		layer.stats.synDropped++;
		return;
	}
	const path = layer.stack.paths.replyTo(packet);
	if (path === undefined) {
		layer.stack.drop(packet, "ip-no-route");
		return;
	}
	const c = new TcpConnection(layer, path, localPort, remotePort, undefined);
	prepare(c);
	c.listener = listener;
	listener.options.configure?.(c);
	offerScale(c);
	takeSynOptions(c, s, packet);
	c.ecnOk = layer.config.ecn !== "off" && (flags & 0xc0) === 0xc0;
	c.state = SYN_RECEIVED;
	if (crowded) {
		listener.overflowedAt = packet.now;
		layer.cookies?.answer(layer, c, packet);
		return;
	}
	listener.halfOpen++;
	layer.table.add(c);
	layer.stats.passiveOpens++;
	layer.fastOpen?.syn(listener, c, packet, s);
	layer.stack.trace("tcp-state", `${c.localPort}<-${c.remotePort} SYN-RECEIVED`);
	wantOutput(c);
}
