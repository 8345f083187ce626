import type { IpFamily } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_HEADER, IPV6_HEADER } from "../wire/constants.ts";
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

function words(value: number): number {
	return (value >>> 16) + (value & 0xffff);
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
		packet.sa = packet.sb = packet.da = packet.db = 0;
		packet.sc = packet.dc = 0xffff;
		packet.sd = get32(bytes, l3 + 12);
		packet.dd = get32(bytes, l3 + 16);
		// MF or an offset; the reserved bit and DF do not matter here.
		if ((get16(bytes, l3 + 6) & 0x3fff) !== 0) return "fragment";
		return "ok";
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
		packet.sa = get32(bytes, l3 + 8);
		packet.sb = get32(bytes, l3 + 12);
		packet.sc = get32(bytes, l3 + 16);
		packet.sd = get32(bytes, l3 + 20);
		packet.da = get32(bytes, l3 + 24);
		packet.db = get32(bytes, l3 + 28);
		packet.dc = get32(bytes, l3 + 32);
		packet.dd = get32(bytes, l3 + 36);
		// A mapped address on the wire would pass for an IPv4 one in every table (RFC 4942 2.2 asks to drop them).
		if (isMapped(packet.sa, packet.sb, packet.sc) || isMapped(packet.da, packet.db, packet.dc)) return "malformed";
		return "ok";
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

export function opsOf(family: IpFamily): FamilyOps {
	return family === 4 ? IPV4 : IPV6;
}
