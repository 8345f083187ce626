import { parseAddress } from "./address.ts";
import { ChannelError } from "./errors.ts";
import type { FlowMatch } from "./match.ts";
import type { PacketKey } from "./packet.ts";

/** What a `nat` channel writes into packets. What is left out stays. */
export interface NatTarget {
	/** New destination address, of the family the channel matches. */
	local?: string;
	/** New source address. */
	remote?: string;
	/** New destination port. */
	localPort?: number;
	/** New source port. */
	remotePort?: number;
}

/** A target ready to be written. */
export interface NatRewrite {
	readonly family: 4 | 6 | 0;
	readonly local: Uint8Array | undefined;
	readonly remote: Uint8Array | undefined;
	readonly localPort: number | undefined;
	readonly remotePort: number | undefined;
}

function bytesOf(text: string | undefined): { family: 4 | 6; bytes: Uint8Array } | undefined {
	if (text === undefined) return undefined;
	const { family, words } = parseAddress(text);
	return {
		family,
		bytes: Uint8Array.from(words.flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255])),
	};
}

/**
 * Checks a target.
 *
 * @throws ChannelError `EINVAL`
 */
export function compileNat(target: NatTarget): NatRewrite {
	const local = bytesOf(target.local);
	const remote = bytesOf(target.remote);
	for (const [name, port] of [
		["localPort", target.localPort],
		["remotePort", target.remotePort],
	] as const) {
		if (port !== undefined && (!Number.isInteger(port) || port < 0 || port > 65535)) {
			throw new ChannelError("EINVAL", `the target's ${name} is ${port}: expected a whole number from 0 to 65535`);
		}
	}
	if (local !== undefined && remote !== undefined && local.family !== remote.family) {
		throw new ChannelError(
			"EINVAL",
			`the target's local ${target.local} and remote ${target.remote} are of different families`,
		);
	}
	const { localPort, remotePort } = target;
	if (local === undefined && remote === undefined && localPort === undefined && remotePort === undefined) {
		throw new ChannelError("EINVAL", "the target changes nothing: give an address or a port");
	}
	return {
		family: local?.family ?? remote?.family ?? 0,
		local: local?.bytes,
		remote: remote?.bytes,
		localPort,
		remotePort,
	};
}

/**
 * The match and target that undo a rewrite for the packets that come back, when the match is exact where the target
 * writes.
 */
export function reverseNat(match: FlowMatch, target: NatTarget): { match: FlowMatch; target: NatTarget } {
	const pick = <T>(value: T | undefined, name: string): T => {
		if (value === undefined)
			throw new ChannelError(
				"EINVAL",
				`a nat channel that rewrites ${name} must match it exactly, so that answers can be undone`,
			);
		return value;
	};
	const back: FlowMatch = {};
	const undo: NatTarget = {};
	if (match.protocol !== undefined) back.protocol = match.protocol;
	if (match.vlan !== undefined) back.vlan = match.vlan;
	// The answer's destination is what the packet's source became, and the other way round.
	const destination = target.remote ?? match.remote;
	const source = target.local ?? match.local;
	if (destination !== undefined) back.local = destination;
	if (source !== undefined) back.remote = source;
	const destinationPort = target.remotePort ?? match.remotePort;
	const sourcePort = target.localPort ?? match.localPort;
	if (destinationPort !== undefined) back.localPort = destinationPort;
	if (sourcePort !== undefined) back.remotePort = sourcePort;
	if (target.remote !== undefined) undo.local = pick(match.remote, "remote");
	if (target.local !== undefined) undo.remote = pick(match.local, "local");
	if (target.remotePort !== undefined) undo.localPort = pick(match.remotePort, "remotePort");
	if (target.localPort !== undefined) undo.remotePort = pick(match.localPort, "localPort");
	for (const address of [undo.local, undo.remote]) if (address !== undefined) parseAddress(address);
	return { match: back, target: undo };
}

/** Updates a checksum field for bytes that change at an even distance from it (RFC 1624, equation 3). */
function adjust(packet: Uint8Array, field: number, before: Uint8Array, after: Uint8Array): void {
	let sum = ~((packet[field]! << 8) | packet[field + 1]!) & 0xffff;
	for (let at = 0; at < before.length; at += 2) {
		sum += ~((before[at]! << 8) | before[at + 1]!) & 0xffff;
		sum += (after[at]! << 8) | after[at + 1]!;
	}
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	const value = ~sum & 0xffff;
	packet[field] = value >> 8;
	packet[field + 1] = value;
}

const TCP = 6;
const UDP = 17;
const ICMP6 = 58;

/** Byte offset of the transport checksum that covers the addresses, or -1. */
function transportChecksum(key: PacketKey, packet: Uint8Array): number {
	if (key.laterFragment) return -1;
	const offset =
		key.protocol === TCP ? 16 : key.protocol === UDP ? 6 : key.protocol === ICMP6 && key.family === 6 ? 2 : -1;
	if (offset < 0 || key.transport + offset + 2 > packet.length) return -1;
	const at = key.transport + offset;
	// RFC 768: an IPv4 UDP packet may have no checksum, written as zero.
	if (key.protocol === UDP && key.family === 4 && packet[at] === 0 && packet[at + 1] === 0) return -1;
	return at;
}

/**
 * Rewrites a packet in place, its IPv4 header and TCP, UDP and ICMPv6 checksums included.
 *
 * @param partial - whether the transport checksum holds only the pseudo-header's sum (`needsCsum`)
 * @returns false when the packet is not of the target's family; it is unchanged then
 */
export function rewritePacket(packet: Uint8Array, key: PacketKey, rewrite: NatRewrite, partial = false): boolean {
	if (key.family === 0 || (rewrite.family !== 0 && rewrite.family !== key.family)) return false;
	const checksum = transportChecksum(key, packet);
	const write = (at: number, after: Uint8Array, inHeader: boolean): void => {
		const before = packet.slice(at, at + after.length);
		if (inHeader && key.family === 4) adjust(packet, key.network + 10, before, after);
		if (checksum >= 0) {
			// A pseudo-header sum is stored uncomplemented and covers no ports.
			if (!partial) adjust(packet, checksum, before, after);
			else if (inHeader) adjust(packet, checksum, after, before);
		}
		packet.set(after, at);
	};
	const [source, destination] = key.family === 4 ? [12, 16] : [8, 24];
	if (rewrite.remote !== undefined) write(key.network + source, rewrite.remote, true);
	if (rewrite.local !== undefined) write(key.network + destination, rewrite.local, true);
	if (!key.laterFragment && key.hasPorts) {
		if (rewrite.remotePort !== undefined)
			write(key.transport, Uint8Array.of(rewrite.remotePort >> 8, rewrite.remotePort & 255), false);
		if (rewrite.localPort !== undefined)
			write(key.transport + 2, Uint8Array.of(rewrite.localPort >> 8, rewrite.localPort & 255), false);
	}
	if (checksum >= 0 && !partial && key.protocol === UDP && packet[checksum] === 0 && packet[checksum + 1] === 0) {
		packet[checksum] = packet[checksum + 1] = 0xff;
	}
	return true;
}
