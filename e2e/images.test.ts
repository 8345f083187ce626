import { execFileSync, spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bin, buildImage, env, GUEST_TEST_MS, type Image } from "./support/images.ts";

interface BuiltImage extends Image {
	root?: { format: string; sha256: string };
}

function run(args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [bin, "run", "--timeout", "240", ...args], {
			env,
			stdio: ["ignore", "pipe", "pipe"],
		});
		let stdout = "";
		let stderr = "";
		child.stdout.on("data", (chunk) => {
			stdout += String(chunk);
		});
		child.stderr.on("data", (chunk) => {
			stderr += String(chunk);
		});
		child.on("error", reject);
		child.on("close", (code) => resolve({ code, stdout, stderr }));
	});
}

const because = (image: Image | string): string => (typeof image === "string" ? ` [${image}]` : "");
const cloud = buildImage("default");
const BUSYBOX = ["/bin/busybox", "/usr/bin/busybox"].find((path) => spawnSync(path, ["true"]).status === 0);

let folder: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-images-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe.skipIf(typeof cloud === "string")(`images${because(cloud)}`, () => {
	it.each([
		["Python", ["python3", "-c", "print(2**100)"], "1267650600228229401496703205376\n"],
		["Node.js", ["node", "-p", "[1,2].map(x=>x*2)"], "[ 2, 4 ]\n"],
	])("runs %s from Debian's packages", { timeout: GUEST_TEST_MS }, async (_, command, expected) => {
		const { code, stdout, stderr } = await run(["--packages", "python3,nodejs", "--", ...command]);
		expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: expected });
	});

	it("gives the same digest for the same packages", () => {
		const first = buildImage("same", "--packages", "libattr1") as BuiltImage;
		const kept = join(folder, "initrd");
		copyFileSync(first.initrd, kept);
		// Not by force, which asks the mirror for newer packages.
		expect(spawnSync(process.execPath, [bin, "image", "rm", "same"], { env }).status).toBe(0);
		const again = buildImage("same", "--packages", "libattr1") as BuiltImage;
		expect(first.root?.sha256).toMatch(/^[0-9a-f]{64}$/);
		expect(again.root).toEqual(first.root);
		expect(execFileSync("cmp", [kept, again.initrd]).toString()).toBe("");
	});

	it.skipIf(BUSYBOX === undefined)(
		"starts from a folder and from a tar archive, afresh each time",
		{ timeout: GUEST_TEST_MS },
		async () => {
			const root = join(folder, "root");
			mkdirSync(join(root, "bin"), { recursive: true });
			mkdirSync(join(root, "etc"));
			execFileSync("cp", [BUSYBOX!, join(root, "bin/busybox")]);
			writeFileSync(join(root, "etc/os-release"), "NAME=mine\n");
			writeFileSync(join(root, "bin/hello"), "#!/bin/sh\ncat /etc/os-release\necho more >>/etc/os-release\n", {
				mode: 0o755,
			});
			const archive = join(folder, "root.tar.gz");
			execFileSync("tar", ["-czf", archive, "-C", root, "."]);
			const fromFolder = buildImage("folder", "--from-folder", root) as BuiltImage;
			const fromArchive = buildImage("archive", "--from-tar", archive) as BuiltImage;
			// The same tree, whichever way it came: one of them is started for both.
			expect(fromArchive.root).toMatchObject({ format: "squashfs", sha256: fromFolder.root?.sha256 });
			for (let start = 0; start < 2; start++) {
				const { code, stdout, stderr } = await run(["archive", "--", "hello"]);
				expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: "NAME=mine\n" });
			}
		},
	);

	it("says what is wrong with a root in one line and with the contract's exit code", () => {
		const build = (...args: string[]) => {
			const { status, stderr } = spawnSync(process.execPath, [bin, "image", "build", ...args], {
				env,
				encoding: "utf8",
			});
			return { status, last: stderr.trim().split("\n").at(-1) };
		};
		const bad = join(folder, "bad.tar");
		writeFileSync(bad, "not a tar archive".repeat(100));
		expect(build("--name", "x", "--from-tar", bad)).toMatchObject({ status: 1, last: expect.stringContaining(bad) });
		expect(build("--name", "x", "--from-tar", "/none.tar")).toEqual({
			status: 3,
			last: "xkvm: /none.tar: no such file",
		});
		expect(build("--name", "x", "--from-folder", "/none")).toEqual({ status: 3, last: "xkvm: /none: no such folder" });
		expect(build("--from-folder", "/none")).toMatchObject({ status: 2 });
		expect(build("--packages", "No/Such")).toMatchObject({ status: 2, last: expect.stringContaining("No/Such") });
		expect(build("--packages", "python3", "--from-tar", bad)).toMatchObject({ status: 2 });
		expect(build("--packages", "no-such-package-at-all")).toMatchObject({ status: 3 });
	});
});
