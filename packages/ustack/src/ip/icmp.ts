import type { StackErrorCode } from "../errors.ts";
import { get16, get32, put16 } from "../wire/bytes.ts";
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

const CODES: Partial<Record<IcmpErrorKind, StackErrorCode>> = {
	"net-unreachable": "ENETUNREACH",
	"host-unreachable": "EHOSTUNREACH",
	prohibited: "EHOSTUNREACH",
	"time-exceeded": "EHOSTUNREACH",
	"port-unreachable": "ECONNREFUSED",
	"protocol-unreachable": "ENOPROTOOPT",
};

/** The code a socket fails with; undefined for what says nothing of reaching the peer. */
export function errorOf(kind: IcmpErrorKind): StackErrorCode | undefined {
	return CODES[kind];
}

/** ICMP and ICMPv6 as every host needs them: requests answered, errors handed on. Neighbour discovery adds its types. */
export class IcmpCore implements ProtocolHandler {
	protected readonly stack: StackCore;
	private readonly quoted: Packet;
	/** Other ICMPv6 types, by type. */
	readonly v6Types: Map<number, (packet: Packet) => void> = new Map();
	/** Sees echo requests before they are answered; true takes the request. For a gateway that passes them on. */
	onEchoRequest: ((packet: Packet) => boolean) | undefined;

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
		const kind = ops.errorKind(type, bytes[l4 + 1]!);
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
		this.stack.transmitter.transmit(path, packet.protocol, length, 0, packet.tos & ~3, false, 2, 0);
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
		if (end - quoted.l3 < ops.headerLength || bytes[quoted.l3]! >>> 4 !== ops.family || !ops.parseQuoted(quoted)) {
			this.stack.drop(packet, "icmp-malformed");
			return;
		}
		const mtu = kind === "too-big" ? (ops.family === 4 ? get16(bytes, l4 + 6) : get32(bytes, l4 + 4) >>> 0) : 0;
		if (quoted.end - quoted.l4 < 8) return;
		this.stack.raw?.error(quoted, kind, mtu);
		if (quoted.protocol === ops.icmpProtocol) {
			const request = ops.family === 4 ? 8 : 128;
			if (bytes[quoted.l4] === request) {
				this.echoFailed(get16(bytes, quoted.l4 + 4), get16(bytes, quoted.l4 + 6), kind);
			}
			return;
		}
		this.stack.protocols[quoted.protocol]?.error?.(quoted, kind, mtu, packet);
	}

	/** An echo reply: nobody here asked. */
	protected replyIn(_packet: Packet): void {}

	/** An error about an echo request of ours. */
	protected echoFailed(_id: number, _sequence: number, _kind: IcmpErrorKind): void {}

	/** Answers a packet with an error; this part never does. */
	sendError(_packet: Packet, _kind: IcmpErrorKind, _argument = 0, _code = -1): void {}
}
