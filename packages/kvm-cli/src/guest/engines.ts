import { openKvm } from "@x/kvm-core";

/** What one engine can do here. */
export type EngineReport =
	| { readonly available: true; readonly guestModes: readonly string[] }
	| { readonly available: false; readonly reason: string; readonly guestModes: readonly string[] };

/** Both engines, and which one `--engine auto` takes. */
export interface EngineProbe {
	readonly engines: { readonly hardware: EngineReport; readonly software: EngineReport };
	readonly auto: "hardware" | "software" | null;
}

const SOFTWARE_MODES = ["real", "protected", "paged", "long"];

function probeSoftware(): EngineReport {
	try {
		const kvm = openKvm();
		try {
			kvm.createVm({ memoryBytes: 2 ** 21 }).close();
		} finally {
			kvm.close();
		}
		return { available: true, guestModes: SOFTWARE_MODES };
	} catch (error) {
		return { available: false, reason: (error as Error).message.split("\n")[0]!, guestModes: [] };
	}
}

/** Tries the engines. */
export async function probeEngines(): Promise<EngineProbe> {
	const software = probeSoftware();
	const hardware: EngineReport = {
		available: false,
		reason: "this version runs guests on the software engine only",
		guestModes: [],
	};
	return { engines: { hardware, software }, auto: software.available ? "software" : null };
}
