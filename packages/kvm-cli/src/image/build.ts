import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createGunzip, gzipSync } from "node:zlib";
import { CliError, EXIT } from "../exit.ts";
import type { Progress } from "../terminal/progress.ts";
import { type Apt, type DebianPackage, noSpace, openApt } from "./apt.ts";
import { readArchive } from "./archive.ts";
import { writeCpio } from "./cpio.ts";
import { readFolder } from "./folder.ts";
import { BOOT_MODULES, EXTRA_MODULES, GUEST_INIT, MODULE_PATTERNS, ROOT_MODULES } from "./guest-init.ts";
import { findBusybox, initrdTree, withModules } from "./initrd.ts";
import { type KernelContents, readKernelPackage } from "./kernel-package.ts";
import { packageTree } from "./package-tree.ts";
import { writeRootFile } from "./root-file.ts";
import { checkImageName, type ImageManifest, type ImageStore, type StoredImage } from "./store.ts";
import type { TreeEntry } from "./tree.ts";

/** Kernels to choose from, and Debian's metapackage for each. */
export const KERNELS = {
	cloud: { metapackage: "linux-image-cloud-amd64", architecture: "amd64" },
	generic: { metapackage: "linux-image-amd64", architecture: "amd64" },
	"686": { metapackage: "linux-image-686", architecture: "i386" },
} as const;

/** The names in {@link KERNELS}. */
export type KernelName = keyof typeof KERNELS;

/** Where a guest's root file system comes from. */
export type RootSource =
	/** Debian packages with all they depend on, besides busybox. */
	| { readonly kind: "packages"; readonly packages: readonly string[] }
	| { readonly kind: "folder"; readonly path: string }
	/** A tar archive, e.g. an exported container; gzip's compression is seen by its magic number. */
	| { readonly kind: "archive"; readonly path: string };

/** How the root reaches the guest. */
export const ROOT_FORMATS = ["initramfs", "squashfs"] as const;

/** The names in {@link ROOT_FORMATS}. */
export type RootFormat = (typeof ROOT_FORMATS)[number];

/** What to build. */
export interface BuildOptions {
	readonly kernel: KernelName;
	/** What `xkvm run` calls it. */
	readonly name: string;
	readonly source: RootSource;
	/** All in RAM from the start, or read from a disk when needed. */
	readonly root: RootFormat;
	/** Compress initrd and root: smaller files, a slower guest. */
	readonly gzip: boolean;
	/** Build even if the same image is there. */
	readonly force: boolean;
}

/** The image `xkvm run` uses when none is named. */
export const DEFAULT_IMAGE: BuildOptions = {
	kernel: "cloud",
	name: "default",
	source: { kind: "packages", packages: [] },
	root: "initramfs",
	gzip: false,
	force: false,
};

/** Surroundings of a build. */
export interface BuildContext {
	readonly store: ImageStore;
	readonly signal: AbortSignal;
	readonly progress: Progress;
}

/** How long a mirror's lists are taken for current; `--force` fetches them always. */
const LISTS_CURRENT_MS = 600_000;

/** Goes up when the same packages and lists make another initrd. */
const LAYOUT = 2;

/** Digest of everything in an image that is xkvm's own. */
export function recipe(): string {
	return digest([LAYOUT, GUEST_INIT, BOOT_MODULES, ROOT_MODULES, EXTRA_MODULES, MODULE_PATTERNS]);
}

/**
 * What to build for `xkvm run --packages`: an image with a name of its own for each set of packages.
 *
 * @throws CliError BAD_PACKAGE_NAME
 */
export function packageImage(packages: readonly string[], kernel: KernelName = "cloud"): BuildOptions {
	const wanted = [...new Set(packages.map(checkPackageName))].sort();
	return {
		...DEFAULT_IMAGE,
		kernel,
		name: checkImageName(`packages-${digest([kernel, wanted])}`),
		source: { kind: "packages", packages: wanted },
		root: "squashfs",
	};
}

/** @throws CliError BAD_PACKAGE_NAME */
export function checkPackageName(name: string): string {
	if (/^[a-z0-9][a-z0-9+.-]+$/.test(name)) return name;
	throw new CliError(
		EXIT.usage,
		"BAD_PACKAGE_NAME",
		`package name ${JSON.stringify(name)}: expected Debian's lower-case letters, digits, "+", "-" and "."`,
	);
}

function digest(value: unknown): string {
	return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 12);
}

/**
 * Builds an image, or finds that the one in the cache is made of the same things.
 *
 * @throws CliError
 */
export async function buildImage(
	options: BuildOptions,
	context: BuildContext,
): Promise<{ image: StoredImage; built: boolean }> {
	const { store, signal, progress } = context;
	const waiting = (pid: number): void => progress.step(`Waiting for another build (process ${pid})`);
	try {
		return await store.exclusively(signal, waiting, () => build(options, context));
	} catch (error) {
		if ((error as { code?: unknown }).code === "ENOSPC") throw noSpace(store.root);
		throw error;
	}
}

async function build(
	options: BuildOptions,
	{ store, signal, progress }: BuildContext,
): Promise<{ image: StoredImage; built: boolean }> {
	const { source } = options;
	const { architecture, metapackage } = KERNELS[options.kernel];
	await store.sweep();
	const given = source.kind === "packages" ? undefined : await readSource(source, signal);
	const apt = await openApt({ architecture, folder: join(store.root, "apt", architecture), signal, progress });
	const resolve = async (): Promise<DebianPackage[]> => {
		const kernel = await kernelPackage(apt, metapackage);
		const wanted = source.kind === "packages" && source.packages.length > 0 ? await apt.closure(source.packages) : [];
		return apt.show([kernel, "busybox-static", ...wanted]);
	};
	const current = await apt.update(options.force ? 0 : LISTS_CURRENT_MS);
	const packages = await resolve().catch(async (error: unknown) => {
		// Newer lists may have it.
		if (current || !(error instanceof CliError) || error.code !== "NO_PACKAGE") throw error;
		await apt.update(0);
		return resolve();
	});
	const used = packages.map(({ name, version, sha256 }) => ({ name, version, sha256 }));
	const parts = [recipe(), used, options.gzip, ...(options.root === "initramfs" ? [] : [options.root])];
	const id = `${options.name}-${architecture}-${digest(parts)}`;
	// What a folder or an archive holds is known only when it has been read; the root's digest is compared below.
	const present = options.force ? undefined : await store.find(id);
	if (present !== undefined && given === undefined) {
		await store.point(options.name, id);
		return { image: present, built: false };
	}
	const work = await store.workFolder();
	try {
		const megabytes = (packages.reduce((sum, { size }) => sum + size, 0) / 1e6).toFixed(1);
		progress.step(`Downloading ${packages.length} packages (${megabytes} MB)`);
		const debs = await apt.download(packages, work).catch(async (error: unknown) => {
			// What the lists name may have been replaced since: the next build reads newer ones.
			if (error instanceof CliError && error.code === "DOWNLOAD_FAILED") await apt.forget();
			throw error;
		});
		progress.step("Unpacking the kernel and its modules");
		const onDisk = options.root !== "initramfs";
		const bootModules = onDisk ? [...BOOT_MODULES, ...ROOT_MODULES] : BOOT_MODULES;
		const contents = await readKernelPackage(debs[0]!, packages[0]!, join(work, "kernel"), bootModules, signal);
		const ownTree = await packageTree([debs[1]!], signal);
		progress.step("Unpacking the root file system");
		const root = given ?? (await packageTree(debs.slice(2), signal));
		progress.step("Writing the image");
		const made = naming(source, () => {
			const inRam = onDisk ? [] : [...ownTree, ...root];
			const initrd = writeCpio(initrdTree(contents, findBusybox(ownTree), inRam, onDisk ? options.root : undefined));
			const file = join(work, "root.img");
			return {
				initrd: options.gzip ? gzipSync(initrd) : initrd,
				...(onDisk && { root: { file, ...writeRoot(root, contents, file, options.gzip, progress) } }),
			};
		});
		signal.throwIfAborted();
		const manifest: ImageManifest = {
			schemaVersion: 1,
			id: given === undefined ? id : `${options.name}-${architecture}-${digest([parts, contentDigest(made)])}`,
			name: options.name,
			architecture,
			kernelRelease: contents.release,
			recipe: recipe(),
			packages: used,
			...(made.root && { root: { format: options.root, sha256: made.root.sha256 } }),
			size: contents.vmlinuz.length + made.initrd.length + (made.root?.size ?? 0),
		};
		const same = options.force ? undefined : await store.find(manifest.id);
		if (same !== undefined) {
			await store.point(options.name, manifest.id);
			return { image: same, built: false };
		}
		const files = { kernel: contents.vmlinuz, initrd: made.initrd, rootFile: made.root?.file };
		return { image: await store.commit(manifest, files), built: true };
	} finally {
		await rm(work, { recursive: true, force: true });
	}
}

async function readSource(
	source: Exclude<RootSource, { kind: "packages" }>,
	signal: AbortSignal,
): Promise<TreeEntry[]> {
	if (source.kind === "folder") return readFolder(source.path, signal);
	const { path } = source;
	const file = createReadStream(path);
	try {
		const head = await new Promise<Buffer>((resolve, reject) => {
			file.once("error", reject);
			file.once("readable", () => resolve((file.read(2) as Buffer | null) ?? Buffer.alloc(0)));
		});
		file.unshift(head);
		if (head[0] !== 0x1f || head[1] !== 0x8b) return await readArchive(file, path, signal);
		const gunzip = createGunzip();
		file.once("error", (error) => gunzip.destroy(error));
		return await readArchive(file.pipe(gunzip), path, signal);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (error instanceof CliError || code === undefined || signal.aborted) throw error;
		const exitCode = code === "ENOENT" ? EXIT.notFound : code === "EACCES" ? EXIT.permission : EXIT.io;
		throw new CliError(exitCode, code, `${path}: ${code === "ENOENT" ? "no such file" : code}`, { cause: error });
	} finally {
		file.destroy();
	}
}

/** A tree that cannot be is the fault of what it was read from. */
function naming<T>(source: RootSource, work: () => T): T {
	try {
		return work();
	} catch (error) {
		if (!(error instanceof RangeError)) throw error;
		const what = source.kind === "packages" ? source.packages.join(", ") : source.path;
		throw new CliError(EXIT.failed, "BAD_ROOT", `${what}: ${error.message}`, { cause: error });
	}
}

function writeRoot(
	root: readonly TreeEntry[],
	kernel: KernelContents,
	file: string,
	compress: boolean,
	progress: Progress,
): { size: number; sha256: string } {
	const total = root.reduce((sum, { data }) => sum + (data instanceof Uint8Array ? data.length : (data?.size ?? 0)), 1);
	return writeRootFile(withModules(root, kernel), file, {
		compress,
		onProgress: (bytes) => progress.fraction(bytes / total),
	});
}

function contentDigest({ initrd, root }: { initrd: Uint8Array; root?: { sha256: string } }): string {
	return root?.sha256 ?? createHash("sha256").update(initrd).digest("hex");
}

/** @returns the name of the package with the kernel that the metapackage stands for now */
async function kernelPackage(apt: Apt, metapackage: string): Promise<string> {
	const [meta] = (await apt.show([metapackage])) as [DebianPackage];
	const name = meta.depends.find((dependency) => /^linux-image-\d/.test(dependency));
	if (name === undefined) {
		throw new CliError(
			EXIT.notFound,
			"NO_PACKAGE",
			`package ${metapackage} ${meta.version} depends on no kernel: is this Debian's?`,
		);
	}
	return name;
}
