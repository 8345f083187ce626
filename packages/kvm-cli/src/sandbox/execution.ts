import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { AgentClient, AgentProcess, ProcessListener, SpawnFailure } from "../agent/client.ts";
import type { SpawnRequest } from "../agent/protocol.ts";
import { errnoMeaning, SandboxError } from "./errors.ts";
import { signalName, signalNumber } from "./signals.ts";

/** Options of {@link Sandbox.exec}. */
export interface ExecOptions {
	/**
	 * What the command reads: bytes, a text, anything that yields bytes, or `"pipe"` for writing to
	 * {@link Execution.stdin} yourself.
	 * @default nothing: it reads end of file
	 */
	stdin?: string | Uint8Array | AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string>;
	/** Folder it starts in. @default "/root" */
	cwd?: string;
	/** Added to the sandbox's environment. */
	env?: Readonly<Record<string, string>>;
	/** A name of the guest's /etc/passwd, a number, or user and group numbers. @default root */
	user?: string | number | { readonly uid: number; readonly gid: number };
	/** Gives it a terminal: standard error comes with standard output then. @default false */
	tty?: boolean | { readonly rows: number; readonly columns: number };
	/** Milliseconds after which it and its process group are killed. @default no limit */
	timeoutMs?: number;
	/** Kills it when aborted. */
	signal?: AbortSignal;
}

/** How a command ended: one of the two is null. */
export interface ExecExit {
	readonly code: number | null;
	/** E.g. "SIGKILL". */
	readonly signal: string | null;
}

/** All that a command said. */
export interface ExecOutput extends ExecExit {
	readonly stdout: Buffer;
	readonly stderr: Buffer;
}

/** Bytes of an output that may be on their way or unread. */
const CREDIT = 131_072;
/** Bytes that are read before the guest is told so. */
const GRANT_AT = 32_768;
const ENOENT = 2;
const ENOEXEC = 8;
const ENOTDIR = 20;
const SIGKILL = 9;

/** One output of a process; the guest's process waits while nobody reads. */
class Output extends Readable {
	readonly #grant: (bytes: number) => void;
	#unread = 0;
	#full = false;

	constructor(grant: (bytes: number) => void) {
		super({ highWaterMark: CREDIT / 2 });
		this.#grant = grant;
	}

	arrive(bytes: Uint8Array): void {
		this.#unread += bytes.length;
		if (!this.push(Buffer.from(bytes))) this.#full = true;
		else if (this.#unread >= GRANT_AT) this.#allow();
	}

	override _read(): void {
		this.#full = false;
		if (this.#unread > 0) this.#allow();
	}

	#allow(): void {
		if (this.#full) return;
		const bytes = this.#unread;
		this.#unread = 0;
		this.#grant(bytes);
	}
}

/** What makes one command from {@link ExecOptions}, ready to be sent. */
export interface PreparedCommand {
	readonly request: Omit<SpawnRequest, "credit">;
	/** For messages. */
	readonly name: string;
}

/** A command in a guest. */
export class Execution {
	/** Where its input goes, with {@link ExecOptions.stdin} "pipe". */
	readonly stdin: Writable;
	readonly stdout: Readable;
	/** Empty with a terminal. */
	readonly stderr: Readable;
	/**
	 * How it ended. Its output has to be read, or it may wait forever for that.
	 *
	 * @throws SandboxError when it could not be started, took too long, or the sandbox ended before it
	 */
	readonly exit: Promise<ExecExit>;
	readonly #outputs: readonly [Output, Output];
	readonly #settle: { resolve(exit: ExecExit): void; reject(error: Error): void };
	#process: AgentProcess | undefined;
	#pending: { readonly bytes: Uint8Array; readonly done: () => void } | undefined;
	#endWanted = false;
	#signals: number[] = [];
	#size: readonly [rows: number, columns: number] | undefined;
	#over = false;
	#reason: SandboxError | undefined;

	constructor() {
		this.#outputs = [new Output((bytes) => this.#grant(1, bytes)), new Output((bytes) => this.#grant(2, bytes))];
		[this.stdout, this.stderr] = this.#outputs;
		this.stdin = new Writable({
			decodeStrings: true,
			write: (bytes: Uint8Array, _encoding, done) => {
				this.#pending = { bytes, done: () => done() };
				this.#feed();
			},
			final: (done) => {
				this.#endWanted = true;
				this.#process?.endInput();
				done();
			},
			destroy: (_error, done) => {
				this.#endWanted = true;
				this.#process?.endInput();
				done(null);
			},
		});
		let settle: { resolve(exit: ExecExit): void; reject(error: Error): void } | undefined;
		this.exit = new Promise((resolve, reject) => {
			settle = { resolve, reject };
		});
		this.#settle = settle!;
		// Whoever only reads the output need not handle this one.
		this.exit.catch(() => {});
	}

	/**
	 * Starts it; for the sandbox.
	 *
	 * @param prepare - what is only known once the guest is up
	 */
	async start(client: AgentClient, prepare: () => Promise<PreparedCommand>, options: ExecOptions): Promise<void> {
		const { timeoutMs, signal, stdin } = options;
		const timer =
			timeoutMs === undefined
				? undefined
				: setTimeout(() => {
						this.#abandon(new SandboxError("ERR_EXEC_TIMEOUT", `the command ran longer than ${timeoutMs} ms`));
					}, timeoutMs);
		const abort = (): void =>
			this.#abandon(new SandboxError("ERR_EXEC_ABORTED", "the command was aborted", { cause: signal?.reason }));
		signal?.addEventListener("abort", abort, { once: true });
		const clear = (): void => {
			clearTimeout(timer);
			signal?.removeEventListener("abort", abort);
		};
		this.exit.then(clear, clear);
		if (stdin === undefined) this.stdin.end();
		else if (stdin !== "pipe") this.#read(stdin);
		try {
			if (signal?.aborted) abort();
			const command = await prepare();
			await this.#spawn(client, command, true);
		} catch (error) {
			this.#fail(error as Error);
		}
	}

	/**
	 * Sends a signal to its process group.
	 *
	 * @param signal - a name or a number @default "SIGTERM"
	 * @throws SandboxError ERR_SANDBOX_OPTION for a signal Linux does not have
	 */
	kill(signal: string | number = "SIGTERM"): void {
		const number = signalNumber(signal);
		if (number === undefined) {
			throw new SandboxError("ERR_SANDBOX_OPTION", `signal ${signal}: expected a name such as SIGTERM`, {
				value: signal,
			});
		}
		this.#kill(number);
	}

	/** Changes its terminal's size. */
	resize(size: { readonly rows: number; readonly columns: number }): void {
		this.#size = [size.rows, size.columns];
		this.#process?.resize(size.rows, size.columns);
	}

	/**
	 * Reads all it says.
	 *
	 * @throws SandboxError as {@link exit}
	 */
	async output(): Promise<ExecOutput> {
		const [stdout, stderr, exit] = await Promise.all([collect(this.stdout), collect(this.stderr), this.exit]);
		return { ...exit, stdout, stderr };
	}

	async #spawn(client: AgentClient, command: PreparedCommand, mayBeScript: boolean): Promise<void> {
		if (this.#over) return;
		const { request } = command;
		const listener: ProcessListener = {
			onOutput: (stream, bytes) => this.#outputs[stream - 1]!.arrive(bytes),
			onOutputEnd: (stream) => {
				this.#outputs[stream - 1]!.push(null);
			},
			onInputRoom: () => this.#feed(),
			onExit: (status) => this.#onExit(status),
			onFailure: (failure) => {
				this.#process = undefined;
				if (mayBeScript && failure.at === "program" && failure.errno === ENOEXEC) {
					// A script without an interpreter's line, which a shell takes for its own.
					const argv = ["/bin/sh", "-c", `exec "$0" "$@"`, ...request.argv];
					const asScript = { ...command, request: { ...request, candidates: ["/bin/sh"], argv } };
					this.#spawn(client, asScript, false).catch((error: Error) => this.#fail(error));
				} else this.#fail(spawnError(failure, command));
			},
			onLost: (error) => this.#fail(error),
		};
		const process = await client.spawn({ ...request, credit: CREDIT }, listener);
		if (this.#over) return;
		this.#process = process;
		if (this.#size !== undefined) process.resize(...this.#size);
		for (const signal of this.#signals.splice(0)) process.signal(signal);
		this.#feed();
		if (this.#endWanted) process.endInput();
	}

	#read(source: Exclude<ExecOptions["stdin"], undefined>): void {
		if (typeof source === "string" || source instanceof Uint8Array) this.stdin.end(source);
		// A command that does not read to the end is no error, and a source that fails is the end of it.
		else pipeline(Readable.from(source), this.stdin).catch(() => this.stdin.destroy());
	}

	#feed(): void {
		const pending = this.#pending;
		if (pending === undefined || (this.#process === undefined && !this.#over)) return;
		const taken = this.#over ? pending.bytes.length : this.#process!.input(pending.bytes);
		if (taken < pending.bytes.length) this.#pending = { ...pending, bytes: pending.bytes.subarray(taken) };
		else {
			this.#pending = undefined;
			pending.done();
		}
	}

	#grant(stream: 1 | 2, bytes: number): void {
		this.#process?.grant(stream, bytes);
	}

	#kill(signal: number): void {
		if (this.#process !== undefined) this.#process.signal(signal);
		else this.#signals.push(signal);
	}

	/** Kills it; its end is this error then. */
	#abandon(reason: SandboxError): void {
		this.#reason ??= reason;
		if (this.#process === undefined) this.#fail(reason);
		else this.#kill(SIGKILL);
		// What it wrote is not waited for.
		for (const output of this.#outputs) output.resume();
	}

	#onExit(status: number): void {
		this.#process?.release();
		const signal = status & 0x7f;
		if (this.#reason !== undefined) this.#fail(this.#reason);
		else {
			this.#settle.resolve(
				signal === 0 ? { code: (status >> 8) & 0xff, signal: null } : { code: null, signal: signalName(signal) },
			);
			this.#finish();
		}
	}

	#fail(error: Error): void {
		this.#settle.reject(error);
		this.#finish();
	}

	#finish(): void {
		if (this.#over) return;
		this.#over = true;
		for (const output of this.#outputs) if (!output.readableEnded) output.push(null);
		this.#feed();
	}
}

function spawnError({ errno, at }: SpawnFailure, { name, request }: PreparedCommand): SandboxError {
	if (at === "program") {
		if (errno === ENOENT || errno === ENOTDIR) {
			return new SandboxError("ERR_EXEC_NOT_FOUND", `${name}: not found in the guest`, { value: name });
		}
		return new SandboxError("ERR_EXEC_NOT_EXECUTABLE", `${name}: ${errnoMeaning(errno)} in the guest`, { value: name });
	}
	const what = at === "directory" ? `folder ${request.directory}` : at === "user" ? `user ${request.uid}` : name;
	return new SandboxError("ERR_EXEC_FAILED", `${what}: ${errnoMeaning(errno)} in the guest`, { value: what });
}

async function collect(stream: Readable): Promise<Buffer> {
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}
