import { type Kvm, openKvm } from "@x/kvm-core";
import { HardwareUnavailableError, openHardwareKvm, probeGuestModes } from "@x/kvm-core/node";
import { CliError, EXIT } from "../exit.ts";

/** What one engine can do here. */
export type EngineReport =
	| { readonly available: true; readonly guestModes: readonly string[] }
	| { readonly available: false; readonly reason: string; readonly guestModes: readonly string[] };

/** Both engines, and which one `--engine auto` takes. */
export interface EngineProbe {
	readonly engines: { readonly hardware: EngineReport; readonly software: EngineReport };
	readonly auto: "hardware" | "software" | null;
}

/** What `--engine` takes. */
export type EngineChoice = "auto" | "software" | "hardware";

const MODES = ["real", "protected", "paging", "long", "sse", "user", "syscall"] as const;
/** A KVM that runs kernel code slower than this emulates it; the software engine is faster. */
const LEAST_SPEED = 500e6;

function now(): number {
	return performance.now() * 1e6;
}

function firstLine(error: unknown): string {
	return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}

function probeSoftware(): EngineReport {
	try {
		const kvm = openKvm();
		try {
			kvm.createVm({ memoryBytes: 2 ** 21 }).close();
		} finally {
			kvm.close();
		}
		return { available: true, guestModes: MODES };
	} catch (error) {
		return { available: false, reason: firstLine(error), guestModes: [] };
	}
}

/** Whether the hardware runs any guest at full speed. */
async function probeHardware(): Promise<{ report: EngineReport; complete: boolean }> {
	let kvm: Kvm;
	try {
		kvm = await openHardwareKvm();
	} catch (error) {
		return { report: { available: false, reason: firstLine(error), guestModes: [] }, complete: false };
	}
	try {
		const modes = probeGuestModes(kvm, now);
		const guestModes = MODES.filter((mode) => modes[mode]);
		const complete = guestModes.length === MODES.length && modes.kernelInstructionsPerSecond >= LEAST_SPEED;
		return { report: { available: true, guestModes }, complete };
	} catch (error) {
		return { report: { available: false, reason: firstLine(error), guestModes: [] }, complete: false };
	} finally {
		kvm.close();
	}
}

/** Tries both engines. */
export async function probeEngines(): Promise<EngineProbe> {
	const software = probeSoftware();
	const { report: hardware, complete } = await probeHardware();
	const auto = complete ? "hardware" : software.available ? "software" : null;
	return { engines: { hardware, software }, auto };
}

/**
 * Opens the engine asked for.
 *
 * @throws CliError when the hardware is asked for and not to be had
 */
export async function openEngine(choice: EngineChoice): Promise<Kvm> {
	if (choice === "software" || (choice === "auto" && !(await probeHardware()).complete)) return openKvm();
	try {
		return await openHardwareKvm();
	} catch (error) {
		if (!(error instanceof HardwareUnavailableError)) throw error;
		const exitCode = error.reason === "permission" ? EXIT.permission : EXIT.notFound;
		throw new CliError(exitCode, error.code, `--engine hardware: ${firstLine(error)}`, { cause: error });
	}
}
