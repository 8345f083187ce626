import { type ParsedPrefix, parsePrefix } from "./address.ts";
import { ChannelError } from "./errors.ts";
import type { PacketKey } from "./packet.ts";

/** Whose packets a channel takes, seen from the receiver. What is left out matches everything. */
export interface FlowMatch {
	/** Destination of received packets: `10.0.0.1`, `10.0.0.0/8`, `2001:db8::1`, `fe80::/10`. */
	local?: string;
	/** Source of received packets. */
	remote?: string;
	/** Transport protocol by name or IANA number. */
	protocol?: "icmp" | "tcp" | "udp" | "icmp6" | "sctp" | number;
	localPort?: number;
	remotePort?: number;
	/** VLAN identifier of the outer tag, 0 for untagged packets only. */
	vlan?: number;
	/** Only IPv4 or only IPv6, where no address says so. */
	family?: 4 | 6;
	/** Frames of one EtherType that is not IP's, for example 0x0806; excludes every field above. */
	etherType?: number;
}

/** One family's form of a match: a packet matches when `words & mask` equals `data`. */
export interface FlowPattern {
	readonly family: 0 | 4 | 6;
	readonly data: Int32Array;
	readonly mask: Int32Array;
}

/** Words of a pattern by family: addresses, ports, protocol with VLAN; for family 0 the EtherType. */
export const PATTERN_WORDS: { readonly 0: number; readonly 4: number; readonly 6: number } = { 0: 1, 4: 4, 6: 10 };

const PROTOCOLS: Record<string, number> = { icmp: 1, tcp: 6, udp: 17, icmp6: 58, sctp: 132 };

/** Words that follow the addresses: ports (local high), and protocol in bits 0-7 with the VLAN in bits 8-20. */
export const portsWord = (family: 4 | 6): number => (family === 4 ? 2 : 8);

function requireRange(name: string, value: number | undefined, most: number): void {
	if (value !== undefined && (!Number.isInteger(value) || value < 0 || value > most)) {
		throw new ChannelError("EINVAL", `${name} is ${value}: expected a whole number from 0 to ${most}`);
	}
}

function pattern(family: 4 | 6, match: FlowMatch, local?: ParsedPrefix, remote?: ParsedPrefix): FlowPattern {
	const words = PATTERN_WORDS[family];
	const data = new Int32Array(words);
	const mask = new Int32Array(words);
	const each = family === 4 ? 1 : 4;
	if (local !== undefined) {
		data.set(local.words, 0);
		mask.set(local.mask, 0);
	}
	if (remote !== undefined) {
		data.set(remote.words, each);
		mask.set(remote.mask, each);
	}
	const ports = portsWord(family);
	if (match.localPort !== undefined) {
		data[ports]! |= match.localPort << 16;
		mask[ports]! |= 0xffff0000;
	}
	if (match.remotePort !== undefined) {
		data[ports]! |= match.remotePort;
		mask[ports]! |= 0xffff;
	}
	if (match.protocol !== undefined) {
		data[ports + 1]! |= typeof match.protocol === "number" ? match.protocol : PROTOCOLS[match.protocol]!;
		mask[ports + 1]! |= 0xff;
	}
	if (match.vlan !== undefined) {
		data[ports + 1]! |= match.vlan === 0 ? 0 : (0x1000 | match.vlan) << 8;
		mask[ports + 1]! |= 0x1fff00;
	}
	return { family, data, mask };
}

/**
 * The patterns a match stands for: one for each address family it allows.
 *
 * @throws ChannelError `EINVAL`
 */
export function toPatterns(match: FlowMatch): FlowPattern[] {
	requireRange("localPort", match.localPort, 65535);
	requireRange("remotePort", match.remotePort, 65535);
	requireRange("vlan", match.vlan, 4095);
	requireRange("etherType", match.etherType, 65535);
	if (typeof match.protocol === "number") requireRange("protocol", match.protocol, 255);
	else if (match.protocol !== undefined && !Object.hasOwn(PROTOCOLS, match.protocol)) {
		throw new ChannelError(
			"EINVAL",
			`protocol is ${match.protocol}: expected ${Object.keys(PROTOCOLS).join(", ")} or a number`,
		);
	}
	if (match.etherType !== undefined) {
		if (Object.entries(match).some(([key, value]) => key in FIELDS && value !== undefined)) {
			throw new ChannelError("EINVAL", "etherType selects frames that are not IP: leave the addresses and ports out");
		}
		return [{ family: 0, data: Int32Array.of(match.etherType), mask: Int32Array.of(0xffff) }];
	}
	const local = match.local === undefined ? undefined : parsePrefix(match.local);
	const remote = match.remote === undefined ? undefined : parsePrefix(match.remote);
	const said = [local?.family, remote?.family, match.family].filter((family) => family !== undefined);
	if (new Set(said).size > 1) {
		throw new ChannelError(
			"EINVAL",
			`local ${match.local}, remote ${match.remote} and family ${match.family} do not agree`,
		);
	}
	const families: (4 | 6)[] = said.length > 0 ? [said[0]!] : [4, 6];
	return families.map((family) => pattern(family, match, local, remote));
}

const FIELDS: Record<keyof Omit<FlowMatch, "etherType">, true> = {
	local: true,
	remote: true,
	protocol: true,
	localPort: true,
	remotePort: true,
	vlan: true,
	family: true,
};

/** Checks a pattern of the caller's own: sizes fit the family, and data has no bit outside the mask. */
export function requirePattern(given: FlowPattern): FlowPattern {
	const words = PATTERN_WORDS[given.family];
	if (words === undefined || given.data.length !== words || given.mask.length !== words) {
		throw new ChannelError("EINVAL", `a pattern of family ${given.family} has ${words ?? "no known number of"} words`);
	}
	return {
		family: given.family,
		mask: given.mask.slice(),
		data: given.data.map((word, index) => word & given.mask[index]!),
	};
}

/** Writes a packet's key as words that patterns are compared with. */
export function writeKeyWords(target: Int32Array, key: PacketKey): void {
	const addresses = key.family === 4 ? 2 : 8;
	for (let index = 0; index < addresses; index++) target[index] = key.address[index]!;
	target[addresses] = key.ports;
	target[addresses + 1] = key.protocol | (key.vlan << 8);
}
