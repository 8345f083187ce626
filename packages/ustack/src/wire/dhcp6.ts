import { IpAddress, readAddress } from "./address.ts";
import { get16, get32, put16, put32 } from "./bytes.ts";
import { encodeName } from "./dns.ts";

/** Message types (RFC 8415 7.3). */
export const DHCP6 = {
	SOLICIT: 1,
	ADVERTISE: 2,
	REQUEST: 3,
	CONFIRM: 4,
	RENEW: 5,
	REBIND: 6,
	REPLY: 7,
	RELEASE: 8,
	DECLINE: 9,
	INFORMATION_REQUEST: 11,
} as const;

/** Option codes used here (RFC 8415 21, RFC 3646). */
export const DHCP6_OPTION = {
	CLIENT_ID: 1,
	SERVER_ID: 2,
	IA_NA: 3,
	IA_TA: 4,
	IA_ADDRESS: 5,
	REQUEST: 6,
	ELAPSED: 8,
	STATUS: 13,
	RAPID_COMMIT: 14,
	DNS: 23,
	DOMAINS: 24,
	IA_PD: 25,
} as const;

/** Status codes (RFC 8415 21.13). */
export const DHCP6_STATUS = {
	SUCCESS: 0,
	NO_ADDRESSES: 2,
	NO_BINDING: 3,
	NOT_ON_LINK: 4,
	NO_PREFIX: 6,
} as const;

/** All_DHCP_Relay_Agents_and_Servers. */
export const DHCP6_SERVERS: IpAddress = /* @__PURE__ */ new IpAddress(0xff020000, 0, 0, 0x00010002);
export const DHCP6_CLIENT_PORT = 546;
export const DHCP6_SERVER_PORT = 547;

/** One option: its code and contents, in order. */
export interface Dhcp6Option {
	readonly code: number;
	readonly data: Uint8Array;
}

/** A message between client and server (RFC 8415 8). */
export interface Dhcp6Message {
	type: number;
	/** 24 bits. */
	transaction: number;
	options: Dhcp6Option[];
}

/** An association of non-temporary addresses (RFC 8415 21.4). */
export interface Association {
	readonly id: number;
	/** Seconds. */
	readonly t1: number;
	readonly t2: number;
	readonly addresses: readonly { address: IpAddress; preferred: number; valid: number }[];
	readonly status: number;
}

const MAX_OPTIONS = 64;

/** Options in a row; undefined when one reaches beyond the end. */
export function parseDhcp6Options(bytes: Uint8Array): Dhcp6Option[] | undefined {
	const options: Dhcp6Option[] = [];
	for (let at = 0; at < bytes.length; ) {
		if (at + 4 > bytes.length || options.length >= MAX_OPTIONS) return undefined;
		const end = at + 4 + get16(bytes, at + 2);
		if (end > bytes.length) return undefined;
		options.push({ code: get16(bytes, at), data: bytes.slice(at + 4, end) });
		at = end;
	}
	return options;
}

/** Parses a message of client or server; undefined when it is malformed or a relay's. */
export function parseDhcp6(bytes: Uint8Array): Dhcp6Message | undefined {
	if (bytes.length < 4 || bytes[0] === 0 || bytes[0]! > DHCP6.INFORMATION_REQUEST) return undefined;
	const options = parseDhcp6Options(bytes.subarray(4));
	return options === undefined ? undefined : { type: bytes[0]!, transaction: get32(bytes, 0) & 0xffffff, options };
}

export function encodeDhcp6Options(options: readonly Dhcp6Option[]): Uint8Array {
	const bytes = new Uint8Array(options.reduce((sum, { data }) => sum + 4 + data.length, 0));
	let at = 0;
	for (const { code, data } of options) {
		put16(bytes, at, code);
		put16(bytes, at + 2, data.length);
		bytes.set(data, at + 4);
		at += 4 + data.length;
	}
	return bytes;
}

export function encodeDhcp6(message: Dhcp6Message): Uint8Array {
	const options = encodeDhcp6Options(message.options);
	const bytes = new Uint8Array(4 + options.length);
	put32(bytes, 0, (message.type << 24) | (message.transaction & 0xffffff));
	bytes.set(options, 4);
	return bytes;
}

/** The first option of a code. */
export function dhcp6Option(message: Dhcp6Message, code: number): Uint8Array | undefined {
	return message.options.find((option) => option.code === code)?.data;
}

/** A status code option's number; success where there is none. */
export function dhcp6Status(options: readonly Dhcp6Option[]): number {
	const data = options.find(({ code }) => code === DHCP6_OPTION.STATUS)?.data;
	return data === undefined || data.length < 2 ? DHCP6_STATUS.SUCCESS : get16(data, 0);
}

export function statusOption(status: number, text: string): Dhcp6Option {
	const data = new Uint8Array(2 + text.length);
	put16(data, 0, status);
	data.set(new TextEncoder().encode(text), 2);
	return { code: DHCP6_OPTION.STATUS, data };
}

/** Reads the contents of an IA_NA option. */
export function parseAssociation(data: Uint8Array): Association | undefined {
	if (data.length < 12) return undefined;
	const options = parseDhcp6Options(data.subarray(12));
	if (options === undefined) return undefined;
	const addresses: { address: IpAddress; preferred: number; valid: number }[] = [];
	for (const { code, data: body } of options) {
		if (code !== DHCP6_OPTION.IA_ADDRESS) continue;
		const inner = body.length < 24 ? undefined : parseDhcp6Options(body.subarray(24));
		if (inner === undefined) return undefined;
		const preferred = get32(body, 16) >>> 0;
		const valid = get32(body, 20) >>> 0;
		// RFC 8415 21.6: preferred longer than valid is to be thrown away.
		if (preferred > valid || dhcp6Status(inner) !== DHCP6_STATUS.SUCCESS) continue;
		addresses.push({ address: readAddress(body, 0, 6), preferred, valid });
	}
	return {
		id: get32(data, 0) >>> 0,
		t1: get32(data, 4) >>> 0,
		t2: get32(data, 8) >>> 0,
		addresses,
		status: dhcp6Status(options),
	};
}

/** An IA_NA option. */
export function associationOption(association: Omit<Association, "status">, status?: Dhcp6Option): Dhcp6Option {
	const inner: Dhcp6Option[] = association.addresses.map(({ address, preferred, valid }) => {
		const data = new Uint8Array(24);
		address.write(data, 0);
		put32(data, 16, preferred);
		put32(data, 20, valid);
		return { code: DHCP6_OPTION.IA_ADDRESS, data };
	});
	if (status !== undefined) inner.push(status);
	const body = encodeDhcp6Options(inner);
	const data = new Uint8Array(12 + body.length);
	put32(data, 0, association.id);
	put32(data, 4, association.t1);
	put32(data, 8, association.t2);
	data.set(body, 12);
	return { code: DHCP6_OPTION.IA_NA, data };
}

/** The addresses of a DNS servers option (RFC 3646 3). */
export function dhcp6Addresses(data: Uint8Array | undefined): IpAddress[] {
	const list: IpAddress[] = [];
	if (data !== undefined) for (let at = 0; at + 16 <= data.length; at += 16) list.push(readAddress(data, at, 6));
	return list;
}

export function addressList(addresses: readonly IpAddress[]): Uint8Array {
	const data = new Uint8Array(addresses.length * 16);
	addresses.forEach((address, i) => {
		address.write(data, i * 16);
	});
	return data;
}

/** A search list (RFC 3646 4); names that are none are left out. */
export function domainList(domains: readonly string[]): Uint8Array {
	return Uint8Array.from(domains.flatMap((domain) => [...(encodeName(domain) ?? [])]));
}

/** The identifier of a host by its MAC (DUID-LL, RFC 8415 11.4). */
export function duidOf(mac: Uint8Array): Uint8Array {
	return Uint8Array.of(0, 3, 0, 1, ...mac);
}
