import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { CliError, EXIT } from "../exit.ts";
import type { CliIo } from "../io.ts";

/** What `image.json` says of an image. */
export interface ImageManifest {
	readonly schemaVersion: 1;
	/** Folder name: name, architecture and a digest of all that went in. */
	readonly id: string;
	readonly name: string;
	readonly architecture: string;
	/** The kernel's release, e.g. "6.1.0-56-cloud-amd64". */
	readonly kernelRelease: string;
	/** Digest of xkvm's own part: init and the choice of modules. */
	readonly recipe: string;
	readonly packages: readonly { readonly name: string; readonly version: string; readonly sha256: string }[];
	/** The root file system, if it is on a disk of its own. */
	readonly root?: { readonly format: string; readonly sha256: string };
	/** Bytes of kernel, initrd and root together. */
	readonly size: number;
}

/** An image in the cache. */
export interface StoredImage extends ImageManifest {
	readonly folder: string;
	readonly kernel: string;
	readonly initrd: string;
	/** The disk with the root file system. */
	readonly rootFile?: string;
}

/** What {@link ImageStore.commit} files. */
export interface ImageFiles {
	readonly kernel: Uint8Array;
	readonly initrd: Uint8Array;
	/** A finished file on the store's file system; it is moved. */
	readonly rootFile?: string | undefined;
}

const ROOT_FILE = "root.img";
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** xkvm's folder under the XDG cache folder. */
export function cacheFolder(env: CliIo["env"]): string {
	const xdg = env["XDG_CACHE_HOME"];
	return join(xdg?.startsWith("/") ? xdg : join(env["HOME"] || homedir(), ".cache"), "xkvm");
}

/** @throws CliError BAD_NAME */
export function checkImageName(name: string): string {
	if (NAME.test(name)) return name;
	throw new CliError(
		EXIT.usage,
		"BAD_NAME",
		`image name ${JSON.stringify(name)}: expected lower-case letters, digits, dots, dashes`,
	);
}

/**
 * Makes a folder and those above it. One by one: Node's own recursive way never ends on file systems that refuse with
 * ENOENT, as /proc does.
 */
export async function makeFolder(path: string): Promise<void> {
	for (let end = path.indexOf("/", 1); ; end = path.indexOf("/", end + 1)) {
		const folder = end < 0 ? path : path.slice(0, end);
		const existing = await stat(folder).catch(() => undefined);
		if (existing === undefined) {
			await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
				if (error.code !== "EEXIST") throw error;
			});
		}
		if (end < 0) return;
	}
}

/** The images under a cache folder. An image is a folder that appears complete or not at all. */
export class ImageStore {
	readonly root: string;
	readonly images: string;
	readonly names: string;
	readonly temporary: string;

	constructor(root: string) {
		this.root = root;
		this.images = join(root, "images");
		this.names = join(root, "names");
		this.temporary = join(root, "tmp");
	}

	async list(): Promise<StoredImage[]> {
		const folders = await readdir(this.images).catch(() => []);
		const images = await Promise.all(folders.sort().map((id) => this.#read(id)));
		return images.filter((image) => image !== undefined);
	}

	/** The image with this id, or the newest built under this name. */
	async find(nameOrId: string): Promise<StoredImage | undefined> {
		const pointer = await readFile(join(this.names, nameOrId), "utf8").catch(() => undefined);
		return (pointer !== undefined ? await this.#read(pointer.trim()) : undefined) ?? this.#read(nameOrId);
	}

	async #read(id: string): Promise<StoredImage | undefined> {
		if (!NAME.test(id)) return undefined;
		const folder = join(this.images, id);
		try {
			const manifest = JSON.parse(await readFile(join(folder, "image.json"), "utf8")) as ImageManifest;
			if (manifest.schemaVersion !== 1 || manifest.id !== id) return undefined;
			return {
				...manifest,
				folder,
				kernel: join(folder, "vmlinuz"),
				initrd: join(folder, "initrd.img"),
				...(manifest.root && { rootFile: join(folder, ROOT_FILE) }),
			};
		} catch {
			return undefined;
		}
	}

	/** Makes a folder for work in progress; {@link sweep} finds it if its process dies. */
	async workFolder(): Promise<string> {
		const folder = join(this.temporary, `${process.pid}-${randomUUID()}`);
		await makeFolder(folder);
		return folder;
	}

	/** Removes what builds that died have left. */
	async sweep(): Promise<void> {
		for (const name of await readdir(this.temporary).catch(() => [])) {
			if (isAlive(Number.parseInt(name, 10))) continue;
			await rm(join(this.temporary, name), { recursive: true, force: true });
		}
	}

	/** Files an image by renaming its finished folder, and points its name at it. */
	async commit(manifest: ImageManifest, files: ImageFiles): Promise<StoredImage> {
		const work = await this.workFolder();
		try {
			await writeFile(join(work, "vmlinuz"), files.kernel);
			await writeFile(join(work, "initrd.img"), files.initrd);
			if (files.rootFile !== undefined) await rename(files.rootFile, join(work, ROOT_FILE));
			await writeFile(join(work, "image.json"), `${JSON.stringify(manifest, null, "\t")}\n`);
			await makeFolder(this.images);
			const folder = join(this.images, manifest.id);
			await rm(folder, { recursive: true, force: true });
			await rename(work, folder);
		} finally {
			await rm(work, { recursive: true, force: true });
		}
		await this.point(manifest.name, manifest.id);
		return (await this.find(manifest.id))!;
	}

	async point(name: string, id: string): Promise<void> {
		await makeFolder(this.names);
		const fresh = join(this.names, `.${name}.${process.pid}`);
		await writeFile(fresh, `${id}\n`);
		await rename(fresh, join(this.names, name));
	}

	/** Images that no name leads to any more: newer ones were built since. */
	async unnamed(): Promise<StoredImage[]> {
		const images = await this.list();
		const named = new Set(await Promise.all(images.map(async ({ name }) => (await this.find(name))?.id)));
		return images.filter(({ id }) => !named.has(id));
	}

	/** Removes an image, first its manifest, so that what is half gone is no image. */
	async remove(image: StoredImage): Promise<void> {
		await rm(join(image.folder, "image.json"));
		await rm(image.folder, { recursive: true, force: true });
		const pointer = await readFile(join(this.names, image.name), "utf8").catch(() => "");
		if (pointer.trim() === image.id) await rm(join(this.names, image.name), { force: true });
	}

	/**
	 * Runs `work` while no other process builds in this store.
	 *
	 * @param waiting - called once when another one does
	 */
	async exclusively<T>(signal: AbortSignal, waiting: (pid: number) => void, work: () => Promise<T>): Promise<T> {
		await makeFolder(this.root);
		const lock = join(this.root, "lock");
		for (let told = false; ; ) {
			signal.throwIfAborted();
			try {
				await writeFile(lock, `${process.pid}\n`, { flag: "wx" });
				break;
			} catch (error) {
				if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
			}
			const owner = Number.parseInt(await readFile(lock, "utf8").catch(() => ""), 10);
			const age =
				Date.now() -
				(await stat(lock).then(
					({ mtimeMs }) => mtimeMs,
					() => Date.now(),
				));
			if (!isAlive(owner) && (Number.isInteger(owner) || age > 2000)) {
				await rm(lock, { force: true });
				continue;
			}
			if (!told && Number.isInteger(owner)) {
				waiting(owner);
				told = true;
			}
			await new Promise((resolve) => setTimeout(resolve, 200));
		}
		try {
			return await work();
		} finally {
			await rm(lock, { force: true });
		}
	}
}

/** Whether a process is there. */
export function isAlive(pid: number): boolean {
	if (!Number.isInteger(pid)) return false;
	try {
		process.kill(pid, 0);
		return true;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === "EPERM";
	}
}
