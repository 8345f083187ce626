import { longMode, protectedMode, SELECTORS } from "../../src/client/modes.ts";
import { PageTables } from "../../src/client/page-tables.ts";
import { encodeDescriptor, encodeGate, flatSegment } from "../../src/client/segments.ts";
import type { DescriptorTable, Kvm, Regs, Segment, Sregs, Vcpu, VcpuExit } from "../../src/kvm/types.ts";
import { type Case, CODE, CODE_BYTES, DATA, DATA_BYTES, FS_BASE, GS_BASE, type Mode, REGION } from "./protocol.ts";

/**
 * Runs cases with a kernel's rights: in real mode, in protected mode without paging, and at CPL 0 of 64-bit mode. Code
 * ends on HLT, every vector's gate leads to a HLT of its own, and the embedder sets and reads the registers.
 */
export type KernelMode = "real" | "protected" | "long";

/** Width of the cases that a mode runs. */
export const WIDTH: Readonly<Record<KernelMode, Mode>> = { real: 16, protected: 32, long: 64 };

/** How a case ended. */
export interface KernelOutcome {
	/** `hlt`: at the end of its code; a vector; `shutdown`; `mmio`: reached beyond memory; `failed`: not emulated. */
	end: "hlt" | "shutdown" | "mmio" | "failed" | "timeout" | number;
	error?: bigint;
	regs: Regs;
	/** Base and selector of CS, SS, DS, ES, FS, GS. */
	segments: string;
	cr2: bigint;
	/** Something was written over its code. */
	codeWritten: boolean;
	/** The data pages from the first to the last byte that changed. */
	dirtyOffset: number;
	dirty: Uint8Array;
	/** Of `mmio`: what was accessed first. */
	access?: string;
	/** Of `failed`: the instruction's bytes as the engine gives them. */
	bytes?: string;
}

/** A vCPU of an engine as a runner of cases. */
export interface KernelCpu {
	run(data: Uint8Array, cases: readonly Case[]): KernelOutcome[];
	close(): void;
}

const HLT = 0xf4;
const LOW_BYTES = 0x20000;
const STUBS = 0xf000;
const IDT = 0x2000;
const GDT = 0x1000;
const TSS = 0x3000;
const STACK_TOP = 0x8000;
const TABLES = { start: 0x10000, bytes: 0x10000 };
/** Where real mode has what is at REGION elsewhere: its segments reach no further than 1 MiB. */
const REAL_BASE = 0x30000;
const CODE_END: number = CODE + CODE_BYTES - 1;
const PAGE_FAULT = 14;
const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17, 21, 29, 30]);
const ATTRIBUTES = { type: 3, present: 1, dpl: 0, db: 0, s: 1, l: 0, g: 0, avl: 0, unusable: 0 };

export function openKernelCpu(kvm: Kvm, mode: KernelMode): KernelCpu {
	const base = mode === "real" ? REAL_BASE : REGION;
	const vm = kvm.createVm({ memoryBytes: LOW_BYTES + CODE_BYTES + DATA_BYTES });
	const low = vm.createMemory(LOW_BYTES);
	const code = vm.createMemory(CODE_BYTES);
	const data = vm.createMemory(DATA_BYTES);
	const place = [
		[0, 0, LOW_BYTES, low],
		[1, base + (CODE - REGION), CODE_BYTES, code],
		[2, base + (DATA - REGION), DATA_BYTES, data],
	] as const;
	for (const [slot, guestPhysAddr, memorySize, memory] of place) {
		vm.setUserMemoryRegion({ slot, guestPhysAddr, memorySize, memory });
	}
	const ram = low.view(0, LOW_BYTES);
	const codePages = code.view(0, CODE_BYTES);
	const dataPages = Buffer.from(data.view(0, DATA_BYTES).buffer, data.view(0, DATA_BYTES).byteOffset, DATA_BYTES);
	codePages.fill(HLT);
	const vcpu = vm.createVcpu(0);
	vcpu.setCpuid2(kvm.getSupportedCpuid());
	vcpu.setSlice({ milliseconds: 20, instructions: 50_000 });
	const sregs = systemRegisters(mode, vcpu.getSregs(), ram);
	low.written(0, LOW_BYTES);
	const lowPages = Buffer.from(ram.buffer, ram.byteOffset, LOW_BYTES);
	const lowTemplate = Buffer.from(lowPages);
	const codeTemplate = Buffer.alloc(CODE_BYTES, HLT);

	/** Where a case wrote beyond the data pages. */
	const codeWritten = (): boolean => codeTemplate.compare(codePages) !== 0;
	const restore = (): void => {
		if (lowPages.compare(lowTemplate) !== 0) {
			lowPages.set(lowTemplate);
			low.written(0, LOW_BYTES);
		}
		if (codeWritten()) {
			codePages.set(codeTemplate);
			code.written(0, CODE_BYTES);
		}
	};

	const runOne = (one: Case, template: Buffer): KernelOutcome => {
		vcpu.setSregs(sregs);
		vcpu.setRegs(registers(mode, one));
		let exit: VcpuExit = vcpu.run();
		if (exit.reason === "intr") exit = vcpu.run();
		const outcome = read(vcpu, mode, exit, ram);
		outcome.codeWritten = codeWritten();
		if (exit.reason === "mmio") {
			outcome.access = `${exit.isWrite ? "write" : "read"} ${exit.data.length} at ${exit.physAddr.toString(16)}`;
			if (exit.isWrite) outcome.access += ` ${Buffer.from(exit.data).toString("hex")}`;
			finish(vcpu);
		}
		if (dataPages.compare(template) !== 0) {
			let first = 0;
			let last = DATA_BYTES;
			while (dataPages[first] === template[first]) first++;
			while (dataPages[last - 1] === template[last - 1]) last--;
			outcome.dirtyOffset = first;
			outcome.dirty = Uint8Array.from(dataPages.subarray(first, last));
			dataPages.set(template);
			data.written(0, DATA_BYTES);
		}
		return outcome;
	};
	return {
		run(contents, cases) {
			const template = Buffer.from(contents.buffer, contents.byteOffset, DATA_BYTES);
			dataPages.set(template);
			data.written(0, DATA_BYTES);
			let previous: Case | undefined;
			return cases.map((one) => {
				if (previous?.code !== one.code || previous.offset !== one.offset) {
					codeTemplate.fill(HLT);
					codeTemplate.set(one.code, one.offset);
					previous = one;
				}
				restore();
				return runOne(one, template);
			});
		},
		close: () => vm.close(),
	};
}

/** What is read from beyond memory is 0; the case ends there. */
function finish(vcpu: Vcpu): void {
	vcpu.setImmediateExit(true);
	for (let i = 0; i < 2000 && vcpu.run().reason === "mmio"; i++);
	vcpu.setImmediateExit(false);
	vcpu.setVcpuEvents({
		...vcpu.getVcpuEvents(),
		exception: { injected: false, pending: false, nr: 0, hasErrorCode: false, errorCode: 0 },
	});
}

function systemRegisters(mode: KernelMode, initial: Sregs, ram: Uint8Array): Sregs {
	const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
	ram.fill(HLT, STUBS, STUBS + 256);
	if (mode === "real") {
		for (let vector = 0; vector < 256; vector++) {
			view.setUint16(vector * 4, vector, true);
			view.setUint16(vector * 4 + 2, STUBS >> 4, true);
		}
		const at = (linear: number, type: number): Segment => ({
			...ATTRIBUTES,
			base: BigInt(linear),
			selector: linear >> 4,
			limit: 0xffff,
			type,
		});
		const data = at(REAL_BASE, 3);
		return {
			...initial,
			cs: at(REAL_BASE, 11),
			ds: data,
			es: data,
			ss: data,
			fs: at(FS_BASE - REGION + REAL_BASE, 3),
			gs: at(DATA - REGION + REAL_BASE, 3),
			idt: { base: 0n, limit: 0x3ff },
		};
	}
	const wide = mode === "long";
	// Without paging, CS ends behind the code pages, so that no case runs its data.
	const cs = wide
		? flatSegment("code64", SELECTORS.code)
		: { ...flatSegment("code32", SELECTORS.code), limit: CODE_END };
	[cs, flatSegment("data32", SELECTORS.data)].forEach((descriptor, i) => {
		view.setBigUint64(GDT + 8 + i * 8, encodeDescriptor(descriptor), true);
	});
	for (let vector = 0; vector < 256; vector++) {
		const gate = { selector: SELECTORS.code, offset: BigInt(STUBS + vector), type: 14, dpl: 0, ist: 1 } as const;
		encodeGate(gate, wide).forEach((half, i) => {
			if (i === 0 || wide) view.setBigUint64(IDT + vector * (wide ? 16 : 8) + i * 8, half, true);
		});
	}
	const idt: DescriptorTable = { base: BigInt(IDT), limit: wide ? 4095 : 2047 };
	const gdt: DescriptorTable = { base: BigInt(GDT), limit: 0x17 };
	const segment = (linear: number, limit: number): Segment => ({
		...flatSegment("data32", SELECTORS.data),
		base: BigInt(linear),
		limit,
		g: 0,
	});
	if (!wide) {
		const from = protectedMode(initial);
		return { ...from, cs, gdt, idt, fs: segment(FS_BASE, 0x7ff), gs: segment(DATA, 0xfff) };
	}
	const tables = new PageTables("4-level", ram, 0, TABLES);
	tables.map(0n, 0, LOW_BYTES, 0x1000, { write: false });
	tables.map(BigInt(STACK_TOP - 0x1000), STACK_TOP - 0x1000, 0x1000, 0x1000);
	tables.map(BigInt(CODE), CODE, CODE_BYTES, 0x1000, { write: false });
	tables.map(BigInt(DATA), DATA, DATA_BYTES, 0x1000, { execute: false });
	view.setBigUint64(TSS + 36, BigInt(STACK_TOP), true);
	const from = longMode(initial, tables.root);
	return {
		...from,
		gdt,
		idt,
		tr: { ...flatSegment("data16", 0x18), base: BigInt(TSS), limit: 0x67, type: 11, s: 0 },
		fs: { ...from.fs, base: BigInt(FS_BASE) },
		gs: { ...from.gs, base: BigInt(GS_BASE) },
	};
}

function registers(mode: KernelMode, { gpr, rflags, offset }: Case): Regs {
	const [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = gpr as bigint[];
	const rip = BigInt((mode === "real" ? CODE - REGION : CODE) + offset);
	// With interrupts off: nothing but the case's own events comes.
	const quiet = rflags & ~0x200n;
	return {
		...{ rax: rax!, rcx: rcx!, rdx: rdx!, rbx: rbx!, rsp: rsp!, rbp: rbp!, rsi: rsi!, rdi: rdi! },
		...{ r8: r8!, r9: r9!, r10: r10!, r11: r11!, r12: r12!, r13: r13!, r14: r14!, r15: r15! },
		rip,
		rflags: quiet,
	};
}

function read(vcpu: Vcpu, mode: KernelMode, exit: VcpuExit, ram: Uint8Array): KernelOutcome {
	const regs = vcpu.getRegs();
	const { cs, ss, ds, es, fs, gs, cr2 } = vcpu.getSregs();
	const outcome: KernelOutcome = {
		end: "timeout",
		regs,
		segments: [cs, ss, ds, es, fs, gs]
			.map(({ base, selector }) => `${selector.toString(16)}:${base.toString(16)}`)
			.join(),
		cr2: 0n,
		codeWritten: false,
		dirtyOffset: 0,
		dirty: new Uint8Array(0),
	};
	if (exit.reason === "shutdown") outcome.end = "shutdown";
	else if (exit.reason === "mmio") outcome.end = "mmio";
	else if (exit.reason === "internal-error") {
		outcome.end = "failed";
		outcome.bytes = Buffer.from(exit.data).toString("hex");
	} else if (exit.reason === "hlt") {
		const at = Number((cs.base + regs.rip) & 0xffff_ffffn) - 1;
		if (at < STUBS || at > STUBS + 255) outcome.end = "hlt";
		else {
			const vector = at - STUBS;
			outcome.end = vector;
			if (vector === PAGE_FAULT) outcome.cr2 = cr2;
			if (mode === "long") takeFrame(outcome, ram, vector);
		}
	}
	return outcome;
}

/** The frame on IST 1 says where the case stood; the registers are those of its handler. */
function takeFrame(outcome: KernelOutcome, ram: Uint8Array, vector: number): void {
	const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
	const slot = (n: number): bigint => view.getBigUint64(STACK_TOP - 8 * n, true);
	outcome.regs = { ...outcome.regs, rip: slot(5), rflags: slot(3), rsp: slot(2) };
	if (WITH_ERROR_CODE.has(vector)) outcome.error = slot(6);
}

/** What differs between two outcomes, in words; empty when they agree. */
export function compareKernel(
	mode: KernelMode,
	undefinedFlags: number,
	want: KernelOutcome,
	got: KernelOutcome,
): string[] {
	const differences: string[] = [];
	const expect = (what: string, a: unknown, b: unknown): void => {
		const show = (value: unknown): string => (typeof value === "bigint" ? value.toString(16) : String(value));
		if (a !== b) differences.push(`${what} ${show(a)}, got ${show(b)}`);
	};
	if (want.end === "timeout" || got.end === "timeout") return [];
	expect("end", want.end, got.end);
	if (got.end === "failed") expect("rip", want.regs.rip, got.regs.rip);
	if (want.end !== got.end) return differences;
	if (want.end === "mmio") {
		expect("access", want.access, got.access);
		return differences;
	}
	// A shutdown leaves nothing to rely on.
	if (want.end === "shutdown") return differences;
	expect("error code", want.error, got.error);
	expect("cr2", want.cr2, got.cr2);
	const defined = ~BigInt(undefinedFlags);
	const frame = frameFlags(mode, want);
	for (const name of Object.keys(want.regs) as (keyof Regs)[]) {
		const mask = name === "rflags" ? defined : 0xffff_ffff_ffff_ffffn;
		expect(name, want.regs[name] & mask, got.regs[name] & mask);
	}
	expect("segments", want.segments, got.segments);
	const [a, b] = [want, got].map((outcome) => withoutFlags(outcome, frame, undefinedFlags));
	if (frame === undefined || undefinedFlags === 0) expect("first byte written", want.dirtyOffset, got.dirtyOffset);
	expect("memory", a, b);
	return differences;
}

/** Where in the data pages an event's frame has the flags, on the case's own stack. */
function frameFlags(mode: KernelMode, { end, regs, segments }: KernelOutcome): number | undefined {
	if (mode === "long" || typeof end !== "number") return undefined;
	const wide = mode === "protected";
	const base = Number.parseInt(segments.split(",")[1]!.split(":")[1]!, 16);
	const at = wide ? Number(regs.rsp) + 8 + (WITH_ERROR_CODE.has(end) ? 4 : 0) : (Number(regs.rsp) & 0xffff) + 4;
	return base + at - (wide ? DATA : DATA - REGION + REAL_BASE);
}

/** What was written, with the flags that are left open taken out of the frame. */
function withoutFlags({ dirty, dirtyOffset }: KernelOutcome, frame: number | undefined, flags: number): string {
	if (frame === undefined || flags === 0) return Buffer.from(dirty).toString("hex");
	const words = new Map<number, number>();
	dirty.forEach((byte, i) => {
		const bit = dirtyOffset + i - frame;
		const open = bit >= 0 && bit < 4 ? (flags >>> (8 * bit)) & 255 : 0;
		// A byte of which nothing else counts may happen to be what it was.
		if (open === 0 || (byte & ~open) !== 0) words.set(dirtyOffset + i, byte & ~open);
	});
	return [...words].map(([at, byte]) => `${at.toString(16)}=${byte.toString(16)}`).join();
}
