import type { Offload } from "@x/netchannel";
import type { Interface } from "../link/interface.ts";
import { type Neighbor, NeighborTable } from "../link/neighbor.ts";
import type { IpAddress } from "../wire/address.ts";
import { get16, put16 } from "../wire/bytes.ts";
import { sumBytes } from "../wire/checksum.ts";
import { ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV6, ETHERTYPE_VLAN } from "../wire/constants.ts";
import { BROADCAST_MAC, formatMac, multicastMac } from "../wire/mac.ts";
import { arpAnnounce, arpInput, arpSolicit } from "./arp.ts";
import type { StackCore } from "./core.ts";
import { IPV4 } from "./family.ts";
import { Packet } from "./packet.ts";
import type { Path } from "./path.ts";
import type { Transmitter } from "./transmit.ts";

/** Ethernet II framing, ARP, and the neighbours behind an interface. */
export class Ethernet {
	private readonly stack: StackCore;

	constructor(stack: StackCore) {
		this.stack = stack;
	}

	/** The neighbours of a new interface. */
	neighborsOf(iface: Interface): NeighborTable {
		return new NeighborTable(iface);
	}

	/** An interface goes: its neighbours' timers do as well. */
	detach(iface: Interface): void {
		for (const neighbor of iface.neighbors.list()) this.stack.timers.cancel(neighbor);
	}

	/** Takes the header off: sets `l3` and returns the EtherType, -1 when nothing is left to do. */
	input(packet: Packet): number {
		const { bytes: frame, iface } = packet;
		if (frame.length < ETHERNET_HEADER) {
			this.stack.drop(packet, "ethernet-short");
			return -1;
		}
		const { mac } = iface;
		if ((frame[0]! & 1) !== 0) packet.linkBroadcast = true;
		else if (
			frame[5] !== mac[5] ||
			frame[4] !== mac[4] ||
			frame[3] !== mac[3] ||
			frame[2] !== mac[2] ||
			frame[1] !== mac[1] ||
			frame[0] !== mac[0]
		) {
			this.stack.drop(packet, "ethernet-other-host");
			return -1;
		}
		let type = get16(frame, 12);
		let at = ETHERNET_HEADER;
		if (type === ETHERTYPE_VLAN && frame.length >= at + 4 && (get16(frame, at) & 0xfff) === 0) {
			// A priority tag only (802.1Q 9.6 VID 0).
			type = get16(frame, at + 2);
			at += 4;
		}
		packet.l3 = at;
		if (type !== ETHERTYPE_ARP) return type;
		arpInput(iface, frame, at, packet.now);
		return -1;
	}

	/** Sends the IP packet at `start..end` of the transmitter's buffer to its path's next hop. */
	output(transmitter: Transmitter, path: Path, start: number, end: number, offload: Offload | undefined): void {
		const { iface, neighbor } = path;
		const { tx } = transmitter;
		const at = start - ETHERNET_HEADER;
		tx.set(iface.mac, at + 6);
		put16(tx, at + 12, path.ops.etherType);
		if (neighbor === undefined) {
			tx.set(path.groupMac!, at);
			iface.sendFrame(transmitter.view(at, end), offload);
			return;
		}
		const { state } = neighbor;
		if (state === "incomplete" || state === "failed") {
			if (offload !== undefined) {
				// A frame that must wait cannot keep its offload: the checksum is done now.
				const from = at + offload.csumStart;
				put16(tx, from + offload.csumOffset, ~sumBytes(tx, from, end - from) & 0xffff);
			}
			const frame = transmitter.view(at, end);
			// Copied before anything is asked: the question is built in the same buffer.
			if (iface.neighbors.enqueue(neighbor, frame)) iface.neighbors.ready(neighbor, this.stack.now);
			else this.failed(iface, neighbor, [frame.slice()]);
			return;
		}
		if (iface.neighbors.ready(neighbor, this.stack.now)) {
			const { mac } = neighbor;
			tx[at] = mac[0]!;
			tx[at + 1] = mac[1]!;
			tx[at + 2] = mac[2]!;
			tx[at + 3] = mac[3]!;
			tx[at + 4] = mac[4]!;
			tx[at + 5] = mac[5]!;
			iface.sendFrame(transmitter.view(at, end), offload);
		}
	}

	/** The group MAC of a broadcast or multicast destination. */
	groupMac(destination: IpAddress, broadcast: boolean): Uint8Array {
		return broadcast ? BROADCAST_MAC : multicastMac(destination);
	}

	/** Tells everybody where an IPv4 address is now. */
	announce(iface: Interface, address: IpAddress): void {
		arpAnnounce(iface, address);
	}

	/** Asks who has a neighbour's address. */
	solicit(iface: Interface, neighbor: Neighbor, unicast: boolean): void {
		if (neighbor.address.family === 4) arpSolicit(iface, neighbor, unicast);
		else this.stack.ipv6?.nd.solicit(iface, neighbor, unicast);
	}

	/** Address resolution gave up: whoever has packets waiting hears of an unreachable host. */
	failed(iface: Interface, neighbor: Neighbor, waiting: readonly Uint8Array[]): void {
		const { stack } = this;
		stack.trace("neighbor", `${neighbor.address} failed`, iface);
		for (const frame of waiting) {
			const packet = new Packet(iface, stack.ops(get16(frame, 12) === ETHERTYPE_IPV6 ? 6 : 4) ?? IPV4);
			packet.bytes = frame;
			packet.l3 = ETHERNET_HEADER;
			packet.end = frame.length;
			packet.now = stack.now;
			if (packet.ops.parse(packet) !== "ok") continue;
			const source = packet.source();
			if (stack.isLocal(source)) stack.protocols[packet.protocol]?.error?.(packet, "host-unreachable", 0, packet);
			else stack.icmp.sendError(packet, "host-unreachable");
		}
	}

	/** Somebody else uses our address (RFC 5227 2.4): said, and defended by announcing again. */
	conflict(iface: Interface, address: IpAddress, mac: Uint8Array): void {
		this.stack.trace("conflict", `${address} claimed by ${formatMac(mac)}`, iface);
	}
}
