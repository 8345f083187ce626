import type { ChannelPlace } from "../model/bands.ts";
import { ChannelFlag } from "../model/flags.ts";

/** A channel a radio registers. */
export interface ChannelSpec extends ChannelPlace {
	/** {@link ChannelFlag} bits the hardware itself sets. @default 0 */
	flags?: number;
	/** Highest power of the hardware, dBm; 0 or absent = no limit of its own. */
	maxPowerDbm?: number;
}

const range = (first: number, last: number, step: number): number[] => {
	const list = [];
	for (let value = first; value <= last; value += step) list.push(value);
	return list;
};

const place = (band: ChannelPlace["band"], channel: number, centreKHz: number): ChannelSpec =>
	Object.freeze({ band, channel, centreKHz });

const fiveGHz = [...range(36, 64, 4), ...range(100, 140, 4), ...range(149, 169, 4), 171, ...range(172, 185, 1)];

/**
 * The 139 channels that mac80211_hwsim of Linux 7.2 registers (14 in 2.4 GHz, 40 in 5 GHz, 59 in 6 GHz, 26 in S1G),
 * in the kernel's order. The S1G channels at the edges (902.5 and 927.5 MHz) may not be primary channels.
 */
export const hwsimChannels: readonly ChannelSpec[] = Object.freeze([
	...range(1, 13, 1).map((channel) => place("2.4", channel, 2_407_000 + channel * 5_000)),
	place("2.4", 14, 2_484_000),
	...fiveGHz.map((channel) => place("5", channel, 5_000_000 + channel * 5_000)),
	...range(1, 233, 4).map((channel) => place("6", channel, 5_950_000 + channel * 5_000)),
	...range(1, 51, 2).map((channel) =>
		channel === 1 || channel === 51
			? Object.freeze({
					...place("s1g", channel, 902_000 + channel * 500),
					flags: ChannelFlag.S1G_NO_PRIMARY,
				})
			: place("s1g", channel, 902_000 + channel * 500),
	),
]);

/** The six 2.16 GHz channels of the 60 GHz band, which mac80211_hwsim does not register. */
export const dmgChannels: readonly ChannelSpec[] = Object.freeze(
	range(1, 6, 1).map((channel) => place("60", channel, 56_160_000 + channel * 2_160_000)),
);

/** For every channel of a list, where its neighbours 20 MHz below and above are; -1 where the band has none. */
export interface ChannelNeighbours {
	/** Index of the channel 20 MHz lower. */
	below: Int32Array;
	/** Index of the channel 20 MHz higher. */
	above: Int32Array;
}

const known = new WeakMap<readonly ChannelPlace[], ChannelNeighbours>();

/** Neighbours of each channel of a list; remembered for frozen lists only, since others may change. */
export function neighboursOf(channels: readonly ChannelPlace[]): ChannelNeighbours {
	const remembered = known.get(channels);
	if (remembered !== undefined) return remembered;
	const at = new Map<string, number>();
	for (const [index, { band, centreKHz }] of channels.entries()) at.set(`${band}/${centreKHz}`, index);
	const find = (offset: number): Int32Array =>
		Int32Array.from(channels, ({ band, centreKHz }) => at.get(`${band}/${centreKHz + offset}`) ?? -1);
	const neighbours = { below: find(-20_000), above: find(20_000) };
	if (Object.isFrozen(channels)) known.set(channels, neighbours);
	return neighbours;
}
