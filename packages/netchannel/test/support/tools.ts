import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Whether a program is on the PATH or in the places administrators' tools are. */
export function hasTool(name: string): boolean {
	return `${process.env["PATH"] ?? ""}${delimiter}/usr/sbin${delimiter}/sbin`
		.split(delimiter)
		.some((folder) => existsSync(join(folder, name)));
}

/** Why tests that need these programs are skipped, or undefined when all are there. */
export function missing(...names: string[]): string | undefined {
	const absent = names.filter((name) => !hasTool(name));
	return absent.length === 0 ? undefined : `not installed: ${absent.join(", ")}`;
}

/** Runs a program to its end; throws with its words when it fails. */
export function run(command: string, ...words: string[]): string {
	const { status, stdout, stderr, error } = spawnSync(command, words, { encoding: "utf8", maxBuffer: 1 << 28 });
	if (error !== undefined) throw error;
	if (status !== 0) throw new Error(`${command} ${words.join(" ")}: exit ${status}\n${stdout}${stderr}`);
	return stdout;
}
