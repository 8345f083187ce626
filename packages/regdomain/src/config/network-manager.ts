import { type ChannelDefinition, standardDefinitions } from "../channel/definition.ts";
import { RegdomainError } from "../errors.ts";
import type { Band } from "../model/bands.ts";
import type { Database } from "../model/domain.ts";
import { type ConfigFinding, checkAccessPoint, checkCountry, finding, type Located } from "./finding.ts";

function parse(text: string): Map<string, Map<string, Located>> {
	const groups = new Map<string, Map<string, Located>>();
	let group: Map<string, Located> | undefined;
	for (const [index, raw] of text.split(/\r?\n/).entries()) {
		const line = raw.trim();
		if (line === "" || line.startsWith("#") || line.startsWith(";")) continue;
		const heading = /^\[([^\]]+)\]$/.exec(line);
		const at = line.indexOf("=");
		if (heading !== null) {
			group = groups.get(heading[1]!) ?? new Map();
			groups.set(heading[1]!, group);
		} else if (at > 0 && group !== undefined) {
			group.set(line.slice(0, at).trim(), { value: line.slice(at + 1).trim(), line: index + 1 });
		} else {
			throw new RegdomainError("CONFIG_SYNTAX", `line ${index + 1}: expected [GROUP] or KEY=VALUE`, raw, {
				line: index + 1,
			});
		}
	}
	return groups;
}

const bandNames: Readonly<Record<string, Band>> = { bg: "2.4", a: "5", "6GHz": "6" };

/**
 * Checks a NetworkManager connection (keyfile) against a database: the band, channel and width of a hotspot (`mode=ap`), or
 * the channel a client is bound to. NetworkManager keeps no country; give the one that `iw reg get` names.
 *
 * @param alpha2 - country the device is in; absent: the world domain
 * @throws RegdomainError `CONFIG_SYNTAX`
 */
export function checkNetworkManager(text: string, database: Database, alpha2?: string): ConfigFinding[] {
	const groups = parse(text);
	const wifi = groups.get("wifi") ?? groups.get("802-11-wireless");
	if (wifi === undefined) return [finding("note", "wifi", "the connection has no [wifi] group: nothing to check")];
	const country = checkCountry(database, "country", alpha2 === undefined ? undefined : { value: alpha2, line: 0 });
	const findings = country.findings.map(({ field, severity, message }) => ({ field, severity, message }));
	const bandOption = wifi.get("band");
	const channelOption = wifi.get("channel");
	const band = bandOption === undefined ? undefined : bandNames[bandOption.value];
	if (bandOption !== undefined && band === undefined) {
		return [...findings, finding("error", "wifi.band", "band must be bg, a or 6GHz", bandOption)];
	}
	if (channelOption === undefined || channelOption.value === "0") {
		return [
			...findings,
			finding("note", "wifi.channel", "the channel is chosen automatically; only the country was checked"),
		];
	}
	if (band === undefined)
		return [...findings, finding("error", "wifi.channel", "a channel needs a band (bg, a or 6GHz)", channelOption)];
	const width = Number(wifi.get("channel-width")?.value ?? 20) || 20;
	try {
		const channel = Number(channelOption.value);
		const definition: ChannelDefinition | undefined = standardDefinitions(band, channel, width)[0];
		if (definition === undefined) {
			return [
				...findings,
				finding(
					"error",
					"wifi.channel-width",
					`channel ${channel} has no ${width} MHz channel`,
					wifi.get("channel-width"),
				),
			];
		}
		const about = checkAccessPoint(database, country.alpha2, definition, "wifi.channel", channelOption);
		if (wifi.get("mode")?.value === "ap") return [...findings, ...about];
		const disabled = about.filter(({ message }) => message.includes("cannot be used"));
		return [...findings, ...disabled];
	} catch (error) {
		if (!(error instanceof RegdomainError)) throw error;
		return [...findings, finding("error", "wifi.channel", error.message, channelOption)];
	}
}
