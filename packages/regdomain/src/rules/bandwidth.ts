import type { Rule } from "../model/domain.ts";
import { RuleFlag } from "../model/flags.ts";

/**
 * Width of the contiguous range around a rule, as AUTO_BW lets channels use it (`reg_get_max_bandwidth`): walks down
 * while the previous rule touches or overlaps, up while the next one does, then caps the span by the rule's own
 * NO_320MHZ, NO_160MHZ, NO_80MHZ and both NO_HT40 flags. The neighbours need not have AUTO_BW themselves.
 *
 * @returns kHz
 */
export function contiguousBandwidthKHz(rules: readonly Rule[], index: number): number {
	let low = rules[index]!;
	for (let at = index; at > 0 && rules[at - 1]!.endKHz >= low.startKHz; at--) low = rules[at - 1]!;
	let high = rules[index]!;
	for (let at = index; at < rules.length - 1 && rules[at + 1]!.startKHz <= high.endKHz; at++) high = rules[at + 1]!;
	const { flags } = rules[index]!;
	let width = (high.endKHz - low.startKHz) >>> 0;
	if ((flags & RuleFlag.NO_320MHZ) !== 0) width = Math.min(width, 160_000);
	if ((flags & RuleFlag.NO_160MHZ) !== 0) width = Math.min(width, 80_000);
	if ((flags & RuleFlag.NO_80MHZ) !== 0) width = Math.min(width, 40_000);
	const neither = RuleFlag.NO_HT40MINUS | RuleFlag.NO_HT40PLUS;
	if ((flags & neither) === neither) width = Math.min(width, 20_000);
	return width;
}

/** The widest channel a rule of a domain allows, kHz: its own limit, or the contiguous range with AUTO_BW. */
export function effectiveBandwidthKHz(rules: readonly Rule[], index: number): number {
	const rule = rules[index]!;
	return (rule.flags & RuleFlag.AUTO_BW) !== 0 ? contiguousBandwidthKHz(rules, index) : rule.maxBandwidthKHz;
}
