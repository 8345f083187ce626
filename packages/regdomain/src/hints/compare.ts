import { channelFlagNames } from "../model/flags.ts";
import type { ChannelState, RadioState, RegulatoryState } from "./state.ts";
import { isEnabled } from "./state.ts";

/** Where two states part. */
export interface StateDifference {
	/** Radio it is about; absent for the global domain. */
	radio?: string;
	/** In words for a person. */
	text: string;
}

function channelDifference(one: ChannelState, two: ChannelState): string | undefined {
	const name = `channel ${one.channel} (${one.centreKHz / 1000} MHz)`;
	if (isEnabled(one) !== isEnabled(two))
		return `${name} is ${isEnabled(one) ? "enabled" : "disabled"}, not ${isEnabled(two) ? "enabled" : "disabled"}`;
	// What a disabled channel keeps of an earlier domain has no effect.
	if (!isEnabled(one)) return undefined;
	const more = channelFlagNames(one.flags & ~two.flags);
	const less = channelFlagNames(two.flags & ~one.flags);
	const words = [
		more.length === 0 ? "" : `has ${more.join(", ")}`,
		less.length === 0 ? "" : `lacks ${less.join(", ")}`,
		one.powerDbm === two.powerDbm ? "" : `has ${one.powerDbm} dBm, not ${two.powerDbm}`,
	].filter((text) => text !== "");
	return words.length === 0 ? undefined : `${name} ${words.join(", ")}`;
}

function* radioDifferences(one: RadioState, two: RadioState): Generator<StateDifference> {
	for (const [index, channel] of one.channels.entries()) {
		const text = channelDifference(channel, two.channels[index]!);
		if (text !== undefined) yield { radio: one.name, text };
	}
}

/**
 * Where the effects of two states with the same radios part, such as of one core with the kernel's bugs and one without: the
 * domain in force, and every channel that is enabled in one or has other flags or power.
 */
export function compareStates(one: RegulatoryState, two: RegulatoryState): StateDifference[] {
	const differences: StateDifference[] = [];
	if (JSON.stringify(one.global) !== JSON.stringify(two.global)) {
		const same = one.global.alpha2 === two.global.alpha2;
		differences.push({
			text: `domain ${one.global.alpha2} is in force, not ${same ? `the other ${two.global.alpha2}` : two.global.alpha2}`,
		});
	}
	for (const radio of one.radios) {
		const other = two.radios.find(({ name }) => name === radio.name);
		if (other !== undefined && other.channels.length === radio.channels.length)
			differences.push(...radioDifferences(radio, other));
	}
	return differences;
}
