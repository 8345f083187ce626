/** Where a command reads and writes; tests give their own. */
export interface CommandIo {
	/** Data, with no end of line added. False when the reader is slow or gone. */
	out(text: string): void;
	/** Narration, one line. */
	err(line: string): void;
	/** Ends a command that would go on for ever. */
	readonly signal: AbortSignal;
}

/** A command's wrong use: told in one line, exit code 2. */
export class UsageError extends Error {
	override readonly name = "UsageError";
}

/** Exit codes of the command-line contract. */
export const EXIT = { ok: 0, failed: 1, usage: 2, notFound: 3, permission: 4, io: 5, interrupted: 130 } as const;

/** The exit code that stands for an error. */
export function exitCodeOf(error: unknown): number {
	const { code, name } = error as { code?: string; name?: string };
	if (
		error instanceof UsageError ||
		code === "ERR_LINK_OPTION" ||
		code === "ERR_FILTER_SYNTAX" ||
		code?.startsWith("ERR_PARSE_ARGS_")
	)
		return EXIT.usage;
	if (code === "ERR_LINK_NOT_FOUND" || code === "ERR_LINK_UNSUPPORTED") return EXIT.notFound;
	if (code === "ERR_LINK_PERMISSION") return EXIT.permission;
	if (code?.startsWith("ERR_LINK_")) return EXIT.io;
	if (name === "AbortError") return EXIT.interrupted;
	return EXIT.failed;
}
