import { type ChannelDefinition, type ChannelWidth, standardDefinitions } from "../channel/definition.ts";
import { definitionsOfOperatingClass, operatingClasses } from "../element/operating-class.ts";
import { RegdomainError } from "../errors.ts";
import { type Band, channelToKHz } from "../model/bands.ts";
import type { Database } from "../model/domain.ts";
import { type ConfigFinding, checkAccessPoint, checkCountry, finding, type Located } from "./finding.ts";

type Options = ReadonlyMap<string, Located>;

function parse(text: string): Options {
	const options = new Map<string, Located>();
	for (const [index, raw] of text.split(/\r?\n/).entries()) {
		const line = raw.trim();
		if (line === "" || line.startsWith("#")) continue;
		const at = line.indexOf("=");
		if (at <= 0)
			throw new RegdomainError("CONFIG_SYNTAX", `line ${index + 1}: expected NAME=VALUE`, line, { line: index + 1 });
		options.set(line.slice(0, at).trim(), { value: line.slice(at + 1).trim(), line: index + 1 });
	}
	return options;
}

const isOn = (options: Options, name: string): boolean => options.get(name)?.value === "1";

function bandOf(options: Options, operatingClass: number | undefined): Band {
	const band = operatingClasses.find((entry) => entry.operatingClass === operatingClass)?.band;
	if (band !== undefined) return band;
	const mode = options.get("hw_mode")?.value;
	if (mode === "a") return "5";
	return mode === "ad" ? "60" : "2.4";
}

/** Width and centre as the newest of EHT, HE and VHT options gives them; hostapd codes 0 = 20/40, 1 = 80, 2 = 160, 3 = 80+80. */
function wideOptions(
	options: Options,
): { width: ChannelWidth; centre: Located | undefined; second: Located | undefined } | undefined {
	const widths: Partial<Record<string, ChannelWidth>> = { 1: 80, 2: 160, 3: "80+80", 9: 320 };
	for (const [on, name] of [
		["ieee80211be", "eht"],
		["ieee80211ax", "he"],
		["ieee80211ac", "vht"],
	] as const) {
		const width = widths[options.get(`${name}_oper_chwidth`)?.value ?? ""];
		if (!isOn(options, on) || width === undefined) continue;
		const centre = options.get(`${name}_oper_centr_freq_seg0_idx`);
		return { width, centre, second: options.get(`${name}_oper_centr_freq_seg1_idx`) };
	}
	return undefined;
}

function definitionOf(
	options: Options,
	band: Band,
	channel: number,
	operatingClass: number | undefined,
): ChannelDefinition | undefined {
	const primaryKHz = channelToKHz(band, channel);
	const wide = wideOptions(options);
	if (wide !== undefined) {
		const standard = wide.width === "80+80" ? undefined : standardDefinitions(band, channel, wide.width as number)[0];
		const index = Number(wide.centre?.value ?? 0);
		if (index === 0) return standard;
		const definition: ChannelDefinition = { primaryKHz, width: wide.width, centreKHz: channelToKHz(band, index) };
		if (wide.width !== "80+80") return definition;
		return { ...definition, centre2KHz: channelToKHz(band, Number(wide.second?.value ?? 0)) };
	}
	const fromClass = definitionsOfOperatingClass(operatingClass ?? 0).find(
		(definition) => definition.primaryKHz === primaryKHz,
	);
	if (fromClass !== undefined && band === "6") return fromClass;
	const capabilities = isOn(options, "ieee80211n") ? (options.get("ht_capab")?.value ?? "") : "";
	if (capabilities.includes("[HT40+]")) return { primaryKHz, width: 40, centreKHz: primaryKHz + 10_000 };
	if (capabilities.includes("[HT40-]")) return { primaryKHz, width: 40, centreKHz: primaryKHz - 10_000 };
	return { primaryKHz, width: isOn(options, "ieee80211n") && channel !== 14 ? 20 : "20-noht", centreKHz: primaryKHz };
}

/**
 * Checks a hostapd.conf against a database: the country, the channel with its width and centre, and the options that go
 * with them (ieee80211d, ieee80211h, country3, op_class, ht_capab, vht/he/eht_oper_chwidth and their centres).
 *
 * @returns findings by line; empty when the access point will start and be legal
 * @throws RegdomainError `CONFIG_SYNTAX` for a line that is not NAME=VALUE
 */
export function checkHostapd(text: string, database: Database): ConfigFinding[] {
	const options = parse(text);
	const { alpha2, findings } = checkCountry(database, "country_code", options.get("country_code"));
	const classOption = options.get("op_class");
	const operatingClass = classOption === undefined ? undefined : Number(classOption.value);
	const band = bandOf(options, operatingClass);
	const channelOption = options.get("channel");
	const add = (severity: ConfigFinding["severity"], field: string, message: string, at?: Located): void => {
		findings.push(finding(severity, field, message, at));
	};

	if (isOn(options, "ieee80211d") && options.get("country_code") === undefined) {
		add("error", "ieee80211d", "ieee80211d=1 needs country_code; hostapd does not start", options.get("ieee80211d"));
	}
	if (options.has("country_code") && !isOn(options, "ieee80211d")) {
		add("note", "ieee80211d", "without ieee80211d=1 no country element is sent, so stations do not learn the country");
	}
	if (
		band === "6" &&
		operatingClass !== undefined &&
		options.get("country3") !== undefined &&
		options.get("country3")!.value !== "0x04"
	) {
		add("warning", "country3", "6 GHz needs country3=0x04 (global operating classes)", options.get("country3"));
	}
	if (channelOption === undefined || ["0", "acs_survey"].includes(channelOption.value)) {
		add("note", "channel", "the channel is chosen automatically; only the country was checked", channelOption);
		return sorted(findings);
	}
	const channel = Number(channelOption.value);
	try {
		const definition = definitionOf(options, band, channel, operatingClass);
		if (definition === undefined) {
			add(
				"error",
				"channel",
				`channel ${channelOption.value} cannot be the primary of a channel that wide`,
				channelOption,
			);
			return sorted(findings);
		}
		const about = checkAccessPoint(database, alpha2, definition, "channel", channelOption);
		findings.push(...about);
		const needsRadar = about.some(({ severity, message }) => severity === "note" && message.includes("radar"));
		if (needsRadar && !(isOn(options, "ieee80211h") && isOn(options, "ieee80211d"))) {
			add("error", "ieee80211h", "a radar channel needs ieee80211d=1 and ieee80211h=1", options.get("ieee80211h"));
		}
	} catch (error) {
		if (!(error instanceof RegdomainError)) throw error;
		add("error", "channel", error.message, channelOption);
	}
	return sorted(findings);
}

const sorted = (findings: ConfigFinding[]): ConfigFinding[] =>
	findings.sort((one, two) => (one.line ?? 0) - (two.line ?? 0));
