import type { Command } from "commander";
import { CliError, EXIT } from "../exit.ts";
import { type CliIo, jsonDocument } from "../io.ts";
import type { Outcome } from "../main.ts";
import { attachProcess, exitCodeOf, isTerminal, terminalEnvironment, terminalSize } from "../run/attach.ts";
import { execInSandbox, runningSandboxes, stopSandbox } from "../run/control-client.ts";
import { SandboxError } from "../sandbox/errors.ts";
import { signalNumber } from "../sandbox/signals.ts";
import { environmentEntry } from "./run-options.ts";

interface ExecFlags {
	env: string[];
	cwd?: string;
	user?: string;
	json?: boolean;
}

/** `ps`, `exec` and `stop`: sandboxes that other processes run. */
export function addSandboxCommands(program: Command, io: CliIo, outcome: Outcome): void {
	program
		.command("ps")
		.description("list the sandboxes that run")
		.option("--json", "print one JSON object")
		.action(async (flags: { json?: boolean }) => {
			const sandboxes = await runningSandboxes(io.env);
			if (flags.json) {
				io.stdout.write(jsonDocument({ sandboxes }));
				return;
			}
			if (sandboxes.length === 0) io.stderr.write("No sandboxes run; `xkvm run` starts one.\n");
			for (const { id, pid, image, started, command } of sandboxes) {
				io.stdout.write(`${id}\t${pid}\t${started}\t${image}\t${command.join(" ")}\n`);
			}
		});

	program
		.command("exec")
		.description("run a command in a sandbox that runs")
		.argument("<id>", "as `xkvm ps` shows it")
		.argument("<command...>", "after --: program and arguments")
		.option(
			"--env <name=value>",
			"environment of the command (repeatable)",
			(value, all: string[]) => [...all, value],
			[],
		)
		.option("--cwd <folder>", "folder in the guest to start in")
		.option("--user <user>", "user in the guest")
		.option("--json", "print output and end as one JSON object a line")
		.action(async (id: string, command: string[], flags: ExecFlags) => {
			const tty = isTerminal(io) && !flags.json;
			const process = await execInSandbox(
				id,
				{
					op: "exec",
					command,
					env: { ...(tty && terminalEnvironment(io)), ...Object.fromEntries(flags.env.map(environmentEntry)) },
					...(flags.cwd !== undefined && { cwd: flags.cwd }),
					...(flags.user !== undefined && { user: flags.user }),
					...(tty && { tty: terminalSize(io) }),
				},
				io.env,
			);
			const stop = (): void => process.close();
			io.signal.addEventListener("abort", stop, { once: true });
			try {
				const exit = await attachProcess(process, io, { tty, json: flags.json ?? false, onLeave: stop });
				outcome.exitCode = exitCodeOf(exit, signalNumber);
			} catch (error) {
				io.signal.throwIfAborted();
				outcome.exitCode = commandFailure(error, io);
			} finally {
				io.signal.removeEventListener("abort", stop);
			}
			if (flags.json) io.stdout.write(jsonDocument({ event: "end", reason: "command", exitCode: outcome.exitCode }));
		});

	program
		.command("stop")
		.description("end sandboxes")
		.argument("<id...>", "as `xkvm ps` shows them")
		.option("--json", "print one JSON object")
		.action(async (ids: string[], flags: { json?: boolean }) => {
			const stopped: string[] = [];
			for (const id of ids) {
				try {
					await stopSandbox(id, io.env);
					stopped.push(id);
					if (!flags.json) io.stdout.write(`${id}\n`);
				} catch (error) {
					if (!(error instanceof CliError)) throw error;
					if (!flags.json) io.stderr.write(`xkvm: ${error.message}\n`);
					outcome.exitCode = EXIT.notFound;
				}
			}
			if (flags.json) io.stdout.write(jsonDocument({ stopped }));
		});
}

function commandFailure(error: unknown, io: CliIo): number {
	if (!(error instanceof SandboxError)) throw error;
	io.stderr.write(`xkvm: ${error.message}\n`);
	return error.code === "ERR_EXEC_NOT_FOUND" ? 127 : error.code === "ERR_EXEC_NOT_EXECUTABLE" ? 126 : EXIT.failed;
}
