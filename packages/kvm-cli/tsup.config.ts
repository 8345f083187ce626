import { defineConfig } from "tsup";

export default defineConfig({
	entry: {
		index: "src/index.ts",
		bin: "src/bin.ts",
		"machine-worker": "src/sandbox/machine-worker.ts",
		"gateway-worker": "src/network/gateway-worker.ts",
	},
	format: "esm",
	target: "es2022",
	platform: "neutral",
	external: [/^node:/],
	sourcemap: true,
	clean: true,
	dts: false,
});
