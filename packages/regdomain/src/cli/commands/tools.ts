import { type ConfigFinding, checkHostapd, checkNetworkManager, checkUci } from "../../config/index.ts";
import { bundledDatabase } from "../../data/index.ts";
import {
	buildCountryElement,
	parseCountryElement,
	renderCountryElement,
	writeCountryElement,
} from "../../element/country.ts";
import { channelJson } from "../../export/tables.ts";
import { compareStates } from "../../hints/compare.ts";
import { createRegulatoryCore, type RegulatoryCore } from "../../hints/engine.ts";
import type { TraceEntry } from "../../hints/events.ts";
import { parseScenario } from "../../hints/scenario.ts";
import { type ChannelState, isEnabled } from "../../hints/state.ts";
import { bands } from "../../model/bands.ts";
import { domainOf } from "../../model/domain.ts";
import { ChannelFlag } from "../../model/flags.ts";
import { evaluateDomain } from "../../rules/evaluate.ts";
import { parseIwChannels } from "../../text/iw-channels.ts";
import { parseIwRegGet } from "../../text/iw-reg.ts";
import {
	type Command,
	dbOption,
	decodeText,
	domainJson,
	loadDatabase,
	positionals,
	printJson,
	readDatabase,
	ruleJson,
	textOption,
} from "../command.ts";
import { Exit, UsageError } from "../io.ts";

const stateJson = (channel: ChannelState): object => {
	const enabled = isEnabled(channel);
	return channelJson({
		...channel,
		enabled,
		maxEirpMbm: enabled ? channel.powerDbm * 100 : 0,
		cacMs: enabled && (channel.flags & ChannelFlag.RADAR) !== 0 ? channel.cacMs : 0,
	});
};

function snapshot(core: RegulatoryCore): object {
	const radios = core.state.radios.map(({ name, domain, channels }) => [
		name,
		{
			...(domain === undefined
				? {}
				: { alpha2: domain.alpha2, dfsRegion: domain.dfsRegion, rules: domain.rules.map(ruleJson) }),
			channels: channels.map(stateJson),
		},
	]);
	return { atMs: core.state.nowMs, global: domainJson(core.state.global), radios: Object.fromEntries(radios) };
}

const traceText = ({ atMs, what, subject, why }: TraceEntry): string => `${atMs} ms  ${what}: ${subject} (${why})\n`;

/** Where the kernel's answer parts from what its code meant. */
function quirkLines(core: RegulatoryCore, meant: RegulatoryCore | undefined): string[] {
	if (meant === undefined) return [];
	const differences = compareStates(core.state, meant.state);
	const shown = differences
		.slice(0, 5)
		.map(({ radio, text }) => `   kernel quirk: ${radio === undefined ? "" : `${radio}: `}${text}\n`);
	return differences.length > 5 ? [...shown, `   kernel quirk: and ${differences.length - 5} more\n`] : shown;
}

export const simulate: Command = {
	name: "simulate",
	usage: "SCENARIO.json [--explain]",
	summary: "hints from users, drivers, access points and beacons, in virtual time",
	options: {
		...dbOption,
		explain: {
			type: "boolean",
			help: "say why every request was taken, ignored or intersected, and where a kernel bug shows",
		},
	},
	async run(context) {
		const [path] = positionals(context, "SCENARIO.json");
		const scenario = parseScenario(JSON.parse(decodeText(await context.io.read(path!))));
		const { db, steps, ...options } = scenario;
		const file = textOption(context, "db") ?? (db === undefined ? undefined : context.io.resolve(db, path!));
		const database = file === undefined ? bundledDatabase() : readDatabase(await context.io.read(file));
		const core = createRegulatoryCore({ ...options, database });
		const explains = context.args.values["explain"] === true;
		const meant = explains ? createRegulatoryCore({ ...options, database, quirks: "none" }) : undefined;
		const initial = snapshot(core);
		const results: object[] = [];
		for (const [index, step] of steps.entries()) {
			const trace = core.apply(step);
			meant?.apply(step);
			results.push({ ...snapshot(core), trace });
			if (context.json) continue;
			const { kind, ...rest } = step;
			context.io.stdout(context.io.style("bold", `${index + 1}. ${kind} ${JSON.stringify(rest)}\n`));
			for (const entry of explains ? trace : []) context.io.stdout(`   ${traceText(entry)}`);
			for (const line of quirkLines(core, meant)) context.io.stdout(line);
			const own = core.state.radios.map(({ name, domain }) => `, ${name} ${domain?.alpha2 ?? "follows it"}`).join("");
			context.io.stdout(`   global ${core.state.global.alpha2}${own}\n`);
		}
		if (context.json) printJson(context, { initial, steps: results });
		return Exit.OK;
	},
};

export const element: Command = {
	name: "element",
	usage: "CC --band 2.4|5|6 | --parse HEX",
	summary: "the Country element an access point sends, built or read",
	options: {
		...dbOption,
		band: { type: "string", value: "BAND", help: "2.4, 5 or 6" },
		parse: { type: "string", value: "HEX", help: "read this element instead" },
	},
	async run(context) {
		const hex = textOption(context, "parse");
		let bytes: Uint8Array;
		if (hex === undefined) {
			const [code] = positionals(context, "CC");
			const name = textOption(context, "band") ?? "2.4";
			const band = bands.find((known) => known === name);
			if (band === undefined) throw new UsageError(`--band must be one of ${bands.join(", ")}`);
			const domain = domainOf(await loadDatabase(context), code!.toUpperCase());
			bytes = writeCountryElement(buildCountryElement(domain, band, evaluateDomain(domain)));
		} else {
			if (!/^([0-9a-f]{2}[\s:]*)+$/i.test(hex)) throw new UsageError("--parse needs pairs of hexadecimal digits");
			bytes = Uint8Array.from(hex.replaceAll(/[\s:]/g, "").match(/../g)!, (pair) => Number.parseInt(pair, 16));
		}
		const parsed = parseCountryElement(bytes);
		const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
		if (context.json) printJson(context, { hex: text, ...parsed });
		else context.io.stdout(`${text}\n${renderCountryElement(parsed)}`);
		return Exit.OK;
	},
};

export const check: Command = {
	name: "check",
	usage: "hostapd|uci|nm FILE [--country CC] [--db FILE]",
	summary: "a hostapd, OpenWrt or NetworkManager configuration: country, channel, width, radar options",
	options: { ...dbOption, country: { type: "string", value: "CC", help: "where a NetworkManager device is" } },
	async run(context) {
		const [kind, path] = positionals(context, "hostapd|uci|nm", "FILE");
		const database = await loadDatabase(context);
		const text = decodeText(await context.io.read(path!));
		let findings: ConfigFinding[];
		if (kind === "hostapd") findings = checkHostapd(text, database);
		else if (kind === "uci") findings = checkUci(text, database);
		else if (kind === "nm") findings = checkNetworkManager(text, database, textOption(context, "country"));
		else throw new UsageError("the first argument must be hostapd, uci or nm");
		const colours = { error: "red", warning: "yellow", note: "dim" } as const;
		if (context.json) printJson(context, { findings });
		else {
			for (const { line, severity, field, message } of findings) {
				context.io.stdout(
					`${path}${line === undefined ? "" : `:${line}`}: ${context.io.style(colours[severity], severity)}: ${field}: ${message}\n`,
				);
			}
		}
		return findings.some(({ severity }) => severity === "error") ? Exit.FAILED : Exit.OK;
	},
};

export const iw: Command = {
	name: "iw",
	usage: "FILE",
	summary: "read the output of `iw reg get` or `iw phy … channels` (- for standard input)",
	options: {},
	async run(context) {
		const [path] = positionals(context, "FILE");
		const text = decodeText(await context.io.read(path!));
		if (/^country \S\S:/m.test(text)) {
			const domains = parseIwRegGet(text).map(({ domain, ...owner }) => ({ ...owner, ...domainJson(domain) }));
			if (context.json) printJson(context, { domains });
			else
				for (const { owner, alpha2, rules } of domains)
					context.io.stdout(`${owner}: ${alpha2}, ${rules.length} rules\n`);
		} else {
			const channels = parseIwChannels(text);
			if (context.json) printJson(context, { channels });
			else
				for (const { channel, centreMHz, enabled } of channels)
					context.io.stdout(`${channel} ${centreMHz} ${enabled ? "enabled" : "disabled"}\n`);
		}
		return Exit.OK;
	},
};
