import {
	type GuestModes,
	HardwareUnavailableError,
	openHardwareKvm,
	probeGuestModes,
} from "../../src/hardware/index.node.ts";
import { type Kvm, openKvm } from "../../src/index.ts";

/** An engine to test, or why there is none. */
export interface Engine {
	name: "software" | "hardware";
	kvm?: Kvm;
	reason?: string;
	modes?: GuestModes;
}

/** The software engine, and the host's device where there is one. */
export async function engines(): Promise<Engine[]> {
	const software = openKvm();
	return [
		{ name: "software", kvm: software, modes: probeGuestModes(software, () => performance.now()) },
		await hardware(),
	];
}

export async function hardware(): Promise<Engine> {
	try {
		const kvm = await openHardwareKvm();
		return { name: "hardware", kvm, modes: probeGuestModes(kvm, () => performance.now()) };
	} catch (error) {
		if (error instanceof HardwareUnavailableError) return { name: "hardware", reason: error.message };
		throw error;
	}
}
