import { StackError } from "../errors.ts";
import { get32, put32 } from "./bytes.ts";

/** `4` or `6`. */
export type IpFamily = 4 | 6;

const MAPPED = 0xffff;

/**
 * An IP address of either family as four 32-bit words; IPv4 is held as `::ffff:a.b.c.d`, so that tables, hashes and
 * prefixes have one code for both. Immutable.
 */
export class IpAddress {
	readonly a: number;
	readonly b: number;
	readonly c: number;
	readonly d: number;
	readonly family: IpFamily;

	constructor(a: number, b: number, c: number, d: number) {
		this.a = a | 0;
		this.b = b | 0;
		this.c = c | 0;
		this.d = d | 0;
		this.family = this.a === 0 && this.b === 0 && this.c === MAPPED ? 4 : 6;
	}

	equals(other: IpAddress): boolean {
		return this.d === other.d && this.c === other.c && this.b === other.b && this.a === other.a;
	}

	/** `0.0.0.0` or `::`. */
	get isUnspecified(): boolean {
		return this.d === 0 && this.a === 0 && this.b === 0 && (this.c === 0 || this.c === MAPPED);
	}

	get isMulticast(): boolean {
		return this.family === 4 ? this.d >>> 28 === 0xe : this.a >>> 24 === 0xff;
	}

	get isLoopback(): boolean {
		return this.family === 4 ? this.d >>> 24 === 127 : this.a === 0 && this.b === 0 && this.c === 0 && this.d === 1;
	}

	/** 169.254.0.0/16 or fe80::/10. */
	get isLinkLocal(): boolean {
		return this.family === 4 ? this.d >>> 16 === 0xa9fe : this.a >>> 22 === 0x3fa;
	}

	/** 255.255.255.255. */
	get isBroadcast(): boolean {
		return this.family === 4 && this.d === -1;
	}

	/** Writes 4 or 16 bytes. */
	write(bytes: Uint8Array, at: number): void {
		if (this.family === 4) {
			put32(bytes, at, this.d);
			return;
		}
		put32(bytes, at, this.a);
		put32(bytes, at + 4, this.b);
		put32(bytes, at + 8, this.c);
		put32(bytes, at + 12, this.d);
	}

	/** Dotted quad, or RFC 5952's canonical IPv6 text. */
	toString(): string {
		if (this.family === 4) return quad(this.d);
		const groups: number[] = [];
		for (const word of [this.a, this.b, this.c, this.d]) groups.push((word >>> 16) & 0xffff, word & 0xffff);
		let best = -1;
		let bestLength = 1;
		for (let i = 0; i < 8; i++) {
			let length = 0;
			while (i + length < 8 && groups[i + length] === 0) length++;
			if (length > bestLength) {
				best = i;
				bestLength = length;
			}
			if (length > 0) i += length;
		}
		const hex = (from: number, to: number) =>
			groups
				.slice(from, to)
				.map((group) => group.toString(16))
				.join(":");
		return best < 0 ? hex(0, 8) : `${hex(0, best)}::${hex(best + bestLength, 8)}`;
	}
}

function quad(word: number): string {
	return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

/** An IPv4 address from its 32-bit number. */
export function ipv4FromNumber(word: number): IpAddress {
	return new IpAddress(0, 0, MAPPED, word);
}

/** An address as 4 or 16 bytes. */
export function addressBytes(address: IpAddress): Uint8Array {
	const bytes = new Uint8Array(address.family === 4 ? 4 : 16);
	address.write(bytes, 0);
	return bytes;
}

/** Reads 4 or 16 bytes. */
export function readAddress(bytes: Uint8Array, at: number, family: IpFamily): IpAddress {
	if (family === 4) return ipv4FromNumber(get32(bytes, at));
	return new IpAddress(get32(bytes, at), get32(bytes, at + 4), get32(bytes, at + 8), get32(bytes, at + 12));
}

export const ANY4: IpAddress = /* @__PURE__ */ ipv4FromNumber(0);
export const ANY6: IpAddress = /* @__PURE__ */ new IpAddress(0, 0, 0, 0);
export const BROADCAST4: IpAddress = /* @__PURE__ */ ipv4FromNumber(-1);
export const LOOPBACK4: IpAddress = /* @__PURE__ */ ipv4FromNumber(0x7f000001);
export const LOOPBACK6: IpAddress = /* @__PURE__ */ new IpAddress(0, 0, 0, 1);

function parseQuad(text: string): number | undefined {
	const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
	if (match === null) return undefined;
	let word = 0;
	for (let i = 1; i <= 4; i++) {
		const part = match[i]!;
		if (part.length > 1 && part[0] === "0") return undefined;
		const byte = Number(part);
		if (byte > 255) return undefined;
		word = (word << 8) | byte;
	}
	return word;
}

/** Reads an address literal, undefined when the text is none it knows. */
export type AddressParser = (text: string) => IpAddress | undefined;

/** An {@link AddressParser} of IPv4 alone, for stacks that have no more. */
export function parseAddress4(text: string): IpAddress | undefined {
	const word = parseQuad(text);
	return word === undefined ? undefined : ipv4FromNumber(word);
}

/** Parses an address literal of either family; undefined when `text` is none. A zone (`%eth0`) is not part of it. */
export function parseAddress(text: string): IpAddress | undefined {
	const v4 = parseAddress4(text);
	if (v4 !== undefined) return v4;
	if (!text.includes(":") || text.length > 45) return undefined;
	let source = text;
	const dot = source.lastIndexOf(".");
	if (dot >= 0) {
		const colon = source.lastIndexOf(":");
		const tail = parseQuad(source.slice(colon + 1));
		if (tail === undefined) return undefined;
		source = `${source.slice(0, colon + 1)}${((tail >>> 16) & 0xffff).toString(16)}:${(tail & 0xffff).toString(16)}`;
	}
	const halves = source.split("::");
	if (halves.length > 2) return undefined;
	const groupsOf = (part: string): number[] | undefined => {
		if (part === "") return [];
		const groups: number[] = [];
		for (const group of part.split(":")) {
			if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
			groups.push(Number.parseInt(group, 16));
		}
		return groups;
	};
	const head = groupsOf(halves[0]!);
	const tail = halves.length === 2 ? groupsOf(halves[1]!) : [];
	if (head === undefined || tail === undefined) return undefined;
	const missing = 8 - head.length - tail.length;
	if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
	const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
	const word = (i: number) => (groups[i]! << 16) | groups[i + 1]!;
	return new IpAddress(word(0), word(2), word(4), word(6));
}

/** What an API takes for an address: text or a parsed one. */
export type AddressLike = string | IpAddress;

/**
 * @throws StackError `ERR_BAD_ADDRESS` when the text is no address
 */
export function toAddress(value: AddressLike): IpAddress {
	return addressBy(value, parseAddress);
}

/** {@link toAddress} with a parser of one's own. */
export function addressBy(value: AddressLike, parse: AddressParser): IpAddress {
	if (value instanceof IpAddress) return value;
	const parsed = parse(value);
	if (parsed === undefined) {
		throw new StackError("ERR_BAD_ADDRESS", `"${value}" is no IP address; expected e.g. 10.0.0.1 or fd00::1`);
	}
	return parsed;
}

/** An address with a prefix length, `10.0.0.1/24` or `fd00::1/64`. */
export class Cidr {
	/** The address as given, host bits kept. */
	readonly address: IpAddress;
	/** Prefix length in the address's own family: 0..32 or 0..128. */
	readonly prefix: number;
	private readonly bits: number;

	constructor(address: IpAddress, prefix: number) {
		this.address = address;
		this.prefix = prefix;
		this.bits = address.family === 4 ? prefix + 96 : prefix;
	}

	get family(): IpFamily {
		return this.address.family;
	}

	contains(other: IpAddress): boolean {
		const { address, bits } = this;
		return (
			other.family === address.family &&
			samePrefix(other.a, address.a, bits) &&
			samePrefix(other.b, address.b, bits - 32) &&
			samePrefix(other.c, address.c, bits - 64) &&
			samePrefix(other.d, address.d, bits - 96)
		);
	}

	/** The first address: host bits cleared. */
	get network(): IpAddress {
		const { address, bits } = this;
		return new IpAddress(
			address.a & maskOf(bits),
			address.b & maskOf(bits - 32),
			address.c & maskOf(bits - 64),
			address.d & maskOf(bits - 96),
		);
	}

	/** The directed broadcast address of an IPv4 network. */
	get broadcast(): IpAddress {
		return ipv4FromNumber(this.address.d | ~maskOf(this.prefix));
	}

	toString(): string {
		return `${this.address}/${this.prefix}`;
	}
}

/** A word with its first `bits` bits set. */
export function maskOf(bits: number): number {
	return bits <= 0 ? 0 : bits >= 32 ? -1 : ~(0xffffffff >>> bits);
}

function samePrefix(x: number, y: number, bits: number): boolean {
	return bits <= 0 || ((x ^ y) & maskOf(bits)) === 0;
}

/** Parses `ADDRESS/PREFIX`, or a bare address as a host; undefined when it is neither. */
export function parseCidr(text: string): Cidr | undefined {
	return parseCidrBy(text, parseAddress);
}

function parseCidrBy(text: string, parse: AddressParser): Cidr | undefined {
	const slash = text.indexOf("/");
	const address = parse(slash < 0 ? text : text.slice(0, slash));
	if (address === undefined) return undefined;
	const longest = address.family === 4 ? 32 : 128;
	if (slash < 0) return new Cidr(address, longest);
	const prefix = text.slice(slash + 1);
	if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > longest) return undefined;
	return new Cidr(address, Number(prefix));
}

/**
 * @throws StackError `ERR_BAD_ADDRESS` when the text is no `ADDRESS/PREFIX`
 */
export function toCidr(value: string | Cidr): Cidr {
	return cidrBy(value, parseAddress);
}

/** {@link toCidr} with a parser of one's own. */
export function cidrBy(value: string | Cidr, parse: AddressParser): Cidr {
	if (value instanceof Cidr) return value;
	const parsed = parseCidrBy(value, parse);
	if (parsed === undefined) {
		throw new StackError("ERR_BAD_ADDRESS", `"${value}" is no network; expected e.g. 10.0.0.1/24 or fd00::1/64`);
	}
	return parsed;
}
