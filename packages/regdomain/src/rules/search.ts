import { type ChannelDefinition, definitionsAround } from "../channel/definition.ts";
import { hwsimChannels } from "../channel/plan.ts";
import { checkChannelDefinition, type RadioCapabilities } from "../channel/usable.ts";
import type { Band } from "../model/bands.ts";
import type { Domain } from "../model/domain.ts";
import { ChannelFlag } from "../model/flags.ts";
import { type ChannelDecision, type EvaluateOptions, evaluateDomain } from "./evaluate.ts";

/** What to look for. */
export interface ChannelQuery extends EvaluateOptions {
	/** Band. @default every band */
	band?: Band;
	/** Width, MHz. @default 20; S1G: 1 */
	widthMHz?: number;
	/** Whether to start a network there (an access point) or only to join one. @default "ap" */
	use?: "ap" | "station";
	/** Leave out channels that need radar detection. @default false */
	withoutDfs?: boolean;
	/** Leave out channels for indoor use only. @default false */
	outdoors?: boolean;
	/** What the radio can do. */
	radio?: RadioCapabilities;
}

/** A channel that fits. */
export interface FoundChannel {
	/** Band. */
	band: Band;
	/** Primary channel number. */
	channel: number;
	/** The whole channel. */
	definition: ChannelDefinition;
	/** Highest power every domain and sub-channel allows, mBm. */
	maxEirpMbm: number;
	/** Longest availability check, ms; 0 when no domain asks for one. */
	cacMs: number;
	/** Whether some domain allows it indoors only. */
	indoorOnly: boolean;
}

function inDomain(
	decisions: readonly ChannelDecision[],
	definition: ChannelDefinition,
	query: ChannelQuery,
): FoundChannel | undefined {
	if (!checkChannelDefinition(decisions, definition, query.radio).usable) return undefined;
	const width = typeof definition.width === "number" ? definition.width : 20;
	const covered = decisions.filter(
		({ centreKHz }) => Math.abs(centreKHz - definition.centreKHz) < Math.max(width * 500, 1),
	);
	// The kernel overlooks NO_IR once radar was checked for, and in S1G; whoever looks for a legal channel should not.
	const noIr = covered.some(({ flags }) => (flags & ChannelFlag.NO_IR) !== 0);
	if ((query.use ?? "ap") === "ap" && noIr) return undefined;
	const radar = covered.some(({ flags }) => (flags & ChannelFlag.RADAR) !== 0);
	const indoorOnly = covered.some(({ flags }) => (flags & ChannelFlag.INDOOR_ONLY) !== 0);
	if ((query.withoutDfs === true && radar) || (query.outdoors === true && indoorOnly)) return undefined;
	const primary = covered.find(({ centreKHz }) => centreKHz === definition.primaryKHz)!;
	return {
		band: primary.band,
		channel: primary.channel,
		definition,
		maxEirpMbm: Math.min(...covered.map(({ maxEirpMbm }) => maxEirpMbm)),
		cacMs: Math.max(...covered.map(({ cacMs, flags }) => ((flags & ChannelFlag.RADAR) !== 0 ? cacMs : 0))),
		indoorOnly,
	};
}

/**
 * Channels that are legal in every one of several domains, each judged on its own, not in their intersection: "which
 * channels may a device sold in DE, US and JP use at 80 MHz?"
 *
 * @returns in the order of the radio's channels, with the least power and the longest check of all domains
 */
export function findCommonChannels(domains: readonly Domain[], query: ChannelQuery = {}): FoundChannel[] {
	const channels = query.channels ?? hwsimChannels;
	const decided = domains.map((domain) => evaluateDomain(domain, { ...query, channels }));
	const found: FoundChannel[] = [];
	for (const { band, channel, centreKHz } of channels) {
		if (query.band !== undefined && band !== query.band) continue;
		const width = query.widthMHz ?? (band === "s1g" ? 1 : 20);
		for (const definition of placesFor(band, channel, centreKHz, width)) {
			const inAll = decided.map((decisions) => inDomain(decisions, definition, query));
			if (inAll.length === 0 || inAll.some((one) => one === undefined)) continue;
			found.push({
				...inAll[0]!,
				maxEirpMbm: Math.min(...inAll.map((one) => one!.maxEirpMbm)),
				cacMs: Math.max(...inAll.map((one) => one!.cacMs)),
				indoorOnly: inAll.some((one) => one!.indoorOnly),
			});
		}
	}
	return found;
}

function placesFor(band: Band, channel: number, centreKHz: number, width: number): ChannelDefinition[] {
	// hwsim's 20 MHz channels between the standard ones, such as 171, are none of annex E.
	if (band === "5" && channel > 165 && ((channel - 149) % 4 !== 0 || channel > 177)) return [];
	return definitionsAround(band, centreKHz, width);
}

/** Channels legal in one domain; see {@link findCommonChannels}. */
export function findChannels(domain: Domain, query: ChannelQuery = {}): FoundChannel[] {
	return findCommonChannels([domain], query);
}
