import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { gunzipSync } from "node:zlib";
import { CliError, EXIT } from "../exit.ts";
import type { DebianPackage } from "./apt.ts";
import { runChild } from "./child.ts";
import { extractDeb } from "./deb.ts";
import { EXTRA_MODULES, MODULE_PATTERNS } from "./guest-init.ts";
import { loadOrder, moduleDependencies, moduleName } from "./kernel-module.ts";

/** What {@link readKernelPackage} finds. */
export interface KernelContents {
	readonly release: string;
	readonly vmlinuz: Uint8Array;
	/** In load order; `boot` are those /init loads. */
	readonly modules: readonly {
		readonly name: string;
		/** Below `lib/modules/RELEASE`. */
		readonly path: string;
		readonly bytes: Uint8Array;
		readonly needs: readonly string[];
	}[];
	readonly boot: readonly string[];
}

/**
 * Takes the kernel and the modules guests use out of Debian's package.
 *
 * @param bootModules - those /init loads
 * @throws CliError BAD_PACKAGE
 */
export async function readKernelPackage(
	deb: string,
	from: DebianPackage,
	folder: string,
	bootModules: readonly string[],
	signal: AbortSignal,
): Promise<KernelContents> {
	await extractDeb(deb, ["./boot/vmlinuz-*", ...MODULE_PATTERNS], folder, signal);
	const images = (await readdir(join(folder, "boot")).catch(() => [])).filter((name) => name.startsWith("vmlinuz-"));
	const release = images[0]?.slice("vmlinuz-".length);
	if (release === undefined) {
		throw new CliError(EXIT.failed, "BAD_PACKAGE", `package ${from.name} ${from.version} holds no boot/vmlinuz`);
	}
	const paths = new Map<string, string>();
	for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
		if (entry.isFile() && /\.ko(\.(xz|gz|zst))?$/.test(entry.name))
			paths.set(moduleName(entry.name), join(entry.parentPath, entry.name));
	}
	const loaded = new Map<string, { bytes: Uint8Array; needs: string[] }>();
	const load = async (name: string): Promise<void> => {
		const path = paths.get(name);
		if (path === undefined || loaded.has(name)) return;
		const bytes = await readModule(path, signal);
		const needs = moduleDependencies(name, bytes);
		loaded.set(name, { bytes, needs });
		for (const needed of needs) await load(needed);
	};
	const all = [...bootModules, ...EXTRA_MODULES];
	for (const name of all) await load(name);
	const graph = { dependencies: (name: string) => loaded.get(name)?.needs };
	const order = loadOrder(all, graph);
	return {
		release,
		vmlinuz: await readFile(join(folder, "boot", images[0]!)),
		modules: order.map((name) => ({
			name,
			path: relative(folder, paths.get(name)!)
				.replace(/^.*\/(kernel\/)/, "$1")
				.replace(/\.(xz|gz|zst)$/, ""),
			...loaded.get(name)!,
		})),
		boot: loadOrder(bootModules, graph),
	};
}

async function readModule(path: string, signal: AbortSignal): Promise<Uint8Array> {
	const bytes = await readFile(path);
	if (path.endsWith(".ko")) return bytes;
	if (path.endsWith(".gz")) return gunzipSync(bytes);
	const program = path.endsWith(".xz") ? "xz" : "zstd";
	const { exitCode, stdout } = await runChild(program, ["-dc"], { signal, input: bytes });
	if (exitCode !== 0) throw new CliError(EXIT.failed, "BAD_PACKAGE", `${program} cannot decompress ${path}`);
	return stdout;
}
