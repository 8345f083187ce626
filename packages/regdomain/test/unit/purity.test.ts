import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as {
	sideEffects: boolean;
	dependencies?: object;
	exports: Record<string, string | Record<string, string>>;
};
const entries = Object.values(manifest.exports).flatMap((entry) =>
	typeof entry === "string" ? [] : [entry["@x/source"]!],
);

function reach(file: URL, seen: Set<string>): void {
	if (seen.has(file.href)) return;
	seen.add(file.href);
	for (const [, name] of readFileSync(file, "utf8").matchAll(/^(?:import|export)\b[^;]*?\bfrom "([^"]+)"/gms)) {
		if (name!.startsWith(".")) reach(new URL(name!, file), seen);
		else seen.add(name!);
	}
}

test.each(entries)("%s runs in a browser: nothing but its own modules is imported", (entry) => {
	const seen = new Set<string>();
	reach(new URL(entry, root), seen);
	expect([...seen].filter((name) => !name.startsWith("file:"))).toEqual([]);
	expect([...seen].filter((name) => name.endsWith(".node.ts") || fileURLToPath(name).includes("/cli/"))).toEqual([]);
	expect(seen.size).toBeGreaterThan(1);
});

test("no dependency, no side effect", () => {
	expect(manifest.dependencies).toBeUndefined();
	expect(manifest.sideEffects).toBe(false);
	expect(entries).toHaveLength(11);
});
