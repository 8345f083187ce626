import { createRequire } from "node:module";

/** This package's version, from its package.json. */
export function packageVersion(): string {
	const require = createRequire(import.meta.url);
	const { version } = require("../package.json") as { version: string };
	return version;
}
