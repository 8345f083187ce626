import { Dfs, type DfsRegion } from "../model/domain.ts";
import { ChannelFlag } from "../model/flags.ts";
import { cacTimeMs } from "./beacon.ts";
import { type ChannelDefinition, subChannels } from "./definition.ts";
import type { CheckedChannel, DfsState } from "./usable.ts";

/** Non-occupancy period after radar (IEEE80211_DFS_MIN_NOP_TIME_MS), ms. */
export const NON_OCCUPANCY_MS: number = 30 * 60 * 1000;

/** How long a cleared channel stays cleared after its last use where checks may not be made ahead, ms. */
export const CLEARED_GRACE_MS = 2_000;

/** Radar state of one channel. */
export interface DfsEntry {
	/** Centre, kHz. */
	centreKHz: number;
	/** State. */
	state: DfsState;
	/** When it was entered, ms. */
	sinceMs: number;
}

/** Radar states of a radio's channels; plain data. Channels not listed are "usable": a check is to be made first. */
export interface DfsStates {
	/** DFS region the radio follows. */
	region: DfsRegion;
	/** Channels that are not in the initial state. */
	entries: readonly DfsEntry[];
	/** A running check: what for, and when it ends, ms. */
	check?: { definition: ChannelDefinition; endsMs: number };
}

/** Fresh states: every radar channel needs a check. */
export function createDfsStates(region: DfsRegion): DfsStates {
	return { region, entries: [] };
}

/**
 * Whether a check made ahead of use stays valid (`regulatory_pre_cac_allowed`): only under ETSI rules, and where the radio
 * has its own domain only if that says ETSI too.
 */
export function preCacAllowed(globalRegion: DfsRegion, radioRegion: DfsRegion = globalRegion): boolean {
	return globalRegion === Dfs.ETSI && radioRegion === Dfs.ETSI;
}

function withState(states: DfsStates, centres: readonly number[], state: DfsState, nowMs: number): DfsStates {
	const others = states.entries.filter(({ centreKHz }) => !centres.includes(centreKHz));
	return { ...states, entries: [...others, ...centres.map((centreKHz) => ({ centreKHz, state, sinceMs: nowMs }))] };
}

const radarCentres = (channels: readonly CheckedChannel[], definition: ChannelDefinition): number[] => {
	const covered = new Set(subChannels(definition));
	return channels
		.filter(({ centreKHz, flags }) => covered.has(centreKHz) && (flags & ChannelFlag.RADAR) !== 0)
		.map(({ centreKHz }) => centreKHz);
};

/** Begins a channel availability check; its length is the longest any sub-channel asks for. */
export function startCac(
	states: DfsStates,
	channels: readonly CheckedChannel[],
	definition: ChannelDefinition,
	nowMs: number,
): DfsStates {
	return { ...states, check: { definition, endsMs: nowMs + cacTimeMs(channels, definition) } };
}

/** Radar was seen: every radar sub-channel is out of use for 30 minutes, and a check on any of them ends. */
export function radarDetected(
	states: DfsStates,
	channels: readonly CheckedChannel[],
	definition: ChannelDefinition,
	nowMs: number,
): DfsStates {
	const centres = radarCentres(channels, definition);
	const { check, ...rest } = withState(states, centres, "unavailable", nowMs);
	const ended = check !== undefined && subChannels(check.definition).some((centreKHz) => centres.includes(centreKHz));
	return check === undefined || ended ? rest : { ...rest, check };
}

/**
 * Lets time pass: a finished check clears its channels, a non-occupancy period ends, and a cleared channel that is not in
 * use loses its clearance after two seconds unless checks may be made ahead (ETSI).
 *
 * @param inUse - channel definitions that beacon now
 */
export function advanceDfs(
	states: DfsStates,
	channels: readonly CheckedChannel[],
	nowMs: number,
	inUse: readonly ChannelDefinition[] = [],
): DfsStates {
	let next = states;
	if (next.check !== undefined && nowMs >= next.check.endsMs) {
		const { check, ...rest } = next;
		next = withState(rest, radarCentres(channels, check.definition), "available", check.endsMs);
	}
	const used = new Set(inUse.flatMap(subChannels));
	const stays = ({ centreKHz, state, sinceMs }: DfsEntry): boolean =>
		state === "unavailable"
			? nowMs < sinceMs + NON_OCCUPANCY_MS
			: preCacAllowed(next.region) || used.has(centreKHz) || nowMs < sinceMs + CLEARED_GRACE_MS;
	return { ...next, entries: next.entries.filter(stays) };
}

/** The channels with their radar states filled in, for {@link canBeacon}. */
export function withDfsStates<T extends CheckedChannel>(
	channels: readonly T[],
	states: DfsStates,
): (T & { dfsState: DfsState })[] {
	const known = new Map(states.entries.map(({ centreKHz, state }) => [centreKHz, state]));
	return channels.map((channel) => ({ ...channel, dfsState: known.get(channel.centreKHz) ?? "usable" }));
}
