import { defineConfig } from "tsup";

export default defineConfig({
	entry: { index: "src/index.ts", "hardware/index.node": "src/hardware/index.node.ts" },
	format: "esm",
	target: "es2022",
	platform: "neutral",
	external: [/^node:/, "koffi"],
	sourcemap: true,
	clean: true,
	dts: false,
});
