/** What went wrong, for programs. */
export type MachineErrorCode =
	| "ERR_MACHINE_MEMORY_SIZE"
	| "ERR_MACHINE_ADDRESS_IN_USE"
	| "ERR_MACHINE_OUT_OF_GUEST_MEMORY"
	| "ERR_MACHINE_TOO_MANY_DEVICES"
	| "ERR_MACHINE_OPTION"
	| "ERR_MACHINE_OVERLAY_FULL"
	| "ERR_MACHINE_CLOSED"
	| "ERR_MACHINE_STATE";

/** Thrown by the machine for what its embedder did wrong. What a guest does wrong never comes out of a device. */
export class MachineError extends Error {
	override readonly name = "MachineError";
	readonly code: MachineErrorCode;
	/** The offending value. */
	readonly value: unknown;

	constructor(code: MachineErrorCode, message: string, value?: unknown) {
		super(message);
		this.code = code;
		this.value = value;
	}
}
