import { type Kvm, openKvm } from "@x/kvm-core";
import { GUEST_MODES, HardwareUnavailableError, inspectHardware, openHardwareKvm, suits } from "@x/kvm-core/node";
import { CliError, EXIT } from "../exit.ts";

/** What one engine can do here. */
export type EngineReport =
	| { readonly available: true; readonly guestModes: readonly string[]; readonly detail: string }
	| { readonly available: false; readonly reason: string; readonly guestModes: readonly string[] };

/** Both engines, and which one `--engine auto` takes. */
export interface EngineProbe {
	readonly engines: { readonly hardware: EngineReport; readonly software: EngineReport };
	readonly auto: "hardware" | "software" | null;
}

/** What `--engine` takes. */
export type EngineChoice = "auto" | "software" | "hardware";

/** What `--fallback` takes: whether the software engine executes what the hardware gives up on. */
export type FallbackChoice = "none" | "emulate";

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
		return { available: true, guestModes: GUEST_MODES, detail: "runs every kind of guest" };
	} catch (error) {
		return { available: false, reason: firstLine(error), guestModes: [] };
	}
}

/** The hardware's report, and whether it runs any guest at full speed. */
async function probeHardware(): Promise<{ report: EngineReport; complete: boolean }> {
	const found = await inspectHardware();
	if (!found.available) {
		return { report: { available: false, reason: found.sentence, guestModes: [] }, complete: false };
	}
	const { modes, sentence } = found;
	const guestModes = GUEST_MODES.filter((mode) => modes[mode]);
	return { report: { available: true, guestModes, detail: sentence }, complete: suits(modes) };
}

/** Tries both engines. */
export async function probeEngines(): Promise<EngineProbe> {
	const software = probeSoftware();
	const { report: hardware, complete } = await probeHardware();
	const auto = complete ? "hardware" : software.available ? "software" : null;
	return { engines: { hardware, software }, auto };
}

/** What {@link openEngine} takes besides the choice. */
export interface EngineOptions {
	/** @default "none" */
	readonly fallback?: FallbackChoice;
	/** Processors that the guest is to have. @default 1 */
	readonly cpus?: number;
	/** The clock of the software engine's guests, in nanoseconds; the hardware has its own. */
	readonly now?: (() => number) | undefined;
}

/**
 * Opens the engine asked for.
 *
 * @throws CliError when the hardware is asked for and not to be had
 */
export async function openEngine(choice: EngineChoice, options: EngineOptions = {}): Promise<Kvm> {
	const { fallback = "none", cpus = 1, now } = options;
	if (choice === "hardware" && cpus > 1) {
		// A halted vCPU keeps the thread inside KVM_RUN, where the others have to wait for it.
		throw new CliError(
			EXIT.notFound,
			"UNSUPPORTED",
			`--engine hardware: one thread runs one processor, and ${cpus} were asked for: take --engine software`,
		);
	}
	if (choice === "software" || cpus > 1 || (choice === "auto" && !(await probeHardware()).complete)) {
		return openKvm(now && { time: { kind: "wall", now } });
	}
	try {
		return await openHardwareKvm({ fallback });
	} catch (error) {
		if (!(error instanceof HardwareUnavailableError)) throw error;
		const exitCode = error.reason === "permission" ? EXIT.permission : EXIT.notFound;
		throw new CliError(exitCode, error.code, `--engine hardware: ${firstLine(error)}`, { cause: error });
	}
}
