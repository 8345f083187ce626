import { spawn } from "node:child_process";

/** A program on a pseudo-terminal. */
export interface Terminal {
	type(text: string): void;
	/** Resolves when the screen has got this text since the last such wait. */
	until(text: string): Promise<void>;
	readonly code: Promise<number | null>;
}

const PTY = `
import os, pty, sys
status = pty.spawn(["sh", "-c", sys.argv[1], *sys.argv[2:]])
sys.exit(os.waitstatus_to_exitcode(status))
`;

/** Runs a program on a terminal of its own, made by Python. */
export function onTerminal(
	argv: readonly string[],
	env: Readonly<Record<string, string | undefined>>,
	size: { rows: number; columns: number },
): Terminal {
	const script = `stty rows ${size.rows} cols ${size.columns}; exec "$0" "$@"`;
	const child = spawn("python3", ["-c", PTY, script, ...argv], { env: { ...env, TERM: "xterm" } });
	let screen = "";
	let listener = (): void => {};
	child.stdout.on("data", (chunk) => {
		screen += String(chunk);
		listener();
	});
	const code = new Promise<number | null>((resolve) => child.on("close", resolve));
	return {
		type: (text) => child.stdin.write(text),
		until: (text) =>
			new Promise((resolve, reject) => {
				listener = () => {
					const at = screen.indexOf(text);
					if (at < 0) return;
					screen = screen.slice(at + text.length);
					resolve();
				};
				listener();
				void code.then(() => reject(new Error(`ended before ${JSON.stringify(text)}: ${screen.slice(-500)}`)));
			}),
		code,
	};
}
