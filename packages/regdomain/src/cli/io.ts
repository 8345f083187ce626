/** What the command needs of the world; tests give their own. */
export interface Io {
	/** Version of this package. */
	version: string;
	/** Data. */
	stdout(data: string | Uint8Array): void;
	/** Narration. */
	stderr(text: string): void;
	/** Contents of a file; `-` is standard input. */
	read(path: string): Promise<Uint8Array>;
	/** Writes a file. */
	write(path: string, data: string | Uint8Array): Promise<void>;
	/** The path of a file that another file names. */
	resolve(path: string, from: string): string;
	/** Wraps text in a style where colours are wanted. */
	style(name: "bold" | "dim" | "green" | "red" | "yellow", text: string): string;
}

/** Exit codes, the same for every command. */
export const Exit = { OK: 0, FAILED: 1, USAGE: 2, NOT_FOUND: 3, PERMISSION: 4, IO: 5, INTERRUPTED: 130 } as const;

/** A mistake in the command line. */
export class UsageError extends Error {
	override readonly name = "UsageError";
}
