import type { Interface } from "../link/interface.ts";
import type { IpFamily } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { ETHERTYPE_IPV4, IPV4_HEADER } from "../wire/constants.ts";
import type { IcmpErrorKind } from "./icmp.ts";
import type { Packet } from "./packet.ts";
import type { Path } from "./path.ts";

/** What an incoming header came to. */
export type ParseResult = "ok" | "fragment" | "malformed" | "checksum";

/** What the layers above need to know of an address family; they have no other code per family. */
export interface FamilyOps {
	readonly family: IpFamily;
	readonly etherType: number;
	readonly headerLength: number;
	/** The smallest MTU every link must carry (RFC 791: 68 and 576 to reassemble; RFC 8200: 1280). */
	readonly minimumMtu: number;
	readonly icmpProtocol: number;
	/** Reads the fixed header (and IPv4's options) at `packet.l3`, with `packet.end` at the frame's end. */
	parse(packet: Packet): ParseResult;
	/**
	 * Reads the header quoted in an error, which is long enough and of this family: like parsing, but the packet may be
	 * cut and its checksum changed on the way.
	 */
	parseQuoted(quoted: Packet): boolean;
	/** What an ICMP message says, if it is an error. */
	errorKind(type: number, code: number): IcmpErrorKind | undefined;
	/** Whether a packet to a group or another special destination is for this host; undefined for ordinary ones. */
	accepts(packet: Packet, loopback: Interface): boolean | undefined;
	/** Whether a source can be a single host's (RFC 1122 3.2.1.3, RFC 4291 2.7). */
	sourceFine(packet: Packet, loopback: Interface): boolean;
	/** Writes a header before `l4`; `payload` bytes follow it. */
	writeHeader(
		bytes: Uint8Array,
		l4: number,
		path: Path,
		protocol: number,
		payload: number,
		hopLimit: number,
		tos: number,
		dontFragment: boolean,
		id: number,
	): void;
	/** Unfolded sum of both addresses' 16-bit words. */
	addressSum(sa: number, sb: number, sc: number, sd: number, da: number, db: number, dc: number, dd: number): number;
}

/** Sum of a word's halves. */
export function words(value: number): number {
	return (value >>> 16) + (value & 0xffff);
}

function readAddresses(packet: Packet): void {
	const { bytes, l3 } = packet;
	packet.sa = packet.sb = packet.da = packet.db = 0;
	packet.sc = packet.dc = 0xffff;
	packet.sd = get32(bytes, l3 + 12);
	packet.dd = get32(bytes, l3 + 16);
}

/** RFC 791. */
export const IPV4: FamilyOps = {
	family: 4,
	etherType: ETHERTYPE_IPV4,
	headerLength: IPV4_HEADER,
	minimumMtu: 68,
	icmpProtocol: 1,
	parse(packet) {
		const { bytes, l3 } = packet;
		if (packet.end - l3 < IPV4_HEADER) return "malformed";
		const first = bytes[l3]!;
		const headerLength = (first & 15) << 2;
		const total = get16(bytes, l3 + 2);
		if (first >>> 4 !== 4 || headerLength < IPV4_HEADER || total < headerLength || l3 + total > packet.end) {
			return "malformed";
		}
		if (sumBytes(bytes, l3, headerLength) !== 0xffff) return "checksum";
		packet.end = l3 + total;
		packet.l4 = l3 + headerLength;
		packet.tos = bytes[l3 + 1]!;
		packet.hopLimit = bytes[l3 + 8]!;
		packet.protocol = bytes[l3 + 9]!;
		readAddresses(packet);
		// MF or an offset; the reserved bit and DF do not matter here.
		if ((get16(bytes, l3 + 6) & 0x3fff) !== 0) return "fragment";
		return "ok";
	},
	parseQuoted(quoted) {
		const { bytes, l3 } = quoted;
		const headerLength = (bytes[l3]! & 15) << 2;
		if (headerLength < IPV4_HEADER || (get16(bytes, l3 + 6) & 0x1fff) !== 0) return false;
		quoted.l4 = l3 + headerLength;
		quoted.protocol = bytes[l3 + 9]!;
		readAddresses(quoted);
		return true;
	},
	errorKind(type, code) {
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
	},
	accepts(packet, loopback) {
		const { iface, dd } = packet;
		if (dd === -1 || iface.isDirectedBroadcast(dd)) {
			packet.groupcast = true;
			return true;
		}
		if (dd >>> 28 === 0xe) {
			packet.groupcast = true;
			return dd === 0xe0000001 - 0x100000000 || iface.acceptAny || iface.groups.has(packet.destination().toString());
		}
		return dd >>> 24 === 127 ? iface === loopback : undefined;
	},
	sourceFine({ sd, iface }, loopback) {
		if (sd === -1 || sd >>> 28 === 0xe || (sd >>> 24 === 127 && iface !== loopback)) return false;
		return !iface.isDirectedBroadcast(sd);
	},
	writeHeader(bytes, l4, path, protocol, payload, hopLimit, tos, dontFragment, id) {
		const at = l4 - IPV4_HEADER;
		const length = payload + IPV4_HEADER;
		bytes[at] = 0x45;
		bytes[at + 1] = tos;
		put16(bytes, at + 2, length);
		put16(bytes, at + 4, id);
		put16(bytes, at + 6, dontFragment ? 0x4000 : 0);
		bytes[at + 8] = hopLimit;
		bytes[at + 9] = protocol;
		const sum = foldSum(
			0x4500 + tos + length + id + (dontFragment ? 0x4000 : 0) + (hopLimit << 8) + protocol + path.addressSum,
		);
		put16(bytes, at + 10, ~sum);
		put32(bytes, at + 12, path.source.d);
		put32(bytes, at + 16, path.destination.d);
	},
	addressSum(_sa, _sb, _sc, sd, _da, _db, _dc, dd) {
		return words(sd) + words(dd);
	},
};
