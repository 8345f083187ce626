import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { makeBoard } from "./board.ts";

const TPR = 0x80;
const EOI = 0xb0;
const SVR = 0xf0;
const ICR = 0x300;
const ICR2 = 0x310;
const TIMER = 0x320;
const INITIAL = 0x380;
const CURRENT = 0x390;
const DIVIDE = 0x3e0;
const SELF = 1 << 18;

describe("priorities", () => {
	test("the highest class above task priority and service comes first", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		for (const vector of [0x31, 0x3f, 0x82, 0x55]) apic.write(ICR, SELF | vector, 0);
		expect(apic.acknowledge()).toBe(0x82);
		expect(apic.read(0xa0, 0)).toBe(0x80);
		expect(apic.pendingVector()).toBe(-1);
		apic.write(EOI, 0, 0);
		apic.write(TPR, 0x50, 0);
		// 0x55 is in the class of the task priority, not above it.
		expect(apic.pendingVector()).toBe(-1);
		apic.cr8 = 4;
		expect(apic.read(TPR, 0)).toBe(0x40);
		expect(apic.acknowledge()).toBe(0x55);
		apic.write(EOI, 0, 0);
		apic.cr8 = 0;
		expect(apic.acknowledge()).toBe(0x3f);
		// 0x31 has the class of what is in service.
		expect(apic.pendingVector()).toBe(-1);
		apic.write(EOI, 0, 0);
		expect(apic.acknowledge()).toBe(0x31);
	});

	test("a vector is delivered as often as it was acknowledged between, against a model of sets", () => {
		fc.assert(
			fc.property(
				fc.array(
					fc.oneof(
						fc.record({ op: fc.constant("raise" as const), v: fc.integer({ min: 16, max: 255 }) }),
						fc.record({ op: fc.constant("ack" as const), v: fc.constant(0) }),
						fc.record({ op: fc.constant("eoi" as const), v: fc.constant(0) }),
						fc.record({ op: fc.constant("tpr" as const), v: fc.integer({ min: 0, max: 255 }) }),
					),
					{ maxLength: 60 },
				),
				(steps) => {
					const { chip } = makeBoard();
					const [apic] = chip.apics;
					const requested = new Set<number>();
					const inService = new Set<number>();
					let tpr = 0;
					const top = (set: Set<number>) => Math.max(-1, ...set);
					for (const { op, v } of steps) {
						if (op === "raise") {
							apic.write(ICR, SELF | v, 0);
							requested.add(v);
						} else if (op === "tpr") {
							apic.write(TPR, v, 0);
							tpr = v;
						} else if (op === "eoi") {
							apic.write(EOI, 0, 0);
							inService.delete(top(inService));
						} else {
							const best = top(requested);
							const floor = Math.max(tpr >> 4, top(inService) >> 4);
							const expected = best >> 4 > floor ? best : -1;
							expect(apic.acknowledge()).toBe(expected);
							if (expected >= 0) {
								requested.delete(expected);
								inService.add(expected);
							}
						}
					}
				},
			),
			{ seed: 20261123, numRuns: 200 },
		);
	});
});

describe("interprocessor interrupts", () => {
	test("INIT, start-up and NMI reach the addressed vCPU, with x2APIC's 32-bit ids too", () => {
		const { chip, events } = makeBoard(3);
		const [apic] = chip.apics;
		apic.write(ICR2, 1 << 24, 0);
		apic.write(ICR, 0xc500, 0);
		apic.write(ICR, 0x8500, 0); // de-assert: no second INIT
		apic.write(ICR, 0x4608, 0);
		apic.write(ICR2, 2 << 24, 0);
		apic.write(ICR, 0x4400, 0);
		expect(events).toEqual(["init 1", "sipi 1 8", "nmi 2"]);
		events.length = 0;
		expect(apic.setApicBase(apic.apicBase | 0x400)).toBe(true);
		expect(apic.writeMsr(0x830, 0x4400, 2, 0)).toBe(true);
		expect(apic.writeMsr(0x830, 0xc_4400, 0, 0)).toBe(true); // all but self
		expect(events).toEqual(["nmi 2", "nmi 1", "nmi 2"]);
	});

	test("logical destinations: flat, cluster, x2APIC cluster", () => {
		const { chip } = makeBoard(3);
		const took = () => chip.apics.map((apic) => apic.acknowledge()).map((v) => (v < 0 ? 0 : 1));
		const send = (destination: number) => {
			for (const apic of chip.apics) apic.write(EOI, 0, 0);
			chip.apics[0].write(ICR2, destination << 24, 0);
			chip.apics[0].write(ICR, 0x4800 | 0x41, 0);
			return took();
		};
		for (const [i, apic] of chip.apics.entries()) apic.write(0xd0, 1 << (24 + i), 0);
		expect(send(0b101)).toEqual([1, 0, 1]);
		expect(send(0xff)).toEqual([1, 1, 1]);
		for (const apic of chip.apics) apic.write(0xe0, 0, 0);
		for (const [i, apic] of chip.apics.entries()) apic.write(0xd0, (i < 2 ? 0x10 | (1 << i) : 0x21) << 24, 0);
		expect(send(0x13)).toEqual([1, 1, 0]);
		expect(send(0x23)).toEqual([0, 0, 1]);

		const wide = makeBoard(18).chip;
		for (const apic of wide.apics) apic.setApicBase(apic.apicBase | 0x400);
		expect(wide.apics[17].readMsr(0x80d, 0)).toBe(true);
		expect(wide.apics[17].msrLow).toBe(0x1_0002);
		wide.apics[0].writeMsr(0x830, 0x4800 | 0x41, 0x1_0003, 0);
		expect(wide.apics.flatMap((apic) => (apic.acknowledge() === 0x41 ? [apic.id] : []))).toEqual([16, 17]);
	});

	test("lowest priority goes round the candidates", () => {
		const { chip } = makeBoard(4);
		const counts = [0, 0, 0, 0];
		for (let i = 0; i < 40; i++) {
			expect(chip.sendMsi(0xfeef_f000, 0, 0x0141)).toBe(1);
			chip.apics.forEach((apic, id) => {
				if (apic.acknowledge() === 0x41) {
					counts[id]++;
					apic.write(EOI, 0, 0);
				}
			});
		}
		expect(counts).toEqual([10, 10, 10, 10]);
	});

	test("illegal vectors are reported in ESR after it is written", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		apic.write(0x370, 0xfe, 0);
		apic.write(ICR, SELF | 5, 0);
		expect(apic.acknowledge()).toBe(0xfe);
		expect(apic.read(0x280, 0)).toBe(0);
		apic.write(0x280, 0, 0);
		expect(apic.read(0x280, 0)).toBe(0x20);
		apic.write(0x280, 0, 0);
		expect(apic.read(0x280, 0)).toBe(0);
	});
});

describe("timer", () => {
	test("one shot, periodic, and the count between changes of mode", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		apic.write(DIVIDE, 0b0011, 0); // by 16
		apic.write(TIMER, 0x40, 0);
		apic.write(INITIAL, 1000, 0);
		expect(apic.nextDeadline()).toBe(16_000);
		expect(apic.read(CURRENT, 8_000)).toBe(500);
		apic.advanceTo(15_999);
		expect(apic.pendingVector()).toBe(-1);
		apic.advanceTo(16_000);
		expect(apic.acknowledge()).toBe(0x40);
		expect(apic.read(CURRENT, 16_000)).toBe(0);
		expect(apic.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
		// Periodic from rest stays at zero until the count is written.
		apic.write(TIMER, 0x2_0040, 17_000);
		expect(apic.read(CURRENT, 17_000)).toBe(0);
		apic.write(INITIAL, 1000, 20_000);
		apic.write(EOI, 0, 20_000);
		// Three periods nobody watched make one interrupt; the phase is kept.
		apic.advanceTo(20_000 + 3 * 16_000 + 5);
		expect(apic.acknowledge()).toBe(0x40);
		apic.write(EOI, 0, 0);
		expect(apic.pendingVector()).toBe(-1);
		expect(apic.nextDeadline()).toBe(20_000 + 4 * 16_000);
		expect(apic.read(CURRENT, 20_000 + 3 * 16_000 + 8_000)).toBe(500);
		// To one-shot: the running period is the last.
		apic.write(TIMER, 0x40, 70_000);
		apic.advanceTo(84_000);
		expect(apic.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
	});

	test("TSC deadline: armed by MSR, cleared when it fires, gone with the mode", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		apic.writeMsr(0x6e0, 500, 0, 0);
		expect(apic.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
		apic.write(TIMER, 0x4_0051, 0);
		apic.write(INITIAL, 77, 0);
		expect(apic.read(INITIAL, 0)).toBe(0);
		apic.writeMsr(0x6e0, 5_000, 1, 0);
		expect(apic.nextDeadline()).toBe(2 ** 32 + 5_000);
		expect(apic.readMsr(0x6e0, 10) && [apic.msrLow, apic.msrHigh]).toEqual([5_000, 1]);
		apic.writeMsr(0x6e0, 900, 0, 1_000); // already past
		expect(apic.acknowledge()).toBe(0x51);
		expect(apic.readMsr(0x6e0, 1_000) && [apic.msrLow, apic.msrHigh]).toEqual([0, 0]);
		apic.writeMsr(0x6e0, 9_000, 0, 1_000);
		apic.write(TIMER, 0x51, 1_000);
		apic.advanceTo(20_000);
		apic.write(EOI, 0, 0);
		expect(apic.pendingVector()).toBe(-1);
	});

	test("a masked entry lets the timer run silently", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		apic.write(DIVIDE, 0b1011, 0); // by 1
		apic.write(TIMER, 0x1_0040, 0);
		apic.write(INITIAL, 100, 0);
		apic.advanceTo(100);
		apic.write(TIMER, 0x40, 100);
		expect(apic.pendingVector()).toBe(-1);
	});
});

describe("modes", () => {
	test("IA32_APIC_BASE refuses reserved bits and forbidden changes", () => {
		const { chip } = makeBoard();
		const [apic] = chip.apics;
		const base = apic.apicBase;
		expect(base).toBe(0xfee0_0900);
		expect(apic.setApicBase(base + 2 ** 40)).toBe(false);
		expect(apic.setApicBase(base | 1)).toBe(false);
		expect(apic.setApicBase(base - 0x800 + 0x400)).toBe(false); // x2APIC without enable
		expect(apic.setApicBase(base + 0x400)).toBe(true);
		expect(apic.setApicBase(base)).toBe(false); // x2APIC to xAPIC
		expect(apic.setApicBase(base - 0x800)).toBe(true); // off
		expect(apic.read(0x30, 0)).toBe(0xffff_ffff);
		expect(apic.setApicBase(base + 0x400)).toBe(false); // off to x2APIC
		expect(apic.setApicBase(base + 0x1000)).toBe(true);
		expect(apic.pageAddress).toBe(0xfee0_1000);
		expect(apic.read(0x30, 0)).toBe(0x50014);
	});

	test("x2APIC gives #GP for what is not there, reserved bits and read-only registers", () => {
		const { chip } = makeBoard(2);
		const apic = chip.apics[1];
		expect(apic.readMsr(0x802, 0)).toBe(false); // still xAPIC
		apic.setApicBase(apic.apicBase | 0x400);
		expect(apic.readMsr(0x802, 0) && apic.msrLow).toBe(1);
		for (const msr of [0x80b, 0x80e, 0x831, 0x83f, 0x8ff]) expect(apic.readMsr(msr, 0)).toBe(false);
		for (const msr of [0x802, 0x803, 0x80a, 0x80d, 0x810, 0x831, 0x839]) {
			expect(apic.writeMsr(msr, 0, 0, 0)).toBe(false);
		}
		expect(apic.writeMsr(0x80b, 1, 0, 0)).toBe(false);
		expect(apic.writeMsr(0x808, 0x100, 0, 0)).toBe(false);
		expect(apic.writeMsr(0x808, 0x10, 1, 0)).toBe(false);
		expect(apic.writeMsr(0x830, 1 << 20, 0, 0)).toBe(false);
		expect(apic.writeMsr(0x83f, 0x77, 0, 0)).toBe(true);
		expect(apic.acknowledge()).toBe(0x77);
		expect(apic.write(TPR, 0xff, 0)).toBeUndefined(); // the page is gone
		expect(apic.cr8).toBe(0);
	});

	test("switched off in software it takes no fixed interrupts and masks its entries", () => {
		const { chip, events } = makeBoard(2);
		const apic = chip.apics[1];
		apic.write(0x350, 0x400, 0);
		apic.write(SVR, 0xff, 0);
		expect(apic.read(0x350, 0)).toBe(0x1_0400);
		expect(chip.sendMsi(0xfee0_1000, 0, 0x41)).toBe(0);
		expect(chip.sendMsi(0xfee0_1000, 0, 0x400)).toBe(1);
		expect(events).toEqual(["nmi 1"]);
	});
});

test("state goes through JSON, and the page of KVM_GET_LAPIC back in", () => {
	const { chip } = makeBoard();
	const [apic] = chip.apics;
	apic.write(DIVIDE, 0b1011, 0);
	apic.write(TIMER, 0x2_0040, 0);
	apic.write(INITIAL, 1_000, 0);
	apic.write(ICR, SELF | 0x99, 0);
	const twin = makeBoard().chip.apics[0];
	twin.restore(JSON.parse(JSON.stringify(apic.save())));
	expect(twin.save()).toEqual(apic.save());
	expect(twin.acknowledge()).toBe(0x99);
	twin.advanceTo(1_000);
	twin.write(EOI, 0, 0);
	expect(twin.acknowledge()).toBe(0x40);

	const third = makeBoard().chip.apics[0];
	third.fromPage(apic.toPage(400), 10_000);
	expect(third.nextDeadline()).toBe(10_600);
	expect(third.pendingVector()).toBe(0x99);
});

test("no sequence of register accesses throws or leaves a register outside 32 bits", () => {
	fc.assert(
		fc.property(
			fc.array(
				fc.record({
					cpu: fc.integer({ min: 0, max: 2 }),
					offset: fc.integer({ min: 0, max: 0xfff }),
					value: fc.integer({ min: 0, max: 0xffff_ffff }),
					kind: fc.constantFrom("read", "write", "rdmsr", "wrmsr", "base"),
				}),
				{ maxLength: 80 },
			),
			(steps) => {
				const { chip } = makeBoard(3);
				let now = 0;
				for (const { cpu, offset, value, kind } of steps) {
					const apic = chip.apics[cpu];
					if (kind === "read") {
						const got = apic.read(offset, now);
						expect(got >= 0 && got <= 0xffff_ffff).toBe(true);
					} else if (kind === "write") apic.write(offset & 0xff0, value, now);
					else if (kind === "rdmsr") apic.readMsr(0x800 + (offset & 0xff), now);
					else if (kind === "wrmsr") apic.writeMsr(0x800 + (offset & 0x3f), value, 0, now);
					else apic.setApicBase(0xfee0_0000 + (value & 0xd00));
					now += value % 5_000;
					chip.advanceTo(now);
					expect(chip.nextDeadline()).toBeGreaterThan(now);
				}
			},
		),
		{ seed: 7, numRuns: 300 },
	);
});
