import { gunzipSync } from "node:zlib";
import { agentExecutable } from "../agent/executable.ts";
import { file, writeCpio } from "../image/cpio.ts";
import { moduleName } from "../image/kernel-module.ts";

/** Where the agent is in the guest, for `rdinit=`. */
export const AGENT_PATH = "/xkvm/agent";

const HEADER_BYTES = 110;
const GZIP_MAGIC = 0x1f8b;

/** Kernel modules of an initrd, by name, each with the paths to load in order. */
export type ModuleTable = ReadonlyMap<string, readonly string[]>;

/**
 * Reads the one file `modules.dep` of an initrd in cpio's "new ASCII" format, compressed by gzip or not.
 *
 * @returns an empty table where there is none
 */
export function readModules(initrd: Uint8Array): ModuleTable {
	const archive = initrd.length > 2 && ((initrd[0]! << 8) | initrd[1]!) === GZIP_MAGIC ? gunzipSync(initrd) : initrd;
	const latin1 = new TextDecoder("latin1");
	for (let at = 0; at + HEADER_BYTES <= archive.length; ) {
		if (archive[at] === 0) {
			at++;
			continue;
		}
		const header = latin1.decode(archive.subarray(at, at + HEADER_BYTES));
		if (!/^07070[12][0-9a-fA-F]{104}$/.test(header)) break;
		const size = Number.parseInt(header.slice(54, 62), 16);
		const nameSize = Number.parseInt(header.slice(94, 102), 16);
		const dataAt = (at + HEADER_BYTES + nameSize + 3) & ~3;
		if (dataAt + size > archive.length) break;
		const name = latin1.decode(archive.subarray(at + HEADER_BYTES, at + HEADER_BYTES + nameSize - 1));
		const folder = /^(?:\.\/)?((?:usr\/)?lib\/modules\/[^/]+)\/modules\.dep$/.exec(name)?.[1];
		if (folder !== undefined) return parseModules(folder, latin1.decode(archive.subarray(dataAt, dataAt + size)));
		at = (dataAt + size + 3) & ~3;
	}
	return new Map();
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

/** Modules without which the agent has no port. */
const PORT_MODULES: readonly string[] = ["virtio_pci", "virtio_console"];

/** Puts the agent and the list of what it has to load behind an image's initrd. */
export function addAgent(initrd: Uint8Array, modules: ModuleTable): Uint8Array {
	const list = modulePaths(modules, PORT_MODULES);
	const overlay = writeCpio([
		file("xkvm/agent", agentExecutable(), 0o755),
		file("xkvm/modules", list.map((path) => `${path}\n`).join("")),
	]);
	const start = Math.ceil(initrd.length / 4) * 4;
	const all = new Uint8Array(start + overlay.length);
	all.set(initrd);
	all.set(overlay, start);
	return all;
}
