import { createHash } from "node:crypto";
import { closeSync, fstatSync, fsync, openSync, readdirSync, readSync, statSync, utimesSync, writeSync } from "node:fs";
import { readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { deserialize, serialize } from "node:v8";
import type { GuestRam, MachineState } from "@x/kvm-core";
import { isAlive } from "../image/store.ts";
import { packageVersion } from "../version.ts";

/** A guest that has started, as it is kept: all but its memory. */
export interface KeptStart {
	readonly machine: MachineState;
	/** The agent's greeting. */
	readonly greeting: Uint8Array;
	/** What was on the serial console. */
	readonly console: Uint8Array;
	/** Kernel modules of the initrd. */
	readonly modules: ReadonlyMap<string, readonly string[]>;
}

interface Header {
	readonly kept: KeptStart;
	/** Pages in the file, in order: first page and count, over all windows of RAM. */
	readonly runs: Uint32Array;
}

const MAGIC = Buffer.from("xkvm start v1\n\0\0");
const PREFIX_BYTES = MAGIC.length + 8;
const PAGE = 4096;
/** Pages of zeros that are written all the same, so that there are fewer pieces. */
const GAP = 8;
/** Starts that are kept at most; the one that was used longest ago goes. */
const MOST_KEPT = 8;
const MOST_HEADER_BYTES = 2 ** 26;

/** Where starts are kept, in xkvm's cache folder. */
export function startsFolder(cache: string): string {
	return join(cache, "starts");
}

/** Says of files whether they are still the same. */
function identity(path: string): (string | number)[] {
	const { ino, size, mtimeMs } = statSync(path);
	return [path, ino, size, mtimeMs];
}

/** The code that a start was made by and goes on in: another one's state may mean something else. */
function codeIdentity(): unknown[] {
	const folders = [import.meta.url, import.meta.resolve("@x/kvm-core")].map((url) => dirname(fileURLToPath(url)));
	return folders.map((folder) =>
		readdirSync(folder)
			.filter((name) => name.endsWith(".js"))
			.map((name) => identity(join(folder, name))),
	);
}

/**
 * The file for a start.
 *
 * @param files - all that the guest was started from
 * @param rest - all else that it could tell apart
 */
export function keptStartPath(folder: string, files: readonly string[], rest: readonly unknown[]): string {
	const all = [packageVersion(), process.versions.v8, codeIdentity(), files.map(identity), rest];
	return join(folder, createHash("sha256").update(JSON.stringify(all)).digest("hex").slice(0, 32));
}

/** Puts a kept start's memory into a machine that has nothing in it, and gives the rest; undefined when there is none. */
export function readKeptStart(path: string, ram: GuestRam): KeptStart | undefined {
	let file: number;
	try {
		file = openSync(path, "r");
	} catch {
		return undefined;
	}
	try {
		const prefix = Buffer.alloc(PREFIX_BYTES);
		if (readSync(file, prefix) !== PREFIX_BYTES || prefix.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0) {
			return undefined;
		}
		const headerBytes = prefix.readUInt32LE(MAGIC.length);
		const pages = prefix.readUInt32LE(MAGIC.length + 4);
		const dataAt = Math.ceil((PREFIX_BYTES + headerBytes) / PAGE) * PAGE;
		if (headerBytes > MOST_HEADER_BYTES || fstatSync(file).size !== dataAt + pages * PAGE) return undefined;
		const bytes = Buffer.alloc(headerBytes);
		if (readSync(file, bytes, 0, headerBytes, PREFIX_BYTES) !== headerBytes) return undefined;
		const { kept, runs } = deserialize(bytes) as Header;
		let at = dataAt;
		for (let i = 0; i < runs.length; i += 2) {
			const wanted = runs[i + 1]! * PAGE;
			const window = windowOf(ram, runs[i]!, wanted);
			if (window === undefined || readSync(file, window, 0, wanted, at) !== wanted) {
				for (const { bytes } of ram.windows()) bytes.fill(0);
				return undefined;
			}
			at += wanted;
		}
		const now = new Date();
		utimesSync(path, now, now);
		return kept;
	} finally {
		closeSync(file);
	}
}

/** Pages by their number over all windows of RAM. */
function windowOf(ram: GuestRam, page: number, length: number): Uint8Array | undefined {
	let first = 0;
	for (const { bytes } of ram.windows()) {
		const at = (page - first) * PAGE;
		if (at < bytes.length) return at + length <= bytes.length ? bytes.subarray(at, at + length) : undefined;
		first += bytes.length / PAGE;
	}
	return undefined;
}

/** Stretches of pages that hold anything. */
function usedPages(ram: GuestRam): Uint32Array {
	const zeros = Buffer.alloc(PAGE);
	const runs: number[] = [];
	let first = 0;
	for (const { bytes } of ram.windows()) {
		const window = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
		let start = -1;
		let end = -1;
		for (let page = 0; page < bytes.length / PAGE; page++) {
			if (window.compare(zeros, 0, PAGE, page * PAGE, page * PAGE + PAGE) === 0) continue;
			if (start >= 0 && page - end > GAP) {
				runs.push(first + start, end - start);
				start = -1;
			}
			if (start < 0) start = page;
			end = page + 1;
		}
		if (start >= 0) runs.push(first + start, end - start);
		first += bytes.length / PAGE;
	}
	return Uint32Array.from(runs);
}

/**
 * Keeps a start. What it reads of memory it has read when it returns; the promise it returns is the file's being there
 * whole, or not at all.
 */
export function writeKeptStart(path: string, kept: KeptStart, ram: GuestRam): Promise<void> {
	const temporary = `${path}.${process.pid}`;
	const runs = usedPages(ram);
	const header = serialize({ kept, runs } satisfies Header);
	let pages = 0;
	for (let i = 1; i < runs.length; i += 2) pages += runs[i]!;
	const dataAt = Math.ceil((PREFIX_BYTES + header.length) / PAGE) * PAGE;
	const front = Buffer.alloc(dataAt);
	MAGIC.copy(front);
	front.writeUInt32LE(header.length, MAGIC.length);
	front.writeUInt32LE(pages, MAGIC.length + 4);
	header.copy(front, PREFIX_BYTES);
	const file = openSync(temporary, "w", 0o600);
	try {
		writeAll(file, front, 0);
		let at = dataAt;
		for (let i = 0; i < runs.length; i += 2) {
			const window = windowOf(ram, runs[i]!, runs[i + 1]! * PAGE)!;
			writeAll(file, window, at);
			at += window.length;
		}
	} catch (error) {
		closeSync(file);
		return rm(temporary, { force: true }).then(() => Promise.reject(error as Error));
	}
	return finish(file, temporary, path);
}

function writeAll(file: number, bytes: Uint8Array, position: number): void {
	for (let done = 0; done < bytes.length; ) {
		done += writeSync(file, bytes, done, bytes.length - done, position + done);
	}
}

async function finish(file: number, temporary: string, path: string): Promise<void> {
	try {
		await promisify(fsync)(file);
	} finally {
		closeSync(file);
	}
	await rename(temporary, path);
	await dropOldStarts(dirname(path), MOST_KEPT);
}

/**
 * Removes all but the starts used last, and what processes that died left.
 *
 * @returns bytes that were given back
 */
export async function dropOldStarts(folder: string, most: number): Promise<number> {
	const names = await readdir(folder).catch(() => []);
	const files = await Promise.all(
		names.map(async (name) => {
			const path = join(folder, name);
			const found = await stat(path).catch(() => undefined);
			return { path, pid: Number(name.split(".")[1] ?? 0), used: found?.mtimeMs ?? 0, size: found?.size ?? 0 };
		}),
	);
	const whole = files.filter(({ pid }) => pid === 0).sort((one, other) => other.used - one.used);
	const dead = files.filter(({ pid }) => pid !== 0 && !isAlive(pid));
	const dropped = [...whole.slice(most), ...dead];
	await Promise.all(dropped.map(({ path }) => rm(path, { force: true })));
	return dropped.reduce((sum, { size }) => sum + size, 0);
}
