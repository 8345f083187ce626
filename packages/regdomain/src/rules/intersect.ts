import { Dfs, type Domain, isValidRule, type Rule, type WmmAccessCategory, type WmmRule } from "../model/domain.ts";
import { RuleFlag } from "../model/flags.ts";
import { effectiveBandwidthKHz } from "./bandwidth.ts";

const stricterAc = (one: WmmAccessCategory, two: WmmAccessCategory): WmmAccessCategory => ({
	cwMin: Math.max(one.cwMin, two.cwMin),
	cwMax: Math.max(one.cwMax, two.cwMax),
	aifsn: Math.max(one.aifsn, two.aifsn),
	cotMs: Math.min(one.cotMs, two.cotMs),
});

function stricterWmm(one: WmmRule | undefined, two: WmmRule | undefined): WmmRule | undefined {
	if (one === undefined || two === undefined) return one ?? two;
	return {
		client: one.client.map((ac, index) => stricterAc(ac, two.client[index]!)),
		ap: one.ap.map((ac, index) => stricterAc(ac, two.ap[index]!)),
	};
}

function common(one: Rule, oneWidthKHz: number, two: Rule, twoWidthKHz: number): Rule | undefined {
	const startKHz = Math.max(one.startKHz, two.startKHz);
	const endKHz = Math.min(one.endKHz, two.endKHz);
	if (endKHz <= startKHz) return undefined;
	let flags = one.flags | two.flags;
	if ((one.flags & two.flags & RuleFlag.AUTO_BW) === 0) flags &= ~RuleFlag.AUTO_BW;
	const rule: Rule = {
		startKHz,
		endKHz,
		maxBandwidthKHz: Math.min(oneWidthKHz, twoWidthKHz, endKHz - startKHz),
		maxGainMbi: Math.min(one.maxGainMbi, two.maxGainMbi),
		maxEirpMbm: Math.min(one.maxEirpMbm, two.maxEirpMbm),
		cacMs: Math.max(one.cacMs, two.cacMs),
		flags,
	};
	const wmm = stricterWmm(one.wmm, two.wmm);
	if (wmm !== undefined) rule.wmm = wmm;
	return isValidRule(rule) ? rule : undefined;
}

/** Whether `outer` covers `inner` with the same flags, no more power or gain and no less width (`rule_contains`). */
function contains(outer: Rule, inner: Rule): boolean {
	return (
		outer.flags === inner.flags &&
		outer.maxGainMbi <= inner.maxGainMbi &&
		outer.maxEirpMbm <= inner.maxEirpMbm &&
		outer.startKHz <= inner.startKHz &&
		outer.endKHz >= inner.endKHz &&
		outer.maxBandwidthKHz >= inner.maxBandwidthKHz
	);
}

function addRule(rules: Rule[], rule: Rule): void {
	for (const [index, known] of rules.entries()) {
		if (contains(known, rule)) return;
		if (contains(rule, known)) {
			rules[index] = rule;
			return;
		}
	}
	rules.push(rule);
}

/**
 * What two domains both allow, as the kernel computes it (`regdom_intersect`): every pair of rules gives its common
 * range, least power and gain, longest CAC, all flags (AUTO_BW only if both have it, else its computed width becomes the
 * limit) and the stricter WMM limits; a rule that another contains is merged. The DFS region is kept where both agree.
 *
 * @param requested - the domain a hint asks for; its rules give the order
 * @param current - the domain in force
 * @returns alpha2 "98", or undefined when no rule is common to both
 */
export function intersectDomains(requested: Domain, current: Domain): Domain | undefined {
	const rules: Rule[] = [];
	const widths = current.rules.map((_, index) => effectiveBandwidthKHz(current.rules, index));
	for (const [x, one] of requested.rules.entries()) {
		const width = effectiveBandwidthKHz(requested.rules, x);
		for (const [y, two] of current.rules.entries()) {
			const rule = common(one, width, two, widths[y]!);
			if (rule !== undefined) addRule(rules, rule);
		}
	}
	if (rules.length === 0) return undefined;
	return {
		alpha2: "98",
		dfsRegion: requested.dfsRegion === current.dfsRegion ? requested.dfsRegion : Dfs.UNSET,
		rules,
	};
}

/**
 * What two domains both allow, as the older crda computed it: the same ranges and limits, but AUTO_BW plays no part in
 * the width, nothing is merged, and the result has alpha2 "99" and no DFS region.
 */
export function intersectDomainsCrda(one: Domain, two: Domain): Domain | undefined {
	const rules: Rule[] = [];
	for (const first of one.rules) {
		for (const second of two.rules) {
			const rule = common(first, first.maxBandwidthKHz, second, second.maxBandwidthKHz);
			if (rule === undefined) continue;
			rules.push({ ...rule, flags: first.flags | second.flags });
		}
	}
	return rules.length === 0 ? undefined : { alpha2: "99", dfsRegion: Dfs.UNSET, rules };
}

/**
 * What all of several domains allow: the first intersected with the second, that with the third, and so on. One domain
 * alone is its own intersection.
 *
 * @param how - the pairwise rule. @default the kernel's
 * @returns undefined when nothing is common, or for an empty list
 */
export function intersectAll(
	domains: readonly Domain[],
	how: (requested: Domain, current: Domain) => Domain | undefined = intersectDomains,
): Domain | undefined {
	let result: Domain | undefined = domains[0];
	for (const domain of domains.slice(1)) {
		if (result === undefined) return undefined;
		result = how(domain, result);
	}
	return result;
}
