import { StackError } from "../errors.ts";
import { type Cidr, parseCidr } from "../wire/address.ts";

/** Transport protocols a rule can name. */
export type PolicyProtocol = "tcp" | "udp" | "icmp";

/** A rule as plain data; what is absent matches everything. At most one of `name` and `network`. */
export interface PolicyRuleInit {
	readonly protocol?: PolicyProtocol;
	/** A host name, or `*.suffix` for every name below it. */
	readonly name?: string;
	/** An address or a network: `192.0.2.0/24`. */
	readonly network?: string;
	/** A port, or the first and last of a range. */
	readonly ports?: number | readonly [number, number];
}

/**
 * A rule in text or as plain data. The text is `[tcp|udp|icmp:]TARGET[:PORT[-PORT]]`, where TARGET is a host name,
 * `*.suffix`, an address, a network or `*`. IPv6 stands in brackets when a port follows.
 */
export type PolicyRuleLike = string | PolicyRuleInit;

/** A rule, parsed. */
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

const LAST_PORT = 65_535;

/**
 * @throws StackError `ERR_BAD_RULE` naming the part that is wrong
 */
export function parseRule(rule: PolicyRuleLike): PolicyRule {
	return typeof rule === "string" ? parseText(rule) : parseText(textOf(rule));
}

/** The text of a rule given as data. */
function textOf(rule: PolicyRuleInit): string {
	const { protocol, name, network, ports } = rule;
	if (name !== undefined && network !== undefined) {
		throw new StackError("ERR_BAD_RULE", `rule has the name "${name}" and the network "${network}"; make it two rules`);
	}
	const range = ports === undefined ? "" : typeof ports === "number" ? `:${ports}` : `:${ports[0]}-${ports[1]}`;
	let target = name ?? network ?? "*";
	if (name !== undefined && (parseCidr(name) !== undefined || name === "*" || name.includes(":")))
		throw new StackError("ERR_BAD_RULE", `rule has the name "${name}", which is none; use network for addresses`);
	if (network !== undefined && parseCidr(network) === undefined)
		throw new StackError("ERR_BAD_RULE", `rule has the network "${network}"; expected e.g. 192.0.2.0/24`);
	if (target.includes(":") && range !== "") target = `[${target}]`;
	return `${protocol === undefined ? "" : `${protocol}:`}${target}${range}`;
}

function parseText(text: string): PolicyRule {
	let rest = text.trim().toLowerCase();
	let protocol: PolicyProtocol | undefined;
	const prefix = /^(tcp|udp|icmp):(?!:)/.exec(rest);
	if (prefix !== null) {
		protocol = prefix[1] as PolicyProtocol;
		rest = rest.slice(prefix[0].length);
	}
	let firstPort = 0;
	let lastPort = LAST_PORT;
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
		if (firstPort < 1 || lastPort > LAST_PORT || firstPort > lastPort) {
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

/** Whether the rule is about some ports only. */
export function namesPorts(rule: PolicyRule): boolean {
	return rule.firstPort > 0 || rule.lastPort < LAST_PORT;
}

/** Whether the rule's protocol and ports match, whatever its target. */
export function matchesTransport(rule: PolicyRule, protocol: PolicyProtocol, port: number): boolean {
	if (rule.protocol !== undefined && rule.protocol !== protocol) return false;
	return !namesPorts(rule) || (port >= rule.firstPort && port <= rule.lastPort);
}
