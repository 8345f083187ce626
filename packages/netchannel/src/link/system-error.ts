import { LinkError, type LinkErrorCode } from "./errors.ts";

const CODES: Record<string, LinkErrorCode> = {
	EPERM: "ERR_LINK_PERMISSION",
	EACCES: "ERR_LINK_PERMISSION",
	ENOENT: "ERR_LINK_NOT_FOUND",
	ENODEV: "ERR_LINK_NOT_FOUND",
	ENXIO: "ERR_LINK_NOT_FOUND",
	ENOTFOUND: "ERR_LINK_NOT_FOUND",
	EBUSY: "ERR_LINK_BUSY",
	EADDRINUSE: "ERR_LINK_BUSY",
	ENOSYS: "ERR_LINK_UNSUPPORTED",
	EOPNOTSUPP: "ERR_LINK_UNSUPPORTED",
	EAFNOSUPPORT: "ERR_LINK_UNSUPPORTED",
	EPROTONOSUPPORT: "ERR_LINK_UNSUPPORTED",
};

/** The link code for a failed system call, by errno name. */
export function codeForErrno(errnoName: string | undefined): LinkErrorCode {
	return CODES[errnoName ?? ""] ?? "ERR_LINK_IO";
}

/** Node's own system error as a LinkError that says what was attempted and keeps the errno. */
export function fromSystemError(error: unknown, attempted: string): LinkError {
	if (error instanceof LinkError) return error;
	const { code, errno, syscall, message } = error as {
		code?: string;
		errno?: number;
		syscall?: string;
		message?: string;
	};
	return new LinkError(codeForErrno(code), `${attempted}: ${message ?? String(error)}`, {
		cause: error,
		errno: errno === undefined ? undefined : Math.abs(errno),
		errnoName: code,
		syscall,
	});
}
