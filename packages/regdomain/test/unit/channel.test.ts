import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import {
	advanceDfs,
	type Band,
	ChannelFlag,
	canBeacon,
	channelToKHz,
	checkChannelDefinition,
	createChannelDefinition,
	createDfsStates,
	type Domain,
	definitionFault,
	definitionsAround,
	domainOf,
	evaluateDomain,
	hwsimChannels,
	NON_OCCUPANCY_MS,
	placeOfKHz,
	preCacAllowed,
	RuleFlag,
	radarDetected,
	standardDefinitions,
	startCac,
	subBandName,
	subChannels,
	uniiBand,
	withDfsStates,
} from "../../src/index.ts";

const of = (alpha2: string): Domain => domainOf(bundledDatabase(), alpha2);

const ruled = (flags: number, more: Partial<Domain["rules"][0]> = {}): Domain => ({
	alpha2: "QX",
	dfsRegion: 0,
	rules: [
		{
			startKHz: 5_170_000,
			endKHz: 5_330_000,
			maxBandwidthKHz: 160_000,
			maxGainMbi: 0,
			maxEirpMbm: 2000,
			cacMs: 0,
			flags,
			...more,
		},
	],
});

describe("channel numbers", () => {
	test.each<[Band, number, number]>([
		["2.4", 1, 2_412_000],
		["2.4", 13, 2_472_000],
		["2.4", 14, 2_484_000],
		["5", 36, 5_180_000],
		["5", 165, 5_825_000],
		["5", 184, 4_920_000],
		["6", 1, 5_955_000],
		["6", 233, 7_115_000],
		["6", 2, 5_935_000],
		["60", 2, 60_480_000],
		["s1g", 1, 902_500],
		["s1g", 51, 927_500],
	])("%s GHz channel %i is at %i kHz, and back", (band, channel, centreKHz) => {
		expect(channelToKHz(band, channel)).toBe(centreKHz);
		expect(placeOfKHz(centreKHz)).toEqual({ band, channel, centreKHz });
	});

	test("every hwsim channel has its own place", () => {
		const odd = hwsimChannels.filter(({ band, channel, centreKHz }) => {
			const place = placeOfKHz(centreKHz);
			return place?.band !== band || place.channel !== channel;
		});
		expect(odd).toEqual([]);
	});

	test("channels that do not exist are refused", () => {
		for (const [band, channel] of [
			["2.4", 15],
			["5", 0],
			["60", 7],
			["6", 1.5],
			["s1g", 52],
		] as const) {
			expect(() => channelToKHz(band, channel)).toThrow(
				expect.objectContaining({ code: "BAD_CHANNEL", value: channel }),
			);
		}
		expect(placeOfKHz(2_300_000)).toBeUndefined();
		expect(placeOfKHz(5_181_000)).toBeUndefined();
	});

	test("U-NII bands and sub-band names", () => {
		expect([5180, 5260, 5400, 5500, 5745, 5845, 5955, 6435, 6535, 6895].map(uniiBand)).toEqual([
			0,
			1,
			2,
			3,
			4,
			undefined,
			5,
			6,
			7,
			8,
		]);
		expect([2437, 5180, 5860, 6115, 60480].map(subBandName)).toEqual([
			"ISM 2.4",
			"U-NII-1",
			"U-NII-4",
			"U-NII-5",
			"60 GHz",
		]);
	});
});

describe("channel definitions", () => {
	test("standard centres", () => {
		const centres = (band: Band, channel: number, width: number): number[] =>
			standardDefinitions(band, channel, width).map(({ centreKHz }) => centreKHz / 1000);
		expect(centres("5", 36, 80)).toEqual([5210]);
		expect(centres("5", 100, 160)).toEqual([5570]);
		expect(centres("5", 165, 40)).toEqual([5835]);
		expect(centres("2.4", 6, 40)).toEqual([2447, 2427]);
		expect(centres("6", 33, 320)).toEqual([6105, 6265]);
		expect(centres("6", 1, 320)).toEqual([6105]);
		expect(centres("s1g", 5, 4)).toEqual([904]);
		expect(centres("2.4", 14, 40)).toEqual([]);
		expect(definitionsAround("5", 5_925_000, 80)).toEqual([]);
	});

	test("faults", () => {
		const fault = (definition: Parameters<typeof definitionFault>[0]): string | undefined =>
			definitionFault(definition);
		expect(fault({ primaryKHz: 5_180_000, width: 80, centreKHz: 5_210_000 })).toBeUndefined();
		expect(fault({ primaryKHz: 5_181_000, width: 20, centreKHz: 5_181_000 })).toBe("no-channel");
		expect(fault({ primaryKHz: 5_180_000, width: 80, centreKHz: 5_240_000 })).toBe("centre");
		expect(fault({ primaryKHz: 5_180_000, width: 4, centreKHz: 5_180_000 })).toBe("width-for-band");
		expect(fault({ primaryKHz: 5_955_000, width: 80, centreKHz: 5_965_000 })).toBe("alignment-6ghz");
		expect(fault({ primaryKHz: 2_484_000, width: 20, centreKHz: 2_484_000 })).toBe("channel-14");
		expect(fault({ primaryKHz: 5_180_000, width: "80+80", centreKHz: 5_210_000, centre2KHz: 5_290_000 })).toBe(
			"centre2",
		);
		expect(
			fault({ primaryKHz: 5_180_000, width: "80+80", centreKHz: 5_210_000, centre2KHz: 5_530_000 }),
		).toBeUndefined();
		expect(fault({ primaryKHz: 5_955_000, width: 80, centreKHz: 5_985_000, punctured: 0x2 })).toBeUndefined();
		expect(fault({ primaryKHz: 5_955_000, width: 80, centreKHz: 5_985_000, punctured: 0x1 })).toBe("puncturing");
		expect(fault({ primaryKHz: 5_955_000, width: 80, centreKHz: 5_985_000, punctured: 0x6 })).toBe("puncturing");
	});

	test("puncturing takes sub-channels out", () => {
		const definition = { primaryKHz: 5_955_000, width: 80, centreKHz: 5_985_000, punctured: 0x4 } as const;
		expect(subChannels(definition).map((khz) => khz / 1000)).toEqual([5955, 5975, 6015]);
	});

	test("a punctured sub-channel may be forbidden", () => {
		const rules = [5_945_000, 5_985_000].map((startKHz) => ({
			...ruled(0).rules[0]!,
			startKHz,
			endKHz: startKHz + 20_000,
			maxBandwidthKHz: 20_000,
		}));
		const third = { ...rules[0]!, startKHz: 5_965_000, endKHz: 5_985_000, flags: RuleFlag.AUTO_BW };
		const domain = {
			alpha2: "QX",
			dfsRegion: 0,
			rules: [
				{ ...rules[0]!, flags: RuleFlag.AUTO_BW },
				third,
				{ ...rules[1]!, endKHz: 6_025_000, maxBandwidthKHz: 20_000, flags: RuleFlag.AUTO_BW },
			],
		};
		const decisions = evaluateDomain(domain).map((decision) =>
			decision.centreKHz === 5_995_000 ? { ...decision, flags: ChannelFlag.DISABLED } : decision,
		);
		const whole = { primaryKHz: 5_955_000, width: 80, centreKHz: 5_985_000 } as const;
		expect(checkChannelDefinition(decisions, whole).problems).toEqual([
			{ kind: "flags", centreKHz: 5_995_000, flags: ["DISABLED"] },
		]);
		expect(checkChannelDefinition(decisions, { ...whole, punctured: 0x4 })).toEqual({ usable: true, problems: [] });
	});

	test("capabilities of the radio", () => {
		const decisions = evaluateDomain(of("DE"));
		const missing = (width: number, radio: Parameters<typeof checkChannelDefinition>[2]): unknown =>
			checkChannelDefinition(decisions, createChannelDefinition(5180, width), radio).problems[0];
		expect(missing(40, { ht40: false })).toEqual({ kind: "capability", missing: "40 MHz (HT)" });
		expect(missing(80, { vht: false })).toMatchObject({ kind: "capability" });
		expect(missing(160, { vht160: false })).toMatchObject({ kind: "capability" });
		expect(missing(20, { ht: false })).toMatchObject({ kind: "capability" });
		expect(missing(80, {})).toBeUndefined();
	});

	test("Japan has no 149, and 160 MHz from 36 to 64", () => {
		const decisions = evaluateDomain(of("JP"));
		expect(checkChannelDefinition(decisions, createChannelDefinition(5745, 20)).usable).toBe(false);
		expect(checkChannelDefinition(decisions, createChannelDefinition(5180, 160)).usable).toBe(true);
	});

	test("S1G primaries", () => {
		const decisions = evaluateDomain(of("US"));
		const check = (primaryKHz: number, width: 1 | 2, centreKHz: number, s1gPrimary2MHz = false): boolean =>
			checkChannelDefinition(decisions, { primaryKHz, width, centreKHz, s1gPrimary2MHz }).usable;
		expect(check(902_500, 1, 902_500)).toBe(false);
		expect(check(903_500, 2, 903_000)).toBe(true);
		expect(check(903_500, 2, 903_000, true)).toBe(false);
		expect(check(904_500, 2, 905_000, true)).toBe(true);
	});
});

describe("beaconing", () => {
	const on36 = createChannelDefinition(5180, 20);
	const beacon = (flags: number, context: Parameters<typeof canBeacon>[2] = {}): ReturnType<typeof canBeacon> =>
		canBeacon(evaluateDomain(ruled(flags)), on36, context);

	test("NO_IR stops access points, not stations joining", () => {
		expect(beacon(RuleFlag.NO_IR).usable).toBe(false);
		expect(checkChannelDefinition(evaluateDomain(ruled(RuleFlag.NO_IR)), on36).usable).toBe(true);
	});

	test("NO_IR in S1G stops nobody in Linux, and access points as it was meant", () => {
		const decisions = evaluateDomain(of("00"));
		const definition = createChannelDefinition(903.5, 1);
		expect(decisions.find(({ centreKHz }) => centreKHz === 903_500)!.flags & ChannelFlag.NO_IR).not.toBe(0);
		expect(canBeacon(decisions, definition).usable).toBe(true);
		expect(canBeacon(decisions, definition, { quirks: "none" })).toMatchObject({
			usable: false,
			problems: [{ flags: ["NO_IR"] }],
		});
	});

	test("relaxations need the driver's consent", () => {
		const flags = RuleFlag.NO_IR | RuleFlag.NO_OUTDOOR;
		expect(beacon(flags, { type: "p2p-go", indoor: true }).usable).toBe(false);
		const radio = { relaxNoIr: true };
		expect(beacon(flags, { type: "p2p-go", indoor: true, radio })).toMatchObject({ usable: true, relaxed: "indoor" });
		expect(beacon(flags, { type: "ap", indoor: true, radio }).usable).toBe(false);
	});

	test("a concurrent station opens its U-NII band, but 165 only itself", () => {
		const domain: Domain = {
			...ruled(0),
			rules: [
				{
					...ruled(RuleFlag.NO_IR | RuleFlag.IR_CONCURRENT).rules[0]!,
					startKHz: 5_735_000,
					endKHz: 5_835_000,
					maxBandwidthKHz: 80_000,
				},
			],
		};
		const decisions = evaluateDomain(domain);
		const go = (primaryMHz: number, stationMHz: number): boolean =>
			canBeacon(decisions, createChannelDefinition(primaryMHz, 20), {
				type: "p2p-go",
				radio: { relaxNoIr: true },
				concurrent: [{ type: "station", primaryKHz: stationMHz * 1000 }],
			}).usable;
		expect(go(5745, 5785)).toBe(true);
		expect(go(5745, 5825)).toBe(true);
		expect(go(5825, 5745)).toBe(false);
		expect(go(5825, 5825)).toBe(true);
		expect(go(5745, 5180)).toBe(false);
	});

	test("very low power and 20 MHz activity", () => {
		const domain = (flags: number): Domain => ({
			...ruled(0),
			rules: [{ ...ruled(RuleFlag.NO_IR | flags).rules[0]!, startKHz: 5_945_000, endKHz: 6_425_000 }],
		});
		const on = (flags: number, width: number, veryLowPower: boolean): unknown =>
			canBeacon(evaluateDomain(domain(flags)), createChannelDefinition(5955, width), { veryLowPower }).relaxed;
		expect(on(RuleFlag.ALLOW_6GHZ_VLP_AP, 80, true)).toBe("very-low-power");
		expect(on(RuleFlag.ALLOW_6GHZ_VLP_AP, 80, false)).toBeUndefined();
		expect(on(RuleFlag.ALLOW_20MHZ_ACTIVITY, 20, false)).toBe("20mhz-activity");
		expect(on(RuleFlag.ALLOW_20MHZ_ACTIVITY, 40, false)).toBeUndefined();
	});

	test("radar detection: check, use, radar, thirty minutes", () => {
		const channels = evaluateDomain(of("DE"));
		const definition = createChannelDefinition(5500, 80);
		expect(canBeacon(channels, definition)).toMatchObject({ usable: false, dfsRequired: true, cacMs: 60_000 });
		let states = startCac(createDfsStates(2), channels, definition, 1_000);
		states = advanceDfs(states, channels, 60_999);
		expect(canBeacon(withDfsStates(channels, states), definition).usable).toBe(false);
		states = advanceDfs(states, channels, 61_000);
		expect(canBeacon(withDfsStates(channels, states), definition)).toMatchObject({ usable: true, cacMs: 0 });
		states = radarDetected(states, channels, definition, 70_000);
		states = advanceDfs(states, channels, 70_000 + NON_OCCUPANCY_MS - 1);
		expect(withDfsStates(channels, states).filter(({ dfsState }) => dfsState === "unavailable")).toHaveLength(4);
		states = advanceDfs(states, channels, 70_000 + NON_OCCUPANCY_MS);
		expect(states.entries).toEqual([]);
	});

	test("only under ETSI rules does a check stay valid without use", () => {
		expect([preCacAllowed(2), preCacAllowed(1), preCacAllowed(2, 1)]).toEqual([true, false, false]);
		const channels = evaluateDomain(of("US"));
		const definition = createChannelDefinition(5500, 20);
		const cleared = advanceDfs(startCac(createDfsStates(1), channels, definition, 0), channels, 60_000);
		expect(cleared.entries).toHaveLength(1);
		expect(advanceDfs(cleared, channels, 62_000, [definition]).entries).toHaveLength(1);
		expect(advanceDfs(cleared, channels, 62_000).entries).toHaveLength(0);
	});
});

test("a driver's own power limit counts, and quirks: none keeps a single NO_HT40PLUS", () => {
	const limited = evaluateDomain(of("US"), {
		channels: [{ band: "5", channel: 36, centreKHz: 5_180_000, maxPowerDbm: 17 }],
	});
	expect(limited[0]).toMatchObject({ enabled: true, maxEirpMbm: 1700 });
	const flagsOf = (quirks: "linux-7.2" | "none"): number =>
		evaluateDomain(ruled(RuleFlag.NO_HT40PLUS), { quirks }).find(({ channel }) => channel === 40)!.flags &
		ChannelFlag.NO_HT40PLUS;
	expect(flagsOf("linux-7.2")).toBe(0);
	expect(flagsOf("none")).toBe(ChannelFlag.NO_HT40PLUS);
});
