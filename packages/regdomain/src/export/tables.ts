import type { Database, Domain } from "../model/domain.ts";
import { RuleFlag, reportedChannelFlagNames, ruleFlagNames } from "../model/flags.ts";
import { type ChannelDecision, openWidths } from "../rules/evaluate.ts";

/** A channel as JSON: the shape of `regdomain channels --json`. */
export interface ChannelJson {
	/** "2.4", "5", "6", "60" or "s1g". */
	band: string;
	/** Channel number. */
	channel: number;
	/** Centre, MHz. */
	centreMHz: number;
	/** Whether it may be used. */
	enabled: boolean;
	/** Highest power, mBm, whole dBm as the kernel keeps it. */
	maxEirpMbm: number;
	/** Channel availability check, ms. */
	cacMs: number;
	/** The flags nl80211 reports. */
	flags: string[];
	/** Widths the flags leave open, MHz. */
	widthsMHz: number[];
}

/** What {@link channelJson} reads; {@link ChannelDecision} fits. */
export type ChannelSource = Pick<
	ChannelDecision,
	"band" | "channel" | "centreKHz" | "enabled" | "maxEirpMbm" | "cacMs" | "flags"
>;

/** One channel as JSON. */
export function channelJson({
	band,
	channel,
	centreKHz,
	enabled,
	maxEirpMbm,
	cacMs,
	flags,
}: ChannelSource): ChannelJson {
	return {
		band,
		channel,
		centreMHz: centreKHz / 1000,
		enabled,
		maxEirpMbm,
		cacMs,
		flags: reportedChannelFlagNames(flags),
		widthsMHz: openWidths({ band, flags }),
	};
}

const columns = ["band", "channel", "centre_mhz", "enabled", "max_eirp_dbm", "cac_ms", "widths_mhz", "flags"];

function cells(decision: ChannelSource): string[] {
	const { band, channel, centreMHz, enabled, maxEirpMbm, cacMs, flags, widthsMHz } = channelJson(decision);
	return [
		band,
		String(channel),
		String(centreMHz),
		enabled ? "yes" : "no",
		enabled ? String(maxEirpMbm / 100) : "",
		cacMs === 0 ? "" : String(cacMs),
		widthsMHz.join(" "),
		flags.join(" "),
	];
}

/** Channels as CSV (RFC 4180) with a heading. */
export function channelsToCsv(decisions: readonly ChannelSource[]): string {
	return [columns, ...decisions.map(cells)].map((row) => `${row.join(",")}\r\n`).join("");
}

/** Channels as a Markdown table. */
export function channelsToMarkdown(decisions: readonly ChannelSource[]): string {
	const rows = [columns, columns.map(() => "---"), ...decisions.map(cells)];
	return rows.map((row) => `| ${row.join(" | ")} |\n`).join("");
}

/** A database as plain JSON: domains with their rules, flags as the nl80211 bit mask. */
export function databaseJson(database: Database): { version?: string; domains: Domain[] } {
	const domains = [...database.domains.values()].map((domain) => ({
		...domain,
		rules: domain.rules.map((rule) => ({ ...rule })),
	}));
	return database.version === undefined ? { domains } : { version: database.version, domains };
}

const cFlagNames: Readonly<Record<string, string>> = { NO_IBSS: "__NL80211_RRF_NO_IBSS" };

/** A domain as C for the kernel's former built-in table (CONFIG_CFG80211_INTERNAL_REGDB, genregdb.awk). */
export function domainToC(domain: Domain): string {
	const dfs = ["NL80211_DFS_UNSET", "NL80211_DFS_FCC", "NL80211_DFS_ETSI", "NL80211_DFS_JP"][domain.dfsRegion];
	const rules = domain.rules.map((rule) => {
		const names = ruleFlagNames(rule.flags & ~RuleFlag.NO_HT40).map(
			(name) => cFlagNames[name] ?? `NL80211_RRF_${name}`,
		);
		const flags = [...names, "0"].join(" | ");
		const range = [rule.startKHz, rule.endKHz, rule.maxBandwidthKHz].map((khz) => khz / 1000).join(", ");
		return `\t\tREG_RULE_EXT(${range}, ${rule.maxGainMbi / 100}, ${rule.maxEirpMbm / 100}, ${rule.cacMs}, ${flags}),\n`;
	});
	return `static const struct ieee80211_regdomain regdom_${domain.alpha2} = {
	.alpha2 = ${JSON.stringify(domain.alpha2)},
	.dfs_region = ${dfs ?? domain.dfsRegion},
	.n_reg_rules = ${domain.rules.length},
	.reg_rules = {
${rules.join("")}	}
};
`;
}

/** A database as C: a table of every domain. */
export function databaseToC(database: Database): string {
	const domains = [...database.domains.values()];
	const list = domains.map(({ alpha2 }) => `\t&regdom_${alpha2},\n`).join("");
	return `#include <linux/nl80211.h>
#include <net/cfg80211.h>
#include "regdb.h"

${domains.map(domainToC).join("\n")}
const struct ieee80211_regdomain *reg_regdb[] = {
${list}};

int reg_regdb_size = ARRAY_SIZE(reg_regdb);
`;
}
