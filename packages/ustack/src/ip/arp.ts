import type { Interface } from "../link/interface.ts";
import type { Neighbor } from "../link/neighbor.ts";
import { type IpAddress, ipv4FromNumber } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { ETHERNET_HEADER, ETHERTYPE_ARP } from "../wire/constants.ts";
import { BROADCAST_MAC } from "../wire/mac.ts";

const ARP_LENGTH = 28;
const REQUEST = 1;
const REPLY = 2;

/** RFC 826, with RFC 5227's announcements and conflict sight. */
export function arpInput(iface: Interface, frame: Uint8Array, at: number, now: number): void {
	if (frame.length - at < ARP_LENGTH) return;
	if (get16(frame, at) !== 1 || get16(frame, at + 2) !== 0x0800 || get16(frame, at + 4) !== 0x0604) return;
	const operation = get16(frame, at + 6);
	const sender = get32(frame, at + 14);
	const target = get32(frame, at + 24);
	if ((frame[at + 8]! & 1) !== 0) return;
	const senderAddress = ipv4FromNumber(sender);
	if (iface.find(senderAddress) !== undefined) {
		let own = true;
		for (let i = 0; i < 6; i++) own &&= frame[at + 8 + i] === iface.mac[i];
		if (!own) iface.stack.ethernet?.conflict(iface, senderAddress, frame.slice(at + 8, at + 14));
		return;
	}
	const forUs = iface.owns(0, 0, 0xffff, target);
	if (sender !== 0) iface.neighbors.learn(senderAddress, frame, at + 8, now, operation === REPLY && forUs, forUs);
	if (operation === REQUEST && forUs)
		send(iface, REPLY, ipv4FromNumber(target), frame.slice(at + 8, at + 14), senderAddress);
}

function send(iface: Interface, operation: number, source: IpAddress, mac: Uint8Array, target: IpAddress): void {
	const frame = new Uint8Array(ETHERNET_HEADER + ARP_LENGTH);
	frame.set(mac, 0);
	frame.set(iface.mac, 6);
	put16(frame, 12, ETHERTYPE_ARP);
	const at = ETHERNET_HEADER;
	put16(frame, at, 1);
	put16(frame, at + 2, 0x0800);
	put16(frame, at + 4, 0x0604);
	put16(frame, at + 6, operation);
	frame.set(iface.mac, at + 8);
	put32(frame, at + 14, source.d);
	if (operation === REPLY) frame.set(mac, at + 18);
	put32(frame, at + 24, target.d);
	iface.stack.sendLater(iface, frame);
}

/** Asks who has `neighbor`; to its last known MAC when only confirming (RFC 1122 2.3.2.1). */
export function arpSolicit(iface: Interface, neighbor: Neighbor, unicast: boolean): void {
	const source = iface.selectSource(neighbor.address);
	if (source === undefined) return;
	send(iface, REQUEST, source, unicast ? neighbor.mac : BROADCAST_MAC, neighbor.address);
}

/** Tells everybody where `address` is now (RFC 5227 section 2.3). */
export function arpAnnounce(iface: Interface, address: IpAddress): void {
	send(iface, REQUEST, address, BROADCAST_MAC, address);
}

/** Asks for an address without claiming it (RFC 5227 section 2.1.1). */
export function arpProbe(iface: Interface, address: IpAddress): void {
	send(iface, REQUEST, ipv4FromNumber(0), BROADCAST_MAC, address);
}
