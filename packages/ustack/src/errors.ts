/** Codes of {@link StackError}: errno names where node:net has one, `ERR_*` for misuse of this package's own API. */
export type StackErrorCode =
	| "EACCES"
	| "EADDRINUSE"
	| "EADDRNOTAVAIL"
	| "EAFNOSUPPORT"
	| "EALREADY"
	| "ECONNABORTED"
	| "ECONNREFUSED"
	| "ECONNRESET"
	| "EDESTADDRREQ"
	| "EHOSTUNREACH"
	| "EINVAL"
	| "EISCONN"
	| "EMSGSIZE"
	| "ENETUNREACH"
	| "ENOBUFS"
	| "ENOPROTOOPT"
	| "ENOTCONN"
	| "EPIPE"
	| "ETIMEDOUT"
	| "ENOTFOUND"
	| "EAI_AGAIN"
	| "ERR_BAD_ADDRESS"
	| "ERR_BAD_OPTION"
	| "ERR_BAD_RULE"
	| "ERR_BAD_SCRIPT"
	| "ERR_BAD_STATE";

/** Thrown or delivered by the stack; `code` tells scripts what `message` tells people. */
export class StackError extends Error {
	override readonly name = "StackError";
	readonly code: StackErrorCode;
	/** What was being done: `connect`, `bind`, `send`, as node's errors have it. */
	readonly syscall: string | undefined;
	/** The address involved, in text. */
	address?: string;
	/** The port involved. */
	port?: number;

	constructor(code: StackErrorCode, message: string, syscall?: string, options?: ErrorOptions) {
		super(message, options);
		this.code = code;
		this.syscall = syscall;
	}
}

/** Builds the error node:net would give: `connect ECONNREFUSED 10.0.0.2:80`. */
export function socketError(code: StackErrorCode, syscall: string, address?: string, port?: number): StackError {
	const where =
		address === undefined
			? ""
			: ` ${address.includes(":") ? `[${address}]` : address}${port === undefined ? "" : `:${port}`}`;
	const error = new StackError(code, `${syscall} ${code}${where}`, syscall);
	if (address !== undefined) error.address = address;
	if (port !== undefined) error.port = port;
	return error;
}
