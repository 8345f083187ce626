/** Why there is no hardware engine on this host. */
export type HardwareUnavailableReason =
	/** Not Linux on x86-64. */
	| "platform"
	/** The optional dependency koffi is not installed or does not load. */
	| "koffi"
	/** No /dev/kvm. */
	| "device"
	/** /dev/kvm is there, but not for this user. */
	| "permission"
	/** The processor or another hypervisor has the device (EBUSY), or it answers with an error. */
	| "busy"
	/** Not API version 12. */
	| "api-version"
	/** A capability that the engine stands on is missing. */
	| "capability";

/** Thrown when the hardware engine cannot be opened; the message says what to do. */
export class HardwareUnavailableError extends Error {
	override readonly name = "HardwareUnavailableError";
	readonly code = "ERR_HARDWARE_UNAVAILABLE";
	readonly reason: HardwareUnavailableReason;

	constructor(reason: HardwareUnavailableReason, message: string, options?: ErrorOptions) {
		super(message, options);
		this.reason = reason;
	}
}
