import type { Readable, Writable } from "node:stream";
import { EscapeFilter } from "../guest/escape.ts";
import { type CliIo, jsonDocument, write } from "../io.ts";
import type { ExecExit } from "../sandbox/execution.ts";

/** A process in a guest, whether the guest is this process's or another's. */
export interface AttachableProcess {
	readonly stdin: Writable;
	readonly stdout: Readable;
	readonly stderr: Readable;
	readonly exit: Promise<ExecExit>;
	resize(size: { readonly rows: number; readonly columns: number }): void;
}

/** How a process is shown. */
export interface AttachOptions {
	/** It has a terminal in the guest. */
	readonly tty: boolean;
	/** Output as NDJSON. */
	readonly json: boolean;
	/** Ctrl-A x. */
	onLeave(): void;
}

const END_OF_TRANSMISSION = Uint8Array.of(4);
const END_AGAIN_MS = 500;

/** Standard input, output and error are all the terminal: then the guest's process gets one too. */
export function isTerminal(io: CliIo): boolean {
	return io.stdin.isTTY === true && io.stdout.isTTY === true && io.stderr.isTTY === true;
}

/** The terminal's size. */
export function terminalSize(io: CliIo): { rows: number; columns: number } {
	return { rows: io.stdout.rows || 24, columns: io.stdout.columns || 80 };
}

/** TERM, when it is a word. */
export function terminalEnvironment(io: CliIo): Record<string, string> {
	const term = io.env["TERM"];
	return term !== undefined && /^[\w.+-]+$/.test(term) ? { TERM: term } : {};
}

/**
 * Carries this process's input to a guest's process and that one's output here, until it ends.
 *
 * @throws what `exit` rejects with
 */
export async function attachProcess(process: AttachableProcess, io: CliIo, options: AttachOptions): Promise<ExecExit> {
	const { stdin, stdout } = io;
	const raw = options.tty && stdin.isTTY === true;
	const filter = raw ? new EscapeFilter() : undefined;
	let again: NodeJS.Timeout | undefined;
	const resize = (): void => process.resize(terminalSize(io));
	const onData = (chunk: Buffer): void => {
		let bytes: Uint8Array = chunk;
		if (filter !== undefined) {
			const filtered = filter.push(chunk);
			bytes = filtered.bytes;
			for (const action of filtered.actions) {
				if (action === "help") io.stderr.write("\r\nCtrl-A x leaves, Ctrl-A Ctrl-A sends Ctrl-A\r\n");
				else options.onLeave();
			}
		}
		if (bytes.length > 0 && !process.stdin.writableEnded && !process.stdin.write(bytes)) stdin.pause();
	};
	const onDrain = (): void => {
		stdin.resume();
	};
	const onEnd = (): void => {
		if (process.stdin.writableEnded) return;
		if (!options.tty) process.stdin.end();
		else {
			// A terminal has no lasting end, and one Ctrl-D may come while nobody reads or while a command does.
			process.stdin.write(END_OF_TRANSMISSION);
			again ??= setInterval(() => process.stdin.write(END_OF_TRANSMISSION), END_AGAIN_MS);
		}
	};
	process.stdin.on("error", () => {});
	process.stdin.on("drain", onDrain);
	if (raw) {
		stdin.setRawMode?.(true);
		stdout.on("resize", resize);
	}
	stdin.on("data", onData);
	stdin.on("end", onEnd);
	stdin.on("error", onEnd);
	if (stdin.readableEnded || stdin.destroyed) onEnd();
	try {
		const sinks = options.json
			? [jsonOutput(process.stdout, "stdout", io), jsonOutput(process.stderr, "stderr", io)]
			: [plainOutput(process.stdout, io.stdout), plainOutput(process.stderr, io.stderr)];
		const [exit] = await Promise.all([process.exit, ...sinks]);
		return exit;
	} finally {
		clearInterval(again);
		stdin.off("data", onData);
		stdin.off("end", onEnd);
		stdin.off("error", onEnd);
		stdin.pause();
		process.stdin.off("drain", onDrain);
		if (raw) {
			stdin.setRawMode?.(false);
			stdout.off("resize", resize);
		}
	}
}

async function plainOutput(source: Readable, target: CliIo["stdout"]): Promise<void> {
	for await (const chunk of source) await write(target, chunk as Buffer);
}

async function jsonOutput(source: Readable, stream: "stdout" | "stderr", io: CliIo): Promise<void> {
	const decoder = new TextDecoder();
	for await (const chunk of source) {
		const data = decoder.decode(chunk as Buffer, { stream: true });
		if (data !== "") await write(io.stdout, jsonDocument({ event: "output", stream, data }));
	}
}

/** What a shell would say of that end. */
export function exitCodeOf({ code, signal }: ExecExit, numberOf: (signal: string) => number | undefined): number {
	return code ?? 128 + ((signal === null ? undefined : numberOf(signal)) ?? 0);
}
