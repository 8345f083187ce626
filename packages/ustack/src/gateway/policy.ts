import { StackError } from "../errors.ts";
import { type Cidr, type IpAddress, parseCidr } from "../wire/address.ts";

/** Transport protocols a rule can name. */
export type PolicyProtocol = "tcp" | "udp" | "icmp";

/**
 * A rule: `[tcp|udp|icmp:]TARGET[:PORT[-PORT]]`, where TARGET is a host name, `*.suffix`, an address, a network or `*`.
 * IPv6 stands in brackets when a port follows.
 */
export interface PolicyRule {
	readonly text: string;
	readonly protocol: PolicyProtocol | undefined;
	/** Lower case; with `suffix` it matches names below it. */
	readonly name: string | undefined;
	readonly suffix: boolean;
	readonly network: Cidr | undefined;
	readonly firstPort: number;
	readonly lastPort: number;
}

/** What a guest wants to do. */
export interface EgressRequest {
	readonly protocol: PolicyProtocol;
	readonly source: IpAddress;
	readonly address: IpAddress;
	/** 0 for ICMP. */
	readonly port: number;
	/** Names that resolved to the address, as far as the gateway has seen. */
	readonly names: readonly string[];
}

/** Why a request was allowed or denied. */
export interface Verdict {
	readonly allowed: boolean;
	/** The rule's text, or `default`, `private`, `hook`. */
	readonly reason: string;
}

/** Options of {@link EgressPolicy}. */
export interface PolicyOptions {
	allow?: readonly string[];
	deny?: readonly string[];
	/** What no rule speaks of. @default "deny" with allow rules, else "allow" */
	default?: "allow" | "deny";
}

/** Closed unless a rule names the network: private, shared, link-local, loopback, test and reserved ranges. */
const CLOSED = [
	"0.0.0.0/8",
	"10.0.0.0/8",
	"100.64.0.0/10",
	"127.0.0.0/8",
	"169.254.0.0/16",
	"172.16.0.0/12",
	"192.0.0.0/24",
	"192.168.0.0/16",
	"198.18.0.0/15",
	"224.0.0.0/4",
	"240.0.0.0/4",
	"::/96",
	"64:ff9b:1::/48",
	"100::/64",
	"fc00::/7",
	"fe80::/10",
	"fec0::/10",
	"ff00::/8",
].map((text) => parseCidr(text)!);

const MAX_BOUND = 8192;
/** A resolved address stays bound this long beyond its TTL: guests keep connections and caches. */
const GRACE_MS = 600_000;

/**
 * @throws StackError `ERR_BAD_RULE` when the text is no rule
 */
export function parseRule(text: string): PolicyRule {
	let rest = text.trim().toLowerCase();
	let protocol: PolicyProtocol | undefined;
	const prefix = /^(tcp|udp|icmp):(?!:)/.exec(rest);
	if (prefix !== null) {
		protocol = prefix[1] as PolicyProtocol;
		rest = rest.slice(prefix[0].length);
	}
	let firstPort = 0;
	let lastPort = 65_535;
	const bracketed = /^\[([^\]]+)\](?::(.+))?$/.exec(rest);
	let ports: string | undefined;
	if (bracketed !== null) {
		rest = bracketed[1]!;
		ports = bracketed[2];
	} else if (rest.split(":").length === 2) {
		ports = rest.slice(rest.indexOf(":") + 1);
		rest = rest.slice(0, rest.indexOf(":"));
	}
	if (ports !== undefined && ports !== "*") {
		const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(ports);
		firstPort = range === null ? -1 : Number(range[1]);
		lastPort = range === null ? -1 : Number(range[2] ?? range[1]);
		if (firstPort < 1 || lastPort > 65_535 || firstPort > lastPort) {
			throw new StackError("ERR_BAD_RULE", `"${ports}" in rule "${text}" is no port or range of ports 1-65535`);
		}
	}
	const common = { text, protocol, firstPort, lastPort };
	if (rest === "*") return { ...common, name: undefined, suffix: false, network: undefined };
	const network = parseCidr(rest);
	if (network !== undefined) return { ...common, name: undefined, suffix: false, network };
	const suffix = rest.startsWith("*.");
	const name = (suffix ? rest.slice(2) : rest).replace(/\.$/, "");
	if (
		!/^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$/.test(name) ||
		/^[\d.]+$/.test(name)
	) {
		throw new StackError(
			"ERR_BAD_RULE",
			`"${rest}" in rule "${text}" is no host name, *.suffix, address, network or *`,
		);
	}
	return { ...common, name, suffix, network: undefined };
}

/** Whether a name rule speaks of `name`. */
export function ruleNames(rule: PolicyRule, name: string): boolean {
	if (rule.name === undefined) return false;
	return rule.suffix ? name.endsWith(`.${rule.name}`) : name === rule.name;
}

/** Who may be reached. Denials come first, then what is allowed by name or network; closed ranges need a network rule. */
export class EgressPolicy {
	readonly allow: PolicyRule[];
	readonly deny: PolicyRule[];
	readonly fallback: "allow" | "deny";
	private readonly bound = new Map<string, Map<string, number>>();

	constructor(options: PolicyOptions = {}) {
		this.allow = (options.allow ?? []).map(parseRule);
		this.deny = (options.deny ?? []).map(parseRule);
		this.fallback = options.default ?? (this.allow.length > 0 ? "deny" : "allow");
	}

	/** Remembers that `name` resolved to `address`. */
	bind(name: string, address: IpAddress, ttlSeconds: number, now: number): void {
		const key = address.toString();
		let names = this.bound.get(key);
		if (names === undefined) {
			if (this.bound.size >= MAX_BOUND) this.bound.delete(this.bound.keys().next().value!);
			names = new Map();
			this.bound.set(key, names);
		}
		if (names.size >= 64 && !names.has(name)) names.delete(names.keys().next().value!);
		names.set(name, now + ttlSeconds * 1000 + GRACE_MS);
	}

	/** The names bound to an address. */
	namesOf(address: IpAddress, now: number): string[] {
		const names = this.bound.get(address.toString());
		if (names === undefined) return [];
		for (const [name, until] of names) if (until <= now) names.delete(name);
		return [...names.keys()];
	}

	/** Whether a name may be asked for at all; an answer would be a way out for data otherwise. */
	nameAllowed(name: string): Verdict {
		for (const rule of this.deny) if (coversName(rule, name)) return { allowed: false, reason: rule.text };
		for (const rule of this.allow)
			if (coversName(rule, name) || (rule.name === undefined && rule.network === undefined))
				return { allowed: true, reason: rule.text };
		return { allowed: this.fallback === "allow", reason: "default" };
	}

	/** Whether some rule speaks of a name without being about one port only. */
	decide(request: EgressRequest): Verdict {
		for (const rule of this.deny) if (matches(rule, request)) return { allowed: false, reason: rule.text };
		const closed = isClosed(request.address);
		for (const rule of this.allow) {
			if (!matches(rule, request)) continue;
			// A name that resolves to a private address opens nothing (DNS rebinding); `*` means the public network.
			if (closed && rule.network === undefined) continue;
			return { allowed: true, reason: rule.text };
		}
		if (closed) return { allowed: false, reason: "private" };
		return { allowed: this.fallback === "allow", reason: "default" };
	}
}

function coversName(rule: PolicyRule, name: string): boolean {
	return ruleNames(rule, name) && (rule.protocol === undefined || rule.protocol !== "icmp");
}

/** Whether an address is in a range that is closed by default. */
export function isClosed(address: IpAddress): boolean {
	if (CLOSED.some((network) => network.contains(address))) return true;
	// IPv4 inside NAT64 and 6to4 is judged as what it means.
	if (address.family === 6 && address.a === 0x0064ff9b && address.b === 0 && address.c === 0)
		return isClosedWord(address.d);
	if (address.family === 6 && address.a >>> 16 === 0x2002)
		return isClosedWord(((address.a & 0xffff) << 16) | (address.b >>> 16));
	return false;
}

function isClosedWord(word: number): boolean {
	return CLOSED.some((network) => network.family === 4 && network.containsWords(0, 0, 0xffff, word | 0));
}

function matches(rule: PolicyRule, request: EgressRequest): boolean {
	if (rule.protocol !== undefined && rule.protocol !== request.protocol) return false;
	const onePort = rule.firstPort > 0 || rule.lastPort < 65_535;
	if (onePort && (request.port < rule.firstPort || request.port > rule.lastPort)) return false;
	if (rule.network !== undefined) return rule.network.contains(request.address);
	if (rule.name !== undefined) return request.names.some((name) => ruleNames(rule, name));
	return true;
}
