/**
 * Flags of a regulatory rule, as nl80211 numbers them (`enum nl80211_reg_rule_flags`, linux/nl80211.h of Linux 7.2).
 * `NO_IBSS` is the historic second half of NO_IR, which the kernel still honours; `NO_HT40` (bit 10) exists only in
 * db.txt and regulatory.bin.
 */
export const RuleFlag = {
	NO_OFDM: 0x1,
	NO_CCK: 0x2,
	NO_INDOOR: 0x4,
	NO_OUTDOOR: 0x8,
	DFS: 0x10,
	PTP_ONLY: 0x20,
	PTMP_ONLY: 0x40,
	NO_IR: 0x80,
	NO_IBSS: 0x100,
	NO_HT40: 0x400,
	AUTO_BW: 0x800,
	IR_CONCURRENT: 0x1000,
	NO_HT40MINUS: 0x2000,
	NO_HT40PLUS: 0x4000,
	NO_80MHZ: 0x8000,
	NO_160MHZ: 0x10000,
	NO_HE: 0x20000,
	NO_320MHZ: 0x40000,
	NO_EHT: 0x80000,
	PSD: 0x100000,
	DFS_CONCURRENT: 0x200000,
	NO_6GHZ_VLP_CLIENT: 0x400000,
	NO_6GHZ_AFC_CLIENT: 0x800000,
	ALLOW_6GHZ_VLP_AP: 0x1000000,
	ALLOW_20MHZ_ACTIVITY: 0x2000000,
	NO_UHR: 0x4000000,
} as const;

/** Name of a flag of a rule. */
export type RuleFlagName = keyof typeof RuleFlag;

/**
 * Flags of a channel, named as the kernel names them (`enum ieee80211_channel_flags`, net/cfg80211.h). Bits 0 to 26
 * have the kernel's values; the later ones have this package's own.
 */
export const ChannelFlag = {
	DISABLED: 0x1,
	NO_IR: 0x2,
	PSD: 0x4,
	RADAR: 0x8,
	NO_HT40PLUS: 0x10,
	NO_HT40MINUS: 0x20,
	NO_OFDM: 0x40,
	NO_80MHZ: 0x80,
	NO_160MHZ: 0x100,
	INDOOR_ONLY: 0x200,
	IR_CONCURRENT: 0x400,
	NO_20MHZ: 0x800,
	NO_10MHZ: 0x1000,
	NO_HE: 0x2000,
	NO_UHR: 0x4000,
	NO_320MHZ: 0x80000,
	NO_EHT: 0x100000,
	DFS_CONCURRENT: 0x200000,
	NO_6GHZ_VLP_CLIENT: 0x400000,
	NO_6GHZ_AFC_CLIENT: 0x800000,
	ALLOW_6GHZ_VLP_AP: 0x2000000,
	ALLOW_20MHZ_ACTIVITY: 0x4000000,
	S1G_NO_PRIMARY: 0x8000000,
	NO_4MHZ: 0x10000000,
	NO_8MHZ: 0x20000000,
	NO_16MHZ: 0x40000000,
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
