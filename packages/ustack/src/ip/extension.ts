import { PROTO_DSTOPTS, PROTO_FRAGMENT, PROTO_HOPOPTS, PROTO_ROUTING } from "../wire/constants.ts";
import type { Packet } from "./packet.ts";

/** What walking the IPv6 extension headers came to; with `problem`, where the Parameter Problem points and its code. */
export interface ExtensionWalk {
	result: "ok" | "fragment" | "drop" | "problem";
	pointer: number;
	code: number;
	/** Offset of the next-header byte that named the current header. */
	nextHeaderAt: number;
	/** A Router Alert option was seen (RFC 2711). */
	routerAlert: boolean;
}

/** More headers than any honest packet has. */
const MAX_HEADERS = 8;

/**
 * Steps `packet.l4` and `packet.protocol` over RFC 8200 section 4's headers up to a fragment header or the upper layer.
 *
 * @param fromL4 - true to go on behind a fragment header already dealt with
 */
export function walkExtensions(packet: Packet, walk: ExtensionWalk): void {
	const { bytes } = packet;
	walk.result = "ok";
	walk.nextHeaderAt = packet.l3 + 6;
	walk.routerAlert = false;
	for (let count = 0; ; count++) {
		const kind = packet.protocol;
		if (kind === PROTO_FRAGMENT) {
			walk.result = packet.l4 + 8 <= packet.end ? "fragment" : "drop";
			return;
		}
		if (kind !== PROTO_HOPOPTS && kind !== PROTO_ROUTING && kind !== PROTO_DSTOPTS) return;
		if (kind === PROTO_HOPOPTS && count > 0) {
			// Only directly behind the fixed header (RFC 8200 4.1).
			problem(walk, packet, walk.nextHeaderAt, 1);
			return;
		}
		if (count >= MAX_HEADERS || packet.l4 + 8 > packet.end) {
			walk.result = "drop";
			return;
		}
		const length = (bytes[packet.l4 + 1]! + 1) << 3;
		if (packet.l4 + length > packet.end) {
			walk.result = "drop";
			return;
		}
		if (kind === PROTO_ROUTING) {
			// RFC 5095 for type 0; any type we do not know with segments left ends here (RFC 8200 4.4).
			if (bytes[packet.l4 + 3] !== 0) {
				problem(walk, packet, packet.l4 + 2, 0);
				return;
			}
		} else if (!walkOptions(packet, packet.l4 + 2, packet.l4 + length, walk)) {
			return;
		}
		walk.nextHeaderAt = packet.l4;
		packet.protocol = bytes[packet.l4]!;
		packet.l4 += length;
	}
}

function problem(walk: ExtensionWalk, packet: Packet, at: number, code: number): void {
	walk.result = "problem";
	walk.pointer = at - packet.l3;
	walk.code = code;
}

/** RFC 8200 4.2: the high two bits of an unknown option say what to do. */
function walkOptions(packet: Packet, start: number, end: number, walk: ExtensionWalk): boolean {
	const { bytes } = packet;
	let at = start;
	while (at < end) {
		const kind = bytes[at]!;
		if (kind === 0) {
			at++;
			continue;
		}
		if (at + 1 >= end || at + 2 + bytes[at + 1]! > end) {
			walk.result = "drop";
			return false;
		}
		if (kind === 5) walk.routerAlert = true;
		else if (kind !== 1 && kind >>> 6 !== 0) {
			const action = kind >>> 6;
			if (action === 2 || (action === 3 && !packet.groupcast)) problem(walk, packet, at, 2);
			else walk.result = "drop";
			return false;
		}
		at += 2 + bytes[at + 1]!;
	}
	return true;
}
