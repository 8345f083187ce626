import type { TimeSource } from "../software/clock.ts";
import { SoftwareKvm } from "../software/kvm.ts";
import type { Kvm } from "./types.ts";

/** Options of {@link openKvm}. */
export interface OpenKvmOptions {
	/**
	 * `software` runs anywhere. The hardware engine needs Node and koffi and is opened by `@x/kvm-core/node`.
	 * @default "software"
	 */
	engine?: "software";
	/**
	 * Where the guest's time comes from: the host's clock, or the instructions it executes (the same guest then always
	 * sees the same time).
	 * @default the host's clock
	 */
	time?: TimeSource;
	/** Milliseconds since 1970, for the guest's wall clock. @default Date.now */
	wallClock?: () => number;
	/** 64 random bits, for RDRAND. @default the platform's generator */
	random?: () => bigint;
}

/** Opens /dev/kvm's software twin. */
export function openKvm(options: OpenKvmOptions = {}): Kvm {
	return new SoftwareKvm({
		time: options.time ?? { kind: "wall", now: () => performance.now() * 1e6 },
		wallClock: options.wallClock ?? (() => Date.now()),
		random: options.random ?? (() => crypto.getRandomValues(new BigUint64Array(1))[0]!),
	});
}
