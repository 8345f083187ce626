import { execFileSync, spawnSync } from "node:child_process";
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import fc from "fast-check";
import { pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CliError } from "../src/exit.ts";
import { readArchive } from "../src/image/archive.ts";
import { readFolder } from "../src/image/folder.ts";
import { contents, type TreeEntry } from "../src/image/tree.ts";

const never = new AbortController().signal;
const hasTar = spawnSync("tar", ["--version"]).error === undefined;
const read = (bytes: Uint8Array): Promise<TreeEntry[]> => readArchive(Readable.from([bytes]), "test.tar", never);

async function archiveOf(...headers: Parameters<ReturnType<typeof pack>["entry"]>[0][]): Promise<Buffer> {
	const archive = pack();
	for (const header of headers) archive.entry(header, header.type === "file" ? "data" : undefined);
	archive.finalize();
	const chunks: Buffer[] = [];
	for await (const chunk of archive) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-archive-"));
	mkdirSync(join(folder, "sub"));
	writeFileSync(join(folder, "sub/tool"), "#!/bin/sh\n", { mode: 0o755 });
	writeFileSync(join(folder, "big"), Buffer.alloc(100_000, "big"));
	symlinkSync("sub/tool", join(folder, "link"));
	linkSync(join(folder, "big"), join(folder, "same"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function expectTree(entries: readonly TreeEntry[]): void {
	const byPath = new Map(entries.map((entry) => [entry.path, entry]));
	const text = (path: string): string => Buffer.from(contents(byPath.get(path)!)!).toString();
	expect([...byPath.keys()].sort()).toEqual(["big", "link", "same", "sub", "sub/tool"]);
	expect(byPath.get("sub/tool")!.mode.toString(8)).toBe("100755");
	expect(byPath.get("link")!.mode.toString(8)).toBe("120777");
	expect(text("link")).toBe("sub/tool");
	expect(text("sub/tool")).toBe("#!/bin/sh\n");
	expect(text("same")).toBe(readFileSync(join(folder, "big"), "utf8"));
}

describe("readArchive", () => {
	it.skipIf(!hasTar)("reads what tar writes (skipped where there is no tar)", async () => {
		for (const format of ["gnu", "pax", "ustar"]) {
			expectTree(await read(execFileSync("tar", ["-c", `--format=${format}`, "-C", folder, "."])));
		}
	});

	it("keeps owners and devices", async () => {
		const [tool, device] = await read(
			await archiveOf(
				{ name: "tool", type: "file", mode: 0o4711, uid: 1000, gid: 100, size: 4 },
				{ name: "dev/null", type: "character-device", mode: 0o666, devmajor: 1, devminor: 3 },
			),
		);
		expect(tool).toMatchObject({ mode: 0o104711, uid: 1000, gid: 100 });
		expect(device).toMatchObject({ mode: 0o020666, rdev: { major: 1, minor: 3 } });
	});

	it.each([
		["climbs out", { name: "a/../../b", type: "file", size: 4 } as const],
		["links to what is not there", { name: "a", type: "link", linkname: "missing" } as const],
	])("refuses a member that %s", async (_, header) => {
		await expect(read(await archiveOf(header))).rejects.toMatchObject({ code: "BAD_ARCHIVE" });
	});

	it("refuses or reads damaged archives, and never hangs or throws anything untyped", async () => {
		const whole = await archiveOf(
			{ name: "file", type: "file", size: 4 },
			{ name: "folder", type: "directory" },
			{ name: "link", type: "symlink", linkname: "file" },
		);
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 }),
				fc.nat(whole.length),
				async (changes, length) => {
					const damaged = Buffer.from(whole.subarray(0, length));
					for (const [at, value] of changes) if (at < length) damaged[at] = value;
					const result = await read(damaged).catch((error: unknown) => error);
					if (!Array.isArray(result)) expect(result).toBeInstanceOf(CliError);
				},
			),
			{ seed: 2006, numRuns: 300 },
		);
	});
});

describe("readFolder", () => {
	it("takes files, links and folders as they are, and reads contents late", async () => {
		const entries = await readFolder(folder, never);
		expectTree(entries);
		const big = entries.find(({ path }) => path === "big")!.data as Exclude<TreeEntry["data"], Uint8Array | undefined>;
		expect(Buffer.from(big.read(3, 6)).toString()).toBe("bigbig");
		expect(() => big.read(99_999, 2)).toThrow(/became shorter/);
	});

	it("says what is wrong with a path that is no folder", async () => {
		await expect(readFolder(join(folder, "big"), never)).rejects.toMatchObject({ code: "NOT_A_FOLDER" });
		await expect(readFolder(join(folder, "none"), never)).rejects.toThrow(/no such folder/);
	});
});
