import type { RunRequest } from "../commands/run-options.ts";
import { CliError, EXIT } from "../exit.ts";
import type { GuestEnd } from "../guest/session.ts";
import type { StoredImage } from "../image/store.ts";
import type { CliIo } from "../io.ts";
import { jsonDocument } from "../io.ts";
import {
	linkFailure,
	openRequestedNetwork,
	type RequestedNetwork,
	tellPublished,
} from "../network/requested-network.ts";
import { SandboxError } from "../sandbox/errors.ts";
import { createSandbox, type Sandbox } from "../sandbox/sandbox.ts";
import { signalNumber } from "../sandbox/signals.ts";
import type { StartTimings } from "../sandbox/timings.ts";
import { elapsedLine } from "../terminal/elapsed.ts";
import { styleFor } from "../terminal/style.ts";
import { attachProcess, exitCodeOf, isTerminal, terminalEnvironment, terminalSize } from "./attach.ts";
import { serveControl } from "./control-server.ts";

const COMMAND_NOT_FOUND = 127;
const COMMAND_NOT_EXECUTABLE = 126;
const SHELLS = ["/bin/bash", "/bin/sh"];

/** Runs a command, or a shell, in a sandbox of its own. */
export async function runSandbox(request: RunRequest, image: StoredImage, io: CliIo): Promise<GuestEnd> {
	const shell = request.command === undefined;
	const terminal = isTerminal(io) && !request.json;
	const tty = shell || terminal;
	const line = terminal ? elapsedLine(io, `Starting Linux ${image.kernelRelease}`) : undefined;
	let sandbox: Sandbox | undefined;
	let left = false;
	let requested: RequestedNetwork | undefined;
	try {
		requested = await openRequestedNetwork(request.network);
		sandbox = await createSandbox({
			image,
			memoryMiB: request.memoryMib,
			cpus: request.cpus,
			engine: request.engine,
			snapshot: request.snapshot,
			disks: request.disks,
			mounts: request.mounts,
			env: Object.fromEntries(request.environment),
			network: requested.network,
			signal: io.signal,
			...(request.timeoutMs !== undefined && { timeoutMs: request.timeoutMs }),
			...(request.append !== undefined && { append: request.append }),
		});
		line?.end();
		const running = sandbox;
		tellPublished(request.network, await running.published(), request.json, io);
		const control = await serveControl(running, { image: image.id, command: request.command ?? SHELLS }, io.env);
		try {
			const program = shell ? await shellOf(running) : request.command!;
			const execution = running.exec(program, {
				stdin: "pipe",
				env: {
					...(tty && terminalEnvironment(io)),
					...(shell && { PS1: "\\w # " }),
					...Object.fromEntries(request.environment),
				},
				...(tty && { tty: terminalSize(io) }),
			});
			const exit = await attachProcess(execution, io, {
				tty,
				json: request.json,
				onLeave() {
					left = true;
					void running.close();
				},
			});
			running.timings.mark("exit");
			return { exitCode: exitCodeOf(exit, signalNumber), reason: "command" };
		} finally {
			await control?.close();
		}
	} catch (error) {
		if (left) return { exitCode: EXIT.ok, reason: "left", message: "" };
		io.signal.throwIfAborted();
		return endOf(error, request, sandbox, io);
	} finally {
		line?.end();
		await sandbox?.close();
		requested?.close();
		sandbox?.timings.mark("closed");
		if (request.timings && sandbox !== undefined) reportTimings(sandbox.timings, request, io);
	}
}

/** The best shell there is. */
async function shellOf(sandbox: Sandbox): Promise<readonly string[]> {
	for (const path of SHELLS) {
		const found = await sandbox.files.stat(path).catch(() => undefined);
		if (found !== undefined) return [path];
	}
	throw new CliError(EXIT.notFound, "NO_SHELL", `the guest has no shell: ${SHELLS.join(" or ")}`);
}

/** What xkvm makes of an error. */
function endOf(error: unknown, request: RunRequest, sandbox: Sandbox | undefined, io: CliIo): GuestEnd {
	if (!(error instanceof SandboxError)) throw error;
	switch (error.code) {
		case "ERR_EXEC_NOT_FOUND":
			return { exitCode: COMMAND_NOT_FOUND, reason: "command", message: error.message };
		case "ERR_EXEC_NOT_EXECUTABLE":
			return { exitCode: COMMAND_NOT_EXECUTABLE, reason: "command", message: error.message };
		case "ERR_SANDBOX_TIMEOUT":
			return {
				exitCode: EXIT.failed,
				reason: "timeout",
				message: `the guest was stopped after --timeout ${request.timeoutMs! / 1000} s`,
			};
		case "ERR_SANDBOX_GUEST":
			if (request.command === undefined && (error.value === "power-off" || error.value === "reset")) {
				return { exitCode: EXIT.ok, reason: error.value };
			}
			break;
		case "ERR_SANDBOX_OPTION":
			throw new CliError(EXIT.usage, "BAD_OPTION", error.message);
		case "ERR_SANDBOX_NETWORK":
			throw new CliError(EXIT.io, String(error.value ?? error.code), error.message);
		case "ERR_SANDBOX_BOOT": {
			const cause = error.cause as { name?: string; exitCode?: number; code?: string } | undefined;
			if (cause?.name === "LinkError") throw linkFailure({ ...cause, message: error.message });
			if (cause?.exitCode !== undefined) throw new CliError(cause.exitCode, cause.code ?? "FAILED", error.message);
			break;
		}
		default:
	}
	if (!request.json) {
		const style = styleFor(io.stderr, io.env);
		for (const text of sandbox?.consoleTail() ?? []) io.stderr.write(`${style.dim(`guest: ${text}`)}\n`);
	}
	return { exitCode: EXIT.failed, reason: "stopped", message: error.message };
}

function reportTimings(timings: StartTimings, request: RunRequest, io: CliIo): void {
	const steps = timings.steps();
	const total = steps.reduce((sum, { ms }) => sum + ms, 0);
	if (request.json) {
		io.stdout.write(
			jsonDocument({
				event: "timings",
				steps: steps.map(({ moment, ms }) => ({ moment, ms: Math.round(ms) })),
				totalMs: Math.round(total),
			}),
		);
		return;
	}
	for (const { what, ms } of steps) io.stderr.write(`${ms.toFixed(0).padStart(7)} ms  ${what}\n`);
	io.stderr.write(`${total.toFixed(0).padStart(7)} ms  in all\n`);
}
