import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
// The bundler that the package is built with.
const tsup = createRequire(join(root, "package.json")).resolve("tsup/package.json");
const { buildSync } = createRequire(tsup)("esbuild") as typeof import("esbuild");

test("the example runs, and the README shows it", () => {
	const source = readFileSync(join(root, "examples/hello.ts"), "utf8");
	expect(readFileSync(join(root, "README.md"), "utf8")).toContain(source.trimEnd());
	const { outputFiles } = buildSync({
		entryPoints: [join(root, "examples/hello.ts")],
		alias: { "@x/kvm-core": join(root, "src/index.ts") },
		bundle: true,
		format: "esm",
		platform: "node",
		write: false,
	});
	const input = outputFiles[0]!.text;
	expect(execFileSync(process.execPath, ["--input-type=module"], { input, encoding: "utf8" })).toBe("hi\n");
});
