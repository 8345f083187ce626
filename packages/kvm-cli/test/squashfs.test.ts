import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type SquashfsOptions, writeSquashfs } from "../src/image/squashfs.ts";
import { characterDevice, directory, file, symlink, type TreeEntry } from "../src/image/tree.ts";

const hasUnsquashfs = spawnSync("unsquashfs", ["-version"]).error === undefined;

function write(entries: readonly TreeEntry[], options?: SquashfsOptions): Buffer {
	const chunks: [number, Uint8Array][] = [];
	const size = writeSquashfs(entries, { write: (at, bytes) => chunks.push([at, bytes.slice()]) }, options);
	const image = Buffer.alloc(size);
	for (const [at, bytes] of chunks) image.set(bytes, at);
	return image;
}

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-squashfs-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function unsquash(image: Uint8Array, args: readonly string[], files: readonly string[] = []): string {
	const path = join(folder, "image.squashfs");
	writeFileSync(path, image);
	return execFileSync("unsquashfs", [...args, path, ...files], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

function unpack(image: Uint8Array): string {
	const root = join(folder, "root");
	unsquash(image, ["-quiet", "-no-progress", "-d", root]);
	return root;
}

describe.skipIf(!hasUnsquashfs)("writeSquashfs, read by unsquashfs (skipped where it is not installed)", () => {
	it("writes every kind of file with its owner and permissions", () => {
		const image = write([
			{ ...file("bin/tool", "#!/bin/sh\n", 0o4755), uid: 7, gid: 70_000 },
			symlink("bin/alias", "tool"),
			characterDevice("dev/null", 1, 3, 0o666),
			{ path: "dev/disk", mode: 0o060660, rdev: { major: 254, minor: 3 } },
			{ path: "run/pipe", mode: 0o010600 },
			{ ...directory("tmp"), mode: 0o041777 },
			file("empty", ""),
		]);
		const listing = unsquash(image, ["-lln"])
			.split("\n")
			.filter((line) => line.includes("squashfs-root"))
			.map((line) => line.replace(/ +/g, " ").replace(/ 1970-01-01 00:00 squashfs-root/, " "));
		expect(listing).toEqual([
			"drwxr-xr-x 0/0 72 ",
			"drwxr-xr-x 0/0 40 /bin",
			"lrwxrwxrwx 0/0 4 /bin/alias -> tool",
			"-rwsr-xr-x 7/70000 10 /bin/tool",
			"drwxr-xr-x 0/0 39 /dev",
			"brw-rw---- 0/0 254, 3 /dev/disk",
			"crw-rw-rw- 0/0 1, 3 /dev/null",
			"-rw-r--r-- 0/0 0 /empty",
			"drwxr-xr-x 0/0 27 /run",
			"prw------- 0/0 0 /run/pipe",
			"drwxrwxrwt 0/0 3 /tmp",
		]);
	});

	it.each([false, true])("keeps contents, large folders and deep ones (compress: %s)", (compress) => {
		const big = Buffer.alloc(300_001, "squashed ");
		const many = Array.from({ length: 3000 }, (_, i) => file(`many/${i}-${"x".repeat(i % 40)}`, String(i)));
		const deep = `${"d/".repeat(60)}leaf`;
		const image = write([file("big", big), file("exact", big.subarray(0, 131_072)), ...many, file(deep, "down")], {
			compress,
		});
		const cat = (path: string): string => unsquash(image, ["-cat"], [path]);
		expect(cat("big")).toBe(big.toString());
		expect(cat("exact")).toBe(big.subarray(0, 131_072).toString());
		expect(cat(deep)).toBe("down");
		expect(unsquash(image, ["-l"]).match(/\/many\/\d+-x*\n/g)).toHaveLength(3000);
		for (const i of [0, 1, 2047, 2999]) expect(cat(`many/${i}-${"x".repeat(i % 40)}`)).toBe(String(i));
		if (compress) expect(image.length).toBeLessThan(400_000);
	});

	it("keeps random trees", () => {
		const name = fc
			.string({ unit: "binary", minLength: 1, maxLength: 12 })
			.map((text) => text.replace(/[/\0\n\r]/g, "_"))
			.filter((text) => text !== "." && text !== ".." && text.trim() === text && Buffer.byteLength(text) < 200);
		const node = fc.record({ name, kind: fc.nat(2), bytes: fc.uint8Array({ maxLength: 300 }), into: fc.nat() });
		fc.assert(
			fc.property(fc.array(node, { maxLength: 40 }), (nodes) => {
				const folders = [""];
				const entries = new Map<string, TreeEntry>();
				for (const { name: leaf, kind, bytes, into } of nodes) {
					const parent = folders[into % folders.length]!;
					const path = parent === "" ? leaf : `${parent}/${leaf}`;
					if (entries.has(path)) continue;
					entries.set(path, kind === 0 ? directory(path) : kind === 1 ? file(path, bytes) : symlink(path, "target"));
					if (kind === 0) folders.push(path);
				}
				rmSync(join(folder, "root"), { recursive: true, force: true });
				const root = unpack(write([...entries.values()]));
				for (const [path, { mode, data }] of entries) {
					const at = join(root, path);
					if ((mode & 0o170000) === 0o040000) expect(statSync(at).isDirectory()).toBe(true);
					else if ((mode & 0o170000) === 0o120000) expect(readlinkSync(at)).toBe("target");
					else expect(new Uint8Array(readFileSync(at))).toEqual(data);
				}
				expect(readdirSync(root, { recursive: true })).toHaveLength(entries.size);
			}),
			{ seed: 2006, numRuns: 20 },
		);
	});
});

describe("writeSquashfs", () => {
	it("gives the same bytes for the same tree in any order", () => {
		const entries = [file("b", "2"), file("a/c", "1"), directory("a"), symlink("z", "b")];
		expect(write(entries)).toEqual(write([entries[2]!, entries[3]!, entries[0]!, entries[1]!]));
	});

	it("refuses paths that lead out or through a file", () => {
		expect(() => write([file("../up", "")])).toThrow(/no path inside/);
		expect(() => write([file("/abs", "")])).toThrow(/no path inside/);
		expect(() => write([file("a", ""), file("a/b", "")])).toThrow(/no directory/);
	});
});
