import type { IpAddress } from "../wire/address.ts";
import { isEncryptedResolver, isEncryptedResolverAddress } from "./encrypted-dns.ts";
import { isClosed } from "./ranges.ts";
import {
	matchesTransport,
	namesPorts,
	type PolicyProtocol,
	type PolicyRule,
	type PolicyRuleLike,
	parseRule,
	ruleNames,
} from "./rule.ts";

/** What a guest wants to do, for the rules. */
export interface EgressFlow {
	readonly protocol: PolicyProtocol;
	readonly address: IpAddress;
	/** 0 for ICMP. */
	readonly port: number;
	/** Names the gateway's resolver gave this guest the address for. */
	readonly names: readonly string[];
	/** The address is one of the host's own. */
	readonly hostItself?: boolean;
}

/** Why a request was allowed or denied. */
export interface Verdict {
	readonly allowed: boolean;
	/**
	 * The rule's text; `default`; `private` for a closed range or the host itself; `encrypted-dns`, `quic`, `hook`,
	 * `timeout` or `limit`.
	 */
	readonly reason: string;
	/**
	 * What a TCP connection's first bytes must show (TLS's server name, HTTP's Host): `allowed` when a name rule let it
	 * through, so that the name must be one a rule allows; `not-denied` when only a name that a rule denies ends it.
	 */
	readonly check?: "allowed" | "not-denied";
}

/**
 * Options of {@link EgressPolicy}, plain data. In this order:
 *
 * 1. A deny rule that matches denies, whatever else there is.
 * 2. An allow rule that matches allows. Closed ranges (private, loopback, link-local, CGNAT, multicast, unique local …,
 *    also inside NAT64 and 6to4) and the host's own addresses are opened by a rule with a network only: `*` means the
 *    public network, and a public name that resolves to a private address opens nothing.
 * 3. Closed ranges and the host itself are denied.
 * 4. `default`.
 *
 * A name rule matches the addresses that the gateway's own resolver gave this guest for the name, until their TTL is
 * over. Where one let a TCP connection through, its first bytes must agree: TLS's server name, or the Host of every
 * HTTP request, has to be a name that a rule allows for that port; on ports 443 and 80 nothing but TLS and HTTP passes.
 * A TLS hello with a name that is encrypted (ECH) is refused unless `allowEncryptedHello`. UDP to port 443 (QUIC, whose
 * name cannot be seen) needs a rule that says `udp:`.
 *
 * With name rules in force, other resolvers are no way round: DNS to any server is answered by the gateway; port 853 and
 * the well-known DNS-over-HTTPS servers are closed unless a rule names them.
 */
export interface PolicyOptions {
	readonly allow?: readonly PolicyRuleLike[];
	readonly deny?: readonly PolicyRuleLike[];
	/** What no rule speaks of. @default "deny" with allow rules, else "allow" */
	readonly default?: "allow" | "deny";
	/**
	 * Let TLS hellos through whose server name may be another, encrypted one (RFC 9849's extension; browsers send it
	 * also without meaning it). @default false
	 */
	readonly allowEncryptedHello?: boolean;
}

const DNS_OVER_TLS = 853;
const HTTPS = 443;

/** Who may be reached; see {@link PolicyOptions} for the order. Immutable. */
export class EgressPolicy {
	readonly allow: readonly PolicyRule[];
	readonly deny: readonly PolicyRule[];
	readonly fallback: "allow" | "deny";
	readonly allowEncryptedHello: boolean;
	/** Some rule speaks of names. */
	readonly hasNames: boolean;
	private readonly deniesNames: boolean;
	/** Allow rules with those first that ask for no further check. */
	private readonly byReach: readonly PolicyRule[];

	constructor(options: PolicyOptions = {}) {
		this.allow = (options.allow ?? []).map(parseRule);
		this.deny = (options.deny ?? []).map(parseRule);
		this.fallback = options.default ?? (this.allow.length > 0 ? "deny" : "allow");
		this.allowEncryptedHello = options.allowEncryptedHello ?? false;
		this.deniesNames = this.deny.some((rule) => rule.name !== undefined);
		this.byReach = [
			...this.allow.filter((rule) => rule.name === undefined),
			...this.allow.filter((rule) => rule.name !== undefined),
		];
		this.hasNames = this.deniesNames || this.allow.some((rule) => rule.name !== undefined);
	}

	/** Whether a name may be asked for at all: a query is a way out for data. */
	nameAllowed(name: string): Verdict {
		for (const rule of this.deny) {
			// A rule about one port or protocol leaves the name itself alone.
			if (rule.protocol === undefined && !namesPorts(rule) && (ruleNames(rule, name) || isEverything(rule)))
				return { allowed: false, reason: rule.text };
		}
		for (const rule of this.allow) if (ruleNames(rule, name)) return { allowed: true, reason: rule.text };
		if (this.hasNames && isEncryptedResolver(name)) return { allowed: false, reason: "encrypted-dns" };
		for (const rule of this.allow) if (isEverything(rule)) return { allowed: true, reason: rule.text };
		return { allowed: this.fallback === "allow", reason: "default" };
	}

	/** Whether a flow may be. */
	decide(flow: EgressFlow): Verdict {
		const { protocol, port, address, names } = flow;
		let ambiguous = false;
		for (const rule of this.deny) {
			if (!matchesTransport(rule, protocol, port)) continue;
			if (rule.name === undefined) {
				if (rule.network === undefined || rule.network.contains(address)) return { allowed: false, reason: rule.text };
				continue;
			}
			const named = names.filter((name) => ruleNames(rule, name)).length;
			// An address that another name has as well is decided by what the connection says, if it can say it.
			if (named === names.length || protocol !== "tcp") {
				if (named > 0) return { allowed: false, reason: rule.text };
			} else if (named > 0) ambiguous = true;
		}
		const closed = flow.hostItself === true || isClosed(address);
		let refused: string | undefined;
		for (const rule of this.byReach) {
			if (!matchesTransport(rule, protocol, port)) continue;
			if (rule.network !== undefined) {
				if (!rule.network.contains(address)) continue;
			} else {
				if (closed || (rule.name !== undefined && !names.some((name) => ruleNames(rule, name)))) continue;
				if (this.hasNames && !namesPorts(rule) && this.leadsRound(protocol, port, address)) {
					refused = "encrypted-dns";
					continue;
				}
				if (rule.name !== undefined && protocol === "udp" && port === HTTPS && rule.protocol !== "udp") {
					// QUIC hides its name from us: a shared address would be a hole.
					refused = "quic";
					continue;
				}
			}
			return this.allowed(rule.text, protocol, rule.name !== undefined || ambiguous);
		}
		if (closed) return { allowed: false, reason: "private" };
		if (this.fallback === "deny") return { allowed: false, reason: refused ?? "default" };
		if (this.hasNames && this.leadsRound(protocol, port, address)) return { allowed: false, reason: "encrypted-dns" };
		return this.allowed("default", protocol, ambiguous);
	}

	private allowed(reason: string, protocol: PolicyProtocol, byName: boolean): Verdict {
		if (protocol !== "tcp" || !(byName || this.deniesNames)) return { allowed: true, reason };
		return { allowed: true, reason, check: byName ? "allowed" : "not-denied" };
	}

	/** A resolver whose questions nobody sees. */
	private leadsRound(protocol: PolicyProtocol, port: number, address: IpAddress): boolean {
		if (protocol === "icmp") return false;
		return port === DNS_OVER_TLS || (port === HTTPS && isEncryptedResolverAddress(address));
	}

	/** Whether a connection that was allowed may go to the server it names. */
	decideName(name: string, port: number, check: "allowed" | "not-denied"): Verdict {
		const plain = name.toLowerCase().replace(/\.$/, "");
		for (const rule of this.deny)
			if (matchesTransport(rule, "tcp", port) && ruleNames(rule, plain)) return { allowed: false, reason: rule.text };
		for (const rule of this.allow)
			if (matchesTransport(rule, "tcp", port) && ruleNames(rule, plain)) return { allowed: true, reason: rule.text };
		if (this.hasNames && isEncryptedResolver(plain)) return { allowed: false, reason: "encrypted-dns" };
		if (check === "not-denied") return { allowed: true, reason: "default" };
		for (const rule of this.allow)
			if (matchesTransport(rule, "tcp", port) && isEverything(rule)) return { allowed: true, reason: rule.text };
		return { allowed: this.fallback === "allow", reason: "default" };
	}

	/** Whether a rule opens an address by its network: such an address may stand in a public name's answer. */
	opensNetwork(address: IpAddress): boolean {
		return this.allow.some((rule) => rule.network?.contains(address) === true);
	}
}

function isEverything(rule: PolicyRule): boolean {
	return rule.name === undefined && rule.network === undefined;
}
