import { completeTree, contentSize, contents, S_IFDIR, type TreeEntry } from "./tree.ts";

const HEADER_SIZE = 110;
const TRAILER = "TRAILER!!!";
const MAX_FILE_SIZE = 0xffff_ffff;

/**
 * Writes an archive (cpio(5), "New ASCII Format"), the one Linux unpacks an initramfs from: no time stamps, so the same
 * files give the same bytes. Missing parent directories are put in.
 *
 * @throws RangeError for a path that is absolute, climbs out, or holds a NUL, and for a file of 4 GiB or more
 */
export function writeCpio(entries: readonly TreeEntry[]): Uint8Array {
	const complete = completeTree(entries);
	const encoder = new TextEncoder();
	const names = complete.map(({ path }) => encoder.encode(`${path}\0`));
	const size = complete.reduce(
		(sum, entry, i) => sum + align4(HEADER_SIZE + names[i]!.length) + align4(contentSize(entry)),
		0,
	);
	const trailer: TreeEntry = { path: TRAILER, mode: 0 };
	const trailerName = encoder.encode(`${TRAILER}\0`);
	const out = new Uint8Array(size + align4(HEADER_SIZE + trailerName.length));
	let at = 0;
	const put = (entry: TreeEntry, name: Uint8Array, inode: number): void => {
		const dataSize = contentSize(entry);
		if (dataSize > MAX_FILE_SIZE) throw new RangeError(`${entry.path}: ${dataSize} bytes are too many for cpio`);
		const fields = [
			inode,
			entry.mode,
			entry.uid ?? 0,
			entry.gid ?? 0,
			(entry.mode & S_IFDIR) === S_IFDIR ? 2 : 1,
			0,
			dataSize,
			0,
			0,
			entry.rdev?.major ?? 0,
			entry.rdev?.minor ?? 0,
			name.length,
			0,
		];
		out.set(encoder.encode(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`), at);
		out.set(name, at + HEADER_SIZE);
		at += align4(HEADER_SIZE + name.length);
		const data = contents(entry);
		if (data) out.set(data, at);
		at += align4(dataSize);
	};
	complete.forEach((entry, i) => {
		put(entry, names[i]!, i + 1);
	});
	put(trailer, trailerName, 0);
	return out;
}

function align4(n: number): number {
	return (n + 3) & ~3;
}
