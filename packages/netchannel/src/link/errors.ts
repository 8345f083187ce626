/** Codes of {@link LinkError}. */
export type LinkErrorCode =
	| "ERR_LINK_CLOSED"
	| "ERR_FRAME_TOO_LONG"
	/** Your own callback threw; the error is the `cause` and the link goes on. */
	| "ERR_LINK_CALLBACK"
	/** A link's address or option makes no sense. */
	| "ERR_LINK_OPTION"
	/** This host lacks what the link needs: the platform, koffi, a kernel feature. */
	| "ERR_LINK_UNSUPPORTED"
	/** The kernel says no; the message names the capability. */
	| "ERR_LINK_PERMISSION"
	/** No such interface, network namespace, socket or file. */
	| "ERR_LINK_NOT_FOUND"
	| "ERR_LINK_BUSY"
	/** The peer broke the framing. */
	| "ERR_LINK_PROTOCOL"
	| "ERR_LINK_IO";

/** Where a {@link LinkError} came from. */
export interface LinkErrorOptions extends ErrorOptions {
	/** The kernel's number, where a system call failed. */
	errno?: number | undefined;
	/** Its name, like `EPERM`. */
	errnoName?: string | undefined;
	/** The call that failed. */
	syscall?: string | undefined;
}

/** Thrown by links; `code` tells scripts what `message` tells people. */
export class LinkError extends Error {
	override readonly name = "LinkError";
	readonly code: LinkErrorCode;
	readonly errno: number | undefined;
	readonly errnoName: string | undefined;
	readonly syscall: string | undefined;

	constructor(code: LinkErrorCode, message: string, options: LinkErrorOptions = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.code = code;
		this.errno = options.errno;
		this.errnoName = options.errnoName;
		this.syscall = options.syscall;
	}
}
