/** One file of an archive in cpio's "new ASCII" format, the one Linux unpacks an initramfs from. */
export interface CpioEntry {
	/** Path without a leading slash. */
	readonly path: string;
	/** File type and permissions, as in st_mode. */
	readonly mode: number;
	readonly data?: Uint8Array;
	/** Device number of a device node. */
	readonly rdev?: { readonly major: number; readonly minor: number };
}

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;
const HEADER_SIZE = 110;
const TRAILER = "TRAILER!!!";
const MAX_FILE_SIZE = 0xffff_ffff;

export function directory(path: string, permissions = 0o755): CpioEntry {
	return { path, mode: S_IFDIR | permissions };
}

export function file(path: string, data: Uint8Array | string, permissions = 0o644): CpioEntry {
	return { path, mode: S_IFREG | permissions, data: typeof data === "string" ? new TextEncoder().encode(data) : data };
}

export function symlink(path: string, target: string): CpioEntry {
	return { path, mode: S_IFLNK | 0o777, data: new TextEncoder().encode(target) };
}

export function characterDevice(path: string, major: number, minor: number, permissions = 0o600): CpioEntry {
	return { path, mode: S_IFCHR | permissions, rdev: { major, minor } };
}

/**
 * Writes an archive (cpio(5), "New ASCII Format"): owner root, no time stamps, so the same files give the same bytes.
 * Missing parent directories are put in.
 *
 * @throws RangeError for a path that is absolute, climbs out, or holds a NUL, and for a file of 4 GiB or more
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
	const complete = withParents(entries);
	const encoder = new TextEncoder();
	const names = complete.map(({ path }) => encoder.encode(`${path}\0`));
	const size = complete.reduce(
		(sum, { data }, i) => sum + align4(HEADER_SIZE + names[i]!.length) + align4(data?.length ?? 0),
		0,
	);
	const trailer: CpioEntry = { path: TRAILER, mode: 0 };
	const trailerName = encoder.encode(`${TRAILER}\0`);
	const out = new Uint8Array(size + align4(HEADER_SIZE + trailerName.length));
	let at = 0;
	const put = (entry: CpioEntry, name: Uint8Array, inode: number): void => {
		const dataSize = entry.data?.length ?? 0;
		if (dataSize > MAX_FILE_SIZE) throw new RangeError(`${entry.path}: ${dataSize} bytes are too many for cpio`);
		const fields = [
			inode,
			entry.mode,
			0,
			0,
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
		if (entry.data) out.set(entry.data, at);
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

function withParents(entries: readonly CpioEntry[]): CpioEntry[] {
	const complete = new Map<string, CpioEntry>();
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
	return [...complete.values()];
}
