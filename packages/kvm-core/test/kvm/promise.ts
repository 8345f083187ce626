import type { GuestModes } from "../../src/hardware/index.node.ts";
import { KvmError } from "../../src/kvm/errors.ts";
import type { Kvm } from "../../src/kvm/types.ts";

/** What /dev/kvm's objects promise, engine by engine the same. */
export interface Promise12 {
	name: string;
	/** A guest mode without which there is nothing to check: some devices (kvm-pvm) have no 32-bit paging, for one. */
	needs?: Exclude<keyof GuestModes, "kernelInstructionsPerSecond">;
	check(kvm: Kvm): void | Promise<void>;
}

/** errno of what `action` throws. */
export function errno(action: () => unknown): string {
	try {
		action();
	} catch (error) {
		if (error instanceof KvmError) return error.code;
		throw error;
	}
	return "no error";
}
