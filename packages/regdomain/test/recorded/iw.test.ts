import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import { domainOf, evaluateDomain, intersectDomains } from "../../src/index.ts";
import { parseIwChannels, parseIwRegGet, renderIwChannels, renderIwRegGet } from "../../src/text/index.ts";
import { haveShared, sections, shared } from "../support/shared.ts";

const ageless = (text: string): string => text.replaceAll(/\(for \d+ sec\)/g, "(for N sec)").trimEnd();

describe.skipIf(!haveShared)("iw text recorded from Linux 7.2 (skipped where ../shared/data is absent)", () => {
	const countries = haveShared ? sections(shared("kernel-7.2_countries_iw.txt")) : [];
	const listed = countries.filter(({ heading }) => heading.startsWith("REG"));
	test.each(listed.map((section) => [section.heading, section] as const))("%s", (_, { heading, lines }) => {
		const domain = domainOf(bundledDatabase(), heading.split(" ")[1]!);
		expect(renderIwRegGet([{ owner: "global", domain }])).toBe(lines.join("\n") + (lines.at(-1) === "" ? "\n" : ""));
		expect(renderIwRegGet(parseIwRegGet(lines.join("\n"))).trim()).toBe(lines.join("\n").trim());
	});

	const channels = countries.filter(({ heading }) => heading.startsWith("CH"));
	test.each(channels.map((section) => [section.heading, section] as const))("%s", (_, { heading, lines }) => {
		const decisions = evaluateDomain(domainOf(bundledDatabase(), heading.split(" ")[1]!));
		const recorded = lines.filter((line) => !/^\[ *\d/.test(line)).join("\n");
		expect(ageless(renderIwChannels(decisions))).toBe(ageless(recorded));
		const parsed = parseIwChannels(recorded);
		expect(parsed.map(({ enabled }) => enabled)).toEqual(decisions.map(({ enabled }) => enabled));
		expect(parsed.map(({ maxEirpMbm }) => maxEirpMbm)).toEqual(decisions.map(({ maxEirpMbm }) => maxEirpMbm));
		expect(parsed.map(({ cacMs }) => cacMs)).toEqual(decisions.map(({ cacMs }) => cacMs));
	});

	const pairs = haveShared ? sections(shared("kernel-7.2_driver_intersections_iw.txt")) : [];
	test.each(pairs.map((section) => [section.heading, section] as const))("%s", (_, { heading, lines }) => {
		const [, first, second] = /driver (\w\w) then driver (\w\w)/.exec(heading)!;
		const global = intersectDomains(domainOf(bundledDatabase(), second!), domainOf(bundledDatabase(), first!))!;
		const recorded = parseIwRegGet(lines.filter((line) => !/^\[ *\d/.test(line)).join("\n"));
		const text = renderIwRegGet([{ owner: "global", domain: global }]);
		expect(text).toBe(renderIwRegGet(recorded.filter(({ owner }) => owner === "global")));
	});
});
