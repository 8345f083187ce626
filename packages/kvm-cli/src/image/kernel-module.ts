import { CliError, EXIT } from "../exit.ts";

/** A module's name as the kernel has it: dashes are underscores. */
export function moduleName(file: string): string {
	return file
		.replace(/^.*\//, "")
		.replace(/\.ko(\.(xz|gz|zst))?$/, "")
		.replaceAll("-", "_");
}

/**
 * Names of the modules a .ko file says it depends on, from its .modinfo section.
 *
 * @throws CliError when it is no ELF object with such a section
 */
export function moduleDependencies(name: string, bytes: Uint8Array): string[] {
	const section = modinfoSection(bytes);
	if (section === undefined) {
		throw new CliError(EXIT.failed, "BAD_MODULE", `kernel module ${name}: no ELF file with a .modinfo section`);
	}
	for (const line of new TextDecoder("latin1").decode(section).split("\0")) {
		if (!line.startsWith("depends=")) continue;
		return line.slice("depends=".length).split(",").filter(Boolean).map(moduleName);
	}
	return [];
}

function modinfoSection(bytes: Uint8Array): Uint8Array | undefined {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	if (bytes.length < 64 || view.getUint32(0, false) !== 0x7f45_4c46) return undefined;
	const wide = bytes[4] === 2;
	const word = (at: number): number => (wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true));
	const table = word(wide ? 40 : 32);
	const entrySize = view.getUint16(wide ? 58 : 46, true);
	const count = view.getUint16(wide ? 60 : 48, true);
	const namesIndex = view.getUint16(wide ? 62 : 50, true);
	if (entrySize < (wide ? 64 : 40) || table + entrySize * count > bytes.length || namesIndex >= count) return undefined;
	const contents = (index: number): Uint8Array => {
		const header = table + index * entrySize;
		const offset = word(header + (wide ? 24 : 16));
		return bytes.subarray(offset, offset + word(header + (wide ? 32 : 20)));
	};
	const names = contents(namesIndex);
	const wanted = new TextEncoder().encode(".modinfo\0");
	for (let i = 0; i < count; i++) {
		const nameAt = view.getUint32(table + i * entrySize, true);
		if (wanted.every((byte, k) => names[nameAt + k] === byte)) return contents(i);
	}
	return undefined;
}

/** A module and what must be loaded before it. */
export interface ModuleGraph {
	/** Names of direct dependencies, or undefined for a module that does not exist as a file (it is built in, or missing). */
	dependencies(name: string): readonly string[] | undefined;
}

/**
 * Puts modules and all they need into an order they can be loaded in. Names without a file are left out when `optional`
 * says so.
 *
 * @throws CliError for a missing dependency or a cycle
 */
export function loadOrder(wanted: readonly string[], graph: ModuleGraph): string[] {
	const order: string[] = [];
	const state = new Map<string, "open" | "done">();
	const visit = (name: string, needed: string | undefined): void => {
		if (state.get(name) === "done") return;
		if (state.get(name) === "open") {
			throw new CliError(EXIT.failed, "BAD_MODULE", `kernel module ${name} depends on itself`);
		}
		const dependencies = graph.dependencies(name);
		if (dependencies === undefined) {
			if (needed === undefined) return;
			throw new CliError(
				EXIT.failed,
				"BAD_MODULE",
				`kernel module ${needed} needs ${name}, which the kernel package lacks`,
			);
		}
		state.set(name, "open");
		for (const dependency of dependencies) visit(dependency, name);
		state.set(name, "done");
		order.push(name);
	};
	for (const name of wanted) visit(name, undefined);
	return order;
}

/** All a module needs, what is loaded first last: a line of modules.dep, as depmod writes it and modprobe reads it. */
export function needsInReverse(name: string, graph: ModuleGraph): string[] {
	return loadOrder([name], graph).slice(0, -1).reverse();
}
