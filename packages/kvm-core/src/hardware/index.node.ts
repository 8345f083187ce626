/**
 * The hardware engine: /dev/kvm from Node, through the optional package koffi.
 *
 * @packageDocumentation
 */
export { HardwareUnavailableError, type HardwareUnavailableReason } from "./errors.ts";
export { type GuestModes, probeGuestModes } from "./guest-modes.ts";
export { type Kicks, openKicks } from "./kicks.node.ts";
export { type HardwareOptions, openHardwareKvm } from "./kvm.node.ts";
