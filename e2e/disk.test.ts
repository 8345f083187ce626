import { execFileSync, spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDisk } from "../packages/kvm-cli/src/guest/disk.ts";
import { bin, buildImage, env, GUEST_TEST_MS } from "./support/images.ts";

/** Each kill needs a guest that has started: the suite has time for one of either kind, a campaign does 20. */
const KILLS = Number(env["XKVM_KILLS"] ?? 2);
const SEED = Number(env["XKVM_KILL_SEED"] ?? 1);
const DISK_BYTES = 64 << 20;
const LONGEST_MS = 4000;

const tool = (name: string): string | undefined =>
	["/sbin", "/usr/sbin"].map((folder) => join(folder, name)).find((path) => existsSync(path));
const MKFS = tool("mkfs.ext4");
const FSCK = tool("e2fsck");
const DEBUGFS = tool("debugfs");
const image = buildImage("default");
const missing =
	typeof image === "string" ? image : MKFS && FSCK && DEBUGFS ? undefined : "no mkfs.ext4, e2fsck or debugfs here";

let folder: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-kill-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Files that say who they are, each reported once fsync came back. */
const SCRIPT = `mount -t ext4 /dev/vda /mnt
i=0
while :; do
	i=$((i + 1))
	yes "file $i" | head -c $((i * 7919 % 90000 + 1)) | dd of=/mnt/f$i conv=fsync 2>/dev/null && echo "safe $i"
	[ $((i % 5)) = 0 ] && mv /mnt/f$i /mnt/moved$i && sync && echo "moved $i"
done`;

function expected(i: number): Buffer {
	const line = `file ${i}\n`;
	const length = ((i * 7919) % 90_000) + 1;
	return Buffer.from(line.repeat(Math.ceil(length / line.length)).slice(0, length));
}

/** Starts a guest and kills the process that runs it, some time after its first file was safe. */
function runAndKill(disk: string, afterMs: number): Promise<string> {
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [bin, "run", "--disk", disk, "--", "sh", "-c", SCRIPT], { env });
		let output = "";
		let errors = "";
		child.stdout.on("data", (chunk) => {
			if (output === "") setTimeout(() => child.kill("SIGKILL"), afterMs);
			output += String(chunk);
		});
		child.stderr.on("data", (chunk) => (errors += String(chunk)));
		child.on("error", reject);
		child.on("close", (code) => {
			if (code === null) resolve(output);
			else reject(new Error(`xkvm ended with ${code}: ${errors}`));
		});
	});
}

/** mulberry32: the same kills for the same seed. */
function random(seed: number): number {
	let t = (seed + 0x6d2b79f5) | 0;
	t = Math.imul(t ^ (t >>> 15), t | 1);
	t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
	return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

describe.skipIf(missing !== undefined)(`a disk whose machine is killed${missing ? ` [${missing}]` : ""}`, () => {
	it.each(Array.from({ length: KILLS }, (_, i) => [i, i % 2 === 0 ? "raw" : "overlay"] as const))(
		"%i: %s is whole, and has what the guest was told is on it",
		{ timeout: GUEST_TEST_MS },
		async (index, kind) => {
			const disk = join(folder, `${index}.img`);
			writeFileSync(disk, "");
			truncateSync(disk, DISK_BYTES);
			execFileSync(MKFS!, ["-q", "-F", disk]);
			const overlay = join(folder, `${index}.cow`);
			const spec = kind === "raw" ? disk : `${disk},overlay=${overlay}`;
			const output = await runAndKill(spec, random(SEED * 1000 + index) * LONGEST_MS);
			const copy = join(folder, `${index}.copy`);
			if (kind === "raw") copyFileSync(disk, copy);
			else {
				const opened = openDisk({ path: disk, readonly: false, overlay: { path: overlay } });
				const all = Buffer.alloc(DISK_BYTES);
				opened.read(0, all);
				opened.close();
				writeFileSync(copy, all);
				expect(spawnSync(FSCK!, ["-fn", disk]).status).toBe(0);
			}
			spawnSync(FSCK!, ["-y", "-E", "journal_only", copy]);
			const check = spawnSync(FSCK!, ["-fn", copy], { encoding: "utf8" });
			expect(check.status, check.stdout + check.stderr).toBe(0);
			const safe = [...output.matchAll(/^safe (\d+)$/gm)].map(([, i]) => Number(i));
			const moved = new Set([...output.matchAll(/^moved (\d+)$/gm)].map(([, i]) => Number(i)));
			expect(safe.length).toBeGreaterThan(0);
			for (const i of safe) {
				const read = (name: string) =>
					execFileSync(DEBUGFS!, ["-R", `cat /${name}`, copy], {
						stdio: ["ignore", "pipe", "ignore"],
						maxBuffer: 2 ** 24,
					});
				const under = [read(`f${i}`), read(`moved${i}`)];
				// A rename not yet synced may have happened or not.
				const may = moved.has(i) ? [under[1]!] : under;
				expect(may.some((bytes) => bytes.equals(expected(i)))).toBe(true);
			}
			for (const path of [disk, copy, overlay]) rmSync(path, { force: true });
		},
	);
});
