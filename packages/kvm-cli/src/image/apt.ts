import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CliError, EXIT } from "../exit.ts";
import type { Progress } from "../terminal/progress.ts";
import { runChild } from "./child.ts";
import { makeFolder } from "./store.ts";

/** A package as apt's lists describe it. */
export interface DebianPackage {
	readonly name: string;
	readonly version: string;
	readonly architecture: string;
	/** Of the .deb, hexadecimal. */
	readonly sha256: string;
	/** Bytes of the .deb. */
	readonly size: number;
	/** Package names of the first alternatives of Depends. */
	readonly depends: readonly string[];
}

/**
 * The hooks of a system's own apt configuration must not run: they act on the system, and this apt acts on a folder.
 * Whatever the system allows, unsigned lists and packages stay refused.
 */
const CONFIGURATION = `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Post-Invoke-Stats;
#clear APT::Architectures;
#clear Acquire::Languages;
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "2";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
`;

/** The system's apt with lists, cache and state of its own; it needs no root and changes nothing of the system. */
export interface Apt {
	readonly architecture: string;
	/**
	 * Brings the lists up to date, unless those of the same sources have been within this time. A source that cannot be
	 * reached is a remark, not an error.
	 *
	 * @returns whether they were fetched
	 */
	update(withinMs: number): Promise<boolean>;
	/** The next `update` fetches the lists, however short ago that was. */
	forget(): Promise<void>;
	/**
	 * What the lists say of packages, in the order of their names here.
	 *
	 * @throws CliError NO_PACKAGE
	 */
	show(names: readonly string[]): Promise<DebianPackage[]>;
	/** Names of packages with all they depend on, as for a system that has nothing installed. */
	closure(names: readonly string[]): Promise<string[]>;
	/** Downloads packages into a folder, checked by apt against its signed lists, and gives the files' paths. */
	download(packages: readonly DebianPackage[], folder: string): Promise<string[]>;
}

/** Where {@link openApt} works. */
export interface AptOptions {
	/** Debian's name of the packages' architecture, e.g. "amd64". */
	readonly architecture: string;
	/** A folder for this architecture's lists and state. */
	readonly folder: string;
	readonly signal: AbortSignal;
	readonly progress: Progress;
}

/**
 * Prepares apt for an architecture.
 *
 * @throws CliError NO_APT where apt or dpkg-deb is not installed
 */
export async function openApt({ architecture, folder, signal, progress }: AptOptions): Promise<Apt> {
	for (const program of ["apt-get", "dpkg-deb"]) {
		try {
			await runChild(program, ["--version"], { signal });
		} catch (error) {
			if (!(error instanceof CliError) || error.code !== "NO_PROGRAM") throw error;
			throw new CliError(
				EXIT.notFound,
				"NO_APT",
				`${program} is not installed here: images are built from Debian packages; give \`xkvm run\` a --kernel and an --initrd instead`,
				{ cause: error },
			);
		}
	}
	await makeFolder(join(folder, "state/lists/partial"));
	await makeFolder(join(folder, "cache/archives/partial"));
	await writeFile(join(folder, "status"), "");
	const configuration = join(folder, "apt.conf");
	await writeFile(configuration, CONFIGURATION);
	const options = [
		["-c", configuration],
		["-o", `Dir::State=${join(folder, "state")}`],
		["-o", `Dir::State::status=${join(folder, "status")}`],
		["-o", `Dir::State::extended_states=${join(folder, "extended_states")}`],
		["-o", `Dir::Cache=${join(folder, "cache")}`],
		// What apt makes of the lists; containers' configurations do without it, at a second for every question.
		["-o", "Dir::Cache::pkgcache=pkgcache.bin"],
		["-o", "Dir::Cache::srcpkgcache=srcpkgcache.bin"],
		["-o", `Dir::Log=${folder}`],
		["-o", `APT::Architecture=${architecture}`],
		["-o", `APT::Architectures=${architecture}`],
	].flat();
	const onStatusLine = (line: string): void => {
		const percent = /^dlstatus:[^:]*:([\d.]+):/.exec(line)?.[1];
		if (percent !== undefined) progress.fraction(Number(percent) / 100);
	};

	async function aptGet(
		args: readonly string[],
		cwd?: string,
	): Promise<{ exitCode: number; stdout: string; errors: string[] }> {
		const all = [...options, "-o", "APT::Status-Fd=3", "-o", "Dpkg::Use-Pty=0", "-qq", ...args];
		const { exitCode, stdout, stderr } = await runChild("apt-get", all, { signal, onStatusLine, ...(cwd && { cwd }) });
		const errors = stderr.split("\n").filter((line) => /^[EW]: /.test(line));
		return { exitCode, stdout: stdout.toString(), errors };
	}

	return {
		architecture,
		async update(withinMs) {
			const { stdout } = await runChild("apt-get", [...options, "indextargets"], { signal });
			const sources = createHash("sha256").update(stdout).digest("hex");
			const stamp = join(folder, "updated");
			const [before, at] = (await readFile(stamp, "utf8").catch(() => "")).trim().split(" ");
			const age = Date.now() - Number(at);
			if (before === sources && age >= 0 && age < withinMs) return false;
			progress.step(`Refreshing package lists for ${architecture}`);
			await rm(stamp, { force: true });
			const { exitCode, errors } = await aptGet(["update"]);
			if (exitCode === 0) {
				await writeFile(stamp, `${sources} ${Date.now()}\n`);
				return true;
			}
			if (isFull(errors)) throw noSpace(folder);
			const reason = errors.find((line) => line.startsWith("E: "))?.slice(3) ?? `apt-get update ended with ${exitCode}`;
			progress.note(`apt could not refresh every list, going on with what it has (${reason})`);
			return true;
		},
		async forget() {
			await rm(join(folder, "updated"), { force: true });
		},
		async show(names) {
			const args = [...options, "show", "--no-all-versions", ...names];
			const { stdout } = await runChild("apt-cache", args, { signal });
			const found = parsePackages(stdout.toString());
			return names.map((name) => {
				const described = found.get(name);
				if (described !== undefined) return described;
				throw new CliError(
					EXIT.notFound,
					"NO_PACKAGE",
					`no package ${name} for ${architecture} in this system's apt sources; a Debian source with its main component is needed`,
				);
			});
		},
		async closure(names) {
			const { exitCode, stdout, errors } = await aptGet([
				"install",
				"--print-uris",
				"-y",
				"--no-install-recommends",
				...names,
			]);
			if (exitCode !== 0) {
				const reason = errors.at(-1)?.slice(3) ?? `apt-get ended with ${exitCode}`;
				throw new CliError(EXIT.notFound, "NO_PACKAGE", `apt cannot resolve ${names.join(", ")}: ${reason}`);
			}
			return [...stdout.matchAll(/^'[^']*' ([^_\s]+)_\S+\.deb /gm)].map((match) => match[1]!);
		},
		async download(packages, target) {
			const wanted = packages.map(({ name, version }) => `${name}=${version}`);
			const { exitCode, errors } = await aptGet(["download", ...wanted], target);
			if (exitCode !== 0) {
				if (isFull(errors)) throw noSpace(target);
				const reason =
					errors.find((line) => line.startsWith("E: "))?.slice(3) ?? `apt-get download ended with ${exitCode}`;
				throw new CliError(
					EXIT.io,
					"DOWNLOAD_FAILED",
					`apt could not download ${packages.map((p) => p.name).join(", ")}: ${reason}`,
				);
			}
			return packages.map((p) => join(target, `${p.name}_${p.version.replaceAll(":", "%3a")}_${p.architecture}.deb`));
		},
	};
}

function isFull(errors: readonly string[]): boolean {
	return errors.some((line) => /No space left on device|enough free space/.test(line));
}

export function noSpace(folder: string): CliError {
	return new CliError(
		EXIT.io,
		"ENOSPC",
		`no space left in ${folder}; free some, or set XDG_CACHE_HOME to a folder that has it`,
	);
}

/** Reads what `apt-cache show` prints: the first stanza of each name that has all that every real package has. */
export function parsePackages(text: string): Map<string, DebianPackage> {
	const found = new Map<string, DebianPackage>();
	for (const stanza of text.split("\n\n")) {
		const described = parseStanza(stanza);
		if (described !== undefined && !found.has(described.name)) found.set(described.name, described);
	}
	return found;
}

function parseStanza(text: string): DebianPackage | undefined {
	const fields = new Map<string, string>();
	for (const line of text.split("\n")) {
		const match = /^([A-Za-z0-9-]+): ?(.*)$/.exec(line);
		if (match) fields.set(match[1]!, match[2]!);
	}
	const [name, version, architecture, sha256] = ["Package", "Version", "Architecture", "SHA256"].map((key) =>
		fields.get(key),
	);
	const size = Number(fields.get("Size"));
	if (!name || !version || !architecture || !sha256 || !/^[0-9a-f]{64}$/.test(sha256) || !Number.isSafeInteger(size)) {
		return undefined;
	}
	const depends = (fields.get("Depends") ?? "")
		.split(",")
		.map(
			(item) =>
				item
					.split("|")[0]!
					.trim()
					.split(/[\s:(]/)[0]!,
		)
		.filter(Boolean);
	return { name, version, architecture, sha256, size, depends };
}
