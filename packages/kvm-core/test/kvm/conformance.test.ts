import { describe, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm, probeGuestModes } from "../../src/hardware/index.node.ts";
import type { Kvm } from "../../src/kvm/types.ts";
import { conformance } from "./conformance.ts";

async function hardware(): Promise<Kvm | { reason: string }> {
	try {
		return await openHardwareKvm();
	} catch (error) {
		if (error instanceof HardwareUnavailableError) return { reason: error.message };
		throw error;
	}
}

const opened = await hardware();
const modes = "reason" in opened ? undefined : probeGuestModes(opened, () => performance.now());
const reason = "reason" in opened ? `: ${opened.reason}` : "";

describe.skipIf(modes === undefined)(`the hardware engine keeps API 12${reason}`, () => {
	for (const { name, needs, check } of conformance) {
		const lacks = needs !== undefined && modes?.[needs] === false;
		test.skipIf(lacks)(lacks ? `${name} (this host's KVM cannot run guests with ${needs})` : name, () =>
			check(opened as Kvm),
		);
	}
});
