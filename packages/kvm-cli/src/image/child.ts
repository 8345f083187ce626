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

/** How long a signal to the whole process group may take to be known here, once a child has ended by it. */
const GROUP_SIGNAL_MS = 200;

/**
 * To be awaited when a child has failed, before anything is made of that: a Ctrl-C is for it and for this process, and may
 * reach it first.
 *
 * @throws the signal's reason when that is how it was
 */
export async function notInterrupted(signal: AbortSignal): Promise<void> {
	if (!signal.aborted) {
		await new Promise<void>((resolve) => {
			const done = (): void => {
				clearTimeout(timer);
				signal.removeEventListener("abort", done);
				resolve();
			};
			const timer = setTimeout(done, GROUP_SIGNAL_MS);
			signal.addEventListener("abort", done);
		});
	}
	signal.throwIfAborted();
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
			const result = {
				exitCode: code ?? 128,
				stdout: Buffer.concat(stdout),
				stderr: Buffer.concat(stderr).toString() + (killedBy ? `\nended by ${killedBy}` : ""),
			};
			if (code === 0) resolve(result);
			else notInterrupted(signal).then(() => resolve(result), reject);
		});
	});
}
