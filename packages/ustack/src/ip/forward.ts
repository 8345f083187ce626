import { get16, put16 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import type { StackCore } from "./core.ts";
import type { Packet } from "./packet.ts";
import type { Path } from "./path.ts";
import { TX_L4 } from "./tx.ts";

/** Passing on what is for others: a router's part (RFC 1812, RFC 8200). */
export class Forwarder {
	private readonly stack: StackCore;

	constructor(stack: StackCore) {
		this.stack = stack;
	}

	/** A packet for somebody else: passed on, or answered with why not. */
	forward(packet: Packet): void {
		const { bytes, l3, end, ops } = packet;
		if (packet.linkBroadcast || packet.source().isLinkLocal || packet.destination().isLinkLocal) {
			this.stack.drop(packet, "ip-no-forward");
			return;
		}
		if (packet.hopLimit <= 1) {
			this.stack.icmp.sendError(packet, "time-exceeded");
			this.stack.drop(packet, "ip-hop-limit");
			return;
		}
		const destination = packet.destination();
		const path = this.stack.path(destination, packet.source());
		if (path === undefined) {
			this.stack.icmp.sendError(packet, "net-unreachable");
			this.stack.drop(packet, "ip-no-route");
			return;
		}
		const length = end - l3;
		if (length > path.mtu && (ops.family === 6 || (get16(bytes, l3 + 6) & 0x4000) !== 0)) {
			this.stack.icmp.sendError(packet, "too-big", path.mtu);
			this.stack.drop(packet, "ip-too-big");
			return;
		}
		this.stack.stats.forwarded++;
		const header = packet.l4 - l3;
		const at = TX_L4 - ops.headerLength;
		this.stack.tx.set(bytes.subarray(l3, end), at);
		if (ops.family === 6) this.stack.tx[at + 7]!--;
		else {
			this.stack.tx[at + 8]!--;
			put16(this.stack.tx, at + 10, 0);
			put16(this.stack.tx, at + 10, ~foldSum(sumBytes(this.stack.tx, at, header)));
		}
		if (length <= path.mtu) {
			this.stack.transmitter.sendIp(path, at, at + length, undefined);
			return;
		}
		this.fragmented(path, this.stack.tx.slice(at, at + length), header);
	}

	/** RFC 791 fragmentation of a packet on its way through. */
	private fragmented(path: Path, whole: Uint8Array, header: number): void {
		const field = get16(whole, 6);
		const room = (path.mtu - header) & ~7;
		const at = TX_L4 - header;
		for (let offset = header; offset < whole.length; offset += room) {
			const size = Math.min(room, whole.length - offset);
			const last = offset + size >= whole.length;
			this.stack.tx.set(whole.subarray(0, header), at);
			this.stack.tx.set(whole.subarray(offset, offset + size), TX_L4);
			put16(this.stack.tx, at + 2, header + size);
			put16(this.stack.tx, at + 6, ((field & 0x1fff) + ((offset - header) >>> 3)) | (last ? field & 0x2000 : 0x2000));
			put16(this.stack.tx, at + 10, 0);
			put16(this.stack.tx, at + 10, ~foldSum(sumBytes(this.stack.tx, at, header)));
			this.stack.transmitter.sendIp(path, at, TX_L4 + size, undefined);
		}
	}
}
