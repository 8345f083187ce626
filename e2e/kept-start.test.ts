import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSandbox, type Sandbox, type SandboxOptions } from "../packages/kvm-cli/src/index.ts";
import { buildImage, env, GUEST_TEST_MS, type Image } from "./support/images.ts";

const image = buildImage("default");
const because = typeof image === "string" ? ` [${image}]` : "";
const SECRET = "of-this-sandbox-and-no-other";

describe.skipIf(typeof image === "string")(`a start that is kept${because}`, () => {
	let folder: string;
	beforeAll(() => {
		folder = mkdtempSync(join(tmpdir(), "xkvm-starts-"));
		process.env["XDG_CACHE_HOME"] = folder;
	});
	afterAll(() => {
		process.env["XDG_CACHE_HOME"] = env["XDG_CACHE_HOME"];
		rmSync(folder, { recursive: true });
	});
	const starts = (): string[] => {
		try {
			return readdirSync(join(folder, "xkvm/starts")).filter((name) => !name.includes("."));
		} catch {
			return [];
		}
	};
	const start = (options: SandboxOptions = {}): Promise<Sandbox> => {
		const { kernel, initrd } = image as Image;
		return createSandbox({ image: { kernel, initrd }, engine: "software", network: "user", ...options });
	};
	const wasKept = (vm: Sandbox): boolean => vm.timings.steps().some(({ moment }) => moment === "unique");
	/** What no two guests may have alike, and the time. */
	const SAYS =
		"cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -A n -t x1 | tr -d ' \\n'; echo; date +%s";
	const said = async (vm: Sandbox): Promise<{ own: string[]; late: boolean }> => {
		const from = Math.floor(Date.now() / 1000);
		const { stdout } = await vm.exec(SAYS).output();
		const [id, random, seconds] = String(stdout).trim().split("\n");
		expect(random).toMatch(/^[0-9a-f]{32}$/);
		return { own: [id!, random!], late: Number(seconds) < from - 1 || Number(seconds) > Date.now() / 1000 + 1 };
	};

	it("is gone on from by others, each with random numbers, time, network and environment of its own", {
		timeout: GUEST_TEST_MS,
	}, async () => {
		await using first = await start({ env: { SECRET } });
		expect(wasKept(first)).toBe(false);
		while (starts().length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
		const file = join(folder, "xkvm/starts", starts()[0]!);
		expect(statSync(file).mode & 0o777).toBe(0o600);
		expect(readFileSync(file).includes(SECRET)).toBe(false);
		const others = await Promise.all([start({ env: { SECRET: "other" } }), start()]);
		try {
			expect(others.map(wasKept)).toEqual([true, true]);
			const all = await Promise.all([first, ...others].map(said));
			expect(all.map(({ late }) => late)).toEqual([false, false, false]);
			expect(new Set(all.flatMap(({ own }) => own)).size).toBe(6);
			const { stdout } = await others[0]
				.exec("echo $SECRET; ping -c 1 -W 5 10.0.2.2 >/dev/null && echo there")
				.output();
			expect(String(stdout)).toBe("other\nthere\n");
			expect(starts()).toHaveLength(1);
		} finally {
			await Promise.all(others.map((vm) => vm.close()));
		}
	});
});
