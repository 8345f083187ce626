import { type BeaconContext, canBeacon } from "../channel/beacon.ts";
import { type ChannelDefinition, type DefinitionFault, subChannels, widthMHz } from "../channel/definition.ts";
import { hwsimChannels } from "../channel/plan.ts";
import { checkChannelDefinition, type UsableProblem } from "../channel/usable.ts";
import { placeOfKHz } from "../model/bands.ts";
import type { Domain, Rule } from "../model/domain.ts";
import { ChannelFlag, channelFlagNames, RuleFlag } from "../model/flags.ts";
import { contiguousBandwidthKHz } from "./bandwidth.ts";
import { type ChannelDecision, type EvaluateOptions, evaluateDomain } from "./evaluate.ts";
import { findRule, NO_BAND, ruleForCentre } from "./lookup.ts";

/** Why one sub-channel is as it is. */
export interface SubChannelExplanation {
	/** What the domain makes of it; absent when the radio has no such channel. */
	decision?: ChannelDecision;
	/** Centre, kHz. */
	centreKHz: number;
	/** The reasons, in the order the kernel looks for them. */
	reasons: string[];
}

/** Why a channel definition may or may not be used. */
export interface Explanation {
	/** The channel asked about. */
	definition: ChannelDefinition;
	/** Whether a station may use it. */
	usable: boolean;
	/** Whether the interface asked about may beacon there now. */
	canBeacon: boolean;
	/** Time an access point must listen first, ms; 0 when none. */
	cacMs: number;
	/** One sentence that says it all. */
	summary: string;
	/** Reasons against the definition as a whole. */
	problems: string[];
	/** Every sub-channel in turn. */
	subChannels: SubChannelExplanation[];
	/** Where the kernel's answer is a known bug: what it says and what was meant. */
	quirks: string[];
}

const mhz = (khz: number): string => `${khz / 1000} MHz`;

function ruleName(domain: Domain, index: number): string {
	const { startKHz, endKHz, maxBandwidthKHz, maxEirpMbm } = domain.rules[index]!;
	return `rule ${index + 1} (${startKHz / 1000} - ${endKHz / 1000} @ ${maxBandwidthKHz / 1000}), (${maxEirpMbm / 100} dBm)`;
}

function widthReason(domain: Domain, index: number, rule: Rule): string {
	if ((rule.flags & RuleFlag.AUTO_BW) === 0)
		return `${ruleName(domain, index)} allows channels up to ${mhz(rule.maxBandwidthKHz)}`;
	const width = contiguousBandwidthKHz(domain.rules, index);
	return `${ruleName(domain, index)} has AUTO-BW: with the rules it touches, channels up to ${mhz(width)}`;
}

function disabledReasons(domain: Domain, centreKHz: number): string[] {
	const found = ruleForCentre(domain.rules, centreKHz);
	if (found === NO_BAND) return [`${domain.alpha2} has no rule anywhere near ${mhz(centreKHz)}`];
	const reasons = [`no rule of ${domain.alpha2} holds 20 MHz around ${mhz(centreKHz)}`];
	const touching = domain.rules.findIndex(({ startKHz, endKHz }) => centreKHz >= startKHz && centreKHz <= endKHz);
	if (touching >= 0) reasons.push(`${ruleName(domain, touching)} holds the centre, but not the whole channel`);
	const lower = ruleForCentre(domain.rules, centreKHz - 20_000);
	const upper = ruleForCentre(domain.rules, centreKHz + 20_000);
	if (lower >= 0 && upper >= 0 && lower !== upper) {
		const gap = domain.rules[upper]!.startKHz - domain.rules[lower]!.endKHz;
		reasons.push(
			gap === 0
				? "the rules below and above meet, but do not hold 20 MHz together"
				: `the rules below and above do not meet: ${mhz(Math.abs(gap))} ${gap > 0 ? "apart" : "of overlap"}`,
		);
	}
	return reasons;
}

function subChannelReasons(domain: Domain, decision: ChannelDecision): string[] {
	if (!decision.enabled) return disabledReasons(domain, decision.centreKHz);
	const { rule, upperRule, flags } = decision;
	const reasons = [widthReason(domain, rule, domain.rules[rule]!)];
	if (upperRule >= 0) {
		reasons.push(
			`the channel lies across the next rule too, so both count: ${widthReason(domain, upperRule, domain.rules[upperRule]!)}`,
		);
	}
	reasons.push(`at most ${decision.maxEirpMbm / 100} dBm`);
	if ((flags & ChannelFlag.NO_IR) !== 0) reasons.push("NO_IR: a station may join a network here, nobody may start one");
	if ((flags & ChannelFlag.RADAR) !== 0)
		reasons.push(`RADAR: who starts a network listens ${decision.cacMs / 1000} s for radar first`);
	if ((flags & ChannelFlag.INDOOR_ONLY) !== 0) reasons.push("INDOOR_ONLY: not outdoors");
	if ((flags & ChannelFlag.NO_OFDM) !== 0) reasons.push("NO_OFDM: 802.11b only");
	return reasons;
}

const faults: Record<DefinitionFault, string> = {
	"no-channel": "no Wi-Fi channel has that centre",
	"width-for-band": "the band has no channels of that width",
	centre: "the primary channel is not part of a channel with that centre and width",
	centre2: "80+80 MHz needs two centres that are not adjacent, other widths just one",
	"alignment-6ghz": "6 GHz channels start at fixed places, and this is none",
	"channel-14": "channel 14 is for 802.11b only",
	puncturing: "802.11be has no such puncturing",
};

function problemText(problem: UsableProblem): string {
	switch (problem.kind) {
		case "definition":
			return faults[problem.fault];
		case "capability":
			return `the radio cannot do ${problem.missing}`;
		case "ht40":
			return `${problem.flag}: no 40 MHz on ${problem.flag === "NO_HT40PLUS" ? "the upper" : "the lower"} side of the primary`;
		case "s1g-primary":
			return `${mhz(problem.centreKHz)} may not be a primary channel`;
		case "no-such-channel":
			return `the radio has no channel at ${mhz(problem.centreKHz)}`;
		case "flags": {
			const place = placeOfKHz(problem.centreKHz);
			return `channel ${place?.channel ?? "?"} (${mhz(problem.centreKHz)}) has ${problem.flags.join(" and ")}`;
		}
	}
}

function quirkNotes(
	domain: Domain,
	kernel: readonly ChannelDecision[],
	options: EvaluateOptions,
	covered: readonly number[],
): string[] {
	const meant = evaluateDomain(domain, { ...options, quirks: "none" });
	return kernel.flatMap((decision, index) => {
		const other = meant[index]!;
		const differs = decision.flags ^ other.flags;
		if (differs === 0 || !covered.includes(decision.centreKHz)) return [];
		return [
			`channel ${decision.channel}: a single ${channelFlagNames(differs).join(" and ")} of the global domain is lost in the kernel's HT40 pass; the rule meant it to hold`,
		];
	});
}

function summaryOf(domain: Domain, explanation: Omit<Explanation, "summary">): string {
	const { definition, usable, canBeacon: beacons, cacMs } = explanation;
	const place = placeOfKHz(definition.primaryKHz);
	const name = `channel ${place?.channel ?? "?"} at ${widthMHz(definition.width)} MHz in ${domain.alpha2}`;
	if (!usable) return `${name} cannot be used: ${explanation.problems.join("; ")}`;
	if (beacons) return `${name} can be used, also to start a network`;
	if (cacMs > 0) return `${name} can be used; an access point must first listen ${cacMs / 1000} s for radar`;
	return `${name} can be used to join a network, not to start one: ${explanation.problems.join("; ")}`;
}

/**
 * Says why a channel definition may or may not be used in a domain: the rule behind every sub-channel, the flags that
 * stand in the way, what an access point must do first, and where the kernel's answer is one of its known bugs.
 *
 * @param context - the interface that wants to beacon, and its radio. @default an access point on an all-capable radio
 */
export function explainChannel(
	domain: Domain,
	definition: ChannelDefinition,
	context: BeaconContext = {},
	options: EvaluateOptions = {},
): Explanation {
	const covered = subChannels(definition);
	const standard = options.channels ?? hwsimChannels;
	// Channels hwsim lacks, such as 144, are explained all the same.
	const missing = covered.filter((centreKHz) => !standard.some((spec) => spec.centreKHz === centreKHz));
	const extra = options.channels === undefined ? missing.flatMap((centreKHz) => placeOfKHz(centreKHz) ?? []) : [];
	const channels = extra.length === 0 ? standard : [...standard, ...extra];
	const decisions = evaluateDomain(domain, { ...options, channels });
	const check = checkChannelDefinition(decisions, definition, context.radio);
	const quirks = context.quirks ?? options.quirks ?? "linux-7.2";
	const beacon = canBeacon(decisions, definition, { ...context, quirks });
	const meant = canBeacon(decisions, definition, { ...context, quirks: "none" });
	const explanation = {
		definition,
		usable: check.usable,
		canBeacon: beacon.usable,
		cacMs: beacon.cacMs,
		problems: [...new Set((check.usable ? beacon : check).problems.map(problemText))],
		subChannels: covered.map((centreKHz): SubChannelExplanation => {
			const decision = decisions.find((candidate) => candidate.centreKHz === centreKHz);
			if (decision === undefined) return { centreKHz, reasons: ["the radio has no such channel"] };
			return { centreKHz, decision, reasons: subChannelReasons(domain, decision) };
		}),
		quirks: quirks === "none" ? [] : quirkNotes(domain, decisions, { ...options, channels }, covered),
	};
	if (beacon.usable && !meant.usable) {
		explanation.quirks.push(
			"the kernel does not look at NO_IR in S1G, so it lets an access point start here; the rule meant it not to",
		);
	}
	return { ...explanation, summary: summaryOf(domain, explanation) };
}

/** The explanation as text for a person, one thought per line. */
export function renderExplanation(explanation: Explanation): string {
	const lines = [`${explanation.summary}.`];
	for (const { centreKHz, decision, reasons } of explanation.subChannels) {
		lines.push(
			`  ${mhz(centreKHz)}${decision === undefined ? "" : ` [${decision.channel}] ${decision.enabled ? "" : "(disabled)"}`}`.trimEnd(),
		);
		lines.push(...reasons.map((reason) => `    ${reason}`));
	}
	lines.push(...explanation.quirks.map((quirk) => `  kernel quirk: ${quirk}`));
	return `${lines.join("\n")}\n`;
}

/** The index of the rule 20 MHz around a centre fall under, or undefined; for tools that point at a line. */
export function ruleIndexFor(domain: Domain, centreKHz: number): number | undefined {
	const found = findRule(domain.rules, centreKHz, 20_000);
	return found < 0 ? undefined : found;
}
