import { describe, expect, test } from "vitest";
import * as L from "../../src/software/cpu/layout.ts";
import { GDT, longMachine, Machine, protectedMachine, SEL, STACK0, STACK3, TASK_AT, TSS_AT } from "./machine.ts";

const JMP = "EA";
const CALL = "9A";
const RETF = "CB";
const IRET = "CF";

function stack(m: Machine, ...values: number[]): void {
	values.forEach((value, i) => {
		m.write(m.cpu.gpr32(L.RSP) + i * 4, 4, value);
	});
}

function words(m: Machine, count: number, size: 2 | 4 | 8 = 4): number[] {
	const at = m.cpu.gpr32(L.RSP);
	return Array.from({ length: count }, (_, i) =>
		size === 4
			? m.ram.getUint32(at + i * 4, true)
			: size === 2
				? m.ram.getUint16(at + i * 2, true)
				: Number(m.ram.getBigUint64(at + i * 8, true)),
	);
}

describe("far JMP", () => {
	test.each([
		[SEL.code0, 0, 0x1000, "none"],
		[SEL.code0 | 3, 0, 0x1000, "13:8"],
		[SEL.conforming0 | 3, 3, 0x1000, "none"],
		[SEL.code3, 0, 0x1000, "13:18"],
		[SEL.code0, 3, 0x1000, "13:8"],
		[SEL.data0, 0, 0x1000, "13:10"],
		[SEL.notPresentCode, 0, 0x1000, "11:38"],
		[SEL.code16, 0, 0x1_0000, "13:0"],
		[0, 0, 0x1000, "13:0"],
		[0x100, 0, 0x1000, "13:100"],
		[SEL.notPresentGate, 3, 0, "11:98"],
		[SEL.gate, 3, 0, "13:8"],
		[SEL.tss, 3, 0, "13:28"],
		[SEL.ldt, 0, 0, "13:58"],
	] as const)("to %i at CPL %i, offset %i: %s", (selector, cpl, offset, outcome) => {
		const m = protectedMachine(cpl);
		expect(m.faultOf(() => m.run(JMP, { displacement: selector, immediate: offset }))).toBe(outcome);
		if (outcome === "none") {
			expect(m.cpu.segmentSelector(L.CS)).toBe((selector & ~3) | cpl);
			expect(m.cpu.rip).toBe(BigInt(offset));
		}
	});

	test("through a call gate takes the gate's offset", () => {
		const m = protectedMachine(0);
		m.run(JMP, { displacement: SEL.gate, immediate: 0xdead });
		expect([m.cpu.segmentSelector(L.CS), m.cpu.rip]).toEqual([SEL.code0, 0x1234n]);
		m.run(JMP, { displacement: SEL.gate16, immediate: 0xdead });
		expect(m.cpu.rip).toBe(0x5432n);
	});

	test("in real mode moves the base", () => {
		const m = new Machine();
		m.run(JMP, { displacement: 0x1234, immediate: 0x10, operandSize: 2 });
		expect([m.cpu.segmentBase(L.CS), m.cpu.rip, m.cpu.cpl]).toEqual([0x12340n, 0x10n, 0]);
		m.run(JMP, { displacement: 0x0003, immediate: 0, operandSize: 2 });
		expect(m.cpu.cpl).toBe(0);
		expect(m.faultOf(() => m.run(JMP, { displacement: 0, immediate: 0x1_0000, operandSize: 4 }))).toBe("13:0");
	});

	test("leaves real mode behind, enters long mode and 64-bit code", () => {
		const m = longMachine();
		m.write(0x6000, 4, 0x1000);
		m.write(0x6004, 2, SEL.code0);
		m.run("FF /5 mod=m", { operandSize: 4, address: 0x6000 });
		expect(m.cpu.code64).toBe(false);
		m.run(JMP, { displacement: SEL.code64, immediate: 0x2000, operandSize: 4 });
		expect(m.cpu.code64).toBe(true);
		m.descriptor(GDT + 0xd0, 0, 0, 0x609a);
		m.write(0x6004, 2, 0xd0);
		expect(m.faultOf(() => m.run("FF /5 mod=m", { operandSize: 4, address: 0x6000 }))).toBe("13:d0");
	});
});

describe("far CALL and RET", () => {
	test("at the same level", () => {
		const m = protectedMachine(0);
		m.run(CALL, { displacement: SEL.code0, immediate: 0x4321 }, 7);
		expect(words(m, 2)).toEqual([0x7007, SEL.code0]);
		m.run(RETF);
		expect([m.cpu.rip, m.cpu.gpr32(L.RSP)]).toEqual([0x7007n, STACK0 - 0x100]);
	});

	test("with 16-bit operands in real mode, dropping parameters", () => {
		const m = new Machine();
		m.cpu.setGpr(L.RSP, 2, 0x100);
		m.cpu.rip = 0x50n;
		m.run(CALL, { displacement: 0x2000, immediate: 0x10, operandSize: 2 }, 5);
		expect(words(m, 2, 2)).toEqual([0x55, 0xf000]);
		m.run("CA", { immediate: 4, operandSize: 2 });
		expect([m.cpu.rip, m.cpu.segmentBase(L.CS), m.cpu.gpr16(L.RSP)]).toEqual([0x55n, 0xf_0000n, 0x104]);
	});

	test("through a gate to an inner level: stack switched, parameters copied; and back", () => {
		const m = protectedMachine(3);
		stack(m, 0x1111, 0x2222, 0x3333);
		m.run(CALL, { displacement: SEL.gate | 3, immediate: 0 }, 7);
		expect([m.cpu.cpl, m.cpu.segmentSelector(L.CS), m.cpu.segmentSelector(L.SS)]).toEqual([0, SEL.code0, SEL.data0]);
		expect(m.cpu.gpr32(L.RSP)).toBe(STACK0 - 24);
		expect(words(m, 6)).toEqual([0x7007, SEL.code3 | 3, 0x1111, 0x2222, STACK3, SEL.data3 | 3]);
		m.cpu.setSegment(L.ES, SEL.data0, 0xc093, 0xffff_ffff, 0n);
		m.run("CA", { immediate: 8 });
		expect([m.cpu.cpl, m.cpu.rip, m.cpu.gpr32(L.RSP)]).toEqual([3, 0x7007n, STACK3 + 8]);
		// What CPL 3 may not use is gone, the rest is kept.
		expect(m.cpu.segmentAttributes(L.ES) & 0x1_0000).not.toBe(0);
		expect(m.cpu.segmentSelector(L.DS)).toBe(SEL.data3 | 3);
	});

	test.each([
		["SS of the TSS null", (m: Machine) => m.write(TSS_AT + 8, 2, 0), "10:0"],
		["SS of the TSS of another level", (m: Machine) => m.write(TSS_AT + 8, 2, SEL.data3 | 3), "10:20"],
		["SS of the TSS read-only", (m: Machine) => m.write(TSS_AT + 8, 2, SEL.readOnlyData), "10:48"],
		["SS of the TSS not present", (m: Machine) => m.write(TSS_AT + 8, 2, SEL.notPresentData), "12:50"],
		["TSS too short", (m: Machine) => m.cpu.setSegment(L.TR, SEL.tss, 0x8b, 8, BigInt(TSS_AT)), "10:28"],
	] as const)("gate call with %s", (_what, spoil, outcome) => {
		const m = protectedMachine(3);
		spoil(m);
		expect(m.faultOf(() => m.run(CALL, { displacement: SEL.gate | 3, immediate: 0 }))).toBe(outcome);
	});

	test("a 64-bit call gate", () => {
		const m = longMachine(3);
		m.gate(GDT + 0xd0, SEL.code64, 0x2345_6789, 0xec);
		m.write(GDT + 0xd8, 8, 0xffff_8000);
		m.write(0x6000, 4, 0);
		m.write(0x6004, 2, 0xd3);
		m.run("FF /3 mod=m", { operandSize: 4, address: 0x6000 });
		expect([m.cpu.cpl, m.cpu.rip, m.cpu.segmentSelector(L.SS)]).toEqual([0, 0xffff_8000_2345_6789n, 0]);
		expect(words(m, 4, 8)).toEqual([0x7002, SEL.code64User | 3, STACK3, SEL.data3 | 3]);
		m.run(RETF, { operandSize: 8 });
		expect([m.cpu.cpl, m.cpu.rip, m.cpu.gpr(L.RSP)]).toEqual([3, 0x7002n, BigInt(STACK3)]);
	});

	test.each([
		[[0x100, 0], "13:0"],
		[[0x100, SEL.data0], "13:10"],
		[[0x100, SEL.code3], "13:18"],
		[[0x100, SEL.notPresentCode], "11:38"],
		[[0x1_0000, SEL.code16], "13:0"],
		[[0x100, SEL.code3 | 3, STACK3, SEL.data0], "13:10"],
		[[0x100, SEL.code3 | 3, STACK3, 3], "13:0"],
		[[0x100, SEL.code3 | 3, STACK3, SEL.data3 | 3], "none"],
	] as const)("RET with %j on the stack: %s", (values, outcome) => {
		const m = protectedMachine(0);
		stack(m, ...values);
		expect(m.faultOf(() => m.run(RETF))).toBe(outcome);
	});

	test("RET to an inner level is refused", () => {
		const m = protectedMachine(3);
		stack(m, 0x100, SEL.code0);
		expect(m.faultOf(() => m.run(RETF))).toBe("13:8");
	});
});

describe("IRET", () => {
	test("at the same level takes IF and IOPL by privilege", () => {
		const m = protectedMachine(0);
		stack(m, 0x100, SEL.code0, 0x3202 | L.RF | L.CF);
		m.run(IRET);
		expect(m.cpu.flags).toBe(0x3202 | L.CF);
		// RF counts while a breakpoint is enabled.
		m.cpu.set64(L.DR7, 0x401n);
		stack(m, 0x100, SEL.code0, 0x3202 | L.RF | L.CF);
		m.run(IRET);
		expect(m.cpu.flags).toBe(0x3202 | L.RF | L.CF);
		const user = protectedMachine(3);
		stack(user, 0x100, SEL.code3 | 3, 0x3202);
		user.run(IRET);
		expect(user.cpu.flags).toBe(2);
	});

	test("to an outer level", () => {
		const m = protectedMachine(0);
		stack(m, 0x100, SEL.code3 | 3, 0x202, STACK3, SEL.data3 | 3);
		m.run(IRET);
		expect([m.cpu.cpl, m.cpu.rip, m.cpu.gpr32(L.RSP), m.cpu.flags]).toEqual([3, 0x100n, STACK3, 0x202]);
	});

	test("to a 16-bit stack keeps the upper half of ESP", () => {
		const m = protectedMachine(0);
		m.descriptor(GDT + 0xd0, 0, 0xffff, 0xf2);
		stack(m, 0x100, SEL.code3 | 3, 0x202, 0xdead_1234, 0xd3);
		m.run(IRET);
		expect(m.cpu.gpr32(L.RSP)).toBe(0x1234);
	});

	test("to virtual-8086 mode", () => {
		const m = protectedMachine(0);
		stack(m, 0x10, 0x2000, 0x2_3202, 0xfffe, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000);
		m.run(IRET);
		const { cpu } = m;
		expect([cpu.virtual8086, cpu.cpl, cpu.rip, cpu.gpr32(L.RSP)]).toEqual([true, 3, 0x10n, 0xfffe]);
		expect([L.CS, L.SS, L.ES, L.DS, L.FS, L.GS].map((s) => cpu.segmentBase(s))).toEqual(
			[0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000].map((s) => BigInt(s * 16)),
		);
		expect(cpu.segmentAttributes(L.DS)).toBe(0xf3);
		// IRET there needs IOPL 3, which this one keeps.
		expect(m.faultOf(() => m.run(IRET, { operandSize: 2 }))).toBe("none");
		cpu.flags = cpu.flags & ~0x3000;
		expect(m.faultOf(() => m.run(IRET, { operandSize: 2 }))).toBe("13:0");
	});

	test("in real mode", () => {
		const m = new Machine();
		m.cpu.setGpr(L.RSP, 2, 0x100);
		m.write(0x100, 2, 0x1234);
		m.write(0x102, 2, 0x5000);
		m.write(0x104, 2, 0x7246);
		m.run(IRET, { operandSize: 2 });
		expect([m.cpu.rip, m.cpu.segmentBase(L.CS), m.cpu.flags]).toEqual([0x1234n, 0x5_0000n, 0x7246]);
	});

	test("in 64-bit mode always pops SS:RSP, a null SS too", () => {
		const m = longMachine(0);
		const at = m.cpu.gpr32(L.RSP);
		[0x1234, SEL.code64, 0x202, 0x7777, 0].forEach((value, i) => {
			m.write(at + i * 8, 8, value);
		});
		m.run(IRET);
		expect([m.cpu.rip, m.cpu.gpr(L.RSP), m.cpu.segmentSelector(L.SS)]).toEqual([0x1234n, 0x7777n, 0]);
	});

	test("to 32-bit code of CPL 3 in long mode", () => {
		const m = longMachine(0);
		const at = m.cpu.gpr32(L.RSP);
		[0x1234, SEL.code3 | 3, 0x202, STACK3, SEL.data3 | 3].forEach((value, i) => {
			m.write(at + i * 8, 8, value);
		});
		m.run(IRET);
		expect([m.cpu.code64, m.cpu.cpl, m.cpu.rip]).toEqual([false, 3, 0x1234n]);
	});

	test("with NT set is #GP in long mode, and a task return elsewhere", () => {
		const m = longMachine(0);
		m.cpu.flags = 0x4002;
		expect(m.faultOf(() => m.run(IRET))).toBe("13:0");
	});
});

/** A task at TASK_AT that runs at CPL 0. */
function fillTask(m: Machine): void {
	const words: Record<number, number> = { 32: 0x4444, 36: 0x2, 56: STACK0 - 0x200, 40: 0xaaaa, 44: 0xcccc };
	for (const [at, value] of Object.entries(words)) m.write(TASK_AT + Number(at), 4, value);
	[SEL.data0, SEL.code0, SEL.data0, SEL.data0, 0, SEL.data3].forEach((selector, i) => {
		m.write(TASK_AT + 72 + i * 4, 2, selector);
	});
}

describe("task switches", () => {
	test("CALL saves, nests and marks; IRET comes back", () => {
		const m = protectedMachine(0);
		fillTask(m);
		const { cpu } = m;
		m.write(GDT + SEL.tss + 5, 1, 0x8b);
		cpu.setGpr(L.RSI, 4, 0x5151);
		m.run(CALL, { displacement: SEL.task, immediate: 0 }, 7);
		expect([cpu.rip, cpu.gpr32(L.RAX), cpu.gpr32(L.RCX), cpu.gpr32(L.RSP)]).toEqual([
			0x4444n,
			0xaaaa,
			0xcccc,
			STACK0 - 0x200,
		]);
		expect(cpu.flags & L.NT).toBe(L.NT);
		expect([cpu.segmentSelector(L.TR), cpu.segmentSelector(L.GS)]).toEqual([SEL.task, SEL.data3]);
		expect(cpu.cr0 & 8).toBe(8);
		expect(m.ram.getUint16(TASK_AT, true)).toBe(SEL.tss);
		expect(m.ram.getUint8(GDT + SEL.task + 5)).toBe(0xeb);
		expect(m.ram.getUint8(GDT + SEL.tss + 5)).toBe(0x8b);
		expect([m.ram.getUint32(TSS_AT + 32, true), m.ram.getUint32(TSS_AT + 64, true)]).toEqual([0x7007, 0x5151]);
		// A second CALL to a busy task is refused.
		expect(m.faultOf(() => m.run(CALL, { displacement: SEL.task, immediate: 0 }))).toBe("13:70");
		m.run(IRET);
		expect([cpu.rip, cpu.gpr32(L.RSI), cpu.segmentSelector(L.TR), cpu.flags & L.NT]).toEqual([
			0x7007n,
			0x5151,
			SEL.tss,
			0,
		]);
		expect(m.ram.getUint8(GDT + SEL.task + 5)).toBe(0xe9);
		expect(m.ram.getUint32(TASK_AT + 36, true) & L.NT).toBe(0);
	});

	test("JMP through a task gate leaves the old task free", () => {
		const m = protectedMachine(3);
		fillTask(m);
		m.write(GDT + SEL.tss + 5, 1, 0x8b);
		m.run(JMP, { displacement: SEL.taskGate | 3, immediate: 0 });
		expect([m.cpu.cpl, m.cpu.rip]).toEqual([0, 0x4444n]);
		expect(m.ram.getUint8(GDT + SEL.tss + 5)).toBe(0x89);
		expect(m.cpu.flags & L.NT).toBe(0);
	});

	test("a bad selector in the new task is #TS there", () => {
		const m = protectedMachine(0);
		fillTask(m);
		m.write(TASK_AT + 80, 2, SEL.readOnlyData);
		let fault = "";
		try {
			m.run(JMP, { displacement: SEL.task, immediate: 0 });
		} catch {
			fault = `${m.cpu.fault.vector}:${m.cpu.fault.errorCode.toString(16)}`;
		}
		expect(fault).toBe("10:48");
		expect([m.cpu.rip, m.cpu.segmentSelector(L.TR)]).toEqual([0x4444n, SEL.task]);
	});

	test("a TSS that is too short is #TS in the old task", () => {
		const m = protectedMachine(0);
		m.descriptor(GDT + SEL.task, TASK_AT, 0x66, 0xe9);
		expect(m.faultOf(() => m.run(JMP, { displacement: SEL.task, immediate: 0 }))).toBe("10:70");
	});

	test("a 16-bit TSS", () => {
		const m = protectedMachine(0);
		m.descriptor(GDT + SEL.task, TASK_AT, 0x2b, 0x81);
		const words: Record<number, number> = { 14: 0x4444, 16: 2, 18: 0xaaaa, 26: 0x7f00, 34: SEL.data0, 36: SEL.code0 };
		for (const [at, value] of Object.entries(words)) m.write(TASK_AT + Number(at), 2, value);
		m.write(TASK_AT + 38, 2, SEL.data0);
		m.run(CALL, { displacement: SEL.task, immediate: 0 });
		expect([m.cpu.rip, m.cpu.gpr16(L.RAX), m.cpu.gpr16(L.RSP)]).toEqual([0x4444n, 0xaaaa, 0x7f00]);
		expect(m.cpu.segmentAttributes(L.DS) & 0x1_0000).not.toBe(0);
	});
});
