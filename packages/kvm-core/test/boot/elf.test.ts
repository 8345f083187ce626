import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseElf, physicalEntry } from "../../src/boot/elf.ts";
import { BootError } from "../../src/boot/index.ts";
import { makeElf } from "./support/images.ts";

describe("parseElf", () => {
	it.each([32, 64] as const)("reads a %i-bit file's entry, segments and PVH note", (bits) => {
		const elf = parseElf(
			makeElf({
				bits,
				entry: 0x100004,
				pvhEntry: 0x123456,
				segments: [
					{ physAddr: 0x100000, bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), memSize: 0x3000 },
					{ physAddr: 0x200000, bytes: Uint8Array.of(9) },
				],
			}),
		);
		expect(elf).toMatchObject({ bits, entry: 0x100004n, pvhEntry: 0x123456 });
		expect(elf.segments.map(({ physAddr, memSize, bytes }) => [physAddr, memSize, [...bytes]])).toEqual([
			[0x100000, 0x3000, [1, 2, 3, 4, 5, 6, 7, 8]],
			[0x200000, 1, [9]],
		]);
	});

	it("finds the entry by physical and by virtual address", () => {
		const segments = [{ physAddr: 0x1000000, virtAddr: 0xffff_ffff_8100_0000n, bytes: new Uint8Array(16) }];
		expect(physicalEntry(parseElf(makeElf({ segments, entry: 0x1000008 })))).toBe(0x1000008);
		const virtual = parseElf(makeElf({ segments }));
		expect(physicalEntry({ ...virtual, entry: 0xffff_ffff_8100_0004n })).toBe(0x1000004);
		expect(() => physicalEntry({ ...virtual, entry: 0x42n })).toThrow(/0x42 lies in none/);
	});

	it("says what is wrong with a file cut anywhere", () => {
		const whole = makeElf({ pvhEntry: 1 });
		for (let length = 4; length < whole.length; length++) {
			expect(() => parseElf(whole.subarray(0, length)), `cut at ${length}`).toThrow(
				expect.objectContaining({ name: "BootError", code: "TRUNCATED" }),
			);
		}
	});

	it.each([
		["an object file", (v: DataView) => v.setUint16(56, 0, true), "UNSUPPORTED"],
		["another machine", (v: DataView) => v.setUint16(18, 183, true), "UNSUPPORTED"],
		["big-endian data", (v: DataView) => v.setUint8(5, 2), "UNSUPPORTED"],
		["an unknown class", (v: DataView) => v.setUint8(4, 3), "MALFORMED"],
		["short program headers", (v: DataView) => v.setUint16(54, 8, true), "MALFORMED"],
		["more bytes in the file than in memory", (v: DataView) => v.setBigUint64(64 + 40, 0n, true), "UNSUPPORTED"],
		["an address beyond 52 bits", (v: DataView) => v.setBigUint64(64 + 24, 2n ** 60n, true), "MALFORMED"],
	])("refuses %s", (_, bend, code) => {
		const file = makeElf();
		bend(new DataView(file.buffer));
		expect(() => parseElf(file)).toThrow(expect.objectContaining({ name: "BootError", code }));
	});

	it("gives segments inside the file or a BootError, whatever the bytes", () => {
		const whole = makeElf({ pvhEntry: 0x100 });
		fc.assert(
			fc.property(
				fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 12 }),
				fc.nat(whole.length),
				fc.boolean(),
				(edits, length, narrow) => {
					const file = narrow ? makeElf({ bits: 32, pvhEntry: 0x100 }) : whole.slice();
					for (const [at, byte] of edits) file[at] = byte;
					try {
						for (const { bytes, memSize } of parseElf(file.subarray(0, length)).segments) {
							expect(bytes.length).toBeLessThanOrEqual(memSize);
						}
					} catch (error) {
						expect(error).toBeInstanceOf(BootError);
					}
				},
			),
			{ numRuns: 2000, seed: 1 },
		);
	});
});
