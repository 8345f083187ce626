import { RegdomainError } from "../errors.ts";
import { type Band, bands, placeOfKHz } from "../model/bands.ts";
import { ChannelFlag } from "../model/flags.ts";

/** What `iw phy … channels` needs to know of a channel; {@link ChannelDecision} and the hint engine's channels fit. */
export interface ListedChannel {
	/** Band. */
	band: Band;
	/** Channel number. */
	channel: number;
	/** Centre, kHz. */
	centreKHz: number;
	/** {@link ChannelFlag} bits. */
	flags: number;
	/** Highest power, mBm; or give {@link powerDbm}. */
	maxEirpMbm?: number;
	/** Highest power, dBm. */
	powerDbm?: number;
	/** Channel availability check, ms. */
	cacMs: number;
}

/** A channel as `iw phy … channels` tells of it. */
export interface ParsedChannel {
	/** Band; undefined where the frequency belongs to none. */
	band: Band | undefined;
	/** Channel number as printed. */
	channel: number;
	/** Centre as printed, whole MHz. */
	centreMHz: number;
	/** Whether it may be used. */
	enabled: boolean;
	/** Highest power, mBm; 0 when disabled. */
	maxEirpMbm: number;
	/** The {@link ChannelFlag} bits that the text shows. */
	flags: number;
	/** Channel availability check, ms. */
	cacMs: number;
	/** Widths as printed, such as `HT40+` and `VHT80`. */
	widths: string[];
}

// nl80211 numbers bands from 0, iw prints them from 1.
const bandNumber: Record<Band, number> = { "2.4": 1, "5": 2, "60": 3, "6": 4, s1g: 5 };

const widthNames: readonly (readonly [string, number])[] = [
	["20MHz", ChannelFlag.NO_20MHZ],
	["HT40-", ChannelFlag.NO_HT40MINUS],
	["HT40+", ChannelFlag.NO_HT40PLUS],
	["VHT80", ChannelFlag.NO_80MHZ],
	["VHT160", ChannelFlag.NO_160MHZ],
];

// iw lists the widths of HT and VHT only where the band reports these capabilities, as mac80211_hwsim's bands do.
const shownWidths: Record<Band, number> = { "2.4": 3, "5": 5, "60": 1, "6": 1, s1g: 3 };

/** Widths of a channel as iw prints them. */
export function iwWidths({ band, flags }: Pick<ListedChannel, "band" | "flags">): string[] {
	return widthNames
		.slice(0, shownWidths[band])
		.filter(([, flag]) => (flags & flag) === 0)
		.map(([name]) => name);
}

function details(channel: ListedChannel): string[] {
	const power = channel.powerDbm ?? (channel.maxEirpMbm ?? 0) / 100;
	const lines = [`Maximum TX power: ${power.toFixed(1)} dBm`];
	if ((channel.flags & ChannelFlag.NO_IR) !== 0) lines.push("No IR");
	const radar = (channel.flags & ChannelFlag.RADAR) !== 0;
	if (radar) lines.push("Radar detection");
	lines.push(`Channel widths: ${iwWidths(channel).join(" ")}`);
	if (radar) lines.push("DFS state: usable (for 0 sec)", `DFS CAC time: ${channel.cacMs} ms`);
	return lines;
}

/** Text of `iw phy … channels` (iw 6.17) for a radio with the capabilities of mac80211_hwsim. */
export function renderIwChannels(channels: readonly ListedChannel[]): string {
	let text = "";
	for (const band of bands) {
		const own = channels.filter((channel) => channel.band === band);
		if (own.length > 0) text += `Band ${bandNumber[band]}:\n`;
		for (const channel of own) {
			// iw's own conversion knows no S1G channel numbers.
			const number = band === "s1g" ? 0 : channel.channel;
			const start = `\t* ${Math.trunc(channel.centreKHz / 1000)} MHz [${number}] `;
			if ((channel.flags & ChannelFlag.DISABLED) !== 0) text += `${start}(disabled)\n`;
			else text += [start, ...details(channel).map((line) => `\t  ${line}`)].map((line) => `${line}\n`).join("");
		}
	}
	return text;
}

const start = /^\s*\* (\d+)(?:\.\d+)? MHz \[(\d+)\]\s*(?:\|\s*)?(.*)$/;
const detailFlags: ReadonlyMap<string, number> = new Map([
	["No IR", ChannelFlag.NO_IR],
	["no IR", ChannelFlag.NO_IR],
	["Radar detection", ChannelFlag.RADAR],
	["radar detection", ChannelFlag.RADAR],
	["Indoor only", ChannelFlag.INDOOR_ONLY],
]);

/**
 * Reads the text of `iw phy … channels`, and the frequency lists of `iw list`. Lines that say nothing of a channel are
 * passed over.
 *
 * @throws RegdomainError `TEXT_SYNTAX` when the text has no channel at all
 */
export function parseIwChannels(text: string): ParsedChannel[] {
	const found: ParsedChannel[] = [];
	for (const line of text.split(/\r?\n/)) {
		const head = start.exec(line);
		if (head !== null) {
			const centreMHz = Number(head[1]);
			const enabled = !head[3]!.includes("(disabled)");
			found.push({
				band: centreMHz >= 750 && centreMHz < 1000 ? "s1g" : placeOfKHz(centreMHz * 1000)?.band,
				channel: Number(head[2]),
				centreMHz,
				enabled,
				maxEirpMbm: 0,
				flags: enabled ? 0 : ChannelFlag.DISABLED,
				cacMs: 0,
				widths: [],
			});
			const inParentheses = head[3]!.replaceAll(/\(([^)]*)\)/g, " | $1").split(/[|,]/);
			for (const part of inParentheses) addDetail(found.at(-1)!, part.trim());
		} else if (found.length > 0) {
			addDetail(found.at(-1)!, line.trim());
		}
	}
	if (found.length === 0)
		throw new RegdomainError("TEXT_SYNTAX", "the text has no line `* FREQ MHz [CHANNEL]`", text.slice(0, 80));
	return found;
}

function addDetail(channel: ParsedChannel, detail: string): void {
	const flag = detailFlags.get(detail);
	if (flag !== undefined) channel.flags |= flag;
	const power = /^(?:Maximum TX power: )?(-?\d+(?:\.\d+)?) dBm$/.exec(detail);
	if (power !== null) channel.maxEirpMbm = Math.round(Number(power[1]) * 100);
	const cac = /^DFS CAC time: (\d+) ms$/.exec(detail);
	if (cac !== null) channel.cacMs = Number(cac[1]);
	const widths = /^Channel widths:(.*)$/.exec(detail);
	if (widths === null) return;
	channel.widths = widths[1]!
		.trim()
		.split(" ")
		.filter((name) => name !== "");
	const missing = widthNames.filter(([name]) => !channel.widths.includes(name));
	const shown = channel.band === undefined ? 0 : shownWidths[channel.band];
	for (const [name, width] of missing) {
		if (widthNames.findIndex(([known]) => known === name) < shown) channel.flags |= width;
	}
}
