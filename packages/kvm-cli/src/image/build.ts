import { createHash } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { CliError, EXIT } from "../exit.ts";
import type { Progress } from "../terminal/progress.ts";
import { type Apt, type DebianPackage, noSpace, openApt } from "./apt.ts";
import { runChild } from "./child.ts";
import { type CpioEntry, characterDevice, directory, file, symlink, writeCpio } from "./cpio.ts";
import { extractDeb } from "./deb.ts";
import { BOOT_MODULES, EXTRA_MODULES, GUEST_INIT, MODULE_PATTERNS } from "./guest-init.ts";
import { loadOrder, moduleDependencies, moduleName, needsInReverse } from "./kernel-module.ts";
import { packageTree } from "./package-tree.ts";
import type { ImageManifest, ImageStore, StoredImage } from "./store.ts";

/** Kernels to choose from, and Debian's metapackage for each. */
export const KERNELS = {
	cloud: { metapackage: "linux-image-cloud-amd64", architecture: "amd64" },
	generic: { metapackage: "linux-image-amd64", architecture: "amd64" },
	"686": { metapackage: "linux-image-686", architecture: "i386" },
} as const;

/** The names in {@link KERNELS}. */
export type KernelName = keyof typeof KERNELS;

/** What to build. */
export interface BuildOptions {
	readonly kernel: KernelName;
	/** What `xkvm run` calls it. */
	readonly name: string;
	/** Debian packages unpacked into the guest besides busybox. */
	readonly packages: readonly string[];
	/** Compress the initrd: a smaller file, a slower start. */
	readonly gzip: boolean;
	/** Build even if the same image is there. */
	readonly force: boolean;
}

/** Surroundings of a build. */
export interface BuildContext {
	readonly store: ImageStore;
	readonly signal: AbortSignal;
	readonly progress: Progress;
}

/** Goes up when the same packages and lists make another initrd. */
const LAYOUT = 2;

/** Digest of everything in an image that is xkvm's own. */
export function recipe(): string {
	return digest([LAYOUT, GUEST_INIT, BOOT_MODULES, EXTRA_MODULES, MODULE_PATTERNS]);
}

function digest(value: unknown): string {
	return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 12);
}

/**
 * Builds an image, or finds that the one in the cache is made of the same packages.
 *
 * @throws CliError
 */
export async function buildImage(
	options: BuildOptions,
	context: BuildContext,
): Promise<{ image: StoredImage; built: boolean }> {
	const { store, signal, progress } = context;
	const { architecture, metapackage } = KERNELS[options.kernel];
	const waiting = (pid: number): void => progress.step(`Waiting for another build (process ${pid})`);
	const build = async (): Promise<{ image: StoredImage; built: boolean }> => {
		await store.sweep();
		const apt = await openApt({ architecture, folder: join(store.root, "apt", architecture), signal, progress });
		progress.step(`Refreshing package lists for ${architecture}`);
		await apt.update();
		const kernel = await kernelPackage(apt, metapackage);
		const busybox = await apt.show("busybox-static");
		const extra = await extraPackages(apt, options.packages);
		const packages = [kernel, busybox, ...extra];
		const used = packages.map(({ name, version, sha256 }) => ({ name, version, sha256 }));
		const id = `${options.name}-${architecture}-${digest([recipe(), used, options.gzip])}`;
		const present = options.force ? undefined : await store.find(id);
		if (present !== undefined) {
			await store.point(options.name, id);
			return { image: present, built: false };
		}
		const work = await store.workFolder();
		try {
			const megabytes = (packages.reduce((sum, { size }) => sum + size, 0) / 1e6).toFixed(1);
			progress.step(`Downloading ${packages.length} packages (${megabytes} MB)`);
			const debs = await apt.download(packages, work);
			progress.step("Unpacking the kernel and its modules");
			const contents = await readKernelPackage(debs[0]!, kernel, join(work, "kernel"), signal);
			progress.step("Writing the initrd");
			const trees = await packageTree([debs[1]!, ...debs.slice(2)], join(work, "root"), signal);
			const initrd = writeCpio(initrdEntries(contents, trees));
			const packed = options.gzip ? gzipSync(initrd) : initrd;
			const manifest: ImageManifest = {
				schemaVersion: 1,
				id,
				name: options.name,
				architecture,
				kernelRelease: contents.release,
				recipe: recipe(),
				packages: used,
				size: contents.vmlinuz.length + packed.length,
			};
			signal.throwIfAborted();
			return { image: await store.commit(manifest, { kernel: contents.vmlinuz, initrd: packed }), built: true };
		} finally {
			await rm(work, { recursive: true, force: true });
		}
	};
	try {
		return await store.exclusively(signal, waiting, build);
	} catch (error) {
		if ((error as { code?: unknown }).code === "ENOSPC") throw noSpace(store.root);
		throw error;
	}
}

async function kernelPackage(apt: Apt, metapackage: string): Promise<DebianPackage> {
	const meta = await apt.show(metapackage);
	const name = meta.depends.find((dependency) => /^linux-image-\d/.test(dependency));
	if (name === undefined) {
		throw new CliError(
			EXIT.notFound,
			"NO_PACKAGE",
			`package ${metapackage} ${meta.version} depends on no kernel: is this Debian's?`,
		);
	}
	return apt.show(name);
}

async function extraPackages(apt: Apt, names: readonly string[]): Promise<DebianPackage[]> {
	if (names.length === 0) return [];
	const packages: DebianPackage[] = [];
	for (const name of await apt.closure(names)) packages.push(await apt.show(name));
	return packages;
}

interface KernelContents {
	readonly release: string;
	readonly vmlinuz: Uint8Array;
	/** In load order; `boot` are those /init loads. */
	readonly modules: readonly {
		readonly name: string;
		readonly path: string;
		readonly bytes: Uint8Array;
		readonly needs: readonly string[];
	}[];
	readonly boot: readonly string[];
}

async function readKernelPackage(
	deb: string,
	from: DebianPackage,
	folder: string,
	signal: AbortSignal,
): Promise<KernelContents> {
	await extractDeb(deb, ["./boot/vmlinuz-*", ...MODULE_PATTERNS], folder, signal);
	const images = (await readdir(join(folder, "boot")).catch(() => [])).filter((name) => name.startsWith("vmlinuz-"));
	const release = images[0]?.slice("vmlinuz-".length);
	if (release === undefined) {
		throw new CliError(EXIT.failed, "BAD_PACKAGE", `package ${from.name} ${from.version} holds no boot/vmlinuz`);
	}
	const paths = new Map<string, string>();
	for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
		if (entry.isFile() && /\.ko(\.(xz|gz|zst))?$/.test(entry.name))
			paths.set(moduleName(entry.name), join(entry.parentPath, entry.name));
	}
	const loaded = new Map<string, { bytes: Uint8Array; needs: string[] }>();
	const load = async (name: string): Promise<void> => {
		const path = paths.get(name);
		if (path === undefined || loaded.has(name)) return;
		const bytes = await readModule(path, signal);
		const needs = moduleDependencies(name, bytes);
		loaded.set(name, { bytes, needs });
		for (const needed of needs) await load(needed);
	};
	for (const name of [...BOOT_MODULES, ...EXTRA_MODULES]) await load(name);
	const graph = { dependencies: (name: string) => loaded.get(name)?.needs };
	const order = loadOrder([...BOOT_MODULES, ...EXTRA_MODULES], graph);
	return {
		release,
		vmlinuz: await readFile(join(folder, "boot", images[0]!)),
		modules: order.map((name) => ({
			name,
			path: `lib/modules/${release}/${relative(folder, paths.get(name)!)
				.replace(/^.*\/(kernel\/)/, "$1")
				.replace(/\.(xz|gz|zst)$/, "")}`,
			...loaded.get(name)!,
		})),
		boot: loadOrder(BOOT_MODULES, graph),
	};
}

async function readModule(path: string, signal: AbortSignal): Promise<Uint8Array> {
	const bytes = await readFile(path);
	if (path.endsWith(".ko")) return bytes;
	if (path.endsWith(".gz")) return gunzipSync(bytes);
	const program = path.endsWith(".xz") ? "xz" : "zstd";
	const { exitCode, stdout } = await runChild(program, ["-dc"], { signal, input: bytes });
	if (exitCode !== 0) throw new CliError(EXIT.failed, "BAD_PACKAGE", `${program} cannot decompress ${path}`);
	return stdout;
}

function initrdEntries(kernel: KernelContents, trees: readonly CpioEntry[]): CpioEntry[] {
	const busybox = trees.find(({ path }) => path === "bin/busybox" || path === "usr/bin/busybox");
	if (busybox?.data === undefined)
		throw new CliError(EXIT.failed, "BAD_PACKAGE", "package busybox-static holds no busybox");
	const pathOf = new Map(kernel.modules.map(({ name, path }) => [name, path]));
	const needsOf = new Map(kernel.modules.map(({ name, needs }) => [name, needs]));
	const graph = { dependencies: (name: string) => needsOf.get(name) };
	const modulesFolder = `lib/modules/${kernel.release}`;
	const withPrefix = (path: string): string => path.slice(modulesFolder.length + 1);
	return [
		...["dev", "proc", "sys", "run", "tmp", "root", "etc", "mnt", "bin", "sbin", "usr/bin", "usr/sbin"].map((path) =>
			directory(path),
		),
		characterDevice("dev/console", 5, 1),
		characterDevice("dev/null", 1, 3, 0o666),
		...trees.filter(({ path }) => path !== "usr/bin/busybox"),
		file("bin/busybox", busybox.data, 0o755),
		symlink("bin/sh", "busybox"),
		symlink("sbin/modprobe", "../bin/busybox"),
		file("init", GUEST_INIT, 0o755),
		file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
		file("etc/group", "root:x:0:\n"),
		...kernel.modules.map(({ path, bytes }) => file(path, bytes)),
		file(
			`${modulesFolder}/modules.dep`,
			kernel.modules
				.map(({ name, path }) => {
					const needs = needsInReverse(name, graph).map((needed) => ` ${withPrefix(pathOf.get(needed)!)}`);
					return `${withPrefix(path)}:${needs.join("")}\n`;
				})
				.join(""),
		),
		file("lib/modules/xkvm.order", kernel.boot.map((name) => `/${pathOf.get(name)!}\n`).join("")),
	];
}
