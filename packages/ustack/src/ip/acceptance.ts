import type { StackCore } from "./core.ts";
import type { Packet } from "./packet.ts";

/** Whether a packet that is not for its interface's own addresses is for this host all the same. */
export function accepts(stack: StackCore, packet: Packet): boolean {
	const { iface, linkBroadcast } = packet;
	const special = packet.ops.accepts(packet, stack.loopback);
	if (special !== undefined) return special;
	// RFC 1122 3.3.6: a unicast packet in a broadcast frame is not for us to take.
	if (linkBroadcast) return false;
	if (iface.acceptAny) return true;
	return stack.isLocal(packet.destination()) && iface !== stack.loopback;
}

/** IPv4 options: well-formed, and no source route (RFC 7126). */
export function optionsFine(packet: Packet): boolean {
	const { bytes } = packet;
	let at = packet.l3 + 20;
	while (at < packet.l4) {
		const kind = bytes[at]!;
		if (kind === 0) return true;
		if (kind === 1) {
			at++;
			continue;
		}
		const length = at + 1 < packet.l4 ? bytes[at + 1]! : 0;
		if (length < 2 || at + length > packet.l4 || kind === 131 || kind === 137) return false;
		at += length;
	}
	return true;
}
