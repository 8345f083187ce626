import { RegdomainError } from "../errors.ts";

/** A Wi-Fi band, by its usual name; "s1g" is 802.11ah below 1 GHz. */
export type Band = "2.4" | "5" | "6" | "60" | "s1g";

/** The bands in the kernel's order. */
export const bands: readonly Band[] = ["2.4", "5", "60", "6", "s1g"];

/** Where a channel lies and what it is called. */
export interface ChannelPlace {
	/** Band. */
	band: Band;
	/** Channel number of IEEE 802.11 annex E. */
	channel: number;
	/** Centre of the (20 MHz; S1G 1 MHz; 60 GHz 2.16 GHz) channel, kHz. */
	centreKHz: number;
}

/**
 * Centre frequency of a channel number (`ieee80211_channel_to_freq_khz`, net/wireless/util.c).
 *
 * @param channel - 1-14 in 2.4 GHz; 1-196 in 5 GHz, of which 182-196 are the 4.9 GHz channels; 1-233 in 6 GHz, where 2
 * is the lone 20 MHz channel of operating class 136; 1-6 in 60 GHz (and 9-27 the wider ones); 1-51 in S1G (US numbering)
 * @returns kHz
 * @throws RegdomainError `BAD_CHANNEL` when the band has no such channel
 */
export function channelToKHz(band: Band, channel: number): number {
	if (Number.isInteger(channel) && channel > 0) {
		switch (band) {
			case "2.4":
				if (channel === 14) return 2_484_000;
				if (channel < 14) return 2_407_000 + channel * 5_000;
				break;
			case "5":
				if (channel >= 182 && channel <= 196) return 4_000_000 + channel * 5_000;
				if (channel < 200) return 5_000_000 + channel * 5_000;
				break;
			case "6":
				if (channel === 2) return 5_935_000;
				if (channel <= 253) return 5_950_000 + channel * 5_000;
				break;
			case "60":
				if (channel < 7) return 56_160_000 + channel * 2_160_000;
				if (channel >= 9 && channel <= 13) return 57_240_000 + (channel - 8) * 2_160_000;
				if (channel >= 17 && channel <= 20) return 58_320_000 + (channel - 16) * 2_160_000;
				if (channel >= 25 && channel <= 27) return 59_400_000 + (channel - 24) * 2_160_000;
				break;
			case "s1g":
				if (channel <= 51) return 902_000 + channel * 500;
				break;
		}
	}
	throw new RegdomainError("BAD_CHANNEL", `band ${band} has no channel ${channel}`, channel);
}

/**
 * Band and channel number of a centre frequency, or undefined where no channel has that centre. Beside the 20 MHz grid
 * every 5 MHz step is named, as the kernel's `ieee80211_freq_khz_to_channel` does, so the centres of wide channels have
 * numbers too.
 */
export function placeOfKHz(centreKHz: number): ChannelPlace | undefined {
	const place = (band: Band, channel: number): ChannelPlace | undefined =>
		Number.isInteger(channel) && channel > 0 ? { band, channel, centreKHz } : undefined;
	if (centreKHz >= 902_000 && centreKHz <= 928_000) return place("s1g", (centreKHz - 902_000) / 500);
	if (centreKHz === 2_484_000) return place("2.4", 14);
	if (centreKHz > 2_407_000 && centreKHz < 2_484_000) return place("2.4", (centreKHz - 2_407_000) / 5_000);
	if (centreKHz >= 4_910_000 && centreKHz <= 4_980_000) return place("5", (centreKHz - 4_000_000) / 5_000);
	if (centreKHz === 5_935_000) return place("6", 2);
	if (centreKHz > 5_000_000 && centreKHz < 5_945_000) return place("5", (centreKHz - 5_000_000) / 5_000);
	if (centreKHz > 5_950_000 && centreKHz <= 7_215_000) return place("6", (centreKHz - 5_950_000) / 5_000);
	if (centreKHz >= 58_320_000 && centreKHz <= 69_120_000) {
		const half = (centreKHz - 56_160_000) / 1_080_000;
		if (Number.isInteger(half) && half % 2 === 0) return place("60", half / 2);
	}
	return undefined;
}

/**
 * U-NII band of a frequency, as cfg80211 numbers them for concurrent operation (`cfg80211_get_unii`).
 *
 * @param centreMHz - MHz
 * @returns 0 U-NII-1, 1 U-NII-2A, 2 U-NII-2B, 3 U-NII-2C, 4 U-NII-3, 5 to 8 U-NII-5 to U-NII-8; undefined outside
 */
export function uniiBand(centreMHz: number): number | undefined {
	const upper = [5250, 5350, 5470, 5725, 5825];
	if (centreMHz >= 5150 && centreMHz <= 5825) return upper.findIndex((edge) => centreMHz <= edge);
	const upper6 = [6425, 6525, 6875, 7125];
	if (centreMHz > 5925 && centreMHz <= 7125) return 5 + upper6.findIndex((edge) => centreMHz <= edge);
	return undefined;
}

const subBands: readonly (readonly [number, number, string])[] = [
	[755, 928, "S1G"],
	[2400, 2500, "ISM 2.4"],
	[4900, 5000, "4.9 GHz"],
	[5150, 5250, "U-NII-1"],
	[5250, 5350, "U-NII-2A"],
	[5350, 5470, "U-NII-2B"],
	[5470, 5725, "U-NII-2C"],
	[5725, 5850, "U-NII-3"],
	[5850, 5925, "U-NII-4"],
	[5925, 6425, "U-NII-5"],
	[6425, 6525, "U-NII-6"],
	[6525, 6875, "U-NII-7"],
	[6875, 7125, "U-NII-8"],
	[57000, 71000, "60 GHz"],
];

/** Customary name of the sub-band a frequency (MHz) lies in, such as "U-NII-2C" or "ISM 2.4"; undefined outside all. */
export function subBandName(centreMHz: number): string | undefined {
	return subBands.find(([low, high]) => centreMHz >= low && centreMHz <= high)?.[2];
}
