import { longMode, protectedMode, realMode } from "../../src/client/modes.ts";
import { PageTables } from "../../src/client/page-tables.ts";
import { encodeDescriptor, encodeGate, flatSegment } from "../../src/client/segments.ts";
import type { Kvm, Regs, Sregs, VcpuExit } from "../../src/kvm/types.ts";
import type { Case } from "./protocol.ts";
import { CODE, CODE_BYTES, DATA, DATA_BYTES, FS_BASE, GS_BASE, REGION } from "./protocol.ts";

/**
 * Cases at CPL 0, on any engine: 16-bit ones in real mode (with segment bases that put the same addresses in reach),
 * 32-bit ones in protected mode, 64-bit ones in long mode. Every vector leads to a HLT of its own, and so does the end
 * of a case, so that where the vCPU stops tells why.
 */
export interface SupervisorCpu {
	run(data: Uint8Array, cases: readonly Case[]): SupervisorOutcome[];
	close(): void;
}

/** What a case at CPL 0 did. */
export interface SupervisorOutcome {
	/** The engine could not carry on, or the case did not end. */
	void: boolean;
	exit: unknown;
	regs: Regs;
	/** CS SS DS ES FS GS, and CR2 after a page fault. */
	selectors: number[];
	cr2: bigint;
	data: Uint8Array;
}

const LOW_BYTES = 0x40000;
const REGION_BYTES = 0x10000;
const GDT = 0x2000;
const IDT_WIDE = 0x3000;
const IDT_NARROW = 0x4000;
const HANDLERS = 0x5000;
const TABLES = { start: 0x20000, bytes: 0x10000 };
const GPRS = [
	"rax",
	"rcx",
	"rdx",
	"rbx",
	"rsp",
	"rbp",
	"rsi",
	"rdi",
	"r8",
	"r9",
	"r10",
	"r11",
	"r12",
	"r13",
	"r14",
	"r15",
] as const;
const PAGE_FAULT = 14;

export function openSupervisorCpu(kvm: Kvm): SupervisorCpu {
	const vm = kvm.createVm({ memoryBytes: LOW_BYTES + REGION_BYTES });
	const low = vm.createMemory(LOW_BYTES);
	const region = vm.createMemory(REGION_BYTES);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: LOW_BYTES, memory: low });
	vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: REGION, memorySize: REGION_BYTES, memory: region });
	const lowBytes = low.view(0, LOW_BYTES);
	const root = build(lowBytes);
	low.written(0, LOW_BYTES);
	const bytes = region.view(0, REGION_BYTES);
	const vcpu = vm.createVcpu(0);
	vcpu.setCpuid2(kvm.getSupportedCpuid());
	vcpu.setSlice({ milliseconds: 50, instructions: 100_000 });
	const sregs = systemRegisters(vcpu.getSregs(), root);
	const events = vcpu.getVcpuEvents();

	/** Completes an access that the engine still holds, so that it does not reach into the next case. */
	const finish = (): void => {
		vcpu.setImmediateExit(true);
		for (let i = 0; i < 8 && vcpu.run().reason !== "intr"; i++);
		vcpu.setImmediateExit(false);
	};

	const one = (data: Uint8Array, input: Case): SupervisorOutcome => {
		bytes.fill(0xf4, CODE - REGION, CODE - REGION + CODE_BYTES);
		bytes.set(input.code, CODE - REGION + input.offset);
		bytes.set(data, DATA - REGION);
		region.written(0, REGION_BYTES);
		vcpu.setVcpuEvents(events);
		vcpu.setSregs(sregs[input.mode]);
		const rip = BigInt((input.mode === 16 ? CODE - REGION : CODE) + input.offset);
		const regs = { rip, rflags: input.rflags & ~0x200n } as Regs;
		GPRS.forEach((name, i) => {
			regs[name] = input.gpr[i]!;
		});
		vcpu.setRegs(regs);
		const exit: VcpuExit = vcpu.run();
		const seen =
			"data" in exit
				? { ...exit, data: "direction" in exit && exit.direction === "out" ? [...exit.data] : exit.data.length }
				: exit;
		if (exit.reason === "io" || exit.reason === "mmio") finish();
		const after = vcpu.getSregs();
		const end = vcpu.getRegs();
		const vector = Number(end.rip) - HANDLERS - 1;
		return {
			void: exit.reason === "intr" || exit.reason === "internal-error",
			exit: seen,
			regs: end,
			selectors: [after.cs, after.ss, after.ds, after.es, after.fs, after.gs].map(({ selector }) => selector),
			cr2: vector === PAGE_FAULT ? after.cr2 : 0n,
			data: bytes.slice(DATA - REGION, DATA - REGION + DATA_BYTES),
		};
	};
	return { run: (data, cases) => cases.map((input) => one(data, input)), close: () => vm.close() };
}

function build(low: Uint8Array): number {
	const view = new DataView(low.buffer, low.byteOffset, low.byteLength);
	low.fill(0xf4, HANDLERS, HANDLERS + 256);
	(["code32", "data32", "code64", "code16", "data16"] as const).forEach((kind, i) => {
		view.setBigUint64(GDT + 8 + i * 8, encodeDescriptor(flatSegment(kind, 8 + i * 8)), true);
	});
	for (let vector = 0; vector < 256; vector++) {
		const offset = HANDLERS + vector;
		view.setUint32(vector * 4, offset, true);
		view.setBigUint64(
			IDT_NARROW + vector * 8,
			encodeGate({ selector: 8, offset: BigInt(offset), type: 14, dpl: 0 }, false)[0],
			true,
		);
		encodeGate({ selector: 0x18, offset: BigInt(offset), type: 14, dpl: 0 }, true).forEach((half, i) => {
			view.setBigUint64(IDT_WIDE + vector * 16 + i * 8, half, true);
		});
	}
	const tables = new PageTables("4-level", low, 0, TABLES);
	tables.map(0n, 0, LOW_BYTES, 0x1000);
	tables.map(BigInt(CODE), CODE, CODE_BYTES, 0x1000, { write: false });
	tables.map(BigInt(DATA), DATA, DATA_BYTES, 0x1000);
	return tables.root;
}

function systemRegisters(from: Sregs, root: number): Record<Case["mode"], Sregs> {
	const gdt = { base: BigInt(GDT), limit: 0x2f };
	const real = realMode({ ...from, cr0: 0x10n });
	for (const name of ["cs", "ds", "es", "ss"] as const) real[name] = { ...real[name], base: BigInt(REGION) };
	real.fs = { ...real.fs, base: BigInt(FS_BASE) };
	real.gs = { ...real.gs, base: BigInt(DATA) };
	const long = { ...longMode(from, root), gdt, idt: { base: BigInt(IDT_WIDE), limit: 4095 } };
	long.cs = { ...long.cs, selector: 0x18 };
	long.fs = { ...long.fs, base: BigInt(FS_BASE) };
	long.gs = { ...long.gs, base: BigInt(GS_BASE) };
	const flat = { ...protectedMode(from), gdt, idt: { base: BigInt(IDT_NARROW), limit: 2047 } };
	flat.fs = { ...flat.fs, base: BigInt(FS_BASE) };
	flat.gs = { ...flat.gs, base: BigInt(DATA) };
	return { 16: { ...real, idt: { base: 0n, limit: 1023 }, gdt }, 32: flat, 64: long };
}
