import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import {
	builtInWorld,
	createRegulatoryCore,
	ENFORCE_GRACE_MS,
	parseScenario,
	type RegulatoryCore,
} from "../../src/hints/index.ts";
import { ChannelFlag, createChannelDefinition, type Domain, type Rule, RuleFlag } from "../../src/index.ts";

const database = bundledDatabase();
const start = (options: Parameters<typeof createRegulatoryCore>[0] = {}): RegulatoryCore =>
	createRegulatoryCore({ database, radios: [{ name: "wlan0" }], ...options });
const flagsOf = (core: RegulatoryCore, centreMHz: number, radio = "wlan0"): number =>
	core.radio(radio).channels.find(({ centreKHz }) => centreKHz === centreMHz * 1000)!.flags;
const noIr = (core: RegulatoryCore, centreMHz: number): boolean => (flagsOf(core, centreMHz) & ChannelFlag.NO_IR) !== 0;

describe("beacons", () => {
	test("lift NO_IR while roaming the world: not on radar channels, in 2.4 GHz only 12 to 14; a restore forgets them", () => {
		const core = start();
		for (const mhz of [5180, 5260, 2467, 2412]) core.apply({ kind: "beacon", radio: "wlan0", centreKHz: mhz * 1000 });
		expect([5180, 5260, 2467, 5200].map((mhz) => noIr(core, mhz))).toEqual([false, true, false, true]);
		core.apply({ kind: "disconnect", radio: "wlan0" });
		expect(noIr(core, 5180)).toBe(true);
	});

	test("are remembered for a radio plugged in later, and for the next world domain", () => {
		const core = start();
		core.apply({ kind: "beacon", radio: "wlan0", centreKHz: 5_180_000 });
		core.apply({ kind: "register", radio: { name: "wlan1" } });
		expect(flagsOf(core, 5180, "wlan1") & ChannelFlag.NO_IR).toBe(0);
		core.apply({ kind: "user", alpha2: "US" });
		core.apply({ kind: "user", alpha2: "00" });
		expect(noIr(core, 5180)).toBe(false);
	});

	test("do nothing in a country", () => {
		const core = start();
		core.apply({ kind: "user", alpha2: "US" });
		core.apply({ kind: "beacon", radio: "wlan0", centreKHz: 5_955_000 });
		expect(noIr(core, 5955)).toBe(true);
	});
});

describe("unknown countries", () => {
	test("block the queue for 3142 ms, then everything starts anew", () => {
		const core = start();
		core.apply({ kind: "user", alpha2: "QQ" });
		core.apply({ kind: "advance", ms: 500 });
		expect(core.apply({ kind: "user", alpha2: "US" })).toMatchObject([{ what: "queued" }]);
		core.apply({ kind: "advance", ms: 2641 });
		expect(core.state.global.alpha2).toBe("00");
		core.apply({ kind: "advance", ms: 1 });
		expect(core.state.global.alpha2).toBe("US");
		expect(core.state.userAlpha2).toBe("US");
	});

	test("may be answered by user space", () => {
		const core = start();
		core.apply({ kind: "user", alpha2: "QQ" });
		const domain: Domain = { ...database.domains.get("DE")!, alpha2: "QQ" };
		expect(core.apply({ kind: "answer", domain: { ...domain, alpha2: "XX" } })).toMatchObject([{ what: "failed" }]);
		core.apply({ kind: "answer", domain });
		expect(core.state).toMatchObject({ global: { alpha2: "QQ" }, last: { processed: true } });
		expect(core.state.answerDueMs).toBeUndefined();
	});

	test("are ignored by a kernel without CRDA support", () => {
		const core = start({ crda: false });
		expect(core.apply({ kind: "user", alpha2: "QQ" })).toMatchObject([{ what: "ignored" }]);
		core.apply({ kind: "user", alpha2: "US" });
		expect(core.state.global.alpha2).toBe("US");
	});

	test("as a module parameter keep the kernel restoring for ever; time that long is refused", () => {
		const core = start({ moduleAlpha2: "QQ" });
		core.apply({ kind: "advance", ms: 3142 * 3 });
		expect(core.state).toMatchObject({ global: { alpha2: "00" }, answerDueMs: 3142 * 4 });
		expect(() => core.apply({ kind: "advance", ms: 1e15 })).toThrow(
			expect.objectContaining({ code: "SCENARIO_SYNTAX" }),
		);
		expect(() => core.apply({ kind: "advance", ms: 1e300 })).toThrow(
			expect.objectContaining({ code: "SCENARIO_SYNTAX" }),
		);
	});

	test("without a database the kernel gives up after eleven waits, with its built-in world", () => {
		const core = createRegulatoryCore({ radios: [{ name: "wlan0" }] });
		core.apply({ kind: "advance", ms: 3142 * 20 });
		expect(core.state).toMatchObject({ global: builtInWorld, unanswered: 11 });
		expect(core.state.answerDueMs).toBeUndefined();
		expect(flagsOf(core, 903.5) & ChannelFlag.DISABLED).not.toBe(0);
		expect(flagsOf(core, 2412) & ChannelFlag.DISABLED).toBe(0);
	});
});

describe("country elements", () => {
	test("a second one is dropped until the disconnect; a radio may ignore them", () => {
		const core = start({ radios: [{ name: "wlan0" }, { name: "wlan1", ignoreCountryElement: true }] });
		expect(core.apply({ kind: "country-element", radio: "wlan1", alpha2: "JP" })).toMatchObject([{ what: "ignored" }]);
		core.apply({ kind: "country-element", radio: "wlan0", alpha2: "JP" });
		expect(core.apply({ kind: "country-element", radio: "wlan0", alpha2: "DE" })).toMatchObject([{ what: "ignored" }]);
		core.apply({ kind: "disconnect", radio: "wlan0" });
		expect(core.state.global.alpha2).toBe("JP");
		core.apply({ kind: "disconnect", radio: "wlan1" });
		expect(core.state.global.alpha2).toBe("00");
	});

	test("one that names no letters wedges the queue in Linux, and is ignored as the code meant", () => {
		const linux = start();
		linux.apply({ kind: "country-element", radio: "wlan0", alpha2: "::" });
		linux.apply({ kind: "user", alpha2: "US" });
		expect(linux.state.global.alpha2).toBe("00");
		expect(linux.state.queue).toHaveLength(1);
		const meant = start({ quirks: "none" });
		meant.apply({ kind: "country-element", radio: "wlan0", alpha2: "::" });
		meant.apply({ kind: "user", alpha2: "US" });
		expect(meant.state.global.alpha2).toBe("US");
	});
});

test("after a disconnect Linux falls back to its built-in world domain; the database's was meant", () => {
	const worldOf = (quirks: "linux-7.2" | "none"): Domain => {
		const core = start({ quirks });
		core.apply({ kind: "country-element", radio: "wlan0", alpha2: "JP" });
		core.apply({ kind: "disconnect", radio: "wlan0" });
		return core.state.global;
	};
	expect(worldOf("linux-7.2")).toEqual(builtInWorld);
	expect(worldOf("none")).toEqual(database.domains.get("00"));
});

test("a base station is trusted over users, by radios that take its word", () => {
	const core = start({ cellularHints: true, radios: [{ name: "a", cellularHints: true }, { name: "b" }] });
	core.apply({ kind: "user", alpha2: "JP", cellular: true });
	expect(core.apply({ kind: "user", alpha2: "US" })).toMatchObject([{ what: "ignored" }]);
	expect(core.state.global.alpha2).toBe("JP");
	expect(flagsOf(core, 2484, "a") & ChannelFlag.NO_IR).toBe(0);
	expect(flagsOf(core, 2484, "b") & ChannelFlag.NO_IR).not.toBe(0);
	expect(start().apply({ kind: "user", alpha2: "JP", cellular: true })).toMatchObject([{ what: "ignored" }]);
});

describe("radios", () => {
	const wide: Rule = {
		startKHz: 5_130_000,
		endKHz: 5_170_000,
		maxBandwidthKHz: 40_000,
		maxGainMbi: 0,
		maxEirpMbm: 2300,
		cacMs: 0,
		flags: RuleFlag.NO_EHT,
	};
	const joined = {
		domains: new Map([
			...database.domains,
			[
				"QX",
				{
					alpha2: "QX",
					dfsRegion: 0,
					rules: [wide, { ...wide, startKHz: 5_170_000, endKHz: 5_210_000, maxBandwidthKHz: 40_000 }],
				},
			],
		]),
	};
	const channels = [{ band: "5", channel: 34, centreKHz: 5_170_000 }] as const;

	test("a strict driver's channel across two rules keeps NO_20MHZ and loses NO_EHT in Linux, and not as meant", () => {
		const flags = (quirks: "linux-7.2" | "none"): number => {
			const core = createRegulatoryCore({
				database: joined,
				quirks,
				radios: [{ name: "wlan0", strict: true, channels }],
			});
			core.apply({ kind: "driver", radio: "wlan0", alpha2: "QX" });
			return flagsOf(core, 5170) & (ChannelFlag.NO_20MHZ | ChannelFlag.NO_EHT | ChannelFlag.DISABLED);
		};
		expect(flags("linux-7.2")).toBe(ChannelFlag.NO_20MHZ);
		expect(flags("none")).toBe(ChannelFlag.NO_EHT);
	});

	test("a disabled channel keeps stale flags in Linux, and not as meant", () => {
		const flags = (quirks: "linux-7.2" | "none"): number => {
			const core = start({ quirks });
			core.apply({ kind: "user", alpha2: "US" });
			return flagsOf(core, 2467) & ChannelFlag.NO_IR;
		};
		expect([flags("linux-7.2"), flags("none")]).toEqual([ChannelFlag.NO_IR, 0]);
	});

	test("a self-managed radio follows its driver alone", () => {
		const core = start({ radios: [{ name: "wlan0", selfManaged: true }] });
		core.apply({ kind: "user", alpha2: "US" });
		expect(core.radio("wlan0").channels.every(({ flags }) => (flags & ChannelFlag.DISABLED) === 0)).toBe(true);
		core.apply({ kind: "self-managed", radio: "wlan0", domain: { ...database.domains.get("JP")!, alpha2: "JP" } });
		expect(flagsOf(core, 5745) & ChannelFlag.DISABLED).not.toBe(0);
		expect(core.radio("wlan0").domain?.alpha2).toBe("JP");
	});

	test("a custom radio gets its own settings back on a restore", () => {
		const domain: Domain = { alpha2: "99", dfsRegion: 0, rules: [{ ...wide, endKHz: 5_250_000, flags: 0 }] };
		const core = start({ radios: [{ name: "wlan0", custom: domain }] });
		core.apply({ kind: "user", alpha2: "DE" });
		expect(flagsOf(core, 5180) & ChannelFlag.INDOOR_ONLY).not.toBe(0);
		core.apply({ kind: "user", alpha2: "00" });
		core.apply({ kind: "disconnect", radio: "wlan0" });
		expect(flagsOf(core, 5180) & ChannelFlag.INDOOR_ONLY).toBe(0);
	});

	test("interfaces leave a channel that was forbidden, 60 s after the change", () => {
		const core = start();
		core.apply({ kind: "user", alpha2: "US" });
		const definition = createChannelDefinition(5745, 80);
		core.apply({ kind: "interface-up", radio: "wlan0", name: "ap0", type: "ap", definition });
		core.apply({ kind: "advance", ms: ENFORCE_GRACE_MS });
		expect(core.state.interfaces).toHaveLength(1);
		core.apply({ kind: "user", alpha2: "JP" });
		core.apply({ kind: "advance", ms: ENFORCE_GRACE_MS - 1 });
		expect(core.state.interfaces).toHaveLength(1);
		expect(core.apply({ kind: "advance", ms: 1 })).toMatchObject([{ what: "left", subject: "ap0 on wlan0" }]);
	});

	test("names must be known and unique", () => {
		const core = start();
		expect(() => core.apply({ kind: "driver", radio: "nope", alpha2: "US" })).toThrow(
			expect.objectContaining({ code: "SCENARIO_SYNTAX", value: "nope" }),
		);
		expect(() => core.apply({ kind: "register", radio: { name: "wlan0" } })).toThrow(
			expect.objectContaining({ code: "SCENARIO_SYNTAX" }),
		);
		expect(() => core.apply({ kind: "advance", ms: -1 })).toThrow(expect.objectContaining({ code: "SCENARIO_SYNTAX" }));
	});
});

test("scenarios are checked field by field", () => {
	const field = (json: unknown): string | undefined => {
		try {
			parseScenario(json);
			return undefined;
		} catch (error) {
			return (error as { place: { field?: string } }).place.field;
		}
	};
	expect(
		field({
			radios: [{ name: "a", customRules: [{ startKHz: 1, endKHz: 2, maxBandwidthKHz: 1, maxEirpMbm: 1 }] }],
			steps: [{ advanceMs: 1 }],
		}),
	).toBeUndefined();
	expect(field([])).toBe("scenario");
	expect(field({ radios: {} })).toBe("radios");
	expect(field({ radios: [{}] })).toBe("radios[0].name");
	expect(field({ radios: [{ name: "a", strict: 1 }] })).toBe("radios[0].strict");
	expect(field({ steps: [{ hint: "user", alpha2: "USA" }] })).toBe("steps[0].alpha2");
	expect(field({ steps: [{ advanceMs: "1" }] })).toBe("steps[0].advanceMs");
	expect(field({ steps: [{ hint: "nobody" }] })).toBe("steps[0]");
	expect(field({ quirks: "some" })).toBe("quirks");
});
