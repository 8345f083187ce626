import type { Rule } from "../model/domain.ts";

/** Result of a look-up that found no rule: none near the frequency's band at all (-ERANGE). */
export const NO_BAND = -1;
/** Result of a look-up that found no rule: rules in the band, but none the width fits (-EINVAL). */
export const NO_FIT = -2;

/** Whether a channel of some width lies inside a rule (`cfg80211_does_bw_fit_range`). All in kHz. */
export function fits(rule: { startKHz: number; endKHz: number }, centreKHz: number, widthKHz: number): boolean {
	return centreKHz - widthKHz / 2 >= rule.startKHz && centreKHz + widthKHz / 2 <= rule.endKHz;
}

/**
 * The first rule that a channel fits (`freq_reg_info_regd`). A rule only counts once some rule so far was near the
 * band: an edge within 2 GHz, or within 20 GHz above 45 GHz.
 *
 * @returns index of the rule, {@link NO_BAND} or {@link NO_FIT}
 */
export function findRule(rules: readonly Rule[], centreKHz: number, widthKHz: number): number {
	const near = centreKHz > 45_000_000 ? 20_000_000 : 2_000_000;
	const low = centreKHz - widthKHz / 2;
	const high = centreKHz + widthKHz / 2;
	let inBand = false;
	for (let index = 0; index < rules.length; index++) {
		const rule = rules[index]!;
		if (!inBand) inBand = Math.abs(centreKHz - rule.startKHz) <= near || Math.abs(centreKHz - rule.endKHz) <= near;
		if (inBand && low >= rule.startKHz && high <= rule.endKHz) return index;
	}
	return inBand ? NO_FIT : NO_BAND;
}

const subGigahertzWidths = [20_000, 16_000, 10_000, 8_000, 5_000, 4_000, 2_000];

/**
 * The rule for a channel centre (`freq_reg_info`): the first that 20 MHz fits, or below 1 GHz the first that the widest
 * of 20, 16, 10, 8, 5, 4, 2, 1 MHz fits. The rule's own bandwidth limit does not matter here, only its range.
 *
 * @returns index of the rule, {@link NO_BAND} or {@link NO_FIT}
 */
export function ruleForCentre(rules: readonly Rule[], centreKHz: number): number {
	if (centreKHz >= 1_000_000) return findRule(rules, centreKHz, 20_000);
	// Where not even the narrowest fits, no other does, and the reason is the same.
	const narrowest = findRule(rules, centreKHz, 1_000);
	if (narrowest < 0) return narrowest;
	for (const width of subGigahertzWidths) {
		const found = findRule(rules, centreKHz, width);
		if (found >= 0) return found;
	}
	return narrowest;
}
