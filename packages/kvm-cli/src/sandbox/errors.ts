/** What can go wrong with a sandbox, for programs to tell apart. */
export type SandboxErrorCode =
	/** The guest did not get as far as answering. */
	| "ERR_SANDBOX_BOOT"
	/** It ended by itself: powered off, crashed, or its kernel panicked. */
	| "ERR_SANDBOX_GUEST"
	/** The guest's agent said what no agent says. */
	| "ERR_SANDBOX_PROTOCOL"
	/** `close` was called. */
	| "ERR_SANDBOX_CLOSED"
	/** `timeoutMs` is over. */
	| "ERR_SANDBOX_TIMEOUT"
	/** The signal was aborted. */
	| "ERR_SANDBOX_ABORTED"
	/** An option that makes no sense here. */
	| "ERR_SANDBOX_OPTION"
	/** The guest has more of something than was to be taken. */
	| "ERR_SANDBOX_LIMIT"
	/** No such program (a shell's 127). */
	| "ERR_EXEC_NOT_FOUND"
	/** There is such a file, and it cannot be executed (a shell's 126). */
	| "ERR_EXEC_NOT_EXECUTABLE"
	/** No such user, no such folder, or no room for another process. */
	| "ERR_EXEC_FAILED"
	/** The command ran longer than its `timeoutMs`. */
	| "ERR_EXEC_TIMEOUT"
	/** The command's signal was aborted. */
	| "ERR_EXEC_ABORTED"
	/** The gateway could not be started, or a port not be published. */
	| "ERR_SANDBOX_NETWORK"
	/** The sandbox was made without a gateway. */
	| "ERR_SANDBOX_NO_NETWORK";

/** Options of {@link SandboxError}. */
export interface SandboxErrorOptions extends ErrorOptions {
	/** What it is about: an option, a path, a command's first word. */
	value?: unknown;
}

/** An error of a sandbox or of a command in it. */
export class SandboxError extends Error {
	override readonly name = "SandboxError";
	readonly code: SandboxErrorCode;
	/** What it is about: an option, a path, a command's first word. */
	readonly value: unknown;

	constructor(code: SandboxErrorCode, message: string, options: SandboxErrorOptions = {}) {
		super(message, options);
		this.code = code;
		this.value = options.value;
	}
}

/** Linux's error numbers by name, of those a file operation in a guest gives (asm-generic/errno.h). */
const NAMES: { readonly [errno: number]: readonly [name: string, meaning: string] } = {
	1: ["EPERM", "operation not permitted"],
	2: ["ENOENT", "no such file or directory"],
	5: ["EIO", "i/o error"],
	6: ["ENXIO", "no such device or address"],
	7: ["E2BIG", "argument list too long"],
	8: ["ENOEXEC", "exec format error"],
	9: ["EBADF", "bad file descriptor"],
	11: ["EAGAIN", "resource temporarily unavailable"],
	12: ["ENOMEM", "not enough memory"],
	13: ["EACCES", "permission denied"],
	16: ["EBUSY", "resource busy or locked"],
	17: ["EEXIST", "file already exists"],
	18: ["EXDEV", "cross-device link not permitted"],
	19: ["ENODEV", "no such device"],
	20: ["ENOTDIR", "not a directory"],
	21: ["EISDIR", "illegal operation on a directory"],
	22: ["EINVAL", "invalid argument"],
	23: ["ENFILE", "file table overflow"],
	24: ["EMFILE", "too many open files"],
	26: ["ETXTBSY", "text file is busy"],
	27: ["EFBIG", "file too large"],
	28: ["ENOSPC", "no space left on device"],
	30: ["EROFS", "read-only file system"],
	31: ["EMLINK", "too many links"],
	36: ["ENAMETOOLONG", "name too long"],
	38: ["ENOSYS", "function not implemented"],
	39: ["ENOTEMPTY", "directory not empty"],
	40: ["ELOOP", "too many symbolic links encountered"],
	95: ["EOPNOTSUPP", "operation not supported"],
	122: ["EDQUOT", "disk quota exceeded"],
};

/** A Linux error number's name, e.g. "ENOENT". */
export function errnoName(errno: number): string {
	return NAMES[errno]?.[0] ?? `E${errno}`;
}

/** What it means, in words. */
export function errnoMeaning(errno: number): string {
	return NAMES[errno]?.[1] ?? `error ${errno}`;
}

/** A system call in the guest that failed, in the shape of node:fs's errors. */
export class GuestSystemError extends Error {
	override readonly name = "GuestSystemError";
	/** E.g. "ENOENT". */
	readonly code: string;
	/** Negative, as in node:fs. */
	readonly errno: number;
	readonly syscall: string;
	readonly path: string | undefined;

	constructor(errno: number, syscall: string, path?: string) {
		super(
			`${errnoName(errno)}: ${errnoMeaning(errno)}, ${syscall}${path === undefined ? "" : ` '${path}'`} in the guest`,
		);
		this.code = errnoName(errno);
		this.errno = -errno;
		this.syscall = syscall;
		this.path = path;
	}
}
