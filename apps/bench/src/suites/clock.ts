import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Suite } from "../suite.ts";

const XKVM = fileURLToPath(new URL("../../../../packages/kvm-cli/bin/xkvm.js", import.meta.url));
const SECONDS = 60;

/** User and system time of a process, in seconds. */
function processorTime(pid: number): number {
	const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
	return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** A guest's clock against the host's over a minute in which it sleeps, and what that minute cost. */
const clock: Suite = async ({ note, table }) => {
	if (process.platform !== "linux") return note("skipped: reads the process's times from /proc");
	const script = `cat /proc/uptime; sleep ${SECONDS}; cat /proc/uptime`;
	const child = spawn(process.execPath, [XKVM, "run", "--", "sh", "-c", script], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	const marks: { host: number; guest: number; cpu: number }[] = [];
	child.stdout.on("data", (data: Buffer) => {
		marks.push({
			host: performance.now() / 1000,
			guest: Number(data.toString().split(" ")[0]),
			cpu: processorTime(child.pid!),
		});
	});
	const code = await new Promise((resolve) => child.once("close", resolve));
	const [first, last] = marks;
	if (code !== 0 || first === undefined || last === undefined) return note(`skipped: xkvm ended with ${String(code)}`);
	const host = last.host - first.host;
	const guest = last.guest - first.guest;
	table("a guest that sleeps for a minute", [
		{
			"host s": host.toFixed(3),
			"guest s": guest.toFixed(3),
			"off by %": ((guest / host - 1) * 100).toFixed(3),
			"CPU s": (last.cpu - first.cpu).toFixed(2),
		},
	]);
};

export default clock;
