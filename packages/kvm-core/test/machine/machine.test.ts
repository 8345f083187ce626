import { describe, expect, test } from "vitest";
import { createMachine, type MachineOptions } from "../../src/machine/machine.ts";
import { createEventLoopScheduler } from "../../src/machine/scheduler.ts";
import { MemoryBlockBackend, VirtioBlock } from "../../src/machine/virtio/block.ts";
import { FakeKvm, type Guest, type Script } from "./fake-kvm.ts";
import { VirtualTime, virtualScheduler } from "./virtual-time.ts";

const MIB = 2 ** 20;
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes.slice());

function setUp(scripts: Script | Script[], options: Partial<MachineOptions> = {}) {
	const time = new VirtualTime();
	const all = Array.isArray(scripts) ? scripts : [scripts];
	const fake = new FakeKvm(time, ...all);
	const serial: string[] = [];
	const machine = createMachine({
		kvm: fake.kvm,
		memoryBytes: 16 * MIB,
		cpus: all.length,
		now: () => time.now,
		epochSeconds: 1_795_000_000,
		scheduler: virtualScheduler(time),
		onSerial: (bytes) => serial.push(text(bytes)),
		debugExitPort: 0xf4,
		testDevice: true,
		...options,
	});
	return { machine, time, fake, serial };
}

function* print(guest: Guest, message: string) {
	for (const byte of new TextEncoder().encode(message)) yield* guest.out(0x3f8, byte);
}

describe("ends", () => {
	test.each<[string, Script, unknown]>([
		["power-off through ACPI", (g) => g.out(0x604, 0x2000 | (5 << 10), 2), { reason: "power-off" }],
		["the reset register", (g) => g.out(0xcf9, 6), { reason: "reset", by: "reset-register" }],
		["the keyboard controller", (g) => g.out(0x64, 0xfe), { reason: "reset", by: "keyboard-controller" }],
		["isa-debug-exit", (g) => g.out(0xf4, 0x11, 4), { reason: "debug-exit", status: 35 }],
		["a triple fault", (g) => g.exit({ reason: "shutdown" }), { reason: "shutdown" }],
		[
			"HLT with interrupts off",
			function* (g) {
				g.interruptsEnabled = false;
				yield* g.halt();
			},
			{ reason: "halted" },
		],
		[
			"an instruction the engine cannot do",
			(g) => g.exit({ reason: "internal-error", suberror: 1, data: Uint8Array.of(0x0f, 0x0b) }),
			{ reason: "internal-error", suberror: 1, data: Uint8Array.of(0x0f, 0x0b), vcpu: 0 },
		],
	])("%s", async (_name, script, expected) => {
		const { machine, fake } = setUp(script);
		expect(await machine.run()).toEqual(expected);
		machine.close();
		machine.close();
		expect(fake.closed).toEqual(["vm"]);
		expect(machine.ram.contains(0, 1)).toBe(false);
		await expect(machine.run()).rejects.toThrowError(expect.objectContaining({ code: "ERR_MACHINE_CLOSED" }));
	});

	test("stop from outside, also while halted, and run again", async () => {
		const { machine, time } = setUp(function* (guest) {
			yield* guest.spin(50);
			yield* guest.halt();
		});
		setImmediate(() => machine.stop());
		expect(await machine.run()).toEqual({ reason: "stopped" });
		const running = machine.run();
		await expect(machine.run()).rejects.toThrowError(expect.objectContaining({ code: "ERR_MACHINE_STATE" }));
		while (time.sleeps.length === 0) await new Promise(setImmediate);
		machine.close();
		expect(await running).toEqual({ reason: "stopped" });
	});

	test("a vCPU stopped on an exit is let finish it", async () => {
		const { machine, fake } = setUp((guest) => guest.out(0xf4, 0));
		await machine.run();
		expect(fake.immediateExits).toBe(1);
	});
});

describe("exits", () => {
	test("ports, memory and the serial port's bytes, in chunks", async () => {
		const { machine, serial } = setUp(function* (guest) {
			yield* print(guest, "hello, ");
			yield* print(guest, "world\n");
			yield* guest.out(0xe0, 0x1234_5678, 4);
			const back = yield* guest.in(0xe0, 4);
			yield* guest.store(0xff00_0004, back);
			const again = yield* guest.load(0xff00_0004);
			const nothing = yield* guest.in(0x1234, 2);
			yield* guest.out(0xf4, again === 0x1234_5678 && nothing === 0xffff ? 0 : 1);
		});
		expect(await machine.run()).toEqual({ reason: "debug-exit", status: 1 });
		expect(serial).toEqual(["hello, world\n"]);
	});

	test("memory slots leave the holes, ROMs are read-only, CPUID knows who and how many", async () => {
		const { machine, fake } = setUp([(guest) => guest.out(0xf4, 0), (guest) => guest.halt() as never], {
			roms: [{ physAddr: 0xffff_0000, bytes: new Uint8Array(65_536).fill(0x90) }],
		});
		expect(fake.regions.map(({ slot, guestPhysAddr, memorySize }) => [slot, guestPhysAddr, memorySize])).toEqual([
			[0, 0, 0xa_0000],
			[1, 0xc_0000, 16 * MIB - 0xc_0000],
			[2, 0xffff_0000, 65_536],
		]);
		expect(fake.regions[2].readonly).toBe(true);
		expect(fake.regions[2].memory.view(0, 1)[0]).toBe(0x90);
		expect(fake.cpuids.map(([one]) => one.ebx)).toEqual([0x0002_0800, 0x0102_0800]);
		expect(fake.cpuids.map(([, eleven]) => eleven.edx)).toEqual([0, 1]);
		machine.write(0x1000, Uint8Array.of(1, 2, 3));
		machine.zero(0x1001, 1);
		expect([...fake.regions[0].memory.view(0x1000, 3)]).toEqual([1, 0, 3]);
		expect(() => machine.write(0xa_0000, Uint8Array.of(1))).toThrowError(
			expect.objectContaining({ code: "ERR_MACHINE_OUT_OF_GUEST_MEMORY" }),
		);
	});
});

describe("time", () => {
	test("the event loop has its turn every few milliseconds of a busy guest", async () => {
		const { machine, time } = setUp(function* (guest) {
			yield* guest.spin(100);
			yield* guest.out(0xf4, 0);
		});
		await machine.run();
		expect(time.yields).toBeGreaterThanOrEqual(20);
		expect(time.yields).toBeLessThanOrEqual(30);
	});

	test("a halted guest sleeps until its timer, for as long as that takes", async () => {
		const { machine, time } = setUp(function* (guest) {
			const apic = guest.chip.apics[0];
			apic.write(0x3e0, 0b1011, 0);
			apic.write(0x320, 0x31, 0);
			const start = guest.now();
			apic.write(0x380, 250_000_000, start);
			const vector = yield* guest.halt();
			const late = guest.now() - start - 250e6;
			yield* guest.out(0xf4, vector === 0x31 && late >= 0 && late < 2e6 ? 0 : 1);
		});
		expect(await machine.run()).toEqual({ reason: "debug-exit", status: 1 });
		expect(time.sleeps).toEqual([250]);
	});

	test("the PIT's ticks arrive through the I/O APIC's pin 2", async () => {
		const { machine } = setUp(function* (guest) {
			guest.chip.ioapic.write(0, 0x14);
			guest.chip.ioapic.write(0x10, 0x44);
			guest.pit.write(0x43, 0x34, guest.now());
			guest.pit.write(0x40, 0x9c, guest.now());
			guest.pit.write(0x40, 0x2e, guest.now()); // 100 Hz
			let ticks = 0;
			const start = guest.now();
			while (guest.now() < start + 1e9) {
				if ((yield* guest.halt()) === 0x44) ticks++;
				guest.chip.apics[0].write(0xb0, 0, guest.now());
			}
			yield* guest.out(0xf4, ticks, 1);
		});
		const exit = await machine.run();
		expect(exit).toEqual({ reason: "debug-exit", status: expect.any(Number) });
		expect(Math.abs(((exit as { status: number }).status >> 1) - 100)).toBeLessThanOrEqual(1);
	});

	test("the real-time clock's periodic interrupt reaches a halted guest at its rate", async () => {
		const { machine } = setUp(function* (guest) {
			guest.chip.ioapic.write(0, 0x20);
			guest.chip.ioapic.write(0x10, 0x38);
			yield* guest.out(0x70, 10);
			yield* guest.out(0x71, 0x2a); // 64 Hz
			yield* guest.out(0x70, 11);
			yield* guest.out(0x71, 0x42);
			const start = guest.now();
			let ticks = 0;
			while (guest.now() < start + 1e9) {
				if ((yield* guest.halt()) === 0x38) ticks++;
				guest.chip.apics[0].write(0xb0, 0, guest.now());
				yield* guest.out(0x70, 12);
				yield* guest.in(0x71);
			}
			yield* guest.out(0xf4, ticks, 1);
		});
		const { status } = (await machine.run()) as { status: number };
		expect(Math.abs((status >> 1) - 64)).toBeLessThanOrEqual(1);
	});

	test("input wakes a guest that would sleep for ever", async () => {
		const { machine, time } = setUp(function* (guest) {
			guest.chip.ioapic.write(0, 0x18);
			guest.chip.ioapic.write(0x10, 0x34);
			yield* guest.out(0x3fc, 8);
			yield* guest.out(0x3f9, 1);
			const vector = yield* guest.halt();
			const byte = yield* guest.in(0x3f8);
			yield* guest.out(0xf4, vector === 0x34 ? byte : 0);
		});
		const running = machine.run();
		while (time.sleeps.length === 0) await new Promise(setImmediate);
		machine.board.serial.input(Uint8Array.of(0x21));
		expect(await running).toEqual({ reason: "debug-exit", status: 0x43 });
	});

	test("the power button reaches the guest as SCI", async () => {
		const { machine, time } = setUp(function* (guest) {
			guest.chip.ioapic.write(0, 0x22);
			guest.chip.ioapic.write(0x10, 0x8039);
			yield* guest.out(0x602, 0x100, 2);
			const vector = yield* guest.halt();
			const status = yield* guest.in(0x600, 2);
			yield* guest.out(0xf4, vector === 0x39 && status === 0x100 ? 0 : 1);
		});
		const running = machine.run();
		while (time.sleeps.length === 0) await new Promise(setImmediate);
		machine.board.power.pressPowerButton();
		expect(await running).toEqual({ reason: "debug-exit", status: 1 });
	});
});

describe("without firmware", () => {
	test("ACPI is where it is looked for and PCI devices have their windows", async () => {
		const disk = new VirtioBlock({ backend: new MemoryBlockBackend(new Uint8Array(4096)) });
		const { machine, fake } = setUp(
			function* (guest) {
				yield* guest.out(0xcf8, 0x8000_1010, 4);
				const bar = yield* guest.in(0xcfc, 4);
				const queues = yield* guest.load(bar + 0x12, 2);
				yield* guest.out(0xf4, queues, 1);
			},
			{ virtio: [disk] },
		);
		const rsdp = machine.prepareWithoutFirmware();
		expect(fake.msrs.get(0x2ff)).toBe(0x806n);
		expect(text(machine.ram.span(rsdp, 8) as Uint8Array)).toBe("RSD PTR ");
		expect(await machine.run()).toEqual({ reason: "debug-exit", status: 3 });
	});

	test("the whole board's state goes through JSON", async () => {
		const make = () =>
			setUp(
				function* (guest) {
					yield* guest.out(0x3ff, 0x77);
					yield* guest.out(0xe0, 0x99);
					yield* guest.out(0x70, 0x40);
					yield* guest.out(0x71, 0x55);
					yield* guest.out(0xf4, 0);
				},
				{ virtio: [new VirtioBlock({ backend: new MemoryBlockBackend(new Uint8Array(4096)) })] },
			);
		const { machine } = make();
		machine.prepareWithoutFirmware();
		await machine.run();
		const state = machine.board.save();
		const twin = make().machine;
		twin.board.restore(JSON.parse(JSON.stringify(state)));
		expect(twin.board.save()).toEqual(state);
		twin.board.reset();
		expect(twin.board.save()).not.toEqual(state);
	});
});

test("options that make no machine", () => {
	expect(() => setUp(function* () {}, { memoryBytes: 99_999_999 * MIB })).toThrowError(
		expect.objectContaining({ code: "ERR_MACHINE_MEMORY_SIZE" }),
	);
	expect(() => setUp(function* () {}, { cpus: 5 })).toThrowError(
		expect.objectContaining({ code: "ERR_MACHINE_OPTION", value: 5 }),
	);
	const many = Array.from(
		{ length: 31 },
		() => new VirtioBlock({ backend: new MemoryBlockBackend(new Uint8Array(512)) }),
	);
	expect(() => setUp(function* () {}, { virtio: many })).toThrowError(
		expect.objectContaining({ code: "ERR_MACHINE_TOO_MANY_DEVICES" }),
	);
});

test("the event loop's own scheduler yields, sleeps and is woken early", async () => {
	const real = createEventLoopScheduler();
	await real.yield();
	await real.sleep(1).done;
	const { done, cancel } = real.sleep(60_000);
	cancel();
	await done;
});
