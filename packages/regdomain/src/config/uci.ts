import { type ChannelDefinition, standardDefinitions } from "../channel/definition.ts";
import { RegdomainError } from "../errors.ts";
import { type Band, channelToKHz } from "../model/bands.ts";
import type { Database } from "../model/domain.ts";
import { type ConfigFinding, checkAccessPoint, checkCountry, finding, type Located } from "./finding.ts";

interface Section {
	type: string;
	name: string;
	line: number;
	options: Map<string, Located>;
}

const unquote = (text: string): string => /^(['"])(.*)\1$/.exec(text)?.[2] ?? text;

function parse(text: string): Section[] {
	const sections: Section[] = [];
	for (const [index, raw] of text.split(/\r?\n/).entries()) {
		const line = index + 1;
		const words =
			raw
				.replace(/^\s*#.*$/, "")
				.match(/'[^']*'|"[^"]*"|[^\s'"]+/g)
				?.map(unquote) ?? [];
		const [keyword, first, second] = words;
		if (keyword === undefined) continue;
		if (keyword === "config" && first !== undefined) {
			sections.push({ type: first, name: second ?? `@${first}[${sections.length}]`, line, options: new Map() });
		} else if ((keyword === "option" || keyword === "list") && second !== undefined && sections.length > 0) {
			sections.at(-1)!.options.set(first!, { value: second, line });
		} else {
			throw new RegdomainError(
				"CONFIG_SYNTAX",
				`line ${line}: expected config TYPE [NAME], option NAME VALUE or list NAME VALUE`,
				raw,
				{ line },
			);
		}
	}
	return sections;
}

const bandNames: Readonly<Record<string, Band>> = { "2g": "2.4", "5g": "5", "6g": "6", "60g": "60", s1g: "s1g" };

function bandOf(options: ReadonlyMap<string, Located>, channel: number): Band {
	const named = bandNames[options.get("band")?.value ?? ""];
	if (named !== undefined) return named;
	const mode = options.get("hwmode")?.value;
	if (mode === "11a") return "5";
	return mode === undefined && channel > 14 ? "5" : "2.4";
}

function definitionOf(band: Band, channel: number, mode: string): ChannelDefinition | undefined {
	const primaryKHz = channelToKHz(band, channel);
	const parts = /^(HT|VHT|HE|EHT)(20|40|80|160|320)([+-]?)$/.exec(mode);
	if (parts === null) return { primaryKHz, width: "20-noht", centreKHz: primaryKHz };
	const width = Number(parts[2]);
	const choices = standardDefinitions(band, channel, width);
	if (parts[3] === "") return choices[0];
	return choices.find(({ centreKHz }) => centreKHz > primaryKHz === (parts[3] === "+"));
}

/**
 * Checks an OpenWrt /etc/config/wireless against a database: every wifi-device with an access point on it.
 *
 * @throws RegdomainError `CONFIG_SYNTAX`
 */
export function checkUci(text: string, database: Database): ConfigFinding[] {
	const sections = parse(text);
	const findings: ConfigFinding[] = [];
	const countries = new Map<string, string[]>();
	for (const { type, name, options } of sections) {
		if (type !== "wifi-device" || options.get("disabled")?.value === "1") continue;
		const own = checkCountry(database, `${name}.country`, options.get("country"));
		findings.push(...own.findings);
		countries.set(own.alpha2, [...(countries.get(own.alpha2) ?? []), name]);
		const channelOption = options.get("channel");
		const mode = options.get("htmode");
		if (channelOption === undefined || channelOption.value === "auto") {
			findings.push(
				finding(
					"note",
					`${name}.channel`,
					"the channel is chosen automatically; only the country was checked",
					channelOption,
				),
			);
			continue;
		}
		const channel = Number(channelOption.value);
		try {
			const definition = definitionOf(bandOf(options, channel), channel, mode?.value ?? "HT20");
			const narrow = `channel ${channelOption.value} cannot be the primary of ${mode?.value ?? "HT20"}`;
			if (definition === undefined) findings.push(finding("error", `${name}.htmode`, narrow, mode));
			else findings.push(...checkAccessPoint(database, own.alpha2, definition, `${name}.channel`, channelOption));
		} catch (error) {
			if (!(error instanceof RegdomainError)) throw error;
			findings.push(finding("error", `${name}.channel`, error.message, channelOption));
		}
	}
	if (countries.size > 1) {
		const list = [...countries].map(([alpha2, names]) => `${names.join(", ")}: ${alpha2}`).join("; ");
		findings.push(
			finding(
				"warning",
				"country",
				`the radios name different countries (${list}); the kernel has one domain for all that follow it`,
			),
		);
	}
	return findings.sort((one, two) => (one.line ?? 0) - (two.line ?? 0));
}
