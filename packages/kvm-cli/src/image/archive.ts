import type { Readable } from "node:stream";
import { extract, type Headers } from "tar-stream";
import { CliError, EXIT } from "../exit.ts";
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, type TreeEntry } from "./tree.ts";

/**
 * Reads a tar archive into entries: owners, permissions, links and device nodes as the archive has them. Nothing is
 * written to the host, so a hostile archive has nothing to climb out of; paths that try are refused.
 *
 * @param name - what to call the archive in errors
 * @throws CliError BAD_ARCHIVE
 */
export async function readArchive(stream: Readable, name: string, signal: AbortSignal): Promise<TreeEntry[]> {
	const entries = new Map<string, TreeEntry>();
	const refuse = (message: string, cause?: unknown): CliError =>
		new CliError(EXIT.failed, "BAD_ARCHIVE", `${name}: ${message}`, { cause });
	try {
		const archive = stream.pipe(extract());
		const stop = (): void => void archive.destroy();
		stream.once("error", (error) => archive.destroy(error));
		signal.addEventListener("abort", stop, { once: true });
		try {
			for await (const entry of archive) {
				const path = memberPath(entry.header.name);
				const chunks: Buffer[] = [];
				for await (const chunk of entry) chunks.push(chunk as Buffer);
				if (path === "") continue;
				if (path === undefined) throw refuse(`${JSON.stringify(entry.header.name)} leads out of the archive`);
				const made = toEntry(path, entry.header, Buffer.concat(chunks), entries);
				if (made === undefined) throw refuse(`${JSON.stringify(path)} is a link to a file that is not before it`);
				entries.delete(path);
				entries.set(path, made);
			}
		} finally {
			signal.removeEventListener("abort", stop);
		}
	} catch (error) {
		signal.throwIfAborted();
		if (error instanceof CliError) throw error;
		throw refuse(`not a whole tar archive (${error instanceof Error ? error.message : String(error)})`, error);
	}
	signal.throwIfAborted();
	return [...entries.values()];
}

/** The path as a tree wants it: "" for the root, undefined for one that climbs out. */
function memberPath(name: string): string | undefined {
	const parts = name.split("/").filter((part) => part !== "" && part !== ".");
	return parts.includes("..") || name.includes("\0") ? undefined : parts.join("/");
}

function toEntry(
	path: string,
	header: Headers,
	data: Uint8Array,
	known: ReadonlyMap<string, TreeEntry>,
): TreeEntry | undefined {
	const owned = { path, uid: header.uid ?? 0, gid: header.gid ?? 0 };
	const permissions = (header.mode ?? 0o644) & 0o7777;
	const rdev = { major: header.devmajor ?? 0, minor: header.devminor ?? 0 };
	switch (header.type) {
		case "directory":
			return { ...owned, mode: S_IFDIR | permissions };
		case "symlink":
			return { ...owned, mode: S_IFLNK | 0o777, data: new TextEncoder().encode(header.linkname ?? "") };
		case "link": {
			const target = known.get(memberPath(header.linkname ?? "") ?? "");
			return target && { ...target, path };
		}
		case "character-device":
			return { ...owned, mode: S_IFCHR | permissions, rdev };
		case "block-device":
			return { ...owned, mode: S_IFBLK | permissions, rdev };
		case "fifo":
			return { ...owned, mode: S_IFIFO | permissions };
		default:
			return { ...owned, mode: S_IFREG | permissions, data };
	}
}
