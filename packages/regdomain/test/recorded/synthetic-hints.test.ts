import { describe, expect, test } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import { type ChannelState, createRegulatoryCore } from "../../src/hints/index.ts";
import { ChannelFlag, type Domain, reportedChannelFlagNames } from "../../src/index.ts";
import { parseRaw, type RawChannel } from "../support/raw.ts";
import { haveShared, sections, shared } from "../support/shared.ts";

const world = bundledDatabase().domains.get("00")!;
const withWorld = (domains: readonly Domain[]): { domains: Map<string, Domain> } => ({
	domains: new Map([["00", world], ...domains.map((domain): [string, Domain] => [domain.alpha2, domain])]),
});

const raw = ({ band, centreKHz, powerDbm, cacMs, flags }: ChannelState): RawChannel => ({
	band,
	centreKHz,
	maxEirpMbm: powerDbm * 100,
	cacMs: (flags & ChannelFlag.RADAR) !== 0 ? cacMs : 0,
	flags: (reportedChannelFlagNames(flags) as string[]).sort(),
});

describe.skipIf(!haveShared)(
	"hints with made-up domains, recorded from Linux 7.2 (skipped where ../shared/data is absent)",
	() => {
		const recorded = haveShared ? sections(shared("kernel-7.2_synthetic_raw.txt")) : [];
		const of = (kind: string): [string, string[]][] =>
			recorded.filter(({ heading }) => heading.startsWith(kind)).map(({ heading, lines }) => [heading, lines]);

		test.each(of("PAIR"))("two drivers: %s", (_, lines) => {
			const { input, domains } = parseRaw(lines);
			const core = createRegulatoryCore({ database: withWorld(input), radios: [{ name: "phy0" }, { name: "phy1" }] });
			core.apply({ kind: "driver", radio: "phy0", alpha2: "QX" });
			core.apply({ kind: "driver", radio: "phy1", alpha2: "QY" });
			for (const { owner, domain } of domains) {
				const { rules, ...rest } = owner.startsWith("global") ? core.state.global : core.radio(owner).domain!;
				expect({ ...rest, rules: rules.map(({ wmm: _wmm, ...rule }) => rule) }).toEqual(domain);
			}
		});

		// Only the first record follows the world domain; the others keep stale flags of records that are not at hand.
		test.each(of("USER").slice(0, 1))(
			"a user after the world, disabled channels with their stale flags and all: %s",
			(_, lines) => {
				const { input, channels } = parseRaw(lines);
				const core = createRegulatoryCore({ database: withWorld(input), radios: [{ name: "phy0" }] });
				core.apply({ kind: "user", alpha2: "QX" });
				const expected = channels.map((channel) =>
					channel.flags.includes("RADAR") ? channel : { ...channel, cacMs: 0 },
				);
				expect(core.radio("phy0").channels.map(raw)).toEqual(expected);
			},
		);
	},
);
