import { type OpenKvmOptions, openKvm } from "../kvm/open-kvm.ts";
import type { Kvm } from "../kvm/types.ts";
import { HardwareUnavailableError, type HardwareUnavailableReason } from "./errors.ts";
import { type GuestModes, probeGuestModes } from "./guest-modes.ts";
import { type KvmHost, thisHost } from "./host.node.ts";
import { type HardwareOptions, openOn } from "./kvm.node.ts";

/** A kind of guest code: see {@link GuestModes}. */
export type GuestMode = Exclude<keyof GuestModes, "kernelInstructionsPerSecond">;

/** Every kind. */
export const GUEST_MODES: readonly GuestMode[] = ["real", "protected", "paging", "long", "sse", "user", "syscall"];

/** Below this many instructions a second a KVM emulates kernel code, and the software engine is faster. */
export const NATIVE_SPEED = 500e6;

/** What a guest asks of the engine that runs it. */
export interface GuestNeeds {
	/** The kinds of code it runs. @default all: a kernel's */
	modes?: readonly GuestMode[];
	/**
	 * Whether most of its time goes by outside CPL 3, so that a KVM that only emulates there is no gain.
	 * @default true unless `modes` are no more than `long` and `user`
	 */
	kernelSpeed?: boolean;
}

/** What the hardware engine is good for on this host. */
export type HardwareReport =
	| { readonly available: true; readonly modes: GuestModes; readonly sentence: string }
	| { readonly available: false; readonly reason: HardwareUnavailableReason; readonly sentence: string };

/** Options of {@link openAutoKvm}. */
export interface AutoOptions extends HardwareOptions, GuestNeeds {
	/** Of the software engine, where it is the one. */
	software?: OpenKvmOptions;
}

const reports = new Map<string, Promise<HardwareReport>>();

/** Finds out once per process what the host's KVM can run, with tiny guests; about 20 ms. */
export function inspectHardware(options: HardwareOptions = {}, host: KvmHost = thisHost): Promise<HardwareReport> {
	if (host !== thisHost) return inspect(options, host);
	const key = options.path ?? "";
	let report = reports.get(key);
	if (report === undefined) reports.set(key, (report = inspect(options, host)));
	return report;
}

async function inspect(options: HardwareOptions, host: KvmHost): Promise<HardwareReport> {
	let kvm: Kvm;
	try {
		kvm = await openOn(host, options);
	} catch (error) {
		if (!(error instanceof HardwareUnavailableError)) throw error;
		return { available: false, reason: error.reason, sentence: error.message };
	}
	try {
		const modes = probeGuestModes(kvm, () => performance.now() * 1e6);
		return { available: true, modes, sentence: describeModes(modes) };
	} finally {
		kvm.close();
	}
}

const WORDS: Readonly<Record<GuestMode, string>> = {
	real: "real mode",
	protected: "32-bit protected mode",
	paging: "32-bit paging",
	long: "64-bit mode",
	sse: "SSE in kernels",
	user: "64-bit user code",
	syscall: "SYSCALL",
};

/** What a KVM with these modes can and cannot do, in a sentence. */
export function describeModes(modes: GuestModes): string {
	const missing = GUEST_MODES.filter((mode) => !modes[mode]).map((mode) => WORDS[mode]);
	const perSecond = modes.kernelInstructionsPerSecond;
	const speed = `${(perSecond / 1e6).toPrecision(2)} million instructions a second`;
	const slow = perSecond < NATIVE_SPEED ? `it emulates kernel code (${speed})` : "";
	const lacks = missing.length === 0 ? "" : `it cannot run ${missing.join(", ")}`;
	if (slow === "" && lacks === "") return "runs every kind of guest at full speed";
	const faults = [slow, lacks].filter((text) => text !== "").join(", and ");
	const good = modes.user ? "; 64-bit user code runs at full speed" : "";
	return `is crippled: ${faults}${good}; kernels are better off on the software engine`;
}

/** Whether a KVM is the better engine for a guest. */
export function suits(modes: GuestModes, needs: GuestNeeds = {}): boolean {
	const wanted = needs.modes ?? GUEST_MODES;
	const userOnly = wanted.every((mode) => mode === "long" || mode === "user");
	const kernelSpeed = needs.kernelSpeed ?? !userOnly;
	if (kernelSpeed && modes.kernelInstructionsPerSecond < NATIVE_SPEED) return false;
	return wanted.every((mode) => modes[mode]);
}

/**
 * Opens the engine that suits a guest: the hardware where it is to be had and runs what the guest needs, or else the
 * software. Never throws for want of hardware.
 */
export async function openAutoKvm(options: AutoOptions = {}, host: KvmHost = thisHost): Promise<Kvm> {
	const report = await inspectHardware(options, host);
	if (report.available && suits(report.modes, options)) return openOn(host, options);
	return openKvm(options.software);
}
