import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { ETHERTYPE_IPV6, IPV6_HEADER } from "../wire/constants.ts";
import { type FamilyOps, words } from "./family.ts";
import type { Packet } from "./packet.ts";

function readAddresses(packet: Packet): void {
	const { bytes, l3 } = packet;
	packet.sa = get32(bytes, l3 + 8);
	packet.sb = get32(bytes, l3 + 12);
	packet.sc = get32(bytes, l3 + 16);
	packet.sd = get32(bytes, l3 + 20);
	packet.da = get32(bytes, l3 + 24);
	packet.db = get32(bytes, l3 + 28);
	packet.dc = get32(bytes, l3 + 32);
	packet.dd = get32(bytes, l3 + 36);
}

/** RFC 8200. */
export const IPV6: FamilyOps = {
	family: 6,
	etherType: ETHERTYPE_IPV6,
	headerLength: IPV6_HEADER,
	minimumMtu: 1280,
	icmpProtocol: 58,
	parse(packet) {
		const { bytes, l3 } = packet;
		if (packet.end - l3 < IPV6_HEADER || bytes[l3]! >>> 4 !== 6) return "malformed";
		const payload = get16(bytes, l3 + 4);
		if (l3 + IPV6_HEADER + payload > packet.end) return "malformed";
		packet.end = l3 + IPV6_HEADER + payload;
		packet.l4 = l3 + IPV6_HEADER;
		packet.tos = ((bytes[l3]! & 15) << 4) | (bytes[l3 + 1]! >>> 4);
		packet.protocol = bytes[l3 + 6]!;
		packet.hopLimit = bytes[l3 + 7]!;
		readAddresses(packet);
		// A mapped address on the wire would pass for an IPv4 one in every table (RFC 4942 2.2 asks to drop them).
		if (isMapped(packet.sa, packet.sb, packet.sc) || isMapped(packet.da, packet.db, packet.dc)) return "malformed";
		return "ok";
	},
	parseQuoted(quoted) {
		quoted.l4 = quoted.l3 + IPV6_HEADER;
		quoted.protocol = quoted.bytes[quoted.l3 + 6]!;
		readAddresses(quoted);
		return true;
	},
	errorKind(type, code) {
		if (type === 1) {
			if (code === 4) return "port-unreachable";
			if (code === 1 || code === 5) return "prohibited";
			return code === 0 ? "net-unreachable" : "host-unreachable";
		}
		if (type === 2) return "too-big";
		if (type === 3) return code === 0 ? "time-exceeded" : "reassembly-timeout";
		if (type === 4) return code === 1 ? "protocol-unreachable" : "parameter-problem";
		return undefined;
	},
	accepts(packet) {
		const { da, db, dc, dd } = packet;
		if (da >>> 24 !== 0xff) return undefined;
		packet.groupcast = true;
		return (
			((da >>> 16) & 15) === 1 ||
			(da === 0xff020000 - 0x100000000 && db === 0 && dc === 0 && dd === 1) ||
			packet.iface.groups.has(packet.destination().toString())
		);
	},
	sourceFine({ sa, sb, sc, sd, iface }, loopback) {
		if (sa >>> 24 === 0xff) return false;
		return !(sa === 0 && sb === 0 && sc === 0 && sd === 1 && iface !== loopback);
	},
	writeHeader(bytes, l4, path, protocol, payload, hopLimit, tos, _dontFragment, _id) {
		const at = l4 - IPV6_HEADER;
		put32(bytes, at, 0x60000000 | (tos << 20));
		put16(bytes, at + 4, payload);
		bytes[at + 6] = protocol;
		bytes[at + 7] = hopLimit;
		const { source, destination } = path;
		put32(bytes, at + 8, source.a);
		put32(bytes, at + 12, source.b);
		put32(bytes, at + 16, source.c);
		put32(bytes, at + 20, source.d);
		put32(bytes, at + 24, destination.a);
		put32(bytes, at + 28, destination.b);
		put32(bytes, at + 32, destination.c);
		put32(bytes, at + 36, destination.d);
	},
	addressSum(sa, sb, sc, sd, da, db, dc, dd) {
		return words(sa) + words(sb) + words(sc) + words(sd) + words(da) + words(db) + words(dc) + words(dd);
	},
};

function isMapped(a: number, b: number, c: number): boolean {
	return a === 0 && b === 0 && c === 0xffff;
}
