import { StackError } from "../errors.ts";
import { type IpAddress, parseAddress } from "../wire/address.ts";
import { put16 } from "../wire/bytes.ts";
import { addressRecord, DNS_TYPE, type DnsRecord, encodeName, recordName } from "../wire/dns.ts";

/** A record of a zone: an address, or another type with its RFC 1035 text (`10 mail.example`, `0 5 443 host.example`). */
export type ZoneRecord =
	| string
	| { readonly type: "CNAME" | "NS" | "PTR" | "MX" | "SRV" | "TXT"; readonly value: string; readonly ttl?: number };

/** What zones say to a question. */
export interface ZoneAnswer {
	/** False when the name does not exist under a zone that does. */
	readonly exists: boolean;
	readonly records: DnsRecord[];
	/** Where the chain of aliases leaves the zones; undefined when it does not. */
	readonly beyond: string | undefined;
}

interface Entry {
	readonly type: number;
	readonly ttl: number;
	readonly data: Uint8Array;
}

const TTL = 60;
const MAX_CHAIN = 8;
const LONGEST_STRING = 255;

/** Names that are answered without asking anybody: `name`, or `*.suffix` for whatever is below (RFC 4592). */
export class Zones {
	private readonly names = new Map<string, Entry[]>();

	/**
	 * Adds or replaces a name; no records remove it.
	 *
	 * @throws StackError `ERR_BAD_OPTION` naming the record that is wrong
	 */
	set(name: string, records: readonly ZoneRecord[]): void {
		const key = name.toLowerCase().replace(/\.$/, "");
		if (encodeName(key) === undefined)
			throw new StackError("ERR_BAD_OPTION", `zone name "${name}" is no domain name; expected e.g. web.internal`);
		if (records.length === 0) this.names.delete(key);
		else
			this.names.set(
				key,
				records.map((record) => entryOf(name, record)),
			);
	}

	/** Answers a question, following aliases; undefined when no zone speaks of the name. */
	lookup(name: string, type: number): ZoneAnswer | undefined {
		const records: DnsRecord[] = [];
		let owner = name;
		for (let i = 0; i < MAX_CHAIN; i++) {
			const entries = this.entriesOf(owner);
			if (entries === undefined) {
				if (i > 0) return { exists: true, records, beyond: owner };
				return this.isInside(name) ? { exists: false, records, beyond: undefined } : undefined;
			}
			for (const entry of entries)
				if (entry.type === type || type === DNS_TYPE.ANY) records.push({ ...entry, name: owner, class: 1 });
			const alias = entries.find((entry) => entry.type === DNS_TYPE.CNAME);
			if (alias === undefined || type === DNS_TYPE.CNAME || type === DNS_TYPE.ANY) break;
			const record = { ...alias, name: owner, class: 1 };
			records.push(record);
			owner = recordName(record)!;
		}
		return { exists: true, records, beyond: undefined };
	}

	/** The name itself, else the closest wildcard; a name between hides wildcards above it. */
	private entriesOf(name: string): Entry[] | undefined {
		const exact = this.names.get(name);
		if (exact !== undefined) return exact;
		for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
			const wild = this.names.get(`*${name.slice(dot)}`);
			if (wild !== undefined) return wild;
			if (this.names.has(name.slice(dot + 1))) return undefined;
		}
		return undefined;
	}

	/** Below a name of a zone: what is not there does not exist, and nobody else is asked. */
	private isInside(name: string): boolean {
		for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1))
			if (this.names.has(name.slice(dot + 1))) return true;
		return false;
	}
}

function entryOf(name: string, record: ZoneRecord): Entry {
	const fail = (what: string): never => {
		throw new StackError("ERR_BAD_OPTION", `record "${what}" of zone name "${name}" is wrong`);
	};
	if (typeof record === "string") {
		const address: IpAddress | undefined = parseAddress(record);
		if (address === undefined) return fail(record);
		const { type, data } = addressRecord(name, address, TTL);
		return { type, data, ttl: TTL };
	}
	const { type, value } = record;
	const ttl = record.ttl ?? TTL;
	const words = value.trim().split(/\s+/);
	const prefixWords = type === "MX" ? 1 : type === "SRV" ? 3 : 0;
	if (type === "TXT") {
		const bytes = new TextEncoder().encode(value);
		const parts: number[] = [];
		for (let at = 0; at === 0 || at < bytes.length; at += LONGEST_STRING) {
			const part = bytes.subarray(at, at + LONGEST_STRING);
			parts.push(part.length, ...part);
		}
		return { type: DNS_TYPE.TXT, data: Uint8Array.from(parts), ttl };
	}
	const target = encodeName((words[prefixWords] ?? "").toLowerCase());
	const numbers = words.slice(0, prefixWords).map(Number);
	if (target === undefined || words.length !== prefixWords + 1 || words[prefixWords] === "") return fail(value);
	if (numbers.some((number) => !Number.isInteger(number) || number < 0 || number > 65_535)) return fail(value);
	const data = new Uint8Array(prefixWords * 2 + target.length);
	numbers.forEach((number, i) => {
		put16(data, i * 2, number);
	});
	data.set(target, prefixWords * 2);
	return { type: DNS_TYPE[type], data, ttl };
}
