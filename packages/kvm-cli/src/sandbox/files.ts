import { constants } from "node:fs";
import { chmod, lstat, mkdir, open, readdir, readlink, symlink, utimes } from "node:fs/promises";
import { dirname, join, posix, resolve } from "node:path";
import { SandboxError } from "./errors.ts";
import { AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, type GuestKernel, OPEN } from "./system-calls.ts";

/** What kind of file a path names. */
export type GuestFileType = "file" | "directory" | "symlink" | "character" | "block" | "fifo" | "socket";

/** What stat(2) says. */
export interface GuestStat {
	readonly type: GuestFileType;
	/** Bytes. */
	readonly size: number;
	/** Permissions, without the type. */
	readonly mode: number;
	readonly uid: number;
	readonly gid: number;
	/** Milliseconds since 1970. */
	readonly mtimeMs: number;
}

/** An entry of a folder. */
export interface GuestEntry {
	readonly name: string;
	readonly type: GuestFileType;
}

/** What {@link GuestFiles.download} left out. */
export interface DownloadReport {
	readonly files: number;
	/** Devices, sockets, and links that lead out of what was asked for. */
	readonly skipped: readonly string[];
}

interface Download {
	readonly root: string;
	readonly report: { files: number; skipped: string[] };
	bytesLeft: number;
}

const READ_CHUNK = 61_440;
const WRITE_CHUNK = 131_072;
/** System calls of one transfer under way at a time. */
const DEPTH = 4;
const STAT_BYTES = 144;
const LISTING_BYTES = 32_768;
const MOST_READ = 2 ** 29;
const MOST_DOWNLOADED = 2 ** 36;
/** Entries of one folder, and files of one download: a guest can invent any number. */
const MOST_ENTRIES = 1_000_000;
const DEEPEST = 256;
const S_IFMT = 0o170000;
const TYPES = new Map<number, GuestFileType>([
	[0o010000, "fifo"],
	[0o020000, "character"],
	[0o040000, "directory"],
	[0o060000, "block"],
	[0o100000, "file"],
	[0o120000, "symlink"],
	[0o140000, "socket"],
]);

function checked(path: string): string {
	if (path.startsWith("/") && !path.includes("\0")) return path;
	throw new SandboxError("ERR_SANDBOX_OPTION", `guest path ${JSON.stringify(path)}: expected an absolute one`, {
		value: path,
	});
}

function tooMuch(path: string, what: string): SandboxError {
	return new SandboxError("ERR_SANDBOX_LIMIT", `${path}: ${what}`, { value: path });
}

function parseStat(bytes: Uint8Array): GuestStat {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	const mode = view.getUint32(24, true);
	return {
		type: TYPES.get(mode & S_IFMT) ?? "file",
		size: Number(view.getBigInt64(48, true)),
		mode: mode & 0o7777,
		uid: view.getUint32(28, true),
		gid: view.getUint32(32, true),
		mtimeMs: Number(view.getBigInt64(88, true)) * 1000 + Math.floor(Number(view.getBigInt64(96, true)) / 1e6),
	};
}

/** Reads the records of getdents64(2); a guest may put anything there. */
export function parseListing(bytes: Uint8Array): GuestEntry[] {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	const decoder = new TextDecoder();
	const entries: GuestEntry[] = [];
	for (let at = 0; at + 19 <= bytes.length; ) {
		const size = view.getUint16(at + 16, true);
		if (size < 20 || at + size > bytes.length) break;
		const text = bytes.subarray(at + 19, at + size);
		const end = text.indexOf(0);
		const name = decoder.decode(end < 0 ? text : text.subarray(0, end));
		const type = TYPES.get(bytes[at + 18]! << 12);
		at += size;
		if (name === "" || name === "." || name === ".." || name.includes("/")) continue;
		entries.push({ name, type: type ?? "file" });
	}
	return entries;
}

/** The guest's files, as root sees them, without a program in the guest. */
export class GuestFiles {
	readonly #kernel: () => Promise<GuestKernel>;

	/** @param kernel - resolves when the guest is up */
	constructor(kernel: () => Promise<GuestKernel>) {
		this.#kernel = kernel;
	}

	/**
	 * Reads a file.
	 *
	 * @param options - `maxBytes`: refuse a longer one @default 512 MiB
	 * @throws GuestSystemError
	 */
	async read(path: string, options: { maxBytes?: number } = {}): Promise<Buffer> {
		const chunks: Buffer[] = [];
		const most = options.maxBytes ?? MOST_READ;
		let size = 0;
		await this.#readInto(checked(path), (chunk) => {
			size += chunk.length;
			if (size > most) throw tooMuch(path, `more than ${most} bytes`);
			chunks.push(Buffer.from(chunk));
		});
		return Buffer.concat(chunks, size);
	}

	/**
	 * Writes a file, over one that is there.
	 *
	 * @param options - `mode`: permissions of a new file @default 0o644
	 * @throws GuestSystemError
	 */
	async write(path: string, data: string | Uint8Array, options: { mode?: number } = {}): Promise<void> {
		const bytes = typeof data === "string" ? Buffer.from(data) : data;
		let at = 0;
		await this.#writeFrom(checked(path), options.mode ?? 0o644, async () => {
			const chunk = bytes.subarray(at, at + WRITE_CHUNK);
			at += chunk.length;
			return chunk;
		});
	}

	/**
	 * Entries of a folder, in no order.
	 *
	 * @throws GuestSystemError
	 */
	async list(path: string): Promise<GuestEntry[]> {
		const kernel = await this.#kernel();
		const descriptor = await kernel.open(checked(path), OPEN.RDONLY | OPEN.DIRECTORY | OPEN.NONBLOCK);
		try {
			const entries: GuestEntry[] = [];
			for (;;) {
				const { result, output } = await kernel.call(
					"getdents64",
					[descriptor, { output: LISTING_BYTES }, LISTING_BYTES],
					path,
				);
				if (result === 0) return entries;
				entries.push(...parseListing(output.subarray(0, result)));
				if (entries.length > MOST_ENTRIES) throw tooMuch(path, `more than ${MOST_ENTRIES} entries`);
			}
		} finally {
			await kernel.close(descriptor);
		}
	}

	/**
	 * @param options - `followSymlinks` @default true
	 * @throws GuestSystemError
	 */
	async stat(path: string, options: { followSymlinks?: boolean } = {}): Promise<GuestStat> {
		const kernel = await this.#kernel();
		const flags = options.followSymlinks === false ? AT_SYMLINK_NOFOLLOW : 0;
		const { output } = await kernel.call("newfstatat", [AT_FDCWD, checked(path), { output: STAT_BYTES }, flags], path);
		return parseStat(output);
	}

	/**
	 * Removes a file, a link, or a folder.
	 *
	 * @param options - `recursive`: with all that is in it @default false; `force`: a missing one is fine @default false
	 * @throws GuestSystemError
	 */
	async remove(path: string, options: { recursive?: boolean; force?: boolean } = {}): Promise<void> {
		const kernel = await this.#kernel();
		try {
			const { type } = await this.stat(path, { followSymlinks: false });
			if (type === "directory") {
				if (options.recursive) {
					for (const { name } of await this.list(path)) await this.remove(posix.join(path, name), options);
				}
				await kernel.call("unlinkat", [AT_FDCWD, path, AT_REMOVEDIR], path);
			} else await kernel.call("unlinkat", [AT_FDCWD, path, 0], path);
		} catch (error) {
			if (options.force !== true || (error as { code?: unknown }).code !== "ENOENT") throw error;
		}
	}

	/**
	 * Makes a folder.
	 *
	 * @param options - `recursive`: and those above it, and it may be there @default false; `mode` @default 0o755
	 * @throws GuestSystemError
	 */
	async makeFolder(path: string, options: { recursive?: boolean; mode?: number } = {}): Promise<void> {
		const kernel = await this.#kernel();
		const mode = options.mode ?? 0o755;
		if (!options.recursive) {
			await kernel.call("mkdirat", [AT_FDCWD, checked(path), mode], path);
			return;
		}
		const parts = checked(path).split("/").filter(Boolean);
		for (let depth = 1; depth <= parts.length; depth++) {
			const part = `/${parts.slice(0, depth).join("/")}`;
			try {
				await kernel.call("mkdirat", [AT_FDCWD, part, mode], part);
			} catch (error) {
				if ((error as { code?: unknown }).code !== "EEXIST") throw error;
			}
		}
	}

	/** @throws GuestSystemError */
	async rename(from: string, to: string): Promise<void> {
		const kernel = await this.#kernel();
		await kernel.call("renameat", [AT_FDCWD, checked(from), AT_FDCWD, checked(to)], from);
	}

	/**
	 * Copies a file or a folder of the host into the guest, with permissions, times and links.
	 *
	 * @returns how many files
	 * @throws GuestSystemError, or node:fs's error
	 */
	async upload(hostPath: string, guestPath: string): Promise<number> {
		const kernel = await this.#kernel();
		const found = await lstat(hostPath);
		if (found.isSymbolicLink()) {
			await kernel.call("symlinkat", [await readlink(hostPath), AT_FDCWD, checked(guestPath)], guestPath);
			return 1;
		}
		if (found.isDirectory()) {
			await this.makeFolder(guestPath, { recursive: true });
			let files = 0;
			for (const name of await readdir(hostPath)) {
				files += await this.upload(join(hostPath, name), posix.join(guestPath, name));
			}
			await kernel.call("fchmodat", [AT_FDCWD, guestPath, found.mode & 0o7777], guestPath);
			return files;
		}
		if (!found.isFile()) return 0;
		const file = await open(hostPath, "r");
		try {
			await this.#writeFrom(checked(guestPath), found.mode & 0o7777, async () => {
				const chunk = new Uint8Array(WRITE_CHUNK);
				const { bytesRead } = await file.read(chunk, 0, WRITE_CHUNK);
				return chunk.subarray(0, bytesRead);
			});
			await kernel.call("fchmodat", [AT_FDCWD, guestPath, found.mode & 0o7777], guestPath);
			await kernel.call("utimensat", [AT_FDCWD, guestPath, times(found.atimeMs, found.mtimeMs), 0], guestPath);
		} finally {
			await file.close();
		}
		return 1;
	}

	/**
	 * Copies a file or a folder of the guest to the host, where nothing of that name may be yet: a guest cannot lead it to
	 * another place. Links that lead out of the folder, and what is no file, are left out.
	 *
	 * @param options - `maxBytes` of all files together @default 64 GiB
	 * @throws GuestSystemError, node:fs's error, or SandboxError ERR_SANDBOX_LIMIT
	 */
	async download(guestPath: string, hostPath: string, options: { maxBytes?: number } = {}): Promise<DownloadReport> {
		const report = { files: 0, skipped: [] as string[] };
		const root = resolve(hostPath);
		const state: Download = { root, report, bytesLeft: options.maxBytes ?? MOST_DOWNLOADED };
		await this.#download(checked(guestPath), root, state, 0);
		return report;
	}

	async #download(guestPath: string, hostPath: string, state: Download, depth: number): Promise<void> {
		const { root, report } = state;
		const kernel = await this.#kernel();
		if (depth > DEEPEST) throw tooMuch(guestPath, `more than ${DEEPEST} folders deep`);
		if (report.files > MOST_ENTRIES) throw tooMuch(guestPath, `more than ${MOST_ENTRIES} files`);
		const { type, mode, mtimeMs } = await this.stat(guestPath, { followSymlinks: hostPath === root });
		if (type === "directory") {
			await mkdir(hostPath);
			for (const name of new Set((await this.list(guestPath)).map((entry) => entry.name))) {
				await this.#download(posix.join(guestPath, name), join(hostPath, name), state, depth + 1);
			}
			await chmod(hostPath, (mode & 0o777) | 0o700);
		} else if (type === "symlink") {
			const { result, output } = await kernel.call(
				"readlinkat",
				[AT_FDCWD, guestPath, { output: 4096 }, 4096],
				guestPath,
			);
			const target = new TextDecoder().decode(output.subarray(0, result));
			const leads = resolve(dirname(hostPath), target);
			if (target.startsWith("/") || !leads.startsWith(`${root}/`)) report.skipped.push(guestPath);
			else {
				await symlink(target, hostPath);
				report.files++;
			}
		} else if (type === "file") {
			const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
			const file = await open(hostPath, flags, mode & 0o777);
			try {
				// Bytes come in order; the file takes them one after another.
				let writing: Promise<unknown> = Promise.resolve();
				await this.#readInto(guestPath, (chunk) => {
					state.bytesLeft -= chunk.length;
					if (state.bytesLeft < 0) throw tooMuch(guestPath, "more bytes than the download may have");
					const copy = Buffer.from(chunk);
					writing = writing.then(() => file.write(copy));
					return writing;
				});
				await writing;
			} finally {
				await file.close();
			}
			await utimes(hostPath, mtimeMs / 1000, mtimeMs / 1000);
			report.files++;
		} else report.skipped.push(guestPath);
	}

	/** Reads with several calls under way, and hands the pieces on in order. */
	async #readInto(path: string, take: (chunk: Uint8Array) => unknown): Promise<void> {
		const kernel = await this.#kernel();
		const descriptor = await kernel.open(path, OPEN.RDONLY | OPEN.NONBLOCK);
		try {
			const underWay: Promise<{ result: number; output: Uint8Array }>[] = [];
			let offset = 0;
			const ask = (): void => {
				const call = kernel.call("pread64", [descriptor, { output: READ_CHUNK }, READ_CHUNK, offset], path);
				call.catch(() => {});
				underWay.push(call);
				offset += READ_CHUNK;
			};
			for (let at = 0; ; ) {
				while (underWay.length < DEPTH) ask();
				const { result, output } = await underWay.shift()!;
				if (result === 0) return;
				await take(output.subarray(0, result));
				at += result;
				if (result < READ_CHUNK) {
					// A short read, as of a file of /proc: what was asked behind it starts at the wrong place.
					underWay.length = 0;
					offset = at;
				}
			}
		} finally {
			await kernel.close(descriptor);
		}
	}

	async #writeFrom(path: string, mode: number, next: () => Promise<Uint8Array>): Promise<void> {
		const kernel = await this.#kernel();
		const descriptor = await kernel.open(path, OPEN.WRONLY | OPEN.CREAT | OPEN.TRUNC | OPEN.NONBLOCK, mode);
		try {
			const underWay: Promise<void>[] = [];
			let offset = 0;
			for (let chunk = await next(); chunk.length > 0; chunk = await next()) {
				const writing = this.#writeAll(kernel, descriptor, chunk, offset, path);
				writing.catch(() => {});
				underWay.push(writing);
				offset += chunk.length;
				if (underWay.length >= DEPTH) await underWay.shift();
			}
			await Promise.all(underWay);
		} finally {
			await kernel.close(descriptor);
		}
	}

	async #writeAll(
		kernel: GuestKernel,
		descriptor: number,
		bytes: Uint8Array,
		offset: number,
		path: string,
	): Promise<void> {
		for (let done = 0; done < bytes.length; ) {
			const piece = bytes.subarray(done);
			const { result } = await kernel.call("pwrite64", [descriptor, piece, piece.length, offset + done], path);
			done += result;
		}
	}
}

/** Two struct timespec. */
function times(...milliseconds: number[]): Uint8Array {
	const view = new DataView(new ArrayBuffer(16 * milliseconds.length));
	for (const [i, value] of milliseconds.entries()) {
		view.setBigInt64(16 * i, BigInt(Math.floor(value / 1000)), true);
		view.setBigInt64(16 * i + 8, BigInt(Math.floor((value % 1000) * 1e6)), true);
	}
	return new Uint8Array(view.buffer);
}
