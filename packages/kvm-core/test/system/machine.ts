import { type Core, Cpu, GuestFault, type LinearMemory } from "../../src/software/cpu/cpu.ts";
import { CpuidTable, defaultCpuid } from "../../src/software/cpu/cpuid.ts";
import * as L from "../../src/software/cpu/layout.ts";
import { ACCESS_IMPLICIT, ACCESS_USER, ACCESS_WRITE, Mmu, walk } from "../../src/software/cpu/paging.ts";
import { powerOn } from "../../src/software/cpu/reset.ts";
import type { DecodedInsn } from "../../src/software/cpu/system-operation.ts";
import { systemRows } from "../../src/software/insn/system.ts";

export const TSC_KHZ = 2_000_000;

/** One vCPU over a plain buffer: every access is walked, nothing is cached. */
export class Machine {
	readonly ram: DataView;
	readonly cpu: Cpu;
	halted = false;
	shutdowns = 0;
	flushes: boolean[] = [];
	flushedPages: bigint[] = [];
	tsc = 1000n;
	nanoseconds = 5_000_000_000n;
	/** What ports answer, and what was written to them. */
	readonly ports: { input: (port: number, size: number) => number; readonly written: [number, number, number][] } = {
		input: () => 0xff,
		written: [],
	};

	constructor(bytes = 1 << 21) {
		this.ram = new DataView(new ArrayBuffer(bytes));
		const cpu = new Cpu(new ArrayBuffer(L.VCPU_BYTES), 0);
		this.cpu = cpu;
		const machine = this;
		const core: Core = {
			requestPending: false,
			flushTlb: (keepGlobal) => void this.flushes.push(keepGlobal),
			flushPage: (linear) => void this.flushedPages.push(linear),
			modeChanged: () => {},
			interruptsChanged: () => {},
			readTsc: () => this.tsc,
			writeTsc: (value) => {
				this.tsc = value;
			},
			halt: () => {
				this.halted = true;
			},
			pause: () => {},
			shutdown: () => {
				this.shutdowns++;
			},
			debugChanged: () => {},
			random: () => 0x0123_4567_89ab_cdefn,
			clock: () => this.nanoseconds,
			wallClock: () => 1_700_000_000_123_456_789n,
			tscKhz: TSC_KHZ,
		};
		cpu.core = core;
		cpu.cpuid = new CpuidTable(defaultCpuid({ tscKhz: TSC_KHZ }));
		cpu.mmu = new Mmu(cpu.u32, {
			read32: (at) => (at + 4 <= bytes ? this.ram.getUint32(at, true) : 0xffff_ffff),
			write32: (at, value) => {
				if (at + 4 <= bytes) this.ram.setUint32(at, value, true);
			},
		});
		cpu.ports = {
			input: (port, size) => this.ports.input(port, size),
			output: (port, size, value) => void this.ports.written.push([port, size, value]),
		};
		const translate = (linear: bigint, write: boolean, system: boolean): number => {
			const user = !system && cpu.cpl === 3;
			const access = (write ? ACCESS_WRITE : 0) | (user ? ACCESS_USER : 0) | (system ? ACCESS_IMPLICIT : 0);
			const lo = Number(linear & 0xffff_ffffn);
			if (!walk(cpu.mmu, lo, Number(BigInt.asUintN(32, linear >> 32n)), access)) {
				cpu.set64(L.CR2, linear);
				cpu.raise(14, cpu.mmu.errorCode);
			}
			return cpu.mmu.physical + (lo & 0xfff);
		};
		const memory: LinearMemory = {
			read(linear, size, system = false) {
				let value = 0;
				for (let i = 0; i < size; i++) {
					value += machine.ram.getUint8(translate(linear + BigInt(i), false, system)) * 2 ** (8 * i);
				}
				return value;
			},
			read64: (linear, system) =>
				BigInt(memory.read(linear, 4, system)) | (BigInt(memory.read(linear + 4n, 4, system)) << 32n),
			write(linear, size, value, system = false) {
				if (value < 0 || value >= 2 ** (size * 8)) throw new RangeError(`${value} in ${size} bytes`);
				memory.probe(linear, size, true, system);
				for (let i = 0; i < size; i++) {
					machine.ram.setUint8(translate(linear + BigInt(i), true, system), Math.floor(value / 2 ** (8 * i)) & 0xff);
				}
			},
			write64(linear, value, system) {
				memory.probe(linear, 8, true, system);
				memory.write(linear, 4, Number(value & 0xffff_ffffn), system);
				memory.write(linear + 4n, 4, Number(value >> 32n), system);
			},
			probe(linear, size, write, system = false) {
				for (let i = 0; i < size; i++) translate(linear + BigInt(i), write, system);
			},
			// Nothing here sets CR0.AM.
			checksAlignment: false,
			checkAlignment() {},
		};
		cpu.memory = memory;
		powerOn(cpu, true);
	}

	write(at: number, size: 1 | 2 | 4 | 8, value: number | bigint): void {
		if (size === 8) this.ram.setBigUint64(at, BigInt(value), true);
		else if (size === 4) this.ram.setUint32(at, Number(value), true);
		else if (size === 2) this.ram.setUint16(at, Number(value), true);
		else this.ram.setUint8(at, Number(value));
	}

	/** Writes an 8-byte descriptor. `access` = descriptor bytes 5 and 6's flags, as in SEG_* attributes. */
	descriptor(at: number, base: number, limit: number, access: number): void {
		this.write(at, 4, ((base & 0xffff) * 0x1_0000 + (limit & 0xffff)) >>> 0);
		this.write(
			at + 4,
			4,
			((base & 0xff00_0000) | ((base >>> 16) & 0xff) | ((access & 0xf0ff) << 8) | (limit & 0xf_0000)) >>> 0,
		);
	}

	/** Writes an 8-byte gate; its upper half in long mode is written too. */
	gate(at: number, selector: number, offset: number, access: number, low5 = 0): void {
		this.write(at, 4, ((selector << 16) | (offset & 0xffff)) >>> 0);
		this.write(at + 4, 4, ((offset & 0xffff_0000) | (access << 8) | low5) >>> 0);
	}

	/** Runs one of the rows, found by its opcode text, as if decoded; `rip` moves on as the run loop would move it. */
	run(opcode: string, insn: Partial<DecodedInsn> & { address?: number | bigint } = {}, length = 2): void {
		const row = systemRows.find((candidate) => candidate.opcode === opcode);
		if (row?.system === undefined) throw new Error(`no row ${opcode}`);
		const { address, ...rest } = insn;
		const { cpu } = this;
		cpu.nextRip = cpu.rip + BigInt(length);
		cpu.jumped = false;
		row.system(cpu, {
			operandSize: cpu.code64 ? 8 : 4,
			addressSize: cpu.code64 ? 8 : 4,
			isMemory: address !== undefined,
			segment: L.DS,
			reg: 0,
			rm: 0,
			regOffset: 0,
			rmOffset: 0,
			immediate: 0,
			displacement: 0,
			repeat: 0,
			offset: () => BigInt(address ?? 0),
			...rest,
		});
		cpu.rip = cpu.nextRip;
	}

	/** The fault that `act` raises, as `vector` or `vector:error`, and that nothing but memory was changed by it. */
	faultOf(act: () => void): string {
		const before = this.cpu.u8.slice(0, L.STATE_BYTES);
		const { rip } = this.cpu;
		try {
			act();
		} catch (error) {
			if (!(error instanceof GuestFault)) throw error;
			const after = this.cpu.u8.slice(0, L.STATE_BYTES);
			// CR2 is the memory's to set.
			after.set(before.subarray(L.CR2, L.CR2 + 8), L.CR2);
			for (let i = 0; i < after.length; i++) {
				if (after[i] !== before[i]) throw new Error(`a faulting instruction changed byte ${i} of the state`);
			}
			this.cpu.rip = rip;
			return error.errorCode === -1 ? `${error.vector}` : `${error.vector}:${error.errorCode.toString(16)}`;
		}
		return "none";
	}
}

/** GDT of the protected-mode machine: selector of each entry. */
export const SEL = {
	code0: 0x08,
	data0: 0x10,
	code3: 0x18,
	data3: 0x20,
	tss: 0x28,
	conforming0: 0x30,
	notPresentCode: 0x38,
	executeOnly: 0x40,
	readOnlyData: 0x48,
	notPresentData: 0x50,
	ldt: 0x58,
	gate: 0x60,
	code16: 0x68,
	task: 0x70,
	code1: 0x78,
	data1: 0x80,
	taskGate: 0x88,
	gate16: 0x90,
	notPresentGate: 0x98,
	stack16: 0xa0,
	code64: 0xa8,
	code64User: 0xb0,
	tss64: 0xc0,
} as const;

export const GDT = 0x1000;
export const GDT_LIMIT = 0xff;
export const IDT = 0x2000;
export const TSS_AT = 0x3000;
export const TASK_AT = 0x4000;
export const STACK0 = 0x8000;
export const STACK3 = 0x9000;
export const STACK1 = 0xa000;

/** A machine in flat 32-bit protected mode at `cpl`, with the GDT above, an IDT, and a 32-bit TSS. */
export function protectedMachine(cpl: 0 | 3 = 0): Machine {
	const m = new Machine();
	const { cpu } = m;
	const flat = (selector: number, access: number): void => m.descriptor(GDT + selector, 0, 0xf_ffff, access | 0xc000);
	flat(SEL.code0, 0x9a);
	flat(SEL.data0, 0x92);
	flat(SEL.code3, 0xfa);
	flat(SEL.data3, 0xf2);
	m.descriptor(GDT + SEL.tss, TSS_AT, 0x20ff, 0x89);
	flat(SEL.conforming0, 0x9e);
	flat(SEL.notPresentCode, 0x1a);
	flat(SEL.executeOnly, 0x98);
	flat(SEL.readOnlyData, 0x90);
	flat(SEL.notPresentData, 0x12);
	m.descriptor(GDT + SEL.ldt, 0x5000, 0x17, 0x82);
	m.gate(GDT + SEL.gate, SEL.code0, 0x1234, 0xec, 2);
	m.descriptor(GDT + SEL.code16, 0x1_0000, 0xffff, 0x9a);
	m.descriptor(GDT + SEL.task, TASK_AT, 0x67, 0xe9);
	flat(SEL.code1, 0xba);
	flat(SEL.data1, 0xb2);
	m.gate(GDT + SEL.taskGate, SEL.task, 0, 0xe5);
	m.gate(GDT + SEL.gate16, SEL.code0, 0x9876_5432, 0xe4, 1);
	m.gate(GDT + SEL.notPresentGate, SEL.code0, 0, 0x6c);
	m.descriptor(GDT + SEL.stack16, 0, 0xffff, 0x92);
	m.descriptor(GDT + SEL.code64, 0, 0, 0x209a);
	m.descriptor(GDT + SEL.code64User, 0, 0, 0x20fa);
	// A TSS: stacks for levels 0 and 1, the I/O bitmap at 0x68.
	m.write(TSS_AT + 4, 4, STACK0);
	m.write(TSS_AT + 8, 4, SEL.data0);
	m.write(TSS_AT + 12, 4, STACK1);
	m.write(TSS_AT + 16, 4, SEL.data1 | 1);
	m.write(TSS_AT + 102, 2, 0x68);
	cpu.set64(L.CR0, 0x11n);
	cpu.set64(L.GDTR_BASE, BigInt(GDT));
	cpu.set32(L.GDTR_LIMIT, GDT_LIMIT);
	cpu.set64(L.IDTR_BASE, BigInt(IDT));
	cpu.set32(L.IDTR_LIMIT, 0x7ff);
	const dpl = cpl << 5;
	cpu.setSegment(L.CS, (cpl === 0 ? SEL.code0 : SEL.code3) | cpl, 0xc09b | dpl, 0xffff_ffff, 0n);
	const data = (cpl === 0 ? SEL.data0 : SEL.data3) | cpl;
	for (const segment of [L.SS, L.DS, L.ES, L.FS, L.GS]) cpu.setSegment(segment, data, 0xc093 | dpl, 0xffff_ffff, 0n);
	cpu.setSegment(L.TR, SEL.tss, 0x8b, 0x20ff, BigInt(TSS_AT));
	cpu.setSegment(L.LDTR, 0, 0x1_0000, 0, 0n);
	cpu.setGpr(L.RSP, 4, cpl === 0 ? STACK0 - 0x100 : STACK3);
	cpu.rip = 0x7000n;
	return m;
}

const PML4 = 0x1_0000;

/** A machine in 64-bit mode at `cpl`: the first 2 MiB mapped to themselves for all, the GDT above, a 64-bit TSS. */
export function longMachine(cpl: 0 | 3 = 0): Machine {
	const m = protectedMachine(0);
	const { cpu } = m;
	m.write(PML4, 8, 0x1_1007);
	m.write(0x1_1000, 8, 0x1_2007);
	m.write(0x1_2000, 8, 0x87);
	cpu.set64(L.CR3, BigInt(PML4));
	cpu.set64(L.CR4, 0x20n);
	cpu.set64(L.EFER, 0xd01n);
	cpu.set64(L.CR0, 0x8000_0011n);
	const dpl = cpl << 5;
	cpu.setSegment(L.CS, (cpl === 0 ? SEL.code64 : SEL.code64User) | cpl, 0x209b | dpl, 0, 0n);
	cpu.setSegment(L.SS, (cpl === 0 ? SEL.data0 : SEL.data3) | cpl, 0xc093 | dpl, 0xffff_ffff, 0n);
	cpu.setSegment(L.TR, SEL.tss64, 0x8b, 0x67, BigInt(TSS_AT));
	m.write(TSS_AT + 4, 8, STACK0 - 4);
	m.write(TSS_AT + 36, 8, STACK1 + 8);
	cpu.set32(L.IDTR_LIMIT, 0xfff);
	cpu.setGpr(L.RSP, 8, cpl === 0 ? STACK0 - 0x100 : STACK3);
	return m;
}

/** A long-mode interrupt gate. */
export function longGate(m: Machine, vector: number, selector: number, offset: bigint, access: number, ist = 0): void {
	m.gate(IDT + vector * 16, selector, Number(offset & 0xffff_ffffn), access, ist);
	m.write(IDT + vector * 16 + 8, 8, offset >> 32n);
}
