import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import { parseCountryElement, writeCountryElement } from "../../src/element/index.ts";
import {
	dbTxtToDatabase,
	parseDbTxt,
	readRegulatoryBin,
	readRegulatoryDb,
	writeDbTxt,
	writeRegulatoryBin,
	writeRegulatoryDb,
} from "../../src/formats/index.ts";
import { createRegulatoryCore, type RegulatoryEvent } from "../../src/hints/index.ts";
import {
	type Domain,
	evaluateDomain,
	intersectDomains,
	isValidDomain,
	optimizeDomain,
	type Rule,
	RuleFlag,
} from "../../src/index.ts";
import { derChildren, derRoot, derWrite } from "../../src/signature/der.ts";
import { parseIwRegGet, renderIwRegGet } from "../../src/text/index.ts";

const seed = { seed: 20_260_530, numRuns: 200 };

const dbFlags = [RuleFlag.NO_OFDM, RuleFlag.NO_OUTDOOR, RuleFlag.DFS, RuleFlag.NO_IR, RuleFlag.AUTO_BW];
const flags = fc.subarray(dbFlags).map((chosen) => chosen.reduce((mask, flag) => mask | flag, 0));
const rule: fc.Arbitrary<Rule> = fc
	.record({
		startKHz: fc.integer({ min: 750_000, max: 7_000_000 }),
		spanKHz: fc.integer({ min: 1_000, max: 400_000 }),
		width: fc.integer({ min: 1, max: 1_000 }),
		maxEirpMbm: fc.integer({ min: 0, max: 4_500 }),
		flags,
	})
	.map(({ startKHz, spanKHz, width, maxEirpMbm, flags: mask }) => ({
		startKHz,
		endKHz: startKHz + spanKHz,
		maxBandwidthKHz: Math.max(1, Math.floor((spanKHz * width) / 1_000)),
		maxGainMbi: 0,
		maxEirpMbm,
		cacMs: 0,
		flags: mask,
	}));
const code = fc
	.tuple(fc.constantFrom(..."ABCDEFGHIJ"), fc.constantFrom(..."KLMNOPQRST"))
	.map(([one, two]) => one + two);
const domain = fc.record({
	alpha2: code,
	dfsRegion: fc.integer({ min: 0, max: 3 }),
	rules: fc.uniqueArray(rule, { minLength: 1, maxLength: 8, selector: (one) => JSON.stringify(one) }),
});
const database = fc
	.uniqueArray(domain, { minLength: 0, maxLength: 6, selector: ({ alpha2 }) => alpha2 })
	.map((list) => ({ domains: new Map(list.map((one) => [one.alpha2, one])) }));

const sorted = (domains: ReadonlyMap<string, Domain>): unknown =>
	[...domains.values()]
		.sort((one, two) => (one.alpha2 < two.alpha2 ? -1 : 1))
		.map(({ rules, ...rest }) => ({ ...rest, rules: rules.map((one) => JSON.stringify(one)).sort() }));

describe("databases", () => {
	test("writing and reading regulatory.db, regulatory.bin and db.txt keeps every domain", () => {
		fc.assert(
			fc.property(database, (given) => {
				const wanted = sorted(given.domains);
				expect(sorted(readRegulatoryDb(writeRegulatoryDb(given)).domains)).toEqual(wanted);
				expect(sorted(readRegulatoryBin(writeRegulatoryBin(given)).database.domains)).toEqual(wanted);
				expect(sorted(dbTxtToDatabase(parseDbTxt(writeDbTxt(given))).domains)).toEqual(wanted);
			}),
			seed,
		);
	});

	test("the order of countries and rules does not change a byte", () => {
		fc.assert(
			fc.property(database, ({ domains }) => {
				const turned = new Map(
					[...domains].reverse().map(([key, one]) => [key, { ...one, rules: [...one.rules].reverse() }]),
				);
				expect(writeRegulatoryDb({ domains: turned })).toEqual(writeRegulatoryDb({ domains }));
			}),
			seed,
		);
	});
});

describe("rules", () => {
	test("an intersection lies inside both domains and is valid", () => {
		fc.assert(
			fc.property(domain, domain, (one, two) => {
				const result = intersectDomains(one, two);
				if (result === undefined) return;
				expect(isValidDomain({ ...result, rules: result.rules.slice(0, 128) })).toBe(true);
				for (const { startKHz, endKHz, maxEirpMbm } of result.rules) {
					for (const { rules } of [one, two]) {
						expect(
							rules.some(
								(outer) => outer.startKHz <= startKHz && outer.endKHz >= endKHz && outer.maxEirpMbm >= maxEirpMbm,
							),
						).toBe(true);
					}
				}
			}),
			seed,
		);
	});

	test("joining rules keeps every frequency and never adds one", () => {
		fc.assert(
			fc.property(domain, fc.integer({ min: 750_000, max: 7_400_000 }), (given, khz) => {
				const covered = ({ rules }: Domain): boolean =>
					rules.some(({ startKHz, endKHz }) => khz >= startKHz && khz <= endKHz);
				expect(covered(optimizeDomain(given))).toBe(covered(given));
			}),
			seed,
		);
	});

	test("each channel is decided by itself: a list in another order gives the same, but for HT40", () => {
		const ht40 = 0x30;
		fc.assert(
			fc.property(domain, (given) => {
				const all = evaluateDomain(given);
				const channels = all.map(({ band, channel, centreKHz }) => ({ band, channel, centreKHz })).reverse();
				const turned = evaluateDomain(given, { channels }).reverse();
				const own = 0x8000000;
				const plain = (decisions: typeof all): unknown =>
					decisions.map((one) => ({ ...one, flags: one.flags & ~(ht40 | own) }));
				expect(plain(turned)).toEqual(plain(all));
			}),
			{ ...seed, numRuns: 50 },
		);
	});
});

test("iw text: what is parsed renders the same again", () => {
	fc.assert(
		fc.property(fc.array(domain, { maxLength: 3 }), (list) => {
			const text = renderIwRegGet(list.map((one, index) => ({ owner: `phy#${index}`, domain: one })));
			expect(renderIwRegGet(parseIwRegGet(text))).toBe(text);
		}),
		seed,
	);
});

test("country elements round-trip", () => {
	const octet = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });
	const triplet = fc.oneof(
		fc.record({ first: octet(1, 200), count: octet(0, 255), maxPowerDbm: octet(-128, 127) }),
		fc.record({ extension: octet(201, 255), operatingClass: octet(0, 255), coverageClass: octet(0, 255) }),
	);
	fc.assert(
		fc.property(
			code,
			octet(0, 255),
			fc.array(triplet, { minLength: 1, maxLength: 80 }),
			(alpha2, environment, triplets) => {
				const element = { alpha2, environment, triplets };
				expect(parseCountryElement(writeCountryElement(element))).toEqual(element);
			},
		),
		seed,
	);
});

test("DER round-trips", () => {
	fc.assert(
		fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 5 }), (parts) => {
			const whole = derWrite(0x30, ...parts.map((part) => derWrite(0x04, part)));
			expect(derRoot(whole).bytes).toEqual(whole);
			expect(derChildren(derRoot(whole).content).map(({ content }) => Array.from(content))).toEqual(
				parts.map((part) => Array.from(part)),
			);
		}),
		seed,
	);
});

describe("the hint engine", () => {
	const country = fc.constantFrom("US", "DE", "JP", "00", "QQ", "zz", "1!");
	const radio = fc.constantFrom("a", "b", "c");
	const event: fc.Arbitrary<RegulatoryEvent> = fc.oneof(
		fc.record({ kind: fc.constant("user" as const), alpha2: country, cellular: fc.boolean() }),
		fc.record({ kind: fc.constant("driver" as const), radio, alpha2: country }),
		fc.record({ kind: fc.constant("country-element" as const), radio, alpha2: country }),
		fc.record({
			kind: fc.constant("beacon" as const),
			radio,
			centreKHz: fc.constantFrom(5_180_000, 2_467_000, 5_500_000, 1),
		}),
		fc.record({ kind: fc.constant("disconnect" as const), radio }),
		fc.record({ kind: fc.constant("indoor" as const), indoor: fc.boolean() }),
		fc.record({ kind: fc.constant("advance" as const), ms: fc.integer({ min: 0, max: 70_000 }) }),
	);
	const channels = [
		{ band: "2.4", channel: 12, centreKHz: 2_467_000 },
		{ band: "5", channel: 36, centreKHz: 5_180_000 },
		{ band: "5", channel: 100, centreKHz: 5_500_000 },
	] as const;
	const custom = { alpha2: "99", dfsRegion: 0, rules: bundledDatabase().domains.get("JP")!.rules };
	const radios = [
		{ name: "a", channels },
		{ name: "b", channels, strict: true },
		{ name: "c", channels, custom },
	];

	test.each(["linux-7.2", "none"] as const)(
		"any history keeps a valid domain, and a saved state goes on alike (%s)",
		(quirks) => {
			fc.assert(
				fc.property(fc.array(event, { maxLength: 25 }), fc.nat(25), (events, at) => {
					const options = { database: bundledDatabase(), radios, quirks, cellularHints: true };
					let core = createRegulatoryCore(options);
					const other = createRegulatoryCore(options);
					for (const [index, one] of events.entries()) {
						if (index === at)
							core = createRegulatoryCore({
								database: bundledDatabase(),
								state: JSON.parse(JSON.stringify(core.state)),
							});
						expect(core.apply(one)).toEqual(other.apply(one));
						expect(isValidDomain(core.state.global)).toBe(true);
						expect(core.state.queue.length).toBeLessThanOrEqual(events.length + 2);
					}
					expect(core.state).toEqual(other.state);
				}),
				{ ...seed, numRuns: 100 },
			);
		},
	);
});
