import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join, relative } from "node:path";
import type { CpioEntry } from "./cpio.ts";
import { directory, file, symlink } from "./cpio.ts";
import { extractDeb } from "./deb.ts";

/** What packages bring that a throw-away guest has no use for. */
const UNWANTED = /^usr\/share\/(doc|man|locale|info|lintian|bug)(\/|$)/;

/** Unpacks packages on top of each other and gives their files as archive entries. */
export async function packageTree(debs: readonly string[], folder: string, signal: AbortSignal): Promise<CpioEntry[]> {
	for (const deb of debs) await extractDeb(deb, ["./*"], folder, signal);
	const entries: CpioEntry[] = [];
	for (const found of await readdir(folder, { recursive: true, withFileTypes: true })) {
		const absolute = join(found.parentPath, found.name);
		const path = relative(folder, absolute);
		if (UNWANTED.test(path)) continue;
		if (found.isSymbolicLink()) entries.push(symlink(path, await readlink(absolute)));
		else if (found.isDirectory()) entries.push(directory(path));
		else if (found.isFile()) {
			const { mode } = await lstat(absolute);
			entries.push(file(path, await readFile(absolute), mode & 0o777));
		}
	}
	return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}
