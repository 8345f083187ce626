import type { Band } from "../model/bands.ts";
import { ChannelFlag, channelFlagNames } from "../model/flags.ts";
import { type ChannelDefinition, type DefinitionFault, definitionFault, subChannels, widthMHz } from "./definition.ts";

/** State of a channel that needs radar detection. */
export type DfsState = "usable" | "available" | "unavailable";

/** What the checks need to know of a radio's channels; {@link ChannelDecision} fits. */
export interface CheckedChannel {
	/** Band. */
	band: Band;
	/** Channel number. */
	channel: number;
	/** Centre, kHz. */
	centreKHz: number;
	/** {@link ChannelFlag} bits. */
	flags: number;
	/** Channel availability check, ms. */
	cacMs: number;
	/** Radar detection state. @default "usable": no check was made yet */
	dfsState?: DfsState;
}

/** What the radio's hardware and driver can do. Everything that is left out it can, except the last three. */
export interface RadioCapabilities {
	/** 802.11n. @default true */
	ht?: boolean;
	/** 40 MHz in 2.4 and 5 GHz. @default true */
	ht40?: boolean;
	/** 802.11ac, for 80 MHz in 5 GHz. @default true */
	vht?: boolean;
	/** 160 MHz in 5 GHz. @default true */
	vht160?: boolean;
	/** 80+80 MHz in 5 GHz. @default true */
	vht80Plus80?: boolean;
	/** 320 MHz in 6 GHz. @default true */
	eht320?: boolean;
	/** The driver allows the NO-IR relaxations (REGULATORY_ENABLE_RELAX_NO_IR). @default false */
	relaxNoIr?: boolean;
	/** The hardware makes channel availability checks itself. @default false */
	dfsOffload?: boolean;
	/** A group owner may share a radar channel with a station (DFS_CONCURRENT). @default false */
	dfsConcurrent?: boolean;
}

/** One reason why a channel definition cannot be used. */
export type UsableProblem =
	| { kind: "definition"; fault: DefinitionFault }
	| { kind: "capability"; missing: string }
	| { kind: "ht40"; flag: "NO_HT40PLUS" | "NO_HT40MINUS" }
	| { kind: "s1g-primary"; centreKHz: number }
	| { kind: "no-such-channel"; centreKHz: number }
	| { kind: "flags"; centreKHz: number; flags: string[] };

/** Outcome of a check. */
export interface UsableResult {
	/** Whether the channel definition may be used. */
	usable: boolean;
	/** Every reason against it; empty when usable. */
	problems: UsableProblem[];
}

function capabilityMissing(band: Band, definition: ChannelDefinition, radio: RadioCapabilities): string | undefined {
	const { width } = definition;
	if (width === 320) return band === "6" && radio.eht320 !== false ? undefined : "320 MHz (EHT, 6 GHz only)";
	if (band === "6") return undefined;
	if (width === 20) return radio.ht === false ? "802.11n (HT)" : undefined;
	if (width === 40) return radio.ht === false || radio.ht40 === false ? "40 MHz (HT)" : undefined;
	if (width === 80) return radio.vht === false ? "80 MHz (VHT)" : undefined;
	if (width === 160) return radio.vht === false || radio.vht160 === false ? "160 MHz (VHT)" : undefined;
	if (width === "80+80") return radio.vht === false || radio.vht80Plus80 === false ? "80+80 MHz (VHT)" : undefined;
	return undefined;
}

const widthFlag: Partial<Record<string, number>> = {
	10: ChannelFlag.NO_10MHZ,
	20: ChannelFlag.NO_20MHZ,
	"20-noht": ChannelFlag.NO_20MHZ,
	80: ChannelFlag.NO_80MHZ,
	"80+80": ChannelFlag.NO_80MHZ,
	160: ChannelFlag.NO_160MHZ,
	320: ChannelFlag.NO_320MHZ,
};

function s1gFlags(width: number): number {
	let flags = 0;
	if (width >= 16) flags |= ChannelFlag.NO_16MHZ;
	if (width >= 8) flags |= ChannelFlag.NO_8MHZ;
	if (width >= 4) flags |= ChannelFlag.NO_4MHZ;
	return flags;
}

/**
 * Whether a radio may use a channel definition (`_cfg80211_chandef_usable`): the definition makes sense, the radio can do
 * the width, and every sub-channel exists and has none of the prohibited flags nor one against the width.
 *
 * @param channels - the radio's channels as a domain leaves them
 * @param prohibited - {@link ChannelFlag} bits that forbid use. @default DISABLED
 * @param permitting - bits that excuse a sub-channel from all of that. @default none
 */
export function checkChannelDefinition(
	channels: readonly CheckedChannel[],
	definition: ChannelDefinition,
	radio: RadioCapabilities = {},
	prohibited: number = ChannelFlag.DISABLED,
	permitting = 0,
): UsableResult {
	const problems: UsableProblem[] = [];
	const fault = definitionFault(definition);
	const primary = channels.find(({ centreKHz }) => centreKHz === definition.primaryKHz);
	if (fault !== undefined) problems.push({ kind: "definition", fault });
	else if (primary === undefined) problems.push({ kind: "no-such-channel", centreKHz: definition.primaryKHz });
	if (fault !== undefined || primary === undefined) return { usable: false, problems };

	const width = widthMHz(definition.width);
	if (primary.band === "s1g") {
		const refuse = s1gFlags(width) | (prohibited & ChannelFlag.DISABLED);
		if ((primary.flags & ChannelFlag.S1G_NO_PRIMARY) !== 0) {
			problems.push({ kind: "s1g-primary", centreKHz: primary.centreKHz });
		}
		flagProblems(channels, definition, refuse, 0, problems);
		if (definition.s1gPrimary2MHz === true) siblingProblem(channels, definition, problems);
		return { usable: problems.length === 0, problems };
	}

	const missing = capabilityMissing(primary.band, definition, radio);
	if (missing !== undefined) problems.push({ kind: "capability", missing });
	if (definition.width === 40 && primary.band !== "6") {
		const flag = definition.centreKHz < definition.primaryKHz ? "NO_HT40MINUS" : "NO_HT40PLUS";
		if ((primary.flags & ChannelFlag[flag]) !== 0) problems.push({ kind: "ht40", flag });
	}
	let refuse = prohibited | (widthFlag[definition.width] ?? 0);
	if (width !== 20) refuse |= ChannelFlag.NO_OFDM;
	flagProblems(channels, definition, refuse, permitting, problems);
	return { usable: problems.length === 0, problems };
}

function flagProblems(
	channels: readonly CheckedChannel[],
	definition: ChannelDefinition,
	refuse: number,
	permitting: number,
	problems: UsableProblem[],
): void {
	for (const centreKHz of subChannels(definition)) {
		const channel = channels.find((candidate) => candidate.centreKHz === centreKHz);
		if (channel === undefined) problems.push({ kind: "no-such-channel", centreKHz });
		else if ((channel.flags & permitting) === 0 && (channel.flags & refuse) !== 0) {
			problems.push({ kind: "flags", centreKHz, flags: channelFlagNames(channel.flags & refuse) });
		}
	}
}

/** A 2 MHz primary is the primary and its sibling: the other half of its 2 MHz within the operating channel. */
function siblingProblem(
	channels: readonly CheckedChannel[],
	definition: ChannelDefinition,
	problems: UsableProblem[],
): void {
	const { primaryKHz, centreKHz, width } = definition;
	const index = Math.round((primaryKHz - (centreKHz - widthMHz(width) * 500)) / 1000 - 0.5);
	const siblingKHz = primaryKHz + (index % 2 === 0 ? 1_000 : -1_000);
	const sibling = channels.find((candidate) => candidate.centreKHz === siblingKHz);
	const outside = Math.abs(siblingKHz - centreKHz) > (widthMHz(width) - 1) * 500;
	if (sibling === undefined || outside) problems.push({ kind: "no-such-channel", centreKHz: siblingKHz });
	else if ((sibling.flags & ChannelFlag.S1G_NO_PRIMARY) !== 0)
		problems.push({ kind: "s1g-primary", centreKHz: siblingKHz });
}
