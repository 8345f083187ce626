import { SandboxError } from "./errors.ts";
import type { GuestKernel } from "./system-calls.ts";
import { OPEN } from "./system-calls.ts";

/** _IOW('R', 3, int[2]) and _IO('R', 7), of <linux/random.h>. */
const RNDADDENTROPY = 0x4008_5203;
const RNDRESEEDCRNG = 0x5207;
const SEED_BYTES = 64;
const CLOCK_REALTIME = 0;

/**
 * Makes a guest that goes on from a kept start another than all others that do: new seed for all its random numbers, and
 * the time that it is now.
 *
 * @param random - fills an array with random bytes
 * @throws SandboxError ERR_SANDBOX_BOOT when its random numbers could be those of another guest
 */
export async function makeUnique(
	kernel: GuestKernel,
	random: (bytes: Uint8Array) => Uint8Array,
	epochMs: () => number,
): Promise<void> {
	const descriptor = await kernel.open("/dev/urandom", OPEN.RDWR);
	const pool = new Uint8Array(8 + SEED_BYTES);
	const view = new DataView(pool.buffer);
	view.setInt32(0, SEED_BYTES * 8, true);
	view.setInt32(4, SEED_BYTES, true);
	random(pool.subarray(8));
	const time = new DataView(new ArrayBuffer(16));
	const now = epochMs();
	time.setBigInt64(0, BigInt(Math.floor(now / 1000)), true);
	time.setBigInt64(8, BigInt(Math.floor((now % 1000) * 1e6)), true);
	// Sent at once and done in order.
	const [added, reseeded] = await Promise.all([
		kernel.attempt("ioctl", [descriptor, RNDADDENTROPY, pool]),
		kernel.attempt("ioctl", [descriptor, RNDRESEEDCRNG, 0]),
		kernel.attempt("clock_settime", [CLOCK_REALTIME, new Uint8Array(time.buffer)]),
		kernel.close(descriptor),
	]);
	if (added < 0 || reseeded < 0) {
		throw new SandboxError("ERR_SANDBOX_BOOT", "the guest's kernel took no new seed: start it with snapshot: false", {
			value: added < 0 ? added : reseeded,
		});
	}
}
