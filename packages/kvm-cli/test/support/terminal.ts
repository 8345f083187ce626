import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("./terminal.py", import.meta.url));
const bin = fileURLToPath(new URL("../../bin/xkvm.js", import.meta.url));

/** Why there can be no pseudo-terminal, or undefined. */
export function ptyMissing(): string | undefined {
	const python = spawnSync("python3", ["-c", "import pty, termios; pty.openpty()"]);
	return python.status === 0 ? undefined : "no python3 with its pty module here";
}

/** Input, output, control and local flags, two speeds, and the special characters, as tcgetattr gives them. */
export type Termios = readonly unknown[];

/** ICANON and ECHO and ISIG among the local flags: what raw mode takes away. */
const COOKED = 0o2 | 0o10 | 0o1;

/** xkvm on a pseudo-terminal. */
export interface Terminal {
	/** All that was shown. */
	readonly shown: string;
	/** Waits until what is shown from `from` on matches. */
	until(pattern: RegExp, from?: number): Promise<void>;
	type(text: string): void;
	resize(rows: number, columns: number): void;
	/** To all processes of the terminal, as Ctrl-C sends SIGINT outside raw mode. */
	signal(signal: number): void;
	termios(): Promise<Termios>;
	/** How it ended, with the terminal as it was left. */
	readonly ended: Promise<{ code: number | null; signal: number; termios: Termios }>;
	/** Ends everything. */
	close(): void;
}

/** Runs xkvm on a terminal of that size. */
export function openTerminal(
	args: readonly string[],
	options: { rows?: number; columns?: number; env?: Record<string, string> } = {},
): Terminal {
	const size = [options.rows ?? 24, options.columns ?? 80].map(String);
	const child = spawn("python3", [program, ...size, process.execPath, bin, ...args], {
		env: { ...process.env, NO_COLOR: "1", TERM: "vt100", ...options.env },
		stdio: ["pipe", "pipe", "inherit"],
	});
	const send = (command: object): void => void child.stdin.write(`${JSON.stringify(command)}\n`);
	child.stdin.on("error", () => {});
	let shown = "";
	let latest: Termios = [];
	let asked: ((termios: Termios) => void)[] = [];
	const waiting = new Set<() => void>();
	const ended = new Promise<{ code: number | null; signal: number; termios: Termios }>((resolve, reject) => {
		createInterface({ input: child.stdout }).on("line", (line) => {
			const event = JSON.parse(line) as { out?: string; termios?: Termios; exit?: number | null; signal?: number };
			if (event.out !== undefined) shown += Buffer.from(event.out, "base64").toString("latin1");
			if (event.termios !== undefined) {
				latest = event.termios;
				for (const answer of asked) answer(latest);
				asked = [];
			}
			if (event.exit !== undefined) resolve({ code: event.exit, signal: event.signal!, termios: latest });
			for (const look of waiting) look();
		});
		child.on("error", reject);
		child.on("close", () => reject(new Error("python3 ended before xkvm did")));
	});
	return {
		get shown() {
			return shown;
		},
		until: (pattern, from = 0) =>
			new Promise((resolve, reject) => {
				const look = (): void => {
					if (!pattern.test(shown.slice(from))) return;
					waiting.delete(look);
					resolve();
				};
				waiting.add(look);
				look();
				void ended.then(() => reject(new Error(`it ended before ${pattern}: ${shown.slice(-500)}`)));
			}),
		type: (text) => send({ write: Buffer.from(text, "latin1").toString("base64") }),
		resize: (rows, columns) => send({ resize: [rows, columns] }),
		signal: (signal) => send({ signal }),
		termios: () =>
			new Promise((resolve) => {
				asked.push(resolve);
				send({ termios: true });
			}),
		ended,
		close: () => void child.stdin.end(),
	};
}

/** Whether a terminal passes every key on at once, Ctrl-C among them. */
export function isRaw(termios: Termios): boolean {
	return (Number(termios[3]) & COOKED) === 0;
}
