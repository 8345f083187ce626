import type { Interface } from "../link/interface.ts";
import type { IpFamily } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { ICMP_HEADER, PROTO_ICMP } from "../wire/constants.ts";
import type { ProtocolHandler, StackCore } from "./core.ts";
import { IPV4 } from "./family.ts";
import { Packet } from "./packet.ts";
import { TX_L4 } from "./tx.ts";

/** What an ICMP error says, in both families' words. */
export type IcmpErrorKind =
	| "net-unreachable"
	| "host-unreachable"
	| "protocol-unreachable"
	| "port-unreachable"
	| "prohibited"
	| "too-big"
	| "time-exceeded"
	| "reassembly-timeout"
	| "parameter-problem";

/** type and code on the wire, per kind: [v4 type, v4 code, v6 type, v6 code] (RFC 792, RFC 1812, RFC 4443). */
const WIRE: Record<IcmpErrorKind, readonly [number, number, number, number]> = {
	"net-unreachable": [3, 0, 1, 0],
	"host-unreachable": [3, 1, 1, 3],
	"protocol-unreachable": [3, 2, 4, 1],
	"port-unreachable": [3, 3, 1, 4],
	prohibited: [3, 13, 1, 1],
	"too-big": [3, 4, 2, 0],
	"time-exceeded": [11, 0, 3, 0],
	"reassembly-timeout": [11, 1, 3, 1],
	"parameter-problem": [12, 0, 4, 0],
};

function kindOf(family: IpFamily, type: number, code: number): IcmpErrorKind | undefined {
	if (family === 4) {
		if (type === 3) {
			if (code === 2) return "protocol-unreachable";
			if (code === 3) return "port-unreachable";
			if (code === 4) return "too-big";
			if (code === 0 || code === 6 || code === 11) return "net-unreachable";
			if (code === 9 || code === 10 || code === 13) return "prohibited";
			return "host-unreachable";
		}
		if (type === 11) return code === 0 ? "time-exceeded" : "reassembly-timeout";
		return type === 12 ? "parameter-problem" : undefined;
	}
	if (type === 1) {
		if (code === 4) return "port-unreachable";
		if (code === 1 || code === 5) return "prohibited";
		return code === 0 ? "net-unreachable" : "host-unreachable";
	}
	if (type === 2) return "too-big";
	if (type === 3) return code === 0 ? "time-exceeded" : "reassembly-timeout";
	if (type === 4) return code === 1 ? "protocol-unreachable" : "parameter-problem";
	return undefined;
}

/** A datagram of a ping socket. */
export interface EchoReply {
	readonly sequence: number;
	/** The reply's payload; valid during the call. */
	readonly payload: Uint8Array;
	readonly hopLimit: number;
}

/** A user of one echo identifier. */
export interface EchoUser {
	onReply(from: Packet, reply: EchoReply): void;
	onError(kind: IcmpErrorKind, sequence: number): void;
}

/** Errors a second to one destination-blind bucket (RFC 4443 2.4 f; Linux limits alike). */
const ERROR_RATE = 1000;
const ERROR_BURST = 50;

/** ICMP and ICMPv6: echo, errors both ways. Neighbour discovery registers for its own types. */
export class IcmpLayer implements ProtocolHandler {
	private readonly stack: StackCore;
	private readonly echoUsers = new Map<number, EchoUser>();
	private tokens = ERROR_BURST;
	private refilledAt = 0;
	private readonly quoted: Packet;
	/** Other ICMPv6 types, by type. */
	readonly v6Types: Map<number, (packet: Packet) => void> = new Map();
	/** Sees echo requests before they are answered; true takes the request. For a gateway that passes them on. */
	onEchoRequest: ((packet: Packet) => boolean) | undefined = undefined;

	constructor(stack: StackCore) {
		this.stack = stack;
		this.quoted = new Packet(stack.loopback, IPV4);
	}

	input(packet: Packet): void {
		const { bytes, l4, end, ops } = packet;
		const length = end - l4;
		const v4 = packet.protocol === PROTO_ICMP;
		if (length < 4 || v4 !== (ops.family === 4)) {
			this.stack.drop(packet, "icmp-malformed");
			return;
		}
		if (!packet.checked && foldSum(sumBytes(bytes, l4, length) + (v4 ? 0 : packet.pseudoSum(length))) !== 0xffff) {
			this.stack.drop(packet, "icmp-checksum");
			return;
		}
		const type = bytes[l4]!;
		const kind = kindOf(ops.family, type, bytes[l4 + 1]!);
		if (kind !== undefined) {
			this.errorIn(packet, kind);
			return;
		}
		if (length < ICMP_HEADER) {
			this.stack.drop(packet, "icmp-malformed");
			return;
		}
		if (type === (v4 ? 8 : 128)) this.echoIn(packet);
		else if (type === (v4 ? 0 : 129)) this.replyIn(packet);
		else if (!v4) this.v6Types.get(type)?.(packet);
	}

	private echoIn(packet: Packet): void {
		if (packet.groupcast && packet.ops.family === 4) return;
		if (this.onEchoRequest?.(packet)) return;
		const { bytes, l4, end, ops } = packet;
		const source = packet.groupcast ? undefined : packet.destination();
		const path = this.stack.path(packet.source(), source);
		if (path === undefined) return;
		const { tx } = this.stack;
		const length = end - l4;
		tx.set(bytes.subarray(l4, end), TX_L4);
		tx[TX_L4] = ops.family === 4 ? 0 : 129;
		put16(tx, TX_L4 + 2, 0);
		this.stack.transmit(path, packet.protocol, length, 0, packet.tos & ~3, false, 2, 0);
	}

	private replyIn(packet: Packet): void {
		const { bytes, l4, end } = packet;
		this.echoUsers.get(get16(bytes, l4 + 4))?.onReply(packet, {
			sequence: get16(bytes, l4 + 6),
			payload: bytes.subarray(l4 + ICMP_HEADER, end),
			hopLimit: packet.hopLimit,
		});
	}

	/** Claims an echo identifier; undefined asks for any free one. Returns -1 when none is free. */
	openEcho(user: EchoUser, identifier: number): number {
		let id = identifier;
		for (let tries = 0; this.echoUsers.has(id) && tries < 65_536; tries++) id = (id + 1) & 0xffff;
		if (this.echoUsers.has(id)) return -1;
		this.echoUsers.set(id, user);
		return id;
	}

	closeEcho(identifier: number): void {
		this.echoUsers.delete(identifier);
	}

	/** An error about a packet of ours: hands it to the protocol whose header is quoted. */
	private errorIn(packet: Packet, kind: IcmpErrorKind): void {
		const { bytes, l4, end, ops } = packet;
		const quoted = this.quoted;
		quoted.bytes = bytes;
		quoted.iface = packet.iface;
		quoted.now = packet.now;
		quoted.ops = ops;
		quoted.l3 = l4 + ICMP_HEADER;
		quoted.end = end;
		if (!parseQuoted(quoted)) {
			this.stack.drop(packet, "icmp-malformed");
			return;
		}
		const mtu = kind === "too-big" ? (ops.family === 4 ? get16(bytes, l4 + 6) : get32(bytes, l4 + 4) >>> 0) : 0;
		if (quoted.end - quoted.l4 < 8) return;
		if (quoted.protocol === ops.icmpProtocol) {
			const request = ops.family === 4 ? 8 : 128;
			if (bytes[quoted.l4] === request) {
				this.echoUsers.get(get16(bytes, quoted.l4 + 4))?.onError(kind, get16(bytes, quoted.l4 + 6));
			}
			return;
		}
		this.stack.protocols[quoted.protocol]?.error?.(quoted, kind, mtu, packet);
	}

	/**
	 * Answers a packet with an error, unless the rules forbid it (RFC 1122 3.2.2, RFC 4443 2.4 e): never about an ICMP
	 * error, a group packet, a later fragment or a source that is no single host.
	 *
	 * @param argument - MTU or pointer
	 */
	sendError(packet: Packet, kind: IcmpErrorKind, argument = 0, code = -1): void {
		const { bytes, l3, end, ops } = packet;
		if ((packet.groupcast || packet.linkBroadcast) && !(ops.family === 6 && kind === "too-big")) return;
		const source = packet.source();
		if (source.isUnspecified || source.isMulticast || source.isBroadcast) return;
		if (packet.protocol === ops.icmpProtocol) {
			const type = packet.l4 < end ? bytes[packet.l4]! : 255;
			if (ops.family === 4 ? type !== 8 && type !== 0 && type !== 13 : type < 128) return;
		}
		if (!this.take(packet.now)) return;
		const path = this.stack.path(
			source,
			this.stack.isOwn(packet) || packet.iface.acceptAny ? packet.destination() : undefined,
		);
		if (path === undefined) return;
		const { tx } = this.stack;
		const wire = WIRE[kind];
		const v4 = ops.family === 4;
		tx[TX_L4] = v4 ? wire[0] : wire[2];
		tx[TX_L4 + 1] = code >= 0 ? code : v4 ? wire[1] : wire[3];
		put16(tx, TX_L4 + 2, 0);
		put32(tx, TX_L4 + 4, 0);
		if (kind === "parameter-problem") {
			if (v4) tx[TX_L4 + 4] = argument;
			else put32(tx, TX_L4 + 4, argument);
		} else if (v4) put16(tx, TX_L4 + 6, argument);
		else put32(tx, TX_L4 + 4, argument);
		const room = (v4 ? 576 : Math.min(1280, path.mtu)) - ops.headerLength - ICMP_HEADER;
		const quote = Math.min(end - l3, room);
		tx.set(bytes.subarray(l3, l3 + quote), TX_L4 + ICMP_HEADER);
		this.stack.transmit(path, ops.icmpProtocol, ICMP_HEADER + quote, 0, 0, false, 2, 0);
	}

	private take(now: number): boolean {
		this.tokens = Math.min(ERROR_BURST, this.tokens + ((now - this.refilledAt) * ERROR_RATE) / 1000);
		this.refilledAt = now;
		if (this.tokens < 1) return false;
		this.tokens--;
		return true;
	}

	/** Sends an echo request; the payload is copied. Returns false without a route. */
	sendEcho(
		iface: Interface | undefined,
		path: ReturnType<StackCore["path"]>,
		id: number,
		sequence: number,
		payload: Uint8Array,
		hopLimit: number,
	): boolean {
		if (path === undefined || (iface !== undefined && path.iface !== iface)) return false;
		const { tx } = this.stack;
		tx[TX_L4] = path.ops.family === 4 ? 8 : 128;
		tx[TX_L4 + 1] = 0;
		put16(tx, TX_L4 + 2, 0);
		put16(tx, TX_L4 + 4, id);
		put16(tx, TX_L4 + 6, sequence);
		tx.set(payload, TX_L4 + ICMP_HEADER);
		this.stack.transmit(path, path.ops.icmpProtocol, ICMP_HEADER + payload.length, hopLimit, 0, false, 2, 0);
		return true;
	}
}

/** Reads the header quoted in an error: like parsing, but the packet may be cut and its checksum changed on the way. */
function parseQuoted(quoted: Packet): boolean {
	const { bytes, l3, ops } = quoted;
	if (quoted.end - l3 < ops.headerLength || bytes[l3]! >>> 4 !== ops.family) return false;
	if (ops.family === 4) {
		const headerLength = (bytes[l3]! & 15) << 2;
		if (headerLength < 20 || (get16(bytes, l3 + 6) & 0x1fff) !== 0) return false;
		quoted.l4 = l3 + headerLength;
		quoted.protocol = bytes[l3 + 9]!;
		quoted.sa = quoted.sb = quoted.da = quoted.db = 0;
		quoted.sc = quoted.dc = 0xffff;
		quoted.sd = get32(bytes, l3 + 12);
		quoted.dd = get32(bytes, l3 + 16);
		return true;
	}
	quoted.l4 = l3 + ops.headerLength;
	quoted.protocol = bytes[l3 + 6]!;
	quoted.sa = get32(bytes, l3 + 8);
	quoted.sb = get32(bytes, l3 + 12);
	quoted.sc = get32(bytes, l3 + 16);
	quoted.sd = get32(bytes, l3 + 20);
	quoted.da = get32(bytes, l3 + 24);
	quoted.db = get32(bytes, l3 + 28);
	quoted.dc = get32(bytes, l3 + 32);
	quoted.dd = get32(bytes, l3 + 36);
	return true;
}
