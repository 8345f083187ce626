import { CliError, EXIT } from "../exit.ts";
import { GUEST_INIT } from "./guest-init.ts";
import { needsInReverse } from "./kernel-module.ts";
import type { KernelContents } from "./kernel-package.ts";
import { ROOT_MARK } from "./root-switch.ts";
import { characterDevice, directory, file, S_IFLNK, S_IFMT, symlink, type TreeEntry } from "./tree.ts";

const FOLDERS = ["dev", "proc", "sys", "run", "tmp", "root", "etc", "mnt", "bin", "sbin", "usr/bin", "usr/sbin"];

/** The initramfs of an image: busybox, the modules, /init, and `trees` beside them. */
export function initrdTree(
	kernel: KernelContents,
	busybox: Uint8Array,
	trees: readonly TreeEntry[],
	rootFormat: string | undefined,
): TreeEntry[] {
	return [
		...FOLDERS.map((path) => directory(path)),
		characterDevice("dev/console", 5, 1),
		characterDevice("dev/null", 1, 3, 0o666),
		...trees.filter(({ path }) => path !== "usr/bin/busybox"),
		file("bin/busybox", busybox, 0o755),
		symlink("bin/sh", "busybox"),
		symlink("sbin/modprobe", "../bin/busybox"),
		file("init", GUEST_INIT, 0o755),
		file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
		file("etc/group", "root:x:0:\n"),
		...moduleTree(kernel, "lib/modules"),
		file(
			"lib/modules/xkvm.order",
			kernel.modules
				.filter(({ name }) => kernel.boot.includes(name))
				.sort((a, b) => kernel.boot.indexOf(a.name) - kernel.boot.indexOf(b.name))
				.map(({ path }) => `/lib/modules/${kernel.release}/${path}\n`)
				.join(""),
		),
		...(rootFormat === undefined ? [] : [file(ROOT_MARK, rootFormat)]),
	];
}

/** Adds the modules to a root file system, there where its own /lib is. */
export function withModules(root: readonly TreeEntry[], kernel: KernelContents): TreeEntry[] {
	const lib = root.find(({ path }) => path === "lib");
	const merged = lib !== undefined && (lib.mode & S_IFMT) === S_IFLNK;
	return [...root, ...moduleTree(kernel, merged ? "usr/lib/modules" : "lib/modules")];
}

function moduleTree({ modules, release }: KernelContents, folder: string): TreeEntry[] {
	const pathOf = new Map(modules.map(({ name, path }) => [name, path]));
	const needsOf = new Map(modules.map(({ name, needs }) => [name, needs]));
	const graph = { dependencies: (name: string) => needsOf.get(name) };
	const line = (name: string, path: string): string =>
		`${path}:${needsInReverse(name, graph)
			.map((needed) => ` ${pathOf.get(needed)!}`)
			.join("")}\n`;
	return [
		...modules.map(({ path, bytes }) => file(`${folder}/${release}/${path}`, bytes)),
		file(`${folder}/${release}/modules.dep`, modules.map(({ name, path }) => line(name, path)).join("")),
	];
}

/** @throws CliError BAD_PACKAGE */
export function findBusybox(trees: readonly TreeEntry[]): Uint8Array {
	const found = trees.find(({ path }) => path === "bin/busybox" || path === "usr/bin/busybox");
	if (found?.data instanceof Uint8Array) return found.data;
	throw new CliError(EXIT.failed, "BAD_PACKAGE", "package busybox-static holds no busybox");
}
