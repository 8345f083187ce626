import { defineConfig } from "tsup";

const subPaths = ["config", "data", "element", "export", "formats", "hints", "iso3166", "legacy", "signature", "text"];

export default defineConfig({
	entry: {
		index: "src/index.ts",
		bin: "src/bin.ts",
		...Object.fromEntries(subPaths.map((name) => [`${name}/index`, `src/${name}/index.ts`])),
	},
	format: "esm",
	target: "es2022",
	platform: "neutral",
	external: [/^node:/],
	sourcemap: true,
	clean: true,
	dts: false,
});
