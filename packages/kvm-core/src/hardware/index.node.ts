/**
 * The hardware engine: /dev/kvm from Node, through the optional package koffi.
 *
 * @packageDocumentation
 */
export {
	type AutoOptions,
	describeModes,
	GUEST_MODES,
	type GuestMode,
	type GuestNeeds,
	type HardwareReport,
	inspectHardware,
	openAutoKvm,
	suits,
} from "./auto.node.ts";
export { HardwareUnavailableError, type HardwareUnavailableReason } from "./errors.ts";
export { type GuestModes, probeGuestModes } from "./guest-modes.ts";
export { type Kicks, openKicks } from "./kicks.node.ts";
export { type HardwareOptions, openHardwareKvm } from "./kvm.node.ts";
