import { addressBytes, type IpAddress, readAddress } from "./address.ts";
import { get16, get32, put16, put32 } from "./bytes.ts";

/** Record types used here, by number (RFC 1035 3.2.2, RFC 3596, RFC 2782, RFC 6891). */
export const DNS_TYPE = {
	A: 1,
	NS: 2,
	CNAME: 5,
	SOA: 6,
	PTR: 12,
	MX: 15,
	TXT: 16,
	AAAA: 28,
	SRV: 33,
	OPT: 41,
	ANY: 255,
} as const;

/** Response codes. */
export const DNS_RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

export interface DnsQuestion {
	/** Lower case, without the last dot. */
	name: string;
	type: number;
	class: number;
}

export interface DnsRecord {
	name: string;
	type: number;
	class: number;
	/** Seconds. */
	ttl: number;
	/** Uncompressed RDATA. */
	data: Uint8Array;
}

/** A message of RFC 1035 section 4. */
export interface DnsMessage {
	id: number;
	response: boolean;
	opcode: number;
	authoritative: boolean;
	truncated: boolean;
	recursionDesired: boolean;
	recursionAvailable: boolean;
	rcode: number;
	questions: DnsQuestion[];
	answers: DnsRecord[];
	authorities: DnsRecord[];
	additionals: DnsRecord[];
}

const MAX_NAME = 255;
const MAX_JUMPS = 32;
const MAX_RECORDS = 512;

/** Reads a possibly compressed name; undefined when malformed. */
function readName(bytes: Uint8Array, start: number): { name: string; next: number } | undefined {
	let at = start;
	let next = -1;
	let name = "";
	for (let jumps = 0; ; ) {
		if (at >= bytes.length) return undefined;
		const length = bytes[at]!;
		if (length === 0) return { name, next: next < 0 ? at + 1 : next };
		if (length >= 0xc0) {
			if (at + 1 >= bytes.length || ++jumps > MAX_JUMPS) return undefined;
			if (next < 0) next = at + 2;
			at = ((length & 0x3f) << 8) | bytes[at + 1]!;
			continue;
		}
		if (length > 63 || at + 1 + length > bytes.length) return undefined;
		let label = "";
		for (let i = at + 1; i <= at + length; i++) {
			const byte = bytes[i]!;
			const upper = byte >= 65 && byte <= 90;
			label +=
				byte === 46 || byte === 92 || byte < 33 || byte > 126
					? `\\${String(byte).padStart(3, "0")}`
					: String.fromCharCode(upper ? byte + 32 : byte);
		}
		name += name === "" ? label : `.${label}`;
		if (name.length > MAX_NAME * 4) return undefined;
		at += length + 1;
	}
}

/** Encodes a name without compression; undefined when a label is too long or empty. */
export function encodeName(name: string): Uint8Array | undefined {
	const out: number[] = [];
	if (name !== "" && name !== ".") {
		for (const label of name.replace(/\.$/, "").split(".")) {
			const bytes: number[] = [];
			for (let i = 0; i < label.length; i++) {
				const escaped = /^\\(\d{3})/.exec(label.slice(i));
				if (escaped !== null && Number(escaped[1]) < 256) {
					bytes.push(Number(escaped[1]));
					i += 3;
				} else bytes.push(label.charCodeAt(i) & 0xff);
			}
			if (bytes.length === 0 || bytes.length > 63) return undefined;
			out.push(bytes.length, ...bytes);
		}
	}
	out.push(0);
	return out.length > MAX_NAME ? undefined : Uint8Array.from(out);
}

/** RDATA with names in it, made free of compression. */
function plainData(bytes: Uint8Array, at: number, length: number, type: number): Uint8Array | undefined {
	const prefix = type === DNS_TYPE.MX ? 2 : type === DNS_TYPE.SRV ? 6 : 0;
	const names =
		type === DNS_TYPE.SOA
			? 2
			: type === DNS_TYPE.NS || type === DNS_TYPE.CNAME || type === DNS_TYPE.PTR || prefix > 0
				? 1
				: 0;
	if (names === 0) return bytes.slice(at, at + length);
	const parts: Uint8Array[] = [bytes.slice(at, at + prefix)];
	let position = at + prefix;
	for (let i = 0; i < names; i++) {
		const name = readName(bytes, position);
		const encoded = name === undefined ? undefined : encodeName(name.name);
		if (name === undefined || encoded === undefined || name.next > at + length) return undefined;
		parts.push(encoded);
		position = name.next;
	}
	parts.push(bytes.slice(position, at + length));
	const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
	let to = 0;
	for (const part of parts) {
		all.set(part, to);
		to += part.length;
	}
	return all;
}

/** Parses a message; undefined when it is malformed in any part. */
export function parseDns(bytes: Uint8Array): DnsMessage | undefined {
	if (bytes.length < 12) return undefined;
	const flags = get16(bytes, 2);
	const message: DnsMessage = {
		id: get16(bytes, 0),
		response: (flags & 0x8000) !== 0,
		opcode: (flags >>> 11) & 15,
		authoritative: (flags & 0x400) !== 0,
		truncated: (flags & 0x200) !== 0,
		recursionDesired: (flags & 0x100) !== 0,
		recursionAvailable: (flags & 0x80) !== 0,
		rcode: flags & 15,
		questions: [],
		answers: [],
		authorities: [],
		additionals: [],
	};
	const counts = [get16(bytes, 4), get16(bytes, 6), get16(bytes, 8), get16(bytes, 10)];
	if (counts[0]! + counts[1]! + counts[2]! + counts[3]! > MAX_RECORDS) return undefined;
	let at = 12;
	for (let i = 0; i < counts[0]!; i++) {
		const name = readName(bytes, at);
		if (name === undefined || name.next + 4 > bytes.length) return undefined;
		message.questions.push({ name: name.name, type: get16(bytes, name.next), class: get16(bytes, name.next + 2) });
		at = name.next + 4;
	}
	for (const [section, list] of [message.answers, message.authorities, message.additionals].entries()) {
		for (let i = 0; i < counts[section + 1]!; i++) {
			const name = readName(bytes, at);
			if (name === undefined || name.next + 10 > bytes.length) return undefined;
			const type = get16(bytes, name.next);
			const length = get16(bytes, name.next + 8);
			const from = name.next + 10;
			if (from + length > bytes.length) return undefined;
			const data = plainData(bytes, from, length, type);
			if (data === undefined) return undefined;
			list.push({
				name: name.name,
				type,
				class: get16(bytes, name.next + 2),
				ttl: get32(bytes, name.next + 4) >>> 0,
				data,
			});
			at = from + length;
		}
	}
	return message;
}

/** Encodes a message; owner names that repeat the first question's are compressed. Undefined for a bad name. */
export function encodeDns(message: DnsMessage): Uint8Array | undefined {
	const parts: Uint8Array[] = [];
	const head = new Uint8Array(12);
	put16(head, 0, message.id);
	put16(
		head,
		2,
		(message.response ? 0x8000 : 0) |
			(message.opcode << 11) |
			(message.authoritative ? 0x400 : 0) |
			(message.truncated ? 0x200 : 0) |
			(message.recursionDesired ? 0x100 : 0) |
			(message.recursionAvailable ? 0x80 : 0) |
			message.rcode,
	);
	const sections = [message.answers, message.authorities, message.additionals];
	put16(head, 4, message.questions.length);
	sections.forEach((list, i) => {
		put16(head, 6 + i * 2, list.length);
	});
	parts.push(head);
	for (const question of message.questions) {
		const name = encodeName(question.name);
		if (name === undefined) return undefined;
		const tail = new Uint8Array(4);
		put16(tail, 0, question.type);
		put16(tail, 2, question.class);
		parts.push(name, tail);
	}
	const first = message.questions[0]?.name;
	for (const list of sections) {
		for (const record of list) {
			const name = record.name === first && first !== "" ? Uint8Array.of(0xc0, 12) : encodeName(record.name);
			if (name === undefined) return undefined;
			const fixed = new Uint8Array(10);
			put16(fixed, 0, record.type);
			put16(fixed, 2, record.class);
			put32(fixed, 4, record.ttl);
			put16(fixed, 8, record.data.length);
			parts.push(name, fixed, record.data);
		}
	}
	const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
	let at = 0;
	for (const part of parts) {
		all.set(part, at);
		at += part.length;
	}
	return all;
}

/** A query for one name. */
export function dnsQuery(id: number, name: string, type: number): DnsMessage {
	return {
		id,
		response: false,
		opcode: 0,
		authoritative: false,
		truncated: false,
		recursionDesired: true,
		recursionAvailable: false,
		rcode: 0,
		questions: [{ name: name.toLowerCase().replace(/\.$/, ""), type, class: 1 }],
		answers: [],
		authorities: [],
		additionals: [],
	};
}

/** The answer to a query, empty as yet. */
export function dnsReply(query: DnsMessage, rcode: number): DnsMessage {
	return {
		...query,
		response: true,
		authoritative: false,
		truncated: false,
		recursionAvailable: true,
		rcode,
		answers: [],
		authorities: [],
		additionals: [],
	};
}

/** An address record. */
export function addressRecord(name: string, address: IpAddress, ttl: number): DnsRecord {
	return { name, type: address.family === 4 ? DNS_TYPE.A : DNS_TYPE.AAAA, class: 1, ttl, data: addressBytes(address) };
}

/** The address of an A or AAAA record; undefined for others. */
export function recordAddress(record: DnsRecord): IpAddress | undefined {
	if (record.type === DNS_TYPE.A && record.data.length === 4) return readAddress(record.data, 0, 4);
	if (record.type === DNS_TYPE.AAAA && record.data.length === 16) return readAddress(record.data, 0, 6);
	return undefined;
}

/** The one name in a CNAME, NS or PTR record. */
export function recordName(record: DnsRecord): string | undefined {
	return readName(record.data, 0)?.name;
}

/**
 * The pseudo-record of EDNS (RFC 6891 6.1.2).
 *
 * @param size - bytes of UDP payload its sender takes
 * @param rcode - a response code above 15, or 0
 */
export function optRecord(size: number, rcode: number): DnsRecord {
	return { name: "", type: DNS_TYPE.OPT, class: size, ttl: (rcode >>> 4) << 24, data: new Uint8Array(0) };
}
