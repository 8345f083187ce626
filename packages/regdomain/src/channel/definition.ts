import { RegdomainError } from "../errors.ts";
import { type Band, channelToKHz, placeOfKHz } from "../model/bands.ts";

/** Width of a channel definition, MHz; `"20-noht"` is 20 MHz without 802.11n, `"80+80"` two separate 80 MHz parts. */
export type ChannelWidth = "20-noht" | "80+80" | 1 | 2 | 4 | 5 | 8 | 10 | 16 | 20 | 40 | 80 | 160 | 320;

/** What a radio is to be tuned to: a primary channel and the wider channel around it (`struct cfg80211_chan_def`). */
export interface ChannelDefinition {
	/** Centre of the primary (20 MHz; S1G 1 MHz) channel, kHz. */
	primaryKHz: number;
	/** Width. */
	width: ChannelWidth;
	/** Centre of the whole channel, or of the part that holds the primary of 80+80, kHz. */
	centreKHz: number;
	/** Centre of the other part of 80+80, kHz. */
	centre2KHz?: number;
	/** Punctured 20 MHz sub-channels, bit 0 the lowest (EHT; 80, 160 and 320 MHz). @default 0 */
	punctured?: number;
	/** S1G: the primary channel is 2 MHz wide. @default false */
	s1gPrimary2MHz?: boolean;
}

/** Width in MHz of (one part of) a channel definition. */
export function widthMHz(width: ChannelWidth): number {
	if (width === "20-noht") return 20;
	return width === "80+80" ? 80 : width;
}

/** Why a channel definition makes no sense, whatever the domain. */
export type DefinitionFault =
	| "no-channel"
	| "width-for-band"
	| "centre"
	| "centre2"
	| "alignment-6ghz"
	| "channel-14"
	| "puncturing";

const puncturingPatterns: Partial<Record<ChannelWidth, readonly number[]>> = {
	80: [0x8, 0x4, 0x2, 0x1],
	160: [0x80, 0x40, 0x20, 0x10, 0x8, 0x4, 0x2, 0x1, 0xc0, 0x30, 0xc, 0x3],
	320: [
		0xc000, 0x3000, 0xc00, 0x300, 0xc0, 0x30, 0xc, 0x3, 0xf000, 0xf00, 0xf0, 0xf, 0xfc00, 0xf300, 0xf0c0, 0xf030,
		0xf00c, 0xf003, 0xc00f, 0x300f, 0xc0f, 0x30f, 0xcf, 0x3f,
	],
};

function puncturingValid({ punctured = 0, width, centreKHz, primaryKHz }: ChannelDefinition): boolean {
	if (punctured === 0) return true;
	const patterns = puncturingPatterns[width];
	if (patterns === undefined) return false;
	const primary = Math.floor((primaryKHz - (centreKHz - widthMHz(width) * 500)) / 20_000);
	return ((punctured >> primary) & 1) === 0 && patterns.includes(punctured);
}

// Valid channels are packed from 5945 MHz upwards; 320 MHz ones overlap by half. Above 7115 MHz this does not apply.
function alignedIn6GHz(centreKHz: number, width: ChannelWidth): boolean {
	const centre = centreKHz / 1000;
	if (centre < 5955 || centre > 7215) return true;
	const bandwidth = widthMHz(width);
	if (centre - bandwidth / 2 < 5945 || centre + bandwidth / 2 > 7225) return false;
	return (centre - bandwidth / 2 - 5945) % (bandwidth === 320 ? 160 : bandwidth) === 0;
}

/** How far, in kHz, a primary may lie from the centre at each width, narrower widths included as the kernel does. */
const offsets: Partial<Record<ChannelWidth, readonly number[]>> = {
	40: [10],
	80: [10, 30],
	"80+80": [10, 30],
	160: [10, 30, 50, 70],
	320: [10, 30, 50, 70, 90, 110, 130, 150],
};

function s1gFault({ primaryKHz, centreKHz, centre2KHz, width }: ChannelDefinition): DefinitionFault | undefined {
	if (![1, 2, 4, 8, 16].includes(width as number)) return "width-for-band";
	if (centre2KHz !== undefined) return "centre2";
	const reach = (widthMHz(width) - 1) * 500;
	return Math.abs(primaryKHz - centreKHz) > reach ? "centre" : undefined;
}

/**
 * What is wrong with a channel definition in itself (`cfg80211_chandef_valid`): widths the band lacks, a primary outside
 * the channel, misaligned 6 GHz channels, adjacent 80+80, OFDM on channel 14, puncturing patterns 802.11be does not have.
 *
 * @returns undefined when it is sound
 */
export function definitionFault(definition: ChannelDefinition): DefinitionFault | undefined {
	const { primaryKHz, width, centreKHz, centre2KHz } = definition;
	const place = placeOfKHz(primaryKHz);
	if (place === undefined) return "no-channel";
	if (place.band === "s1g")
		return s1gFault(definition) ?? ((definition.punctured ?? 0) === 0 ? undefined : "puncturing");
	if (width === 1 || width === 2 || width === 4 || width === 8 || width === 16) return "width-for-band";
	if (width === "80+80") {
		if (centre2KHz === undefined || centre2KHz === 0 || Math.abs(centreKHz - centre2KHz) === 80_000) return "centre2";
	} else if (centre2KHz !== undefined && centre2KHz !== 0) {
		return "centre2";
	}
	const reach = offsets[width];
	const distance = Math.abs(centreKHz - primaryKHz);
	if (reach === undefined ? distance !== 0 : !reach.includes(distance / 1000)) return "centre";
	if (!alignedIn6GHz(centreKHz, width)) return "alignment-6ghz";
	if (width === "80+80" && !alignedIn6GHz(centre2KHz!, width)) return "alignment-6ghz";
	if (centreKHz === 2_484_000 && width !== "20-noht") return "channel-14";
	return puncturingValid(definition) && definition.s1gPrimary2MHz !== true ? undefined : "puncturing";
}

/** Centres, kHz, of the 20 MHz (S1G: 1 MHz) sub-channels a definition covers, punctured ones left out. */
export function subChannels(definition: ChannelDefinition): number[] {
	const { width, centreKHz, centre2KHz, punctured = 0 } = definition;
	const step = placeOfKHz(definition.primaryKHz)?.band === "s1g" ? 1_000 : 20_000;
	const bandwidth = widthMHz(width) * 1000;
	const part = (centre: number): number[] => {
		if (bandwidth <= step) return [centre];
		return Array.from({ length: bandwidth / step }, (_, index) => centre - bandwidth / 2 + step / 2 + index * step);
	};
	const first = part(centreKHz).filter((_, index) => ((punctured >> index) & 1) === 0);
	return width === "80+80" && centre2KHz !== undefined ? [...first, ...part(centre2KHz)] : first;
}

const fiveGHzCentres: Partial<Record<number, readonly number[]>> = {
	40: [38, 46, 54, 62, 102, 110, 118, 126, 134, 142, 151, 159, 167, 175],
	80: [42, 58, 106, 122, 138, 155, 171],
	160: [50, 114, 163],
};

/**
 * The channel definitions of IEEE 802.11 annex E around a primary channel. There is one for most, two for 40 MHz in 2.4 GHz
 * (secondary above or below) and for 320 MHz, none where the band has no such channel.
 *
 * @param primaryKHz - centre of the primary channel
 * @param width - MHz
 */
export function definitionsAround(band: Band, primaryKHz: number, width: number): ChannelDefinition[] {
	const with20 = (centres: readonly number[]): ChannelDefinition[] =>
		centres
			.map((centreKHz): ChannelDefinition => ({ primaryKHz, width: width as ChannelWidth, centreKHz }))
			.filter((definition) => definitionFault(definition) === undefined);
	const only80211b = primaryKHz === 2_484_000;
	if (width === 20 && (only80211b || band === "60")) return [{ primaryKHz, width: "20-noht", centreKHz: primaryKHz }];
	if (band === "s1g") {
		const count = Math.floor(26 / width);
		const centres = Array.from({ length: count }, (_, index) => 902_000 + (index + 0.5) * width * 1000);
		return with20(centres.filter((centre) => Math.abs(centre - primaryKHz) <= (width - 1) * 500));
	}
	if (width === 5 || width === 10 || width === 20) return with20([primaryKHz]);
	if (band === "2.4") return width === 40 && !only80211b ? with20([primaryKHz + 10_000, primaryKHz - 10_000]) : [];
	if (band === "5") return with20((fiveGHzCentres[width] ?? []).map((centre) => channelToKHz("5", centre)));
	if (band !== "6" || ![40, 80, 160, 320].includes(width)) return [];
	const step = width === 320 ? 160_000 : width * 1000;
	const first = 5_945_000 + width * 500;
	const centres = [];
	for (let centre = first; centre + width * 500 <= 7_125_000; centre += step) centres.push(centre);
	return with20(centres.filter((centre) => Math.abs(centre - primaryKHz) < width * 500));
}

/**
 * The channel definitions around a primary channel given by its number; see {@link definitionsAround}.
 *
 * @throws RegdomainError `BAD_CHANNEL` when the band has no such channel
 */
export function standardDefinitions(band: Band, channel: number, width: number): ChannelDefinition[] {
	return definitionsAround(band, channelToKHz(band, channel), width);
}

/**
 * A channel definition from plain figures.
 *
 * @param centreMHz - centre of the whole channel; needed only where the standard has two for this primary and width
 * @throws RegdomainError `BAD_CHANNEL_DEFINITION` when no channel, or no channel of this width, is there, or when there are
 * two and no centre says which
 */
export function createChannelDefinition(primaryMHz: number, width: number, centreMHz?: number): ChannelDefinition {
	const primaryKHz = Math.round(primaryMHz * 1000);
	const place = placeOfKHz(primaryKHz);
	if (place === undefined) {
		throw new RegdomainError("BAD_CHANNEL_DEFINITION", `no Wi-Fi channel is centred on ${primaryMHz} MHz`, primaryMHz);
	}
	if (centreMHz !== undefined) {
		const centreKHz = Math.round(centreMHz * 1000);
		const definition: ChannelDefinition = { primaryKHz, width: width as ChannelWidth, centreKHz };
		if (![1, 2, 4, 5, 8, 10, 16, 20, 40, 80, 160, 320].includes(width) || definitionFault(definition) !== undefined) {
			throw new RegdomainError(
				"BAD_CHANNEL_DEFINITION",
				`${width} MHz centred on ${centreMHz} MHz is no channel around the primary ${primaryMHz} MHz`,
				definition,
			);
		}
		return definition;
	}
	const choices = definitionsAround(place.band, primaryKHz, width);
	if (choices.length === 0) {
		throw new RegdomainError(
			"BAD_CHANNEL_DEFINITION",
			`channel ${place.channel} of the ${place.band} GHz band has no ${width} MHz channel`,
			width,
		);
	}
	return choices[0]!;
}
