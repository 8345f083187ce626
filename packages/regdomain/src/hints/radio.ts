import { hwsimChannels, neighboursOf } from "../channel/plan.ts";
import type { Domain } from "../model/domain.ts";
import { ChannelFlag } from "../model/flags.ts";
import {
	applyHt40,
	DEFAULT_CAC_MS,
	noRuling,
	type PreparedRules,
	prepareRules,
	type Ruling,
	ruleOn,
	rulingUnder,
} from "../rules/decide.ts";
import { findRule, NO_BAND } from "../rules/lookup.ts";
import type { ChannelState, Initiator, RadioOptions, RadioState, RegulatoryState } from "./state.ts";
import { freshChannel, isWorld, NO_GAIN_LIMIT } from "./state.ts";

/** The domain a radio follows (`reg_get_regdomain`): its driver's, unless a user or a country element spoke last. */
export function domainFollowed(state: RegulatoryState, radio: RadioState): Domain {
	const { initiator } = state.last;
	if (initiator !== "country-element" && initiator !== "user" && radio.domain !== undefined) return radio.domain;
	return state.global;
}

/** Whether a radio is to leave its channels alone on a change (`ignore_reg_update`), and why. */
export function ignoresUpdate(state: RegulatoryState, radio: RadioState, initiator: Initiator): string | undefined {
	if (radio.selfManaged) return "the radio is self-managed";
	if (initiator === "core" && radio.custom) return "the driver uses its own custom domain";
	if (
		radio.strict &&
		!radio.custom &&
		radio.domain === undefined &&
		initiator !== "country-element" &&
		!isWorld(state.last.alpha2)
	) {
		return "the strict driver must set its own domain first";
	}
	if (state.last.cellular && !(state.cellularHints && radio.cellularHints)) {
		return "the radio does not take cellular base station hints";
	}
	return undefined;
}

function setPsd(channel: ChannelState, psdDbm: number | undefined): void {
	if (psdDbm !== undefined) channel.psdDbm = psdDbm;
}

function setCac(channel: ChannelState, cacMs: number): void {
	if ((channel.flags & ChannelFlag.RADAR) !== 0) channel.cacMs = cacMs || DEFAULT_CAC_MS;
}

function disable(state: RegulatoryState, channel: ChannelState): void {
	if (state.quirks === "none") {
		channel.flags = channel.origFlags | ChannelFlag.DISABLED;
		channel.powerDbm = 0;
		channel.cacMs = 0;
	} else {
		channel.flags |= ChannelFlag.DISABLED;
	}
}

/** A strict driver's own domain: becomes what the hardware can do, for good. */
function applyStrict(state: RegulatoryState, channel: ChannelState, ruling: Ruling): void {
	const bugs = state.quirks !== "none";
	const adjacent = ruling.upperRule >= 0;
	channel.flags = adjacent && bugs ? ruling.flags : ruling.flags & ~ruling.liftedFlags;
	channel.origFlags = channel.flags;
	channel.gainDbi = ruling.gainDbi;
	channel.origGainDbi = ruling.gainDbi;
	channel.powerDbm = ruling.powerDbm;
	channel.origPowerDbm = ruling.powerDbm;
	setCac(channel, ruling.cacMs);
	setPsd(channel, ruling.psdDbm);
	// The kernel means to clear PSD here, but uses the rule's bit 20, which is NO_EHT of a channel.
	if (adjacent && ruling.psdDbm === undefined) channel.flags &= bugs ? ~ChannelFlag.NO_EHT : ~ChannelFlag.PSD;
}

/** Applies a domain to one channel (`handle_channel`). */
function applyChannel(
	state: RegulatoryState,
	radio: RadioState,
	from: PreparedRules,
	channel: ChannelState,
	initiator: Initiator,
): void {
	const { last } = state;
	const strict = last.initiator === "driver" && last.radio === radio.name && radio.strict;
	const ruling = ruleOn(from, channel.band, channel.centreKHz);
	if (ruling.rule < 0) {
		if (initiator === "country-element" && ruling.rule === NO_BAND) return;
		if (strict) {
			channel.origFlags |= ChannelFlag.DISABLED;
			channel.flags = channel.origFlags;
		} else {
			disable(state, channel);
		}
		return;
	}
	if (strict) {
		applyStrict(state, channel, ruling);
		return;
	}
	channel.beaconFound = false;
	channel.flags = (channel.origFlags | ruling.flags) & ~ruling.liftedFlags;
	channel.gainDbi = Math.min(channel.origGainDbi, ruling.gainDbi);
	setCac(channel, ruling.cacMs);
	setPsd(channel, ruling.psdDbm);
	const follows = initiator === "country-element" && radio.followCountryElementPower;
	channel.powerDbm =
		channel.origPowerDbm === 0 || follows ? ruling.powerDbm : Math.min(channel.origPowerDbm, ruling.powerDbm);
}

/** Applies a driver's own domain (`handle_channel_custom`): 20 MHz must fit one rule, adjacent rules do not help. */
export function applyCustom(radio: RadioState, domain: Domain): void {
	const from = prepareRules(domain.rules);
	for (const channel of radio.channels) {
		const index = findRule(domain.rules, channel.centreKHz, 20_000);
		const ruling = index < 0 ? noRuling(index) : rulingUnder(from, index, channel.band, channel.centreKHz);
		if (ruling.rule < 0) {
			if (radio.selfManaged) channel.flags |= ChannelFlag.DISABLED;
			else channel.flags = channel.origFlags |= ChannelFlag.DISABLED;
			continue;
		}
		channel.beaconFound = false;
		channel.flags = (radio.selfManaged ? channel.origFlags : channel.flags) | ruling.flags;
		channel.gainDbi = ruling.gainDbi;
		channel.powerDbm = ruling.powerDbm;
		setCac(channel, ruling.cacMs);
		setPsd(channel, ruling.psdDbm);
	}
}

/** The HT40 pass over a radio (`reg_process_ht_flags`). */
export function applyRadioHt40(state: RegulatoryState, radio: RadioState): void {
	const { below, above } = neighboursOf(radio.channels);
	const domain = state.quirks === "none" ? domainFollowed(state, radio) : radio.domain;
	const flagsOf = (index: number): number => {
		if (domain === undefined) return 0;
		const rule = findRule(domain.rules, radio.channels[index]!.centreKHz, 20_000);
		return rule < 0 ? 0 : domain.rules[rule]!.flags;
	};
	applyHt40(radio.channels, below, above, flagsOf);
}

/** Whether a radio roams the world (`reg_is_world_roaming`), so that beacons may lift NO_IR. */
export function isWorldRoaming(state: RegulatoryState, radio: RadioState): boolean {
	if (isWorld(state.global.alpha2) || (radio.domain !== undefined && isWorld(radio.domain.alpha2))) return true;
	return state.last.initiator !== "country-element" && radio.custom;
}

/** Lets a seen beacon lift NO_IR from its channel (`handle_reg_beacon`). Returns whether it did. */
export function applyBeacon(
	state: RegulatoryState,
	radio: RadioState,
	beacon: { band: string; centreKHz: number },
): boolean {
	const channel = radio.channels.find(({ band, centreKHz }) => band === beacon.band && centreKHz === beacon.centreKHz);
	if (channel === undefined || channel.beaconFound) return false;
	channel.beaconFound = true;
	if (!isWorldRoaming(state, radio) || radio.disableBeaconHints || (channel.flags & ChannelFlag.NO_IR) === 0)
		return false;
	channel.flags &= ~ChannelFlag.NO_IR;
	return true;
}

/** Applies the domain in force to a radio (`wiphy_update_regulatory`). Returns why it did not, if so. */
export function updateRadio(state: RegulatoryState, radio: RadioState, initiator: Initiator): string | undefined {
	const ignored = ignoresUpdate(state, radio, initiator);
	if (ignored !== undefined) return ignored;
	const from = prepareRules(domainFollowed(state, radio).rules);
	for (const channel of radio.channels) applyChannel(state, radio, from, channel, initiator);
	for (const beacon of state.beacons) applyBeacon(state, radio, beacon);
	applyRadioHt40(state, radio);
	return undefined;
}

/** Gives a custom radio its registered state back (`restore_custom_reg_settings`). */
export function restoreCustom(radio: RadioState): void {
	for (const channel of radio.channels) {
		channel.flags = channel.origFlags;
		channel.gainDbi = channel.origGainDbi;
		channel.powerDbm = channel.origPowerDbm;
		channel.beaconFound = false;
	}
}

/** A radio as it is right before its registration: hardware limits, and a custom domain applied to them. */
export function createRadio(options: RadioOptions): RadioState {
	const selfManaged = options.selfManaged ?? false;
	const radio: RadioState = {
		name: options.name,
		strict: options.strict ?? false,
		custom: options.custom !== undefined,
		selfManaged,
		ignoreCountryElement: selfManaged || (options.ignoreCountryElement ?? false),
		disableBeaconHints: selfManaged || (options.disableBeaconHints ?? false),
		followCountryElementPower: options.followCountryElementPower ?? false,
		cellularHints: options.cellularHints ?? false,
		connected: false,
		channels: (options.channels ?? hwsimChannels).map(freshChannel),
	};
	if (options.custom === undefined) return radio;
	applyCustom(radio, options.custom);
	radio.domain = options.custom;
	for (const channel of radio.channels) {
		channel.origFlags = channel.flags;
		channel.origPowerDbm = channel.powerDbm;
		channel.origGainDbi = NO_GAIN_LIMIT;
	}
	return radio;
}
