import { StackError } from "../errors.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { ACK, CWR, ECE, FIN, PSH, RST, SYN, URG } from "../wire/tcp.ts";
import type { ScriptOption, ScriptSegment } from "./script.ts";

/** The IPv4 addresses a script is run between, as 32-bit words. */
export interface DrillAddresses {
	/** The tested host's. */
	readonly local: number;
	readonly remote: number;
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
	readonly options: LiveOption[];
}

export interface LiveOption {
	kind: ScriptOption["kind"];
	values: number[];
	cookie?: string;
}

/** Reads an IPv4 packet with TCP in it; undefined for anything else. */
export function readLive(packet: Uint8Array, at: number): LiveSegment | undefined {
	if (packet[0]! >>> 4 !== 4 || packet[9] !== 6) return undefined;
	const l4 = (packet[0]! & 15) << 2;
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
		} else if (kind === 34) options.push({ kind: "FO", values: [], cookie: hex(o + 2) });
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
		length: get16(packet, 2) - end,
		ecn: packet[1]! & 3,
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
			default:
				throw new StackError("ERR_BAD_SCRIPT", `the TCP option "${option.cookie}" is not known here`);
		}
	}
	while (options.length % 4 !== 0) options.push(0);
	const header = 20 + options.length;
	const bytes = new Uint8Array(20 + header + segment.length);
	writeIp(bytes, addresses, 6, ECN_BITS[segment.ecn ?? "noecn"] ?? 0);
	put16(bytes, 20, ports[0]);
	put16(bytes, 22, ports[1]);
	put32(bytes, 24, seq);
	put32(bytes, 28, ack);
	bytes[32] = (header >> 2) << 4;
	bytes[33] = flagBits(segment.flags);
	put16(bytes, 34, window);
	bytes.set(options, 40);
	put16(bytes, 36, ~foldSum(sumBytes(bytes, 20, bytes.length - 20) + sumBytes(bytes, 12, 8) + 6 + bytes.length - 20));
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
	const bytes = new Uint8Array(20 + 8 + 20 + 20);
	writeIp(bytes, addresses, 1, 0);
	bytes[20] = type;
	bytes[21] = code;
	put16(bytes, 26, mtu);
	bytes[28] = 0x45;
	put16(bytes, 30, 40 + length);
	bytes[36] = 64;
	bytes[37] = 6;
	put32(bytes, 40, addresses.local);
	put32(bytes, 44, addresses.remote);
	put16(bytes, 48, ports[1]);
	put16(bytes, 50, ports[0]);
	put32(bytes, 52, seq);
	put16(bytes, 22, ~sumBytes(bytes, 20, bytes.length - 20));
	return bytes;
}

function writeIp(bytes: Uint8Array, addresses: DrillAddresses, protocol: number, tos: number): void {
	bytes[0] = 0x45;
	bytes[1] = tos;
	put16(bytes, 2, bytes.length);
	bytes[6] = 0x40;
	bytes[8] = 255;
	bytes[9] = protocol;
	put32(bytes, 12, addresses.remote);
	put32(bytes, 16, addresses.local);
	put16(bytes, 10, ~sumBytes(bytes, 0, 20));
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
