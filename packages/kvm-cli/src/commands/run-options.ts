import { CliError, EXIT } from "../exit.ts";
import type { DiskSpec } from "../guest/disk.ts";
import type { EngineChoice, FallbackChoice } from "../guest/engines.ts";
import { MOST_CPUS, MOST_MEMORY_MIB } from "../guest/limits.ts";
import type { SandboxMount } from "../sandbox/guest-setup.ts";
import { type NetworkFlags, type NetworkRequest, parseNetworkOptions } from "./network-options.ts";

/** Options of `xkvm run` as commander hands them over. */
export interface RunFlags extends NetworkFlags {
	kernel?: string;
	initrd?: string;
	append?: string;
	firmware?: string;
	memory?: string;
	cpus?: string;
	engine?: string;
	fallback?: string;
	disk: string[];
	packages: string[];
	share: string[];
	env: string[];
	timeout?: string;
	device: string[];
	boot?: string;
	snapshot?: boolean;
	timings?: boolean;
	json?: boolean;
}

/** A folder that the guest is to see. */
export interface ShareRequest extends SandboxMount {
	/** What a guest that mounts it itself calls it. */
	readonly tag: string;
}

/** What `xkvm run` is to do, checked. */
export interface RunRequest {
	readonly image: string | undefined;
	/** The agent in the guest runs commands and configures it; else it is a machine with a serial port. */
	readonly sandboxed: boolean;
	/** Debian packages that the guest has, instead of a named image. */
	readonly packages: readonly string[];
	readonly engine: EngineChoice;
	/** Go on from a kept start, and keep one. */
	readonly snapshot: boolean;
	readonly fallback: FallbackChoice;
	readonly kernel: string | undefined;
	readonly initrd: string | undefined;
	readonly append: string | undefined;
	readonly firmware: string | undefined;
	readonly memoryMib: number;
	/** Processors. */
	readonly cpus: number;
	readonly disks: readonly DiskSpec[];
	readonly environment: readonly (readonly [name: string, value: string])[];
	readonly network: NetworkRequest;
	readonly mounts: readonly ShareRequest[];
	readonly timeoutMs: number | undefined;
	readonly debugExitPort: number | undefined;
	readonly testDevice: boolean;
	/** How to enter the kernel, when not the best way. */
	readonly boot: string | undefined;
	readonly command: readonly string[] | undefined;
	/** Say where the time went. */
	readonly timings: boolean;
	readonly json: boolean;
}

export const DEFAULT_MEMORY_MIB = 256;
const LEAST_MEMORY_MIB = 8;
const DEFAULT_DEBUG_EXIT_PORT = 0xf4;

function usage(code: string, message: string): CliError {
	return new CliError(EXIT.usage, code, message);
}

function unsupported(message: string): CliError {
	return new CliError(EXIT.notFound, "UNSUPPORTED", message);
}

function integer(flag: string, text: string, least: number, most: number, unit = ""): number {
	const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
	if (value >= least && value <= most) return value;
	throw usage("BAD_OPTION", `${flag} ${text}: expected a whole number from ${least} to ${most}${unit}`);
}

function diskSpec(text: string): DiskSpec {
	const [, path, mode] = /^(.*?)(,ro|,overlay(?:=.+)?)?$/s.exec(text)!;
	if (path === "" || path === undefined) {
		throw usage("BAD_OPTION", `--disk ${JSON.stringify(text)}: expected FILE, FILE,ro or FILE,overlay[=FILE]`);
	}
	if (mode === undefined || mode === ",ro") return { path, readonly: mode !== undefined };
	const file = mode.slice(",overlay=".length);
	return { path, readonly: false, overlay: file === "" ? "memory" : { path: file } };
}

/** `DIR:TAG[:ro]`: at /mnt/TAG, or, when TAG is a path, there. */
function mountSpec(text: string): ShareRequest {
	const match = /^(.+?):([^:]+?)(:ro)?$/s.exec(text);
	const [, host, tag, readonly] = match ?? [];
	if (host === undefined || tag === undefined || text.includes("\0") || tag.split("/").includes("..")) {
		throw usage("BAD_OPTION", `--share ${JSON.stringify(text)}: expected DIR:TAG or DIR:TAG:ro`);
	}
	return { host, tag, guest: tag.startsWith("/") ? tag : `/mnt/${tag}`, readonly: readonly !== undefined };
}

/** @throws CliError BAD_OPTION */
export function environmentEntry(text: string): readonly [string, string] {
	const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(text);
	if (match === null || text.includes("\0"))
		throw usage("BAD_OPTION", `--env ${JSON.stringify(text)}: expected NAME=VALUE`);
	return [match[1]!, match[2]!];
}

interface Devices {
	debugExitPort: number | undefined;
	testDevice: boolean;
}

function deviceSpecs(specs: readonly string[]): Devices {
	const devices: Devices = { debugExitPort: undefined, testDevice: false };
	for (const spec of specs) {
		const [name, ...properties] = spec.split(",");
		if (name === "pc-testdev" && properties.length === 0) devices.testDevice = true;
		else if (name === "isa-debug-exit") {
			devices.debugExitPort = DEFAULT_DEBUG_EXIT_PORT;
			for (const property of properties) {
				const port = /^iobase=(0x[0-9a-f]{1,4}|\d{1,5})$/i.exec(property)?.[1];
				if (port !== undefined && Number(port) <= 0xffff) devices.debugExitPort = Number(port);
				else if (!/^iosize=(0x0?)?4$/.test(property)) {
					throw usage("BAD_OPTION", `--device ${spec}: ${property}: expected iobase=PORT, for instance iobase=0xf4`);
				}
			}
		} else throw unsupported(`--device ${spec}: expected isa-debug-exit,iobase=PORT or pc-testdev`);
	}
	return devices;
}

function engineChoice(engine: string): EngineChoice {
	if (engine === "auto" || engine === "software" || engine === "hardware") return engine;
	throw usage("BAD_OPTION", `--engine ${engine}: expected auto, software or hardware`);
}

function fallbackChoice(fallback: string): FallbackChoice {
	if (fallback === "none" || fallback === "emulate") return fallback;
	throw usage("BAD_OPTION", `--fallback ${fallback}: expected none or emulate`);
}

/** Without the agent nobody in the guest does these. */
function refuseWhatTheAgentDoes(flags: RunFlags): void {
	const why =
		"in this guest no agent runs that would do it (one does under xkvm run with an image and no --boot, --device or --trace)";
	if (flags.secret.length > 0) throw usage("BAD_OPTION", `--secret puts a placeholder into the environment: ${why}`);
	for (const flag of ["address", "gateway"] as const) {
		if (flags[flag] !== undefined) throw usage("BAD_OPTION", `--${flag} ${flags[flag]}: ${why}`);
	}
}

/**
 * Checks options against each other and themselves.
 *
 * @param env - where secrets' values are looked for
 * @param driven - the guest runs under a debugger or a trace
 * @throws CliError usage, or UNSUPPORTED for what a later version has
 */
export function parseRunOptions(
	image: string | undefined,
	command: readonly string[],
	flags: RunFlags,
	env: Readonly<Record<string, string | undefined>> = {},
	driven = false,
): RunRequest {
	const timeout = flags.timeout === undefined ? undefined : Number(flags.timeout);
	if (timeout !== undefined && !(timeout > 0 && timeout <= 1e6)) {
		throw usage("BAD_OPTION", `--timeout ${flags.timeout}: expected seconds, more than 0`);
	}
	if (image !== undefined && (flags.kernel !== undefined || flags.firmware !== undefined)) {
		throw usage("BAD_OPTION", `image ${image}: give an image or --kernel or --firmware, not both`);
	}
	if (flags.packages.length > 0 && (image ?? flags.kernel ?? flags.firmware ?? flags.initrd) !== undefined) {
		throw usage("BAD_OPTION", "--packages makes an image of its own: give no image, --kernel, --initrd or --firmware");
	}
	if (flags.kernel !== undefined && flags.firmware !== undefined) {
		throw usage("BAD_OPTION", "--kernel and --firmware exclude each other");
	}
	if (flags.firmware !== undefined && (flags.initrd ?? flags.append) !== undefined) {
		throw usage("BAD_OPTION", "--initrd and --append need --kernel or an image, not --firmware");
	}
	if (flags.boot !== undefined && flags.firmware !== undefined) {
		throw usage("BAD_OPTION", "--boot needs a kernel, not --firmware");
	}
	const ownImage = flags.kernel === undefined && flags.firmware === undefined && flags.initrd === undefined;
	if (command.length > 0 && !ownImage) {
		throw usage(
			"BAD_OPTION",
			"a command runs in an image's guest: it cannot be given with --kernel, --initrd or --firmware",
		);
	}
	if (flags.env.length > 0 && !ownImage) {
		throw usage("BAD_OPTION", "--env needs an image's guest: it cannot be given with --kernel, --initrd or --firmware");
	}
	const sandboxed = ownImage && !driven && flags.boot === undefined && flags.device.length === 0;
	if (!sandboxed) refuseWhatTheAgentDoes(flags);
	const network = parseNetworkOptions(flags, sandboxed ? "user" : "none", env);
	if (command.some((word) => word.includes("\0"))) throw usage("BAD_OPTION", "the command holds a NUL character");
	return {
		image,
		sandboxed,
		packages: flags.packages,
		engine: engineChoice(flags.engine ?? "auto"),
		snapshot: flags.snapshot ?? true,
		fallback: fallbackChoice(flags.fallback ?? "none"),
		kernel: flags.kernel,
		initrd: flags.initrd,
		append: flags.append,
		firmware: flags.firmware,
		memoryMib: integer(
			"--memory",
			flags.memory ?? String(DEFAULT_MEMORY_MIB),
			LEAST_MEMORY_MIB,
			MOST_MEMORY_MIB,
			" MiB",
		),
		cpus: integer("--cpus", flags.cpus ?? "1", 1, MOST_CPUS),
		disks: flags.disk.map(diskSpec),
		environment: flags.env.map(environmentEntry),
		network,
		mounts: flags.share.map(mountSpec),
		timeoutMs: timeout === undefined ? undefined : timeout * 1000,
		...deviceSpecs(flags.device),
		boot: flags.boot,
		command: command.length > 0 ? command : undefined,
		timings: flags.timings ?? false,
		json: flags.json ?? false,
	};
}
