import { zlibSync } from "fflate";
import { defineConfig } from "tsup";
import { FIRST_VCPU, interpreterBytes } from "./src/software/interpreter.ts";

export default defineConfig({
	entry: {
		index: "src/index.ts",
		"debug/index": "src/debug/index.ts",
		"classic/index": "src/classic/index.ts",
		"hardware/index.node": "src/hardware/index.node.ts",
	},
	format: "esm",
	target: "es2022",
	platform: "neutral",
	external: [/^node:/, "koffi"],
	sourcemap: true,
	clean: true,
	dts: false,
	esbuildPlugins: [
		{
			name: "pregenerated-interpreter",
			setup(build) {
				build.onLoad({ filter: /software[\\/]pregenerated\.ts$/ }, () => {
					const packed = zlibSync(interpreterBytes(FIRST_VCPU), { level: 9 });
					const text = Buffer.from(packed).toString("base64");
					return { contents: `export const pregenerated = "${text}";`, loader: "js" };
				});
			},
		},
	],
});
