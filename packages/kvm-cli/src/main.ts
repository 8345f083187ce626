import { Command, CommanderError } from "commander";
import { addCompletionCommand } from "./commands/completion.ts";
import { addDebugCommand } from "./commands/debug.ts";
import { addDemoCommand } from "./commands/demo.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addImageCommand } from "./commands/image.ts";
import { addRunCommand } from "./commands/run.ts";
import { addSandboxCommands } from "./commands/sandboxes.ts";
import { EXIT, toCliError } from "./exit.ts";
import { type CliIo, jsonDocument } from "./io.ts";
import { styleFor } from "./terminal/style.ts";
import { packageVersion } from "./version.ts";

/** Carries a subcommand's exit code out of commander's actions. */
export interface Outcome {
	exitCode: number;
}

/** The command tree; actions put their exit code into `outcome`. */
export function makeProgram(io: CliIo, outcome: Outcome): Command {
	const program = new Command("xkvm")
		.description("Disposable Linux machines: no daemon, no root, no KVM required.")
		.version(packageVersion(), "-V, --version")
		.enablePositionalOptions()
		.showSuggestionAfterError(true)
		.exitOverride()
		.configureOutput({
			writeOut: (text) => io.stdout.write(text),
			writeErr: (text) => io.stderr.write(text),
			outputError: (text, write) => write(`xkvm: ${text.replace(/^error: /, "")}`),
			getOutHasColors: () => false,
			getErrHasColors: () => false,
		});
	addRunCommand(program, io, outcome);
	addDebugCommand(program, io, outcome);
	addSandboxCommands(program, io, outcome);
	addImageCommand(program, io, outcome);
	addDoctorCommand(program, io, outcome);
	addDemoCommand(program, io);
	addCompletionCommand(program, io);
	program.addHelpText(
		"after",
		"\nExit codes: 0 ok, 1 failed, 2 usage, 3 not found or unsupported, 4 permission, 5 I/O or network, 130 interrupted.",
	);
	return program;
}

/**
 * Runs the command.
 *
 * @param args - arguments after the command's name
 * @returns the exit code; errors have become a line on stderr
 */
export async function main(args: readonly string[], io: CliIo): Promise<number> {
	const outcome: Outcome = { exitCode: EXIT.ok };
	try {
		await makeProgram(io, outcome).parseAsync(args, { from: "user" });
		return outcome.exitCode;
	} catch (error) {
		if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
		const { exitCode, code, message } = toCliError(error);
		const own = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
		if (own.includes("--json")) {
			io.stdout.write(jsonDocument({ error: { code, message, exitCode } }));
		}
		io.stderr.write(`${styleFor(io.stderr, io.env).red("xkvm:")} ${message}\n`);
		return exitCode;
	}
}
