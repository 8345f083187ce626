import { readFile, writeFile } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { parseArgs, styleText } from "node:util";
import { type Io, UsageError } from "./io.ts";

async function readStandardInput(): Promise<Uint8Array> {
	const chunks: Uint8Array[] = [];
	for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array);
	return Buffer.concat(chunks);
}

/** The process' own files and streams. @param version - of this package */
export function processIo(version: string): Io {
	return {
		version,
		stdout: (data) => void process.stdout.write(data),
		stderr: (text) => void process.stderr.write(text),
		read: (path) => (path === "-" ? readStandardInput() : readFile(path)),
		write: (path, data) => writeFile(path, data),
		resolve: (path, from) => (isAbsolute(path) || from === "-" ? path : join(dirname(from), path)),
		style: (name, text) => styleText(name, text, { stream: process.stdout, validateStream: true }),
	};
}

/** An option of a command. */
export interface OptionSpec {
	/** Whether it takes a value. */
	type: "string" | "boolean";
	/** One-letter form. */
	short?: string;
	/** What it does, for --help. */
	help: string;
	/** Name of its value, for --help. */
	value?: string;
}

/** A parsed command line. */
export interface Arguments {
	/** Options given. */
	values: Record<string, string | boolean | undefined>;
	/** The rest. */
	positionals: string[];
}

/** Parses a command line. @throws UsageError */
export function parseArguments(args: readonly string[], specs: Readonly<Record<string, OptionSpec>>): Arguments {
	const options = Object.fromEntries(
		Object.entries(specs).map(([name, { type, short }]) => [name, short === undefined ? { type } : { type, short }]),
	);
	try {
		const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
		return { values, positionals };
	} catch (error) {
		throw new UsageError((error as Error).message.split(". ")[0]!);
	}
}
