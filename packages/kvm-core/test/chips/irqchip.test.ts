import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { IRQ_SOURCE, type IrqChip } from "../../src/chips/irqchip.ts";
import { makeBoard } from "./board.ts";

const EOI = 0xb0;

function route(chip: IrqChip, pin: number, low: number, destination = 0): void {
	chip.ioapic.write(0, 0x11 + pin * 2);
	chip.ioapic.write(0x10, destination << 24);
	chip.ioapic.write(0, 0x10 + pin * 2);
	chip.ioapic.write(0x10, low);
}

function entry(chip: IrqChip, pin: number): number {
	chip.ioapic.write(0, 0x10 + pin * 2);
	return chip.ioapic.read(0x10);
}

describe("I/O APIC", () => {
	test("edges: one interrupt per rise, lost while masked", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		route(chip, 14, 0x78);
		chip.setIrqLine(14, true);
		chip.setIrqLine(14, true);
		expect(apic.acknowledge()).toBe(0x78);
		apic.write(EOI, 0, 0);
		expect(apic.pendingVector()).toBe(-1);
		chip.setIrqLine(14, false);
		route(chip, 14, 0x1_0078);
		chip.setIrqLine(14, true);
		route(chip, 14, 0x78);
		expect(apic.pendingVector()).toBe(-1);
	});

	test("levels: remote IRR until EOI, again while the line is high, kept through a mask", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		route(chip, 14, 0x8078);
		chip.setIrqLine(14, true);
		expect(apic.acknowledge()).toBe(0x78);
		expect(entry(chip, 14)).toBe(0xc078);
		expect(apic.pendingVector()).toBe(-1);
		apic.write(EOI, 0, 0);
		expect(apic.acknowledge()).toBe(0x78);
		chip.setIrqLine(14, false);
		apic.write(EOI, 0, 0);
		expect(apic.pendingVector()).toBe(-1);
		expect(entry(chip, 14)).toBe(0x8078);
		route(chip, 14, 0x1_8078);
		chip.setIrqLine(14, true);
		expect(apic.pendingVector()).toBe(-1);
		route(chip, 14, 0x8078);
		expect(apic.acknowledge()).toBe(0x78);
	});

	test("a level that fell before its unmasking is forgotten", () => {
		const { chip } = makeBoard();
		route(chip, 14, 0x1_8078);
		chip.setIrqLine(14, true);
		chip.setIrqLine(14, false);
		route(chip, 14, 0x8078);
		expect(chip.apics[0].pendingVector()).toBe(-1);
	});

	test("a stuck remote IRR clears by going through edge mode", () => {
		const { chip } = makeBoard();
		route(chip, 9, 0x8061);
		chip.setIrqLine(9, true);
		expect(entry(chip, 9) & 0x4000).toBe(0x4000);
		route(chip, 9, 0x1_0061);
		route(chip, 9, 0x1_8061);
		expect(entry(chip, 9) & 0x4000).toBe(0);
	});

	test("registers: version, id, arbitration, read-only bits, and nothing beyond pin 23", () => {
		const { chip } = makeBoard();
		const read = (index: number) => {
			chip.ioapic.write(0, index);
			return chip.ioapic.read(0x10);
		};
		expect(read(1)).toBe(0x17_0011);
		chip.ioapic.write(0, 0);
		chip.ioapic.write(0x10, 0xffff_ffff);
		expect(read(0)).toBe(0x0f00_0000);
		expect(read(2)).toBe(0x0f00_0000);
		expect(read(0x10)).toBe(0x1_0000);
		route(chip, 3, 0xffff_ffff, 0xff);
		expect(entry(chip, 3)).toBe(0x1_afff);
		expect(read(0x40)).toBe(0);
	});

	test("physical and logical destinations pick the vCPU", () => {
		const { chip } = makeBoard(4);
		for (const [i, apic] of chip.apics.entries()) apic.write(0xd0, 1 << (24 + i), 0);
		route(chip, 5, 0x71, 2);
		chip.setIrqLine(5, true);
		expect(chip.apics.map((apic) => apic.pendingVector())).toEqual([-1, -1, 0x71, -1]);
		route(chip, 6, 0x872, 0b1010);
		chip.setIrqLine(6, true);
		expect(chip.apics.map((apic) => apic.pendingVector())).toEqual([-1, 0x72, 0x71, 0x72]);
	});
});

describe("routing", () => {
	test("sources of one line are joined; messages go on the rise", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		route(chip, 0, 0x8050);
		chip.setIrqLine(0, true, IRQ_SOURCE.pit);
		chip.setIrqLine(0, true, IRQ_SOURCE.user);
		chip.setIrqLine(0, false, IRQ_SOURCE.pit);
		expect(apic.acknowledge()).toBe(0x50);
		apic.write(EOI, 0, 0);
		expect(apic.acknowledge()).toBe(0x50);
		chip.setIrqLine(0, false, IRQ_SOURCE.user);
		apic.write(EOI, 0, 0);
		expect(apic.pendingVector()).toBe(-1);
		chip.routing.set([{ gsi: 200, type: "msi", msi: { address: 0xfee0_0000n, data: 0x66 } }]);
		chip.setIrqLine(200, true);
		chip.setIrqLine(0, true);
		expect(apic.acknowledge()).toBe(0x66);
		expect(apic.pendingVector()).toBe(-1);
	});

	test("the PIC reaches the boot CPU through LINT0 in ExtINT mode, ahead of the APIC's own", () => {
		const { chip } = makeBoard(2);
		const [apic, second] = chip.apics;
		for (const [port, value] of [
			[0x20, 0x11],
			[0x21, 0x20],
			[0x21, 4],
			[0x21, 1],
			[0x21, 0],
		]) {
			chip.pic.write(port, value);
		}
		chip.sendMsi(0xfee0_0000, 0, 0x90);
		chip.setIrqLine(1, true);
		expect(chip.hasInterrupt(apic)).toBe(true);
		expect(chip.hasInterrupt(second)).toBe(false);
		expect(chip.takeInterrupt(apic)).toBe(0x21);
		expect(chip.takeInterrupt(apic)).toBe(0x90);
		apic.write(0x350, 0x1_0700, 0);
		chip.pic.write(0x20, 0x20);
		chip.setIrqLine(1, false);
		chip.setIrqLine(1, true);
		expect(chip.hasInterrupt(apic)).toBe(false);
	});

	test("state goes through JSON", () => {
		const { chip } = makeBoard();
		route(chip, 14, 0x8078);
		chip.setIrqLine(14, true);
		chip.pic.write(0x21, 0xfe);
		const twin = makeBoard().chip;
		twin.restore(JSON.parse(JSON.stringify(chip.save())));
		twin.apics[0].restore(chip.apics[0].save());
		expect(twin.save()).toEqual(chip.save());
		twin.apics[0].acknowledge();
		twin.apics[0].write(EOI, 0, 0);
		expect(twin.apics[0].acknowledge()).toBe(0x78);
	});
});

test("a level line is never lost nor invented: whatever the guest does, unmasked and high means pending or in service", () => {
	fc.assert(
		fc.property(fc.array(fc.constantFrom("up", "down", "mask", "unmask", "ack", "eoi"), { maxLength: 60 }), (steps) => {
			const { chip } = makeBoard();
			const [apic] = chip.apics;
			let high = false;
			let masked = false;
			let serving = false;
			route(chip, 11, 0x8078);
			for (const step of steps) {
				if (step === "up" || step === "down") chip.setIrqLine(11, (high = step === "up"));
				else if (step === "mask" || step === "unmask") {
					masked = step === "mask";
					route(chip, 11, 0x8078 | (masked ? 0x1_0000 : 0));
				} else if (step === "ack") serving = apic.acknowledge() === 0x78 || serving;
				else if (serving) {
					apic.write(EOI, 0, 0);
					serving = false;
				}
				const waiting = apic.read(0x230, 0) !== 0;
				if (high && !masked) expect(waiting || serving).toBe(true);
				expect((entry(chip, 11) & 0x4000) !== 0).toBe(waiting || serving);
			}
		}),
		{ seed: 3, numRuns: 300 },
	);
});
