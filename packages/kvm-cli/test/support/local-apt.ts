import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Why `xkvm image build` cannot run on this machine, or undefined. */
export function aptMissing(): string | undefined {
	const missing = ["apt-get", "apt-cache", "dpkg-deb", "tar"].filter(
		(program) => spawnSync(program, ["--version"]).error !== undefined,
	);
	return missing.length === 0 ? undefined : `not installed here: ${missing.join(", ")}`;
}

const RELEASE = "6.1.0-1-cloud-amd64";
const MEBI = 2 ** 20;

/**
 * A Debian source of three packages with the names that `xkvm image build` asks for and contents of chance, so that a
 * build takes a second and no network.
 *
 * @returns environment that makes apt use it alone
 */
export function localApt(folder: string): Record<string, string> {
	const repository = join(folder, "repository");
	mkdirSync(repository, { recursive: true });
	const kernel = `linux-image-${RELEASE}`;
	const stanzas = [
		pack(repository, "linux-image-cloud-amd64", kernel, {}),
		pack(repository, kernel, undefined, { [`boot/vmlinuz-${RELEASE}`]: randomBytes(4 * MEBI) }),
		pack(repository, "busybox-static", undefined, { "bin/busybox": randomBytes(2 * MEBI) }),
	];
	writeFileSync(join(repository, "Packages"), stanzas.join("\n"));
	const sources = join(folder, "sources.list");
	// copy: as a download would, and nothing has signed it.
	writeFileSync(sources, `deb [trusted=yes] copy:${repository} ./\n`);
	const configuration = join(folder, "apt.conf");
	writeFileSync(configuration, `Dir::Etc::sourcelist "${sources}";\nDir::Etc::sourceparts "/dev/null";\n`);
	return { APT_CONFIG: configuration };
}

function pack(repository: string, name: string, depends: string | undefined, files: Record<string, Buffer>): string {
	const root = join(repository, "root");
	const control = [
		`Package: ${name}`,
		"Version: 1",
		"Architecture: amd64",
		"Maintainer: Nobody <nobody@example.org>",
		...(depends === undefined ? [] : [`Depends: ${depends}`]),
		"Description: for a test",
	].join("\n");
	mkdirSync(join(root, "DEBIAN"), { recursive: true });
	writeFileSync(join(root, "DEBIAN/control"), `${control}\n`);
	for (const [path, data] of Object.entries(files)) {
		mkdirSync(dirname(join(root, path)), { recursive: true });
		writeFileSync(join(root, path), data);
		chmodSync(join(root, path), 0o755);
	}
	const file = `${name}_1_amd64.deb`;
	const { status, stderr } = spawnSync(
		"dpkg-deb",
		["-Znone", "--root-owner-group", "--build", root, join(repository, file)],
		{
			encoding: "utf8",
		},
	);
	if (status !== 0) throw new Error(`dpkg-deb: ${stderr}`);
	rmSync(root, { recursive: true });
	const bytes = readFileSync(join(repository, file));
	const sha256 = createHash("sha256").update(bytes).digest("hex");
	return `${control}\nFilename: ./${file}\nSize: ${bytes.length}\nSHA256: ${sha256}\n`;
}
