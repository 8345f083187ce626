import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { aptMissing, localApt } from "./support/local-apt.ts";
import { isOneLine } from "./support/xkvm.ts";

const bin = fileURLToPath(new URL("../bin/xkvm.js", import.meta.url));

/** A mount namespace needs root, or user namespaces to be root in. */
function namespaceArguments(): string[] | { reason: string } {
	const tries = [["--mount"], ["--map-root-user", "--mount"]];
	for (const args of tries) {
		if (spawnSync("unshare", [...args, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0) return args;
	}
	return { reason: "no mount namespace without root here" };
}

const namespace = namespaceArguments();
const missing = aptMissing() ?? ("reason" in namespace ? namespace.reason : undefined);

describe.skipIf(missing !== undefined)(
	`a cache folder that is full${missing === undefined ? "" : ` (${missing})`}`,
	() => {
		let folder: string;
		let environment: Record<string, string>;
		beforeAll(() => {
			folder = mkdtempSync(join(tmpdir(), "xkvm-full-"));
			mkdirSync(join(folder, "cache"));
			environment = localApt(folder);
		});
		afterAll(() => rmSync(folder, { recursive: true }));

		/** Builds in a file system of that size, and lists what is left there. */
		function buildWithin(kibibytes: number): { code: number | null; stderr: string; left: string[] } {
			const script = [
				`mount -t tmpfs -o size=${kibibytes}k tmpfs "$1"`,
				'XDG_CACHE_HOME="$1" "$2" "$3" image build --json >/dev/null',
				"code=$?",
				'cd "$1" && find . -mindepth 1',
				"exit $code",
			].join("\n");
			const args = ["-c", script, "sh", join(folder, "cache"), process.execPath, bin];
			const { status, stdout, stderr } = spawnSync("unshare", [...(namespace as string[]), "sh", ...args], {
				encoding: "utf8",
				env: { ...process.env, NO_COLOR: "1", ...environment },
			});
			return { code: status, stderr, left: stdout.split("\n").filter(Boolean) };
		}

		// The lists, the download, what is unpacked of it, and the image's own files: 6 MiB each.
		it.each([
			["the lists", 16],
			["the download", 3 << 10],
			["what is unpacked", 9 << 10],
			["the image", 16 << 10],
		])("is exit code 5, one line, and nothing left, whether %s or less does not fit", (_, kibibytes) => {
			const { code, stderr, left } = buildWithin(kibibytes);
			expect(stderr).toMatch(/no space left in .*XDG_CACHE_HOME/);
			const said = stderr.split("\n").filter((line) => line.startsWith("xkvm: "));
			expect(said).toHaveLength(1);
			expect(isOneLine(`${said[0]}\n`)).toBe(true);
			expect(code).toBe(5);
			expect(
				left.filter((path) => /\/(lock|tmp\/.*|images\/.*|names\/.*)$/.test(path) && !path.includes("/apt/")),
			).toEqual([]);
		});

		it("is none where there is room", () => {
			const { code, stderr, left } = buildWithin(64 << 10);
			expect({ code, stderr: stderr.includes("xkvm: ") }).toEqual({ code: 0, stderr: false });
			expect(left.some((path) => /images\/.*\/vmlinuz$/.test(path))).toBe(true);
		});
	},
);
