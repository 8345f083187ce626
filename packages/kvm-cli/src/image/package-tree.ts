import { spawn } from "node:child_process";
import { CliError, EXIT } from "../exit.ts";
import { readArchive } from "./archive.ts";
import { notInterrupted } from "./child.ts";
import { contents, file, type TreeEntry } from "./tree.ts";

/** What packages bring that a throw-away guest has no use for. */
const UNWANTED = /^usr\/share\/(doc|man|locale|info|lintian|bug)(\/|$)/;
const CERTIFICATE = /^usr\/share\/ca-certificates\/.*\.crt$/;
const CERTIFICATE_BUNDLE = "etc/ssl/certs/ca-certificates.crt";

/**
 * Unpacks packages on top of each other. Their maintainer scripts do not run; what the commonest of them, that of
 * ca-certificates, would have made is made here.
 *
 * @throws CliError BAD_PACKAGE, BAD_ARCHIVE; the signal's reason when aborted
 */
export async function packageTree(debs: readonly string[], signal: AbortSignal): Promise<TreeEntry[]> {
	const entries = new Map<string, TreeEntry>();
	for (const deb of debs) {
		for (const entry of await readDeb(deb, signal)) {
			if (!UNWANTED.test(entry.path)) entries.set(entry.path, entry);
		}
	}
	const certificates = [...entries.values()].filter(({ path }) => CERTIFICATE.test(path));
	if (certificates.length > 0 && !entries.has(CERTIFICATE_BUNDLE)) {
		const bundle = certificates.map((entry) => Buffer.from(contents(entry) ?? []).toString("latin1")).join("");
		entries.set(CERTIFICATE_BUNDLE, file(CERTIFICATE_BUNDLE, bundle));
	}
	return [...entries.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function readDeb(deb: string, signal: AbortSignal): Promise<TreeEntry[]> {
	const unpack = spawn("dpkg-deb", ["--fsys-tarfile", deb], { stdio: ["ignore", "pipe", "pipe"] });
	const stop = (): void => void unpack.kill("SIGTERM");
	signal.addEventListener("abort", stop, { once: true });
	let errors = "";
	unpack.stderr.on("data", (chunk) => {
		errors += String(chunk);
	});
	const ended = new Promise<number>((resolve, reject) => {
		unpack.on("error", reject);
		unpack.on("close", (code) => resolve(code ?? 128));
	});
	ended.catch(() => {});
	try {
		const entries = await readArchive(unpack.stdout, deb, signal);
		if ((await ended) === 0) return entries;
	} catch (error) {
		stop();
		await ended;
		await notInterrupted(signal);
		if (errors === "") throw error;
	} finally {
		signal.removeEventListener("abort", stop);
	}
	await notInterrupted(signal);
	throw new CliError(EXIT.failed, "BAD_PACKAGE", `${deb} does not unpack: ${errors.trim().split("\n")[0]}`);
}
