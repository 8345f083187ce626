import { put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { PROTO_FRAGMENT } from "../wire/constants.ts";
import type { StackCore } from "./core.ts";
import { Packet } from "./packet.ts";
import type { Path } from "./path.ts";
import { Reassembler } from "./reassembly.ts";
import { TX_L4 } from "./tx.ts";

/** Fragmentation of what is sent and reassembly of what arrives, for both families. */
export class Fragments {
	readonly reassembler: Reassembler;
	private readonly stack: StackCore;

	constructor(stack: StackCore) {
		this.stack = stack;
		this.reassembler = new Reassembler(stack.timers, (header, first) => this.expired(header, first));
	}

	/** A fragment arrived; the last missing one brings the whole datagram to its protocol. */
	input(packet: Packet, nextHeaderAt: number): void {
		const result = this.reassembler.add(packet, nextHeaderAt);
		if (result === "kept") return;
		if (result === "malformed" || result === "dropped") {
			this.stack.drop(packet, `fragment-${result}`);
			return;
		}
		packet.bytes = result.done;
		packet.l3 = 0;
		packet.end = result.done.length;
		packet.checked = false;
		packet.reassembled = true;
		if (packet.ops.parse(packet) !== "ok") {
			this.stack.drop(packet, "fragment-malformed");
			return;
		}
		if (packet.ops.family === 6 && this.stack.ipv6?.pastExtensions(packet) !== true) {
			this.stack.drop(packet, "ip6-extension");
			return;
		}
		this.stack.deliver(packet);
	}

	private expired(header: Uint8Array, first: Uint8Array): void {
		const bytes = new Uint8Array(header.length + first.length);
		bytes.set(header);
		bytes.set(first, header.length);
		const ops = this.stack.ops(header[0]! >>> 4 === 6 ? 6 : 4);
		if (ops === undefined) return;
		const packet = new Packet(this.stack.interfaces[1] ?? this.stack.loopback, ops);
		packet.bytes = bytes;
		packet.end = bytes.length;
		packet.now = this.stack.now;
		// The header speaks of the first fragment: its own length is right for quoting it.
		if (packet.ops.parse(packet) === "malformed") return;
		packet.end = bytes.length;
		this.stack.icmp.sendError(packet, "reassembly-timeout");
	}

	/** Sends what is at {@link TX_L4} in pieces the path carries (RFC 791, RFC 8200 4.5). */
	output(path: Path, protocol: number, length: number, hopLimit: number, tos: number): void {
		const { tx } = this.stack;
		const { ops } = path;
		const v6 = ops.family === 6;
		const whole = tx.slice(TX_L4, TX_L4 + length);
		const extra = v6 ? 8 : 0;
		const room = (path.mtu - ops.headerLength - extra) & ~7;
		const id = v6 ? this.stack.randomInt() : this.stack.nextIdentification();
		const hops = hopLimit === 0 ? this.stack.hopLimit : hopLimit;
		for (let offset = 0; offset < length; offset += room) {
			const size = Math.min(room, length - offset);
			const more = offset + size < length;
			tx.set(whole.subarray(offset, offset + size), TX_L4 + extra);
			if (v6) {
				tx[TX_L4] = protocol;
				tx[TX_L4 + 1] = 0;
				put16(tx, TX_L4 + 2, offset | (more ? 1 : 0));
				put32(tx, TX_L4 + 4, id);
			}
			ops.writeHeader(tx, TX_L4, path, v6 ? PROTO_FRAGMENT : protocol, size + extra, hops, tos, false, id);
			const at = TX_L4 - ops.headerLength;
			if (!v6) {
				put16(tx, at + 6, (offset >>> 3) | (more ? 0x2000 : 0));
				put16(tx, at + 10, 0);
				put16(tx, at + 10, ~foldSum(sumBytes(tx, at, ops.headerLength)));
			}
			this.stack.transmitter.sendIp(path, at, TX_L4 + extra + size, undefined);
		}
	}
}
