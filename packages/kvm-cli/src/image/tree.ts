/** Bytes of a file that need not be in memory. */
export interface FileSource {
	readonly size: number;
	/** @returns exactly `length` bytes, valid until the next call */
	read(offset: number, length: number): Uint8Array;
}

/** One file of a guest's file system. */
export interface TreeEntry {
	/** Path without a leading slash. */
	readonly path: string;
	/** File type and permissions, as in st_mode. */
	readonly mode: number;
	/** @default 0, root */
	readonly uid?: number;
	/** @default 0, root */
	readonly gid?: number;
	/** A regular file's contents, or a symbolic link's target. */
	readonly data?: Uint8Array | FileSource;
	/** Device number of a device node. */
	readonly rdev?: { readonly major: number; readonly minor: number };
}

export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;
export const S_IFCHR = 0o020000;
export const S_IFBLK = 0o060000;
export const S_IFIFO = 0o010000;

export function directory(path: string, permissions = 0o755): TreeEntry {
	return { path, mode: S_IFDIR | permissions };
}

export function file(path: string, data: Uint8Array | string, permissions = 0o644): TreeEntry {
	return { path, mode: S_IFREG | permissions, data: typeof data === "string" ? new TextEncoder().encode(data) : data };
}

export function symlink(path: string, target: string): TreeEntry {
	return { path, mode: S_IFLNK | 0o777, data: new TextEncoder().encode(target) };
}

export function characterDevice(path: string, major: number, minor: number, permissions = 0o600): TreeEntry {
	return { path, mode: S_IFCHR | permissions, rdev: { major, minor } };
}

/** The whole contents. */
export function contents({ data }: TreeEntry): Uint8Array | undefined {
	return data === undefined || data instanceof Uint8Array ? data : data.read(0, data.size).slice();
}

/** How many bytes the contents have. */
export function contentSize({ data }: TreeEntry): number {
	return data === undefined ? 0 : data instanceof Uint8Array ? data.length : data.size;
}

/**
 * Checks the paths, puts in missing parent directories, and lets a later entry of the same path win.
 *
 * @throws RangeError for a path that is absolute, climbs out, holds a NUL, or leads through something that is no directory
 */
export function completeTree(entries: readonly TreeEntry[]): TreeEntry[] {
	const complete = new Map<string, TreeEntry>();
	for (const entry of entries) {
		const parts = entry.path.split("/");
		if (entry.path.includes("\0") || parts.some((part) => part === "" || part === "." || part === "..")) {
			throw new RangeError(`${JSON.stringify(entry.path)} is no path inside an archive`);
		}
		for (let depth = 1; depth < parts.length; depth++) {
			const parent = parts.slice(0, depth).join("/");
			if (!complete.has(parent)) complete.set(parent, directory(parent));
		}
		complete.set(entry.path, entry);
	}
	for (const path of complete.keys()) {
		const parent = complete.get(path.slice(0, Math.max(path.lastIndexOf("/"), 0)));
		if (parent !== undefined && (parent.mode & S_IFMT) !== S_IFDIR) {
			throw new RangeError(`${JSON.stringify(path)} lies in ${JSON.stringify(parent.path)}, which is no directory`);
		}
	}
	return [...complete.values()];
}
