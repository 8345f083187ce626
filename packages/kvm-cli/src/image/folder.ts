import { closeSync, openSync, readSync } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { CliError, EXIT } from "../exit.ts";
import { type FileSource, S_IFDIR, S_IFLNK, S_IFREG, type TreeEntry } from "./tree.ts";

/** A file on the host, read when it is needed. */
class HostFile implements FileSource {
	readonly size: number;
	readonly #path: string;

	constructor(path: string, size: number) {
		this.#path = path;
		this.size = size;
	}

	/** Opened each time: a tree may have more files than a process may have descriptors. */
	read(offset: number, length: number): Uint8Array {
		const bytes = new Uint8Array(length);
		const descriptor = openSync(this.#path, "r");
		try {
			for (let done = 0; done < length; ) {
				const count = readSync(descriptor, bytes, done, length - done, offset + done);
				if (count === 0) {
					throw new CliError(EXIT.io, "CHANGED", `${this.#path} became shorter while it was read`);
				}
				done += count;
			}
		} finally {
			closeSync(descriptor);
		}
		return bytes;
	}
}

/**
 * Walks a folder. Everything in it belongs to root in the guest; symbolic links are taken as they are, never followed;
 * sockets, pipes and devices are left out.
 *
 * @throws CliError NOT_A_FOLDER
 */
export async function readFolder(folder: string, signal: AbortSignal): Promise<TreeEntry[]> {
	const entries: TreeEntry[] = [];
	const walk = async (relative: string): Promise<void> => {
		signal.throwIfAborted();
		const names = await readdir(join(folder, relative)).catch((error: NodeJS.ErrnoException) => {
			throw new CliError(
				error.code === "EACCES" ? EXIT.permission : EXIT.notFound,
				"NOT_A_FOLDER",
				`${join(folder, relative)}: ${error.code === "ENOTDIR" ? "not a folder" : error.code === "ENOENT" ? "no such folder" : error.code}`,
				{ cause: error },
			);
		});
		for (const name of names.sort()) {
			const path = relative === "" ? name : `${relative}/${name}`;
			const absolute = join(folder, path);
			const stats = await lstat(absolute);
			if (stats.isDirectory()) {
				entries.push({ path, mode: S_IFDIR | (stats.mode & 0o7777) });
				await walk(path);
			} else if (stats.isSymbolicLink()) {
				entries.push({ path, mode: S_IFLNK | 0o777, data: new TextEncoder().encode(await readlink(absolute)) });
			} else if (stats.isFile()) {
				entries.push({ path, mode: S_IFREG | (stats.mode & 0o7777), data: new HostFile(absolute, stats.size) });
			}
		}
	};
	await walk("");
	return entries;
}
