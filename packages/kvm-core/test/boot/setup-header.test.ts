import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BootError } from "../../src/boot/index.ts";
import { parseBzImage } from "../../src/boot/setup-header.ts";
import { KERNEL_VERSION, makeBzImage } from "./support/images.ts";

describe("parseBzImage", () => {
	it("takes the file apart", () => {
		const payload = Uint8Array.of(1, 2, 3, 4);
		const image = parseBzImage(makeBzImage({ payload, initSize: 0x345000 }));
		expect(image).toMatchObject({
			version: 0x020f,
			kernelVersion: KERNEL_VERSION,
			is64Bit: true,
			relocatable: true,
			prefAddress: 0x1000000,
			initSize: 0x345000,
			initrdAddrMax: 0x7fffffff,
			cmdlineSize: 2047,
		});
		expect([...image.payload]).toEqual([1, 2, 3, 4]);
		expect(image.setup.length).toBe(2560);
	});

	it("says TRUNCATED for a file cut after its signature", () => {
		const whole = makeBzImage();
		for (let length = 0x206; length < whole.length - 16; length += 97) {
			expect(() => parseBzImage(whole.subarray(0, length)), `cut at ${length}`).toThrow(
				expect.objectContaining({ name: "BootError", code: "TRUNCATED" }),
			);
		}
	});

	it.each([
		["a protocol before 2.10", (v: DataView) => v.setUint16(0x206, 0x0209, true), "UNSUPPORTED"],
		["a zImage", (v: DataView) => v.setUint8(0x211, 0), "UNSUPPORTED"],
		["a payload outside the file", (v: DataView) => v.setUint32(0x24c, 0x7fffffff, true), "MALFORMED"],
		["a header that ends nowhere", (v: DataView) => v.setUint8(0x201, 0xff), "MALFORMED"],
		["a load address above 4 GiB", (v: DataView) => v.setBigUint64(0x258, 2n ** 33n, true), "UNSUPPORTED"],
		["no signature", (v: DataView) => v.setUint32(0x202, 0, true), "NOT_A_KERNEL"],
	])("refuses %s", (_, bend, code) => {
		const file = makeBzImage();
		bend(new DataView(file.buffer));
		expect(() => parseBzImage(file)).toThrow(expect.objectContaining({ name: "BootError", code }));
	});

	it("gives windows on the file or a BootError, whatever the header says", () => {
		const whole = makeBzImage();
		fc.assert(
			fc.property(
				fc.array(fc.tuple(fc.integer({ min: 0x1f1, max: 0x270 }), fc.nat(255)), { maxLength: 10 }),
				fc.nat(whole.length),
				(edits, length) => {
					const file = whole.slice();
					for (const [at, byte] of edits) file[at] = byte;
					try {
						const { setup, system, payload } = parseBzImage(file.subarray(0, length));
						expect(setup.length + system.length).toBeLessThanOrEqual(length);
						expect(payload.length).toBeLessThanOrEqual(system.length);
					} catch (error) {
						expect(error).toBeInstanceOf(BootError);
					}
				},
			),
			{ numRuns: 2000, seed: 2 },
		);
	});
});
