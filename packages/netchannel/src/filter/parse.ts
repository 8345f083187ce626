import { type ParsedPrefix, parsePrefix } from "../channel/address.ts";
import { FilterError } from "./errors.ts";

/** Which end of a packet a test looks at. */
export type FilterEnd = "src" | "dst" | "either" | "both";

/** A parsed expression. */
export type FilterNode =
	| { kind: "and" | "or"; left: FilterNode; right: FilterNode }
	| { kind: "not"; of: FilterNode }
	| { kind: "etherType"; value: number }
	/** IPv4, IPv6 or, without a family, both. */
	| { kind: "protocol"; value: number; family: 4 | 6 | undefined }
	| { kind: "address"; end: FilterEnd; prefix: ParsedPrefix; family: 4 | 6 | "arp" | undefined }
	| { kind: "ports"; end: FilterEnd; low: number; high: number; protocols: readonly number[] }
	| { kind: "mac"; end: FilterEnd; address: readonly number[] }
	| { kind: "group"; only: "broadcast" | "multicast" }
	| { kind: "length"; least: number; most: number }
	| { kind: "vlan"; id: number | undefined };

interface Token {
	readonly text: string;
	readonly at: number;
}

const PROTOCOLS: Record<string, number> = { icmp: 1, igmp: 2, tcp: 6, udp: 17, esp: 50, ah: 51, icmp6: 58, sctp: 132 };
const FAMILY_OF: Record<string, 4 | 6> = { icmp: 4, igmp: 4, icmp6: 6 };
const ETHER_TYPES: Record<string, number> = { ip: 0x0800, arp: 0x0806, rarp: 0x8035, ip6: 0x86dd };
const PORTED = [6, 17, 132];
const MOST_TOKENS = 1024;

function tokenize(expression: string): Token[] {
	const tokens: Token[] = [];
	const pattern = /\s+|&&|\|\||[()!]|[A-Za-z0-9_.:/-]+/gy;
	while (pattern.lastIndex < expression.length) {
		const at = pattern.lastIndex;
		const match = pattern.exec(expression);
		if (match === null) throw new FilterError(at, `unexpected ${JSON.stringify(expression[at])}`);
		if (match[0].trim() !== "") tokens.push({ text: match[0], at });
		if (tokens.length > MOST_TOKENS) throw new FilterError(at, `more than ${MOST_TOKENS} words`);
	}
	return tokens;
}

/** Recursive descent over pcap-filter(7)'s commoner half. */
class Parser {
	private readonly tokens: readonly Token[];
	private readonly length: number;
	private next = 0;
	private depth = 0;

	constructor(expression: string) {
		this.tokens = tokenize(expression);
		this.length = expression.length;
	}

	parse(): FilterNode {
		const node = this.alternatives();
		if (this.next < this.tokens.length) throw this.unexpected("and, or, or the end");
		return node;
	}

	/** `and` and `or` have the same precedence and group to the left, as in pcap-filter(7). */
	private alternatives(): FilterNode {
		let left = this.unary();
		for (;;) {
			const kind = this.accept("and", "&&") ? "and" : this.accept("or", "||") ? "or" : undefined;
			if (kind === undefined) return left;
			left = { kind, left, right: this.unary() };
		}
	}

	private unary(): FilterNode {
		if (++this.depth > 64) throw this.unexpected("fewer nested parentheses and nots");
		try {
			if (this.accept("not", "!")) return { kind: "not", of: this.unary() };
			if (!this.accept("(")) return this.primitive();
			const node = this.alternatives();
			if (!this.accept(")")) throw this.unexpected(")");
			return node;
		} finally {
			this.depth--;
		}
	}

	private primitive(): FilterNode {
		const word = this.peek();
		if (word === "less" || word === "greater") {
			this.next++;
			const value = this.number(65535);
			return { kind: "length", least: word === "greater" ? value : 0, most: word === "less" ? value : 2 ** 32 - 1 };
		}
		if (this.accept("broadcast")) return { kind: "group", only: "broadcast" };
		if (this.accept("multicast")) return { kind: "group", only: "multicast" };
		if (this.accept("vlan"))
			return { kind: "vlan", id: /^\d+$/.test(this.peek() ?? "") ? this.number(4095) : undefined };
		if (this.accept("ether")) return this.ether();
		return this.qualified();
	}

	private ether(): FilterNode {
		if (this.accept("broadcast")) return { kind: "group", only: "broadcast" };
		if (this.accept("multicast")) return { kind: "group", only: "multicast" };
		if (this.accept("proto")) {
			const named = ETHER_TYPES[this.peek() ?? ""];
			if (named !== undefined) {
				this.next++;
				return { kind: "etherType", value: named };
			}
			return { kind: "etherType", value: this.number(65535) };
		}
		const end = this.end();
		this.accept("host");
		const at = this.tokens[this.next];
		const parts = at?.text.split(/[:-]/) ?? [];
		if (parts.length !== 6 || !parts.every((part) => /^[0-9a-fA-F]{1,2}$/.test(part)))
			throw this.unexpected("a MAC address");
		this.next++;
		return { kind: "mac", end, address: parts.map((part) => Number.parseInt(part, 16)) };
	}

	private qualified(): FilterNode {
		const start = this.next;
		const word = this.peek() ?? "";
		const etherType = Object.hasOwn(ETHER_TYPES, word) ? ETHER_TYPES[word] : undefined;
		const protocol = Object.hasOwn(PROTOCOLS, word) ? PROTOCOLS[word] : undefined;
		if (etherType !== undefined || protocol !== undefined) this.next++;
		if ((word === "ip" || word === "ip6") && this.accept("proto")) {
			const named = PROTOCOLS[this.peek() ?? ""];
			if (named !== undefined) this.next++;
			return { kind: "protocol", value: named ?? this.number(255), family: word === "ip" ? 4 : 6 };
		}
		const continues = ["src", "dst", "host", "net", "port", "portrange"].includes(this.peek() ?? "");
		if (!continues && etherType !== undefined) return { kind: "etherType", value: etherType };
		if (!continues && protocol !== undefined) return { kind: "protocol", value: protocol, family: FAMILY_OF[word] };
		if (!continues && word === "proto") {
			this.next++;
			const named = PROTOCOLS[this.peek() ?? ""];
			if (named !== undefined) this.next++;
			return { kind: "protocol", value: named ?? this.number(255), family: undefined };
		}
		const end = this.end();
		if (this.accept("port")) return this.ports(start, end, protocol, false);
		if (this.accept("portrange")) return this.ports(start, end, protocol, true);
		const family = word === "ip" ? 4 : word === "ip6" ? 6 : word === "arp" ? "arp" : undefined;
		if (protocol !== undefined || word === "rarp") throw this.unexpected("port or portrange");
		if (this.accept("net")) return this.address(end, family, true);
		const bare = this.accept("host") || end !== "either" || /^[0-9a-fA-F:.]+$/.test(this.peek() ?? "");
		if (!bare) throw this.unexpected("a test such as host, net, port, tcp, arp or vlan");
		return this.address(end, family, false);
	}

	private ports(start: number, end: FilterEnd, protocol: number | undefined, range: boolean): FilterNode {
		if (protocol !== undefined && !PORTED.includes(protocol)) {
			throw new FilterError(this.tokens[start]!.at, `${this.tokens[start]!.text} has no ports`);
		}
		const protocols = protocol === undefined ? PORTED : [protocol];
		if (!range) {
			const value = this.number(65535);
			return { kind: "ports", end, low: value, high: value, protocols };
		}
		const match = /^(\d{1,5})-(\d{1,5})$/.exec(this.peek() ?? "");
		const [low, high] = [Number(match?.[1]), Number(match?.[2])];
		if (match === null || low > high || high > 65535) throw this.unexpected("LOW-HIGH");
		this.next++;
		return { kind: "ports", end, low, high, protocols };
	}

	private address(end: FilterEnd, family: 4 | 6 | "arp" | undefined, net: boolean): FilterNode {
		const token = this.tokens[this.next];
		if (token === undefined) throw this.unexpected(net ? "ADDRESS/LENGTH" : "an address");
		let prefix: ParsedPrefix;
		try {
			prefix = parsePrefix(token.text);
		} catch {
			throw this.unexpected(net ? "ADDRESS/LENGTH" : "an IPv4 or IPv6 address");
		}
		if (!net && token.text.includes("/")) throw this.unexpected("an address without a length (or net)");
		const wanted = family === "arp" ? 4 : family;
		if (wanted !== undefined && wanted !== prefix.family) throw this.unexpected(`an IPv${wanted} address`);
		this.next++;
		return { kind: "address", end, prefix, family };
	}

	/** `src`, `dst`, `src or dst`, `src and dst`, or neither. */
	private end(): FilterEnd {
		const first = this.accept("src") ? "src" : this.accept("dst") ? "dst" : undefined;
		if (first === undefined) return "either";
		const other = first === "src" ? "dst" : "src";
		const joiner = this.peek();
		if ((joiner === "or" || joiner === "and") && this.tokens[this.next + 1]?.text === other) {
			this.next += 2;
			return joiner === "or" ? "either" : "both";
		}
		return first;
	}

	private number(most: number): number {
		const text = this.peek() ?? "";
		const value = /^(\d{1,10}|0x[0-9a-fA-F]{1,8})$/.test(text) ? Number(text) : Number.NaN;
		if (!(value <= most)) throw this.unexpected(`a number from 0 to ${most}`);
		this.next++;
		return value;
	}

	private peek(): string | undefined {
		return this.tokens[this.next]?.text;
	}

	private accept(...words: string[]): boolean {
		if (!words.includes(this.peek() ?? "")) return false;
		this.next++;
		return true;
	}

	private unexpected(expected: string): FilterError {
		const token = this.tokens[this.next];
		return new FilterError(
			token?.at ?? this.length,
			`expected ${expected}, found ${token === undefined ? "the end" : JSON.stringify(token.text)}`,
		);
	}
}

/** Parses an expression; an empty one matches everything and is undefined. @throws FilterError */
export function parseFilter(expression: string): FilterNode | undefined {
	return expression.trim() === "" ? undefined : new Parser(expression).parse();
}
