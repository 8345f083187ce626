import { describe, expect, test } from "vitest";
import { type ConfigFinding, checkHostapd, checkNetworkManager, checkUci } from "../../src/config/index.ts";
import { bundledDatabase } from "../../src/data/index.ts";
import {
	buildCountryElement,
	definitionsOfOperatingClass,
	operatingClasses,
	operatingClassOf,
	parseCountryElement,
	renderCountryElement,
	writeCountryElement,
} from "../../src/element/index.ts";
import { createChannelDefinition, definitionFault, domainOf, evaluateDomain } from "../../src/index.ts";
import { haveShared, sections, shared } from "../support/shared.ts";

const database = bundledDatabase();

describe.skipIf(!haveShared)("country elements of hostapd on the air (skipped where ../shared/data is absent)", () => {
	const recorded = haveShared ? sections(shared("hostapd-2.10_country_elements.txt")) : [];
	test.each(recorded.map((section) => [section.heading, section] as const))("%s", (heading, { lines }) => {
		const [, alpha2, mode] = /^CIE (\w\w) hw_mode=(\w)/.exec(heading)!;
		const element = buildCountryElement(
			domainOf(database, alpha2!),
			mode === "a" ? "5" : "2.4",
			evaluateDomain(domainOf(database, alpha2!)),
			{ quirks: "hostapd-2.10" },
		);
		const until = lines.indexOf("--rawlen");
		const text = lines
			.slice(0, until)
			.filter((line) => /^\t/.test(line))
			.join("\n");
		expect(renderCountryElement(parseCountryElement(writeCountryElement(element))).trimEnd()).toBe(text);
	});
});

describe("country elements", () => {
	test("hostapd gives a channel across two rules 0 dBm, this package its limit", () => {
		const decisions = evaluateDomain(domainOf(database, "CA"));
		const powerOf169 = (quirks: "none" | "hostapd-2.10"): number | undefined =>
			buildCountryElement(domainOf(database, "CA"), "5", decisions, { quirks }).triplets.flatMap((triplet) =>
				"first" in triplet && triplet.first <= 169 && triplet.first + triplet.count * 4 > 169
					? [triplet.maxPowerDbm]
					: [],
			)[0];
		expect([powerOf169("hostapd-2.10"), powerOf169("none")]).toEqual([0, 27]);
	});

	test("6 GHz names an operating class", () => {
		const element = buildCountryElement(domainOf(database, "DE"), "6", evaluateDomain(domainOf(database, "DE")));
		expect(Array.from(writeCountryElement(element))).toEqual([7, 6, 0x44, 0x45, 4, 201, 131, 0]);
	});

	test("what is malformed is refused with its code", () => {
		const code = (bytes: number[]): unknown => {
			try {
				return parseCountryElement(Uint8Array.from(bytes));
			} catch (error) {
				return (error as { code: string }).code;
			}
		};
		expect(code([])).toBe("ELEMENT_ID");
		expect(code([6, 6, 0, 0, 0, 0, 0, 0])).toBe("ELEMENT_ID");
		expect(code([7])).toBe("ELEMENT_LENGTH");
		expect(code([7, 5, 68, 69, 32, 1, 13])).toBe("ELEMENT_LENGTH");
		expect(code([7, 6, 68, 69, 32, 1, 13])).toBe("ELEMENT_LENGTH");
		expect(code([7, 6, 68, 69, 32, 1, 13, 0xec])).toEqual({
			alpha2: "DE",
			environment: 32,
			triplets: [{ first: 1, count: 13, maxPowerDbm: -20 }],
		});
		expect(() => writeCountryElement({ alpha2: "DE", environment: 300, triplets: [] })).toThrow(
			expect.objectContaining({ code: "BAD_ARGUMENT", place: { field: "environment" } }),
		);
	});
});

test("operating classes and channel definitions, both ways", () => {
	for (const { operatingClass } of operatingClasses) {
		if (operatingClass === 130 || operatingClass === 135 || operatingClass === 125) continue;
		const definitions = definitionsOfOperatingClass(operatingClass);
		expect(definitions.length).toBeGreaterThan(0);
		for (const definition of definitions) {
			expect(definitionFault(definition), JSON.stringify(definition)).toBeUndefined();
			expect(operatingClassOf(definition)).toBe(operatingClass);
		}
	}
	expect(operatingClassOf(createChannelDefinition(5180, 80))).toBe(128);
	expect(operatingClassOf(createChannelDefinition(2437, 40, 2447))).toBe(83);
	expect(operatingClassOf(createChannelDefinition(903.5, 1))).toBeUndefined();
});

const said = (findings: readonly ConfigFinding[]): string[] =>
	findings.map(({ severity, field, line }) => `${severity} ${field}${line === undefined ? "" : ` ${line}`}`);

describe("hostapd.conf", () => {
	const check = (text: string): ConfigFinding[] => checkHostapd(text, database);

	test("a sound configuration", () => {
		expect(check("country_code=DE\nieee80211d=1\nhw_mode=g\nchannel=6\nieee80211n=1\nht_capab=[HT40+]\n")).toEqual([]);
	});

	test("no country, and a channel the world domain closes", () => {
		expect(said(check("hw_mode=a\nchannel=36\n"))).toEqual(["warning country_code", "error channel 2"]);
	});

	test("radar channels need ieee80211d and ieee80211h", () => {
		const base =
			"country_code=DE\nhw_mode=a\nchannel=52\nieee80211n=1\nieee80211ac=1\nvht_oper_chwidth=1\nvht_oper_centr_freq_seg0_idx=58\n";
		expect(said(check(`${base}ieee80211d=1\n`))).toEqual(["error ieee80211h", "note channel 3"]);
		expect(said(check(`${base}ieee80211d=1\nieee80211h=1\n`))).toEqual(["note channel 3"]);
	});

	test("a centre that does not fit, a channel Japan lacks, a 6 GHz channel", () => {
		expect(
			said(
				check(
					"country_code=US\nieee80211d=1\nhw_mode=a\nchannel=36\nieee80211ac=1\nvht_oper_chwidth=1\nvht_oper_centr_freq_seg0_idx=155\n",
				),
			),
		).toEqual(["error channel 4"]);
		expect(said(check("country_code=JP\nieee80211d=1\nhw_mode=a\nchannel=149\n"))).toEqual(["error channel 4"]);
		const six =
			"country_code=DE\nieee80211d=1\nhw_mode=a\nop_class=134\nchannel=33\nieee80211ax=1\nhe_oper_chwidth=2\nhe_oper_centr_freq_seg0_idx=47\n";
		expect(said(check(six))).toEqual([]);
		expect(said(check(`${six}country3=0x4f\n`))).toEqual(["warning country3 9"]);
		expect(said(check("country_code=US\nieee80211d=1\nhw_mode=a\nop_class=131\nchannel=33\nieee80211ax=1\n"))).toEqual([
			"error channel 5",
		]);
	});

	test("what is not NAME=VALUE is refused", () => {
		expect(() => check("channel\n")).toThrow(expect.objectContaining({ code: "CONFIG_SYNTAX", place: { line: 1 } }));
		expect(said(check("country_code=QQ\nieee80211d=1\nchannel=0\n"))).toEqual([
			"error country_code 1",
			"note channel 3",
		]);
	});
});

test("OpenWrt UCI", () => {
	const radio = (options: string): string => `config wifi-device 'radio0'\n${options}`;
	const check = (text: string): string[] => said(checkUci(text, database));
	expect(
		check(radio("\toption band '5g'\n\toption channel '36'\n\toption htmode 'HE80'\n\toption country 'DE'\n")),
	).toEqual([]);
	expect(
		check(radio("\toption band '5g'\n\toption channel '149'\n\toption htmode 'HE160'\n\toption country 'DE'\n")),
	).toEqual(["error radio0.channel 3"]);
	expect(
		check(radio("\toption band '2g'\n\toption channel '14'\n\toption htmode 'HT40'\n\toption country 'JP'\n")),
	).toEqual(["error radio0.htmode 4"]);
	expect(check(radio("\toption channel 'auto'\n"))).toEqual(["warning radio0.country", "note radio0.channel 2"]);
	const two = `${radio("\toption channel 'auto'\n\toption country 'DE'\n")}\nconfig wifi-device 'radio1'\n\toption channel 'auto'\n\toption country 'US'\n`;
	expect(check(two)).toContain("warning country");
	expect(() => checkUci("option x 1\n", database)).toThrow(expect.objectContaining({ code: "CONFIG_SYNTAX" }));
});

test("NetworkManager", () => {
	const check = (wifi: string, country?: string): string[] =>
		said(checkNetworkManager(`[connection]\nid=x\n[wifi]\n${wifi}`, database, country));
	expect(check("mode=ap\nband=a\nchannel=36\n", "DE")).toEqual([]);
	expect(check("mode=ap\nband=a\nchannel=149\n", "JP")).toEqual(["error wifi.channel 6"]);
	expect(check("mode=ap\nband=a\nchannel=36\n")).toEqual(["warning country", "error wifi.channel 6"]);
	expect(check("mode=infrastructure\nband=a\nchannel=36\n")).toEqual(["warning country"]);
	expect(check("mode=ap\nchannel=36\n", "DE")).toEqual(["error wifi.channel 5"]);
	expect(check("mode=ap\nband=b\nchannel=36\n", "DE")).toEqual(["error wifi.band 5"]);
});
