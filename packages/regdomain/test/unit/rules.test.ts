import { describe, expect, test } from "vitest";
import * as tables from "../../src/data/database.generated.ts";
import { bundledDatabase, bundledSha256, bundledVersion, decodeTables } from "../../src/data/index.ts";
import { databaseModule, parseDbTxt, writeRegulatoryDb } from "../../src/formats/index.ts";
import {
	createChannelDefinition,
	type Domain,
	domainOf,
	explainChannel,
	findChannels,
	findCommonChannels,
	intersectAll,
	intersectDomains,
	intersectDomainsCrda,
	optimizeDomain,
	parseDomain,
	RuleFlag,
	renderExplanation,
	uniteDomains,
	wmmRuleAt,
} from "../../src/index.ts";
import { fingerprint } from "../../src/signature/index.ts";

const of = (alpha2: string): Domain => domainOf(bundledDatabase(), alpha2);
const rule = (startMHz: number, endMHz: number, widthMHz: number, dbm: number, flags = 0): Domain["rules"][0] => ({
	startKHz: startMHz * 1000,
	endKHz: endMHz * 1000,
	maxBandwidthKHz: widthMHz * 1000,
	maxGainMbi: 0,
	maxEirpMbm: dbm * 100,
	cacMs: 0,
	flags,
});
const domain = (...rules: Domain["rules"][0][]): Domain => ({ alpha2: "QX", dfsRegion: 0, rules });

describe("the bundled database", () => {
	test("is wireless-regdb 2026.05.30, and compiles to its very bytes", async () => {
		expect(bundledVersion).toBe("2026.05.30");
		const bytes = writeRegulatoryDb(bundledDatabase());
		expect((await fingerprint(bytes)).replaceAll(":", "").toLowerCase()).toBe(bundledSha256);
		expect(bundledDatabase().domains.size).toBe(182);
	});

	test("is what the generator writes", () => {
		const text = databaseModule(bundledDatabase(), { version: bundledVersion, sha256: bundledSha256 });
		const rows = text.split("\n").filter((line) => line.startsWith("\t[")).length;
		expect(rows).toBe(tables.rules.length + tables.domains.length + tables.wmms.length);
		expect(decodeTables(tables)).toEqual(bundledDatabase());
	});
});

describe("intersection", () => {
	test("order does not matter for any pair of the bundled countries", () => {
		const all = [...bundledDatabase().domains.values()].filter((_, index) => index % 4 === 0);
		const ranges = (result: Domain | undefined): string[] =>
			(result?.rules ?? []).map((one) => JSON.stringify({ ...one, wmm: undefined })).sort();
		for (const [index, one] of all.entries()) {
			for (const two of all.slice(index + 1)) {
				expect(ranges(intersectDomains(one, two)), `${one.alpha2} ${two.alpha2}`).toEqual(
					ranges(intersectDomains(two, one)),
				);
			}
		}
	});

	test("nothing in common", () => {
		expect(intersectDomains(domain(rule(2402, 2472, 40, 20)), domain(rule(5170, 5250, 80, 20)))).toBeUndefined();
		expect(intersectAll([])).toBeUndefined();
	});

	test("crda keeps AUTO-BW, merges nothing and calls the result 99", () => {
		const one = domain(rule(5150, 5250, 80, 23, RuleFlag.AUTO_BW), rule(5250, 5350, 80, 23, RuleFlag.AUTO_BW));
		const two = domain(rule(5150, 5350, 160, 20));
		expect(intersectDomainsCrda(one, two)).toEqual({
			alpha2: "99",
			dfsRegion: 0,
			rules: [rule(5150, 5250, 80, 20, RuleFlag.AUTO_BW), rule(5250, 5350, 80, 20, RuleFlag.AUTO_BW)],
		});
		expect(intersectDomains(one, two)!.rules).toEqual([rule(5150, 5250, 100, 20), rule(5250, 5350, 100, 20)]);
	});
});

test("optimizing joins touching rules with equal limits, and no others", () => {
	const before = domain(
		rule(5250, 5350, 80, 23),
		rule(5150, 5250, 40, 23),
		rule(5350, 5400, 40, 20),
		rule(2402, 2472, 40, 23),
	);
	expect(optimizeDomain(before).rules).toEqual([
		rule(2402, 2472, 40, 23),
		rule(5150, 5350, 80, 23),
		rule(5350, 5400, 40, 20),
	]);
	expect(uniteDomains([domain(rule(2402, 2472, 40, 20)), domain(rule(2452, 2482, 20, 20))]).rules).toEqual([
		rule(2402, 2482, 40, 20),
	]);
});

describe("search", () => {
	test("channels that every country allows are allowed by each", () => {
		const codes = ["US", "DE", "JP", "BR"];
		const common = findCommonChannels(codes.map(of), { band: "5", widthMHz: 80 });
		expect(common.length).toBeGreaterThan(0);
		for (const code of codes) {
			const own = findChannels(of(code), { band: "5", widthMHz: 80 }).map(({ channel }) => channel);
			for (const { channel } of common) expect(own).toContain(channel);
		}
		expect(common.some(({ channel }) => channel === 149)).toBe(false);
	});

	test("where nobody may start a network there is none to find, though one may join", () => {
		expect(findChannels(of("00"), { band: "5" })).toEqual([]);
		expect(findChannels(of("00"), { band: "5", use: "station" }).length).toBeGreaterThan(20);
		expect(findChannels(of("00"), { band: "s1g" })).toEqual([]);
		expect(findChannels(of("US"), { band: "s1g", widthMHz: 8 }).length).toBeGreaterThan(0);
	});

	test("without radar detection, outdoors", () => {
		const found = findChannels(of("DE"), { band: "5", widthMHz: 20, withoutDfs: true, outdoors: true });
		expect(found.map(({ channel }) => channel)).toEqual([149, 153, 157, 161, 165, 169, 173]);
		expect(found.every(({ cacMs, indoorOnly }) => cacMs === 0 && !indoorOnly)).toBe(true);
		expect(found.some(({ channel }) => channel === 36)).toBe(false);
	});
});

describe("explanations", () => {
	test("names the rule, the flag and what to do first", () => {
		const text = renderExplanation(explainChannel(of("DE"), createChannelDefinition(5500, 80)));
		expect(text).toContain("must first listen 60 s for radar");
		expect(text).toContain("rule 4 (5470 - 5725 @ 160)");
	});

	test("why a channel is disabled", () => {
		const japan = explainChannel(of("JP"), createChannelDefinition(5745, 20));
		expect(japan.usable).toBe(false);
		expect(japan.subChannels[0]!.reasons[0]).toBe("no rule of JP holds 20 MHz around 5745 MHz");
		const none = explainChannel(domain(rule(2402, 2472, 40, 20)), createChannelDefinition(5745, 20));
		expect(none.subChannels[0]!.reasons).toEqual(["QX has no rule anywhere near 5745 MHz"]);
	});

	test("adjacent rules and quirks", () => {
		const us = explainChannel(of("US"), createChannelDefinition(5845, 20));
		expect(us.subChannels[0]!.reasons.join(" ")).toContain("lies across the next rule too");
		const quirk = explainChannel(
			domain(rule(5170, 5330, 160, 20, RuleFlag.NO_HT40PLUS)),
			createChannelDefinition(5200, 20),
		);
		expect(quirk.quirks[0]).toContain("NO_HT40PLUS");
		expect(explainChannel(of("00"), createChannelDefinition(903.5, 1)).quirks[0]).toContain("NO_IR in S1G");
	});
});

test("rules from JSON are checked field by field", () => {
	const good = { startKHz: 5_170_000, endKHz: 5_250_000, maxBandwidthKHz: 80_000, maxEirpMbm: 2000 };
	expect(parseDomain({ alpha2: "qx", rules: [good] })).toEqual({
		alpha2: "QX",
		dfsRegion: 0,
		rules: [{ ...good, maxGainMbi: 0, cacMs: 0, flags: 0 }],
	});
	const refused = (json: unknown): string | undefined => {
		try {
			parseDomain(json);
			return undefined;
		} catch (error) {
			return (error as { place: { field?: string } }).place.field;
		}
	};
	expect(parseDomain({ alpha2: "QX", dfsRegion: "DFS-ETSI", rules: [good] }).dfsRegion).toBe(2);
	expect(refused(null)).toBe("domain");
	expect(refused({ alpha2: "Q", rules: [good] })).toBe("alpha2");
	expect(refused({ alpha2: "QX", dfsRegion: "x", rules: [good] })).toBe("dfsRegion");
	expect(refused({ alpha2: "QX", rules: {} })).toBe("rules");
	expect(refused({ alpha2: "QX", rules: [] })).toBe("rules");
	expect(refused({ alpha2: "QX", rules: [{ ...good, maxEirpMbm: "20" }] })).toBe("rules[0].maxEirpMbm");
	expect(refused({ alpha2: "QX", rules: [{ ...good, endKHz: 5_100_000 }] })).toBe("rules[0]");
	expect(refused({ alpha2: "QX", rules: [{ ...good, flags: 2 ** 32 }] })).toBe("rules[0].flags");
});

test("WMM limits at a frequency", () => {
	expect(wmmRuleAt(of("DE"), 5_180_000)?.client[0]).toEqual({ cwMin: 3, cwMax: 7, aifsn: 2, cotMs: 2 });
	expect(wmmRuleAt(of("DE"), 2_437_000)).toBeUndefined();
	const both = intersectDomains(of("DE"), of("US"))!;
	expect(wmmRuleAt(both, 5_180_000)).toEqual(wmmRuleAt(of("DE"), 5_180_000));
});

test("dbm figures of db.txt survive as integers", () => {
	const parsed = parseDbTxt("country US:\n\t(2402 - 2483.5 @ 40), (200 mW)\n\t(5150 - 5250 @ 80), (16.99)\n");
	expect(parsed.countries[0]!.rules.map((one) => one.rule.maxEirpMbm)).toEqual([2301, 1698]);
});
