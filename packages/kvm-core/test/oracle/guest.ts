import type { GuestMemory, Kvm, Segment, Sregs, Vcpu, Vm } from "../../src/kvm/types.ts";
import type { Case, Outcome } from "./protocol.ts";
import { CODE, CODE_BYTES, DATA, DATA_BYTES, END_TIMEOUT, FS_BASE, GS_BASE, REGION } from "./protocol.ts";

/**
 * The other side of the comparison: a guest with the descriptors and pages that a Linux process sees. A few
 * instructions at CPL0 load a case's registers and IRETQ to its code; every vector's gate leads back to code that
 * stores them again and halts.
 */

/** Physical addresses; the first 256 KiB appear at KERNEL, for CPL0 only. */
const PHYS = {
	pml4: 0x1000,
	userPdpt: 0x2000,
	userPd: 0x3000,
	userPt: 0x4000,
	kernelPdpt: 0x5000,
	kernelPd: 0x6000,
	kernelPt: 0x7000,
	gdt: 0x8000,
	ldt: 0x8200,
	idt: 0x9000,
	tss: 0xa000,
	stubs: 0xb000,
	entry: 0xc000,
	input: 0xd000,
	stackTop: 0xf000,
	fx: 0x10000,
	code: 0x20000,
	data: 0x30000,
} as const;
const RAM_BYTES = 0x40000;
const KERNEL = 0xffff_8000_0000_0000n;

/** What a vCPU that triple-faulted reports as its vector. */
export const END_SHUTDOWN = 253;

/** Offsets in the input area behind its 512 bytes for FXRSTOR. */
const INPUT = { ds: 0x200, fs: 0x204, gs: 0x208, bases: 0x20c, gpr: 0x210, frame: 0x290 } as const;
/** Quadwords below the stack's top, as the stub leaves them. */
const SAVED = {
	gs: -28,
	fs: -27,
	es: -26,
	ds: -25,
	cr2: -24,
	gpr: -23,
	vector: -7,
	error: -6,
	rip: -5,
	cs: -4,
	rflags: -3,
	rsp: -2,
	ss: -1,
};

const PRESENT = 1n;
const WRITE = 2n;
const USER = 4n;
const NO_EXECUTE = 1n << 63n;

const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17, 21, 29, 30]);

interface Descriptor {
	base: number;
	/** In units of its granularity. */
	limit: number;
	/** Type, S, DPL, P: the access byte. */
	access: number;
	/** AVL, L, D/B, G: 4 bits. */
	flags: number;
}

function encode(d: Descriptor): bigint {
	const low = BigInt((d.limit & 0xffff) + (d.base & 0xffff) * 0x10000);
	const high = BigInt(
		((d.base >>> 16) & 0xff) |
			(d.access << 8) |
			(((d.limit >>> 16) & 15) << 16) |
			(d.flags << 20) |
			((d.base >>> 24) << 24),
	);
	return low | ((high & 0xffff_ffffn) << 32n);
}

/** Linux's: 32-bit kernel code, kernel code and data, user 32-bit code, user data, user code; and its per-CPU number. */
const GDT: readonly (readonly [index: number, descriptor: Descriptor])[] = [
	[1, { base: 0, limit: 0xfffff, access: 0x9b, flags: 12 }],
	[2, { base: 0, limit: 0xfffff, access: 0x9b, flags: 10 }],
	[3, { base: 0, limit: 0xfffff, access: 0x93, flags: 12 }],
	[4, { base: 0, limit: 0xfffff, access: 0xfb, flags: 12 }],
	[5, { base: 0, limit: 0xfffff, access: 0xf3, flags: 12 }],
	[6, { base: 0, limit: 0xfffff, access: 0xfb, flags: 10 }],
	[15, { base: 0, limit: 0, access: 0xf5, flags: 4 }],
];

/** The same as in native.c: Linux sets the accessed bit, DPL 3, and AVL for `useable`. */
const LDT: readonly Descriptor[] = [
	{ base: REGION, limit: 0xffff, access: 0xfb, flags: 1 },
	{ base: REGION, limit: 0xffff, access: 0xf3, flags: 1 },
	{ base: FS_BASE, limit: 0x7ff, access: 0xf3, flags: 5 },
	{ base: DATA, limit: 0xfff, access: 0xf7, flags: 1 },
	{ base: DATA, limit: 1, access: 0xf1, flags: 12 },
	{ base: DATA, limit: 0xfff, access: 0x73, flags: 4 },
	{ base: 0, limit: 0xfffff, access: 0xf9, flags: 13 },
	{ base: 0, limit: 0xfffff, access: 0x7b, flags: 12 },
	{ base: 0, limit: (CODE + CODE_BYTES - 1) >>> 12, access: 0xfb, flags: 13 },
];

function segment(selector: number, d: Descriptor): Segment {
	const g = d.flags >> 3;
	return {
		base: BigInt(d.base),
		limit: g === 1 ? d.limit * 4096 + 4095 : d.limit,
		selector,
		type: d.access & 15,
		s: (d.access >> 4) & 1,
		dpl: (d.access >> 5) & 3,
		present: d.access >> 7,
		avl: d.flags & 1,
		l: (d.flags >> 1) & 1,
		db: (d.flags >> 2) & 1,
		g,
		unusable: 0,
	};
}

const le32 = (value: number): number[] => [value, value >>> 8, value >>> 16, value >>> 24].map((byte) => byte & 255);
const le64 = (value: bigint): number[] => [...le32(Number(value & 0xffff_ffffn)), ...le32(Number(value >> 32n))];

/** Loads the input area and goes to CPL3. */
function entryCode(protectionKeys: boolean): number[] {
	const setBase = (msr: number, base: number): number[] => [
		...[0xb9, ...le32(msr)], // mov ecx, msr
		...[0xb8, ...le32(base)], // mov eax, base
		...[0x31, 0xd2], // xor edx, edx
		...[0x0f, 0x30], // wrmsr
	];
	const bases = [...setBase(0xc000_0100, FS_BASE), ...setBase(0xc000_0101, GS_BASE)];
	// xor eax, eax; xor ecx, ecx; xor edx, edx; wrpkru
	const keys = protectionKeys ? [0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xef] : [];
	return [
		...keys,
		...[0x48, 0xbb, ...le64(KERNEL + BigInt(PHYS.input))], // mov rbx, input
		...[0x48, 0x0f, 0xae, 0x0b], // fxrstor64 [rbx]
		...[0x8b, 0x83, ...le32(INPUT.ds)], // mov eax, [rbx + ds]
		...[0x8e, 0xd8], // mov ds, eax
		...[0x8e, 0xc0], // mov es, eax
		...[0x8b, 0x83, ...le32(INPUT.fs)], // mov eax, [rbx + fs]
		...[0x8e, 0xe0], // mov fs, eax
		...[0x8b, 0x83, ...le32(INPUT.gs)], // mov eax, [rbx + gs]
		...[0x8e, 0xe8], // mov gs, eax
		...[0x83, 0xbb, ...le32(INPUT.bases), 0], // cmp dword [rbx + bases], 0
		...[0x74, bases.length], // je over
		...bases,
		...[0x48, 0x8d, 0xa3, ...le32(INPUT.gpr)], // lea rsp, [rbx + gpr]
		...[0x58, 0x59, 0x5a, 0x5b], // pop rax, rcx, rdx, rbx
		...[0x48, 0x8d, 0x64, 0x24, 8], // lea rsp, [rsp + 8]
		...[0x5d, 0x5e, 0x5f], // pop rbp, rsi, rdi
		...[0, 1, 2, 3, 4, 5, 6, 7].flatMap((r) => [0x41, 0x58 + r]), // pop r8 to r15
		...[0x48, 0xcf], // iretq
	];
}

/** Stores everything and halts; goes on with `entry`. `at` is its own physical address. */
function exitCode(at: number): number[] {
	const code = [
		...[7, 6, 5, 4, 3, 2, 1, 0].flatMap((r) => [0x41, 0x50 + r]), // push r15 to r8
		...[0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51, 0x50], // push rdi, rsi, rbp, rsp, rbx, rdx, rcx, rax
		...[0x0f, 0x20, 0xd0, 0x50], // mov rax, cr2; push rax
		...[0xd8, 0xc0, 0xe0, 0xe8].flatMap((modrm) => [0x8c, modrm, 0x50]), // mov eax, ds/es/fs/gs; push rax
		...[0x48, 0xbb, ...le64(KERNEL + BigInt(PHYS.fx))], // mov rbx, fx
		...[0x48, 0x0f, 0xae, 0x03], // fxsave64 [rbx]
		0xf4, // hlt
	];
	return [...code, 0xe9, ...le32(PHYS.entry - (at + code.length + 5))];
}

/** A vCPU of an engine as a runner of cases. */
export interface EngineCpu {
	readonly vcpu: Vcpu;
	run(data: Uint8Array, cases: readonly Case[]): Outcome[];
	close(): void;
}

/** Options of {@link openEngineCpu}. */
export interface EngineCpuOptions {
	/** Instructions after which a case counts as one that does not end. @default 100_000 */
	instructions?: number;
	/** CR4.PKE. @default true */
	protectionKeys?: boolean;
}

export function openEngineCpu(kvm: Kvm, options: EngineCpuOptions = {}): EngineCpu {
	const vm = kvm.createVm({ memoryBytes: RAM_BYTES });
	const memory = vm.createMemory(RAM_BYTES);
	vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: RAM_BYTES, memory });
	const ram = memory.view(0, RAM_BYTES);
	const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
	const protectionKeys = options.protectionKeys ?? true;
	build(ram, view, protectionKeys);
	memory.written(0, RAM_BYTES);
	const vcpu = vm.createVcpu(0);
	vcpu.setCpuid2(kvm.getSupportedCpuid());
	vcpu.setSlice({ instructions: options.instructions ?? 100_000, milliseconds: 200 });
	const sregs = systemRegisters(vcpu.getSregs());
	if (protectionKeys) sregs.cr4 |= 1n << 22n;
	// x87 and SSE.
	vcpu.setXcrs([{ xcr: 0, value: 3n }]);
	const reset = (): void => {
		vcpu.setSregs(sregs);
		const regs = vcpu.getRegs();
		vcpu.setRegs({ ...regs, rip: KERNEL + BigInt(PHYS.entry), rsp: KERNEL + BigInt(PHYS.stackTop), rflags: 2n });
	};
	reset();
	return {
		vcpu,
		run: (data, cases) => runCases({ vm, vcpu, memory, ram, view, reset }, data, cases),
		close: () => vm.close(),
	};
}

function build(ram: Uint8Array, view: DataView, protectionKeys: boolean): void {
	const put = (at: number, value: bigint): void => view.setBigUint64(at, value, true);
	const index = (address: number, shift: number): number => Math.floor(address / 2 ** shift) & 511;
	put(PHYS.pml4, BigInt(PHYS.userPdpt) | PRESENT | WRITE | USER);
	put(PHYS.userPdpt + index(REGION, 30) * 8, BigInt(PHYS.userPd) | PRESENT | WRITE | USER);
	put(PHYS.userPd + index(REGION, 21) * 8, BigInt(PHYS.userPt) | PRESENT | WRITE | USER);
	for (let page = 0; page < CODE_BYTES; page += 4096) {
		put(PHYS.userPt + index(CODE + page, 12) * 8, BigInt(PHYS.code + page) | PRESENT | USER);
	}
	for (let page = 0; page < DATA_BYTES; page += 4096) {
		put(PHYS.userPt + index(DATA + page, 12) * 8, BigInt(PHYS.data + page) | PRESENT | WRITE | USER | NO_EXECUTE);
	}
	put(PHYS.pml4 + 256 * 8, BigInt(PHYS.kernelPdpt) | PRESENT | WRITE);
	put(PHYS.kernelPdpt, BigInt(PHYS.kernelPd) | PRESENT | WRITE);
	put(PHYS.kernelPd, BigInt(PHYS.kernelPt) | PRESENT | WRITE);
	for (let page = 0; page < RAM_BYTES; page += 4096) {
		put(PHYS.kernelPt + (page / 4096) * 8, BigInt(page) | PRESENT | WRITE);
	}
	for (const [slot, descriptor] of GDT) put(PHYS.gdt + slot * 8, encode(descriptor));
	const system = (slot: number, access: number, phys: number, limit: number): void => {
		const base = KERNEL + BigInt(phys);
		put(PHYS.gdt + slot * 8, encode({ base: Number(base & 0xffff_ffffn), limit, access, flags: 0 }));
		put(PHYS.gdt + slot * 8 + 8, base >> 32n);
	};
	system(8, 0x8b, PHYS.tss, 0x67);
	system(10, 0x82, PHYS.ldt, LDT.length * 8 - 1);
	LDT.forEach((descriptor, i) => {
		put(PHYS.ldt + i * 8, encode(descriptor));
	});
	const top = KERNEL + BigInt(PHYS.stackTop);
	put(PHYS.tss + 4, top);
	put(PHYS.tss + 36, top);
	view.setUint16(PHYS.tss + 102, 0x68, true);

	const common = PHYS.entry + 0x200;
	ram.set(entryCode(protectionKeys), PHYS.entry);
	ram.set(exitCode(common), common);
	for (let vector = 0; vector < 256; vector++) {
		const at = PHYS.stubs + vector * 16;
		const stub = [...(WITH_ERROR_CODE.has(vector) ? [] : [0x6a, 0]), 0x68, ...le32(vector)];
		ram.set([...stub, 0xe9, ...le32(common - (at + stub.length + 5))], at);
		const target = KERNEL + BigInt(at);
		// Interrupt gate on IST 1; INT3 and INTO may come from CPL3.
		const access = vector === 3 || vector === 4 ? 0xeen : 0x8en;
		put(
			PHYS.idt + vector * 16,
			(target & 0xffffn) | (0x10n << 16n) | (1n << 32n) | (access << 40n) | (((target >> 16n) & 0xffffn) << 48n),
		);
		put(PHYS.idt + vector * 16 + 8, target >> 32n);
	}
	ram.fill(0xcc, PHYS.code, PHYS.code + CODE_BYTES);
}

function systemRegisters(initial: Sregs): Sregs {
	const find = (slot: number): Descriptor => GDT.find(([index]) => index === slot)![1];
	const data = segment(0x18, find(3));
	return {
		...initial,
		cs: segment(0x10, find(2)),
		ss: data,
		ds: data,
		es: data,
		fs: data,
		gs: data,
		tr: { ...segment(0x40, { base: 0, limit: 0x67, access: 0x8b, flags: 0 }), base: KERNEL + BigInt(PHYS.tss) },
		ldt: {
			...segment(0x50, { base: 0, limit: LDT.length * 8 - 1, access: 0x82, flags: 0 }),
			base: KERNEL + BigInt(PHYS.ldt),
		},
		// 16 descriptors, as many as Linux has.
		gdt: { base: KERNEL + BigInt(PHYS.gdt), limit: 127 },
		idt: { base: KERNEL + BigInt(PHYS.idt), limit: 4095 },
		// PE MP ET NE WP AM PG
		cr0: 0x8005_0033n,
		cr2: 0n,
		cr3: BigInt(PHYS.pml4),
		// PAE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE
		cr4: 0x50620n,
		// SCE LME LMA NXE
		efer: 0xd01n,
	};
}

interface Guest {
	vm: Vm;
	vcpu: Vcpu;
	memory: GuestMemory;
	ram: Uint8Array;
	view: DataView;
	reset: () => void;
}

function runCases(guest: Guest, data: Uint8Array, cases: readonly Case[]): Outcome[] {
	const { ram, memory } = guest;
	const pages = Buffer.from(ram.buffer, ram.byteOffset + PHYS.data, DATA_BYTES);
	const template = Buffer.from(data.buffer, data.byteOffset, DATA_BYTES);
	pages.set(template);
	memory.written(PHYS.data, DATA_BYTES);
	let previous: Case | undefined;
	return cases
		.map((one) => {
			if (previous?.code !== one.code || previous.offset !== one.offset) {
				if (previous !== undefined) {
					ram.fill(0xcc, PHYS.code + previous.offset, PHYS.code + previous.offset + previous.code.length);
				}
				ram.set(one.code, PHYS.code + one.offset);
				memory.written(PHYS.code, CODE_BYTES);
				previous = one;
			}
			load(guest, one);
			let exit = guest.vcpu.run();
			// On a busy host a slice can end before the case has had its instructions.
			for (let slices = 1; exit.reason === "intr" && slices < 5; slices++) exit = guest.vcpu.run();
			if (exit.reason !== "hlt") {
				if (exit.reason !== "intr" && exit.reason !== "shutdown") {
					throw new Error(
						`the guest left with ${JSON.stringify(exit, (_, v) => (typeof v === "bigint" ? String(v) : v))}`,
					);
				}
				guest.reset();
				pages.set(template);
				const trap = exit.reason === "intr" ? END_TIMEOUT : END_SHUTDOWN;
				return {
					trap,
					error: 0,
					cr2: 0n,
					rip: 0n,
					rflags: 0n,
					gpr: one.gpr.map(() => 0n),
					selectors: [],
					dirtyOffset: 0,
					dirty: new Uint8Array(0),
					fx: new Uint8Array(512),
				};
			}
			const outcome = save(guest.view, ram, pages, template);
			pages.set(
				template.subarray(outcome.dirtyOffset, outcome.dirtyOffset + outcome.dirty.length),
				outcome.dirtyOffset,
			);
			return outcome;
		})
		.map((outcome, i) => {
			if (i === cases.length - 1 && previous !== undefined) {
				ram.fill(0xcc, PHYS.code + previous.offset, PHYS.code + previous.offset + previous.code.length);
				memory.written(PHYS.code, CODE_BYTES);
			}
			return outcome;
		});
}

function load({ ram, view }: Guest, one: Case): void {
	ram.set(one.fx, PHYS.input);
	const is64 = one.mode === 64;
	const data = is64 ? 0 : one.mode === 32 ? 0x2b : 0x0f;
	view.setUint32(PHYS.input + INPUT.ds, data, true);
	view.setUint32(PHYS.input + INPUT.fs, is64 ? 0 : 0x17, true);
	view.setUint32(PHYS.input + INPUT.gs, is64 ? 0 : 0x1f, true);
	view.setUint32(PHYS.input + INPUT.bases, is64 ? 1 : 0, true);
	for (let i = 0; i < 16; i++) view.setBigUint64(PHYS.input + INPUT.gpr + i * 8, one.gpr[i]!, true);
	const rip = (one.mode === 16 ? CODE - REGION : CODE) + one.offset;
	const cs = is64 ? 0x33n : one.mode === 16 ? 0x07n : one.limited === true ? 0x47n : 0x23n;
	const ss = one.mode === 16 ? 0x0fn : 0x2bn;
	[BigInt(rip), cs, one.rflags, one.gpr[4]!, ss].forEach((value, i) => {
		view.setBigUint64(PHYS.input + INPUT.frame + i * 8, value, true);
	});
}

function save(view: DataView, ram: Uint8Array, pages: Buffer, template: Buffer): Outcome {
	const saved = (slot: number): bigint => view.getBigUint64(PHYS.stackTop + slot * 8, true);
	const small = (slot: number): number => view.getUint16(PHYS.stackTop + slot * 8, true);
	const trap = small(SAVED.vector);
	const rip = saved(SAVED.rip);
	if (small(SAVED.cs) === 0x10) {
		throw new Error(`vector ${trap} at CPL0, rip ${rip.toString(16)}, error code ${saved(SAVED.error).toString(16)}`);
	}
	const gpr = Array.from({ length: 16 }, (_, i) => saved(SAVED.gpr + i));
	gpr[4] = saved(SAVED.rsp);
	let low = 0;
	let high = 0;
	if (pages.compare(template) !== 0) {
		high = DATA_BYTES;
		while (pages[low] === template[low]) low++;
		while (pages[high - 1] === template[high - 1]) high--;
		low &= ~7;
		high = (high + 7) & ~7;
	}
	return {
		trap,
		error: view.getUint32(PHYS.stackTop + SAVED.error * 8, true),
		cr2: saved(SAVED.cr2),
		rip,
		rflags: saved(SAVED.rflags),
		gpr,
		selectors: [SAVED.cs, SAVED.ss, SAVED.ds, SAVED.es, SAVED.fs, SAVED.gs].map(small),
		dirtyOffset: low,
		dirty: Uint8Array.from(pages.subarray(low, high)),
		fx: ram.slice(PHYS.fx, PHYS.fx + 512),
	};
}
