import type { StackCore } from "./core.ts";
import type { Packet } from "./packet.ts";

/** Whether a packet that is not for its interface's own addresses is for this host all the same. */
export function accepts(stack: StackCore, packet: Packet): boolean {
	const { iface, da, dd, linkBroadcast } = packet;
	if (packet.ops.family === 4) {
		if (dd === -1 || iface.isDirectedBroadcast(dd)) {
			packet.groupcast = true;
			return true;
		}
		if (dd >>> 28 === 0xe) {
			packet.groupcast = true;
			return dd === 0xe0000001 - 0x100000000 || iface.acceptAny || iface.groups.has(packet.destination().toString());
		}
		if (dd >>> 24 === 127) return iface === stack.loopback;
	} else if (da >>> 24 === 0xff) {
		packet.groupcast = true;
		return (
			((da >>> 16) & 15) === 1 ||
			(packet.da === 0xff020000 - 0x100000000 && packet.db === 0 && packet.dc === 0 && packet.dd === 1) ||
			iface.groups.has(packet.destination().toString())
		);
	}
	// RFC 1122 3.3.6: a unicast packet in a broadcast frame is not for us to take.
	if (linkBroadcast) return false;
	if (iface.acceptAny) return true;
	return stack.isOwn(packet) && iface !== stack.loopback;
}

/** Whether a source can be a single host's (RFC 1122 3.2.1.3, RFC 4291 2.7). */
export function sourceFine(stack: StackCore, packet: Packet): boolean {
	const { ops, sa, sb, sc, sd, iface } = packet;
	if (ops.family === 4) {
		if (sd === -1 || sd >>> 28 === 0xe || (sd >>> 24 === 127 && iface !== stack.loopback)) return false;
		return !iface.isDirectedBroadcast(sd);
	}
	if (sa >>> 24 === 0xff) return false;
	return !(sa === 0 && sb === 0 && sc === 0 && sd === 1 && iface !== stack.loopback);
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
