import { databaseModule } from "../../data/generate.ts";
import { dbTxtToRegulatoryBin, dbTxtToRegulatoryDb } from "../../dbtxt/compile.ts";
import { formatDbTxt } from "../../dbtxt/format.ts";
import { dbTxtStatistics, lintDbTxt } from "../../dbtxt/lint.ts";
import { parseDbTxt } from "../../dbtxt/parse.ts";
import { decompileRegulatoryDb, writeDbTxt } from "../../dbtxt/write.ts";
import { diffDatabases } from "../../formats/diff.ts";
import { readRegulatoryBin } from "../../formats/regulatory-bin.ts";
import { readRegulatoryDb } from "../../formats/regulatory-db.ts";
import { writeRegulatoryDb } from "../../formats/regulatory-db-write.ts";
import type { Rule } from "../../model/domain.ts";
import { fingerprint } from "../../signature/keys.ts";
import { iwRuleFlagNames } from "../../text/iw-reg.ts";
import {
	type Command,
	type Context,
	decodeText,
	emit,
	outputOption,
	positionals,
	printJson,
	readDatabase,
	ruleJson,
	textOption,
} from "../command.ts";
import { Exit, UsageError } from "../io.ts";

async function parseFile(context: Context, path: string): Promise<ReturnType<typeof parseDbTxt>> {
	const parsed = parseDbTxt(decodeText(await context.io.read(path)));
	for (const { line, message } of parsed.warnings) context.io.stderr(`Warning (line ${line}): ${message}\n`);
	return parsed;
}

const summary = (context: Context, bytes: number): object => {
	const file = textOption(context, "output");
	return file === undefined ? { bytes } : { file, bytes };
};

export const compile: Command = {
	name: "compile",
	usage: "DB.TXT -o FILE [--format db|bin]",
	summary: "db.txt to regulatory.db (version 20) or regulatory.bin (version 19, unsigned)",
	options: { ...outputOption, format: { type: "string", value: "FORMAT", help: "db (default) or bin" } },
	async run(context) {
		const [path] = positionals(context, "DB.TXT");
		const format = textOption(context, "format") ?? "db";
		if (format !== "db" && format !== "bin") throw new UsageError("--format must be db or bin");
		if (context.json && textOption(context, "output") === undefined)
			throw new UsageError("compile --json needs -o FILE");
		const parsed = await parseFile(context, path!);
		const bytes = format === "db" ? dbTxtToRegulatoryDb(parsed) : dbTxtToRegulatoryBin(parsed);
		await emit(context, bytes);
		if (context.json)
			printJson(context, {
				...summary(context, bytes.length),
				countries: parsed.countries.length,
				warnings: parsed.warnings,
			});
		return Exit.OK;
	},
};

export const decompile: Command = {
	name: "decompile",
	usage: "FILE [-o DB.TXT]",
	summary: "regulatory.db or regulatory.bin to a db.txt that compiles to the same bytes",
	options: outputOption,
	async run(context) {
		const [path] = positionals(context, "FILE");
		const bytes = await context.io.read(path!);
		let text: string;
		if (bytes[7] === 19) {
			text = writeDbTxt(readRegulatoryBin(bytes).database);
		} else {
			const result = decompileRegulatoryDb(bytes);
			text = result.text;
			if (!result.identical) {
				context.io.stderr(
					"regdomain: db2fw.py could not have written this file; compiling the text gives the same rules, not the same bytes\n",
				);
			}
		}
		if (context.json && textOption(context, "output") === undefined) printJson(context, { text });
		else await emit(context, text);
		if (context.json && textOption(context, "output") !== undefined) printJson(context, summary(context, text.length));
		return Exit.OK;
	},
};

export const format: Command = {
	name: "format",
	usage: "DB.TXT [-o FILE]",
	summary: "db.txt in one style; comments and figures stay",
	options: outputOption,
	async run(context) {
		const [path] = positionals(context, "DB.TXT");
		const text = formatDbTxt(decodeText(await context.io.read(path!)));
		if (context.json) printJson(context, { text });
		else await emit(context, text);
		return Exit.OK;
	},
};

export const lint: Command = {
	name: "lint",
	usage: "DB.TXT [--strict]",
	summary: "mistakes in a db.txt: mW for dBm, gaps, overlaps, widths, unused definitions",
	options: { strict: { type: "boolean", help: "fail on warnings too" } },
	async run(context) {
		const [path] = positionals(context, "DB.TXT");
		const parsed = parseDbTxt(decodeText(await context.io.read(path!)));
		const findings = lintDbTxt(parsed);
		if (context.json) {
			printJson(context, { findings, statistics: dbTxtStatistics(parsed) });
		} else {
			const colours = { error: "red", warning: "yellow", note: "dim" } as const;
			for (const { line, severity, check, message } of findings) {
				context.io.stdout(`${path}:${line}: ${context.io.style(colours[severity], severity)}: ${message} [${check}]\n`);
			}
		}
		const severe = context.args.values["strict"] === true ? ["error", "warning"] : ["error"];
		return findings.some(({ severity }) => severe.includes(severity)) ? Exit.FAILED : Exit.OK;
	},
};

const ruleText = (rule: Rule): string =>
	[
		`(${rule.startKHz / 1000} - ${rule.endKHz / 1000} @ ${rule.maxBandwidthKHz / 1000})`,
		`(${rule.maxEirpMbm / 100})`,
		...iwRuleFlagNames(rule.flags).map((name) => (name === "PASSIVE-SCAN" ? "NO-IR" : name)),
	].join(", ");

export const diff: Command = {
	name: "diff",
	usage: "A B [--exit-code]",
	summary: "what changed between two databases (any format), per rule and per channel",
	options: { "exit-code": { type: "boolean", help: "exit with 1 when they differ" } },
	async run(context) {
		const [one, two] = positionals(context, "A", "B");
		const changes = diffDatabases(readDatabase(await context.io.read(one!)), readDatabase(await context.io.read(two!)));
		if (context.json) {
			const countries = changes.map((change) => ({
				...change,
				removedRules: change.removedRules.map(ruleJson),
				addedRules: change.addedRules.map(ruleJson),
			}));
			printJson(context, { identical: changes.length === 0, countries });
		} else {
			for (const change of changes) {
				context.io.stdout(`${context.io.style("bold", change.alpha2)} ${change.kind}\n`);
				if (change.dfsRegion !== undefined)
					context.io.stdout(`  DFS region ${change.dfsRegion.before} → ${change.dfsRegion.after}\n`);
				for (const rule of change.removedRules) context.io.stdout(`  - ${ruleText(rule)}\n`);
				for (const rule of change.addedRules) context.io.stdout(`  + ${ruleText(rule)}\n`);
				for (const { band, channel, changes: words } of change.channels) {
					context.io.stdout(`    ${band} GHz channel ${channel}: ${words.join(", ")}\n`);
				}
			}
		}
		return changes.length > 0 && context.args.values["exit-code"] === true ? Exit.FAILED : Exit.OK;
	},
};

export const update: Command = {
	name: "update",
	usage: "FILE [--release NAME] [-o MODULE.ts|MODULE.js]",
	summary: "the generated module of bundled figures, from any regulatory.db",
	options: {
		...outputOption,
		release: { type: "string", value: "NAME", help: "release of wireless-regdb, such as 2026.05.30" },
	},
	async run(context) {
		const [path] = positionals(context, "FILE");
		const bytes = await context.io.read(path!);
		const database = readRegulatoryDb(bytes);
		const odd = [...database.domains.keys()].find((code) => !/^[0-9A-Z]{2}$/.test(code));
		if (odd !== undefined)
			throw new UsageError(`country ${JSON.stringify(odd)} of ${path} is not two capitals or digits`);
		const sha256 = (await fingerprint(bytes)).replaceAll(":", "").toLowerCase();
		const language = textOption(context, "output")?.endsWith(".js") === true ? "js" : "ts";
		const version = textOption(context, "release") ?? `of SHA-256 ${sha256.slice(0, 12)}`;
		const text = databaseModule(database, { version, sha256 }, language);
		if (context.json && textOption(context, "output") === undefined)
			throw new UsageError("update --json needs -o MODULE");
		await emit(context, text);
		const roundTrip = writeRegulatoryDb(database);
		const identical = roundTrip.length === bytes.length && roundTrip.every((byte, index) => byte === bytes[index]);
		if (!identical)
			context.io.stderr(
				"regdomain: the figures do not compile back to the same bytes; db2fw.py did not write this file\n",
			);
		if (context.json)
			printJson(context, { ...summary(context, text.length), version, sha256, countries: database.domains.size });
		return Exit.OK;
	},
};
