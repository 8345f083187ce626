import { createChannelDefinition } from "../../channel/definition.ts";
import { renderChart } from "../../export/chart.ts";
import { regulatoryDbKsy } from "../../export/kaitai.ts";
import { databaseJson, databaseToC, domainToC } from "../../export/tables.ts";
import { alpha2Kind, country as isoCountry } from "../../iso3166/index.ts";
import { legacyDomain, renderLegacyDomain } from "../../legacy/domain.ts";
import { countriesOfLegacyId, legacyId, legacyIdsOfCountry } from "../../legacy/ids.ts";
import { bands } from "../../model/bands.ts";
import { Dfs, domainOf } from "../../model/domain.ts";
import { explainChannel, renderExplanation } from "../../rules/explain.ts";
import { intersectAll, intersectDomains, intersectDomainsCrda } from "../../rules/intersect.ts";
import { findCommonChannels } from "../../rules/search.ts";
import { renderIwRegGet } from "../../text/iw-reg.ts";
import {
	type Command,
	dbOption,
	domainJson,
	emit,
	loadDatabase,
	numberOption,
	outputOption,
	positionals,
	printJson,
	table,
	textOption,
} from "../command.ts";
import { Exit, UsageError } from "../io.ts";

export const show: Command = {
	name: "show",
	usage: "CC [--db FILE]",
	summary: "a country's rules, as `iw reg get` prints them",
	options: dbOption,
	async run(context) {
		const [code] = positionals(context, "CC");
		const domain = domainOf(await loadDatabase(context), code!.toUpperCase());
		if (context.json) printJson(context, domainJson(domain));
		else context.io.stdout(renderIwRegGet([{ owner: "global", domain }]));
		return Exit.OK;
	},
};

export const list: Command = {
	name: "list",
	usage: "[--db FILE]",
	summary: "the countries of a database",
	options: dbOption,
	async run(context) {
		positionals(context);
		const { version, domains } = await loadDatabase(context);
		const codes = [...domains.keys()];
		if (context.json) printJson(context, { ...(version === undefined ? {} : { version }), countries: codes });
		else context.io.stdout(codes.map((code) => `${code}\n`).join(""));
		return Exit.OK;
	},
};

export const intersect: Command = {
	name: "intersect",
	usage: "CC CC… | --all [--db FILE] [--crda]",
	summary: "what several countries all allow, as the kernel intersects domains",
	options: {
		...dbOption,
		all: { type: "boolean", help: "every country of the database, without the world domain" },
		crda: { type: "boolean", help: "as crda computed it" },
	},
	async run(context) {
		const database = await loadDatabase(context);
		const all = context.args.values["all"] === true;
		const codes = all ? [...database.domains.keys()].filter((code) => code !== "00") : context.args.positionals;
		if (codes.length < 2 || (all && context.args.positionals.length > 0))
			throw new UsageError("give two countries or more, or --all");
		const domains = codes.map((code) => domainOf(database, code.toUpperCase()));
		const result = intersectAll(
			domains,
			context.args.values["crda"] === true ? intersectDomainsCrda : intersectDomains,
		);
		const domain = result ?? { alpha2: "98", dfsRegion: Dfs.UNSET, rules: [] };
		if (context.json) printJson(context, domainJson(domain));
		else context.io.stdout(renderIwRegGet([{ owner: "global", domain }]));
		if (result === undefined) context.io.stderr("regdomain: these countries have no rule in common\n");
		return result === undefined ? Exit.FAILED : Exit.OK;
	},
};

export const common: Command = {
	name: "common",
	usage: "CC… [--band BAND] [--width MHZ] [--station] [--no-dfs] [--outdoors] [--db FILE]",
	summary: "channels that are legal in all of several countries",
	options: {
		...dbOption,
		band: { type: "string", value: "BAND", help: "2.4, 5, 6 or s1g only" },
		width: { type: "string", value: "MHZ", help: "width (default 20)" },
		station: { type: "boolean", help: "to join a network, not to start one" },
		"no-dfs": { type: "boolean", help: "without radar detection" },
		outdoors: { type: "boolean", help: "not indoors only" },
	},
	async run(context) {
		const codes = context.args.positionals;
		if (codes.length === 0) throw new UsageError("give one country or more");
		const database = await loadDatabase(context);
		const name = textOption(context, "band");
		const band = bands.find((known) => known === name);
		if (name !== undefined && band === undefined) throw new UsageError(`--band must be one of ${bands.join(", ")}`);
		const width = numberOption(context, "width");
		const found = findCommonChannels(
			codes.map((code) => domainOf(database, code.toUpperCase())),
			{
				...(band === undefined ? {} : { band }),
				...(width === undefined ? {} : { widthMHz: width }),
				use: context.args.values["station"] === true ? "station" : "ap",
				withoutDfs: context.args.values["no-dfs"] === true,
				outdoors: context.args.values["outdoors"] === true,
			},
		);
		if (context.json) {
			printJson(context, {
				countries: codes,
				channels: found.map(({ definition, ...rest }) => ({
					...rest,
					centreMHz: definition.centreKHz / 1000,
					primaryMHz: definition.primaryKHz / 1000,
				})),
			});
		} else {
			const rows = found.map((one) => [
				one.band,
				String(one.channel),
				String(one.definition.centreKHz / 1000),
				`${one.maxEirpMbm / 100} dBm`,
				one.cacMs === 0 ? "" : `${one.cacMs / 1000} s`,
				one.indoorOnly ? "indoor" : "",
			]);
			context.io.stdout(table([["band", "channel", "centre", "power", "CAC", ""], ...rows]));
		}
		return found.length > 0 ? Exit.OK : Exit.FAILED;
	},
};

export const explain: Command = {
	name: "explain",
	usage: "CC --freq MHZ [--width MHZ] [--centre MHZ] [--db FILE]",
	summary: "why a channel may or may not be used, and what an access point must do first",
	options: {
		...dbOption,
		freq: { type: "string", value: "MHZ", help: "centre of the primary channel" },
		width: { type: "string", value: "MHZ", help: "width (default 20)" },
		centre: { type: "string", value: "MHZ", help: "centre of the whole channel, where there is a choice" },
	},
	async run(context) {
		const [code] = positionals(context, "CC");
		const freq = numberOption(context, "freq");
		if (freq === undefined) throw new UsageError("--freq MHZ is needed");
		const domain = domainOf(await loadDatabase(context), code!.toUpperCase());
		const definition = createChannelDefinition(
			freq,
			numberOption(context, "width") ?? 20,
			numberOption(context, "centre"),
		);
		const explanation = explainChannel(domain, definition);
		if (context.json) printJson(context, { alpha2: domain.alpha2, ...explanation });
		else context.io.stdout(renderExplanation(explanation));
		return Exit.OK;
	},
};

export const country: Command = {
	name: "country",
	usage: "CODE",
	summary: "an entry of ISO 3166-1 by alpha-2, alpha-3, numeric code or name",
	options: {},
	async run(context) {
		const code = context.args.positionals.join(" ");
		if (code === "") throw new UsageError("give a code or a name");
		const entry = isoCountry(code);
		const domain = (await loadDatabase(context)).domains.get(entry.alpha2);
		const digits = entry.numeric === undefined ? undefined : String(entry.numeric).padStart(3, "0");
		if (context.json) {
			printJson(context, {
				...entry,
				...(digits === undefined ? {} : { numericCode: digits }),
				kind: alpha2Kind(entry.alpha2),
				inDatabase: domain !== undefined,
				legacyIds: legacyIdsOfCountry(entry.alpha2).map(({ id, name }) => ({ id, name })),
			});
			return Exit.OK;
		}
		const withdrawn =
			entry.withdrawn === undefined
				? ""
				: ` (withdrawn ${entry.withdrawn.year}, now ${entry.withdrawn.replacedBy.join(", ")})`;
		context.io.stdout(`${entry.alpha2} ${entry.alpha3} ${digits ?? "---"} ${entry.name}${withdrawn}\n`);
		if (domain === undefined) context.io.stderr(`regdomain: the database has no rules for ${entry.alpha2}\n`);
		return Exit.OK;
	},
};

export const legacy: Command = {
	name: "legacy",
	usage: "ID|NAME|CC",
	summary: "the legacy regulatory domain of an EEPROM code (0x10), a name (FCC1_FCCA) or a country",
	options: {},
	async run(context) {
		const [what] = positionals(context, "ID|NAME|CC");
		const ids =
			legacyId(what!) === undefined && /^[A-Za-z]{2}$/.test(what!)
				? legacyIdsOfCountry(what!.toUpperCase())
				: [legacyDomain(what!)];
		const domains = ids.map(({ id }) => legacyDomain(id));
		if (context.json)
			printJson(context, {
				domains: domains.map((domain) => ({ ...domain, countries: countriesOfLegacyId(domain.id) })),
			});
		else context.io.stdout(domains.map(renderLegacyDomain).join("\n"));
		return Exit.OK;
	},
};

export const chart: Command = {
	name: "chart",
	usage: "CC -o FILE.svg [--db FILE]",
	summary: "a spectrum chart: rules, power, channels of every width, radar and indoor marks",
	options: { ...dbOption, ...outputOption },
	async run(context) {
		const [code] = positionals(context, "CC");
		const database = await loadDatabase(context);
		const domain = domainOf(database, code!.toUpperCase());
		const version = database.version === undefined ? "" : ` (wireless-regdb ${database.version})`;
		const svg = renderChart(domain, { title: `Regulatory domain ${domain.alpha2}${version}` });
		const path = textOption(context, "output");
		if (context.json && path === undefined) throw new UsageError("chart --json needs -o FILE.svg");
		await emit(context, svg);
		if (context.json) printJson(context, { alpha2: domain.alpha2, file: path, bytes: svg.length });
		return Exit.OK;
	},
};

export const exportCommand: Command = {
	name: "export",
	usage: "[CC] [--format json|c|ksy] [-o FILE] [--db FILE]",
	summary: "a country or the whole database as JSON or C, or the file layout for Kaitai Struct",
	options: {
		...dbOption,
		...outputOption,
		format: { type: "string", value: "FORMAT", help: "json (default), c or ksy" },
	},
	async run(context) {
		const [code, ...more] = context.args.positionals;
		if (more.length > 0) throw new UsageError("give one country, or none for all");
		const format = textOption(context, "format") ?? "json";
		const database = await loadDatabase(context);
		const domain = code === undefined ? undefined : domainOf(database, code.toUpperCase());
		if (format === "json")
			await emit(context, `${JSON.stringify({ schemaVersion: 1, ...(domain ?? databaseJson(database)) })}\n`);
		else if (format === "c") await emit(context, domain === undefined ? databaseToC(database) : domainToC(domain));
		else if (format === "ksy") await emit(context, regulatoryDbKsy);
		else throw new UsageError("--format must be json, c or ksy");
		return Exit.OK;
	},
};
