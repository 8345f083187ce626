import type { Domain, Rule } from "../model/domain.ts";

/** Rules may only be joined inside one of these, kHz: a rule that spans bands would change look-ups. */
const bandOf = ({ startKHz }: Rule): number => {
	if (startKHz < 1_000_000) return 0;
	if (startKHz < 4_000_000) return 1;
	return startKHz < 20_000_000 ? 2 : 3;
};

const sameLimits = (one: Rule, two: Rule): boolean =>
	one.maxEirpMbm === two.maxEirpMbm &&
	one.maxGainMbi === two.maxGainMbi &&
	one.flags === two.flags &&
	one.cacMs === two.cacMs &&
	one.psdDbm === two.psdDbm &&
	JSON.stringify(one.wmm) === JSON.stringify(two.wmm) &&
	bandOf(one) === bandOf(two);

/**
 * Joins rules that overlap or touch and have the same power, gain, flags, CAC time and WMM limits in the same band, as
 * crda's regdbdump did: the union of the ranges with the larger bandwidth. Rules are sorted by their start.
 */
export function optimizeRules(rules: readonly Rule[]): Rule[] {
	const result: Rule[] = [];
	for (const rule of [...rules].sort((one, two) => one.startKHz - two.startKHz || one.endKHz - two.endKHz)) {
		const at = result.findIndex((known) => sameLimits(known, rule) && known.endKHz >= rule.startKHz);
		if (at < 0) {
			result.push({ ...rule });
			continue;
		}
		const known = result[at]!;
		result[at] = {
			...known,
			endKHz: Math.max(known.endKHz, rule.endKHz),
			maxBandwidthKHz: Math.max(known.maxBandwidthKHz, rule.maxBandwidthKHz),
		};
	}
	return result;
}

/** The domain with its rules joined where that is possible; see {@link optimizeRules}. */
export function optimizeDomain(domain: Domain): Domain {
	return { ...domain, rules: optimizeRules(domain.rules) };
}

/**
 * What at least one of several domains allows: all their rules, joined where they agree. This is a survey, not something a
 * radio may follow.
 *
 * @returns alpha2 "99"; the DFS region where all agree, else none
 */
export function uniteDomains(domains: readonly Domain[]): Domain {
	const regions = new Set(domains.map(({ dfsRegion }) => dfsRegion));
	return {
		alpha2: "99",
		dfsRegion: regions.size === 1 ? domains[0]!.dfsRegion : 0,
		rules: optimizeRules(domains.flatMap(({ rules }) => rules)),
	};
}
