/** Where a command reads and writes; a test gives its own. */
export interface CommandIo {
	readonly stdin: NodeJS.ReadableStream;
	readonly stdout: { write(text: string | Uint8Array): unknown };
	readonly stderr: { write(text: string): unknown };
	/** Asks the command to end. */
	readonly signal: AbortSignal;
}

/** The project's exit codes. */
export const EXIT = { ok: 0, failed: 1, usage: 2, notFound: 3, permission: 4, io: 5, interrupted: 130 } as const;

/** A wrong command line: one line that names the option and says what is expected. */
export class UsageError extends Error {
	override readonly name = "UsageError";
}
