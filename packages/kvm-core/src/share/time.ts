const NANOSECONDS = 1_000_000_000n;

/** Whole seconds of a time in nanoseconds. */
export function secondsOf(time: bigint): bigint {
	return (time - modulo(time)) / NANOSECONDS;
}

/** What is left of it. */
export function nanosecondsOf(time: bigint): number {
	return Number(modulo(time));
}

/** Times before 1970 count their nanoseconds forward too. */
function modulo(time: bigint): bigint {
	return ((time % NANOSECONDS) + NANOSECONDS) % NANOSECONDS;
}

/** The time in nanoseconds of a guest's two fields. */
export function toTime(seconds: bigint, nanoseconds: number): bigint {
	return BigInt.asIntN(64, seconds) * NANOSECONDS + BigInt(nanoseconds % 1_000_000_000);
}
