import type { Database, Domain, Rule } from "../model/domain.ts";
import { reportedChannelFlagNames } from "../model/flags.ts";
import { type ChannelDecision, evaluateDomain } from "../rules/evaluate.ts";
import { wmmKey } from "./source.ts";

/** A channel that two releases decide differently. */
export interface ChannelChange {
	/** Band. */
	band: ChannelDecision["band"];
	/** Channel number. */
	channel: number;
	/** Centre, kHz. */
	centreKHz: number;
	/** What changed, in words such as `enabled`, `20 → 23 dBm`, `+RADAR`. */
	changes: string[];
}

/** How one country differs between two databases. */
export interface CountryChange {
	/** Country code. */
	alpha2: string;
	/** Whether it is only in the second, only in the first, or in both with differences. */
	kind: "added" | "removed" | "changed";
	/** DFS regions, where they differ. */
	dfsRegion?: { before: number; after: number };
	/** Rules only the first database has. */
	removedRules: Rule[];
	/** Rules only the second database has. */
	addedRules: Rule[];
	/** Channels of mac80211_hwsim that are decided differently. */
	channels: ChannelChange[];
}

const ruleKey = (rule: Rule): string =>
	[
		rule.startKHz,
		rule.endKHz,
		rule.maxBandwidthKHz,
		rule.maxGainMbi,
		rule.maxEirpMbm,
		rule.cacMs,
		rule.flags,
		wmmKey(rule.wmm),
	].join(" ");

function channelChanges(before: ChannelDecision, after: ChannelDecision): string[] {
	if (before.enabled !== after.enabled) return [after.enabled ? "enabled" : "disabled"];
	if (!after.enabled) return [];
	const changes: string[] = [];
	if (before.maxEirpMbm !== after.maxEirpMbm)
		changes.push(`${before.maxEirpMbm / 100} → ${after.maxEirpMbm / 100} dBm`);
	if (before.cacMs !== after.cacMs) changes.push(`CAC ${before.cacMs} → ${after.cacMs} ms`);
	changes.push(...reportedChannelFlagNames(after.flags & ~before.flags).map((name) => `+${name}`));
	changes.push(...reportedChannelFlagNames(before.flags & ~after.flags).map((name) => `-${name}`));
	return changes;
}

const nothing = (alpha2: string): Domain => ({ alpha2, dfsRegion: 0, rules: [] });

function compareDomains(
	alpha2: string,
	before: Domain | undefined,
	after: Domain | undefined,
): CountryChange | undefined {
	const old = before ?? nothing(alpha2);
	const now = after ?? nothing(alpha2);
	const oldKeys = new Set(old.rules.map(ruleKey));
	const nowKeys = new Set(now.rules.map(ruleKey));
	const removedRules = old.rules.filter((rule) => !nowKeys.has(ruleKey(rule)));
	const addedRules = now.rules.filter((rule) => !oldKeys.has(ruleKey(rule)));
	const sameRegion = old.dfsRegion === now.dfsRegion;
	const both = before !== undefined && after !== undefined;
	if (both && sameRegion && removedRules.length === 0 && addedRules.length === 0) return undefined;
	const decisions = evaluateDomain(now);
	const change: CountryChange = {
		alpha2,
		kind: both ? "changed" : before === undefined ? "added" : "removed",
		removedRules,
		addedRules,
		channels: evaluateDomain(old).flatMap((decision, index) => {
			const changes = channelChanges(decision, decisions[index]!);
			const { band, channel, centreKHz } = decision;
			return changes.length === 0 ? [] : [{ band, channel, centreKHz, changes }];
		}),
	};
	if (!sameRegion) change.dfsRegion = { before: old.dfsRegion, after: now.dfsRegion };
	return change;
}

/**
 * What changed from one database to another, per country: rules that came and went, and what that does to each channel.
 *
 * @returns changed countries by code; empty when both databases say the same
 */
export function diffDatabases(before: Database, after: Database): CountryChange[] {
	const codes = [...new Set([...before.domains.keys(), ...after.domains.keys()])].sort();
	return codes.flatMap((alpha2) => compareDomains(alpha2, before.domains.get(alpha2), after.domains.get(alpha2)) ?? []);
}
