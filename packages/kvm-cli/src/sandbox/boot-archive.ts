import { gunzipSync } from "node:zlib";
import { agentExecutable } from "../agent/executable.ts";
import { writeCpio } from "../image/cpio.ts";
import { moduleName } from "../image/kernel-module.ts";
import { file, symlink } from "../image/tree.ts";

/** Where the agent is in the guest, for `rdinit=`. */
export const AGENT_PATH = "/xkvm/agent";

const HEADER_BYTES = 110;
const GZIP_MAGIC = 0x1f8b;
const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;
const FOLDERS = ["bin", "sbin", "usr/bin", "usr/sbin"];
const MOST_APPLET_BYTES = 8192;

/** Kernel modules of an initrd, by name, each with the paths to load in order. */
export type ModuleTable = ReadonlyMap<string, readonly string[]>;

/** What the host has to know of an initrd. */
export interface InitrdContents {
	/** Empty without a `modules.dep`. */
	readonly modules: ModuleTable;
	/** Names busybox answers to for which there is no file yet. */
	readonly applets: readonly string[];
}

/** Reads an initrd in cpio's "new ASCII" format, compressed by gzip or not; what cannot be read is not there. */
export function readInitrd(initrd: Uint8Array): InitrdContents {
	const archive = initrd.length > 2 && ((initrd[0]! << 8) | initrd[1]!) === GZIP_MAGIC ? gunzipSync(initrd) : initrd;
	const latin1 = new TextDecoder("latin1");
	const names = new Set<string>();
	let modules: ModuleTable = new Map();
	let busybox: Uint8Array | undefined;
	let mergedFolders = false;
	for (let at = 0; at + HEADER_BYTES <= archive.length; ) {
		if (archive[at] === 0) {
			at++;
			continue;
		}
		const header = latin1.decode(archive.subarray(at, at + HEADER_BYTES));
		if (!/^07070[12][0-9a-fA-F]{104}$/.test(header)) break;
		const field = (index: number): number => Number.parseInt(header.slice(6 + 8 * index, 14 + 8 * index), 16);
		const size = field(6);
		const nameSize = field(11);
		const dataAt = (at + HEADER_BYTES + nameSize + 3) & ~3;
		if (dataAt + size > archive.length) break;
		const path = latin1.decode(archive.subarray(at + HEADER_BYTES, at + HEADER_BYTES + nameSize - 1));
		const name = path.replace(/^\.\//, "");
		const data = archive.subarray(dataAt, dataAt + size);
		names.add(name);
		if (name === "bin/busybox") busybox = data;
		if (name === "bin" && (field(1) & S_IFMT) === S_IFLNK) mergedFolders = true;
		const folder = /^((?:usr\/)?lib\/modules\/[^/]+)\/modules\.dep$/.exec(name)?.[1];
		if (folder !== undefined) modules = parseModules(folder, latin1.decode(data));
		at = (dataAt + size + 3) & ~3;
	}
	const applets = busybox === undefined || mergedFolders ? [] : appletNames(busybox);
	return { modules, applets: applets.filter((applet) => !FOLDERS.some((folder) => names.has(`${folder}/${applet}`))) };
}

/** Busybox's table of its own names: texts in order, the first two of which are always these. */
function appletNames(busybox: Uint8Array): string[] {
	const bytes = Buffer.from(busybox.buffer, busybox.byteOffset, busybox.byteLength);
	const start = bytes.indexOf("\0[\0[[\0", 0, "latin1") + 1;
	const end = bytes.indexOf("\0\0", start, "latin1");
	if (start === 0 || end < 0 || end - start > MOST_APPLET_BYTES) return [];
	const names = bytes.toString("latin1", start, end).split("\0");
	return names.filter((name) => /^[a-z0-9[][a-z0-9_.[-]*$/.test(name));
}

function parseModules(folder: string, text: string): ModuleTable {
	const needs = new Map<string, string[]>();
	for (const line of text.split("\n")) {
		const [path, rest] = line.split(":");
		if (path && rest !== undefined) needs.set(path, rest.split(" ").filter(Boolean));
	}
	const table = new Map<string, string[]>();
	for (const path of needs.keys()) {
		const order: string[] = [];
		const visit = (module: string): void => {
			for (const needed of needs.get(module) ?? []) if (needed !== module && !order.includes(needed)) visit(needed);
			if (!order.includes(module)) order.push(module);
		};
		visit(path);
		table.set(
			moduleName(path),
			order.map((module) => `/${folder}/${module}`),
		);
	}
	return table;
}

/** Paths to load for these modules, in order; those that the kernel has built in are not in the table. */
export function modulePaths(table: ModuleTable, names: readonly string[]): string[] {
	return [...new Set(names.flatMap((name) => table.get(name) ?? []))];
}

/** Modules without which the agent has no port: it loads them itself. */
export const PORT_MODULES: readonly string[] = ["virtio_pci", "virtio_console"];

/** Puts the agent, the list of what it has to load, and links for busybox's names behind an image's initrd. */
export function addAgent(initrd: Uint8Array, { modules, applets }: InitrdContents): Uint8Array {
	const list = modulePaths(modules, PORT_MODULES);
	const overlay = writeCpio([
		file("xkvm/agent", agentExecutable(), 0o755),
		file("xkvm/modules", list.map((path) => `${path}\n`).join("")),
		...applets.map((applet) => symlink(`bin/${applet}`, "busybox")),
	]);
	const start = Math.ceil(initrd.length / 4) * 4;
	const all = new Uint8Array(start + overlay.length);
	all.set(initrd);
	all.set(overlay, start);
	return all;
}
