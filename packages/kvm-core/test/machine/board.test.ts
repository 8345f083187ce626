import fc from "fast-check";
import { expect, test } from "vitest";
import { Board, boardRoutes } from "../../src/machine/board.ts";
import { MemoryBlockBackend, VirtioBlock } from "../../src/machine/virtio/block.ts";
import { VirtioConsole } from "../../src/machine/virtio/console.ts";
import { VirtioRng } from "../../src/machine/virtio/rng.ts";
import { makeRam } from "./memory.ts";

function makeBoard(clock: { now: number }): Board {
	const { ram } = makeRam(2 ** 21);
	const board: Board = new Board({
		memoryBytes: 2 ** 21,
		cpus: 2,
		ram,
		now: () => clock.now,
		epochSeconds: 1_795_000_000.25,
		setIrqLine: (gsi, level) => {
			expect(gsi >= 0 && gsi < 24 && typeof level === "boolean").toBe(true);
		},
		signalMsi: () => undefined,
		onEvent: () => undefined,
		onSerial: () => undefined,
		onDebug: () => undefined,
		virtio: [
			new VirtioBlock({ backend: new MemoryBlockBackend(new Uint8Array(8192)) }),
			new VirtioRng((bytes) => bytes.fill(4)),
			new VirtioConsole([{ console: true, output: () => undefined }]),
		],
		debugExitPort: 0xf4,
		testDevice: true,
	});
	board.prepareWithoutFirmware(ram);
	return board;
}

/** Ports something listens on, and others. */
const port = fc.oneof(
	fc.constantFrom(
		...[0x60, 0x64, 0x70, 0x71, 0x92, 0xe0, 0x402, 0x510, 0x511, 0x514, 0x518, 0x600, 0x602, 0x604, 0x608],
		...[0xcf8, 0xcf9, 0xcfc, 0xcfe, 0x200e],
	),
	fc.integer({ min: 0x3f8, max: 0x3ff }),
	fc.integer({ min: 0, max: 0xffff }),
);

const access = fc.record({
	kind: fc.constantFrom("in" as const, "out" as const, "read" as const, "write" as const),
	port,
	address: fc.oneof(
		fc.integer({ min: 0xe000_0000, max: 0xe001_8000 }),
		fc.integer({ min: 0xff00_0000, max: 0xff00_ffff }),
	),
	size: fc.constantFrom(1 as const, 2 as const, 4 as const),
	count: fc.integer({ min: 1, max: 4 }),
	value: fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 16 })),
	wait: fc.integer({ min: 0, max: 3_000_000_000 }),
});

test("no sequence of accesses throws; state saved anywhere in it goes through JSON and continues the same", () => {
	fc.assert(
		fc.property(fc.array(access, { maxLength: 60 }), fc.array(access, { maxLength: 20 }), (before, after) => {
			const clock = { now: 1_000 };
			const play = (board: Board, steps: typeof before) =>
				steps.map(({ kind, port, address, size, count, value, wait }) => {
					clock.now += wait;
					board.advance();
					const data = new Uint8Array(size * count);
					new DataView(data.buffer).setUint8(0, value & 0xff);
					for (let i = 0; i < data.length; i++) data[i] = value >>> (8 * (i & 3));
					if (kind === "in" || kind === "out") {
						board.bus.handleIo({ reason: "io", direction: kind, port, size, count, data });
					} else {
						const part = data.subarray(0, 8);
						board.bus.handleMmio({ reason: "mmio", physAddr: address, isWrite: kind === "write", data: part });
					}
					board.flush();
					expect(board.nextDeadline()).toBeGreaterThan(clock.now - 1);
					return [...data];
				});
			const board = makeBoard(clock);
			play(board, before);
			const twin = makeBoard(clock);
			twin.restore(JSON.parse(JSON.stringify(board.save())));
			expect(twin.save()).toEqual(board.save());
			const { now } = clock;
			const first = play(board, after);
			clock.now = now;
			expect(play(twin, after)).toEqual(first);
		}),
		{ seed: 9, numRuns: 60 },
	);
});

test("routes: every line but the cascade's has its pin, the PIT's comes in at pin 2", () => {
	const routes = boardRoutes();
	const pins = routes.filter((route) => route.type === "irqchip" && route.chip === "ioapic");
	expect(pins.map((route) => [route.gsi, "pin" in route ? route.pin : -1])).toEqual([
		[0, 2],
		...Array.from({ length: 24 }, (_, gsi) => [gsi, gsi]).filter(([gsi]) => gsi !== 0 && gsi !== 2),
	]);
	expect(routes.length - pins.length).toBe(16);
});
