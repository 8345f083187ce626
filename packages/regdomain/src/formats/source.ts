import type { Database, Domain, Rule, WmmRule } from "../model/domain.ts";

/**
 * A rule as the compilers see it. The original ones compare rules by the floating-point numbers of the text, so two rules
 * may differ here and yet have the same integers.
 */
export interface SourceRule {
	/** Numbers to compare by: start, end, bandwidth, antenna gain, EIRP (MHz and dBm, or any scale that orders alike). */
	order: readonly [number, number, number, number, number];
	/** Identity: equal for equal rules only. */
	key: string;
	/** The figures as they are written. */
	rule: Rule;
}

/** A country with its rules in compiled order. */
export interface SourceCountry {
	/** Name as given; the formats hold its first two bytes. */
	name: string;
	/** DFS region. */
	dfsRegion: number;
	/** Rules, sorted and without duplicates. */
	rules: readonly SourceRule[];
}

const acs = (wmm: WmmRule): number[] =>
	[...wmm.client, ...wmm.ap].flatMap(({ cwMin, cwMax, aifsn, cotMs }) => [cwMin, cwMax, aifsn, cotMs]);

const wmmKeys = new WeakMap<WmmRule, string>();

/** Identity of a WMM rule; remembered, since one rule serves many. */
export function wmmKey(wmm: WmmRule | undefined): string {
	if (wmm === undefined) return "";
	const known = wmmKeys.get(wmm);
	if (known !== undefined) return known;
	const key = acs(wmm).join(" ");
	wmmKeys.set(wmm, key);
	return key;
}

/** Orders lists of numbers as Python orders tuples. */
export function compareNumbers(one: readonly number[], two: readonly number[]): number {
	const length = Math.min(one.length, two.length);
	for (let index = 0; index < length; index++) if (one[index] !== two[index]) return one[index]! < two[index]! ? -1 : 1;
	return one.length - two.length;
}

/** Orders WMM rules; none comes first. */
export function compareWmm(one: WmmRule | undefined, two: WmmRule | undefined): number {
	if (one === two) return 0;
	if (one === undefined || two === undefined) return Number(one !== undefined) - Number(two !== undefined);
	return compareNumbers(acs(one), acs(two));
}

/** Orders rules: range and width, gain and power, flags, WMM. */
export function compareRules(one: SourceRule, two: SourceRule): number {
	return (
		compareNumbers(one.order, two.order) || one.rule.flags - two.rule.flags || compareWmm(one.rule.wmm, two.rule.wmm)
	);
}

/** Orders rule lists as Python orders tuples of them. */
export function compareRuleLists(one: readonly SourceRule[], two: readonly SourceRule[]): number {
	const length = Math.min(one.length, two.length);
	for (let index = 0; index < length; index++) {
		if (one[index]!.key === two[index]!.key) continue;
		const order = compareRules(one[index]!, two[index]!);
		if (order !== 0) return order;
	}
	return one.length - two.length;
}

/** Orders names by their bytes. */
export const compareNames = (one: string, two: string): number => (one < two ? -1 : one > two ? 1 : 0);

/** Countries of a database ready for the compilers: rules in their compiled order, duplicates dropped. */
export function sourceOf(database: Database): SourceCountry[] {
	const known = new Map<string, SourceRule>();
	const source = (rule: Rule): SourceRule => {
		const order = [rule.startKHz, rule.endKHz, rule.maxBandwidthKHz, rule.maxGainMbi, rule.maxEirpMbm] as const;
		const key = `${order.join(" ")} ${rule.flags} ${rule.cacMs} ${wmmKey(rule.wmm)}`;
		const found = known.get(key);
		if (found !== undefined) return found;
		const made = { order, key, rule };
		known.set(key, made);
		return made;
	};
	const countries = (domain: Domain, name: string): SourceCountry => ({
		name,
		dfsRegion: domain.dfsRegion,
		rules: [...new Set(domain.rules.map(source))].sort(compareRules),
	});
	return [...database.domains].map(([name, domain]) => countries(domain, name));
}
