/** Codes of {@link CaptureError}. */
export type CaptureErrorCode =
	| "ERR_CAPTURE_FORMAT"
	| "ERR_CAPTURE_VERSION"
	| "ERR_CAPTURE_CORRUPT"
	| "ERR_CAPTURE_TRUNCATED";

/** Thrown for a capture that cannot be read on; everything before `offset` was delivered. */
export class CaptureError extends Error {
	override readonly name = "CaptureError";
	readonly code: CaptureErrorCode;
	/** Byte of the file where it went wrong. */
	readonly offset: number;

	constructor(code: CaptureErrorCode, offset: number, message: string) {
		super(`byte ${offset}: ${message}`);
		this.code = code;
		this.offset = offset;
	}
}
