import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { bundledDatabase } from "../../src/data/index.ts";
import { writeRegulatoryDb } from "../../src/formats/index.ts";

let lines: string[];
const argv = process.argv;
beforeEach(() => {
	lines = [];
	vi.resetModules();
	vi.spyOn(console, "log").mockImplementation((text: unknown) => void lines.push(String(text)));
});
afterEach(() => {
	process.argv = argv;
	vi.restoreAllMocks();
});

test("the README shows the example as it is run", () => {
	const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");
	expect(read("README.md")).toContain(`\`\`\`ts\n${read("examples/access-point-channels.ts")}\`\`\``);
});

test("access-point-channels", async () => {
	await import("../../examples/access-point-channels.ts");
	expect(lines).toContain("DE 100: 26 dBm, listen 60 s for radar first");
	expect(lines).toContain("DE 36: 23 dBm, indoors only");
	expect(lines).toContain("DE 149: 13 dBm");
	expect(lines.at(-1)).toMatch(/^channel 149 at 80 MHz in JP cannot be used: channel 149 \(5745 MHz\) has DISABLED/);
});

test("roaming-laptop", async () => {
	await import("../../examples/roaming-laptop.ts");
	expect(lines.filter((line) => line.startsWith("  now"))).toEqual([
		"  now US; channel 14 disabled",
		"  now JP; channel 14 allowed",
		"  now 98; channel 14 disabled",
		"  now DE; channel 14 disabled",
	]);
	expect(lines.some((line) => line.startsWith("intersected: user DE"))).toBe(true);
});

test("verify-and-diff", async () => {
	const folder = mkdtempSync(join(tmpdir(), "regdomain-"));
	try {
		const database = bundledDatabase();
		const domains = new Map(database.domains);
		const germany = domains.get("DE")!;
		domains.set("DE", { ...germany, rules: germany.rules.slice(1) });
		writeFileSync(join(folder, "old.db"), writeRegulatoryDb(database));
		writeFileSync(join(folder, "new.db"), writeRegulatoryDb({ domains }));
		execFileSync(
			"openssl",
			[
				"req",
				"-x509",
				"-newkey",
				"rsa:2048",
				"-nodes",
				"-subj",
				"/CN=x",
				"-keyout",
				join(folder, "key"),
				"-out",
				join(folder, "cert"),
			],
			{ stdio: "ignore" },
		);
		for (const name of ["old", "new"]) {
			const keys = ["-signer", join(folder, "cert"), "-inkey", join(folder, "key")];
			execFileSync("openssl", [
				"smime",
				"-sign",
				"-binary",
				"-noattr",
				"-outform",
				"DER",
				...keys,
				"-in",
				join(folder, `${name}.db`),
				"-out",
				join(folder, `${name}.p7s`),
			]);
		}
		process.argv = ["node", "example", ...["old.db", "old.p7s", "new.db", "new.p7s"].map((name) => join(folder, name))];
		await import("../../examples/verify-and-diff.ts");
	} catch (error) {
		if ((error as { code?: string }).code !== "ENOENT") throw error;
		return; // openssl is not installed
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
	expect(lines[0]).toMatch(/^INVALID: no trusted certificate/);
	expect(lines).toContain("DE changed, 13 channels decided differently");
	expect(lines).toContain("  2.4 GHz 1: disabled");
});
