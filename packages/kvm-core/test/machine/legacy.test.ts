import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Bus } from "../../src/machine/bus.ts";
import { DebugConsole, DebugExit, TestDevice } from "../../src/machine/legacy/debug-ports.ts";
import { FW_CFG, FwCfg } from "../../src/machine/legacy/fw-cfg.ts";
import { I8042 } from "../../src/machine/legacy/i8042.ts";
import { PM, PM_TIMER_HZ, PowerManagement } from "../../src/machine/legacy/power.ts";
import { Rtc } from "../../src/machine/legacy/rtc.ts";
import { Uart } from "../../src/machine/legacy/uart.ts";
import { makeRam } from "./memory.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes.slice());
const bytesOf = (value: string) => new TextEncoder().encode(value);

describe("UART", () => {
	function makeUart() {
		const out: string[] = [];
		const levels: boolean[] = [];
		let drained = 0;
		const uart = new Uart({
			irq: (level) => levels.push(level),
			output: (bytes) => out.push(text(bytes)),
			drained: () => drained++,
		});
		return { uart, out, levels, drained: () => drained };
	}
	const THR = 0x3f8;
	const IER = 0x3f9;
	const FCR = 0x3fa;
	const LCR = 0x3fb;
	const MCR = 0x3fc;
	const LSR = 0x3fd;
	const MSR = 0x3fe;

	test("is taken for a 16550A by the probe every driver does", () => {
		const { uart } = makeUart();
		uart.writePort(IER, 1, 0);
		expect(uart.readPort(IER, 1)).toBe(0);
		uart.writePort(IER, 1, 0x0f);
		expect(uart.readPort(IER, 1)).toBe(0x0f);
		uart.writePort(IER, 1, 0);
		uart.writePort(MCR, 1, 0x1a);
		expect(uart.readPort(MSR, 1) & 0xf0).toBe(0x90);
		uart.writePort(MCR, 1, 0);
		uart.writePort(FCR, 1, 1);
		expect(uart.readPort(FCR, 1) >> 6).toBe(3);
		uart.writePort(LCR, 1, 0x83);
		uart.writePort(THR, 1, 0x34);
		uart.writePort(IER, 1, 0x12);
		expect([uart.readPort(THR, 1), uart.readPort(IER, 1)]).toEqual([0x34, 0x12]);
		uart.writePort(LCR, 1, 3);
		expect(uart.readPort(IER, 1)).toBe(0);
	});

	test("output is collected until it is flushed or the buffer is full", () => {
		const { uart, out } = makeUart();
		for (const byte of bytesOf("hello")) uart.writePort(THR, 1, byte);
		expect(out).toEqual([]);
		uart.flush();
		expect(out).toEqual(["hello"]);
		for (let i = 0; i < 5000; i++) uart.writePort(THR, 1, 0x61);
		uart.flush();
		expect(out.join("").length).toBe(5005);
	});

	test("interrupts: transmitter empty until its cause is read, data until it is taken, gated by OUT2", () => {
		const { uart, levels } = makeUart();
		uart.writePort(MCR, 1, 0x08);
		uart.writePort(IER, 1, 0x02);
		expect(levels).toEqual([true]);
		expect(uart.readPort(FCR, 1)).toBe(0x02);
		expect(uart.readPort(FCR, 1)).toBe(0x01);
		expect(levels).toEqual([true, false]);
		uart.writePort(THR, 1, 0x41);
		expect(levels.at(-1)).toBe(true);
		expect(uart.receiving).toBe(false);
		uart.writePort(IER, 1, 0x01);
		expect(uart.receiving).toBe(true);
		expect(levels.at(-1)).toBe(false);
		uart.input(bytesOf("xy"));
		expect(levels.at(-1)).toBe(true);
		expect(uart.readPort(FCR, 1)).toBe(0x04);
		expect(uart.readPort(LSR, 1)).toBe(0x61);
		expect(uart.readPort(THR, 1)).toBe(0x78);
		expect(levels.at(-1)).toBe(true);
		expect(uart.readPort(THR, 1)).toBe(0x79);
		expect(levels.at(-1)).toBe(false);
		uart.input(bytesOf("z"));
		uart.writePort(MCR, 1, 0);
		expect(levels.at(-1)).toBe(false);
	});

	test("below the FIFO's trigger level the time-out interrupt tells of data", () => {
		const { uart } = makeUart();
		uart.writePort(FCR, 1, 0x81);
		uart.writePort(IER, 1, 0x01);
		uart.input(bytesOf("abc"));
		expect(uart.readPort(FCR, 1) & 0x0f).toBe(0x0c);
		uart.input(new Uint8Array(5));
		expect(uart.readPort(FCR, 1) & 0x0f).toBe(0x04);
	});

	test("input beyond the queue is left with the host, which is told when there is room", () => {
		const { uart, drained } = makeUart();
		expect(uart.input(new Uint8Array(70_000).fill(1))).toBe(65_536);
		expect(uart.input(bytesOf("x"))).toBe(0);
		for (let i = 0; i < 32_768; i++) uart.readPort(THR, 1);
		expect(drained()).toBe(0);
		uart.readPort(THR, 1);
		expect(drained()).toBe(1);
		expect(uart.input(bytesOf("x"))).toBe(1);
	});

	test("loop-back sends to itself, in a FIFO of sixteen", () => {
		const { uart, out } = makeUart();
		uart.writePort(FCR, 1, 1);
		uart.writePort(MCR, 1, 0x10);
		for (let i = 0; i < 17; i++) uart.writePort(THR, 1, i);
		expect(uart.readPort(LSR, 1)).toBe(0x63);
		expect(Array.from({ length: 17 }, () => uart.readPort(THR, 1))).toEqual([...Array(16).keys(), 0]);
		uart.flush();
		expect(out).toEqual([]);
	});

	test("save and restore change nothing that follows", () => {
		const step = fc.record({
			port: fc.integer({ min: 0x3f8, max: 0x3ff }),
			write: fc.boolean(),
			value: fc.integer({ min: 0, max: 255 }),
		});
		fc.assert(
			fc.property(fc.array(step, { maxLength: 30 }), fc.array(step, { maxLength: 30 }), (before, after) => {
				const play = (uart: Uart, steps: typeof before) =>
					steps.map(({ port, write, value }) => (write ? uart.writePort(port, 1, value) : uart.readPort(port, 1)));
				const { uart } = makeUart();
				uart.input(bytesOf("some input"));
				play(uart, before);
				const twin = makeUart().uart;
				twin.restore(JSON.parse(JSON.stringify(uart.save())));
				expect(play(twin, after)).toEqual(play(uart, after));
			}),
			{ seed: 1, numRuns: 200 },
		);
	});
});

describe("keyboard controller", () => {
	function makeI8042() {
		const levels: boolean[] = [];
		let resets = 0;
		const chip = new I8042(
			(level) => levels.push(level),
			() => resets++,
		);
		const command = (value: number, ...data: number[]) => {
			chip.writePort(0x64, 1, value);
			for (const byte of data) chip.writePort(0x60, 1, byte);
		};
		const answer = () => {
			const bytes: number[] = [];
			while ((chip.readPort(0x64, 1) & 1) !== 0) bytes.push(chip.readPort(0x60, 1));
			return bytes;
		};
		return { chip, levels, command, answer, resets: () => resets };
	}

	test("self tests pass, the command byte is kept, the second port is not there", () => {
		const { command, answer } = makeI8042();
		command(0xaa);
		command(0xab);
		expect(answer()).toEqual([0x55, 0x00]);
		command(0x60, 0x65);
		command(0x20);
		expect(answer()).toEqual([0x65]);
		command(0xd3, 0x5a);
		expect(answer()).not.toEqual([0x5a]);
		command(0xa9);
		expect(answer()).not.toEqual([0]);
	});

	test("the keyboard answers reset, identify and LEDs, and its keys interrupt one by one", () => {
		const { chip, levels, command, answer } = makeI8042();
		command(0x60, 0x00); // translation off, interrupts off
		for (const byte of [0xff, 0xf2, 0xed, 0x02, 0xf4, 0x99]) chip.writePort(0x60, 1, byte);
		expect(answer()).toEqual([0xfa, 0xaa, 0xfa, 0xab, 0x83, 0xfa, 0xfa, 0xfa, 0xfe]);
		command(0x60, 0x01);
		chip.key(Uint8Array.of(0x1e, 0x9e));
		expect(levels).toEqual([true]);
		expect(chip.readPort(0x60, 1)).toBe(0x1e);
		expect(levels).toEqual([true, false, true]);
		expect(chip.readPort(0x60, 1)).toBe(0x9e);
		expect(levels).toEqual([true, false, true, false]);
	});

	test("three ways to reset", () => {
		const { chip, command, resets } = makeI8042();
		command(0xfe);
		command(0xd1, 0x02);
		chip.writePort(0x92, 1, 1);
		expect(resets()).toBe(3);
		command(0xd1, 0x03);
		command(0xff);
		expect(resets()).toBe(3);
	});

	test("a guest cannot fill it without bound", () => {
		const { chip, command } = makeI8042();
		for (let i = 0; i < 5000; i++) command(0xd2, i & 255);
		expect(chip.save().queue.length).toBeLessThanOrEqual(256);
	});
});

describe("real-time clock", () => {
	// 2026-11-23 17:30:15.5 UTC, a Monday.
	const EPOCH = Date.UTC(2026, 10, 23, 17, 30, 15) / 1000 + 0.5;
	function makeRtc(memoryBytes = 2 ** 28) {
		let now = 0;
		const levels: boolean[] = [];
		const rtc = new Rtc({ irq: (level) => levels.push(level), now: () => now, epochSeconds: EPOCH, memoryBytes });
		const read = (index: number) => {
			rtc.writePort(0x70, 1, index);
			return rtc.readPort(0x71, 1);
		};
		const write = (index: number, value: number) => {
			rtc.writePort(0x70, 1, index);
			rtc.writePort(0x71, 1, value);
		};
		return { rtc, levels, read, write, go: (ns: number) => (now += ns), at: (ns: number) => (now = ns) };
	}

	test("shows the time in BCD and binary, 24 and 12 hours", () => {
		const { read, write, go } = makeRtc();
		expect([0, 2, 4, 6, 7, 8, 9, 0x32].map(read)).toEqual([0x15, 0x30, 0x17, 2, 0x23, 0x11, 0x26, 0x20]);
		go(499e6);
		expect(read(0)).toBe(0x15);
		expect(read(10) & 0x80).toBe(0);
		go(0.9e6);
		expect(read(10) & 0x80).toBe(0x80);
		go(0.2e6);
		expect(read(0)).toBe(0x16);
		write(11, 0x06);
		expect([read(0), read(4)]).toEqual([16, 17]);
		write(11, 0x04);
		expect(read(4)).toBe(0x85);
	});

	test("can be set, while stopped and while running", () => {
		const { read, write, go } = makeRtc();
		write(11, 0x82);
		write(0, 0x58);
		write(2, 0x59);
		write(4, 0x23);
		write(7, 0x31);
		write(8, 0x12);
		go(5e9);
		expect(read(0)).toBe(0x58);
		write(11, 0x02);
		go(2.5e9);
		expect([0, 2, 4, 7, 8, 9].map(read)).toEqual([0x00, 0x00, 0x00, 0x01, 0x01, 0x27]);
		write(2, 0x45);
		expect([0, 2, 4].map(read)).toEqual([0x00, 0x45, 0x00]);
	});

	test("update, alarm and periodic interrupts come at their deadlines and stop when read", () => {
		const { rtc, levels, read, write, at } = makeRtc();
		write(11, 0x12);
		expect(rtc.nextDeadline()).toBe(0.5e9);
		at(0.5e9);
		rtc.advance();
		expect(levels).toEqual([true]);
		expect(rtc.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
		// The periodic flag is set along the way whether it interrupts or not.
		expect(read(12)).toBe(0xd0);
		expect(levels).toEqual([true, false]);
		write(11, 0x22);
		write(1, 0x18);
		write(3, 0xff);
		write(5, 0xff);
		at(1.6e9);
		rtc.advance();
		expect(levels).toEqual([true, false]);
		at(2.5e9);
		rtc.advance();
		expect(read(12) & 0xa0).toBe(0xa0);
		write(11, 0x42);
		write(10, 0x26); // 1024 Hz
		const deadline = rtc.nextDeadline();
		expect(deadline - 2.5e9).toBeGreaterThan(0);
		expect(deadline - 2.5e9).toBeLessThanOrEqual(1e9 / 1024);
		at(deadline);
		rtc.advance();
		expect(read(12)).toBe(0xc0);
		expect(rtc.nextDeadline() - deadline).toBeCloseTo(1e9 / 1024, 0);
	});

	test("holds the memory size where firmware looks", () => {
		const { read } = makeRtc(2 ** 28);
		expect(read(0x34) | (read(0x35) << 8)).toBe((2 ** 28 - 2 ** 24) / 65_536);
		expect(read(0x30) | (read(0x31) << 8)).toBe(65_535);
		expect(read(0x15) | (read(0x16) << 8)).toBe(640);
		const small = makeRtc(2 ** 23);
		expect(small.read(0x30) | (small.read(0x31) << 8)).toBe(7 * 1024);
		expect(small.read(0x34)).toBe(0);
	});

	test("whatever is written, fields stay bytes and deadlines lie ahead", () => {
		fc.assert(
			fc.property(
				fc.array(
					fc.record({
						index: fc.integer({ min: 0, max: 127 }),
						value: fc.integer({ min: 0, max: 255 }),
						wait: fc.integer({ min: 0, max: 2_000_000_000 }),
					}),
					{ maxLength: 40 },
				),
				(steps) => {
					const { rtc, read, write, go } = makeRtc();
					let now = 0;
					for (const { index, value, wait } of steps) {
						write(index, value);
						const got = read(index);
						expect(Number.isInteger(got) && got >= 0 && got <= 0xff).toBe(true);
						now = go(wait);
						rtc.advance();
						expect(rtc.nextDeadline()).toBeGreaterThan(now - 1);
					}
				},
			),
			{ seed: 2, numRuns: 200 },
		);
	});
});

describe("power management", () => {
	function makePower() {
		let now = 0;
		const events: string[] = [];
		const power = new PowerManagement({
			irq: (level) => events.push(level ? "irq" : "quiet"),
			now: () => now,
			onPowerOff: () => events.push("off"),
			onReset: () => events.push("reset"),
		});
		return { power, events, at: (ns: number) => (now = ns) };
	}

	test("the timer counts 3.579545 MHz in 32 bits", () => {
		const { power, at } = makePower();
		at(1e9);
		expect(power.readPort(PM.timer, 4)).toBe(PM_TIMER_HZ);
		at(((2 ** 32 + 5.5) / PM_TIMER_HZ) * 1e9);
		expect(power.readPort(PM.timer, 4)).toBe(5);
	});

	test("only S5 powers off; sleep enable reads as zero", () => {
		const { power, events } = makePower();
		power.writePort(PM.control, 2, 0x2000 | (1 << 10));
		power.writePort(PM.control, 2, PM.s5 << 10);
		expect(events).toEqual([]);
		power.writePort(PM.control, 2, 0x2000 | (PM.s5 << 10));
		expect(events).toEqual(["off"]);
		expect(power.readPort(PM.control, 2)).toBe((PM.s5 << 10) | 1);
	});

	test("the power button interrupts when enabled, until its status is cleared", () => {
		const { power, events } = makePower();
		power.pressPowerButton();
		expect(events).toEqual([]);
		power.writePort(PM.event + 2, 2, 0x0100);
		expect(events).toEqual(["irq"]);
		expect(power.readPort(PM.event, 2)).toBe(0x0100);
		expect(power.readPort(PM.event, 4)).toBe(0x0100_0100);
		power.writePort(PM.event, 2, 0x0100);
		expect(events).toEqual(["irq", "quiet"]);
	});

	test("the timer's carry sets its status at the deadline", () => {
		const { power, events, at } = makePower();
		expect(power.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
		power.writePort(PM.event + 2, 2, 1);
		const deadline = power.nextDeadline();
		expect(deadline / 1e9).toBeCloseTo(2 ** 31 / PM_TIMER_HZ, 6);
		at(deadline - 10);
		power.advance();
		expect(events).toEqual([]);
		at(deadline);
		power.advance();
		expect(events).toEqual(["irq"]);
		power.writePort(PM.event, 2, 1);
		expect(events).toEqual(["irq", "quiet"]);
		expect(power.nextDeadline()).toBeGreaterThan(deadline);
	});

	test("the reset register", () => {
		const { power, events } = makePower();
		power.writePort(PM.resetPort, 1, 0x02);
		power.writePort(PM.resetPort, 1, PM.resetValue);
		expect(events).toEqual(["reset"]);
	});
});

describe("fw_cfg", () => {
	const SELECT = 0x510;
	const DATA = 0x511;
	const DMA = 0x514;
	const swap = (value: number) => new DataView(Uint32Array.of(value).buffer).getUint32(0);

	test("signature, numbers and files byte by byte, zeros beyond their ends", () => {
		const { ram } = makeRam(4096);
		const fw = new FwCfg(ram);
		fw.setNumber(FW_CFG.ramSize, 3 * 2 ** 30, 8);
		fw.setFile("etc/b", bytesOf("bee"));
		fw.setFile("etc/a", bytesOf("ay"));
		fw.setFile("etc/b", bytesOf("beehive"));
		const read = (key: number, count: number) => {
			fw.writePort(SELECT, 2, key);
			return Uint8Array.from({ length: count }, () => fw.readPort(DATA, 1));
		};
		expect(text(read(FW_CFG.signature, 4))).toBe("QEMU");
		expect([...read(FW_CFG.ramSize, 9)]).toEqual([0, 0, 0, 0xc0, 0, 0, 0, 0, 0]);
		const directory = new DataView(read(FW_CFG.directory, 4 + 128).buffer);
		expect(directory.getUint32(0)).toBe(2);
		const entries = [0, 1].map((i) => {
			const at = 4 + 64 * i;
			const name = text(new Uint8Array(directory.buffer, at + 8, 56)).replace(/\0.*$/, "");
			return [name, text(read(directory.getUint16(at + 4), directory.getUint32(at)))];
		});
		expect(entries).toEqual([
			["etc/a", "ay"],
			["etc/b", "beehive"],
		]);
		expect([...read(0x7777, 2)]).toEqual([0, 0]);
		expect(() => fw.setFile("x".repeat(56), new Uint8Array(0))).toThrowError(
			expect.objectContaining({ code: "ERR_MACHINE_OPTION" }),
		);
	});

	test("DMA selects, skips and reads; what does not lie in RAM or writes fails", () => {
		const { ram, memory } = makeRam(8192);
		const fw = new FwCfg(ram);
		fw.setFile("etc/x", bytesOf("0123456789"));
		const dma = (control: number, length: number, target: number, at = 0x100) => {
			ram.writeU32(at, swap(control));
			ram.writeU32(at + 4, swap(length));
			ram.writeU32(at + 8, 0);
			ram.writeU32(at + 12, swap(target));
			fw.writePort(DMA, 4, 0);
			fw.writePort(DMA + 4, 4, swap(at));
			return swap(ram.readU32(at));
		};
		expect(fw.readPort(DMA, 4)).toBe(swap(0x5145_4d55));
		memory.bytes.fill(0xee, 0x200, 0x210);
		expect(dma(0x8 | (FW_CFG.files << 16), 0, 0)).toBe(0);
		expect(dma(0x4, 3, 0)).toBe(0);
		expect(dma(0x2, 9, 0x200)).toBe(0);
		expect(text(memory.bytes.subarray(0x200, 0x20a))).toBe("3456789\0\0\ufffd");
		expect(dma(0x2, 9, 0x1fff)).toBe(1);
		expect(dma(0x10, 1, 0x200)).toBe(1);
		expect(() => dma(0x2, 0xffff_ffff, 0, 0x1ffc)).not.toThrow();
	});
});

describe("test devices", () => {
	test("debug-exit gives the status QEMU ends with", () => {
		const statuses: number[] = [];
		const exit = new DebugExit((status) => statuses.push(status));
		exit.writePort(0xf4, 4, 0);
		exit.writePort(0xf4, 1, 0x10);
		expect(statuses).toEqual([1, 33]);
	});

	test("the debug console gives lines", () => {
		const out: string[] = [];
		const debug = new DebugConsole((bytes) => out.push(text(bytes)));
		expect(debug.readPort()).toBe(0xe9);
		for (const byte of bytesOf("one\ntw")) debug.writePort(0x402, 1, byte);
		expect(out).toEqual(["one\n"]);
		debug.flush();
		expect(out).toEqual(["one\n", "tw"]);
	});

	test("pc-testdev keeps scratch and memory, and drives lines", () => {
		const bus = new Bus();
		const lines: string[] = [];
		const device = new TestDevice({ setIrqLine: (irq, level) => lines.push(`${irq} ${level}`) });
		device.attach(bus);
		bus.writePort(0xe0, 4, 0x1234_5678);
		bus.writePort(0xe1, 1, 0xab);
		expect(bus.readPort(0xe0, 4)).toBe(0x1234_ab78);
		expect(bus.readPort(0xe2, 2)).toBe(0x1234);
		bus.writePort(0x200e, 1, 1);
		bus.writePort(0x200e, 1, 0);
		expect(lines).toEqual(["14 true", "14 false"]);
		const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
		bus.handleMmio({ reason: "mmio", physAddr: 0xff00_0010, isWrite: true, data });
		const back = new Uint8Array(8);
		bus.handleMmio({ reason: "mmio", physAddr: 0xff00_0010, isWrite: false, data: back });
		expect(back).toEqual(data);
		const twin = new TestDevice({ setIrqLine: () => undefined });
		twin.restore(JSON.parse(JSON.stringify(device.save())));
		expect(twin.save()).toEqual(device.save());
	});
});
