import {
	existsSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	truncateSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GuestRam, MachineState } from "@x/kvm-core";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
	dropOldStarts,
	type KeptStart,
	keptStartPath,
	readKeptStart,
	writeKeptStart,
} from "../src/sandbox/kept-start.ts";

const PAGE = 4096;
const PAGES = [40, 24];

/** What of RAM a start needs: its windows. */
function ram(): GuestRam & { windows(): { start: number; bytes: Uint8Array }[] } {
	const windows = PAGES.map((pages, i) => ({ start: i * 2 ** 32, bytes: new Uint8Array(pages * PAGE) }));
	return { windows: () => windows } as never;
}

const all = (memory: GuestRam): Buffer => Buffer.concat(memory.windows().map(({ bytes }) => bytes));

const kept: KeptStart = {
	machine: {
		start: 1,
		now: 2,
		vm: { page: Uint8Array.of(1, 2), expiry: Number.POSITIVE_INFINITY },
		board: {},
	} as never,
	greeting: Uint8Array.of(3),
	console: Uint8Array.of(),
	modules: new Map([["ext4", ["/a", "/b"]]]),
};

describe("a kept start", () => {
	let folder: string;
	beforeAll(() => {
		folder = mkdtempSync(join(tmpdir(), "xkvm-starts-"));
	});
	afterAll(() => rmSync(folder, { recursive: true }));

	it("gives back any memory, and its state", async () => {
		const written = fc.record({ at: fc.nat(PAGES[0]! + PAGES[1]! - 1), byte: fc.integer({ min: 1, max: 255 }) });
		await fc.assert(
			fc.asyncProperty(fc.array(written, { maxLength: 40 }), async (bytes) => {
				const memory = ram();
				for (const { at, byte } of bytes) {
					const [first, second] = memory.windows();
					if (at < PAGES[0]!) first!.bytes[at * PAGE + byte] = byte;
					else second!.bytes[(at - PAGES[0]!) * PAGE + byte] = byte;
				}
				const path = join(folder, "any");
				await writeKeptStart(path, kept, memory);
				const other = ram();
				expect(readKeptStart(path, other)).toEqual(kept);
				expect(all(other).equals(all(memory))).toBe(true);
			}),
			{ numRuns: 30, seed: 7 },
		);
	});

	it("is none when it is cut off anywhere or something else, and memory is empty then", async () => {
		const memory = ram();
		for (const { bytes } of memory.windows()) bytes.fill(9);
		const path = join(folder, "cut");
		await writeKeptStart(path, kept, memory);
		const whole = readFileSync(path);
		for (const size of [0, 1, 15, 16, 24, 100, PAGE - 1, PAGE, 2 * PAGE + 5, whole.length - 1]) {
			truncateSync(path, size);
			const other = ram();
			expect([size, readKeptStart(path, other)]).toEqual([size, undefined]);
			expect(all(other).some((byte) => byte !== 0)).toBe(false);
			writeFileSync(path, whole);
		}
		writeFileSync(path, Buffer.concat([Buffer.from("y"), whole.subarray(1)]));
		expect(readKeptStart(path, ram())).toBeUndefined();
		expect(readKeptStart(join(folder, "none"), ram())).toBeUndefined();
		const small = { windows: () => [{ start: 0, bytes: new Uint8Array(PAGE) }] } as never as GuestRam;
		writeFileSync(path, whole);
		expect(readKeptStart(path, small)).toBeUndefined();
		expect(all(small).some((byte) => byte !== 0)).toBe(false);
	});

	it("is another when anything it was made of is", () => {
		const image = join(folder, "image");
		writeFileSync(image, "one");
		utimesSync(image, 1, 1);
		const path = keptStartPath(folder, [image], ["quiet", 256]);
		expect(keptStartPath(folder, [image], ["quiet", 256])).toBe(path);
		expect(keptStartPath(folder, [image], ["quiet", 257])).not.toBe(path);
		writeFileSync(image, "two");
		expect(keptStartPath(folder, [image], ["quiet", 256])).not.toBe(path);
		expect(() => keptStartPath(folder, [join(folder, "gone")], [])).toThrow("ENOENT");
	});

	it("makes room: the ones used last stay, and nothing of a process that died", async () => {
		const place = mkdtempSync(join(folder, "many-"));
		for (let i = 0; i < 12; i++) {
			writeFileSync(join(place, `start${i}`), "12345");
			utimesSync(join(place, `start${i}`), i, i);
		}
		const [mine, dead] = [join(place, `half.${process.pid}`), join(place, "half.99999999")];
		writeFileSync(mine, "");
		writeFileSync(dead, "123");
		expect(await dropOldStarts(place, 8)).toBe(4 * 5 + 3);
		expect(readdirSync(place).filter((name) => name.startsWith("start"))).toHaveLength(8);
		expect([existsSync(mine), existsSync(dead), existsSync(join(place, "start0"))]).toEqual([true, false, false]);
		expect(await dropOldStarts(join(folder, "nowhere"), 0)).toBe(0);
	});

	it("is not left half when it cannot be written", async () => {
		const state = { ...kept, machine: { vm: () => {} } as never as MachineState };
		expect(() => writeKeptStart(join(folder, "bad"), state, ram())).toThrow();
		expect(readdirSync(folder).filter((name) => name.startsWith("bad"))).toEqual([]);
	});
});
