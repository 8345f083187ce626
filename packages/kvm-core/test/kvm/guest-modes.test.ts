import { expect, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm, probeGuestModes } from "../../src/hardware/index.node.ts";

test("the device's guest modes are found out", async (context) => {
	const kvm = await openHardwareKvm().catch((error: unknown) => {
		if (error instanceof HardwareUnavailableError) return context.skip(error.message);
		throw error;
	});
	const modes = probeGuestModes(kvm, () => performance.now());
	// Every KVM there is runs these, natively or by emulation.
	expect(modes).toMatchObject({ real: true, protected: true, long: true });
	expect(modes.kernelInstructionsPerSecond).toBeGreaterThan(0);
	kvm.close();
});
