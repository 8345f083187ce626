import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { type SquashfsOptions, writeSquashfs } from "./squashfs.ts";
import type { TreeEntry } from "./tree.ts";

const CHUNK = 1 << 20;

/** Writes a root file system to a new file. */
export function writeRootFile(
	entries: readonly TreeEntry[],
	path: string,
	options: SquashfsOptions,
): { readonly size: number; readonly sha256: string } {
	const descriptor = openSync(path, "wx+", 0o600);
	try {
		const write = (offset: number, bytes: Uint8Array): void => {
			for (let done = 0; done < bytes.length; ) {
				done += writeSync(descriptor, bytes, done, bytes.length - done, offset + done);
			}
		};
		const size = writeSquashfs(entries, { write }, options);
		fsyncSync(descriptor);
		const hash = createHash("sha256");
		const chunk = new Uint8Array(CHUNK);
		for (let at = 0; at < size; ) {
			const count = readSync(descriptor, chunk, 0, CHUNK, at);
			hash.update(chunk.subarray(0, count));
			at += count;
		}
		return { size, sha256: hash.digest("hex") };
	} finally {
		closeSync(descriptor);
	}
}
