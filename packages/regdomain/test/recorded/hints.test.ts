import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import {
	createRegulatoryCore,
	type RadioOptions,
	type RegulatoryCore,
	type RegulatoryEvent,
} from "../../src/hints/index.ts";
import type { Domain } from "../../src/index.ts";
import { ChannelFlag } from "../../src/index.ts";
import { iwWidths, type OwnedDomain, parseIwRegGet, renderIwRegGet } from "../../src/text/index.ts";
import { haveShared, sections, shared } from "../support/shared.ts";

const custom = (...rows: [number, number, number, number, number][]): Domain => ({
	alpha2: "99",
	dfsRegion: 0,
	rules: rows.map(([start, end, width, eirp, flags]) => ({
		startKHz: start * 1000,
		endKHz: end * 1000,
		maxBandwidthKHz: width * 1000,
		maxGainMbi: 0,
		maxEirpMbm: eirp * 100,
		cacMs: 0,
		flags,
	})),
});

// The custom domains of mac80211_hwsim, as the recording shows them.
const custom0 = custom(
	[2402, 2472, 40, 20, 0],
	[2474, 2494, 40, 20, 0],
	[5140, 5250, 40, 30, 0],
	[5735, 5835, 40, 30, 0],
	[5845, 5935, 40, 33, 0],
);
const custom1 = custom([2402, 2472, 40, 20, 0], [5715, 5860, 40, 30, 0x80], [5845, 5935, 40, 33, 0]);

const user = (alpha2: string): RegulatoryEvent => ({ kind: "user", alpha2 });
const driver = (radio: string, alpha2: string): RegulatoryEvent => ({ kind: "driver", radio, alpha2 });
const phys = (count: number, more: Partial<RadioOptions> = {}): RadioOptions[] =>
	Array.from({ length: count }, (_, index) => ({ name: `phy#${index}`, ...more }));
const drivers = (...alpha2: string[]): RegulatoryEvent[] => alpha2.map((code, index) => driver(`phy#${index}`, code));

interface Setup {
	radios: RadioOptions[];
	moduleAlpha2?: string;
	/** Steps by the start of the section's heading, each run before that section is compared. */
	steps: [heading: string, events: RegulatoryEvent[]][];
}

const setups: Setup[] = [
	{
		radios: [],
		steps: [
			["S0", []],
			["S1a", []],
			["S1b", [user("QQ")]],
			["S1c", [{ kind: "advance", ms: 500 }, user("US")]],
			["S1d", [user("US")]],
			["S1e", [user("JP")]],
			["S1f", [user("00")]],
		],
	},
	{
		radios: phys(1),
		steps: [
			["S2a", drivers("US")],
			["S2b", [user("JP")]],
			["S2c", [user("US")]],
		],
	},
	{
		radios: phys(1, { strict: true }),
		steps: [
			["S4a", drivers("US")],
			["S4b", [user("JP")]],
			["S4c", [user("00")]],
		],
	},
	{
		radios: phys(1, { custom: custom0 }),
		steps: [
			["S5-0 custom", []],
			["S5-0 then", [user("US")]],
		],
	},
	{
		radios: phys(1, { custom: custom1 }),
		steps: [
			["S5-1 custom", []],
			["S5-1 then", [user("US")]],
		],
	},
	{ radios: phys(2), steps: [["S7", drivers("US", "US")]] },
	{ radios: phys(6), steps: [["S10-2", drivers("FI", "FI", "FI", "FI", "FI", "FI")]] },
	{ radios: phys(6), steps: [["S10-3", drivers("FI", "AL", "US", "DE", "JP", "AL")]] },
	{ radios: phys(6), steps: [["S10-1", drivers("FI")]] },
	{ radios: phys(1, { custom: custom0 }), steps: [["S10-4", []]] },
	{ radios: phys(6, { strict: true }), steps: [["S10-7", drivers("FI")]] },
	{ radios: phys(6, { strict: true }), steps: [["S10-8", drivers("FI", "FI", "FI", "FI", "FI", "FI")]] },
	{ radios: phys(2, { strict: true }), steps: [["S10-9", drivers("FI", "AL")]] },
	{
		radios: [{ name: "phy#0", custom: custom0 }, { name: "phy#1", custom: custom1 }, ...phys(6).slice(2)],
		steps: [["S10-10", [driver("phy#2", "FI"), driver("phy#3", "AL"), driver("phy#4", "US")]]],
	},
	{ radios: phys(6), moduleAlpha2: "DE", steps: [["S11", []]] },
];

function regGet(core: RegulatoryCore): string {
	const own: OwnedDomain[] = core.state.radios
		.flatMap(({ name, domain }) => (domain === undefined ? [] : [{ owner: name, domain }]))
		.reverse();
	return renderIwRegGet([{ owner: "global", domain: core.state.global }, ...own]);
}

/** A channel on one line, as the recorder joined iw's lines. */
function channelLine({
	centreKHz,
	channel,
	flags,
	powerDbm,
	cacMs,
	band,
}: RegulatoryCore["state"]["radios"][0]["channels"][0]): string {
	const start = `* ${Math.trunc(centreKHz / 1000)} MHz [${channel}]`;
	if ((flags & ChannelFlag.DISABLED) !== 0) return `${start} (disabled)`;
	const radar = (flags & ChannelFlag.RADAR) !== 0;
	const parts = [
		`${start} `,
		`Maximum TX power: ${powerDbm.toFixed(1)} dBm`,
		...((flags & ChannelFlag.NO_IR) !== 0 ? ["No IR"] : []),
		...(radar ? ["Radar detection"] : []),
		`Channel widths: ${iwWidths({ band, flags }).join(" ")}`,
		...(radar ? [`DFS CAC time: ${cacMs} ms`] : []),
	];
	return parts.join(" | ");
}

const isChannel = (line: string): boolean => line.startsWith("\t*");

function compare(core: RegulatoryCore, lines: readonly string[], radio = "phy#0"): void {
	const until = lines.findIndex((line) => line.startsWith("--channels"));
	const text = lines
		.slice(0, until < 0 ? lines.length : until)
		.filter((line) => /^(global|phy#|country|\t\()/.test(line));
	expect(regGet(core)).toBe(renderIwRegGet(parseIwRegGet(text.join("\n"))));
	const listed = core.state.radios.find(({ name }) => name === radio)?.channels.map(channelLine) ?? [];
	for (const line of lines.filter(isChannel)) expect(listed).toContain(line.trim());
}

describe.skipIf(!haveShared)("hint scenarios recorded from Linux 7.2 (skipped where ../shared/data is absent)", () => {
	const recorded = haveShared ? sections(shared("kernel-7.2_hint_scenarios_iw.txt")) : [];
	test.each(setups.map((setup) => [setup.steps.map(([heading]) => heading).join(", "), setup] as const))(
		"%s",
		(_, setup) => {
			const { radios, moduleAlpha2 = "00" } = setup;
			const core = createRegulatoryCore({ database: bundledDatabase(), radios, moduleAlpha2 });
			for (const [heading, events] of setup.steps) {
				for (const event of events) core.apply(event);
				const section = recorded.find((candidate) => candidate.heading.startsWith(`${heading} `));
				expect(section, heading).toBeDefined();
				compare(core, section!.lines);
			}
		},
	);

	test("country elements, disconnects and the user", () => {
		const elements = sections(shared("kernel-7.2_country_ie_iw.txt"));
		const lines = (start: string): string[] => elements.find(({ heading }) => heading.startsWith(start))!.lines;
		const start = (): RegulatoryCore => createRegulatoryCore({ database: bundledDatabase(), radios: phys(2) });
		const expectGlobal = (core: RegulatoryCore, heading: string): void => {
			expect(core.state.global.alpha2).toBe(/country (\S\S)/.exec(lines(heading).join("\n"))![1]);
		};
		const element: RegulatoryEvent = { kind: "country-element", radio: "phy#1", alpha2: "JP" };
		const c1 = start();
		c1.apply(element);
		compare(c1, lines("C1a"), "phy#1");
		c1.apply({ kind: "disconnect", radio: "phy#1" });
		expectGlobal(c1, "C1b");

		const c2 = start();
		c2.apply(user("US"));
		c2.apply(element);
		compare(c2, lines("C2a"), "phy#1");
		c2.apply(user("DE"));
		compare(c2, lines("C3a"), "phy#1");
		c2.apply(user("US"));
		expectGlobal(c2, "C3b");
		c2.apply({ kind: "disconnect", radio: "phy#1" });
		expectGlobal(c2, "C3c");
	});
});
