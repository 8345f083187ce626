import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const bin = fileURLToPath(new URL("../../bin/xkvm.js", import.meta.url));
const built = fileURLToPath(new URL("../../dist/bin.js", import.meta.url));

export interface XkvmResult {
	code: number | null;
	stdout: string;
	stderr: string;
}

export interface XkvmOptions {
	input?: string | Uint8Array;
	env?: Record<string, string>;
	/** Sent when stdout holds `on`, or after `afterMs`. */
	kill?: { signal: NodeJS.Signals; on?: string; afterMs?: number };
}

/** Runs the built command as a user would. */
export function xkvm(args: readonly string[], options: XkvmOptions = {}): Promise<XkvmResult> {
	if (!existsSync(built)) throw new Error("the command is not built: run `turbo run build` first");
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [bin, ...args], {
			env: { ...process.env, NO_COLOR: "1", ...options.env },
			stdio: ["pipe", "pipe", "pipe"],
		});
		let stdout = "";
		let stderr = "";
		const { kill } = options;
		child.stdout.on("data", (chunk) => {
			stdout += String(chunk);
			if (kill?.on !== undefined && stdout.includes(kill.on)) child.kill(kill.signal);
		});
		child.stderr.on("data", (chunk) => {
			stderr += String(chunk);
		});
		if (kill?.afterMs !== undefined) setTimeout(() => child.kill(kill.signal), kill.afterMs);
		child.stdin.on("error", () => {});
		child.stdin.end(options.input ?? "");
		child.on("error", reject);
		child.on("close", (code) => resolve({ code, stdout, stderr }));
	});
}

/** Stderr of a failed command: one line that starts with the command's name. */
export function isOneLine(stderr: string): boolean {
	return /^xkvm: [^\n]+\n$/.test(stderr);
}
