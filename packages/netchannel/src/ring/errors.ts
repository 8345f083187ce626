/** Codes of {@link RingError}. */
export type RingErrorCode =
	| "ERR_RING_OPTION"
	| "ERR_RING_FORMAT"
	| "ERR_RING_VERSION"
	| "ERR_RING_CORRUPT"
	| "ERR_RING_CLOSED"
	| "ERR_RING_TOO_LONG"
	| "ERR_RING_MISUSE"
	| "ERR_RING_CANNOT_BLOCK";

/** Thrown by rings; nothing that was published before it is lost. */
export class RingError extends Error {
	override readonly name = "RingError";
	readonly code: RingErrorCode;

	constructor(code: RingErrorCode, message: string, options?: ErrorOptions) {
		super(message, options);
		this.code = code;
	}
}
