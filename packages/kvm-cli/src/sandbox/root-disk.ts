import { ROOT_DISK_ID } from "../image/root-switch.ts";
import { SandboxError } from "./errors.ts";
import { AT_FDCWD, type GuestKernel, OPEN } from "./system-calls.ts";

/** Modules for an image whose root is on a disk of its own. */
export const ROOT_DISK_MODULES: readonly string[] = ["virtio_blk", "squashfs", "overlay"];

/** Where the initramfs, busybox and all, stays to be seen. */
export const INITRAMFS = "/xkvm";

/** Busybox's names, behind all of the root's own programs. */
export const INITRAMFS_PROGRAMS = `${INITRAMFS}/bin`;

const MS_RDONLY = 1;
const MS_BIND = 4096;
const MS_MOVE = 8192;
const SERIAL_BYTES = 20;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";

/**
 * Leaves the initramfs for the root file system on the last disk: read-only below, a tmpfs above, so that every start
 * finds it as it was built. What a bare image lacks for scripts to run, busybox stands in for.
 *
 * @param disks - how many disks the guest has
 * @throws SandboxError ERR_SANDBOX_BOOT when it is not there, GuestSystemError when it cannot be mounted
 */
export async function enterRootDisk(kernel: GuestKernel, format: string, disks: number): Promise<void> {
	const folder = (path: string): Promise<number> => kernel.attempt("mkdirat", [AT_FDCWD, path, 0o755]);
	const mount = async (
		source: string,
		target: string,
		type: string,
		flags: number,
		data: string | 0,
	): Promise<void> => {
		await kernel.call("mount", [source, target, type, flags, data], target);
	};
	for (const path of ["/sys", "/mnt", "/mnt/below", "/mnt/above", "/mnt/root"]) await folder(path);
	await mount("sysfs", "/sys", "sysfs", 0, 0);
	const device = await findRootDisk(kernel, disks);
	await mount(device, "/mnt/below", format, MS_RDONLY, 0);
	await mount("xkvm", "/mnt/above", "tmpfs", 0, "mode=755");
	await folder("/mnt/above/data");
	await folder("/mnt/above/work");
	const layers = "lowerdir=/mnt/below,upperdir=/mnt/above/data,workdir=/mnt/above/work";
	await mount("overlay", "/mnt/root", "overlay", 0, layers);
	await folder("/mnt/root/dev");
	await folder(`/mnt/root${INITRAMFS}`);
	await mount("/dev", "/mnt/root/dev", "", MS_MOVE, 0);
	await mount("/", `/mnt/root${INITRAMFS}`, "", MS_BIND, 0);
	await kernel.call("chdir", ["/mnt/root"]);
	await mount(".", "/", "", MS_MOVE, 0);
	await kernel.call("chroot", ["."]);
	await kernel.call("chdir", ["/"]);
	await completeRoot(kernel);
}

async function findRootDisk(kernel: GuestKernel, disks: number): Promise<string> {
	for (let i = disks - 1; i >= 0; i--) {
		const name = `vd${LETTERS[i]}`;
		const path = `/sys/block/${name}/serial`;
		const descriptor = await kernel.attempt("openat", [AT_FDCWD, path, OPEN.RDONLY | OPEN.CLOEXEC, 0]);
		if (descriptor < 0) continue;
		const args = [descriptor, { output: SERIAL_BYTES }, SERIAL_BYTES, 0] as const;
		const { result, output } = await kernel.call("pread64", args, path);
		await kernel.close(descriptor);
		if (new TextDecoder().decode(output.subarray(0, result)).trim() === ROOT_DISK_ID) return `/dev/${name}`;
	}
	throw new SandboxError("ERR_SANDBOX_BOOT", "the guest does not see the disk with its root file system");
}

/** What scripts and programs take for granted; what the root has of it stays. */
async function completeRoot(kernel: GuestKernel): Promise<void> {
	for (const path of ["/bin", "/usr", "/usr/bin", "/etc", "/mnt"])
		await kernel.attempt("mkdirat", [AT_FDCWD, path, 0o755]);
	for (const path of ["/bin/busybox", "/bin/sh", "/usr/bin/env"]) {
		await kernel.attempt("symlinkat", [`${INITRAMFS_PROGRAMS}/busybox`, AT_FDCWD, path]);
	}
	for (const [path, text] of [
		["/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"],
		["/etc/group", "root:x:0:\n"],
	] as const) {
		const flags = OPEN.WRONLY | OPEN.CREAT | OPEN.EXCL | OPEN.CLOEXEC;
		const descriptor = await kernel.attempt("openat", [AT_FDCWD, path, flags, 0o644]);
		if (descriptor < 0) continue;
		const bytes = new TextEncoder().encode(text);
		await kernel.attempt("pwrite64", [descriptor, bytes, bytes.length, 0]);
		await kernel.close(descriptor);
	}
}
