import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decompressPayload, parseBzImage } from "../packages/kvm-core/src/boot/index.ts";
import { bin, buildImage, env, type Image } from "./support/images.ts";

interface Result {
	code: number | null;
	stdout: string;
	stderr: string;
}

function run(args: readonly string[], input: string | Uint8Array = ""): Promise<Result> {
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [bin, "run", "--timeout", "240", ...args], { env });
		const out: Buffer[] = [];
		const err: Buffer[] = [];
		child.stdout.on("data", (chunk) => out.push(chunk));
		child.stderr.on("data", (chunk) => err.push(chunk));
		child.stdin.on("error", () => {});
		child.stdin.end(input);
		child.on("error", reject);
		child.on("close", (code) =>
			resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }),
		);
	});
}

let folder: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-linux-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const SEABIOS = "/usr/share/seabios/bios-256k.bin";
const FSCK = ["/sbin/fsck.ext4", "/usr/sbin/fsck.ext4"].find((path) => existsSync(path));
const cloud = buildImage("default");
const hasCloud = typeof cloud !== "string";
const because = (image: Image | string): string => (typeof image === "string" ? ` [${image}]` : "");

describe.skipIf(!hasCloud)(`Debian's cloud kernel${because(cloud)}`, () => {
	it("runs a command with its input, outputs, environment and exit code", async () => {
		const text = "line\n".repeat(20_000);
		const script = 'echo "$GREETING"; sha256sum; uname -r >&2; exit 42';
		const { code, stdout, stderr } = await run(["--env", "GREETING=it's here", "--", "sh", "-c", script], text);
		const digest = createHash("sha256").update(text).digest("hex");
		expect({ code, stdout, stderr }).toEqual({
			code: 42,
			stdout: `it's here\n${digest}  -\n`,
			stderr: `${(cloud as Image).kernelRelease}\n`,
		});
	});

	it("gives a shell on the serial console to a pipe", async () => {
		const { code, stdout } = await run([], "echo $((6 * 7)) from $(uname -s)\n");
		expect(stdout).toContain("42 from Linux");
		expect(code).toBe(0);
	});

	it("boots as a PVH ELF with a command line of its own", async () => {
		const { kernel, initrd, kernelRelease } = cloud as Image;
		const vmlinux = join(folder, "vmlinux");
		writeFileSync(vmlinux, await decompressPayload(parseBzImage(readFileSync(kernel)).payload));
		const options = [
			"--kernel",
			vmlinux,
			"--initrd",
			initrd,
			"--append",
			"console=ttyS0 quiet panic=-1 cryptomgr.notests",
		];
		const { code, stdout } = await run(options, "uname -r\nexit\n");
		expect(stdout).toContain(`\n${kernelRelease}\r\n`);
		expect(code).toBe(0);
	});

	it("boots the real-mode way, and decompresses itself", async () => {
		const { stdout, code } = await run(["--boot", "linux-real"], "grep -c . /proc/iomem\nexit\n");
		expect(stdout).toMatch(/\n\d+\r\n/);
		expect(code).toBe(0);
	});

	it("ends at once when interrupted, and leaves nothing running", async () => {
		const child = spawn(process.execPath, [bin, "run", "--", "sleep", "1000"], { env });
		const ended = new Promise((resolve) => child.on("close", resolve));
		setTimeout(() => child.kill("SIGINT"), 3000);
		expect(await ended).toBe(130);
	});
});

// The generic kernel is started where it is for its 9p (files.test.ts).
const old = buildImage("686", "--architecture", "i386");
it.skipIf(typeof old === "string")(`Debian's 686 kernel reaches a shell${because(old)}`, async () => {
	const { code, stdout } = await run(["686"], "uname -r\nexit\n");
	expect(stdout).toContain(`\n${(old as Image).kernelRelease}\r\n`);
	expect(code).toBe(0);
});

const tools = FSCK === undefined ? "no fsck.ext4 here" : buildImage("tools", "--packages", "e2fsprogs");
it.skipIf(typeof tools === "string")(`ext4 made in a guest is whole on the host${because(tools)}`, async () => {
	const disk = join(folder, "disk.img");
	writeFileSync(disk, "");
	truncateSync(disk, 64 << 20);
	// By its path: the guest's shell would take its own applet for mke2fs.
	const script = `set -e
		/sbin/mke2fs -q -t ext4 /dev/vda
		mount -t ext4 /dev/vda /mnt
		cp /bin/busybox /mnt
		echo content >/mnt/file
		sha256sum /mnt/busybox
		umount /mnt`;
	const { code, stdout } = await run(["tools", "--disk", disk, "--", "sh", "-c", script]);
	expect(code).toBe(0);
	expect(spawnSync(FSCK!, ["-fn", disk]).status).toBe(0);
	const debugfs = FSCK!.replace("fsck.ext4", "debugfs");
	expect(
		execFileSync(debugfs, ["-R", "cat /file", disk], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
	).toBe("content\n");
	const copied = execFileSync(debugfs, ["-R", "cat /busybox", disk], {
		maxBuffer: 2 ** 24,
		stdio: ["ignore", "pipe", "ignore"],
	});
	expect(createHash("sha256").update(copied).digest("hex")).toBe(stdout.split(" ")[0]);
	const readonly = await run([
		"tools",
		"--disk",
		`${disk},ro`,
		"--",
		"sh",
		"-c",
		"mount -t ext4 -o ro /dev/vda /mnt && cat /mnt/file; touch /mnt/x",
	]);
	expect(readonly.stdout).toBe("content\n");
	expect(readonly.code).not.toBe(0);
});

it.skipIf(!existsSync(SEABIOS))(
	`SeaBIOS starts at the reset vector and looks for something to boot [needs ${SEABIOS}]`,
	async () => {
		const child = spawn(process.execPath, [bin, "run", "--firmware", SEABIOS], { env });
		const log = await new Promise<string>((resolve) => {
			let text = "";
			child.stderr.on("data", (chunk) => {
				text += String(chunk);
				if (text.includes("No bootable device")) child.kill("SIGINT");
			});
			child.on("close", () => resolve(text));
			setTimeout(() => child.kill("SIGINT"), 120_000);
		});
		expect(log).toMatch(/^SeaBIOS \(version/);
		expect(log).toContain("No bootable device");
	},
);
