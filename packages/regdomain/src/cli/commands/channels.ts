import { dmgChannels, hwsimChannels } from "../../channel/plan.ts";
import { channelJson, channelsToCsv, channelsToMarkdown } from "../../export/tables.ts";
import { type Band, bands } from "../../model/bands.ts";
import { type Domain, domainOf, parseDomain } from "../../model/domain.ts";
import { type ChannelDecision, evaluateDomain } from "../../rules/evaluate.ts";
import { explainChannel } from "../../rules/explain.ts";
import {
	type Command,
	type Context,
	dbOption,
	decodeText,
	loadDatabase,
	positionals,
	printJson,
	table,
	textOption,
} from "../command.ts";
import { Exit, UsageError } from "../io.ts";

async function domainFor(context: Context): Promise<Domain> {
	const [code] = positionals(context, "CC");
	const rules = textOption(context, "rules");
	if (rules === undefined) return domainOf(await loadDatabase(context), code!.toUpperCase());
	if (textOption(context, "db") !== undefined) throw new UsageError("--db and --rules exclude each other");
	const json: unknown = JSON.parse(decodeText(await context.io.read(rules)));
	const domain = parseDomain(
		typeof json === "object" && json !== null && !Array.isArray(json) ? { alpha2: code, ...json } : json,
	);
	return { ...domain, alpha2: code!.toUpperCase() };
}

function bandOption(context: Context): Band | undefined {
	const name = textOption(context, "band");
	if (name === undefined) return undefined;
	const band = bands.find((known) => known === name);
	if (band === undefined) throw new UsageError(`--band must be one of ${bands.join(", ")}`);
	return band;
}

function listing(decisions: readonly ChannelDecision[], context: Context): string {
	const rows = decisions.map((decision) => {
		const { band, channel, centreMHz, enabled, maxEirpMbm, cacMs, flags, widthsMHz } = channelJson(decision);
		const power = enabled ? `${maxEirpMbm / 100} dBm` : "disabled";
		return [
			band,
			String(channel),
			String(centreMHz),
			power,
			cacMs === 0 ? "" : `${cacMs / 1000} s`,
			widthsMHz.join("/"),
			enabled ? flags.join(" ") : "",
		];
	});
	const heading = ["band", "channel", "MHz", "power", "CAC", "widths", "flags"];
	const [first, ...rest] = table([heading, ...rows]).split("\n");
	return [context.io.style("bold", first!), ...rest].join("\n");
}

export const channels: Command = {
	name: "channels",
	usage: "CC [--db FILE | --rules FILE] [--band BAND]",
	summary: "what a country allows on every channel of mac80211_hwsim",
	options: {
		...dbOption,
		rules: { type: "string", value: "FILE", help: "JSON {alpha2, dfsRegion, rules} to use instead of a database" },
		band: { type: "string", value: "BAND", help: "2.4, 5, 6, 60 or s1g only" },
		quirks: {
			type: "string",
			value: "WHICH",
			help: "linux-7.2 (default) or none: the kernel's bugs or what was meant",
		},
		format: { type: "string", value: "FORMAT", help: "text (default), csv or markdown" },
		explain: { type: "boolean", help: "say why, for every channel" },
	},
	async run(context) {
		const band = bandOption(context);
		const quirks = textOption(context, "quirks") ?? "linux-7.2";
		if (quirks !== "linux-7.2" && quirks !== "none") throw new UsageError("--quirks must be linux-7.2 or none");
		const domain = await domainFor(context);
		const specs = band === "60" ? dmgChannels : hwsimChannels;
		const all = evaluateDomain(domain, { channels: specs, quirks });
		const decisions = band === undefined ? all : all.filter((decision) => decision.band === band);
		const format = textOption(context, "format") ?? "text";
		if (context.json) {
			printJson(context, { alpha2: domain.alpha2, dfsRegion: domain.dfsRegion, channels: decisions.map(channelJson) });
		} else if (context.args.values["explain"] === true) {
			for (const { channel, centreKHz } of decisions) {
				const width = { primaryKHz: centreKHz, width: "20-noht" as const, centreKHz };
				const [own] = explainChannel(domain, width, {}, { channels: specs, quirks }).subChannels;
				context.io.stdout(`${centreKHz / 1000} MHz [${channel}]: ${own!.reasons.join("; ")}\n`);
			}
		} else if (format === "csv" || format === "markdown") {
			context.io.stdout(format === "csv" ? channelsToCsv(decisions) : channelsToMarkdown(decisions));
		} else if (format === "text") {
			context.io.stdout(listing(decisions, context));
		} else {
			throw new UsageError("--format must be text, csv or markdown");
		}
		return Exit.OK;
	},
};
