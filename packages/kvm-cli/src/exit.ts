/** Exit codes scripts may rely on. */
export const EXIT = {
	ok: 0,
	failed: 1,
	usage: 2,
	/** Not found or unsupported. */
	notFound: 3,
	permission: 4,
	/** I/O or network. */
	io: 5,
	interrupted: 130,
	terminated: 143,
} as const;

/** Ends a command: one line for stderr and the exit code. */
export class CliError extends Error {
	override readonly name = "CliError";
	readonly exitCode: number;
	/** For `--json`. */
	readonly code: string;

	constructor(exitCode: number, code: string, message: string, options?: ErrorOptions) {
		super(message, options);
		this.exitCode = exitCode;
		this.code = code;
	}
}

/** Thrown when SIGINT or SIGTERM ended a command. */
export class Interrupted extends CliError {
	constructor(exitCode: number = EXIT.interrupted) {
		super(exitCode, "INTERRUPTED", exitCode === EXIT.terminated ? "terminated" : "interrupted");
	}
}

const SYSTEM_CODES: { readonly [code: string]: readonly [exitCode: number, meaning: string] } = {
	ENOENT: [EXIT.notFound, "no such file"],
	ENOTDIR: [EXIT.notFound, "not a directory"],
	EISDIR: [EXIT.usage, "is a directory"],
	EACCES: [EXIT.permission, "permission denied"],
	EPERM: [EXIT.permission, "permission denied"],
	EROFS: [EXIT.permission, "the file system is read-only"],
	ENOSPC: [EXIT.io, "no space left"],
	EDQUOT: [EXIT.io, "no quota left"],
};

function property(error: object, name: string): unknown {
	return name in error ? (error as Record<string, unknown>)[name] : undefined;
}

/** What any error means for the command's end. Nothing here ever shows a stack. */
export function toCliError(error: unknown): CliError {
	if (error instanceof CliError) return error;
	if (!(error instanceof Error)) return new CliError(EXIT.failed, "FAILED", String(error));
	const code = String(property(error, "code") ?? "FAILED");
	const message = error.message.split("\n")[0]!;
	if (error.name === "BootError" || error.name === "MachineError") {
		return new CliError(code.includes("UNSUPPORTED") ? EXIT.notFound : EXIT.failed, code, message, { cause: error });
	}
	if (typeof property(error, "syscall") === "string" && error.name !== "KvmError") {
		const [exitCode, meaning] = SYSTEM_CODES[code] ?? [EXIT.io, message];
		const path = property(error, "path");
		return new CliError(exitCode, code, typeof path === "string" ? `${path}: ${meaning}` : meaning, { cause: error });
	}
	return new CliError(EXIT.failed, code, message, { cause: error });
}
