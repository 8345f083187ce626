import { readFileSync } from "node:fs";
import { processIo } from "./cli/io.node.ts";
import { main } from "./cli/main.ts";

const manifest = readFileSync(new URL("../package.json", import.meta.url), "utf8");
const { version } = JSON.parse(manifest) as { version: string };

// A reader that has seen enough, such as head, is no fault.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
	if (error.code !== "EPIPE") throw error;
});
process.on("SIGINT", () => process.exit(130));
process.exitCode = await main(process.argv.slice(2), processIo(version));
