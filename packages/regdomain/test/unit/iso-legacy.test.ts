import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import { canBeacon, checkChannelDefinition, createChannelDefinition, evaluateDomain } from "../../src/index.ts";
import {
	alpha2Kind,
	countries,
	country,
	countryChoices,
	findCountry,
	withdrawnCountries,
} from "../../src/iso3166/index.ts";
import {
	countriesOfLegacyId,
	createLegacyRegistry,
	legacyChannelNumber,
	legacyDomain,
	legacyId,
	legacyIds,
	legacyIdsOfCountry,
	legacyToDomain,
	renderLegacyDomain,
	subBandOf,
	transmitPowerDbm,
} from "../../src/legacy/index.ts";

describe("ISO 3166-1", () => {
	test("249 entries, each code once, all ways back to itself", () => {
		expect(countries).toHaveLength(249);
		for (const key of ["alpha2", "alpha3", "numeric", "name"] as const) {
			expect(new Set(countries.map((entry) => entry[key])).size).toBe(249);
		}
		for (const entry of countries) {
			for (const code of [entry.alpha2, entry.alpha3, String(entry.numeric), entry.name])
				expect(findCountry(code), code).toBe(entry);
		}
	});

	test("every country of the bundled database is assigned, but for the Netherlands Antilles", () => {
		const codes = [...bundledDatabase().domains.keys()].filter((code) => alpha2Kind(code) !== "assigned");
		expect(codes).toEqual(["00", "AN"]);
	});

	test("names without accents, other names, withdrawn entries", () => {
		expect(country("cote d'ivoire").alpha2).toBe("CI");
		expect(country("TURKEY").alpha2).toBe("TR");
		expect(country("uk").alpha2).toBe("GB");
		expect(country("YU")).toMatchObject({ name: "Yugoslavia", withdrawn: { year: 2003 } });
		expect(country("CS").withdrawn!.replacedBy).toEqual(["RS", "ME"]);
		expect(country("BY").name).toBe("Belarus");
		expect(() => country("QQ")).toThrow(expect.objectContaining({ code: "UNKNOWN_COUNTRY", value: "QQ" }));
	});

	test("kinds of codes", () => {
		expect(["DE", "YU", "XK", "QZ", "UK", "QA", "ZB", "00", "98", "D", "1A"].map(alpha2Kind)).toEqual([
			"assigned",
			"withdrawn",
			"user-assigned",
			"user-assigned",
			"reserved",
			"assigned",
			"unassigned",
			"kernel",
			"kernel",
			"invalid",
			"invalid",
		]);
	});

	test("a picker knows which countries have rules", () => {
		const choices = countryChoices(bundledDatabase());
		expect(choices).toHaveLength(249);
		expect(choices.filter(({ known }) => known)).toHaveLength(180);
	});

	const isoCodes = "/usr/share/iso-codes/json/";
	test.skipIf(!existsSync(isoCodes))(
		"agrees with Debian's iso-codes (skipped where the package is not installed)",
		() => {
			const read = (name: string): Record<string, string>[] =>
				(JSON.parse(readFileSync(`${isoCodes}iso_${name}.json`, "utf8")) as Record<string, Record<string, string>[]>)[
					name
				]!;
			const theirs = read("3166-1").map(
				(entry) => `${entry["alpha_2"]} ${entry["alpha_3"]} ${Number(entry["numeric"])}`,
			);
			expect(countries.map(({ alpha2, alpha3, numeric }) => `${alpha2} ${alpha3} ${numeric}`).sort()).toEqual(
				theirs.sort(),
			);
			const former = read("3166-3").map(
				(entry) => `${entry["alpha_2"]} ${entry["alpha_3"]} ${entry["withdrawal_date"]!.slice(0, 4)}`,
			);
			expect(
				withdrawnCountries.map(({ alpha2, alpha3, withdrawn }) => `${alpha2} ${alpha3} ${withdrawn!.year}`).sort(),
			).toEqual(former.sort());
		},
	);
});

describe("the 2006 model", () => {
	test("34 domains and DEBUG", () => {
		expect(legacyIds.filter(({ in2006 }) => in2006)).toHaveLength(35);
		expect(new Set(legacyIds.map(({ id }) => id)).size).toBe(legacyIds.length);
		expect(legacyId("0x37")).toMatchObject({ name: "ETSI1_WORLD", group5: "ETSI1", group24: "WORLD" });
		expect(legacyId("fcc3_fcca")?.id).toBe(0x3a);
	});

	test("ids and countries, both ways", () => {
		expect(legacyIdsOfCountry("DE").map(({ id }) => id)).toEqual([0x37]);
		expect(legacyIdsOfCountry("JP").map(({ id }) => id)).toEqual([0x40, 0x41, 0x43, 0x48, 0x4a, 0x4b]);
		expect(legacyIdsOfCountry("AQ").map(({ id }) => id)).toEqual([0x03]);
		expect(countriesOfLegacyId(0x10)).toContain("MX");
		for (const { id } of legacyIds)
			for (const code of countriesOfLegacyId(id)) expect(findCountry(code), code).toBeDefined();
	});

	test("channel numbers of the patch", () => {
		expect([2412, 2472, 2484, 2500, 2512, 2732, 5005, 5180, 6100, 6105, 1000].map(legacyChannelNumber)).toEqual([
			1, 13, 14, 0, 15, 26, 1, 36, 220, 0, 0,
		]);
		expect([2437, 5100, 5180, 5260, 5500, 5745, 5860, 3000].map(subBandOf)).toEqual([
			"ISM24",
			"TELEC",
			"UNII_1",
			"UNII_2",
			"ETSI",
			"UNII_3",
			"AAD",
			undefined,
		]);
	});

	test("transmit power = EIRP less antenna gain, and the FCC's price of larger antennas", () => {
		const [ism, , , unii3] = legacyDomain("FCC1_FCCA").subBands;
		expect(transmitPowerDbm(ism!)).toBe(30);
		expect(transmitPowerDbm(ism!, 6)).toBe(30);
		expect(transmitPowerDbm(ism!, 9)).toBe(27);
		expect(transmitPowerDbm(ism!, 9, "ptp")).toBe(29);
		expect(transmitPowerDbm(ism!, 24, "ptp")).toBe(24);
		expect(unii3!.name).toBe("UNII_3");
		expect(transmitPowerDbm(unii3!, 23, "ptp")).toBe(30);
		expect(transmitPowerDbm(unii3!, 23)).toBe(13);
		const [etsi] = legacyDomain(0x37).subBands;
		expect(transmitPowerDbm(etsi!, 8)).toBe(12);
		expect(etsi!.channels[0]!.powerDbm).toBe(18);
	});

	test("Japan's old channels", () => {
		const old = legacyDomain("MKK1_MKKA").subBands.find(({ name }) => name === "UNII_1")!;
		expect(old.channels.map(({ centreMHz }) => centreMHz)).toEqual([5170, 5190, 5210, 5230]);
		expect(old.channels.every(({ activeScan }) => !activeScan)).toBe(true);
		expect(old.environment).toBe("I");
	});

	test("the domain is enforced", () => {
		const decisions = evaluateDomain(legacyToDomain(legacyDomain("ETSI1_WORLD")));
		const on = (mhz: number): ReturnType<typeof createChannelDefinition> => createChannelDefinition(mhz, 20);
		expect(checkChannelDefinition(decisions, on(5180)).usable).toBe(true);
		expect(checkChannelDefinition(decisions, on(5745)).usable).toBe(false);
		expect(canBeacon(decisions, on(5500))).toMatchObject({ usable: false, dfsRequired: true });
		expect(decisions.find(({ channel }) => channel === 36)!.flags & 0x200).not.toBe(0);
		expect(checkChannelDefinition(evaluateDomain(legacyToDomain(legacyDomain(0x03))), on(5180)).usable).toBe(false);
		expect(renderLegacyDomain(legacyDomain(0x10))).toContain("channels 36 40 44 48");
	});

	test("a registry refuses unknown and known countries alike", () => {
		const registry = createLegacyRegistry();
		expect(registry.current.name).toBe("NULL_WORLD");
		expect(registry.setCurrent(0x10).name).toBe("FCC1_FCCA");
		registry.add("AQ", 0x37);
		expect(registry.idOf("AQ")).toBe(0x37);
		expect(registry.idOf("ZM")).toBe(0x03);
		for (const code of ["AQ", "DE", "QQ", "aq"])
			expect(() => registry.add(code, 0x37)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT" }));
		expect(() => registry.setCurrent(0x99)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT", value: 0x99 }));
	});
});
