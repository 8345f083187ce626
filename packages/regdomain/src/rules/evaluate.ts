import { type ChannelSpec, hwsimChannels, neighboursOf } from "../channel/plan.ts";
import type { Band } from "../model/bands.ts";
import type { Domain } from "../model/domain.ts";
import { ChannelFlag } from "../model/flags.ts";
import { applyHt40, DEFAULT_CAC_MS, type PreparedRules, prepareRules, type Quirks, ruleOn } from "./decide.ts";

/** What a domain makes of one channel of a radio. */
export interface ChannelDecision {
	/** Band. */
	band: Band;
	/** Channel number. */
	channel: number;
	/** Centre frequency, kHz. */
	centreKHz: number;
	/** Whether the channel may be used at all. */
	enabled: boolean;
	/** {@link ChannelFlag} bits. */
	flags: number;
	/** Highest power, mBm, in whole dBm as the kernel keeps it; 0 when disabled. */
	maxEirpMbm: number;
	/** Highest antenna gain, dBi; 0 = not given. */
	maxGainDbi: number;
	/** Channel availability check before beaconing, ms; 0 where no radar detection is needed. */
	cacMs: number;
	/** Power spectral density, dBm/MHz, where the rule gives one. */
	psdDbm?: number;
	/** Index of the rule that covers the channel, or of the lower of two adjacent rules; -1 when disabled. */
	rule: number;
	/** Index of the upper of two adjacent rules that cover the channel together; -1 otherwise. */
	upperRule: number;
}

/** How to evaluate. */
export interface EvaluateOptions {
	/** The radio's channels. @default the 139 of mac80211_hwsim */
	channels?: readonly ChannelSpec[];
	/** Kernel behaviour with or without its bugs. @default "linux-7.2" */
	quirks?: Quirks;
}

function decide(from: PreparedRules, spec: ChannelSpec): ChannelDecision {
	const { band, channel, centreKHz } = spec;
	const ruling = ruleOn(from, band, centreKHz);
	const enabled = ruling.rule >= 0 && ((spec.flags ?? 0) & ChannelFlag.DISABLED) === 0;
	const flags = (spec.flags ?? 0) | (ruling.flags & ~ruling.liftedFlags);
	const own = spec.maxPowerDbm ?? 0;
	const powerDbm = own === 0 ? ruling.powerDbm : Math.min(own, ruling.powerDbm);
	const decision: ChannelDecision = {
		band,
		channel,
		centreKHz,
		enabled,
		flags,
		maxEirpMbm: enabled ? powerDbm * 100 : 0,
		maxGainDbi: ruling.gainDbi,
		cacMs: enabled && (flags & ChannelFlag.RADAR) !== 0 ? ruling.cacMs || DEFAULT_CAC_MS : 0,
		rule: ruling.rule < 0 ? -1 : ruling.rule,
		upperRule: ruling.upperRule,
	};
	if (ruling.psdDbm !== undefined) decision.psdDbm = ruling.psdDbm;
	return decision;
}

/**
 * What a domain makes of every channel of a radio, as cfg80211 of Linux 7.2 decides it for a freshly registered radio
 * that follows the domain.
 *
 * @returns one decision per channel, in the order given
 */
export function evaluateDomain(domain: Domain, options: EvaluateOptions = {}): ChannelDecision[] {
	const channels = options.channels ?? hwsimChannels;
	const from = prepareRules(domain.rules);
	const decisions = channels.map((spec) => decide(from, spec));
	const { below, above } = neighboursOf(channels);
	const ruleFlagsOf =
		options.quirks === "none"
			? (index: number): number => {
					const { rule, upperRule } = decisions[index]!;
					return (domain.rules[rule]?.flags ?? 0) | (domain.rules[upperRule]?.flags ?? 0);
				}
			: undefined;
	applyHt40(decisions, below, above, ruleFlagsOf);
	return decisions;
}

const widthsByBand: Record<Band, readonly (readonly [number, number])[]> = {
	"2.4": [
		[20, ChannelFlag.NO_20MHZ],
		[40, 0],
	],
	"5": [
		[20, ChannelFlag.NO_20MHZ],
		[40, 0],
		[80, ChannelFlag.NO_80MHZ],
		[160, ChannelFlag.NO_160MHZ],
	],
	"6": [
		[20, ChannelFlag.NO_20MHZ],
		[40, 0],
		[80, ChannelFlag.NO_80MHZ],
		[160, ChannelFlag.NO_160MHZ],
		[320, ChannelFlag.NO_320MHZ],
	],
	"60": [[2160, 0]],
	s1g: [
		[1, 0],
		[2, 0],
		[4, ChannelFlag.NO_4MHZ],
		[8, ChannelFlag.NO_8MHZ],
		[16, ChannelFlag.NO_16MHZ],
	],
};

/**
 * The widths, in MHz, that a channel's flags leave open, as `iw phy … channels` lists them: 40 where either HT40 flag is
 * clear, the others where their flag is clear and the band knows the width. Whether a particular channel definition is
 * usable also depends on its other sub-channels: see {@link checkChannelDefinition}.
 */
export function openWidths(decision: Pick<ChannelDecision, "band" | "flags">): number[] {
	const { band, flags } = decision;
	if ((flags & ChannelFlag.DISABLED) !== 0) return [];
	const both = ChannelFlag.NO_HT40MINUS | ChannelFlag.NO_HT40PLUS;
	return widthsByBand[band]
		.filter(([width, flag]) => (flags & flag) === 0 && (width !== 40 || (flags & both) !== both))
		.map(([width]) => width);
}
