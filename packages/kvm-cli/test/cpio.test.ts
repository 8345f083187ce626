import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { writeCpio } from "../src/image/cpio.ts";
import { characterDevice, contents, directory, file, symlink, type TreeEntry } from "../src/image/tree.ts";

interface ReadEntry {
	path: string;
	mode: number;
	data: Uint8Array;
	rdev: [number, number];
}

/** Reads an archive back by the format's own rules. */
function readCpio(bytes: Uint8Array): ReadEntry[] {
	const text = (from: number, to: number): string => new TextDecoder().decode(bytes.subarray(from, to));
	const entries: ReadEntry[] = [];
	for (let at = 0; ; ) {
		expect(text(at, at + 6)).toBe("070701");
		const field = (index: number): number => Number.parseInt(text(at + 6 + index * 8, at + 14 + index * 8), 16);
		const nameEnd = at + 110 + field(11);
		expect(bytes[nameEnd - 1]).toBe(0);
		const path = text(at + 110, nameEnd - 1);
		const start = Math.ceil(nameEnd / 4) * 4;
		if (path === "TRAILER!!!") return entries;
		entries.push({ path, mode: field(1), data: bytes.slice(start, start + field(6)), rdev: [field(9), field(10)] });
		at = Math.ceil((start + field(6)) / 4) * 4;
	}
}

const hasCpio = spawnSync("cpio", ["--version"]).status === 0;

describe("writeCpio", () => {
	it("writes each kind of file, and the folders it needs, in order", () => {
		const entries = readCpio(
			writeCpio([
				file("a/b/c", "contents", 0o755),
				symlink("a/link", "b/c"),
				characterDevice("dev/console", 5, 1),
				directory("empty", 0o700),
			]),
		);
		expect(entries.map(({ path, mode }) => [path, mode.toString(8)])).toEqual([
			["a", "40755"],
			["a/b", "40755"],
			["a/b/c", "100755"],
			["a/link", "120777"],
			["dev", "40755"],
			["dev/console", "20600"],
			["empty", "40700"],
		]);
		expect(new TextDecoder().decode(entries[2]!.data)).toBe("contents");
		expect(new TextDecoder().decode(entries[3]!.data)).toBe("b/c");
		expect(entries[5]!.rdev).toEqual([5, 1]);
	});

	it.each(["/absolute", "a//b", "../up", "a/./b", "a/..", "", "nul\0"])("refuses the path %j", (path) => {
		expect(() => writeCpio([file(path, "")])).toThrow(RangeError);
	});

	it("gives back any set of files, and the same bytes for the same files", () => {
		const name = fc.stringMatching(/^[a-zé]{1,8}$/);
		fc.assert(
			fc.property(fc.dictionary(name, fc.uint8Array({ maxLength: 100 }), { maxKeys: 20 }), (files) => {
				const entries: TreeEntry[] = Object.entries(files).map(([path, data]) => file(path, data));
				const archive = writeCpio(entries);
				expect(archive.length % 4).toBe(0);
				expect(readCpio(archive).map(({ path, data }) => [path, [...data]])).toEqual(
					entries.map((entry) => [entry.path, [...contents(entry)!]]),
				);
				expect(writeCpio(entries)).toEqual(archive);
			}),
			{ numRuns: 100, seed: 7 },
		);
	});

	it.skipIf(!hasCpio)("is read by the cpio command [needs cpio]", () => {
		const folder = mkdtempSync(join(tmpdir(), "xkvm-cpio-"));
		try {
			const archive = writeCpio([file("x/y", "hello", 0o640), symlink("x/z", "y")]);
			execFileSync("cpio", ["-id", "--quiet"], { cwd: folder, input: archive });
			expect(readFileSync(join(folder, "x/y"), "utf8")).toBe("hello");
			expect(readlinkSync(join(folder, "x/z"))).toBe("y");
		} finally {
			rmSync(folder, { recursive: true });
		}
	});
});
