import type { Band } from "../model/bands.ts";
import type { Rule } from "../model/domain.ts";
import { ChannelFlag, channelFlagsOfRule, NO_HT40_EITHER, RuleFlag } from "../model/flags.ts";
import { effectiveBandwidthKHz } from "./bandwidth.ts";
import { fits, NO_BAND, ruleForCentre } from "./lookup.ts";

/** The default channel availability check (IEEE80211_DFS_MIN_CAC_TIME_MS), ms. */
export const DEFAULT_CAC_MS = 60_000;

/**
 * Which behaviour to answer with: `"linux-7.2"` does what the kernel does, its bugs included, because that is what the
 * radio will do; `"none"` does what the code meant.
 */
export type Quirks = "linux-7.2" | "none";

/** Figures of a rule that do not depend on the channel. */
interface PreparedRule {
	mapped: number;
	widthFlags: number;
	s1gFlags: number;
	powerDbm: number;
	gainDbi: number;
}

/** A domain's rules with what every channel needs from them worked out once. */
export interface PreparedRules {
	rules: readonly Rule[];
	prepared: readonly PreparedRule[];
}

/** What the rules say of one channel, before the radio's own limits and the HT40 pass. */
export interface Ruling {
	/** Index of the rule, or of the lower of two adjacent ones; negative: {@link NO_BAND} or NO_FIT, channel disabled. */
	rule: number;
	/** Index of the upper adjacent rule, or -1. */
	upperRule: number;
	/** Flags from rules and widths. For adjacent rules without the NO_10MHZ/NO_20MHZ correction. */
	flags: number;
	/** Flags that the joined range of two adjacent rules lifts again: NO_10MHZ and NO_20MHZ. */
	liftedFlags: number;
	/** dBm, truncated as the kernel does. */
	powerDbm: number;
	/** dBi, truncated as the kernel does. */
	gainDbi: number;
	/** Channel availability check of the rule or rules, ms; 0 = not given. */
	cacMs: number;
	/** dBm/MHz; undefined without the PSD flag. */
	psdDbm: number | undefined;
}

/** Flags for each width a limit is too narrow for (`reg_rule_to_chan_bw_flags`). */
function widthFlags(limitKHz: number): number {
	let flags = 0;
	if (limitKHz < 10_000) flags |= ChannelFlag.NO_10MHZ;
	if (limitKHz < 20_000) flags |= ChannelFlag.NO_20MHZ;
	if (limitKHz < 40_000) flags |= NO_HT40_EITHER;
	if (limitKHz < 80_000) flags |= ChannelFlag.NO_80MHZ;
	if (limitKHz < 160_000) flags |= ChannelFlag.NO_160MHZ;
	if (limitKHz < 320_000) flags |= ChannelFlag.NO_320MHZ;
	return flags;
}

function s1gWidthFlags(limitKHz: number): number {
	let flags = 0;
	if (limitKHz < 16_000) flags |= ChannelFlag.NO_16MHZ;
	if (limitKHz < 8_000) flags |= ChannelFlag.NO_8MHZ;
	if (limitKHz < 4_000) flags |= ChannelFlag.NO_4MHZ;
	return flags;
}

/** Works out what {@link ruleOn} needs of each rule. */
export function prepareRules(rules: readonly Rule[]): PreparedRules {
	return {
		rules,
		prepared: rules.map((rule, index) => {
			const limitKHz = effectiveBandwidthKHz(rules, index);
			return {
				mapped: channelFlagsOfRule(rule.flags),
				widthFlags: widthFlags(limitKHz),
				s1gFlags: s1gWidthFlags(limitKHz),
				powerDbm: Math.trunc(rule.maxEirpMbm / 100),
				gainDbi: Math.trunc(rule.maxGainMbi / 100),
			};
		}),
	};
}

function flagsUnder({ rules, prepared }: PreparedRules, index: number, band: Band, centreKHz: number): number {
	const figures = prepared[index]!;
	if (band === "s1g") return figures.mapped | figures.s1gFlags;
	let flags = figures.mapped | figures.widthFlags;
	if (!fits(rules[index]!, centreKHz, 20_000)) flags |= ChannelFlag.NO_20MHZ;
	if (!fits(rules[index]!, centreKHz, 10_000)) flags |= ChannelFlag.NO_10MHZ;
	return flags;
}

/** What one known rule says of a channel (`handle_channel_single_rule`). */
export function rulingUnder(from: PreparedRules, index: number, band: Band, centreKHz: number): Ruling {
	const figures = from.prepared[index]!;
	const rule = from.rules[index]!;
	return {
		rule: index,
		upperRule: -1,
		flags: flagsUnder(from, index, band, centreKHz),
		liftedFlags: 0,
		powerDbm: figures.powerDbm,
		gainDbi: figures.gainDbi,
		cacMs: rule.cacMs,
		psdDbm: (rule.flags & RuleFlag.PSD) !== 0 ? (rule.psdDbm ?? 0) : undefined,
	};
}

/** A channel no rule covers. */
export function noRuling(reason: number): Ruling {
	return {
		rule: reason,
		upperRule: -1,
		flags: ChannelFlag.DISABLED,
		liftedFlags: 0,
		powerDbm: 0,
		gainDbi: 0,
		cacMs: 0,
		psdDbm: undefined,
	};
}

/**
 * What a domain says of one channel (`handle_channel`): the first rule that fits; else, where the rules 20 MHz below and
 * above meet and 20 MHz fit their joined range, both together; else nothing, and the channel is disabled.
 */
export function ruleOn(from: PreparedRules, band: Band, centreKHz: number): Ruling {
	const { rules, prepared } = from;
	const single = ruleForCentre(rules, centreKHz);
	if (single >= 0) return rulingUnder(from, single, band, centreKHz);
	const lower = ruleForCentre(rules, centreKHz - 20_000);
	const upper = lower >= 0 ? ruleForCentre(rules, centreKHz + 20_000) : NO_BAND;
	if (upper < 0) return noRuling(single);
	const below = rules[lower]!;
	const above = rules[upper]!;
	const joined = { startKHz: below.startKHz, endKHz: above.endKHz };
	if (below.endKHz !== above.startKHz || !fits(joined, centreKHz, 20_000)) return noRuling(single);
	const bothPsd = (below.flags & above.flags & RuleFlag.PSD) !== 0;
	return {
		rule: lower,
		upperRule: upper,
		flags: flagsUnder(from, lower, band, centreKHz) | flagsUnder(from, upper, band, centreKHz),
		liftedFlags: ChannelFlag.NO_20MHZ | ChannelFlag.NO_10MHZ,
		powerDbm: Math.min(prepared[lower]!.powerDbm, prepared[upper]!.powerDbm),
		gainDbi: Math.min(prepared[lower]!.gainDbi, prepared[upper]!.gainDbi),
		cacMs: Math.max(below.cacMs, above.cacMs),
		psdDbm: bothPsd ? Math.min(below.psdDbm ?? 0, above.psdDbm ?? 0) : undefined,
	};
}

/** What {@link applyHt40} reads and writes of a channel. */
interface HasFlags {
	band: Band;
	flags: number;
}

/**
 * The HT40 pass over a radio's channels (`reg_process_ht_flags`), in order: a disabled channel, or one without any 40 MHz,
 * gets both flags; any other loses or gets each flag by whether its neighbour on that side exists and allows 40 MHz.
 *
 * @param ruleFlagsOf - flags of the rule that may forbid one side: in the kernel only the driver's own domain is asked,
 * so a single NO_HT40MINUS or NO_HT40PLUS of the global domain is lost
 */
export function applyHt40(
	channels: readonly HasFlags[],
	below: Int32Array,
	above: Int32Array,
	ruleFlagsOf?: (index: number) => number,
): void {
	const allowed = (index: number): boolean => {
		if (index < 0) return false;
		const { flags } = channels[index]!;
		return (flags & ChannelFlag.DISABLED) === 0 && (flags & NO_HT40_EITHER) !== NO_HT40_EITHER;
	};
	for (let index = 0; index < channels.length; index++) {
		const channel = channels[index]!;
		if (channel.band === "s1g") continue;
		if (!allowed(index)) {
			channel.flags |= NO_HT40_EITHER;
			continue;
		}
		const ruleFlags = ruleFlagsOf?.(index) ?? 0;
		channel.flags &= ~NO_HT40_EITHER;
		if (!allowed(below[index]!) || (ruleFlags & RuleFlag.NO_HT40MINUS) !== 0) channel.flags |= ChannelFlag.NO_HT40MINUS;
		if (!allowed(above[index]!) || (ruleFlags & RuleFlag.NO_HT40PLUS) !== 0) channel.flags |= ChannelFlag.NO_HT40PLUS;
	}
}
