import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { extractDeb } from "../src/image/deb.ts";
import { packageTree } from "../src/image/package-tree.ts";
import { aptMissing } from "./support/local-apt.ts";

const missing = aptMissing();
const PATH = process.env["PATH"];

describe.skipIf(missing !== undefined)(`a package${missing === undefined ? "" : ` (${missing})`}`, () => {
	let folder: string;
	let deb: string;
	const content = randomBytes(2 ** 20);
	beforeAll(() => {
		folder = mkdtempSync(join(tmpdir(), "xkvm-deb-"));
		mkdirSync(join(folder, "root/DEBIAN"), { recursive: true });
		const control = "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <n@example.org>\nDescription: t\n";
		writeFileSync(join(folder, "root/DEBIAN/control"), control);
		writeFileSync(join(folder, "root/data"), content);
		deb = join(folder, "p.deb");
		expect(spawnSync("dpkg-deb", ["-Znone", "--root-owner-group", "-b", join(folder, "root"), deb]).status).toBe(0);
	});
	afterEach(() => {
		process.env["PATH"] = PATH;
	});
	afterAll(() => rmSync(folder, { recursive: true }));

	/** Puts a program of this name before the system's: one that Ctrl-C ends. */
	const ends = (name: string): void => {
		const programs = mkdtempSync(join(folder, "bin-"));
		writeFileSync(join(programs, name), "#!/bin/sh\nkill -INT $$\n");
		chmodSync(join(programs, name), 0o755);
		process.env["PATH"] = `${programs}:${PATH}`;
	};

	it("is unpacked", async () => {
		const target = join(folder, "out");
		await extractDeb(deb, ["./data", "./missing-*"], target, new AbortController().signal);
		expect(readFileSync(join(target, "data")).equals(content)).toBe(true);
		expect((await packageTree([deb], new AbortController().signal)).map(({ path }) => path)).toContain("data");
	});

	it.each(["tar", "dpkg-deb"])("is interrupted, not bad, when Ctrl-C reaches %s first", async (name) => {
		ends(name);
		const why = new Error("interrupted");
		for (const work of [
			(signal: AbortSignal) => extractDeb(deb, ["./data"], join(folder, "none"), signal),
			...(name === "tar" ? [] : [(signal: AbortSignal) => packageTree([deb], signal)]),
		]) {
			const interruption = new AbortController();
			const working = work(interruption.signal);
			setTimeout(() => interruption.abort(why), 100);
			await expect(working).rejects.toBe(why);
		}
	});

	it("does not count as unpacked when tar was ended", async () => {
		ends("tar");
		const target = join(folder, "half");
		await expect(extractDeb(deb, ["./data"], target, new AbortController().signal)).rejects.toMatchObject({
			code: "BAD_PACKAGE",
		});
		expect(existsSync(join(target, "data"))).toBe(false);
	});
});
