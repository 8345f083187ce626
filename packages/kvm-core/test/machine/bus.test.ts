import { describe, expect, test } from "vitest";
import { Bus } from "../../src/machine/bus.ts";
import { GuestRam } from "../../src/machine/guest-ram.ts";
import { makeMemoryMap, planRam } from "../../src/machine/memory-map.ts";
import { ArrayMemory } from "./memory.ts";

function recorder(log: string[], name: string, value = 0) {
	const note = (kind: string, at: number, size: number, written?: number) => {
		log.push([name, kind, at.toString(16), size, ...(written === undefined ? [] : [written.toString(16)])].join(" "));
		return value;
	};
	return {
		readPort: (port: number, size: number) => note("in", port, size),
		writePort: (port: number, size: number, v: number) => void note("out", port, size, v),
		readMmio: (offset: number, size: number) => note("read", offset, size),
		writeMmio: (offset: number, size: number, v: number) => void note("write", offset, size, v),
	};
}

describe("ports", () => {
	test("byte devices see wide accesses as bytes of consecutive ports, others as they are", () => {
		const bus = new Bus();
		const log: string[] = [];
		bus.addPorts(0x10, 2, recorder(log, "a", 0x12));
		bus.addPorts(0x20, 4, recorder(log, "b", 0xdead_beef), false);
		expect(bus.readPort(0x10, 4)).toBe(0xffff_1212);
		expect(bus.readPort(0x20, 4)).toBe(0xdead_beef);
		bus.writePort(0x11, 2, 0xabcd);
		bus.writePort(0x20, 2, 0xabcd);
		expect(log).toEqual(["a in 11 1", "a in 10 1", "b in 20 4", "a out 11 1 cd", "b out 20 2 abcd"]);
		expect([1, 2, 4].map((size) => bus.readPort(0x99, size as 1 | 2 | 4))).toEqual([0xff, 0xffff, 0xffff_ffff]);
		expect(() => bus.addPorts(0x11, 1, recorder(log, "c"))).toThrowError(
			expect.objectContaining({ code: "ERR_MACHINE_ADDRESS_IN_USE", value: 0x11 }),
		);
		bus.removePorts(0x10, 2);
		expect(bus.readPort(0x10, 1)).toBe(0xff);
	});

	test("string I/O goes element by element through the exit's buffer", () => {
		const bus = new Bus();
		let next = 1;
		const seen: number[] = [];
		bus.addPorts(
			0x40,
			1,
			{ readPort: () => next++ * 0x101, writePort: (_port, _size, value) => seen.push(value) },
			false,
		);
		const data = new Uint8Array(6);
		bus.handleIo({ reason: "io", direction: "in", port: 0x40, size: 2, count: 3, data });
		expect([...data]).toEqual([1, 1, 2, 2, 3, 3]);
		bus.handleIo({ reason: "io", direction: "out", port: 0x40, size: 2, count: 3, data });
		expect(seen).toEqual([0x101, 0x202, 0x303]);
	});
});

describe("MMIO", () => {
	test("eight bytes come as two words, odd lengths in falling sizes, and the range added last wins", () => {
		const bus = new Bus();
		const log: string[] = [];
		bus.addMmio(0x1000, 0x1000, recorder(log, "a", 0x1122_3344));
		bus.addMmio(0x1800, 0x10, recorder(log, "b", 0x55));
		const data = new Uint8Array(8);
		bus.handleMmio({ reason: "mmio", physAddr: 0x1010, isWrite: false, data });
		expect([...data]).toEqual([0x44, 0x33, 0x22, 0x11, 0x44, 0x33, 0x22, 0x11]);
		bus.handleMmio({ reason: "mmio", physAddr: 0x1800, isWrite: false, data: data.subarray(0, 1) });
		bus.handleMmio({ reason: "mmio", physAddr: 0x1020, isWrite: true, data: data.subarray(1, 4) });
		expect(log).toEqual(["a read 10 4", "a read 14 4", "b read 0 1", "a write 20 2 2233", "a write 22 1 11"]);
	});

	test("outside of every range reads give ones and writes are lost, across an end too", () => {
		const bus = new Bus();
		const log: string[] = [];
		const device = recorder(log, "a", 0);
		bus.addMmio(0x1000, 4, device);
		const data = new Uint8Array(8);
		bus.handleMmio({ reason: "mmio", physAddr: 0x1000, isWrite: false, data });
		expect([...data]).toEqual([0, 0, 0, 0, 255, 255, 255, 255]);
		bus.removeMmio(device);
		bus.handleMmio({ reason: "mmio", physAddr: 0x1000, isWrite: false, data: data.subarray(0, 2) });
		expect([...data.subarray(0, 2)]).toEqual([255, 255]);
	});
});

describe("guest memory", () => {
	test("transfers cross from region to region, stop at holes and report what was written", () => {
		const memory = new ArrayMemory(0x3000);
		const ram = new GuestRam();
		ram.add(0x0000, 0x1000, memory, 0);
		ram.add(0x1000, 0x1000, memory, 0x2000);
		ram.add(0x5000, 0x1000, memory, 0x1000);
		const bytes = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
		expect(ram.write(0xff8, bytes)).toBe(true);
		expect([...memory.bytes.subarray(0xff8, 0x1000)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
		expect([...memory.bytes.subarray(0x2000, 0x2008)]).toEqual([9, 10, 11, 12, 13, 14, 15, 16]);
		expect(memory.writtenBytes).toBe(16);
		const back = new Uint8Array(16);
		expect(ram.read(0xff8, back)).toBe(true);
		expect(back).toEqual(bytes);
		expect(ram.span(0xff8, 16)).toBeUndefined();
		expect(ram.span(0x1000, 8)?.[0]).toBe(9);
		expect(ram.contains(0x1ff0, 0x20)).toBe(false);
		expect(ram.contains(0xff0, 0x20)).toBe(true);
		expect(ram.write(0x1ff8, bytes)).toBe(false);
		expect(ram.readU32(0x1ffe)).toBe(0);
		ram.writeU32(0x5ffc, 0x8000_0001);
		expect(ram.readU64(0x5ff8)).toBe(0x8000_0001 * 2 ** 32);
		expect(() => ram.load(0x5fff, bytes)).toThrowError(
			expect.objectContaining({ code: "ERR_MACHINE_OUT_OF_GUEST_MEMORY", value: 0x5fff }),
		);
		ram.clear(0x0ff8, 0x10);
		expect(ram.readU32(0x1000)).toBe(0);
		expect(() => ram.clear(0x1000, 0x2000)).toThrowError(/do not lie in guest memory/);
	});
});

describe("memory map", () => {
	test("leaves the VGA hole and the PCI hole, and loses nothing else", () => {
		const mib = 2 ** 20;
		expect(planRam(256 * mib)).toEqual([
			{ start: 0, length: 0xa_0000, memoryOffset: 0 },
			{ start: 0xc_0000, length: 256 * mib - 0xc_0000, memoryOffset: 0xc_0000 },
		]);
		const most = planRam(3072 * mib);
		expect(most.at(-1)).toEqual({ start: 0xc_0000, length: 3072 * mib - 0xc_0000, memoryOffset: 0xc_0000 });
		for (const wrong of [0, mib, 3073 * mib, 64 * mib + 1, Number.NaN, 1e12]) {
			expect(() => planRam(wrong)).toThrowError(expect.objectContaining({ code: "ERR_MACHINE_MEMORY_SIZE" }));
		}
	});

	test("what the guest is told lies in RAM, in order and without overlaps", () => {
		for (const size of [2 ** 21, 2 ** 27, 3 * 2 ** 30]) {
			const ram = new GuestRam();
			// Only addresses matter here.
			for (const { start, length } of planRam(size)) {
				ram.add(start, length, { size, view: () => new Uint8Array(0), written: () => undefined }, 0);
			}
			let end = 0;
			for (const { start, length, type } of makeMemoryMap(size)) {
				expect(start).toBeGreaterThanOrEqual(end);
				end = start + length;
				if (type === 1) expect(ram.contains(start, length)).toBe(true);
			}
			expect(end).toBe(size);
		}
	});
});
