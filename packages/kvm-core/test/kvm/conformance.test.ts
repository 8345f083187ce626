import { describe, test } from "vitest";
import { HardwareUnavailableError, openHardwareKvm } from "../../src/hardware/index.node.ts";
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
const reason = "reason" in opened ? `: ${opened.reason}` : "";

describe.skipIf("reason" in opened)(`the hardware engine keeps API 12${reason}`, () => {
	for (const { name, check } of conformance) test(name, () => check(opened as Kvm));
});
