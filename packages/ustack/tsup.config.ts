import { defineConfig } from "tsup";

export default defineConfig({
	entry: {
		index: "src/index.ts",
		"gateway/index": "src/gateway/index.ts",
		"node/index.node": "src/node/index.node.ts",
		"drill/index": "src/drill/index.ts",
		testing: "src/testing.ts",
		bin: "src/bin.ts",
	},
	format: "esm",
	target: "es2022",
	platform: "neutral",
	external: [/^node:/],
	splitting: true,
	sourcemap: true,
	clean: true,
	dts: false,
});
