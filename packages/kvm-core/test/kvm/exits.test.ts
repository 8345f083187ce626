import fc from "fast-check";
import { expect, test } from "vitest";
import { ExitReader } from "../../src/hardware/exits.ts";
import { EXIT, RUN } from "../../src/hardware/ioctls.ts";

/** A run page, and what KVM would write there. */
function runPage(): { page: Uint8Array; view: DataView; reader: ExitReader } {
	const page = new Uint8Array(12_288);
	return { page, view: new DataView(page.buffer), reader: new ExitReader(page) };
}

interface Io {
	direction: "in" | "out";
	size: 1 | 2 | 4;
	port: number;
	count: number;
	dataOffset: number;
}

function putIo(view: DataView, { direction, size, port, count, dataOffset }: Io): void {
	view.setUint32(RUN.exitReason, EXIT.IO, true);
	view.setUint8(RUN.exit, direction === "out" ? 1 : 0);
	view.setUint8(RUN.exit + 1, size);
	view.setUint16(RUN.exit + 2, port, true);
	view.setUint32(RUN.exit + 4, count, true);
	view.setBigUint64(RUN.exit + 8, BigInt(dataOffset), true);
}

interface Mmio {
	physAddr: bigint;
	length: number;
	isWrite: boolean;
}

function putMmio(view: DataView, { physAddr, length, isWrite }: Mmio): void {
	view.setUint32(RUN.exitReason, EXIT.MMIO, true);
	view.setBigUint64(RUN.exit, physAddr, true);
	view.setUint32(RUN.exit + 16, length, true);
	view.setUint8(RUN.exit + 20, isWrite ? 1 : 0);
}

// Few values of each, so that the same access comes again and others share its place in what is remembered.
const io = fc.record({
	direction: fc.constantFrom("in" as const, "out" as const),
	size: fc.constantFrom(1 as const, 2 as const, 4 as const),
	port: fc.constantFrom(0, 0x10, 0x50, 0x3f8, 0x8010, 0xffff),
	count: fc.constantFrom(1, 2, 500),
	dataOffset: fc.constantFrom(4096, 4100),
});
const mmio = fc.record({
	physAddr: fc.constantFrom(0n, 0x10_0000n, 0xfee0_0000n, 0xffff_fffcn, 0x1_0010_0000n, 0xf_ffff_ffff_fffcn),
	length: fc.constantFrom(1, 2, 4, 8),
	isWrite: fc.boolean(),
});
const access = fc.oneof(fc.record({ io }), fc.record({ mmio }));

test("every access is read as it stands on the page, whatever was read before", () => {
	fc.assert(
		fc.property(fc.array(access, { maxLength: 40 }), (accesses) => {
			const { page, view, reader } = runPage();
			for (const one of accesses) {
				if ("io" in one) {
					const { direction, size, port, count, dataOffset } = one.io;
					putIo(view, one.io);
					page[dataOffset] = (page[dataOffset]! + 1) & 0xff;
					const data = page.slice(dataOffset, dataOffset + size * count);
					expect(reader.read()).toEqual({ reason: "io", direction, size, port, count, data });
				} else {
					const { physAddr, length, isWrite } = one.mmio;
					putMmio(view, one.mmio);
					const data = page.slice(RUN.exit + 8, RUN.exit + 8 + length);
					expect(reader.read()).toEqual({ reason: "mmio", physAddr: Number(physAddr), isWrite, data });
				}
			}
		}),
		{ seed: 6 },
	);
});

test("what is put into the data of a read stands on the page", () => {
	const { page, view, reader } = runPage();
	for (const value of [1, 2]) {
		putIo(view, { direction: "in", size: 2, port: 0x1f0, count: 1, dataOffset: 4096 });
		const exit = reader.read();
		if (exit.reason !== "io") throw new Error(exit.reason);
		exit.data.fill(value);
		expect([...page.subarray(4096, 4098)]).toEqual([value, value]);
	}
});
