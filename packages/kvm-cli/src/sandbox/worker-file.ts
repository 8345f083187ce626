/**
 * Where a thread's file is. Everything is bundled into one folder; run from source (by this repository's tests), the
 * threads are those that were built last, as Node cannot load TypeScript.
 */
export function workerFile(name: "machine-worker" | "gateway-worker"): URL {
	const fromSource = import.meta.url.endsWith(".ts");
	return new URL(fromSource ? `../../dist/${name}.js` : `./${name}.js`, import.meta.url);
}
