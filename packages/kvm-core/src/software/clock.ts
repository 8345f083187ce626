/**
 * Where a VM's time comes from: nanoseconds that never go back. In wall mode the host's clock; in virtual mode the
 * instructions executed, so that the same guest always sees the same time.
 */
export type TimeSource =
	| { readonly kind: "wall"; now(): number }
	| { readonly kind: "virtual"; readonly nanosecondsPerInstruction: number };

/** Rate of the guest's TSC: 1 GHz, so that it counts nanoseconds. */
export const TSC_KHZ = 1_000_000;
