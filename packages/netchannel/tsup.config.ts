import { defineConfig } from "tsup";

export default defineConfig({
	entry: {
		index: "src/index.ts",
		"index.node": "src/index.node.ts",
		"testing/index": "src/testing/index.ts",
		bin: "src/bin.ts",
		"io-thread": "src/native/io-thread.node.ts",
		"bench-sender": "src/cli/bench-sender.node.ts",
	},
	format: "esm",
	target: "es2022",
	platform: "neutral",
	external: [/^node:/, "koffi"],
	sourcemap: true,
	clean: true,
	dts: false,
});
