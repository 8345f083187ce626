/** What a {@link DebugError} is about. */
export type DebugErrorCode =
	/** The address has no translation, or no memory behind it. */
	| "ERR_DEBUG_ADDRESS"
	/** More points than the engine has places for, or a length it cannot watch. */
	| "ERR_DEBUG_POINT"
	/** The guest runs; stop it first. */
	| "ERR_DEBUG_RUNNING"
	/** There is no such vCPU. */
	| "ERR_DEBUG_VCPU"
	/** The engine's time is the host's, or nothing has been recorded. */
	| "ERR_DEBUG_HISTORY";

/** Thrown by the debugger. */
export class DebugError extends Error {
	override readonly name = "DebugError";
	readonly code: DebugErrorCode;
	readonly value: string;

	constructor(code: DebugErrorCode, message: string, value: bigint | number | string) {
		super(message);
		this.code = code;
		this.value = typeof value === "string" ? value : `0x${value.toString(16)}`;
	}
}
