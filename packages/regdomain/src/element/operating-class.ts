import { type ChannelDefinition, standardDefinitions, widthMHz } from "../channel/definition.ts";
import { type Band, channelToKHz, placeOfKHz } from "../model/bands.ts";

/** An operating class of table E-4 (global), IEEE 802.11-2020 annex E with 802.11be. */
export interface OperatingClass {
	/** Number. */
	operatingClass: number;
	/** Band. */
	band: Band;
	/** Width, MHz. */
	widthMHz: number;
	/** Channels: the primaries, or for 80 MHz and wider the centres. */
	channels: readonly number[];
	/** What {@link channels} number. */
	numbering: "primary" | "centre";
	/** For 40 MHz: on which side of the primary the other half lies. */
	secondary?: "above" | "below";
}

const steps = (first: number, last: number, step: number): number[] => {
	const list = [];
	for (let channel = first; channel <= last; channel += step) list.push(channel);
	return list;
};

const primary = (
	operatingClass: number,
	band: Band,
	width: number,
	channels: number[],
	secondary?: "above" | "below",
): OperatingClass => ({
	operatingClass,
	band,
	widthMHz: width,
	channels,
	numbering: "primary",
	...(secondary === undefined ? {} : { secondary }),
});

const centre = (operatingClass: number, band: Band, width: number, channels: number[]): OperatingClass => ({
	operatingClass,
	band,
	widthMHz: width,
	channels,
	numbering: "centre",
});

/** The global operating classes. */
export const operatingClasses: readonly OperatingClass[] = [
	primary(81, "2.4", 20, steps(1, 13, 1)),
	primary(82, "2.4", 20, [14]),
	primary(83, "2.4", 40, steps(1, 9, 1), "above"),
	primary(84, "2.4", 40, steps(5, 13, 1), "below"),
	primary(115, "5", 20, steps(36, 48, 4)),
	primary(116, "5", 40, [36, 44], "above"),
	primary(117, "5", 40, [40, 48], "below"),
	primary(118, "5", 20, steps(52, 64, 4)),
	primary(119, "5", 40, [52, 60], "above"),
	primary(120, "5", 40, [56, 64], "below"),
	primary(121, "5", 20, steps(100, 144, 4)),
	primary(122, "5", 40, steps(100, 140, 8), "above"),
	primary(123, "5", 40, steps(104, 144, 8), "below"),
	primary(124, "5", 20, steps(149, 161, 4)),
	primary(125, "5", 20, steps(149, 177, 4)),
	primary(126, "5", 40, [149, 157, 165, 173], "above"),
	primary(127, "5", 40, [153, 161, 169, 177], "below"),
	centre(128, "5", 80, [42, 58, 106, 122, 138, 155, 171]),
	centre(129, "5", 160, [50, 114, 163]),
	centre(130, "5", 80, [42, 58, 106, 122, 138, 155, 171]),
	primary(131, "6", 20, steps(1, 233, 4)),
	centre(132, "6", 40, steps(3, 227, 8)),
	centre(133, "6", 80, steps(7, 215, 16)),
	centre(134, "6", 160, steps(15, 207, 32)),
	centre(135, "6", 80, steps(7, 215, 16)),
	primary(136, "6", 20, [2]),
	centre(137, "6", 320, [31, 63, 95, 127, 159, 191]),
	primary(180, "60", 2160, steps(1, 6, 1)),
];

/** The operating class of a channel definition, or undefined where table E-4 has none (S1G, 5 and 10 MHz). */
export function operatingClassOf(definition: ChannelDefinition): number | undefined {
	const place = placeOfKHz(definition.primaryKHz);
	if (place === undefined) return undefined;
	const width = place.band === "60" ? 2160 : widthMHz(definition.width);
	const side = definition.centreKHz > definition.primaryKHz ? "above" : "below";
	const middle = placeOfKHz(definition.centreKHz)?.channel;
	const separate = definition.width === "80+80";
	return operatingClasses.find(
		(entry) =>
			entry.band === place.band &&
			entry.widthMHz === width &&
			(entry.operatingClass === 130 || entry.operatingClass === 135) === separate &&
			(entry.secondary === undefined || entry.secondary === side) &&
			entry.channels.includes(entry.numbering === "primary" ? place.channel : (middle ?? -1)),
	)?.operatingClass;
}

/** Channel definitions of an operating class: one per primary and centre. */
export function definitionsOfOperatingClass(operatingClass: number): ChannelDefinition[] {
	const entry = operatingClasses.find((candidate) => candidate.operatingClass === operatingClass);
	if (entry === undefined) return [];
	const { band, widthMHz: width, channels, numbering, secondary } = entry;
	if (numbering === "primary") {
		return channels.flatMap((channel) =>
			standardDefinitions(band, channel, width === 2160 ? 20 : width).filter(
				({ centreKHz, primaryKHz }) => secondary === undefined || centreKHz > primaryKHz === (secondary === "above"),
			),
		);
	}
	return channels.flatMap((channel) => {
		const centreKHz = channelToKHz(band, channel);
		const first = centreKHz - width * 500 + 10_000;
		const primaries = Array.from({ length: width / 20 }, (_, index) => first + index * 20_000);
		return primaries.map((primaryKHz) => ({ primaryKHz, width: width as ChannelDefinition["width"], centreKHz }));
	});
}
