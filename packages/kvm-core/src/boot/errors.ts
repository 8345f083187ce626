/** What can be wrong with a kernel, an initrd or a firmware image. */
export type BootErrorCode =
	/** None of the formats this package boots. */
	| "NOT_A_KERNEL"
	/** The file ends before its own header says it does. */
	| "TRUNCATED"
	/** A header contradicts itself. */
	| "MALFORMED"
	/** Right format, but a kind of it that cannot be booted here. */
	| "UNSUPPORTED"
	/** The compressed payload does not decompress. */
	| "BAD_PAYLOAD"
	/** The kernel needs memory that the guest does not have. */
	| "KERNEL_DOES_NOT_FIT"
	/** No place is left for the initrd. */
	| "INITRD_DOES_NOT_FIT"
	| "COMMAND_LINE_TOO_LONG"
	| "NOT_FIRMWARE";

/** Thrown by everything in the boot protocols. The message is one line and says what is expected. */
export class BootError extends Error {
	override readonly name = "BootError";
	readonly code: BootErrorCode;
	/** The offending number or text, when there is one. */
	readonly value: number | string | undefined;

	constructor(code: BootErrorCode, message: string, value?: number | string, options?: ErrorOptions) {
		super(message, options);
		this.code = code;
		this.value = value;
	}
}
