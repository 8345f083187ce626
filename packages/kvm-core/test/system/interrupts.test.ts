import { describe, expect, test } from "vitest";
import { deliver, type GuestEvent } from "../../src/software/cpu/interrupts.ts";
import * as L from "../../src/software/cpu/layout.ts";
import {
	GDT,
	IDT,
	longGate,
	longMachine,
	Machine,
	protectedMachine,
	SEL,
	STACK0,
	STACK1,
	STACK3,
	TASK_AT,
	TSS_AT,
} from "./machine.ts";

function event(m: Machine, vector: number, more: Partial<GuestEvent> = {}): GuestEvent {
	return { vector, kind: "exception", errorCode: -1, returnRip: m.cpu.rip, ...more };
}

function go(m: Machine, vector: number, more: Partial<GuestEvent> = {}): void {
	m.cpu.nextRip = m.cpu.rip;
	deliver(m.cpu, event(m, vector, more));
	m.cpu.rip = m.cpu.nextRip;
}

function words32(m: Machine, count: number): number[] {
	const at = m.cpu.gpr32(L.RSP);
	return Array.from({ length: count }, (_, i) => m.ram.getUint32(at + i * 4, true));
}

function words64(m: Machine, count: number): bigint[] {
	const at = m.cpu.gpr32(L.RSP);
	return Array.from({ length: count }, (_, i) => m.ram.getBigUint64(at + i * 8, true));
}

describe("real mode", () => {
	test("pushes FLAGS, CS, IP and takes the vector's pointer", () => {
		const m = new Machine();
		m.write(0x21 * 4, 4, 0x1234_5678);
		m.cpu.setGpr(L.RSP, 2, 0x200);
		m.cpu.flags = 0x302;
		m.cpu.rip = 0x77n;
		m.run("CD", { immediate: 0x21, operandSize: 2 });
		expect([m.cpu.rip, m.cpu.segmentBase(L.CS), m.cpu.flags]).toEqual([0x5678n, 0x1_2340n, 2]);
		expect([0x1fa, 0x1fc, 0x1fe].map((at) => m.ram.getUint16(at, true))).toEqual([0x79, 0xf000, 0x302]);
	});

	test("no error codes; a short IVT ends in a triple fault", () => {
		const m = new Machine();
		m.cpu.setGpr(L.RSP, 2, 0x200);
		go(m, 13, { errorCode: 0 });
		expect(m.cpu.gpr16(L.RSP)).toBe(0x1fa);
		m.cpu.set32(L.IDTR_LIMIT, 0);
		go(m, 13, { errorCode: 0 });
		expect(m.shutdowns).toBe(1);
	});
});

describe("protected mode", () => {
	test("an interrupt gate clears IF, a trap gate does not; the return address is behind INT n", () => {
		const m = protectedMachine(0);
		m.cpu.flags = 0x4302 | L.RF;
		m.gate(IDT + 0x80 * 8, SEL.code0, 0x12_3456, 0x8e);
		m.run("CD", { immediate: 0x80 });
		expect([m.cpu.rip, m.cpu.flags]).toEqual([0x12_3456n, 2]);
		expect(words32(m, 3)).toEqual([0x7002, SEL.code0, 0x4302 | L.RF]);
		m.cpu.flags = 0x202;
		m.gate(IDT + 0x81 * 8, SEL.code0, 0x12_3456, 0x8f);
		m.run("CD", { immediate: 0x81 });
		expect(m.cpu.flags).toBe(0x202);
	});

	test("a fault pushes RF and its error code, and switches stacks", () => {
		const m = protectedMachine(3);
		m.gate(IDT + 13 * 8, SEL.code0, 0x100, 0x8e);
		m.cpu.flags = 0x3202;
		go(m, 13, { errorCode: 0x58 });
		expect([m.cpu.cpl, m.cpu.gpr32(L.RSP), m.cpu.segmentSelector(L.SS)]).toEqual([0, STACK0 - 24, SEL.data0]);
		expect(words32(m, 6)).toEqual([0x58, 0x7000, SEL.code3 | 3, 0x3202 | L.RF, STACK3, SEL.data3 | 3]);
	});

	test("16-bit gates push 16 bits", () => {
		const m = protectedMachine(0);
		m.gate(IDT + 0x30 * 8, SEL.code0, 0xffff_1111, 0x86);
		go(m, 0x30, { kind: "external" });
		expect([m.cpu.rip, m.cpu.gpr32(L.RSP)]).toEqual([0x1111n, STACK0 - 0x106]);
	});

	test.each([
		["DPL below CPL for INT n", 3, (m: Machine) => m.gate(IDT + 0x40 * 8, SEL.code0, 0, 0x8e), "13:202"],
		["gate not present", 3, (m: Machine) => m.gate(IDT + 0x40 * 8, SEL.code0, 0, 0x6e), "11:202"],
		["no gate", 0, (m: Machine) => m.gate(IDT + 0x40 * 8, SEL.code0, 0, 0x8c), "13:202"],
		["beyond the IDT", 0, (m: Machine) => m.cpu.set32(L.IDTR_LIMIT, 0x40 * 8 + 6), "13:202"],
		["CS null", 0, (m: Machine) => m.gate(IDT + 0x40 * 8, 0, 0, 0xee), "13:0"],
		["CS is data", 0, (m: Machine) => m.gate(IDT + 0x40 * 8, SEL.data0, 0, 0xee), "13:10"],
		["CS of an outer level", 0, (m: Machine) => m.gate(IDT + 0x40 * 8, SEL.code3, 0, 0xee), "13:18"],
		["CS not present", 0, (m: Machine) => m.gate(IDT + 0x40 * 8, SEL.notPresentCode, 0, 0xee), "11:38"],
		[
			"SS0 not present",
			3,
			(m: Machine) => {
				m.gate(IDT + 0x40 * 8, SEL.code0, 0, 0xee);
				m.write(TSS_AT + 8, 2, SEL.notPresentData);
			},
			"12:50",
		],
		[
			"SS0 null",
			3,
			(m: Machine) => {
				m.gate(IDT + 0x40 * 8, SEL.code0, 0, 0xee);
				m.write(TSS_AT + 8, 2, 0);
			},
			"10:0",
		],
	] as const)("INT 0x40: %s", (_what, cpl, spoil, outcome) => {
		const m = protectedMachine(cpl);
		spoil(m);
		expect(m.faultOf(() => m.run("CD", { immediate: 0x40 }))).toBe(outcome);
	});

	test("exceptions ignore the gate's DPL, and their delivery's faults have EXT set", () => {
		const m = protectedMachine(3);
		m.gate(IDT + 6 * 8, SEL.data0, 0, 0x8e);
		m.gate(IDT + 13 * 8, SEL.code0, 0x500, 0x8e);
		go(m, 6);
		// #UD is benign: its delivery's #GP is delivered as itself.
		expect(m.cpu.rip).toBe(0x500n);
		expect(words32(m, 2)).toEqual([SEL.data0 | 1, 0x7000]);
	});

	test.each([
		// first, second (by what is wrong with its gate), what is delivered
		[13, "gp", 8],
		[14, "gp", 8],
		[0, "np", 8],
		[6, "gp", 13],
		[1, "np", 11],
		[17, "gp", 13],
	] as const)("a #%i whose delivery meets #%s becomes vector %i", (first, second, delivered) => {
		const m = protectedMachine(0);
		for (let v = 0; v < 32; v++) m.gate(IDT + v * 8, SEL.code0, 0x1000 + v, 0x8e);
		m.gate(IDT + first * 8, second === "gp" ? SEL.data0 : SEL.notPresentCode, 0, 0x8e);
		go(m, first, { errorCode: [0, 1, 6].includes(first) ? -1 : 0 });
		expect(Number(m.cpu.rip) - 0x1000).toBe(delivered);
	});

	test("a page fault in a page fault's delivery is a double fault; a third one shuts down", () => {
		const m = protectedMachine(0);
		m.cpu.set64(L.CR3, 0x1_0000n);
		m.cpu.set64(L.CR4, 0x10n);
		m.write(0x1_0000, 4, 0x87);
		m.cpu.set64(L.CR0, 0x8000_0011n);
		for (let v = 0; v < 32; v++) m.gate(IDT + v * 8, SEL.code0, 0x1000 + v, 0x8e);
		m.cpu.setGpr(L.RSP, 4, 0x50_0000);
		go(m, 14, { errorCode: 0 });
		expect(m.shutdowns).toBe(1);
		expect(m.cpu.get64(L.CR2)).toBe(0x4f_fffcn);
		// With a task for the double fault there is a good stack.
		m.gate(IDT + 8 * 8, SEL.task, 0, 0x85);
		[SEL.data0, SEL.code0, SEL.data0, SEL.data0, SEL.data0, SEL.data0].forEach((selector, i) => {
			m.write(TASK_AT + 72 + i * 4, 2, selector);
		});
		m.write(TASK_AT + 28, 4, 0x1_0000);
		m.write(TASK_AT + 32, 4, 0x6666);
		m.write(TASK_AT + 56, 4, STACK0);
		go(m, 14, { errorCode: 0 });
		expect([m.shutdowns, m.cpu.rip, m.cpu.segmentSelector(L.TR)]).toEqual([1, 0x6666n, SEL.task]);
		expect(words32(m, 1)).toEqual([0]);
		expect(m.ram.getUint32(TSS_AT + 32, true)).toBe(0x7000);
	});
});

describe("virtual-8086 mode", () => {
	function v86(iopl: number): Machine {
		const m = protectedMachine(0);
		const at = m.cpu.gpr32(L.RSP);
		[0x10, 0x2000, 0x2_0202 | (iopl << 12), 0xfffe, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000].forEach((value, i) => {
			m.write(at + i * 4, 4, value);
		});
		m.run("CF");
		for (let v = 0; v < 256; v++) m.gate(IDT + v * 8, SEL.code0, 0x1000 + v, 0xee);
		return m;
	}

	test("INT n needs IOPL 3, INT3 does not", () => {
		const m = v86(0);
		expect(m.faultOf(() => m.run("CD", { immediate: 0x10, operandSize: 2 }))).toBe("13:0");
		m.run("CC", { operandSize: 2 }, 1);
		expect(m.cpu.rip).toBe(0x1003n);
	});

	test("the handler finds all segments on its stack", () => {
		const m = v86(3);
		m.run("CD", { immediate: 0x10, operandSize: 2 });
		const { cpu } = m;
		expect([cpu.virtual8086, cpu.cpl, cpu.rip, cpu.gpr32(L.RSP)]).toEqual([false, 0, 0x1010n, STACK0 - 36]);
		expect(words32(m, 9)).toEqual([0x12, 0x2000, 0x2_3202, 0xfffe, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000]);
		for (const segment of [L.DS, L.ES, L.FS, L.GS]) expect(cpu.segmentAttributes(segment)).toBe(0x1_0000);
		m.run("CF");
		expect([cpu.virtual8086, cpu.segmentBase(L.GS), cpu.rip]).toEqual([true, 0x7_0000n, 0x12n]);
	});

	test("the handler must be at level 0", () => {
		const m = v86(3);
		m.gate(IDT + 0x10 * 8, SEL.code1, 0, 0xee);
		expect(m.faultOf(() => m.run("CD", { immediate: 0x10, operandSize: 2 }))).toBe("13:78");
		m.gate(IDT + 0x10 * 8, SEL.conforming0, 0, 0xee);
		expect(m.faultOf(() => m.run("CD", { immediate: 0x10, operandSize: 2 }))).toBe("13:30");
	});
});

describe("long mode", () => {
	test("frames are aligned, SS becomes null with the new level", () => {
		const m = longMachine(3);
		longGate(m, 14, SEL.code64, 0xffff_8000_0000_1234n, 0x8e);
		m.cpu.flags = 0x202;
		go(m, 14, { errorCode: 6 });
		expect([m.cpu.rip, m.cpu.cpl, m.cpu.segmentSelector(L.SS)]).toEqual([0xffff_8000_0000_1234n, 0, 0]);
		expect(m.cpu.gpr(L.RSP)).toBe(BigInt(((STACK0 - 4) & ~15) - 48));
		expect(words64(m, 6)).toEqual([
			6n,
			0x7000n,
			BigInt(SEL.code64User | 3),
			0x1_0202n,
			BigInt(STACK3),
			BigInt(SEL.data3 | 3),
		]);
	});

	test("at the same level the current stack is aligned and SS stays", () => {
		const m = longMachine(0);
		m.cpu.setGpr(L.RSP, 8, 0x7f07);
		longGate(m, 32, SEL.code64, 0x4000n, 0x8e);
		go(m, 32, { kind: "external" });
		expect([m.cpu.gpr(L.RSP), m.cpu.segmentSelector(L.SS)]).toEqual([BigInt(0x7f00 - 40), SEL.data0]);
		expect(words64(m, 5)[3]).toBe(0x7f07n);
	});

	test("an IST entry is used even at the same level", () => {
		const m = longMachine(0);
		longGate(m, 2, SEL.code64, 0x4000n, 0x8e, 1);
		go(m, 2, { kind: "nmi" });
		expect(m.cpu.gpr(L.RSP)).toBe(BigInt(((STACK1 + 8) & ~15) - 40));
	});

	test.each([
		["a 32-bit code segment", (m: Machine) => longGate(m, 0x40, SEL.code0, 0n, 0xee), "13:8"],
		["a task gate", (m: Machine) => longGate(m, 0x40, SEL.task, 0n, 0xe5), "13:202"],
		["an address that is not canonical", (m: Machine) => longGate(m, 0x40, SEL.code64, 1n << 47n, 0xee), "13:0"],
		[
			"a stack that is not canonical",
			(m: Machine) => {
				longGate(m, 0x40, SEL.code64, 0n, 0xee);
				m.write(TSS_AT + 4, 8, 1n << 47n);
			},
			"12:0",
		],
		[
			"a TSS that is too short",
			(m: Machine) => {
				longGate(m, 0x40, SEL.code64, 0n, 0xee);
				m.cpu.setSegment(L.TR, SEL.tss64, 0x8b, 10, BigInt(TSS_AT));
			},
			"10:c0",
		],
	] as const)("INT 0x40 with %s", (_what, spoil, outcome) => {
		const m = longMachine(3);
		spoil(m);
		expect(m.faultOf(() => m.run("CD", { immediate: 0x40 }))).toBe(outcome);
	});

	test("from compatibility mode the handler runs in 64-bit mode", () => {
		const m = longMachine(0);
		m.cpu.setSegment(L.CS, SEL.code3 | 3, 0xc0fb, 0xffff_ffff, 0n);
		m.cpu.setSegment(L.SS, SEL.data3 | 3, 0xc0f3, 0xffff_ffff, 0n);
		longGate(m, 0x80, SEL.code64, 0x4000n, 0xee);
		m.run("CD", { immediate: 0x80, operandSize: 4 });
		expect([m.cpu.code64, m.cpu.cpl]).toEqual([true, 0]);
	});
});

test("an instruction of the descriptor tables' own faults names the selector in the LDT", () => {
	const m = protectedMachine(0);
	m.gate(IDT + 0x40 * 8, 0x0f, 0, 0xee);
	m.cpu.setSegment(L.LDTR, SEL.ldt, 0x82, 7, BigInt(GDT));
	expect(m.faultOf(() => m.run("CD", { immediate: 0x40 }))).toBe("13:c");
});
