import { bundledDatabase } from "../data/index.ts";
import { dbTxtToDatabase } from "../dbtxt/compile.ts";
import { parseDbTxt } from "../dbtxt/parse.ts";
import { readRegulatoryBin } from "../formats/regulatory-bin.ts";
import { readRegulatoryDb } from "../formats/regulatory-db.ts";
import type { Database, Domain, Rule } from "../model/domain.ts";
import type { Arguments, OptionSpec } from "./io.node.ts";
import { type Io, UsageError } from "./io.ts";

/** What a command is given. */
export interface Context {
	io: Io;
	args: Arguments;
	/** Whether one JSON object is wanted. */
	json: boolean;
}

/** A command. */
export interface Command {
	name: string;
	/** What follows the name, for --help. */
	usage: string;
	/** One line. */
	summary: string;
	options: Readonly<Record<string, OptionSpec>>;
	/** Returns the exit code. */
	run(context: Context): Promise<number>;
}

/** Option that names a database. */
export const dbOption: Readonly<Record<"db", OptionSpec>> = {
	db: {
		type: "string",
		value: "FILE",
		help: "regulatory.db, regulatory.bin or db.txt to use instead of the bundled one",
	},
};

/** Option that names an output file. */
export const outputOption: Readonly<Record<"output", OptionSpec>> = {
	output: { type: "string", short: "o", value: "FILE", help: "write there instead of to standard output" },
};

/** A text option, or undefined. */
export function textOption({ args }: Context, name: string): string | undefined {
	const value = args.values[name];
	return typeof value === "string" ? value : undefined;
}

/** A numeric option, or undefined. @throws UsageError */
export function numberOption(context: Context, name: string): number | undefined {
	const text = textOption(context, name);
	if (text === undefined) return undefined;
	const value = Number(text);
	if (text.trim() === "" || !Number.isFinite(value))
		throw new UsageError(`--${name} needs a number, not ${JSON.stringify(text)}`);
	return value;
}

/** Exactly the positional arguments named. @throws UsageError */
export function positionals({ args }: Context, ...names: readonly string[]): string[] {
	if (args.positionals.length !== names.length) {
		throw new UsageError(
			`expected ${names.length === 0 ? "no argument" : names.join(" ")}, found ${args.positionals.length} arguments`,
		);
	}
	return args.positionals;
}

/** Text of UTF-8 bytes, a byte-order mark kept. @throws TypeError for other bytes */
export const decodeText = (bytes: Uint8Array): string =>
	new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);

const isBinary = (bytes: Uint8Array): boolean => String.fromCharCode(...bytes.subarray(0, 4)) === "RGDB";

/** A database in any of its three formats. */
export function readDatabase(bytes: Uint8Array): Database {
	if (!isBinary(bytes)) return dbTxtToDatabase(parseDbTxt(decodeText(bytes)));
	return bytes[7] === 19 ? readRegulatoryBin(bytes).database : readRegulatoryDb(bytes);
}

/** The database a command works on: --db, or the bundled one. */
export async function loadDatabase(context: Context): Promise<Database> {
	const path = textOption(context, "db");
	return path === undefined ? bundledDatabase() : readDatabase(await context.io.read(path));
}

/** Prints an object as JSON with its version. */
export function printJson({ io }: Context, value: object): void {
	io.stdout(`${JSON.stringify({ schemaVersion: 1, ...value })}\n`);
}

/** Writes to --output or standard output. */
export async function emit(context: Context, data: string | Uint8Array): Promise<void> {
	const path = textOption(context, "output");
	if (path === undefined) context.io.stdout(data);
	else await context.io.write(path, data);
}

/** A rule as the contract's JSON has it. */
export function ruleJson({ startKHz, endKHz, maxBandwidthKHz, maxGainMbi, maxEirpMbm, cacMs, flags }: Rule): Rule {
	return { startKHz, endKHz, maxBandwidthKHz, maxGainMbi, maxEirpMbm, cacMs, flags };
}

/** A domain as the contract's JSON has it. */
export function domainJson({ alpha2, dfsRegion, rules }: Domain): Domain {
	return { alpha2, dfsRegion, rules: rules.map(ruleJson) };
}

/** Rows as aligned columns. */
export function table(rows: readonly (readonly string[])[]): string {
	const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
	return rows
		.map(
			(row) =>
				`${row
					.map((cell, column) => cell.padEnd(widths[column]!))
					.join("  ")
					.trimEnd()}\n`,
		)
		.join("");
}
