/**
 * Flags of a regulatory rule, as nl80211 numbers them (`enum nl80211_reg_rule_flags`, linux/nl80211.h of Linux 7.2).
 * `NO_IBSS` is the historic second half of NO_IR, which the kernel still honours; `NO_HT40` (bit 10) exists only in
 * db.txt and regulatory.bin.
 */
export const RuleFlag = {
	NO_OFDM: 1 << 0,
	NO_CCK: 1 << 1,
	NO_INDOOR: 1 << 2,
	NO_OUTDOOR: 1 << 3,
	DFS: 1 << 4,
	PTP_ONLY: 1 << 5,
	PTMP_ONLY: 1 << 6,
	NO_IR: 1 << 7,
	NO_IBSS: 1 << 8,
	NO_HT40: 1 << 10,
	AUTO_BW: 1 << 11,
	IR_CONCURRENT: 1 << 12,
	NO_HT40MINUS: 1 << 13,
	NO_HT40PLUS: 1 << 14,
	NO_80MHZ: 1 << 15,
	NO_160MHZ: 1 << 16,
	NO_HE: 1 << 17,
	NO_320MHZ: 1 << 18,
	NO_EHT: 1 << 19,
	PSD: 1 << 20,
	DFS_CONCURRENT: 1 << 21,
	NO_6GHZ_VLP_CLIENT: 1 << 22,
	NO_6GHZ_AFC_CLIENT: 1 << 23,
	ALLOW_6GHZ_VLP_AP: 1 << 24,
	ALLOW_20MHZ_ACTIVITY: 1 << 25,
	NO_UHR: 1 << 26,
} as const;

/** Name of a flag of a rule. */
export type RuleFlagName = keyof typeof RuleFlag;

/**
 * Flags of a channel, named as the kernel names them (`enum ieee80211_channel_flags`, net/cfg80211.h). Bits 0 to 26
 * have the kernel's values; the later ones have this package's own.
 */
export const ChannelFlag = {
	DISABLED: 1 << 0,
	NO_IR: 1 << 1,
	PSD: 1 << 2,
	RADAR: 1 << 3,
	NO_HT40PLUS: 1 << 4,
	NO_HT40MINUS: 1 << 5,
	NO_OFDM: 1 << 6,
	NO_80MHZ: 1 << 7,
	NO_160MHZ: 1 << 8,
	INDOOR_ONLY: 1 << 9,
	IR_CONCURRENT: 1 << 10,
	NO_20MHZ: 1 << 11,
	NO_10MHZ: 1 << 12,
	NO_HE: 1 << 13,
	NO_UHR: 1 << 14,
	NO_320MHZ: 1 << 19,
	NO_EHT: 1 << 20,
	DFS_CONCURRENT: 1 << 21,
	NO_6GHZ_VLP_CLIENT: 1 << 22,
	NO_6GHZ_AFC_CLIENT: 1 << 23,
	ALLOW_6GHZ_VLP_AP: 1 << 25,
	ALLOW_20MHZ_ACTIVITY: 1 << 26,
	S1G_NO_PRIMARY: 1 << 27,
	NO_4MHZ: 1 << 28,
	NO_8MHZ: 1 << 29,
	NO_16MHZ: 1 << 30,
} as const;

/** Name of a flag of a channel. */
export type ChannelFlagName = keyof typeof ChannelFlag;

/** Both HT40 flags together: no 40 MHz channel at all. */
export const NO_HT40_EITHER: number = ChannelFlag.NO_HT40MINUS | ChannelFlag.NO_HT40PLUS;

/** Either half of "no initiating radiation"; both mean NO_IR to the kernel. */
export const NO_IR_ANY: number = RuleFlag.NO_IR | RuleFlag.NO_IBSS;

// [rule flag, channel flag], in the order nl80211 reports channel attributes.
const mapping: readonly (readonly [number, number])[] = [
	[NO_IR_ANY, ChannelFlag.NO_IR],
	[RuleFlag.DFS, ChannelFlag.RADAR],
	[RuleFlag.NO_OFDM, ChannelFlag.NO_OFDM],
	[RuleFlag.NO_OUTDOOR, ChannelFlag.INDOOR_ONLY],
	[RuleFlag.IR_CONCURRENT, ChannelFlag.IR_CONCURRENT],
	[RuleFlag.NO_HT40MINUS, ChannelFlag.NO_HT40MINUS],
	[RuleFlag.NO_HT40PLUS, ChannelFlag.NO_HT40PLUS],
	[RuleFlag.NO_80MHZ, ChannelFlag.NO_80MHZ],
	[RuleFlag.NO_160MHZ, ChannelFlag.NO_160MHZ],
	[RuleFlag.NO_HE, ChannelFlag.NO_HE],
	[RuleFlag.NO_320MHZ, ChannelFlag.NO_320MHZ],
	[RuleFlag.NO_EHT, ChannelFlag.NO_EHT],
	[RuleFlag.DFS_CONCURRENT, ChannelFlag.DFS_CONCURRENT],
	[RuleFlag.NO_6GHZ_VLP_CLIENT, ChannelFlag.NO_6GHZ_VLP_CLIENT],
	[RuleFlag.NO_6GHZ_AFC_CLIENT, ChannelFlag.NO_6GHZ_AFC_CLIENT],
	[RuleFlag.PSD, ChannelFlag.PSD],
	[RuleFlag.ALLOW_6GHZ_VLP_AP, ChannelFlag.ALLOW_6GHZ_VLP_AP],
	[RuleFlag.ALLOW_20MHZ_ACTIVITY, ChannelFlag.ALLOW_20MHZ_ACTIVITY],
	[RuleFlag.NO_UHR, ChannelFlag.NO_UHR],
];

/** Channel flags that a rule's flags give every channel it covers (`map_regdom_flags`, net/wireless/reg.c). */
export function channelFlagsOfRule(ruleFlags: number): number {
	let flags = 0;
	for (const [rule, channel] of mapping) if ((ruleFlags & rule) !== 0) flags |= channel;
	return flags;
}

const channelFlagOrder: readonly ChannelFlagName[] = [
	"DISABLED",
	"NO_IR",
	"RADAR",
	"NO_HT40MINUS",
	"NO_HT40PLUS",
	"NO_80MHZ",
	"NO_160MHZ",
	"INDOOR_ONLY",
	"IR_CONCURRENT",
	"NO_20MHZ",
	"NO_10MHZ",
	"NO_HE",
	"NO_OFDM",
	"NO_320MHZ",
	"NO_EHT",
	"PSD",
	"DFS_CONCURRENT",
	"NO_6GHZ_VLP_CLIENT",
	"NO_6GHZ_AFC_CLIENT",
	"ALLOW_6GHZ_VLP_AP",
	"ALLOW_20MHZ_ACTIVITY",
	"NO_4MHZ",
	"NO_8MHZ",
	"NO_16MHZ",
	"S1G_NO_PRIMARY",
	"NO_UHR",
];

/** The names of the channel flags set in a mask, in a fixed order. */
export function channelFlagNames(mask: number): ChannelFlagName[] {
	return channelFlagOrder.filter((name) => (mask & ChannelFlag[name]) !== 0);
}

/** The names of the channel flags that nl80211 reports to user space: all but NO_OFDM, for which it has no attribute. */
export function reportedChannelFlagNames(mask: number): ChannelFlagName[] {
	return channelFlagNames(mask & ~ChannelFlag.NO_OFDM);
}

/** The names of the rule flags set in a mask, by ascending bit. */
export function ruleFlagNames(mask: number): RuleFlagName[] {
	return (Object.keys(RuleFlag) as RuleFlagName[]).filter((name) => (mask & RuleFlag[name]) !== 0);
}
