import { describe, expect, test } from "vitest";
import * as L from "../../src/software/cpu/layout.ts";
import { GDT, longMachine, Machine, protectedMachine, SEL, STACK0 } from "./machine.ts";

const MOV = "8E /r";

describe("MOV to a segment register", () => {
	test.each([
		// segment, selector, CPL, outcome
		[L.DS, SEL.data0, 0, "none"],
		[L.DS, SEL.data0 | 3, 0, "13:10"],
		[L.DS, 0, 0, "none"],
		[L.DS, 3, 3, "none"],
		[L.DS, SEL.data0, 3, "13:10"],
		[L.DS, SEL.data3, 3, "none"],
		[L.DS, SEL.data3 | 3, 0, "none"],
		[L.DS, SEL.conforming0 | 3, 3, "none"],
		[L.DS, SEL.code0, 0, "none"],
		[L.DS, SEL.code0, 3, "13:8"],
		[L.DS, SEL.executeOnly, 0, "13:40"],
		[L.DS, SEL.readOnlyData, 0, "none"],
		[L.DS, SEL.notPresentData, 0, "11:50"],
		[L.DS, SEL.tss, 0, "13:28"],
		[L.DS, 0x100, 0, "13:100"],
		[L.DS, 0x0c, 0, "13:c"],
		[L.SS, SEL.data0, 0, "none"],
		[L.SS, SEL.data0 | 1, 0, "13:10"],
		[L.SS, SEL.data3 | 3, 0, "13:20"],
		[L.SS, SEL.data3 | 3, 3, "none"],
		[L.SS, SEL.readOnlyData, 0, "13:48"],
		[L.SS, SEL.code0, 0, "13:8"],
		[L.SS, SEL.notPresentData, 0, "12:50"],
		[L.SS, 0, 0, "13:0"],
		[L.CS, SEL.code0, 0, "6"],
		[6, SEL.data0, 0, "6"],
	] as const)("segment %i, selector %i at CPL %i: %s", (segment, selector, cpl, outcome) => {
		const m = protectedMachine(cpl);
		m.cpu.setGpr(L.RBX, 4, selector);
		expect(m.faultOf(() => m.run(MOV, { reg: segment, rm: L.RBX }))).toBe(outcome);
		if (outcome === "none") {
			expect(m.cpu.segmentSelector(segment)).toBe(selector);
			// Loaded descriptors become accessed in their table.
			if (selector > 3) expect(m.ram.getUint8(GDT + (selector & ~7) + 5) & 1).toBe(1);
			else expect(m.cpu.segmentAttributes(segment) & 0x1_0000).not.toBe(0);
		}
	});

	test("takes base and limit from the descriptor", () => {
		const m = protectedMachine();
		m.descriptor(GDT + 0xd0, 0x1234_5678, 0x9_abcd, 0x93);
		m.descriptor(GDT + 0xd8, 0xfedc_ba98, 0x9_abcd, 0x8093);
		m.cpu.setGpr(L.RAX, 4, 0xd0);
		m.run(MOV, { reg: L.ES, rm: L.RAX });
		expect(m.cpu.segmentBase(L.ES)).toBe(0x1234_5678n);
		expect(m.cpu.segmentLimit(L.ES)).toBe(0x9_abcd);
		m.cpu.setGpr(L.RAX, 4, 0xd8);
		m.run(MOV, { reg: L.GS, rm: L.RAX });
		expect(m.cpu.segmentBase(L.GS)).toBe(0xfedc_ba98n);
		expect(m.cpu.get64(L.SEG_BASE + L.GS * 8)).toBe(0xfedc_ba98n);
		expect(m.cpu.segmentLimit(L.GS)).toBe(0x9abc_dfff);
		expect(m.cpu.segmentAttributes(L.GS)).toBe(0x8093);
	});

	test("in 64-bit mode SS may be null below CPL 3, with RPL = CPL", () => {
		const m = longMachine(0);
		m.cpu.setGpr(L.RAX, 8, 0);
		expect(m.faultOf(() => m.run(MOV, { reg: L.SS, rm: L.RAX }))).toBe("none");
		m.cpu.setGpr(L.RAX, 8, 3);
		expect(m.faultOf(() => m.run(MOV, { reg: L.SS, rm: L.RAX }))).toBe("13:0");
		const user = longMachine(3);
		user.cpu.setGpr(L.RAX, 8, 3);
		expect(user.faultOf(() => user.run(MOV, { reg: L.SS, rm: L.RAX }))).toBe("13:0");
	});

	test("in real mode only base and selector change", () => {
		const m = new Machine();
		m.cpu.setSegment(L.ES, 0, 0x8093, 0xffff_ffff, 0n);
		m.cpu.setGpr(L.RAX, 2, 0xb800);
		m.run(MOV, { reg: L.ES, rm: L.RAX, operandSize: 2 });
		expect(m.cpu.segmentBase(L.ES)).toBe(0xb_8000n);
		expect(m.cpu.segmentLimit(L.ES)).toBe(0xffff_ffff);
	});

	test("SS holds interrupts off for one instruction", () => {
		const m = protectedMachine();
		m.cpu.setGpr(L.RAX, 4, SEL.data0);
		m.run(MOV, { reg: L.SS, rm: L.RAX });
		expect(m.cpu.get32(L.SHADOW)).not.toBe(0);
	});
});

describe("PUSH and POP of segment registers", () => {
	test("a 32-bit push writes two bytes of its slot", () => {
		const m = protectedMachine();
		m.write(STACK0 - 0x104, 4, 0xaaaa_aaaa);
		m.run("1E");
		expect(m.ram.getUint32(STACK0 - 0x104, true)).toBe(0xaaaa_0000 + SEL.data0);
		expect(m.cpu.gpr32(L.RSP)).toBe(STACK0 - 0x104);
	});

	test("POP leaves RSP alone when the load faults", () => {
		const m = protectedMachine();
		m.write(STACK0 - 0x100, 4, SEL.executeOnly);
		expect(m.faultOf(() => m.run("07"))).toBe("13:40");
	});

	test("LSS loads both halves", () => {
		const m = protectedMachine();
		m.write(0x6000, 4, 0x1_2345);
		m.write(0x6004, 2, SEL.data0);
		m.run("0F B2 /r mod=m", { reg: L.RSP, address: 0x6000 });
		expect(m.cpu.gpr32(L.RSP)).toBe(0x1_2345);
		expect(m.cpu.segmentSelector(L.SS)).toBe(SEL.data0);
	});
});

describe("LLDT and LTR", () => {
	test.each([
		["0F 00 /2", SEL.ldt, 0, "none"],
		["0F 00 /2", 0, 0, "none"],
		["0F 00 /2", SEL.data0, 0, "13:10"],
		["0F 00 /2", SEL.ldt | 4, 0, "13:5c"],
		["0F 00 /2", SEL.ldt, 3, "13:0"],
		["0F 00 /3", SEL.tss, 0, "none"],
		["0F 00 /3", 0, 0, "13:0"],
		["0F 00 /3", SEL.data0, 0, "13:10"],
		["0F 00 /3", SEL.task, 0, "none"],
	] as const)("%s of %i at CPL %i: %s", (opcode, selector, cpl, outcome) => {
		const m = protectedMachine(cpl);
		m.cpu.setGpr(L.RAX, 4, selector);
		expect(m.faultOf(() => m.run(opcode))).toBe(outcome);
	});

	test("LTR marks the TSS busy, so that a second LTR faults", () => {
		const m = protectedMachine();
		m.cpu.setGpr(L.RAX, 4, SEL.tss);
		m.run("0F 00 /3");
		expect(m.ram.getUint8(GDT + SEL.tss + 5)).toBe(0x8b);
		expect(m.faultOf(() => m.run("0F 00 /3"))).toBe("13:28");
	});

	test("in long mode the descriptor has 16 bytes", () => {
		const m = longMachine();
		m.descriptor(GDT + SEL.tss64, 0x3000, 0x67, 0x89);
		m.write(GDT + SEL.tss64 + 8, 8, 0xffff_8000);
		m.cpu.setGpr(L.RAX, 8, SEL.tss64);
		m.run("0F 00 /3");
		expect(m.cpu.segmentBase(L.TR)).toBe(0xffff_8000_0000_3000n);
		m.descriptor(GDT + SEL.tss64, 0x3000, 0x67, 0x89);
		m.write(GDT + SEL.tss64 + 8, 8, 0x1_0000);
		expect(m.faultOf(() => m.run("0F 00 /3"))).toBe("13:c0");
	});

	test("a selector into the LDT works once it is loaded", () => {
		const m = protectedMachine();
		m.cpu.setGpr(L.RAX, 4, SEL.ldt);
		m.run("0F 00 /2");
		m.descriptor(0x5008, 0x4444, 0xff, 0x93);
		m.cpu.setGpr(L.RAX, 4, 0x0c);
		m.run(MOV, { reg: L.FS, rm: L.RAX });
		expect(m.cpu.segmentBase(L.FS)).toBe(0x4444n);
		m.cpu.setGpr(L.RAX, 4, 0x1c);
		expect(m.faultOf(() => m.run(MOV, { reg: L.FS, rm: L.RAX }))).toBe("13:1c");
	});
});

describe("LAR, LSL, VERR, VERW, ARPL", () => {
	const zero = (m: Machine): boolean => (m.cpu.flags & L.ZF) !== 0;

	test.each([
		[SEL.code0, 0, 0x00cf_9a00],
		[SEL.data3 | 3, 3, 0x00cf_f200],
		[SEL.code0, 3, undefined],
		[SEL.conforming0 | 3, 3, 0x00cf_9e00],
		[SEL.tss, 0, 0x0000_8900],
		[SEL.gate, 3, 0x0000_ec00],
		[SEL.data0 | 3, 0, undefined],
		[0, 0, undefined],
		[0x200, 0, undefined],
	] as const)("LAR of %i at CPL %i", (selector, cpl, rights) => {
		const m = protectedMachine(cpl);
		m.cpu.setGpr(L.RAX, 4, selector);
		m.cpu.setGpr(L.RCX, 4, 0x5555_5555);
		m.run("0F 02 /r", { reg: L.RCX, rm: L.RAX });
		expect(zero(m)).toBe(rights !== undefined);
		expect(m.cpu.gpr32(L.RCX)).toBe(rights ?? 0x5555_5555);
	});

	test.each([
		[SEL.code0, 0xffff_ffff],
		[SEL.code16, 0xffff],
		[SEL.tss, 0x20ff],
		[SEL.gate, undefined],
	] as const)("LSL of %i", (selector, limit) => {
		const m = protectedMachine();
		m.cpu.setGpr(L.RAX, 4, selector);
		m.cpu.setGpr(L.RCX, 4, 7);
		m.run("0F 03 /r", { reg: L.RCX, rm: L.RAX });
		expect(zero(m)).toBe(limit !== undefined);
		expect(m.cpu.gpr32(L.RCX)).toBe(limit ?? 7);
	});

	test.each([
		[SEL.data0, true, true],
		[SEL.code0, true, false],
		[SEL.executeOnly, false, false],
		[SEL.readOnlyData, true, false],
		[SEL.tss, false, false],
	] as const)("VERR and VERW of %i", (selector, readable, writable) => {
		const m = protectedMachine();
		m.cpu.setGpr(L.RAX, 4, selector);
		m.run("0F 00 /4");
		expect(zero(m)).toBe(readable);
		m.run("0F 00 /5");
		expect(zero(m)).toBe(writable);
	});

	test("ARPL raises the RPL to the source's", () => {
		const m = protectedMachine();
		m.cpu.setGpr(L.RAX, 4, 0x10);
		m.cpu.setGpr(L.RCX, 4, 0x1b);
		m.run("63 /r", { reg: L.RCX, rm: L.RAX });
		expect(m.cpu.gpr32(L.RAX)).toBe(0x13);
		expect(zero(m)).toBe(true);
		m.run("63 /r", { reg: L.RCX, rm: L.RAX });
		expect(zero(m)).toBe(false);
	});

	test("all of them are undefined in real mode", () => {
		const m = new Machine();
		for (const opcode of ["0F 00 /0", "0F 00 /2", "0F 00 /4", "0F 02 /r", "0F 03 /r", "63 /r"]) {
			expect(m.faultOf(() => m.run(opcode))).toBe("6");
		}
	});
});

test("UMIP keeps CPL 3 from SGDT, SIDT, SLDT, STR and SMSW", () => {
	const m = protectedMachine(3);
	for (const opcode of ["0F 01 /0 mod=m", "0F 01 /1 mod=m"]) m.run(opcode, { address: 0x6000 });
	expect(m.ram.getUint16(0x6000, true)).toBe(0x7ff);
	m.cpu.set64(L.CR4, 1n << 11n);
	for (const opcode of ["0F 01 /0 mod=m", "0F 01 /1 mod=m"]) {
		expect(m.faultOf(() => m.run(opcode, { address: 0x6000 }))).toBe("13:0");
	}
	for (const opcode of ["0F 00 /0", "0F 00 /1", "0F 01 /4"]) expect(m.faultOf(() => m.run(opcode))).toBe("13:0");
});

test("LGDT takes 24 bits of base with a 16-bit operand, 64 in 64-bit mode", () => {
	const m = protectedMachine();
	m.write(0x6000, 2, 0x1f);
	m.write(0x6002, 8, 0xffff_8000_1234_5678n);
	m.run("0F 01 /2 mod=m", { address: 0x6000, operandSize: 2 });
	expect(m.cpu.get64(L.GDTR_BASE)).toBe(0x34_5678n);
	m.run("0F 01 /2 mod=m", { address: 0x6000 });
	expect(m.cpu.get64(L.GDTR_BASE)).toBe(0x1234_5678n);
	const long = longMachine();
	long.write(0x6000, 2, 0x1f);
	long.write(0x6002, 8, 0xffff_8000_1234_5678n);
	long.run("0F 01 /3 mod=m", { address: 0x6000 });
	expect(long.cpu.get64(L.IDTR_BASE)).toBe(0xffff_8000_1234_5678n);
	long.write(0x6002, 8, 0x8000_0000_0000n);
	expect(long.faultOf(() => long.run("0F 01 /3 mod=m", { address: 0x6000 }))).toBe("13:0");
});

test("ENTER copies the frame pointers of the outer levels", () => {
	const m = protectedMachine();
	const { cpu } = m;
	cpu.setGpr(L.RBP, 4, 0x7f00);
	m.write(0x7efc, 4, 0x1111);
	m.write(0x7ef8, 4, 0x2222);
	cpu.setGpr(L.RSP, 4, 0x7e00);
	m.run("C8", { immediate: 0x20, displacement: 3 });
	expect(cpu.gpr32(L.RBP)).toBe(0x7dfc);
	expect(cpu.gpr32(L.RSP)).toBe(0x7dfc - 12 - 0x20);
	expect([0x7dfc, 0x7df8, 0x7df4, 0x7df0].map((at) => m.ram.getUint32(at, true))).toEqual([
		0x7f00, 0x1111, 0x2222, 0x7dfc,
	]);
});

test("BOUND raises #BR outside of its bounds, signed", () => {
	const m = protectedMachine();
	m.ram.setInt32(0x6000, -5, true);
	m.ram.setInt32(0x6004, 5, true);
	for (const [index, outcome] of [
		[-5, "none"],
		[5, "none"],
		[-6, "5"],
		[6, "5"],
	] as const) {
		m.cpu.setGpr(L.RAX, 4, index >>> 0);
		expect(m.faultOf(() => m.run("62 /r mod=m", { reg: L.RAX, address: 0x6000 }))).toBe(outcome);
	}
});
