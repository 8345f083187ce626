import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import {
	channelJson,
	channelsToCsv,
	channelsToMarkdown,
	databaseJson,
	databaseToC,
	domainToC,
	regulatoryDbKsy,
	renderChart,
} from "../../src/export/index.ts";
import { type Domain, domainOf, evaluateDomain, openWidths, parseDomain, RuleFlag } from "../../src/index.ts";

const of = (alpha2: string): Domain => domainOf(bundledDatabase(), alpha2);

test("JSON, CSV and Markdown tell the same", () => {
	const decisions = evaluateDomain(of("DE"));
	const csv = channelsToCsv(decisions)
		.trim()
		.split("\r\n")
		.map((line) => line.split(","));
	const markdown = channelsToMarkdown(decisions)
		.trim()
		.split("\n")
		.map((line) => line.slice(2, -2).split(" | "));
	expect(csv).toHaveLength(140);
	expect(markdown.filter((_, index) => index !== 1)).toEqual(csv);
	expect(csv[15]).toEqual(["5", "36", "5180", "yes", "23", "", "20 40 80 160", "NO_HT40MINUS INDOOR_ONLY NO_320MHZ"]);
	expect(channelJson(decisions[14]!).widthsMHz).toEqual([20, 40, 80, 160]);
	const parsed = databaseJson(bundledDatabase()).domains.map((domain) =>
		parseDomain(JSON.parse(JSON.stringify(domain))),
	);
	expect(parsed).toHaveLength(182);
});

test("widths that flags leave open", () => {
	const at = (alpha2: string, centreMHz: number): number[] =>
		openWidths(evaluateDomain(of(alpha2)).find(({ centreKHz }) => centreKHz === centreMHz * 1000)!);
	expect(at("US", 2412)).toEqual([20, 40]);
	expect(at("US", 2484)).toEqual([]);
	expect(at("JP", 2484)).toEqual([20]);
	expect(at("US", 5955)).toEqual([20, 40, 80, 160, 320]);
	expect(at("US", 910.5)).toEqual([1, 2, 4, 8, 16]);
});

test("C for the kernel's former table", () => {
	const text = domainToC({ ...of("JP"), rules: of("JP").rules.slice(0, 2) });
	expect(text).toContain('.alpha2 = "JP"');
	expect(text).toContain(".dfs_region = NL80211_DFS_JP");
	expect(text).toContain("REG_RULE_EXT(2474, 2494, 20, 0, 20, 0, NL80211_RRF_NO_OFDM | 0)");
	const ibss = { alpha2: "QX", dfsRegion: 0, rules: [{ ...of("JP").rules[0]!, flags: RuleFlag.NO_IBSS }] };
	expect(domainToC(ibss)).toContain("__NL80211_RRF_NO_IBSS");
	expect(databaseToC(bundledDatabase()).match(/&regdom_/g)).toHaveLength(182);
	expect(regulatoryDbKsy).toContain("contents: RGDB");
});

describe("the spectrum chart", () => {
	const groups = (svg: string, kind: string): number => svg.match(new RegExp(`<g class="${kind}">`, "g"))?.length ?? 0;

	test("draws every rule once a band, and channels by what an access point may do", () => {
		const svg = renderChart(of("DE"));
		expect(svg.startsWith("<svg xmlns=")).toBe(true);
		expect(groups(svg, "rule")).toBe(of("DE").rules.length);
		expect(svg).toContain("<title>5180 MHz, 20 MHz wide: open, indoor only</title>");
		expect(svg).toContain("<title>5530 MHz, 80 MHz wide: radar</title>");
		expect(svg).toContain("<title>2484 MHz, 20 MHz wide: off</title>");
		expect(svg).not.toMatch(/NaN|undefined/);
	});

	test("of the world domain offers little to access points", () => {
		const svg = renderChart(of("00"), { title: '<world> & "all"' });
		expect(svg).toContain("&lt;world&gt; &amp; &quot;all&quot;");
		expect(svg).toContain("<title>5180 MHz, 20 MHz wide: listen</title>");
		expect(svg).toContain("<title>903.5 MHz, 1 MHz wide: listen</title>");
	});

	test("of an empty domain is still a picture", () => {
		expect(renderChart({ alpha2: "QX", dfsRegion: 0, rules: [] })).toContain("</svg>");
	});
});
