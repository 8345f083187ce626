import { uniiBand } from "../model/bands.ts";
import { ChannelFlag } from "../model/flags.ts";
import type { Quirks } from "../rules/decide.ts";
import { type ChannelDefinition, subChannels } from "./definition.ts";
import { type CheckedChannel, checkChannelDefinition, type RadioCapabilities, type UsableResult } from "./usable.ts";

/** Kind of interface that wants to transmit first. */
export type InterfaceType = "ap" | "p2p-go" | "mesh" | "adhoc" | "station" | "p2p-client";

/** Circumstances under which a station or group owner of the same radio already runs. */
export interface ConcurrentInterface {
	/** Kind; only associated stations and beaconing group owners count. */
	type: "station" | "p2p-go";
	/** Its primary channel, kHz. */
	primaryKHz: number;
}

/** What `canBeacon` depends on beside the channels. */
export interface BeaconContext {
	/** Kind of interface. @default "ap" */
	type?: InterfaceType;
	/** Ask for the NO-IR relaxations (indoor group owners, concurrent stations). @default true */
	relax?: boolean;
	/** User space said that the device is indoors. @default false */
	indoor?: boolean;
	/** The access point runs at very low power (6 GHz VLP). @default false */
	veryLowPower?: boolean;
	/** What else runs on the radio. @default nothing */
	concurrent?: readonly ConcurrentInterface[];
	/** What the radio can do. */
	radio?: RadioCapabilities;
	/**
	 * Linux 7.2 does not look at NO_IR in S1G, where `"none"` does, as the flag means.
	 *
	 * @default "linux-7.2"
	 */
	quirks?: Quirks;
}

/** Whether an interface may beacon, and what it must do first. */
export interface BeaconResult extends UsableResult {
	/** Whether radar detection is needed on some sub-channel. */
	dfsRequired: boolean;
	/** Time to listen first, ms; 0 when none is needed or it is done. */
	cacMs: number;
	/** The relaxation that lifted NO_IR, if one did. */
	relaxed?: "indoor" | "concurrent" | "dfs-available" | "very-low-power" | "20mhz-activity";
}

/** Whether a channel may be shared with what already runs, by U-NII band (`cfg80211_ir_permissive_check_wdev`). */
function permitsConcurrent(channel: CheckedChannel, type: InterfaceType, other: ConcurrentInterface): boolean {
	if (other.type === "p2p-go" && (type !== "p2p-go" || (channel.flags & ChannelFlag.INDOOR_ONLY) !== 0)) return false;
	if (channel.centreKHz === other.primaryKHz) return true;
	if (channel.band !== "5" && channel.band !== "6") return false;
	const unii = uniiBand(channel.centreKHz / 1000);
	if (unii === undefined || unii !== uniiBand(other.primaryKHz / 1000)) return false;
	// A station on 149-161 does not open 165, which some countries treat apart; the other way round it does.
	return !(channel.centreKHz === 5_825_000 && other.primaryKHz !== 5_825_000);
}

/** The relaxation that lets a channel be used despite NO_IR (`cfg80211_ir_permissive_chan`). */
function noIrRelaxation(
	channel: CheckedChannel,
	{ type = "ap", indoor = false, concurrent = [], radio = {} }: BeaconContext,
): "indoor" | "concurrent" | undefined {
	if (radio.relaxNoIr !== true || (type !== "p2p-go" && type !== "station" && type !== "p2p-client")) return undefined;
	if (indoor && (channel.flags & ChannelFlag.INDOOR_ONLY) !== 0) return "indoor";
	if ((channel.flags & ChannelFlag.IR_CONCURRENT) === 0) return undefined;
	return concurrent.some((other) => permitsConcurrent(channel, type, other)) ? "concurrent" : undefined;
}

/** Sub-channels of a definition that the radio has. */
function covered(channels: readonly CheckedChannel[], definition: ChannelDefinition): CheckedChannel[] {
	return subChannels(definition).flatMap((centreKHz) => channels.find((one) => one.centreKHz === centreKHz) ?? []);
}

/** Whether a beaconing interface must detect radar (`cfg80211_chandef_dfs_required`). */
export function dfsRequired(
	channels: readonly CheckedChannel[],
	definition: ChannelDefinition,
	{ type = "ap", concurrent = [], radio = {} }: BeaconContext = {},
): boolean {
	if (type === "station" || type === "p2p-client") return false;
	const excused = ({ flags, centreKHz }: CheckedChannel): boolean =>
		type === "p2p-go" &&
		radio.dfsConcurrent === true &&
		(flags & ChannelFlag.DFS_CONCURRENT) !== 0 &&
		concurrent.some((other) => other.type === "station" && other.primaryKHz === centreKHz);
	return covered(channels, definition).some(
		(channel) => channel.band !== "s1g" && (channel.flags & ChannelFlag.RADAR) !== 0 && !excused(channel),
	);
}

/** Whether every radar sub-channel is cleared for use (`cfg80211_chandef_dfs_available`). */
function dfsAvailable(channels: readonly CheckedChannel[], definition: ChannelDefinition, offload: boolean): boolean {
	return covered(channels, definition).every(
		({ flags, dfsState = "usable" }) =>
			(flags & ChannelFlag.DISABLED) === 0 &&
			((flags & ChannelFlag.RADAR) === 0 || dfsState === "available" || (offload && dfsState === "usable")),
	);
}

/** The longest check any radar sub-channel asks for, ms (`cfg80211_chandef_dfs_cac_time`). */
export function cacTimeMs(channels: readonly CheckedChannel[], definition: ChannelDefinition): number {
	return covered(channels, definition).reduce(
		(longest, { flags, cacMs }) => ((flags & ChannelFlag.RADAR) !== 0 ? Math.max(longest, cacMs) : longest),
		0,
	);
}

/**
 * Whether an interface may send first on a channel definition (`cfg80211_reg_check_beaconing`): usable at all, radar
 * checked where needed, and no sub-channel with NO_IR unless a relaxation lifts it: radar check done, indoor use or a
 * concurrent station (group owners and clients of drivers that allow it), very low power in 6 GHz, 20 MHz activity.
 */
export function canBeacon(
	channels: readonly CheckedChannel[],
	definition: ChannelDefinition,
	context: BeaconContext = {},
): BeaconResult {
	const { type = "ap", relax = true, veryLowPower = false, radio = {} } = context;
	const basic = checkChannelDefinition(channels, definition, radio);
	if (!basic.usable) return { ...basic, dfsRequired: false, cacMs: 0 };

	const required = dfsRequired(channels, definition, context);
	const available = required && dfsAvailable(channels, definition, radio.dfsOffload === true);
	const primary = channels.find(({ centreKHz }) => centreKHz === definition.primaryKHz)!;
	const relaxation = relax ? noIrRelaxation(primary, context) : undefined;
	const narrow = definition.width === 20 || definition.width === "20-noht";
	const activity = (type === "ap" || type === "p2p-go") && narrow;
	const permitting =
		(veryLowPower ? ChannelFlag.ALLOW_6GHZ_VLP_AP : 0) | (activity ? ChannelFlag.ALLOW_20MHZ_ACTIVITY : 0);
	const noIr = available || relaxation !== undefined ? 0 : ChannelFlag.NO_IR;

	const radar = required && !available ? checkChannelDefinition(channels, definition, radio, ChannelFlag.RADAR) : basic;
	const sending = checkChannelDefinition(channels, definition, radio, noIr, permitting);
	const problems = [...radar.problems, ...sending.problems];
	if (context.quirks === "none" && primary.band === "s1g") {
		for (const { centreKHz, flags } of covered(channels, definition)) {
			if ((flags & noIr) !== 0) problems.push({ kind: "flags", centreKHz, flags: ["NO_IR"] });
		}
	}
	const result: BeaconResult = {
		usable: problems.length === 0,
		problems,
		dfsRequired: required,
		cacMs: required && !available ? cacTimeMs(channels, definition) : 0,
	};
	const lifted = covered(channels, definition).some(({ flags }) => (flags & ChannelFlag.NO_IR) !== 0);
	if (!result.usable || !lifted || primary.band === "s1g") return result;
	if (available) result.relaxed = "dfs-available";
	else if (relaxation !== undefined) result.relaxed = relaxation;
	else
		result.relaxed =
			veryLowPower && (primary.flags & ChannelFlag.ALLOW_6GHZ_VLP_AP) !== 0 ? "very-low-power" : "20mhz-activity";
	return result;
}
