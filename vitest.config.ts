import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const conditions = ["@x/source", "module", "node", "development|production"];
const packages = fileURLToPath(new URL("./packages/", import.meta.url));
const e2e = fileURLToPath(new URL("./e2e/", import.meta.url));

export default defineConfig({
	test: {
		// Two cores are the machine this is planned for; some tests start worker threads of their own.
		maxWorkers: 2,
		projects: [
			...readdirSync(packages)
				.filter((name) => existsSync(`${packages}${name}/package.json`))
				.map((name) => ({
					root: `${packages}${name}`,
					resolve: { conditions },
					ssr: { resolve: { conditions } },
					test: {
						name,
						include: ["test/**/*.test.ts"],
						testTimeout: 60_000,
						hookTimeout: 60_000,
					},
				})),
			{
				root: e2e,
				test: {
					name: "e2e",
					include: ["**/*.test.ts"],
					exclude: ["**/node_modules/**"],
					testTimeout: 300_000,
					hookTimeout: 300_000,
				},
			},
		],
	},
});
