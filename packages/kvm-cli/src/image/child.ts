import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { CliError, EXIT } from "../exit.ts";

/** How to run a program. */
export interface ChildOptions {
	readonly cwd?: string;
	readonly signal: AbortSignal;
	/** Called with each line the program writes to descriptor 3. */
	onStatusLine?(line: string): void;
	/** Fed to the program's standard input. */
	readonly input?: Uint8Array;
}

/** How a program ended. */
export interface ChildResult {
	readonly exitCode: number;
	readonly stdout: Buffer;
	readonly stderr: string;
}

/**
 * Runs a program to its end. When the signal aborts, the program gets SIGTERM, and only when it is gone does this reject.
 *
 * @throws CliError NO_PROGRAM when it is not installed; the signal's reason when aborted
 */
export function runChild(program: string, args: readonly string[], options: ChildOptions): Promise<ChildResult> {
	const { signal } = options;
	signal.throwIfAborted();
	return new Promise((resolve, reject) => {
		const child = spawn(program, args, {
			cwd: options.cwd,
			env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
			stdio: [options.input ? "pipe" : "ignore", "pipe", "pipe", "pipe"],
		});
		const stdout: Buffer[] = [];
		const stderr: Buffer[] = [];
		child.stdout!.on("data", (chunk: Buffer) => stdout.push(chunk));
		child.stderr!.on("data", (chunk: Buffer) => stderr.push(chunk));
		const status = child.stdio[3] as Readable;
		if (options.onStatusLine) createInterface({ input: status }).on("line", options.onStatusLine);
		else status.resume();
		child.stdin?.on("error", () => {});
		child.stdin?.end(options.input);
		const stop = (): void => {
			child.kill("SIGTERM");
		};
		signal.addEventListener("abort", stop, { once: true });
		child.on("error", (error: NodeJS.ErrnoException) => {
			signal.removeEventListener("abort", stop);
			reject(
				error.code === "ENOENT" ? new CliError(EXIT.notFound, "NO_PROGRAM", `${program} is not installed here`) : error,
			);
		});
		child.on("close", (code, killedBy) => {
			signal.removeEventListener("abort", stop);
			if (signal.aborted) return reject(signal.reason);
			resolve({
				exitCode: code ?? 128,
				stdout: Buffer.concat(stdout),
				stderr: Buffer.concat(stderr).toString() + (killedBy ? `\nended by ${killedBy}` : ""),
			});
		});
	});
}
