import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Images and kept starts stay here between runs, apart from the user's own. */
process.env["XDG_CACHE_HOME"] = join(root, "node_modules", ".cache");
export const env: Record<string, string | undefined> = { ...process.env, NO_COLOR: "1" };

export const bin: string = join(root, "packages/kvm-cli/bin/xkvm.js");

/** Milliseconds a test with a guest may take on a machine that is busy with others. */
export const GUEST_TEST_MS = 900_000;

export interface Image {
	name: string;
	kernel: string;
	initrd: string;
	kernelRelease: string;
}

/** An image built with `xkvm image build`, or why this machine cannot build it. */
export function buildImage(name: string, ...options: string[]): Image | string {
	const args = [bin, "image", "build", "--json", "--name", name, ...options];
	const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: "utf8", timeout: 300_000 });
	if (status === 0) return { ...(JSON.parse(stdout) as { image: Image }).image, name };
	// No apt, no such package, no network: the machine's lack. Anything else is a failure of the tests.
	if (status === 3 || status === 5) return stderr.trim().split("\n").at(-1) ?? "unknown";
	throw new Error(`xkvm image build ended with ${status}: ${stderr}`);
}
