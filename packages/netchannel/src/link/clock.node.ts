const startedNs: bigint = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

/** Nanoseconds since 1970, in steps of the monotonic clock. */
export function wallClockNs(): bigint {
	return startedNs + process.hrtime.bigint();
}
