import {
	copyFileSync,
	mkdtempSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CliError } from "../src/exit.ts";
import { openDisk } from "../src/guest/disk.ts";

const SECTOR = 512;
const SECTORS = 64;
const BYTES = SECTORS * SECTOR;

let folder: string;
let base: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "xkvm-disk-"));
	base = join(folder, "base.img");
	writeFileSync(
		base,
		Uint8Array.from({ length: BYTES }, (_, i) => i >> 9),
	);
});
afterAll(() => rmSync(folder, { recursive: true }));

const contents = (disk: ReturnType<typeof openDisk>): Buffer => {
	const all = Buffer.alloc(disk.bytes);
	disk.read(0, all);
	return all;
};

const step = fc.oneof(
	fc.record({ kind: fc.constant("flush" as const) }),
	fc.record({
		kind: fc.constantFrom("write" as const, "zero" as const),
		at: fc.nat(SECTORS - 1),
		count: fc.integer({ min: 1, max: 20 }),
		fill: fc.integer({ min: 1, max: 255 }),
	}),
);

describe("an overlay in a file", () => {
	it("killed at any moment, holds all that was flushed, and of the rest nothing but what was written", () => {
		const before = readFileSync(base);
		let runs = 0;
		fc.assert(
			fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
				const path = join(folder, `killed-${runs++}`);
				const copy = `${path}.copy`;
				const disk = openDisk({ path: base, readonly: false, overlay: { path } });
				const flushed = Buffer.from(before);
				/** What each sector may hold after a crash: its flushed contents, or anything written since. */
				let since = new Map<number, Set<number>>();
				const current = Buffer.from(before);
				for (const one of steps) {
					if (one.kind === "flush") {
						disk.flush();
						current.copy(flushed);
						since = new Map();
						continue;
					}
					const count = Math.min(one.count, SECTORS - one.at);
					const value = one.kind === "zero" ? 0 : one.fill;
					if (one.kind === "zero") disk.zero!(one.at * SECTOR, count * SECTOR);
					else disk.write(one.at * SECTOR, Buffer.alloc(count * SECTOR, value));
					current.fill(value, one.at * SECTOR, (one.at + count) * SECTOR);
					for (let sector = one.at; sector < one.at + count; sector++) {
						since.set(sector, (since.get(sector) ?? new Set()).add(value));
					}
				}
				copyFileSync(path, copy);
				const again = openDisk({ path: base, readonly: false, overlay: { path: copy } });
				const found = contents(again);
				again.close();
				for (let sector = 0; sector < SECTORS; sector++) {
					const bytes = found.subarray(sector * SECTOR, (sector + 1) * SECTOR);
					const may = [flushed[sector * SECTOR]!, ...(since.get(sector) ?? [])];
					expect(may.some((value) => bytes.every((byte) => byte === value))).toBe(true);
				}
				expect(Buffer.compare(contents(disk), current)).toBe(0);
				disk.close();
				const last = openDisk({ path: base, readonly: false, overlay: { path } });
				expect(Buffer.compare(contents(last), current)).toBe(0);
				last.close();
				rmSync(path);
				rmSync(copy);
			}),
			{ seed: 11, numRuns: 60 },
		);
		expect(Buffer.compare(readFileSync(base), before)).toBe(0);
	});

	it("takes no more space than what was written", () => {
		const big = join(folder, "big.img");
		writeFileSync(big, "");
		truncateSync(big, 2 ** 34);
		const path = join(folder, "big.cow");
		const disk = openDisk({ path: big, readonly: false, overlay: { path }, overlayLimitBytes: 2 ** 20 });
		disk.write(2 ** 33, Buffer.alloc(2 ** 20, 1));
		expect(() => disk.write(0, Buffer.alloc(1, 1))).toThrow(/overlay holds/);
		disk.close();
		expect(statSync(path).blocks * 512).toBeLessThan(2 ** 22);
	});

	it.each<[string, (path: string) => void, RegExp]>([
		["text", (path) => writeFileSync(path, "hello".repeat(2000)), /expected an overlay/],
		["a short file", (path) => writeFileSync(path, "xkvm.cow"), /expected an overlay/],
		["one cut off", (path) => truncateSync(path, 20_000), /end is missing/],
		["another version", (path) => patch(path, 8, 9), /version/],
		["another disk's", (path) => patch(path, 16, 1), /disk below it has changed/],
	])("%s is no overlay of this disk", (name, damage, message) => {
		const path = join(folder, `${name}.cow`);
		openDisk({ path: base, readonly: false, overlay: { path } }).close();
		damage(path);
		const open = () => openDisk({ path: base, readonly: false, overlay: { path } });
		expect(open).toThrow(CliError);
		expect(open).toThrow(message);
	});

	it("notices that the disk below was written to", () => {
		const path = join(folder, "stale.cow");
		openDisk({ path: base, readonly: false, overlay: { path } }).close();
		utimesSync(base, 1, 1);
		expect(() => openDisk({ path: base, readonly: false, overlay: { path } })).toThrow(/has changed/);
	});
});

it("a raw disk is its file", () => {
	const path = join(folder, "raw.img");
	copyFileSync(base, path);
	const disk = openDisk({ path, readonly: false });
	disk.write(700, Buffer.from("here"));
	disk.flush();
	expect(readFileSync(path).subarray(700, 704).toString()).toBe("here");
	disk.close();
	const readonly = openDisk({ path, readonly: true });
	expect(() => readonly.write(0, Buffer.alloc(1))).toThrow(/EBADF/);
	readonly.close();
	truncateSync(path, 1000);
	expect(() => openDisk({ path, readonly: false })).toThrow(/multiple of 512/);
});

function patch(path: string, at: number, value: number): void {
	const bytes = readFileSync(path);
	bytes[at] = value;
	writeFileSync(path, bytes);
}
