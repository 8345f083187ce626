import { describe, expect, test } from "vitest";
import { type Domain, evaluateDomain, intersectDomains, reportedChannelFlagNames } from "../../src/index.ts";
import { parseRaw, type RawChannel } from "../support/raw.ts";
import { haveShared, sections, shared } from "../support/shared.ts";

const enabledOf = (domain: Domain): RawChannel[] =>
	evaluateDomain(domain)
		.filter(({ enabled }) => enabled)
		.map(({ band, centreKHz, maxEirpMbm, cacMs, flags }) => ({
			band,
			centreKHz,
			maxEirpMbm,
			cacMs,
			flags: (reportedChannelFlagNames(flags) as string[]).sort(),
		}));

const expected = (channels: readonly RawChannel[]): RawChannel[] =>
	channels
		.filter(({ flags }) => !flags.includes("DISABLED"))
		// The kernel keeps the CAC time of an earlier domain on a channel that needs no radar detection now.
		.map((channel) => (channel.flags.includes("RADAR") ? channel : { ...channel, cacMs: 0 }));

describe.skipIf(!haveShared)("recorded from Linux 7.2 (skipped where ../shared/data is absent)", () => {
	const countries = haveShared ? sections(shared("kernel-7.2_countries_raw.txt")) : [];
	test.each(countries.map((section) => [section.heading, section] as const))("channels of %s", (_, section) => {
		const { domains, channels } = parseRaw(section.lines);
		expect(channels).toHaveLength(139);
		expect(enabledOf(domains[0]!.domain)).toEqual(expected(channels));
	});

	const synthetic = haveShared ? sections(shared("kernel-7.2_synthetic_raw.txt")) : [];
	const users = synthetic.filter(({ heading }) => heading.startsWith("USER"));
	test.each(users.map((section) => [section.heading, section] as const))("made-up rules %s", (_, section) => {
		const { input, domains, channels } = parseRaw(section.lines);
		expect(domains[0]!.domain).toEqual(input[0]);
		expect(enabledOf(input[0]!)).toEqual(expected(channels));
	});

	const pairs = synthetic.filter(({ heading }) => heading.startsWith("PAIR"));
	test.each(pairs.map((section) => [section.heading, section] as const))("intersection %s", (_, section) => {
		const { input, domains } = parseRaw(section.lines);
		const global = domains.find(({ owner }) => owner.startsWith("global"))!.domain;
		const result = intersectDomains(input[1]!, input[0]!);
		if (result === undefined) expect(global.alpha2).toBe("00");
		else expect(result).toEqual(global);
	});
});
