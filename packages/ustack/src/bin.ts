import { main } from "./cli/main.node.ts";

const interruption = /* @__PURE__ */ new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => interruption.abort());
for (const stream of [process.stdout, process.stderr]) {
	// Whoever read the output may leave before its end.
	stream.on("error", (error: NodeJS.ErrnoException) => {
		if (error.code !== "EPIPE") throw error;
	});
}

process.exitCode = await main(process.argv.slice(2), {
	stdin: process.stdin,
	stdout: process.stdout,
	stderr: process.stderr,
	signal: interruption.signal,
});
process.stdin.unref?.();
