import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NameBindings } from "../src/gateway/names.ts";
import { type EgressFlow, EgressPolicy } from "../src/gateway/policy.ts";
import { isClosed } from "../src/gateway/ranges.ts";
import { parseRule } from "../src/gateway/rule.ts";
import { IpAddress, parseAddress, parseCidr } from "../src/wire/address.ts";

const SEED = 20_260;

const names = fc.constantFrom("good.example", "bad.example", "a.good.example", "x.a.good.example", "other.test");
const addresses = fc
	.constantFrom(
		"192.0.2.1",
		"198.51.100.7",
		"8.8.8.8",
		"10.0.0.5",
		"169.254.169.254",
		"100.64.1.1",
		"2606:4700::1",
		"fd00::7",
		"64:ff9b::a00:1",
		"2002:a00:1::1",
	)
	.map((text) => parseAddress(text)!);
const flow: fc.Arbitrary<EgressFlow> = fc.record({
	protocol: fc.constantFrom("tcp", "udp", "icmp"),
	address: addresses,
	port: fc.constantFrom(22, 53, 80, 443, 853, 8443),
	names: fc.uniqueArray(names, { maxLength: 3 }),
	hostItself: fc.boolean(),
});
const rule = fc
	.record({
		protocol: fc.constantFrom("", "", "tcp:", "udp:", "icmp:"),
		target: fc.oneof(
			names,
			names.map((name) => `*.${name}`),
			fc.constantFrom("*", "10.0.0.0/8", "192.0.2.0/24", "[fd00::/8]", "8.8.8.8"),
		),
		ports: fc.constantFrom("", "", ":443", ":80", ":1-1024", ":853"),
	})
	.map(({ protocol, target, ports }) => `${protocol}${target}${ports}`);
const rules = fc.array(rule, { maxLength: 5 });

/** Whether one rule is about a flow, said a second time and plainly. */
function about(text: string, f: EgressFlow, byName: boolean): boolean {
	const match = /^(?:(tcp|udp|icmp):)?(\[.*\]|[^:]*)(?::(\d+)(?:-(\d+))?)?$/.exec(text)!;
	const [, protocol, bracketed, from, to] = match;
	const target = bracketed!.replace(/[[\]]/g, "");
	if (protocol !== undefined && protocol !== f.protocol) return false;
	if (from !== undefined && (f.port < Number(from) || f.port > Number(to ?? from))) return false;
	if (target === "*") return !byName;
	const network = parseCidr(target);
	if (network !== undefined) return !byName && network.contains(f.address);
	return byName && f.names.some((name) => (target.startsWith("*.") ? name.endsWith(target.slice(1)) : name === target));
}

describe("precedence, by property", () => {
	test("a deny rule that matches is never outvoted", () => {
		fc.assert(
			fc.property(rules, rules, flow, (allow, deny, f) => {
				const verdict = new EgressPolicy({ allow, deny }).decide(f);
				const byAddress = deny.some((text) => about(text, f, false));
				// A name may be denied by what the connection says later, where it can say it.
				const byName = deny.some((text) => about(text, f, true));
				if (byAddress) return !verdict.allowed;
				if (byName) return !verdict.allowed || (f.protocol === "tcp" && verdict.check === "allowed");
				return true;
			}),
			{ seed: SEED, numRuns: 3_000 },
		);
	});

	test("a closed address and the host itself open by a network rule only", () => {
		fc.assert(
			fc.property(rules, flow, fc.constantFrom("allow", "deny"), (allow, f, fallback) => {
				const { allowed } = new EgressPolicy({ allow, default: fallback }).decide(f);
				if (!allowed || !(isClosed(f.address) || f.hostItself)) return true;
				return allow.some((text) => !text.includes("*") && about(text, f, false));
			}),
			{ seed: SEED, numRuns: 3_000 },
		);
	});

	test("what no rule is about is the default's", () => {
		fc.assert(
			fc.property(rules, flow, (allow, f) => {
				const { allowed } = new EgressPolicy({ allow, default: "deny" }).decide(f);
				return !allowed || allow.some((text) => about(text, f, false) || about(text, f, true));
			}),
			{ seed: SEED, numRuns: 3_000 },
		);
	});

	test("another deny rule never opens anything", () => {
		fc.assert(
			fc.property(rules, rules, rule, flow, (allow, deny, more, f) => {
				const before = new EgressPolicy({ allow, deny, default: "allow" }).decide(f);
				const after = new EgressPolicy({ allow, deny: [...deny, more], default: "allow" }).decide(f);
				return before.allowed || !after.allowed;
			}),
			{ seed: SEED, numRuns: 3_000 },
		);
	});

	test("a name that may not be asked for is under a deny rule, or no allow rule speaks of it", () => {
		fc.assert(
			fc.property(rules, rules, names, (allow, deny, name) => {
				const { allowed } = new EgressPolicy({ allow, deny, default: "deny" }).nameAllowed(name);
				const spoken = allow.some((text) => {
					const target = text.replace(/^(tcp|udp|icmp):/, "").replace(/:[\d-]+$/, "");
					return target === "*" || target === name || (target.startsWith("*.") && name.endsWith(target.slice(1)));
				});
				return !allowed || spoken;
			}),
			{ seed: SEED, numRuns: 3_000 },
		);
	});
});

describe("closed ranges", () => {
	test.each([
		["0.0.0.0", "0.255.255.255"],
		["10.0.0.0", "10.255.255.255"],
		["100.64.0.0", "100.127.255.255"],
		["127.0.0.0", "127.255.255.255"],
		["169.254.0.0", "169.254.255.255"],
		["172.16.0.0", "172.31.255.255"],
		["192.0.0.0", "192.0.0.255"],
		["192.168.0.0", "192.168.255.255"],
		["198.18.0.0", "198.19.255.255"],
		["224.0.0.0", "255.255.255.255"],
		["::", "::ff"],
		["::ffff:0:a00:1", "::ffff:0:a00:1"],
		["2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"],
		["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
		["fe80::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
		["ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
	])("%s to %s", (first, last) => {
		for (const text of [first, last]) {
			const address = parseAddress(text)!;
			expect(isClosed(address)).toBe(true);
			if (address.family === 6) continue;
			// The same IPv4 address inside NAT64, 6to4 and ISATAP.
			const { d } = address;
			expect(isClosed(new IpAddress(0x0064ff9b, 0, 0, d))).toBe(true);
			expect(isClosed(new IpAddress(0x20020000 | (d >>> 16), d << 16, 0, 1))).toBe(true);
			expect(isClosed(new IpAddress(0x26064700, 0, 0x02005efe, d))).toBe(true);
		}
	});

	test.each(["8.8.8.8", "100.63.255.255", "100.128.0.0", "172.32.0.0", "11.0.0.0", "2606:4700::1", "64:ff9b::808:808"])(
		"%s is open",
		(text) => {
			expect(isClosed(parseAddress(text)!)).toBe(false);
		},
	);
});

describe("rules as data", () => {
	test.each([
		[{ name: "good.example" }, "good.example"],
		[{ name: "*.good.example", ports: 443, protocol: "tcp" as const }, "tcp:*.good.example:443"],
		[{ network: "10.1.0.0/16", ports: [1, 1024] as const }, "10.1.0.0/16:1-1024"],
		[{ network: "fd00::/8", ports: 22 }, "[fd00::/8]:22"],
		[{ ports: 443 }, "*:443"],
	])("%j is %s", (data, text) => {
		expect(parseRule(data)).toEqual(parseRule(text));
	});

	test.each([
		{ name: "a.b", network: "10.0.0.0/8" },
		{ name: "10.0.0.1" },
		{ name: "*" },
		{ network: "somewhere" },
		{ name: "a.b", ports: 0 },
		{ name: "a.b", ports: [9, 5] as const },
		{ name: "a.b:443" },
		{ name: "a b" },
	])("%j is refused", (data) => {
		expect(() => parseRule(data)).toThrow(expect.objectContaining({ code: "ERR_BAD_RULE" }));
	});
});

describe("other resolvers", () => {
	const policy = new EgressPolicy({ deny: ["bad.example"] });
	const open = (protocol: "tcp" | "udp", address: string, port: number) =>
		policy.decide({ protocol, address: parseAddress(address)!, port, names: [] });

	test("are closed where names are ruled", () => {
		expect(open("tcp", "198.51.100.1", 853)).toEqual({ allowed: false, reason: "encrypted-dns" });
		expect(open("udp", "198.51.100.1", 853)).toEqual({ allowed: false, reason: "encrypted-dns" });
		expect(open("tcp", "1.1.1.1", 443)).toEqual({ allowed: false, reason: "encrypted-dns" });
		expect(policy.nameAllowed("dns.google")).toEqual({ allowed: false, reason: "encrypted-dns" });
		expect(policy.nameAllowed("mozilla.cloudflare-dns.com").allowed).toBe(false);
		expect(policy.nameAllowed("use-application-dns.net").allowed).toBe(false);
		expect(policy.decideName("dns.google", 443, "not-denied").allowed).toBe(false);
	});

	test("and open where a rule names them, or none speaks of names", () => {
		const named = new EgressPolicy({ allow: ["dns.google", "*:853"], deny: ["bad.example"], default: "allow" });
		expect(named.nameAllowed("dns.google").allowed).toBe(true);
		expect(
			named.decide({ protocol: "tcp", address: parseAddress("198.51.100.1")!, port: 853, names: [] }).allowed,
		).toBe(true);
		const none = new EgressPolicy();
		expect(none.decide({ protocol: "tcp", address: parseAddress("1.1.1.1")!, port: 443, names: [] })).toEqual({
			allowed: true,
			reason: "default",
		});
	});
});

test("QUIC passes a name rule only where the rule says udp", () => {
	const flow: EgressFlow = { protocol: "udp", address: parseAddress("192.0.2.1")!, port: 443, names: ["good.example"] };
	expect(new EgressPolicy({ allow: ["good.example"] }).decide(flow)).toEqual({ allowed: false, reason: "quic" });
	expect(new EgressPolicy({ allow: ["udp:good.example:443"] }).decide(flow).allowed).toBe(true);
	expect(new EgressPolicy({ allow: ["good.example", "*"] }).decide(flow).allowed).toBe(true);
	expect(new EgressPolicy({ allow: ["good.example"] }).decide({ ...flow, port: 123 }).allowed).toBe(true);
});

describe("bindings", () => {
	test("are the guest's own, and end with the TTL and its grace", () => {
		const bindings = new NameBindings(60_000);
		const address = parseAddress("192.0.2.1")!;
		bindings.bind("a", "good.example", address, 120, 1_000);
		expect(bindings.namesOf("a", address, 180_999)).toEqual(["good.example"]);
		expect(bindings.namesOf("b", address, 2_000)).toEqual([]);
		expect(bindings.namesOf("a", parseAddress("192.0.2.2")!, 2_000)).toEqual([]);
		expect(bindings.namesOf("a", address, 181_000)).toEqual([]);
	});

	test("are bounded, whatever is resolved", () => {
		const bindings = new NameBindings(0);
		for (let i = 0; i < 100_000; i++) bindings.bind("a", `n${i}.test`, new IpAddress(0, 0, 0xffff, i), 60, 0);
		expect(bindings.namesOf("a", new IpAddress(0, 0, 0xffff, 99_999), 1)).toEqual(["n99999.test"]);
		expect(bindings.namesOf("a", new IpAddress(0, 0, 0xffff, 1), 1)).toEqual([]);
		const one = new IpAddress(0, 0, 0xffff, 5);
		for (let i = 0; i < 1_000; i++) bindings.bind("a", `m${i}.test`, one, 60, 0);
		expect(bindings.namesOf("a", one, 1).length).toBeLessThanOrEqual(64);
	});
});
