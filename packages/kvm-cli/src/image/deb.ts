import { spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { CliError, EXIT } from "../exit.ts";
import { noSpace } from "./apt.ts";
import { notInterrupted } from "./child.ts";

/** Stands for the exit code of a child that a signal ended. */
const KILLED = 128;

/**
 * Unpacks files of a .deb into a folder with dpkg-deb and tar.
 *
 * @param patterns - tar's wildcards for the paths wanted, which start with "./"
 * @throws CliError BAD_PACKAGE, ENOSPC; the signal's reason when aborted
 */
export async function extractDeb(
	deb: string,
	patterns: readonly string[],
	folder: string,
	signal: AbortSignal,
): Promise<void> {
	await mkdir(folder, { recursive: true });
	signal.throwIfAborted();
	const unpack = spawn("dpkg-deb", ["--fsys-tarfile", deb], { stdio: ["ignore", "pipe", "pipe"] });
	const args = ["-x", "-f", "-", "-C", folder, "--no-same-owner", "--no-same-permissions", "--wildcards", ...patterns];
	const tar = spawn("tar", args, { stdio: ["pipe", "ignore", "pipe"] });
	tar.stdin.on("error", () => {});
	unpack.stdout.pipe(tar.stdin);
	// tar may be done, or dead, before the archive's end: what still comes must not keep dpkg-deb from ending. This goes
	// behind the pipe's own listener, which stops the flow.
	tar.stdin.on("close", () => unpack.stdout.resume());
	const children = [unpack, tar];
	const stop = (): void => {
		for (const child of children) child.kill("SIGTERM");
	};
	signal.addEventListener("abort", stop, { once: true });
	let errors = "";
	const codes = await Promise.all(
		children.map(
			(child) =>
				new Promise<number>((resolve, reject) => {
					child.stderr!.on("data", (chunk) => {
						errors += String(chunk);
					});
					child.on("error", reject);
					child.on("close", (code) => resolve(code ?? KILLED));
				}),
		),
	).finally(() => signal.removeEventListener("abort", stop));
	if (codes.every((code) => code === 0)) {
		signal.throwIfAborted();
		return;
	}
	await notInterrupted(signal);
	// A pattern that matches nothing makes tar end with 2; what is missing is found out by whoever wanted it.
	const serious = errors
		.split("\n")
		.filter((line) => line !== "" && !/Not found in archive|previous errors/.test(line));
	if (serious.length === 0 && !codes.includes(KILLED)) return;
	// The last block that goes in part of the way is how tar meets the end first.
	if (/No space left on device|Wrote only \d+ of \d+ bytes/.test(errors)) throw noSpace(folder);
	throw new CliError(EXIT.failed, "BAD_PACKAGE", `${deb} does not unpack: ${serious[0] ?? "ended by a signal"}`);
}
