import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CpuidTable, defaultCpuid } from "../../src/software/cpu/cpuid.ts";
import { breakpoints, matchData, matchExecution } from "../../src/software/cpu/debug.ts";
import { timeScale } from "../../src/software/cpu/kvm-clock.ts";
import * as L from "../../src/software/cpu/layout.ts";
import { msrIndexList, readMsr, writeMsr } from "../../src/software/cpu/msr.ts";
import {
	getDebugRegs,
	getFpu,
	getMpState,
	getRegs,
	getSregs,
	getVcpuEvents,
	getXsave,
	setDebugRegs,
	setFpu,
	setMpState,
	setRegs,
	setSregs,
	setVcpuEvents,
	setXsave,
} from "../../src/software/cpu/registers.ts";
import { init, startUp } from "../../src/software/cpu/reset.ts";
import { longMachine, Machine, protectedMachine, SEL, STACK3, TSC_KHZ } from "./machine.ts";

describe("CPUID", () => {
	test("names and limits", () => {
		const m = protectedMachine(3);
		const ask = (eax: number, ecx = 0): number[] => {
			m.cpu.setGpr(L.RAX, 4, eax);
			m.cpu.setGpr(L.RCX, 4, ecx);
			m.run("0F A2");
			return [L.RAX, L.RBX, L.RCX, L.RDX].map((n) => m.cpu.gpr32(n));
		};
		const text = (words: number[]): string => new TextDecoder().decode(new Uint8Array(new Uint32Array(words).buffer));
		const [highest, ebx, ecx, edx] = ask(0) as [number, number, number, number];
		expect([highest, text([ebx, edx, ecx])]).toEqual([0x16, "GenuineIntel"]);
		const [, b, c, d] = ask(0x4000_0000) as [number, number, number, number];
		expect(text([b, c, d])).toBe("KVMKVMKVM\0\0\0");
		const brand = [2, 3, 4].flatMap((n) => ask(0x8000_0000 + n));
		expect(text(brand).replace(/\0+$/, "")).toBe("ring0 software x86-64");
		expect(ask(0x4000_0010)[0]).toBe(TSC_KHZ);
		// 15H: crystal * EBX / EAX is the TSC's rate.
		const [denominator, numerator, crystal] = ask(0x15) as [number, number, number, number];
		expect((crystal * numerator) / denominator).toBe(TSC_KHZ * 1000);
		// Beyond the last basic leaf Intel's parts repeat it; elsewhere there is nothing.
		expect(ask(0x20)).toEqual(ask(0x16));
		expect(ask(0x8000_0020)).toEqual([0, 0, 0, 0]);
	});

	test("OSXSAVE follows CR4, APIC follows its base register", () => {
		const m = protectedMachine(0);
		const one = (): [number, number] => {
			m.cpu.setGpr(L.RAX, 4, 1);
			m.run("0F A2");
			return [(m.cpu.gpr32(L.RCX) >>> 27) & 1, (m.cpu.gpr32(L.RDX) >>> 9) & 1];
		};
		expect(one()).toEqual([0, 1]);
		m.cpu.set64(L.CR4, 1n << 18n);
		expect(writeMsr(m.cpu, 0x1b, 0xfee0_0000n)).toBe(true);
		expect(one()).toEqual([1, 0]);
	});

	test("what a table hides is not there: CR4 bits, EFER bits, instructions, MSRs", () => {
		const entries = defaultCpuid({ tscKhz: TSC_KHZ }).map((entry) =>
			entry.function === 7
				? { ...entry, ebx: 0, ecx: 0, edx: 0 }
				: entry.function === 0x8000_0001
					? { ...entry, edx: 0 }
					: entry,
		);
		const m = protectedMachine(0);
		m.cpu.cpuid = new CpuidTable(entries);
		expect(m.cpu.cpuid.cr4 & ((1 << 20) | (1 << 21) | (1 << 16) | (1 << 11))).toBe(0);
		expect(m.cpu.cpuid.efer).toBe(0);
		expect(m.faultOf(() => m.run("NP 0F C7 /7 mod=3"))).toBe("6");
		expect(m.faultOf(() => m.run("0F 01 /7 mod=3 rm=1"))).toBe("6");
		expect(readMsr(m.cpu, 0x10a)).toBeUndefined();
	});
});

describe("MSRs", () => {
	test.each([
		[0x277, 0x0007_0406_0007_0406n, true],
		[0x277, 0x0000_0000_0000_0002n, false],
		[0x2ff, 0xc06n, true],
		[0x2ff, 0x1000n, false],
		[0x200, 6n, true],
		[0x200, 2n, false],
		[0x201, 1n << 40n, false],
		[0x250, 0x0606_0606_0606_0606n, true],
		[0x250, 0x0303n, false],
		[0xfe, 0n, false],
		[0xc000_0082, 0xffff_8000_0000_0000n, true],
		[0xc000_0082, 0x8000_0000_0000n, false],
		[0xc000_0103, 1n << 32n, false],
		[0xc000_0080, 0x1000n, false],
		[0xc000_0080, 0xd01n, true],
		[0x176, 1n << 60n, false],
		[0x48, 8n, false],
		[0x49, 1n, true],
		[0x401, 1n, false],
		[0x17b, 1n, false],
		[0x1234_5678, 0n, false],
		[0x4b56_4d02, 0n, false],
		[0x1b, 0xfee0_0c00n, true],
		[0x1b, 0xfee0_0400n, false],
		[0x1b, 0xfee0_0801n, false],
	] as const)("WRMSR %i = %s: %s", (index, value, taken) => {
		const m = protectedMachine(0);
		expect(writeMsr(m.cpu, index, value)).toBe(taken);
	});

	test("RDMSR and WRMSR need CPL 0 and a register that is there", () => {
		const m = protectedMachine(0);
		m.cpu.setGpr(L.RCX, 4, 0x9999);
		expect([m.faultOf(() => m.run("0F 32")), m.faultOf(() => m.run("0F 30"))]).toEqual(["13:0", "13:0"]);
		const user = protectedMachine(3);
		user.cpu.setGpr(L.RCX, 4, 0x10);
		expect(user.faultOf(() => user.run("0F 32"))).toBe("13:0");
	});

	test("every listed register can be read and written back", () => {
		const m = protectedMachine(0);
		for (const index of msrIndexList()) {
			if (index === 0x6e0) continue;
			const value = readMsr(m.cpu, index);
			expect(value, index.toString(16)).toBeDefined();
			expect(writeMsr(m.cpu, index, value!, true), index.toString(16)).toBe(true);
		}
	});

	test("TSC and TSC_ADJUST move each other", () => {
		const m = protectedMachine(0);
		writeMsr(m.cpu, 0x10, 5000n);
		expect([m.tsc, readMsr(m.cpu, 0x3b)]).toEqual([5000n, 4000n]);
		writeMsr(m.cpu, 0x3b, 4500n);
		expect(m.tsc).toBe(5500n);
		writeMsr(m.cpu, 0x3b, 0n, true);
		expect(m.tsc).toBe(5500n);
	});

	test("RDTSC under CR4.TSD, RDTSCP with TSC_AUX", () => {
		const m = protectedMachine(3);
		m.tsc = 0x1_2345_6789n;
		writeMsr(m.cpu, 0xc000_0103, 7n);
		m.run("0F 01 /7 mod=3 rm=1");
		expect([L.RAX, L.RDX, L.RCX].map((n) => m.cpu.gpr32(n))).toEqual([0x2345_6789, 1, 7]);
		m.cpu.set64(L.CR4, 4n);
		expect(m.faultOf(() => m.run("0F 31"))).toBe("13:0");
	});
});

describe("kvm-clock", () => {
	test("the scale is exact to 2^-31", () => {
		fc.assert(
			fc.property(fc.integer({ min: 1000, max: 10_000_000 }), fc.bigInt({ min: 0n, max: 1n << 50n }), (khz, ticks) => {
				const { multiplier, shift } = timeScale(khz);
				expect(multiplier).toBeGreaterThanOrEqual(0x8000_0000);
				const shifted = shift >= 0 ? ticks << BigInt(shift) : ticks >> BigInt(-shift);
				const nanoseconds = (shifted * BigInt(multiplier)) >> 32n;
				const exact = (ticks * 1_000_000n) / BigInt(khz);
				const error = nanoseconds > exact ? nanoseconds - exact : exact - nanoseconds;
				expect(error).toBeLessThanOrEqual((exact >> 30n) + 2000n);
			}),
			{ seed: 1 },
		);
	});

	test("the MSRs write their pages", () => {
		const m = protectedMachine(0);
		writeMsr(m.cpu, 0x4b56_4d01, 0x6001n);
		expect([
			m.ram.getUint32(0x6000, true) & 1,
			m.ram.getBigUint64(0x6008, true),
			m.ram.getBigUint64(0x6010, true),
		]).toEqual([0, 1000n, 5_000_000_000n]);
		expect([m.ram.getInt8(0x601c), m.ram.getUint8(0x601d)]).toEqual([0, 1]);
		expect(m.ram.getUint32(0x6018, true)).toBe(0x8000_0000);
		const version = m.ram.getUint32(0x6000, true);
		writeMsr(m.cpu, 0x10, 77n);
		expect([m.ram.getUint32(0x6000, true), m.ram.getBigUint64(0x6008, true)]).toEqual([version + 2, 77n]);
		writeMsr(m.cpu, 0x4b56_4d00, 0x6100n);
		expect([m.ram.getUint32(0x6104, true), m.ram.getUint32(0x6108, true)]).toEqual([1_700_000_000, 123_456_789]);
	});
});

describe("fast system calls", () => {
	function ready(cpl: 0 | 3): Machine {
		const m = longMachine(cpl);
		writeMsr(m.cpu, 0xc000_0081, (0x23n << 48n) | (0x10n << 32n));
		writeMsr(m.cpu, 0xc000_0082, 0xffff_8000_0000_1000n);
		writeMsr(m.cpu, 0xc000_0084, 0x4_7700n);
		return m;
	}

	test("SYSCALL and SYSRET", () => {
		const m = ready(3);
		const { cpu } = m;
		cpu.flags = 0x4_0246 | L.RF;
		m.run("0F 05");
		expect([cpu.rip, cpu.gpr(L.RCX), cpu.gpr(11), cpu.flags]).toEqual([
			0xffff_8000_0000_1000n,
			0x7002n,
			0x4_0246n,
			0x46,
		]);
		expect([cpu.segmentSelector(L.CS), cpu.segmentSelector(L.SS), cpu.cpl, cpu.code64]).toEqual([0x10, 0x18, 0, true]);
		cpu.setGpr(11, 8, 0xffff_ffff_ffff_ffffn);
		m.run("0F 07", { operandSize: 8 });
		expect([cpu.rip, cpu.flags, cpu.segmentSelector(L.CS), cpu.segmentSelector(L.SS), cpu.cpl]).toEqual([
			0x7002n,
			0x3c_7fd7,
			0x33,
			0x2b,
			3,
		]);
		expect(cpu.code64).toBe(true);
	});

	test("SYSRET to 32-bit code; a return address that is not canonical faults at CPL 0", () => {
		const m = ready(0);
		m.cpu.setGpr(L.RCX, 8, 0x1_2345_6789n);
		m.cpu.setGpr(11, 8, 0x202n);
		m.run("0F 07", { operandSize: 4 });
		expect([m.cpu.rip, m.cpu.segmentSelector(L.CS), m.cpu.code64]).toEqual([0x2345_6789n, 0x23, false]);
		// From there SYSCALL goes where CSTAR says.
		writeMsr(m.cpu, 0xc000_0083, 0x4444n);
		m.run("0F 05", { operandSize: 4 });
		expect([m.cpu.rip, m.cpu.code64]).toEqual([0x4444n, true]);
		const again = ready(0);
		again.cpu.setGpr(L.RCX, 8, 1n << 47n);
		expect(again.faultOf(() => again.run("0F 07", { operandSize: 8 }))).toBe("13:0");
		again.cpu.set64(L.EFER, 0xd00n);
		expect(again.faultOf(() => again.run("0F 05"))).toBe("6");
	});

	test("SYSENTER and SYSEXIT", () => {
		const m = protectedMachine(3);
		expect(m.faultOf(() => m.run("0F 34"))).toBe("13:0");
		writeMsr(m.cpu, 0x174, BigInt(SEL.code0));
		writeMsr(m.cpu, 0x175, 0x5555n);
		writeMsr(m.cpu, 0x176, 0x6666n);
		m.cpu.flags = 0x202;
		m.run("0F 34");
		expect([m.cpu.rip, m.cpu.gpr32(L.RSP), m.cpu.cpl, m.cpu.flags]).toEqual([0x6666n, 0x5555, 0, 2]);
		m.cpu.setGpr(L.RDX, 4, 0x1000);
		m.cpu.setGpr(L.RCX, 4, STACK3);
		m.run("0F 35");
		expect([m.cpu.rip, m.cpu.gpr32(L.RSP), m.cpu.segmentSelector(L.CS), m.cpu.segmentSelector(L.SS)]).toEqual([
			0x1000n,
			STACK3,
			SEL.code3 | 3,
			SEL.data3 | 3,
		]);
	});

	test("SWAPGS, WRGSBASE", () => {
		const m = longMachine(0);
		writeMsr(m.cpu, 0xc000_0101, 0x1111n);
		writeMsr(m.cpu, 0xc000_0102, 0x2222n);
		m.run("0F 01 /7 mod=3 rm=0");
		expect([readMsr(m.cpu, 0xc000_0101), readMsr(m.cpu, 0xc000_0102), m.cpu.get64(L.SEG_BASE + 40)]).toEqual([
			0x2222n,
			0x1111n,
			0x2222n,
		]);
		expect(m.faultOf(() => m.run("F3 0F AE /3 mod=3"))).toBe("6");
		m.cpu.set64(L.CR4, 0x1_0020n);
		m.cpu.setGpr(L.RAX, 8, 1n << 47n);
		expect(m.faultOf(() => m.run("F3 0F AE /3 mod=3"))).toBe("13:0");
		m.run("F3 0F AE /3 mod=3", { operandSize: 4 });
		expect(m.cpu.segmentBase(L.GS)).toBe(0n);
	});
});

describe("FXSAVE and XSAVE", () => {
	function filled(): Machine {
		const m = longMachine(0);
		const { cpu } = m;
		cpu.set64(L.CR4, 0x4_0620n);
		cpu.set64(L.XCR0, 3n);
		for (let i = 0; i < 8; i++) for (let k = 0; k < 10; k++) cpu.u8[L.X87 + i * 16 + k] = i * 16 + k;
		for (let i = 0; i < 256; i++) cpu.u8[L.XMM + i] = i ^ 0x5a;
		cpu.set32(L.FTOP, 5);
		cpu.set32(L.FSW, 0x41);
		cpu.set32(L.FTAG, 0xe0);
		cpu.set32(L.MXCSR, 0x1fa0);
		cpu.set64(L.FIP, 0xffff_8000_1234_5678n);
		return m;
	}
	const state = (m: Machine): Uint8Array => m.cpu.u8.slice(L.XMM, L.FDS + 4);
	const wipe = (m: Machine): void => {
		m.cpu.u8.fill(0x11, L.XMM, L.FDS + 4);
		m.cpu.set32(L.FTOP, 1);
	};

	test("FXSAVE64's image is the SDM's, and FXRSTOR64 takes it back", () => {
		const m = filled();
		const before = state(m);
		m.run("NP 0F AE /0 mod=m", { address: 0x6000, operandSize: 8 });
		expect(m.ram.getUint16(0x6002, true)).toBe(0x41 | (5 << 11));
		// ST(0) is physical register 5.
		expect(m.ram.getUint8(0x6020)).toBe(0x50);
		expect([m.ram.getUint8(0x6004), m.ram.getUint32(0x6018, true), m.ram.getUint32(0x601c, true)]).toEqual([
			0xe0, 0x1fa0, 0xffff,
		]);
		wipe(m);
		m.run("NP 0F AE /1 mod=m", { address: 0x6000, operandSize: 8 });
		expect(state(m)).toEqual(before);
	});

	test("alignment, CR0.TS and MXCSR's reserved bits are checked", () => {
		const m = filled();
		expect(m.faultOf(() => m.run("NP 0F AE /0 mod=m", { address: 0x6008 }))).toBe("13:0");
		expect(m.faultOf(() => m.run("NP 0F AE /4 mod=m", { address: 0x6010 }))).toBe("13:0");
		m.write(0x6018, 4, 0x1_0000);
		expect(m.faultOf(() => m.run("NP 0F AE /1 mod=m", { address: 0x6000 }))).toBe("13:0");
		m.cpu.set64(L.CR0, m.cpu.get64(L.CR0) | 8n);
		expect(m.faultOf(() => m.run("NP 0F AE /0 mod=m", { address: 0x6000 }))).toBe("7");
		m.cpu.set64(L.CR4, 0x20n);
		expect(m.faultOf(() => m.run("NP 0F AE /4 mod=m", { address: 0x6000 }))).toBe("6");
	});

	test.each(["NP 0F AE /4 mod=m", "NP 0F AE /6 mod=m", "NP 0F C7 /4 mod=m"])("%s and XRSTOR", (opcode) => {
		const m = filled();
		const before = state(m);
		m.cpu.setGpr(L.RAX, 4, 7);
		m.run(opcode, { address: 0x6000, operandSize: 8 });
		expect(m.ram.getUint32(0x6200, true)).toBe(3);
		wipe(m);
		m.run("NP 0F AE /5 mod=m", { address: 0x6000, operandSize: 8 });
		expect(state(m)).toEqual(before);
	});

	test("XRSTOR initialises what the header leaves out; XSAVEOPT does not write what is initial", () => {
		const m = filled();
		m.cpu.setGpr(L.RAX, 4, 3);
		m.write(0x6018, 4, 0x1f80);
		m.run("NP 0F AE /5 mod=m", { address: 0x6000, operandSize: 8 });
		expect([m.cpu.get32(L.FCW), m.cpu.get32(L.FTAG), m.cpu.get32(L.XMM), m.cpu.get32(L.MXCSR)]).toEqual([
			0x37f, 0, 0, 0x1f80,
		]);
		m.write(0x60a0, 4, 0x7777);
		m.run("NP 0F AE /6 mod=m", { address: 0x6000, operandSize: 8 });
		expect([m.ram.getUint32(0x60a0, true), m.ram.getUint32(0x6200, true)]).toEqual([0x7777, 0]);
	});

	test("XRSTOR refuses impossible headers", () => {
		for (const [at, value] of [
			[0x6200, 4n],
			[0x6208, 1n],
			[0x6208, 1n << 62n],
			[0x6210, 1n],
			[0x6208, (1n << 63n) | 4n],
		] as const) {
			const m = filled();
			m.cpu.setGpr(L.RAX, 4, 3);
			m.write(0x6018, 4, 0x1f80);
			m.write(at, 8, value);
			expect(m.faultOf(() => m.run("NP 0F AE /5 mod=m", { address: 0x6000 }))).toBe("13:0");
		}
	});

	test("XSETBV wants x87, and nothing that is not there", () => {
		const m = filled();
		const set = (index: number, value: number): string => {
			m.cpu.setGpr(L.RCX, 4, index);
			m.cpu.setGpr(L.RAX, 4, value);
			m.cpu.setGpr(L.RDX, 4, 0);
			return m.faultOf(() => m.run("NP 0F 01 /2 mod=3 rm=1"));
		};
		expect([set(0, 2), set(0, 7), set(1, 1), set(0, 1), set(0, 3)]).toEqual(["13:0", "13:0", "13:0", "none", "none"]);
	});
});

describe("the state as KVM's structures", () => {
	test("power-on and SIPI", () => {
		const m = new Machine();
		const sregs = getSregs(m.cpu);
		expect([sregs.cs.base, sregs.cs.selector, sregs.cr0, sregs.idt.limit]).toEqual([
			0xffff_0000n,
			0xf000,
			0x6000_0010n,
			0xffff,
		]);
		expect(getRegs(m.cpu, m.cpu.rip)).toMatchObject({ rip: 0xfff0n, rflags: 2n, rdx: 0x8_06f4n });
		init(m.cpu, false);
		expect(getMpState(m.cpu)).toBe("uninitialized");
		startUp(m.cpu, 0x9a);
		expect([getSregs(m.cpu).cs.base, m.cpu.rip, getMpState(m.cpu)]).toEqual([0x9_a000n, 0n, "runnable"]);
	});

	test("what is read can be set on another vCPU", () => {
		const a = longMachine(3);
		a.cpu.u8.set(
			Uint8Array.from({ length: 256 }, (_, i) => i),
			L.XMM,
		);
		a.cpu.set32(L.FTOP, 3);
		a.cpu.setGpr(9, 8, 0x1234_5678_9abc_def0n);
		const b = new Machine();
		expect(setSregs(b.cpu, getSregs(a.cpu))).toBe(true);
		setRegs(b.cpu, getRegs(a.cpu, 0x7000n));
		setFpu(b.cpu, getFpu(a.cpu));
		expect(getSregs(b.cpu)).toEqual(getSregs(a.cpu));
		expect(getRegs(b.cpu, 0n)).toEqual(getRegs(a.cpu, 0n));
		expect(getFpu(b.cpu)).toEqual(getFpu(a.cpu));
		expect(b.cpu.cpl).toBe(3);
		const c = new Machine();
		expect(setXsave(c.cpu, getXsave(a.cpu))).toBe(true);
		expect(getFpu(c.cpu)).toEqual(getFpu(a.cpu));
		const bad = getXsave(a.cpu);
		bad[512] = 4;
		expect(setXsave(c.cpu, bad)).toBe(false);
	});

	test("impossible control registers are refused", () => {
		const m = new Machine();
		const sregs = getSregs(m.cpu);
		expect(setSregs(m.cpu, { ...sregs, cr0: 0x8000_0010n })).toBe(false);
		expect(setSregs(m.cpu, { ...sregs, cr4: 1n << 50n })).toBe(false);
		expect(setSregs(m.cpu, { ...sregs, cr0: 0x8000_0011n, efer: 0x500n })).toBe(false);
		expect(setSregs(m.cpu, { ...sregs, cr0: 0x8000_0011n, cr4: 0x20n, efer: 0x500n })).toBe(true);
	});

	test("events, debug registers, MP state", () => {
		const m = new Machine();
		const events = {
			exception: { injected: true, pending: false, nr: 14, hasErrorCode: true, errorCode: 6 },
			interrupt: { injected: true, nr: 0x21, soft: false, shadow: "mov-ss" as const },
			nmi: { injected: false, pending: true, masked: true },
			sipiVector: 0x9a,
		};
		setVcpuEvents(m.cpu, events);
		expect(getVcpuEvents(m.cpu)).toEqual(events);
		expect(getSregs(m.cpu).interruptBitmap).toEqual([1n << 33n, 0n, 0n, 0n]);
		const debug = { db: [1n, 2n, 3n, 4n] as [bigint, bigint, bigint, bigint], dr6: 0xffff_0ff0n, dr7: 0x401n };
		expect(setDebugRegs(m.cpu, debug)).toBe(true);
		expect(getDebugRegs(m.cpu)).toEqual(debug);
		expect(setDebugRegs(m.cpu, { ...debug, dr7: 1n << 32n })).toBe(false);
		setMpState(m.cpu, "halted");
		expect(getMpState(m.cpu)).toBe("halted");
	});
});

test("breakpoints match by kind, length and alignment", () => {
	const m = protectedMachine(0);
	m.cpu.set64(L.DR, 0x1003n);
	m.cpu.set64(L.DR + 8, 0x2000n);
	m.cpu.set64(L.DR + 16, 0x3000n);
	// 0: 4-byte write; 1: execution; 2: 1-byte access, disabled.
	m.cpu.set64(L.DR7, 0x400n | 0b0101n | (0b1101n << 16n) | (0b0011n << 24n));
	expect(breakpoints(m.cpu).map(({ kind, address, length }) => [kind, address, length])).toEqual([
		["write", 0x1000n, 4],
		["execute", 0x2000n, 1],
	]);
	expect([
		matchData(m.cpu, 0x1003n, 1, true),
		matchData(m.cpu, 0x1003n, 1, false),
		matchData(m.cpu, 0x0ffcn, 4, true),
	]).toEqual([1, 0, 0]);
	expect(matchData(m.cpu, 0x0ffdn, 4, true)).toBe(1);
	expect(matchExecution(m.cpu, 0x2000n)).toBe(2);
	m.cpu.flags = 2 | L.RF;
	expect(matchExecution(m.cpu, 0x2000n)).toBe(0);
});

test("HLT is privileged, hypercalls answer as KVM's, RDRAND sets CF alone", () => {
	const m = protectedMachine(0);
	m.run("F4");
	expect(m.halted).toBe(true);
	m.cpu.setGpr(L.RAX, 4, 99);
	m.run("NP 0F 01 /0 mod=3 rm=1");
	expect(m.cpu.gpr32(L.RAX)).toBe(0xffff_ffff - 999);
	m.cpu.flags = 2 | L.OF | L.ZF;
	m.run("NP 0F C7 /6 mod=3", { rm: L.RDX });
	expect([m.cpu.gpr32(L.RDX), m.cpu.flags]).toEqual([0x89ab_cdef, 3]);
	const user = protectedMachine(3);
	expect(user.faultOf(() => user.run("F4"))).toBe("13:0");
});

/** The manual's examples and corners: AX and flags before, instruction, AX and flags after (of CF, AF, SF, ZF, PF). */
test.each([
	["27", 0x79 + 0x35, 0, 0x14, L.CF | L.AF | L.PF],
	["27", 0x2e, 0, 0x34, L.AF],
	["27", 0x9a, 0, 0x00, L.CF | L.AF | L.ZF | L.PF],
	["2F", 0x35 - 0x47 + 0x100, L.CF | L.AF, 0x88, L.CF | L.AF | L.SF | L.PF],
	["2F", 0x03, L.AF, 0xfd, L.CF | L.AF | L.SF],
	["37", 0x000b, 0, 0x0101, L.CF | L.AF],
	["37", 0x0005, 0, 0x0005, 0],
	["3F", 0x010c, 0, 0x0006, L.CF | L.AF],
	["D4", 0x00ff, 0, 0x1905, L.PF],
	["D5", 0x1905, 0, 0x00ff, L.SF | L.PF],
	["D6", 0x1200, L.CF, 0x12ff, L.CF],
] as const)("%s of AX = %i, flags %i", (opcode, ax, flags, result, resultFlags) => {
	const m = new Machine();
	m.cpu.setGpr(L.RAX, 2, ax);
	m.cpu.flags = 2 | flags;
	m.run(opcode, { immediate: 10, operandSize: 2 });
	expect(m.cpu.gpr16(L.RAX)).toBe(result);
	const compared = opcode === "37" || opcode === "3F" ? L.CF | L.AF : L.CF | L.AF | L.SF | L.ZF | L.PF;
	expect(m.cpu.flags & compared).toBe(resultFlags);
	if (opcode === "D4") expect(m.faultOf(() => m.run(opcode, { immediate: 0 }))).toBe("0");
});

test("the hypercall that sends interrupts takes a bitmap of APIC ids", () => {
	const m = longMachine(0);
	const call = (low: bigint, high: bigint, first: number, command: number): bigint => {
		m.cpu.setGpr(L.RAX, 8, 10);
		m.cpu.setGpr(L.RBX, 8, low);
		m.cpu.setGpr(L.RCX, 8, high);
		m.cpu.setGpr(L.RDX, 8, first);
		m.cpu.setGpr(L.RSI, 8, command);
		m.run("NP 0F 01 /0 mod=3 rm=1");
		return BigInt.asIntN(64, m.cpu.gpr(L.RAX));
	};
	expect(call(1n, 0n, 0, 0xfd)).toBe(-1000n);
	const sent: [number, number][] = [];
	m.cpu.apic = {
		sendIpi: (id, command) => id < 70 && sent.push([id, command]) > 0,
		getTaskPriority: () => 0,
		setTaskPriority: () => {},
		readMsr: () => undefined,
		writeMsr: () => false,
		getBase: () => 0n,
		setBase: () => true,
	};
	expect(call(0b101n, 0b11n, 4, 0x4fd)).toBe(4n);
	expect(sent).toEqual([4, 6, 68, 69].map((id) => [id, 0x4fd]));
	expect(call(1n, 0n, 0, 0x8fd)).toBe(-22n);
	expect(call(0xffff_ffffn, 0n, 0xffff_ffff, 0)).toBe(0n);
});
