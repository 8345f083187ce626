import { expect, test } from "vitest";
import { openKvm } from "../../src/index.ts";

/** Exceptions that depend on control registers, seen through the vectors they take in real mode. */

const EM = 4;
const MP = 2;
const TS = 8;
const NE = 0x20;
const OSFXSR = 0x200;
const OSXMMEXCPT = 0x400;
const SSE_ON = OSFXSR | OSXMMEXCPT;

const NONE = 0xff;
const UD = 6;
const NM = 7;
const MF = 16;
const XM = 19;

/** Runs code and tells which vector it took. */
function vectorOf(code: readonly number[], cr0: number, cr4: number): number {
	const vm = openKvm({ time: { kind: "virtual", nanosecondsPerInstruction: 1 } }).createVm({ memoryBytes: 1 << 20 });
	const memory = vm.createMemory(1 << 20);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 1 << 20, memory });
	const ram = memory.view(0, 1 << 20);
	const report = (vector: number): number[] => [0xb0, vector, 0xe6, 0x80];
	for (let vector = 0; vector < 32; vector++) {
		const handler = 0x2000 + vector * 16;
		ram.set([handler & 0xff, handler >> 8, 0, 0], vector * 4);
		ram.set(report(vector), handler);
	}
	ram.set([...code, ...report(NONE)], 0x1000);
	const vcpu = vm.createVcpu(0);
	const sregs = vcpu.getSregs();
	sregs.cs.base = 0n;
	sregs.cs.selector = 0;
	sregs.cr0 = (sregs.cr0 & ~0x2en) | BigInt(cr0);
	sregs.cr4 = BigInt(cr4);
	vcpu.setSregs(sregs);
	vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x8000n, rflags: 2n });
	const exit = vcpu.run();
	if (exit.reason !== "io") throw new Error(`left with ${exit.reason}`);
	return exit.data[0]!;
}

const ADDPS = [0x0f, 0x58, 0xc1];
const PADDB_XMM = [0x66, 0x0f, 0xfc, 0xc1];
const PADDB_MMX = [0x0f, 0xfc, 0xc1];
const FLD1 = [0xd9, 0xe8];
const FWAIT = [0x9b];
/** push imm16; ldmxcsr/fldcw [sp] with everything unmasked but what is invalid. */
const UNMASK_SSE = [0x66, 0x68, 0x80, 0x0d, 0, 0, 0x67, 0x0f, 0xae, 0x14, 0x24];
const UNMASK_X87 = [0x68, 0x7b, 0x03, 0x67, 0xd9, 0x2c, 0x24];
/** xorps xmm1, xmm1; pcmpeqd xmm0, xmm0; psrld xmm0, 25; pslld xmm0, 23 = 1.0; divps xmm0, xmm1. */
const DIVIDE_SSE = [
	...[0x0f, 0x57, 0xc9],
	...[0x66, 0x0f, 0x76, 0xc0],
	...[0x66, 0x0f, 0x72, 0xd0, 25],
	...[0x66, 0x0f, 0x72, 0xf0, 23],
	...[0x0f, 0x5e, 0xc1],
];
/** fninit; fldcw; fld1; fldz; fdivp. */
const DIVIDE_X87 = [0xdb, 0xe3, ...UNMASK_X87, ...FLD1, 0xd9, 0xee, 0xde, 0xf9];

test.each([
	["SSE with everything on", ADDPS, 0, SSE_ON, NONE],
	["SSE without OSFXSR", ADDPS, 0, 0, UD],
	["SSE with EM", ADDPS, EM, SSE_ON, UD],
	["SSE with TS", ADDPS, TS, SSE_ON, NM],
	["SSE2 integers with TS", PADDB_XMM, TS, SSE_ON, NM],
	["MMX needs no OSFXSR", PADDB_MMX, 0, 0, NONE],
	["MMX with EM", PADDB_MMX, EM, 0, UD],
	["MMX with TS", PADDB_MMX, TS, 0, NM],
	["x87 with EM", FLD1, EM, 0, NM],
	["x87 with TS", FLD1, TS, 0, NM],
	["FWAIT with TS alone", FWAIT, TS, 0, NONE],
	["FWAIT with TS and MP", FWAIT, TS | MP, 0, NM],
	["an unmasked SSE exception", [...UNMASK_SSE, ...DIVIDE_SSE], 0, SSE_ON, XM],
	["an unmasked SSE exception that the system knows nothing of", [...UNMASK_SSE, ...DIVIDE_SSE], 0, OSFXSR, UD],
	["an unmasked x87 exception waits", DIVIDE_X87, NE, 0, NONE],
	["an unmasked x87 exception and FWAIT", [...DIVIDE_X87, ...FWAIT], NE, 0, MF],
	["an unmasked x87 exception and FNSTSW", [...DIVIDE_X87, 0xdf, 0xe0], NE, 0, NONE],
	["an unmasked x87 exception and MMX", [...DIVIDE_X87, ...PADDB_MMX], NE, 0, MF],
] as const)("%s", (_name, code, cr0, cr4, vector) => {
	expect(vectorOf(code, cr0, cr4)).toBe(vector);
});
