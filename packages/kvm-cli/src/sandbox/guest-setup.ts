import type { CallArgument } from "../agent/protocol.ts";
import type { SYSCALL } from "./system-calls.ts";
import { AT_FDCWD, type GuestKernel } from "./system-calls.ts";

const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const HOST_NAME = "xkvm";

type Step = readonly [name: keyof typeof SYSCALL, args: readonly CallArgument[]];

function folder(path: string, mode = 0o755): Step {
	return ["mkdirat", [AT_FDCWD, path, mode]];
}

function link(path: string, target: string): Step {
	return ["symlinkat", [target, AT_FDCWD, path]];
}

/** What every program expects of a Linux system, besides /dev, which the agent has mounted. */
const STEPS: readonly Step[] = [
	...["/proc", "/sys", "/run", "/tmp", "/root", "/dev/pts", "/dev/shm"].map((path) => folder(path)),
	["mount", ["proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0]],
	["mount", ["sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0]],
	["mount", ["devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666,gid=5"]],
	["mount", ["tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"]],
	["mount", ["tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"]],
	["mount", ["tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"]],
	link("/dev/fd", "/proc/self/fd"),
	link("/dev/stdin", "/proc/self/fd/0"),
	link("/dev/stdout", "/proc/self/fd/1"),
	link("/dev/stderr", "/proc/self/fd/2"),
	["sethostname", [HOST_NAME, HOST_NAME.length]],
];

/** Makes a system of a kernel that has just started. What is there already stays. */
export async function setUpGuest(kernel: GuestKernel): Promise<void> {
	await Promise.all(STEPS.map(([name, args]) => kernel.attempt(name, args)));
}

/** A folder of the host in the guest. */
export interface SandboxMount {
	/** The host's folder. */
	readonly host: string;
	/** Where the guest sees it; made when it is not there. */
	readonly guest: string;
	/** @default false */
	readonly readonly?: boolean;
}

/** What the guest mounts the share of this index by. */
export function mountTag(index: number): string {
	return `xkvm-share${index}`;
}

/**
 * Mounts a share where it is wanted.
 *
 * @throws GuestSystemError
 */
export async function mountShare(
	kernel: GuestKernel,
	tag: string,
	{ guest, readonly = false }: SandboxMount,
): Promise<void> {
	const parts = guest.split("/").filter(Boolean);
	for (let depth = 1; depth <= parts.length; depth++) {
		await kernel.attempt("mkdirat", [AT_FDCWD, `/${parts.slice(0, depth).join("/")}`, 0o755]);
	}
	const flags = MS_NOSUID | MS_NODEV | (readonly ? MS_RDONLY : 0);
	await kernel.call("mount", [tag, guest, "virtiofs", flags, 0], guest);
}

const RB_1 = 0xfee1dead;
const RB_2 = 672274793;
const RB_POWER_OFF = 0x4321fedc;
const SIGTERM = 15;
const SIGKILL = 9;

/** Asks everything in the guest to end, writes back what is not on its disks yet, and switches it off. */
export async function shutDownGuest(kernel: GuestKernel, graceMs: number): Promise<void> {
	await kernel.attempt("kill", [-1, SIGTERM]);
	await new Promise((resolve) => setTimeout(resolve, graceMs));
	await kernel.attempt("kill", [-1, SIGKILL]);
	await kernel.attempt("sync", []);
	await kernel.attempt("reboot", [RB_1, RB_2, RB_POWER_OFF, 0]);
}
