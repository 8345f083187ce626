import { readFileSync } from "node:fs";
import { main } from "./cli/main.node.ts";

const stop = new AbortController();
process.once("SIGINT", () => stop.abort(new DOMException("interrupted", "AbortError")));
process.once("SIGTERM", () => stop.abort(new DOMException("terminated", "AbortError")));
// A reader that stops reading (head, less) is no failure of ours.
process.stdout.on("error", () => stop.abort(new DOMException("nobody reads", "AbortError")));

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
	version: string;
};
process.exitCode = await main(process.argv.slice(2), version, {
	out: (text) => void process.stdout.write(text),
	err: (line) => void process.stderr.write(`${line}\n`),
	signal: stop.signal,
});
