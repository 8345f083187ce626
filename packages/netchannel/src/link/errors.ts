/** Codes of {@link LinkError}. */
export type LinkErrorCode = "ERR_LINK_CLOSED" | "ERR_FRAME_TOO_LONG";

/** Thrown by links; `code` tells scripts what `message` tells people. */
export class LinkError extends Error {
	override readonly name = "LinkError";
	readonly code: LinkErrorCode;

	constructor(code: LinkErrorCode, message: string, options?: ErrorOptions) {
		super(message, options);
		this.code = code;
	}
}
