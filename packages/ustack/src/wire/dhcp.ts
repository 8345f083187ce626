import { ANY4, type IpAddress, readAddress } from "./address.ts";
import { get16, get32, put16, put32 } from "./bytes.ts";

/** Message types (RFC 2132 9.6). */
export const DHCP = { DISCOVER: 1, OFFER: 2, REQUEST: 3, DECLINE: 4, ACK: 5, NAK: 6, RELEASE: 7, INFORM: 8 } as const;

/** Option codes used here (RFC 2132, RFC 3442). */
export const DHCP_OPTION = {
	NETMASK: 1,
	ROUTER: 3,
	DNS: 6,
	HOST_NAME: 12,
	DOMAIN: 15,
	MTU: 26,
	BROADCAST: 28,
	REQUESTED: 50,
	LEASE: 51,
	OVERLOAD: 52,
	TYPE: 53,
	SERVER: 54,
	PARAMETERS: 55,
	MAX_SIZE: 57,
	RENEWAL: 58,
	REBINDING: 59,
	CLIENT_ID: 61,
	SEARCH: 119,
	CLASSLESS_ROUTES: 121,
} as const;

/** A BOOTP frame with DHCP options (RFC 2131 section 2). */
export interface DhcpMessage {
	/** 1 from a client, 2 from a server. */
	op: 1 | 2;
	xid: number;
	secs: number;
	broadcast: boolean;
	ciaddr: IpAddress;
	yiaddr: IpAddress;
	siaddr: IpAddress;
	giaddr: IpAddress;
	/** Six bytes. */
	chaddr: Uint8Array;
	options: Map<number, Uint8Array>;
}

const MAGIC = 0x63825363;
const FIXED = 240;
const SHORTEST = 300;

/** Parses a message over Ethernet; undefined when it is malformed or of other hardware. */
export function parseDhcp(bytes: Uint8Array): DhcpMessage | undefined {
	if (bytes.length < FIXED || (bytes[0] !== 1 && bytes[0] !== 2) || bytes[1] !== 1 || bytes[2] !== 6) return undefined;
	if (get32(bytes, 236) !== MAGIC) return undefined;
	const options = new Map<number, Uint8Array>();
	if (!readOptions(bytes, FIXED, bytes.length, options)) return undefined;
	const overload = options.get(DHCP_OPTION.OVERLOAD)?.[0] ?? 0;
	if ((overload & 1) !== 0 && !readOptions(bytes, 108, 236, options)) return undefined;
	if ((overload & 2) !== 0 && !readOptions(bytes, 44, 108, options)) return undefined;
	return {
		op: bytes[0],
		xid: get32(bytes, 4),
		secs: get16(bytes, 8),
		broadcast: (bytes[10]! & 0x80) !== 0,
		ciaddr: readAddress(bytes, 12, 4),
		yiaddr: readAddress(bytes, 16, 4),
		siaddr: readAddress(bytes, 20, 4),
		giaddr: readAddress(bytes, 24, 4),
		chaddr: bytes.slice(28, 34),
		options,
	};
}

/** Parts of one option follow each other (RFC 3396). */
function readOptions(bytes: Uint8Array, start: number, end: number, into: Map<number, Uint8Array>): boolean {
	let at = start;
	while (at < end) {
		const code = bytes[at]!;
		if (code === 255) return true;
		if (code === 0) {
			at++;
			continue;
		}
		if (at + 1 >= end || at + 2 + bytes[at + 1]! > end) return false;
		const part = bytes.slice(at + 2, at + 2 + bytes[at + 1]!);
		const known = into.get(code);
		if (known === undefined) into.set(code, part);
		else {
			const joined = new Uint8Array(known.length + part.length);
			joined.set(known);
			joined.set(part, known.length);
			into.set(code, joined);
		}
		at += 2 + part.length;
	}
	return true;
}

export function encodeDhcp(message: DhcpMessage): Uint8Array {
	let length = FIXED + 1;
	for (const data of message.options.values()) length += data.length + 2 * Math.max(1, Math.ceil(data.length / 255));
	const bytes = new Uint8Array(Math.max(length, SHORTEST));
	bytes[0] = message.op;
	bytes[1] = 1;
	bytes[2] = 6;
	put32(bytes, 4, message.xid);
	put16(bytes, 8, message.secs);
	if (message.broadcast) bytes[10] = 0x80;
	message.ciaddr.write(bytes, 12);
	message.yiaddr.write(bytes, 16);
	message.siaddr.write(bytes, 20);
	message.giaddr.write(bytes, 24);
	bytes.set(message.chaddr, 28);
	put32(bytes, 236, MAGIC);
	let at = FIXED;
	for (const [code, data] of message.options) {
		for (let from = 0; from === 0 || from < data.length; from += 255) {
			const part = data.subarray(from, from + 255);
			bytes[at] = code;
			bytes[at + 1] = part.length;
			bytes.set(part, at + 2);
			at += 2 + part.length;
		}
	}
	bytes[at] = 255;
	return bytes;
}

/** The message type, 0 for a plain BOOTP frame. */
export function dhcpType(message: DhcpMessage): number {
	return message.options.get(DHCP_OPTION.TYPE)?.[0] ?? 0;
}

/** An option's IPv4 addresses. */
export function optionAddresses(message: DhcpMessage, code: number): IpAddress[] {
	const data = message.options.get(code);
	const list: IpAddress[] = [];
	if (data !== undefined) for (let at = 0; at + 4 <= data.length; at += 4) list.push(readAddress(data, at, 4));
	return list;
}

/** An option that is one 32-bit number of seconds or the like. */
export function optionNumber(message: DhcpMessage, code: number): number | undefined {
	const data = message.options.get(code);
	return data?.length === 4 ? get32(data, 0) >>> 0 : undefined;
}

export function addressesOption(addresses: readonly IpAddress[]): Uint8Array {
	const data = new Uint8Array(addresses.length * 4);
	addresses.forEach((address, i) => {
		address.write(data, i * 4);
	});
	return data;
}

export function numberOption(value: number): Uint8Array {
	const data = new Uint8Array(4);
	put32(data, 0, value);
	return data;
}

/** An empty request of a client. */
export function dhcpRequest(xid: number, mac: Uint8Array, type: number): DhcpMessage {
	return {
		op: 1,
		xid,
		secs: 0,
		broadcast: false,
		ciaddr: ANY4,
		yiaddr: ANY4,
		siaddr: ANY4,
		giaddr: ANY4,
		chaddr: mac,
		options: new Map([[DHCP_OPTION.TYPE, Uint8Array.of(type)]]),
	};
}
