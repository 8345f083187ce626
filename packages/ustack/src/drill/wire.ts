import { StackError } from "../errors.ts";
import type { IpAddress } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { ACK, CWR, ECE, FIN, PSH, RST, SYN, URG } from "../wire/tcp.ts";
import type { ScriptOption, ScriptSegment } from "./script.ts";

/** The addresses a script is run between. */
export interface DrillAddresses {
	/** The tested host's. */
	readonly local: IpAddress;
	readonly remote: IpAddress;
}

const FLAG_BITS: Record<string, number> = { S: SYN, F: FIN, R: RST, P: PSH, ".": ACK, U: URG, E: ECE, W: CWR, C: CWR };
const ECN_BITS: Record<string, number> = { noecn: 0, ect1: 1, ect0: 2, ce: 3 };

export function flagBits(text: string): number {
	let bits = 0;
	for (const char of text) bits |= FLAG_BITS[char] ?? 0;
	return bits;
}

/** A segment seen on the wire, with its options as offsets. */
export interface LiveSegment {
	readonly at: number;
	readonly sourcePort: number;
	readonly destinationPort: number;
	readonly seq: number;
	readonly ack: number;
	readonly flags: number;
	readonly window: number;
	readonly length: number;
	readonly ecn: number;
	readonly tos: number;
	readonly options: LiveOption[];
}

export interface LiveOption {
	kind: ScriptOption["kind"];
	values: number[];
	cookie?: string;
}

const IPV6_HEADER = 40;

/** Reads an IP packet with TCP in it; undefined for anything else. */
export function readLive(packet: Uint8Array, at: number): LiveSegment | undefined {
	const version = packet[0]! >>> 4;
	if (version === 4 ? packet[9] !== 6 : packet[6] !== 6) return undefined;
	const l4 = version === 4 ? (packet[0]! & 15) << 2 : IPV6_HEADER;
	const total = version === 4 ? get16(packet, 2) : IPV6_HEADER + get16(packet, 4);
	const tos = version === 4 ? packet[1]! : (get16(packet, 0) >> 4) & 0xff;
	const offset = (packet[l4 + 12]! >>> 4) << 2;
	const options: LiveOption[] = [];
	let o = l4 + 20;
	const end = l4 + offset;
	while (o < end) {
		const kind = packet[o]!;
		if (kind === 0 || kind === 1) {
			options.push({ kind: kind === 0 ? "eol" : "nop", values: [] });
			o++;
			continue;
		}
		const length = packet[o + 1]!;
		const hex = (from: number) =>
			[...packet.subarray(from, o + length)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
		if (kind === 2) options.push({ kind: "mss", values: [get16(packet, o + 2)] });
		else if (kind === 3) options.push({ kind: "wscale", values: [packet[o + 2]!] });
		else if (kind === 4) options.push({ kind: "sackOK", values: [] });
		else if (kind === 8) options.push({ kind: "TS", values: [get32(packet, o + 2) >>> 0, get32(packet, o + 6) >>> 0] });
		else if (kind === 5) {
			const values: number[] = [];
			for (let i = o + 2; i < o + length; i += 4) values.push(get32(packet, i));
			options.push({ kind: "sack", values });
		} else if (kind === 19) options.push({ kind: "md5", values: [], cookie: hex(o + 2) });
		else if (kind === 34) options.push({ kind: "FO", values: [], cookie: hex(o + 2) });
		else if (kind === 254) options.push({ kind: "FOEXP", values: [], cookie: hex(o + 4) });
		else options.push({ kind: "other", values: [] });
		o += length;
	}
	return {
		at,
		sourcePort: get16(packet, l4),
		destinationPort: get16(packet, l4 + 2),
		seq: get32(packet, l4 + 4),
		ack: get32(packet, l4 + 8),
		flags: packet[l4 + 13]!,
		window: get16(packet, l4 + 14),
		length: total - end,
		ecn: tos & 3,
		tos,
		options,
	};
}

/** Builds the packet a script sends in; `seq`, `ack`, sack edges and timestamps are absolute already. */
export function buildSegment(
	segment: ScriptSegment,
	addresses: DrillAddresses,
	ports: readonly [number, number],
	seq: number,
	ack: number,
	window: number,
	mapOption: (option: ScriptOption) => ScriptOption,
): Uint8Array {
	const options: number[] = [];
	const word = (value: number) =>
		options.push((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
	for (const raw of segment.options ?? []) {
		const option = mapOption(raw);
		const { values } = option;
		switch (option.kind) {
			case "nop":
				options.push(1);
				break;
			case "eol":
				options.push(0);
				break;
			case "mss":
				options.push(2, 4, values[0]! >>> 8, values[0]! & 255);
				break;
			case "wscale":
				options.push(3, 3, values[0]!);
				break;
			case "sackOK":
				options.push(4, 2);
				break;
			case "TS":
				options.push(8, 10);
				word(values[0]!);
				word(values[1]!);
				break;
			case "sack":
				options.push(5, 2 + values.length * 4);
				for (const value of values) word(value);
				break;
			case "FO":
			case "FOEXP": {
				const cookie = (option.cookie ?? "").match(/../g)?.map((pair) => Number.parseInt(pair, 16)) ?? [];
				if (option.kind === "FO") options.push(34, 2 + cookie.length, ...cookie);
				else options.push(254, 4 + cookie.length, 0xf9, 0x89, ...cookie);
				break;
			}
			case "md5": {
				const digest = (option.cookie ?? "").match(/../g)?.map((pair) => Number.parseInt(pair, 16)) ?? [];
				options.push(19, 2 + digest.length, ...digest);
				break;
			}
			default:
				throw new StackError("ERR_BAD_SCRIPT", `the TCP option "${option.cookie}" is not known here`);
		}
	}
	while (options.length % 4 !== 0) options.push(0);
	const header = 20 + options.length;
	const l4 = ipHeaderLength(addresses);
	const bytes = new Uint8Array(l4 + header + segment.length);
	writeIp(bytes, addresses, 6, ECN_BITS[segment.ecn ?? "noecn"] ?? 0);
	put16(bytes, l4, ports[0]);
	put16(bytes, l4 + 2, ports[1]);
	put32(bytes, l4 + 4, seq);
	put32(bytes, l4 + 8, ack);
	bytes[l4 + 12] = (header >> 2) << 4;
	bytes[l4 + 13] = flagBits(segment.flags);
	put16(bytes, l4 + 14, window);
	put16(bytes, l4 + 18, segment.urgent);
	bytes.set(options, l4 + 20);
	put16(bytes, l4 + 16, ~foldSum(sumBytes(bytes, l4, bytes.length - l4) + pseudoSum(bytes, 6, bytes.length - l4)));
	return bytes;
}

/** Builds an ICMP error quoting a segment the tested host sent. */
export function buildIcmp(
	type: number,
	code: number,
	mtu: number,
	addresses: DrillAddresses,
	ports: readonly [number, number],
	seq: number,
	length: number,
): Uint8Array {
	const v4 = addresses.local.family === 4;
	const l3 = ipHeaderLength(addresses);
	const quoted = l3 + 8;
	const bytes = new Uint8Array(quoted + l3 + 20);
	writeIp(bytes, addresses, v4 ? 1 : 58, 0);
	bytes[l3] = type;
	bytes[l3 + 1] = code;
	if (v4) put16(bytes, l3 + 6, mtu);
	else put32(bytes, l3 + 4, mtu);
	const quote = bytes.subarray(quoted);
	writeIp(quote, { local: addresses.remote, remote: addresses.local }, 6, 0, 20 + length);
	put16(quote, l3, ports[1]);
	put16(quote, l3 + 2, ports[0]);
	put32(quote, l3 + 4, seq);
	const sum = sumBytes(bytes, l3, bytes.length - l3) + (v4 ? 0 : pseudoSum(bytes, 58, bytes.length - l3));
	put16(bytes, l3 + 2, ~foldSum(sum));
	return bytes;
}

function ipHeaderLength(addresses: DrillAddresses): number {
	return addresses.local.family === 4 ? 20 : IPV6_HEADER;
}

/** Sum of the pseudo-header of a packet from the scripted side. */
function pseudoSum(bytes: Uint8Array, protocol: number, length: number): number {
	const v4 = bytes[0]! >>> 4 === 4;
	return (v4 ? sumBytes(bytes, 12, 8) : sumBytes(bytes, 8, 32)) + protocol + length;
}

/** The header of a packet from `remote` to `local`. */
function writeIp(
	bytes: Uint8Array,
	addresses: DrillAddresses,
	protocol: number,
	tos: number,
	payload: number = bytes.length - ipHeaderLength(addresses),
): void {
	const { local, remote } = addresses;
	if (local.family === 4) {
		bytes[0] = 0x45;
		bytes[1] = tos;
		put16(bytes, 2, 20 + payload);
		bytes[6] = 0x40;
		bytes[8] = 255;
		bytes[9] = protocol;
		put32(bytes, 12, remote.d);
		put32(bytes, 16, local.d);
		put16(bytes, 10, ~sumBytes(bytes, 0, 20));
		return;
	}
	put16(bytes, 0, 0x6000 | (tos << 4));
	put16(bytes, 4, payload);
	bytes[6] = protocol;
	bytes[7] = 255;
	for (const [at, address] of [
		[8, remote],
		[24, local],
	] as const) {
		put32(bytes, at, address.a);
		put32(bytes, at + 4, address.b);
		put32(bytes, at + 8, address.c);
		put32(bytes, at + 12, address.d);
	}
}

/** A live segment in the notation of scripts, for messages. */
export function describe(live: LiveSegment, seqBase: number, ackBase: number): string {
	const flags = [..."SFRP.UEW"].filter((char) => (live.flags & FLAG_BITS[char]!) !== 0).join("");
	const seq = (live.seq - seqBase) | 0;
	const options = live.options
		.map((option) =>
			`${option.kind} ${option.values.map((value) => (option.kind === "sack" ? (value - ackBase) | 0 : value)).join(" ")}${option.cookie ?? ""}`.trim(),
		)
		.join(",");
	const ack = (live.flags & ACK) !== 0 ? ` ack ${(live.ack - ackBase) | 0}` : "";
	return `${flags} ${seq}:${seq + live.length}(${live.length})${ack} win ${live.window}${options === "" ? "" : ` <${options}>`}`;
}
