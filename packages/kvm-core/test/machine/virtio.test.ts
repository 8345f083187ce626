import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BlockBackend, MemoryBlockBackend, VirtioBlock } from "../../src/machine/virtio/block.ts";
import { VirtioConsole } from "../../src/machine/virtio/console.ts";
import { VirtioRng } from "../../src/machine/virtio/rng.ts";
import { Driver } from "./virtio-driver.ts";

const NEEDS_RESET = 0x40;
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes.slice());
const bytesOf = (value: string) => new TextEncoder().encode(value);

function header(type: number, sector: number): { send: Uint8Array } {
	const bytes = new Uint8Array(16);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, type, true);
	view.setBigUint64(8, BigInt(sector), true);
	return { send: bytes };
}

function makeDisk(sectors: number, options: { readonly?: boolean; id?: string } = {}) {
	const contents = Uint8Array.from({ length: sectors * 512 }, (_, i) => (i * 7 + (i >> 9)) & 0xff);
	const backend = new MemoryBlockBackend(contents, options);
	return { contents, driver: new Driver(new VirtioBlock({ backend, id: options.id ?? "disk" })) };
}

describe("PCI", () => {
	test("identity, window sizing, moving, and switching off", () => {
		const { driver } = makeDisk(8);
		expect(driver.pciRead(0, 4)).toBe(0x1042_1af4);
		expect(driver.pciRead(8, 4) >>> 8).toBe(0x01_8000);
		const before = driver.pciRead(0x10, 4);
		driver.pciWrite(0x10, 4, 0xffff_ffff);
		expect(driver.pciRead(0x10, 4)).toBe(0xffff_8000);
		driver.pciWrite(0x10, 4, 0xe100_0000);
		driver.start();
		expect(driver.common).toBe(0xe100_0000);
		expect(driver.read(before + 0x12, 2)).toBe(0xffff);
		driver.pciWrite(4, 2, 0);
		expect(driver.read(driver.common + 0x12, 2)).toBe(0xffff);
		// Nobody lives in slots without a card, on other buses or in other functions.
		for (const address of [0x8000_f800, 0x8001_1000, 0x8000_1100, 0x0000_1000]) {
			driver.bus.writePort(0xcf8, 4, address);
			expect(driver.bus.readPort(0xcfc, 4)).toBe(0xffff_ffff);
		}
	});

	test("the window in configuration space reaches the registers too", () => {
		const { driver } = makeDisk(8);
		const cap = driver.capability(9, 5);
		driver.pciWrite(cap + 8, 4, 0x12);
		driver.pciWrite(cap + 12, 4, 2);
		expect(driver.pciRead(cap + 16, 2)).toBe(1);
		driver.pciWrite(cap + 8, 4, 0x14);
		driver.pciWrite(cap + 12, 4, 1);
		driver.pciWrite(cap + 16, 1, 1);
		expect(driver.pciRead(cap + 16, 1)).toBe(1);
		driver.pciWrite(cap + 8, 4, 0x8000);
		expect(driver.pciRead(cap + 16, 1)).toBe(0);
	});

	test("masked MSI-X vectors wait in the pending bits", () => {
		const { driver } = makeDisk(8);
		driver.start();
		const table = driver.common + 0x4000;
		driver.write(table + 16 + 12, 4, 1);
		driver.add(0, [header(0, 0), { room: 512 }, { room: 1 }]);
		driver.kick(0);
		expect(driver.messages).toEqual([]);
		expect(driver.read(driver.common + 0x5000, 4)).toBe(2);
		driver.write(table + 16 + 12, 4, 0);
		expect(driver.messages).toEqual([{ address: 0xfee0_0000n, data: 0x41 }]);
		expect(driver.read(driver.common + 0x5000, 4)).toBe(0);
		const msix = driver.capability(0x11);
		driver.pciWrite(msix + 2, 2, 0xc000);
		driver.used(0);
		driver.add(0, [header(0, 0), { room: 512 }, { room: 1 }]);
		driver.kick(0);
		expect(driver.messages.length).toBe(1);
		driver.pciWrite(msix + 2, 2, 0x8000);
		expect(driver.messages.length).toBe(2);
	});

	test("without MSI-X the line rises, until ISR is read; COMMAND can silence it", () => {
		const { driver } = makeDisk(8);
		driver.start({ msix: false });
		const request = () => {
			driver.used(0);
			driver.add(0, [header(0, 0), { room: 512 }, { room: 1 }]);
			driver.kick(0);
		};
		request();
		expect(driver.lines).toEqual(["10 true"]);
		expect(driver.pciRead(6, 2) & 8).toBe(8);
		expect(driver.read(driver.isr, 1)).toBe(1);
		expect(driver.lines).toEqual(["10 true", "10 false"]);
		expect(driver.read(driver.isr, 1)).toBe(0);
		driver.pciWrite(4, 2, 0x406);
		request();
		expect(driver.lines.length).toBe(2);
		driver.pciWrite(4, 2, 6);
		expect(driver.lines.at(-1)).toBe("10 true");
	});
});

describe("negotiation", () => {
	test("features that are not offered, or no VERSION_1, are refused", () => {
		const { driver } = makeDisk(8);
		driver.start();
		const { common } = driver;
		for (const [select, bits, fine] of [
			[0, 1 << 27, false],
			[1, 3, false],
			[1, 1, true],
		] as const) {
			driver.write(common + 0x14, 1, 0);
			driver.write(common + 0x14, 1, 3);
			driver.write(common + 8, 4, 1);
			driver.write(common + 12, 4, 1);
			driver.write(common + 8, 4, select);
			driver.write(common + 12, 4, bits);
			driver.write(common + 0x14, 1, 11);
			expect((driver.status & 8) !== 0).toBe(fine);
		}
		driver.write(common + 0x14, 1, 0);
		driver.write(common + 0x14, 1, 11);
		expect(driver.status & 8).toBe(0);
	});

	test("a queue with a bad layout breaks the device, which reset repairs", () => {
		for (const [offset, value] of [
			[0x18, 3],
			[0x18, 512],
			[0x20, 0x1_0008],
			[0x28, 0x1_1001],
			[0x30, 0x10_0000],
			[0x24, 1],
		]) {
			const { driver } = makeDisk(8);
			driver.start();
			const { common } = driver;
			driver.write(common + 0x14, 1, 0);
			driver.write(common + 0x14, 1, 3);
			driver.write(common + 8, 4, 1);
			driver.write(common + 12, 4, 1);
			driver.write(common + 0x14, 1, 11);
			driver.write(common + 0x16, 2, 0);
			driver.write(common + 0x20, 4, 0x1_0000);
			driver.write(common + 0x28, 4, 0x1_1000);
			driver.write(common + 0x30, 4, 0x1_2000);
			driver.write(common + offset, offset === 0x18 ? 2 : 4, value);
			driver.write(common + 0x1c, 2, 1);
			expect(driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
			driver.start();
			expect(driver.status).toBe(15);
		}
	});
});

describe("disk", () => {
	test.each([
		["direct", false],
		["indirect", true],
	])("reads and writes with %s descriptors, scattered", (_name, indirect) => {
		const { driver, contents } = makeDisk(64);
		driver.start();
		const before = contents.slice();
		const read = driver.add(0, [header(0, 3), { room: 512 }, { room: 1024 }, { room: 1 }], indirect);
		driver.kick(0);
		expect(read.rooms[0]).toEqual(before.subarray(3 * 512, 4 * 512));
		expect(read.rooms[1]).toEqual(before.subarray(4 * 512, 6 * 512));
		expect([...read.rooms[2]]).toEqual([0]);
		expect(driver.used(0)).toEqual([{ head: read.head, length: 1537 }]);
		const data = new Uint8Array(1024).fill(0x5a);
		const write = driver.add(
			0,
			[header(1, 10), { send: data.subarray(0, 100) }, { send: data.subarray(100) }, { room: 1 }],
			indirect,
		);
		driver.kick(0);
		expect([...write.rooms[0]]).toEqual([0]);
		expect(contents.subarray(10 * 512, 12 * 512)).toEqual(data);
		expect(contents.subarray(0, 10 * 512)).toEqual(before.subarray(0, 10 * 512));
	});

	test("header, data and status need no descriptors of their own", () => {
		const { driver, contents } = makeDisk(8);
		driver.start();
		const request = new Uint8Array(16 + 512).fill(0x33);
		request.set(header(1, 2).send);
		const write = driver.add(0, [{ send: request.subarray(0, 7) }, { send: request.subarray(7) }, { room: 1 }]);
		const read = driver.add(0, [header(0, 2), { room: 513 }]);
		driver.kick(0);
		expect([...write.rooms[0]]).toEqual([0]);
		expect(contents.subarray(1024, 1536)).toEqual(new Uint8Array(512).fill(0x33));
		expect(read.rooms[0]).toEqual(Uint8Array.from([...new Uint8Array(512).fill(0x33), 0]));
	});

	test("flush, identity, zeroing, and what it does not know", () => {
		const { driver, contents } = makeDisk(64, { id: "vol-1" });
		driver.start();
		const status = (pieces: Parameters<Driver["add"]>[1]) => {
			const { rooms } = driver.add(0, pieces);
			driver.kick(0);
			return rooms.at(-1)?.at(-1);
		};
		expect(status([header(4, 0), { room: 1 }])).toBe(0);
		const id = driver.add(0, [header(8, 0), { room: 20 }, { room: 1 }]);
		driver.kick(0);
		expect(text(id.rooms[0]).replace(/\0+$/, "")).toBe("vol-1");
		expect(status([header(99, 0), { room: 1 }])).toBe(2);
		const range = new Uint8Array(16);
		new DataView(range.buffer).setUint32(0, 8, true);
		new DataView(range.buffer).setUint32(8, 2, true);
		expect(status([header(13, 0), { send: range }, { room: 1 }])).toBe(0);
		expect(contents.subarray(8 * 512, 10 * 512).every((byte) => byte === 0)).toBe(true);
		expect(contents[10 * 512 + 1]).not.toBe(0);
		new DataView(range.buffer).setUint32(0, 63, true);
		expect(status([header(11, 0), { send: range }, { room: 1 }])).toBe(1);
	});

	test("nothing beyond the end, in pieces of sectors, or onto a read-only disk", () => {
		const { driver, contents } = makeDisk(8, { readonly: true });
		driver.start();
		expect(driver.read(driver.common + 4, 4) & (1 << 5)).toBe(1 << 5);
		expect(driver.read(driver.config, 4)).toBe(8);
		const before = contents.slice();
		const status = (pieces: Parameters<Driver["add"]>[1]) => {
			const { rooms } = driver.add(0, pieces);
			driver.kick(0);
			return rooms.at(-1)?.at(-1);
		};
		expect(status([header(0, 7), { room: 512 }, { room: 1 }])).toBe(0);
		expect(status([header(0, 7), { room: 1024 }, { room: 1 }])).toBe(1);
		expect(status([header(0, 2 ** 52), { room: 512 }, { room: 1 }])).toBe(1);
		expect(status([header(0, 0), { room: 100 }, { room: 1 }])).toBe(1);
		expect(status([header(1, 0), { send: new Uint8Array(512) }, { room: 1 }])).toBe(1);
		expect(status([{ send: new Uint8Array(5) }, { room: 1 }])).toBe(1);
		expect(contents).toEqual(before);
	});

	test("an asynchronous backend answers when it is done, in any order, and not after a reset", async () => {
		const waiting: (() => void)[] = [];
		const backend: BlockBackend = {
			bytes: 4096,
			readonly: false,
			read: (offset, target) =>
				new Promise((resolve) => {
					waiting.push(() => {
						target.fill(offset / 512);
						resolve();
					});
				}),
			write: () => Promise.reject(new Error("no space")),
			flush: () => undefined,
		};
		const device = new VirtioBlock({ backend });
		const driver = new Driver(device).start();
		const first = driver.add(0, [header(0, 1), { room: 512 }, { room: 1 }]);
		const second = driver.add(0, [header(0, 2), { room: 512 }, { room: 1 }]);
		driver.kick(0);
		expect(driver.used(0)).toEqual([]);
		waiting[1]();
		await new Promise(setImmediate);
		expect(driver.used(0)).toEqual([{ head: second.head, length: 513 }]);
		expect(driver.messages.length).toBe(1);
		waiting[0]();
		await device.idle();
		expect(driver.used(0)).toEqual([{ head: first.head, length: 513 }]);
		expect([first.rooms[0][0], second.rooms[0][0]]).toEqual([1, 2]);
		const failing = driver.add(0, [header(1, 0), { send: new Uint8Array(512) }, { room: 1 }]);
		driver.kick(0);
		await device.idle();
		expect(failing.rooms[0][0]).toBe(1);
		driver.used(0);
		driver.add(0, [header(0, 3), { room: 512 }, { room: 1 }]);
		driver.kick(0);
		driver.start();
		waiting[2]();
		await device.idle();
		expect(driver.used(0)).toEqual([]);
	});

	test("a driver that does not flush, or switches the cache off, hears of writes when they are safe", async () => {
		for (const [features, off] of [
			[~(1 << 9), false],
			[-1, true],
			[-1, false],
		] as const) {
			const log: string[] = [];
			let finish = (): void => undefined;
			const backend: BlockBackend = {
				...{ bytes: 4096, readonly: false },
				read: () => undefined,
				write: () => void log.push("write"),
				zero: () => void log.push("zero"),
				flush: () => {
					log.push("flush");
					return new Promise((resolve) => (finish = resolve));
				},
			};
			const driver = new Driver(new VirtioBlock({ backend })).start({ features });
			if (off) driver.write(driver.config + 32, 1, 0);
			const cached = features === -1 && !off;
			expect(driver.read(driver.config + 32, 1)).toBe(cached ? 1 : 0);
			const again = new Driver(new VirtioBlock({ backend })).start({ features });
			again.transport.restore(JSON.parse(JSON.stringify(driver.transport.save())));
			expect(again.read(again.config + 32, 1)).toBe(cached ? 1 : 0);
			const { rooms } = driver.add(0, [header(1, 0), { send: new Uint8Array(512) }, { room: 1 }]);
			rooms[0][0] = 9;
			driver.kick(0);
			expect(log).toEqual(cached ? ["write"] : ["write", "flush"]);
			expect(driver.used(0).length).toBe(cached ? 1 : 0);
			finish();
			await new Promise(setImmediate);
			expect(rooms[0][0]).toBe(0);
		}
	});

	test("a request that fails in one piece is over when the others are, and nobody misses a rejection", async () => {
		let finish = (): void => undefined;
		const backend: BlockBackend = {
			...{ bytes: 4096, readonly: false },
			read: (offset) => {
				if (offset === 1024) throw new Error("at once");
				if (offset === 512) return Promise.reject(new Error("later"));
				return new Promise((resolve) => (finish = resolve));
			},
			write: () => undefined,
			flush: () => undefined,
		};
		const driver = new Driver(new VirtioBlock({ backend })).start();
		const { rooms } = driver.add(0, [header(0, 0), { room: 512 }, { room: 512 }, { room: 512 }, { room: 1 }]);
		driver.kick(0);
		await new Promise(setImmediate);
		expect(driver.used(0)).toEqual([]);
		finish();
		await new Promise(setImmediate);
		expect(driver.used(0).length).toBe(1);
		expect(rooms[3][0]).toBe(1);
	});

	test("with event index the driver hears only of what it asked for", () => {
		const { driver } = makeDisk(8);
		driver.start();
		expect(driver.eventIndex).toBe(true);
		const request = () => driver.add(0, [header(0, 0), { room: 512 }, { room: 1 }]);
		request();
		driver.kick(0);
		expect(driver.messages.length).toBe(1);
		request();
		driver.kick(0);
		expect(driver.messages.length).toBe(1); // not looked at the first yet
		driver.used(0);
		request();
		request();
		driver.kick(0);
		expect(driver.messages.length).toBe(2);
	});

	test("a disk of half a sector is refused", () => {
		expect(() => new VirtioBlock({ backend: new MemoryBlockBackend(new Uint8Array(700)) })).toThrowError(
			expect.objectContaining({ code: "ERR_MACHINE_OPTION", value: 700 }),
		);
	});
});

describe("hostile rings", () => {
	const plant = (build: (driver: Driver) => void) => {
		const { driver, contents } = makeDisk(8);
		const before = contents.slice();
		driver.start();
		build(driver);
		driver.kick(0);
		expect(contents).toEqual(before);
		return driver;
	};
	const READ = header(0, 0).send;

	test.each<[string, (driver: Driver) => void]>([
		[
			"a chain that loops",
			(driver) => {
				const { at } = driver.ring(0);
				driver.descriptor(at, 0x5_0000, 16, 1, 1);
				driver.descriptor(at + 16, 0x5_0000, 16, 1, 0);
				driver.offer(0, 0);
			},
		],
		["a head outside the ring", (driver) => driver.offer(0, 256)],
		[
			"a next outside the ring",
			(driver) => {
				driver.descriptor(driver.ring(0).at, 0x5_0000, 16, 1, 999);
				driver.offer(0, 0);
			},
		],
		[
			"memory that is not there",
			(driver) => {
				driver.descriptor(driver.ring(0).at, 0xfff_f000, 16, 0, 0);
				driver.offer(0, 0);
			},
		],
		[
			"a length that wraps",
			(driver) => {
				driver.descriptor(driver.ring(0).at, 0x5_0000, 0xffff_ffff, 0, 0);
				driver.offer(0, 0);
			},
		],
		[
			"an address near 2^64",
			(driver) => {
				driver.descriptor(driver.ring(0).at, 2 ** 64 - 2 ** 12, 8192, 0, 0);
				driver.offer(0, 0);
			},
		],
		[
			"something readable after something writable",
			(driver) => {
				const { at } = driver.ring(0);
				driver.descriptor(at, 0x5_0000, 16, 3, 1);
				driver.descriptor(at + 16, 0x5_0000, 16, 0, 0);
				driver.offer(0, 0);
			},
		],
		[
			"an indirect table in an indirect table",
			(driver) => {
				driver.descriptor(driver.ring(0).at, 0x5_0000, 32, 4, 0);
				driver.descriptor(0x5_0000, 0x5_0000, 32, 4, 0);
				driver.offer(0, 0);
			},
		],
		[
			"an indirect table of no whole entries",
			(driver) => {
				driver.descriptor(driver.ring(0).at, 0x5_0000, 40, 4, 0);
				driver.offer(0, 0);
			},
		],
		[
			"an indirect table that loops",
			(driver) => {
				driver.descriptor(driver.ring(0).at, 0x5_0000, 16, 4, 0);
				driver.descriptor(0x5_0000, 0x6_0000, 16, 1, 0);
				driver.offer(0, 0);
			},
		],
		[
			"an available index far ahead",
			(driver) => {
				new DataView(driver.memory.bytes.buffer).setUint16(driver.ring(0).available + 2, 5000, true);
			},
		],
	])("%s: needs reset, and works after it", (_name, build) => {
		const driver = plant(build);
		expect(driver.status & NEEDS_RESET).toBe(NEEDS_RESET);
		expect(driver.messages.length).toBeLessThanOrEqual(1);
		driver.start();
		const { rooms } = driver.add(0, [{ send: READ }, { room: 512 }, { room: 1 }]);
		driver.kick(0);
		expect(rooms[1][0]).toBe(0);
	});

	test("random rings, tables and register writes: no exception, no endless loop, no write outside of writable pieces", () => {
		fc.assert(
			fc.property(
				fc.array(
					fc.record({
						address: fc.oneof(
							fc.integer({ min: 0x5_0000, max: 0x6_0000 }),
							fc.integer({ min: 0, max: 0xffff_ffff }),
							fc.constant(2 ** 63),
						),
						length: fc.oneof(fc.constantFrom(0, 1, 16, 32, 512, 4096), fc.integer({ min: 0, max: 0xffff_ffff })),
						flags: fc.integer({ min: 0, max: 7 }),
						next: fc.integer({ min: 0, max: 9 }),
					}),
					{ minLength: 8, maxLength: 8 },
				),
				fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 20 }),
				fc.array(
					fc.record({
						offset: fc.integer({ min: 0, max: 0x5100 }),
						value: fc.integer({ min: 0, max: 0xffff_ffff }),
					}),
					{ maxLength: 10 },
				),
				(descriptors, heads, writes) => {
					const { driver } = makeDisk(8);
					driver.start();
					const { at } = driver.ring(0);
					for (const table of [at, 0x5_0000]) {
						for (const [i, one] of descriptors.entries()) {
							driver.descriptor(table + 16 * i, one.address, one.length, one.flags, one.next);
						}
					}
					for (const head of heads) driver.offer(0, head);
					driver.kick(0);
					for (const { offset, value } of writes) {
						driver.write(driver.common + (offset & ~3), 4, value);
						driver.kick(0);
					}
				},
			),
			{ seed: 20, numRuns: 400 },
		);
	});
});

test("the entropy device fills what the driver gives it", () => {
	let calls = 0;
	const rng = new VirtioRng((bytes) => {
		calls++;
		bytes.fill(0xa5);
	});
	const driver = new Driver(rng).start();
	const { rooms } = driver.add(0, [{ room: 100 }, { room: 28 }]);
	driver.add(0, [{ send: new Uint8Array(8) }]);
	driver.kick(0);
	expect(rooms.map((room) => room.every((byte) => byte === 0xa5))).toEqual([true, true]);
	expect(driver.used(0).map(({ length }) => length)).toEqual([128, 0]);
	expect(calls).toBe(2);
});

describe("console", () => {
	function makeConsole() {
		const out: string[] = [];
		const log: string[] = [];
		const device = new VirtioConsole([
			{ console: true, output: (bytes) => out.push(`0 ${text(bytes)}`) },
			{
				name: "org.example.agent",
				output: (bytes) => out.push(`1 ${text(bytes)}`),
				onOpen: (open) => log.push(`open ${open}`),
				drained: () => log.push("drained"),
			},
		]);
		const driver = new Driver(device).start();
		const control = (port: number, event: number, value: number) => {
			const bytes = new Uint8Array(8);
			const view = new DataView(bytes.buffer);
			view.setUint32(0, port, true);
			view.setUint16(4, event, true);
			view.setUint16(6, value, true);
			driver.add(3, [{ send: bytes }]);
			driver.kick(3);
		};
		const rooms: Uint8Array[] = [];
		for (let i = 0; i < 20; i++) rooms.push(driver.add(2, [{ room: 64 }]).rooms[0]);
		driver.kick(2);
		let read = 0;
		const messages = () =>
			driver.used(2).map(({ length }) => {
				const room = rooms[read++];
				const view = new DataView(room.buffer, room.byteOffset, length);
				const extra = room.slice(8, length);
				return [view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true), ...extra];
			});
		return { device, driver, out, log, control, messages };
	}

	test("ports are announced, named, opened and sized", () => {
		const { driver, control, messages, device, log } = makeConsole();
		expect(driver.read(driver.config + 4, 4)).toBe(2);
		control(0, 0, 1);
		expect(messages()).toEqual([
			[0, 1, 1],
			[1, 1, 1],
		]);
		control(0, 3, 1);
		control(1, 3, 1);
		expect(messages()).toEqual([
			[0, 4, 1],
			[0, 5, 0, 80, 0, 24, 0],
			[0, 6, 1],
			[1, 7, 1, ...bytesOf("org.example.agent")],
			[1, 6, 1],
		]);
		device.resize(132, 50);
		expect(messages()).toEqual([[0, 5, 0, 132, 0, 50, 0]]);
		expect(driver.read(driver.config, 4)).toBe(132 | (50 << 16));
		control(1, 6, 1);
		control(1, 6, 0);
		expect(log).toEqual(["open true", "open false"]);
		device.setOpen(1, false);
		expect(messages()).toEqual([[1, 6, 0]]);
		control(77, 3, 1);
		control(1, 99, 1);
		expect(messages()).toEqual([]);
	});

	test("bytes go both ways, input waits for buffers, paused output waits for the host", () => {
		const { driver, control, device, out, log } = makeConsole();
		control(0, 0, 1);
		control(0, 3, 1);
		control(1, 3, 1);
		driver.add(1, [{ send: bytesOf("login") }, { send: bytesOf(": ") }]);
		driver.kick(1);
		expect(out).toEqual(["0 login: "]);
		expect(device.input(1, new Uint8Array(70_000).fill(0x61))).toBe(65_536);
		const { rooms } = driver.add(4, [{ room: 4096 }, { room: 40_000 }]);
		driver.kick(4);
		expect(driver.used(4)).toEqual([{ head: 0, length: 44_096 }]);
		expect(rooms.every((room) => room.every((byte) => byte === 0x61))).toBe(true);
		expect(log).toEqual(["drained"]);
		device.setPaused(1, true);
		driver.add(5, [{ send: bytesOf("wait") }]);
		driver.kick(5);
		expect(out.length).toBe(1);
		device.setPaused(1, false);
		expect(out.at(-1)).toBe("1 wait");
	});

	test("handing on one port's output may let another go on", () => {
		const out: string[] = [];
		const device: VirtioConsole = new VirtioConsole([
			{
				console: true,
				output: (bytes) => {
					out.push(`0 ${text(bytes)}`);
					device.setPaused(1, false);
				},
			},
			{ name: "other", output: (bytes) => out.push(`1 ${text(bytes)}`) },
		]);
		const driver = new Driver(device).start();
		device.setPaused(1, true);
		driver.add(5, [{ send: bytesOf("held") }]);
		driver.kick(5);
		driver.add(1, [{ send: bytesOf("first, ") }, { send: bytesOf("whole") }]);
		driver.kick(1);
		expect(out).toEqual(["0 first, whole", "1 held"]);
	});

	test("a driver without multiport has the first port", () => {
		const out: string[] = [];
		const device = new VirtioConsole([{ console: true, output: (bytes) => out.push(text(bytes)) }]);
		const driver = new Driver(device);
		device.input(0, bytesOf("early"));
		driver.start({ features: ~2 });
		const { rooms } = driver.add(0, [{ room: 16 }]);
		driver.kick(0);
		expect(text(rooms[0].subarray(0, 5))).toBe("early");
		driver.add(1, [{ send: bytesOf("hi") }]);
		driver.kick(1);
		expect(out).toEqual(["hi"]);
	});

	test("what the host does with output may be to send input", () => {
		const device: VirtioConsole = new VirtioConsole([
			{ console: true, output: (bytes) => void device.input(0, bytes.slice()) },
		]);
		const driver = new Driver(device).start({ features: ~2 });
		const { rooms } = driver.add(0, [{ room: 3 }, { room: 64 }]);
		driver.kick(0);
		driver.add(1, [{ send: bytesOf("ech") }, { send: bytesOf("o!") }]);
		driver.kick(1);
		expect(text(rooms[0]) + text(rooms[1].subarray(0, 2))).toBe("echo!");
	});
});

test("a device's state goes through JSON in the middle of its life", () => {
	const { driver, contents } = makeDisk(64);
	driver.start();
	driver.add(0, [header(0, 3), { room: 512 }, { room: 1 }]);
	driver.kick(0);
	const state = JSON.parse(JSON.stringify(driver.transport.save()));
	const twin = new Driver(new VirtioBlock({ backend: new MemoryBlockBackend(contents), id: "disk" }));
	twin.memory.bytes.set(driver.memory.bytes);
	twin.transport.restore(state);
	expect(twin.transport.save()).toEqual(state);
	// The twin's driver knows the rings only through memory: ask through the first one's view of them.
	const next = driver.add(0, [header(0, 5), { room: 512 }, { room: 1 }]);
	twin.memory.bytes.set(driver.memory.bytes);
	twin.write(driver.notifyBase, 2, 0);
	const view = new DataView(twin.memory.bytes.buffer);
	expect(view.getUint16(driver.ring(0).used + 2, true)).toBe(2);
	const at = next.rooms[0].byteOffset;
	expect(twin.memory.bytes.subarray(at, at + 512)).toEqual(contents.subarray(5 * 512, 6 * 512));
});
