import { describe, expect, test } from "vitest";
import { ExitRequest } from "../../src/software/cpu/cpu.ts";
import * as L from "../../src/software/cpu/layout.ts";
import { longMachine, type Machine, protectedMachine, SEL, TSS_AT } from "./machine.ts";

const TO_CR = "0F 22 /r";
const FROM_CR = "0F 20 /r";

function setControl(m: Machine, n: number, value: bigint): string {
	m.cpu.setGpr(L.RBX, 8, value);
	return m.faultOf(() => m.run(TO_CR, { reg: n, rm: L.RBX }));
}

describe("MOV to CR0, CR3, CR4, CR8", () => {
	test.each([
		[0, 0x8000_0010n, "13:0"],
		[0, 0x2000_0011n, "13:0"],
		[0, 0x6000_0011n, "none"],
		[0, 0xffff_ffff_0000_0011n, "none"],
		[1, 0n, "6"],
		[5, 0n, "6"],
		[7, 0n, "6"],
		[4, 1n << 13n, "13:0"],
		[4, 1n, "13:0"],
		[4, 1n << 12n, "13:0"],
		[4, 1n << 17n, "13:0"],
		[4, (1n << 20n) | (1n << 21n) | (1n << 18n) | (1n << 9n), "none"],
		[8, 15n, "none"],
		[8, 16n, "13:0"],
	] as const)("CR%i = %s in protected mode: %s", (n, value, outcome) => {
		expect(setControl(protectedMachine(0), n, value)).toBe(outcome);
	});

	test("need CPL 0, but #UD of a register that is not there comes first", () => {
		const m = protectedMachine(3);
		expect(setControl(m, 0, 0x11n)).toBe("13:0");
		expect(setControl(m, 1, 0x11n)).toBe("6");
		expect(m.faultOf(() => m.run(FROM_CR, { reg: 0, rm: 0 }))).toBe("13:0");
	});

	test("ET is always set, bits that are not there stay clear", () => {
		const m = protectedMachine(0);
		setControl(m, 0, 0x1fc0_ff01n);
		m.run(FROM_CR, { reg: 0, rm: L.RCX });
		expect(m.cpu.gpr32(L.RCX)).toBe(0x11);
	});

	test("the way into long mode and out of it", () => {
		const m = protectedMachine(0);
		const { cpu } = m;
		setControl(m, 3, 0x1_0000n);
		cpu.setGpr(L.RCX, 4, 0xc000_0080);
		cpu.setGpr(L.RAX, 4, 0x900);
		cpu.setGpr(L.RDX, 4, 0);
		m.run("0F 30");
		expect(setControl(m, 0, 0x8000_0011n)).toBe("13:0");
		expect(setControl(m, 4, 0x20n)).toBe("none");
		expect(setControl(m, 0, 0x8000_0011n)).toBe("none");
		expect([cpu.longMode, cpu.code64]).toEqual([true, false]);
		m.run("0F 32");
		expect(cpu.gpr32(L.RAX)).toBe(0xd00);
		// Now neither PAE nor LME may go, and LMA cannot be written away.
		expect(setControl(m, 4, 0n)).toBe("13:0");
		cpu.setGpr(L.RAX, 4, 0);
		expect(m.faultOf(() => m.run("0F 30"))).toBe("13:0");
		expect(setControl(m, 0, 0x11n)).toBe("none");
		expect(cpu.longMode).toBe(false);
	});

	test("64-bit code cannot turn paging off, nor 64-bit code segments turn it on", () => {
		const m = longMachine(0);
		expect(setControl(m, 0, 0x11n)).toBe("13:0");
		expect(setControl(m, 0, 0x1_8000_0011n)).toBe("13:0");
		const other = protectedMachine(0);
		other.cpu.set64(L.EFER, 0x100n);
		other.cpu.set64(L.CR4, 0x20n);
		other.cpu.setSegment(L.CS, SEL.code64, 0x209b, 0, 0n);
		expect(setControl(other, 0, 0x8000_0011n)).toBe("13:0");
	});

	test("PCIDE wants long mode and an empty PCID; then bit 63 of CR3 is a hint", () => {
		const m = longMachine(0);
		m.cpu.set64(L.CR3, 0x1_0008n);
		expect(setControl(m, 4, 0x2_0020n)).toBe("13:0");
		expect(setControl(m, 3, 0x8000_0000_0001_0000n)).toBe("13:0");
		expect(setControl(m, 3, 0x1_0000n)).toBe("none");
		expect(setControl(m, 4, 0x2_0020n)).toBe("none");
		expect(setControl(m, 3, 0x8000_0000_0001_0000n)).toBe("none");
		expect(m.cpu.get64(L.CR3)).toBe(0x1_0000n);
		expect(setControl(m, 3, 1n << 40n)).toBe("13:0");
	});

	test("PAE paging loads its four pointers with CR3 and CR0.PG, and refuses reserved bits", () => {
		const m = protectedMachine(0);
		m.write(0x1_0000, 8, 0x2_0001);
		setControl(m, 3, 0x1_0000n);
		setControl(m, 4, 0x20n);
		expect(setControl(m, 0, 0x8000_0011n)).toBe("none");
		expect(m.cpu.get32(L.PDPTES)).toBe(0x2_0001);
		m.write(0x1_0020, 8, 0x3_0003);
		expect(setControl(m, 3, 0x1_0020n)).toBe("13:0");
		expect(m.cpu.get64(L.CR3)).toBe(0x1_0000n);
	});

	test("translations are dropped as far as they must", () => {
		const m = longMachine(0);
		m.flushes = [];
		setControl(m, 3, 0x1_0000n);
		setControl(m, 4, 0xa0n);
		setControl(m, 4, 0x2a0n);
		setControl(m, 0, 0x8001_0011n);
		expect(m.flushes).toEqual([true, false, false]);
	});
});

test("LMSW sets PE but cannot clear it", () => {
	const m = protectedMachine(0);
	m.cpu.setGpr(L.RAX, 4, 0xe);
	m.run("0F 01 /6");
	expect(m.cpu.cr0).toBe(0x1f);
	m.cpu.setGpr(L.RAX, 4, 0);
	m.run("0F 01 /6");
	expect(m.cpu.cr0).toBe(0x11);
	m.cpu.set64(L.CR0, 0x19n);
	m.run("0F 06");
	expect(m.cpu.cr0).toBe(0x11);
});

describe("debug registers", () => {
	const TO_DR = "0F 23 /r";
	const FROM_DR = "0F 21 /r";

	test("DR4 and DR5 stand for DR6 and DR7 until CR4.DE", () => {
		const m = protectedMachine(0);
		m.cpu.setGpr(L.RAX, 4, 0xffff_dfff);
		m.run(TO_DR, { reg: 5 });
		m.run(FROM_DR, { reg: 7, rm: L.RCX });
		expect(m.cpu.gpr32(L.RCX)).toBe(0xffff_07ff);
		m.cpu.set64(L.DR7, 0x400n);
		m.cpu.setGpr(L.RAX, 4, 0);
		m.run(TO_DR, { reg: 4 });
		m.run(FROM_DR, { reg: 6, rm: L.RCX });
		expect(m.cpu.gpr32(L.RCX)).toBe(0xffff_0ff0);
		m.cpu.set64(L.CR4, 8n);
		expect(m.faultOf(() => m.run(FROM_DR, { reg: 4 }))).toBe("6");
	});

	test("DR7.GD catches any access once", () => {
		const m = protectedMachine(0);
		m.cpu.set64(L.DR7, 0x2400n);
		expect(() => m.run(FROM_DR, { reg: 0 })).toThrow();
		expect([m.cpu.fault.vector, m.cpu.get32(L.DR6) & 0x2000, m.cpu.get32(L.DR7)]).toEqual([1, 0x2000, 0x400]);
		expect(m.faultOf(() => m.run(FROM_DR, { reg: 0 }))).toBe("none");
	});

	test("the upper halves of DR6 and DR7 must be zero", () => {
		const m = longMachine(0);
		m.cpu.setGpr(L.RAX, 8, 1n << 32n);
		expect(m.faultOf(() => m.run(TO_DR, { reg: 6 }))).toBe("13:0");
		expect(m.faultOf(() => m.run(TO_DR, { reg: 0 }))).toBe("none");
		expect(m.cpu.get64(L.DR)).toBe(1n << 32n);
	});
});

describe("INVLPG and INVPCID", () => {
	test("INVLPG drops the segment's linear address", () => {
		const m = protectedMachine(0);
		m.cpu.setSegment(L.DS, SEL.data0, 0xc093, 0xffff_ffff, 0x1_0000n);
		m.run("0F 01 /7 mod=m", { address: 0x2345 });
		expect(m.flushedPages).toEqual([0x1_2345n]);
	});

	test("INVPCID checks type, PCID and address", () => {
		const m = longMachine(0);
		const run = (type: number, pcid: bigint, linear: bigint): string => {
			m.cpu.setGpr(L.RAX, 8, type);
			m.write(0x6000, 8, pcid);
			m.write(0x6008, 8, linear);
			return m.faultOf(() => m.run("66 0F 38 82 /r", { reg: L.RAX, address: 0x6000 }));
		};
		expect(run(0, 0n, 0x5000n)).toBe("none");
		expect(m.flushedPages).toEqual([0x5000n]);
		expect(run(0, 1n, 0x5000n)).toBe("13:0");
		expect(run(1, 0x1000n, 0n)).toBe("13:0");
		expect(run(0, 0n, 1n << 50n)).toBe("13:0");
		expect(run(4, 0n, 0n)).toBe("13:0");
		m.flushes = [];
		expect([run(2, 0n, 0n), run(3, 0n, 0n)]).toEqual(["none", "none"]);
		expect(m.flushes).toEqual([false, true]);
	});
});

describe("IF, IOPL and RFLAGS", () => {
	test("CLI, STI by IOPL; STI opens a shadow only when IF was clear", () => {
		const m = protectedMachine(3);
		expect(m.faultOf(() => m.run("FA"))).toBe("13:0");
		m.cpu.flags = 0x3002;
		m.run("FB");
		expect([m.cpu.flags, m.cpu.get32(L.SHADOW)]).toEqual([0x3202, 1]);
		m.cpu.set32(L.SHADOW, 0);
		m.run("FB");
		expect(m.cpu.get32(L.SHADOW)).toBe(0);
	});

	test("POPF changes what the privilege allows", () => {
		for (const [cpl, iopl, expected] of [
			[0, 0, 0x24_7fd7],
			[3, 0, 0x24_4dd7],
			[3, 3, 0x24_7fd7],
		] as const) {
			const m = protectedMachine(cpl);
			m.cpu.flags = 2 | (iopl << 12);
			m.write(m.cpu.gpr32(L.RSP), 4, 0xffff_ffff);
			m.run("9D");
			expect(m.cpu.flags).toBe(expected);
		}
	});

	test("PUSHF shows neither VM nor RF", () => {
		const m = protectedMachine(0);
		m.cpu.flags = 0x202 | L.RF;
		m.run("9C");
		expect(m.ram.getUint32(m.cpu.gpr32(L.RSP), true)).toBe(0x202);
	});

	test("CLAC and STAC are undefined outside of CPL 0", () => {
		const m = protectedMachine(0);
		m.run("NP 0F 01 /1 mod=3 rm=3");
		expect(m.cpu.flags & L.AC).toBe(L.AC);
		m.run("NP 0F 01 /1 mod=3 rm=2");
		expect(m.cpu.flags & L.AC).toBe(0);
		const user = protectedMachine(3);
		expect(user.faultOf(() => user.run("NP 0F 01 /1 mod=3 rm=3"))).toBe("6");
	});
});

describe("ports", () => {
	test("the TSS's bitmap decides above IOPL, for every byte of the access", () => {
		const m = protectedMachine(3);
		m.write(TSS_AT + 0x68 + (0x3f8 >> 3), 2, 0xff10);
		const run = (port: number, size: 1 | 2 | 4): string => {
			m.cpu.setGpr(L.RDX, 4, port);
			return m.faultOf(() => m.run(size === 1 ? "EE" : "EF", { operandSize: size }));
		};
		expect([run(0x3f8, 4), run(0x3f9, 4), run(0x3fc, 1), run(0x3fd, 1), run(0x3fe, 4)]).toEqual([
			"none",
			"13:0",
			"13:0",
			"none",
			"13:0",
		]);
		m.cpu.setSegment(L.TR, SEL.tss, 0x8b, 0x68 + 0x7f, BigInt(TSS_AT));
		expect(run(0x3f8, 1)).toBe("13:0");
		m.cpu.flags = 0x3002;
		expect(run(0x3fc, 1)).toBe("none");
	});

	test("IN zero-extends 32 bits and keeps the rest of 8 and 16", () => {
		const m = longMachine(0);
		m.ports.input = () => 0x8765_4321;
		m.cpu.setGpr(L.RAX, 8, 0xffff_ffff_ffff_ffffn);
		m.run("E5", { immediate: 0x60, operandSize: 4 });
		expect(m.cpu.gpr(L.RAX)).toBe(0x8765_4321n);
		m.ports.input = () => 0x12;
		m.run("E4", { immediate: 0x60, operandSize: 1 });
		expect(m.cpu.gpr(L.RAX)).toBe(0x8765_4312n);
	});

	test("REP INSW stops where its page does, each element done", () => {
		const m = longMachine(0);
		// The second page of 2 MiB is not mapped.
		m.cpu.setGpr(L.RDI, 8, 0x1f_fffc);
		m.cpu.setGpr(L.RCX, 8, 5);
		m.cpu.setGpr(L.RDX, 4, 0x1f0);
		let reads = 0;
		m.ports.input = () => ++reads;
		expect(() => m.run("6D", { operandSize: 2, repeat: 0xf3 })).toThrow();
		expect([m.cpu.fault.vector, m.cpu.get64(L.CR2)]).toEqual([14, 0x20_0000n]);
		// The element that cannot be stored was not read from the device.
		expect([reads, m.cpu.gpr(L.RCX), m.cpu.gpr(L.RDI)]).toEqual([2, 3n, 0x20_0000n]);
	});

	test("REP OUTSB that must ask outside begins again at the same element", () => {
		const m = protectedMachine(0);
		"abc".split("").forEach((c, i) => {
			m.write(0x6000 + i, 1, c.charCodeAt(0));
		});
		m.cpu.setGpr(L.RSI, 4, 0x6000);
		m.cpu.setGpr(L.RCX, 4, 3);
		let served = 0;
		const exit = new ExitRequest();
		m.cpu.ports = {
			input: () => 0,
			output: (port, size, value) => {
				if (served++ % 2 === 0) throw exit;
				m.ports.written.push([port, size, value]);
			},
		};
		for (let i = 0; i < 3; i++) expect(() => m.run("6E", { operandSize: 1, repeat: 0xf3 })).toThrow(ExitRequest);
		m.run("6E", { operandSize: 1, repeat: 0xf3 });
		expect(m.ports.written.map(([, , value]) => String.fromCharCode(value)).join("")).toBe("abc");
		expect(m.cpu.gpr32(L.RCX)).toBe(0);
	});

	test("a long REP gives interrupts a chance, with RIP at itself", () => {
		const m = protectedMachine(0);
		m.cpu.setGpr(L.RCX, 4, 1000);
		m.cpu.setGpr(L.RDI, 4, 0x6000);
		const rip = m.cpu.rip;
		let rounds = 0;
		do {
			m.run("6C", { operandSize: 1, repeat: 0xf3 });
			rounds++;
		} while (m.cpu.rip === rip);
		expect([m.cpu.gpr32(L.RCX), m.cpu.gpr32(L.RDI)]).toEqual([0, 0x6000 + 1000]);
		expect(rounds).toBeGreaterThan(2);
	});
});
