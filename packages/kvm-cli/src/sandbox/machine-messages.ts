import type { MachineExit } from "@x/kvm-core";
import type { DiskSpec } from "../guest/disk.ts";
import type { EngineChoice } from "../guest/engines.ts";
import type { RingLinkHandle } from "../network/ring-link.ts";

/** What the machine's thread is started with. */
export interface MachineSetup {
	readonly kernel: string;
	readonly initrd: string;
	readonly commandLine: string;
	readonly memoryMiB: number;
	readonly cpus: number;
	readonly engine: EngineChoice;
	readonly disks: readonly DiskSpec[];
	readonly shares: readonly { readonly path: string; readonly tag: string; readonly readonly: boolean }[];
	/** @default every start is one from power-on */
	readonly keep: KeepSetup | undefined;
	/** The network card and what it is plugged into. */
	readonly network: { readonly mac: Uint8Array; readonly cable: RingLinkHandle | string } | undefined;
}

/** Where a start is kept that others can go on from. */
export interface KeepSetup {
	readonly folder: string;
	/** What is done to the guest before it is kept. */
	readonly steps: readonly unknown[];
}

/** Moments of the start, in milliseconds of `performance.timeOrigin + performance.now()`. */
export type StartMoment = "thread" | "engine" | "files" | "powerOn";

/** What the machine's thread tells. */
export type FromMachine =
	| { readonly type: "moment"; readonly moment: StartMoment; readonly at: number }
	/** This is a start that was kept: what comes before keeping is done. */
	| { readonly type: "resumed" }
	/** What was asked to be kept is, or cannot be. */
	| { readonly type: "kept" }
	/** Kernel modules of the initrd. */
	| { readonly type: "modules"; readonly modules: ReadonlyMap<string, readonly string[]> }
	| { readonly type: "agent"; readonly bytes: Uint8Array }
	| { readonly type: "console"; readonly bytes: Uint8Array }
	| { readonly type: "searched"; readonly found: boolean }
	| { readonly type: "exit"; readonly exit: MachineExit }
	| { readonly type: "failed"; readonly error: MachineFailure };

/** An error that crosses threads. */
export interface MachineFailure {
	readonly name: string;
	readonly code: string;
	readonly message: string;
	readonly exitCode: number | undefined;
}

/** What it is told. */
export type ToMachine =
	| { readonly type: "agent"; readonly bytes: Uint8Array }
	/** Keep the guest as it is now. */
	| { readonly type: "keep" }
	| { readonly type: "search"; readonly bytes: Uint8Array };
