import { EXIT, Interrupted } from "./exit.ts";

const interruption = new AbortController();
process.on("SIGINT", () => interruption.abort(new Interrupted()));
process.on("SIGTERM", () => interruption.abort(new Interrupted(EXIT.terminated)));
process.on("SIGHUP", () => interruption.abort(new Interrupted(EXIT.terminated)));
for (const stream of [process.stdout, process.stderr]) {
	// Whoever read the output may leave before its end.
	stream.on("error", (error: NodeJS.ErrnoException) => {
		if (error.code !== "EPIPE") throw error;
	});
}

// What answers signals is there before all the rest is loaded.
const { main } = await import("./main.ts");

process.exitCode = await main(process.argv.slice(2), {
	stdin: process.stdin,
	stdout: process.stdout,
	stderr: process.stderr,
	env: process.env,
	signal: interruption.signal,
});
process.stdin.pause();
