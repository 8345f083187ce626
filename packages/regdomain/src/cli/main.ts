import { bundledVersion } from "../data/index.ts";
import { RegdomainError } from "../errors.ts";
import type { Command } from "./command.ts";
import { channels } from "./commands/channels.ts";
import { compile, decompile, diff, format, lint, update } from "./commands/databases.ts";
import { chart, common, country, explain, exportCommand, intersect, legacy, list, show } from "./commands/domains.ts";
import { sign, verify } from "./commands/signatures.ts";
import { check, element, iw, simulate } from "./commands/tools.ts";
import { type OptionSpec, parseArguments } from "./io.node.ts";
import { Exit, type Io, UsageError } from "./io.ts";

const commands: readonly Command[] = [
	channels,
	show,
	list,
	explain,
	common,
	intersect,
	country,
	legacy,
	simulate,
	compile,
	decompile,
	format,
	lint,
	diff,
	verify,
	sign,
	update,
	element,
	check,
	iw,
	chart,
	exportCommand,
];

const general: Readonly<Record<string, OptionSpec>> = {
	json: { type: "boolean", help: "one JSON object with schemaVersion 1" },
	help: { type: "boolean", short: "h", help: "this text" },
	version: { type: "boolean", short: "V", help: "the version" },
};

function overview(): string {
	const width = Math.max(...commands.map(({ name }) => name.length));
	const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
	return `Usage: regdomain COMMAND [ARGUMENTS]

Every channel decision Linux makes, and the regulatory databases behind it (wireless-regdb ${bundledVersion} bundled).

Commands:
${lines.join("\n")}

Every command takes --json, --help and --version.
Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 permission, 5 input or output, 130 interrupted.
`;
}

function help({ name, usage, summary, options }: Command): string {
	const rows = Object.entries({ ...options, ...general }).map(([option, { short, value, help: text }]) => {
		const forms = `${short === undefined ? "" : `-${short}, `}--${option}${value === undefined ? "" : ` ${value}`}`;
		return [forms, text] as const;
	});
	const width = Math.max(...rows.map(([forms]) => forms.length));
	const lines = rows.map(([forms, text]) => `  ${forms.padEnd(width)}  ${text}`);
	return `Usage: regdomain ${name} ${usage}\n\n${summary}\n\nOptions:\n${lines.join("\n")}\n`;
}

const ioCodes: Readonly<Record<string, number>> = { EACCES: Exit.PERMISSION, EPERM: Exit.PERMISSION };

/** The line and exit code for a fault; programming errors are thrown on. */
function report(error: unknown, file: string | undefined): { code: number; message: string } {
	const where = file === undefined ? "" : `${file}: `;
	if (error instanceof UsageError) return { code: Exit.USAGE, message: error.message };
	if (error instanceof RegdomainError) {
		return {
			code: error.code === "UNKNOWN_COUNTRY" ? Exit.NOT_FOUND : Exit.FAILED,
			message: `${where}${error.message}`,
		};
	}
	if (error instanceof SyntaxError) return { code: Exit.FAILED, message: `${where}not JSON: ${error.message}` };
	const code = (error as { code?: unknown } | null)?.code;
	if (code === "ERR_ENCODING_INVALID_ENCODED_DATA") {
		return { code: Exit.FAILED, message: `${where}UnicodeDecodeError: the file is not UTF-8 text` };
	}
	if (typeof code === "string" && (error as { syscall?: unknown }).syscall !== undefined) {
		return { code: ioCodes[code] ?? Exit.IO, message: (error as Error).message };
	}
	throw error;
}

/**
 * Runs the `regdomain` command.
 *
 * @param argv - arguments after the command's own name
 * @returns exit code: 0 ok, 1 failed, 2 usage, 3 not found, 4 permission, 5 input or output
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
	const [name, ...rest] = argv;
	if (name === undefined) {
		io.stderr(overview());
		return Exit.USAGE;
	}
	if (name === "--help" || name === "-h" || name === "help") {
		io.stdout(overview());
		return Exit.OK;
	}
	if (name === "--version" || name === "-V") {
		io.stdout(`${io.version}\n`);
		return Exit.OK;
	}
	const command = commands.find((candidate) => candidate.name === name);
	let file: string | undefined;
	try {
		if (command === undefined)
			throw new UsageError(`there is no command ${JSON.stringify(name)}; see regdomain --help`);
		const args = parseArguments(rest, { ...command.options, ...general });
		if (args.values["help"] === true) {
			io.stdout(help(command));
			return Exit.OK;
		}
		if (args.values["version"] === true) {
			io.stdout(`${io.version}\n`);
			return Exit.OK;
		}
		const watching: Io = {
			...io,
			read: (path) => {
				file = path;
				return io.read(path);
			},
		};
		return await command.run({ io: watching, args, json: args.values["json"] === true });
	} catch (error) {
		const { code, message } = report(error, file);
		io.stderr(`regdomain: ${message.split("\n")[0]}\n`);
		if (code === Exit.USAGE && command !== undefined) io.stderr(`usage: regdomain ${command.name} ${command.usage}\n`);
		return code;
	}
}
