import type { EnableCap, Sregs2 } from "./optional.ts";
import type {
	CpuidEntry,
	DebugRegs,
	DescriptorTable,
	Fpu,
	IrqRoute,
	MpState,
	Regs,
	Segment,
	Sregs,
	VcpuEvents,
} from "./types.ts";

/** The structs of linux/kvm.h: bytes to objects and back. Little-endian, as x86 is. */

export const REGS_BYTES = 144;
export const SREGS_BYTES = 312;
export const SREGS2_BYTES = 320;
export const EVENTS_BYTES = 64;
export const DEBUG_REGS_BYTES = 128;
export const CPUID_ENTRY_BYTES = 40;
export const ROUTE_BYTES = 48;
export const XCRS_BYTES = 392;
export const MSR_ENTRY_BYTES = 16;

const REGS: readonly (keyof Regs)[] = [
	"rax",
	"rbx",
	"rcx",
	"rdx",
	"rsi",
	"rdi",
	"rsp",
	"rbp",
	"r8",
	"r9",
	"r10",
	"r11",
	"r12",
	"r13",
	"r14",
	"r15",
	"rip",
	"rflags",
];

export function readRegs(view: DataView, at = 0): Regs {
	const regs = {} as Regs;
	for (let i = 0; i < REGS.length; i++) regs[REGS[i]!] = view.getBigUint64(at + i * 8, true);
	return regs;
}

export function writeRegs(view: DataView, regs: Readonly<Regs>, at = 0): void {
	for (let i = 0; i < REGS.length; i++) view.setBigUint64(at + i * 8, regs[REGS[i]!], true);
}

const SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"] as const;
const SEGMENT_BYTES = 24;
const SEGMENT_FLAGS = ["type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable"] as const;
const SEGMENT_FLAGS_AT = 14;
const TABLES = ["gdt", "idt"] as const;
const TABLES_AT: number = SEGMENTS.length * SEGMENT_BYTES;
const TABLE_BYTES = 16;
const CONTROLS = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apicBase"] as const;
const CONTROLS_AT: number = TABLES_AT + TABLES.length * TABLE_BYTES;
const BITMAP_AT: number = CONTROLS_AT + CONTROLS.length * 8;

function readSegment(view: DataView, at: number): Segment {
	const segment = {
		base: view.getBigUint64(at, true),
		limit: view.getUint32(at + 8, true),
		selector: view.getUint16(at + 12, true),
	} as Segment;
	SEGMENT_FLAGS.forEach((name, i) => {
		segment[name] = view.getUint8(at + SEGMENT_FLAGS_AT + i);
	});
	return segment;
}

function writeSegment(view: DataView, at: number, segment: Readonly<Segment>): void {
	view.setBigUint64(at, segment.base, true);
	view.setUint32(at + 8, segment.limit, true);
	view.setUint16(at + 12, segment.selector, true);
	SEGMENT_FLAGS.forEach((name, i) => {
		view.setUint8(at + SEGMENT_FLAGS_AT + i, segment[name]);
	});
}

export function readSregs(view: DataView, from = 0): Sregs {
	const sregs = {} as Sregs;
	SEGMENTS.forEach((name, i) => {
		sregs[name] = readSegment(view, from + i * SEGMENT_BYTES);
	});
	TABLES.forEach((name, i) => {
		const at = from + TABLES_AT + i * TABLE_BYTES;
		const table: DescriptorTable = { base: view.getBigUint64(at, true), limit: view.getUint16(at + 8, true) };
		sregs[name] = table;
	});
	CONTROLS.forEach((name, i) => {
		sregs[name] = view.getBigUint64(from + CONTROLS_AT + i * 8, true);
	});
	const bits = [0, 1, 2, 3].map((i) => view.getBigUint64(from + BITMAP_AT + i * 8, true));
	sregs.interruptBitmap = [bits[0]!, bits[1]!, bits[2]!, bits[3]!];
	return sregs;
}

export function writeSregs(view: DataView, sregs: Readonly<Sregs>): void {
	SEGMENTS.forEach((name, i) => {
		writeSegment(view, i * SEGMENT_BYTES, sregs[name]);
	});
	TABLES.forEach((name, i) => {
		const at = TABLES_AT + i * TABLE_BYTES;
		view.setBigUint64(at, sregs[name].base, true);
		view.setUint16(at + 8, sregs[name].limit, true);
	});
	CONTROLS.forEach((name, i) => {
		view.setBigUint64(CONTROLS_AT + i * 8, sregs[name], true);
	});
	sregs.interruptBitmap.forEach((bits, i) => {
		view.setBigUint64(BITMAP_AT + i * 8, bits, true);
	});
}

/** Where struct kvm_sregs2 goes its own way: flags, and PAE's page-directory pointers. */
const SREGS2_PDPTRS_VALID = 1n;

export function readSregs2(view: DataView): Sregs2 {
	const { interruptBitmap: _, ...sregs } = readSregs(view);
	if ((view.getBigUint64(BITMAP_AT, true) & SREGS2_PDPTRS_VALID) === 0n) return sregs;
	const [a, b, c, d] = [1, 2, 3, 4].map((i) => view.getBigUint64(BITMAP_AT + i * 8, true));
	return { ...sregs, pdptrs: [a!, b!, c!, d!] };
}

export function writeSregs2(view: DataView, sregs: Readonly<Sregs2>): void {
	const { pdptrs } = sregs;
	writeSregs(view, { ...sregs, interruptBitmap: [0n, 0n, 0n, 0n] });
	view.setBigUint64(BITMAP_AT, pdptrs === undefined ? 0n : SREGS2_PDPTRS_VALID, true);
	[0, 1, 2, 3].forEach((i) => {
		view.setBigUint64(BITMAP_AT + 8 + i * 8, pdptrs?.[i] ?? 0n, true);
	});
}

/** The legacy region of the XSAVE area, and its header's bits for x87 and SSE. */
const FX = { fcw: 0, fsw: 2, ftwx: 4, fop: 6, fip: 8, fdp: 16, mxcsr: 24, st: 32, xmm: 160, xstateBv: 512 } as const;
const X87_AND_SSE = 3;

export function readFpu(area: DataView): Fpu {
	const bytes = (at: number): Uint8Array => new Uint8Array(area.buffer, area.byteOffset + at, 16).slice();
	return {
		fpr: Array.from({ length: 8 }, (_, i) => bytes(FX.st + i * 16)),
		fcw: area.getUint16(FX.fcw, true),
		fsw: area.getUint16(FX.fsw, true),
		ftwx: area.getUint8(FX.ftwx),
		lastOpcode: area.getUint16(FX.fop, true),
		lastIp: area.getBigUint64(FX.fip, true),
		lastDp: area.getBigUint64(FX.fdp, true),
		xmm: Array.from({ length: 16 }, (_, i) => bytes(FX.xmm + i * 16)),
		mxcsr: area.getUint32(FX.mxcsr, true),
	};
}

/** Puts both components into an area that has been read. */
export function writeFpu(area: DataView, fpu: Readonly<Fpu>): void {
	const put = (at: number, value: Uint8Array): void =>
		new Uint8Array(area.buffer, area.byteOffset + at, 16).set(value.subarray(0, 16));
	fpu.fpr.forEach((value, i) => {
		put(FX.st + i * 16, value);
	});
	area.setUint16(FX.fcw, fpu.fcw, true);
	area.setUint16(FX.fsw, fpu.fsw, true);
	area.setUint8(FX.ftwx, fpu.ftwx);
	area.setUint16(FX.fop, fpu.lastOpcode, true);
	area.setBigUint64(FX.fip, fpu.lastIp, true);
	area.setBigUint64(FX.fdp, fpu.lastDp, true);
	fpu.xmm.forEach((value, i) => {
		put(FX.xmm + i * 16, value);
	});
	area.setUint32(FX.mxcsr, fpu.mxcsr, true);
	area.setUint32(FX.xstateBv, area.getUint32(FX.xstateBv, true) | X87_AND_SSE, true);
}

/** Which of the fields below are meant (KVM_VCPUEVENT_VALID_*): NMI pending, SIPI vector, shadow. */
const EVENTS_VALID = 7;
const SHADOW_MOV_SS = 1;
const SHADOW_STI = 2;

export function readEvents(view: DataView): VcpuEvents {
	const flag = (at: number): boolean => view.getUint8(at) !== 0;
	const shadow = view.getUint8(11);
	return {
		exception: {
			injected: flag(0),
			nr: view.getUint8(1),
			hasErrorCode: flag(2),
			pending: flag(3),
			errorCode: view.getUint32(4, true),
		},
		interrupt: {
			injected: flag(8),
			nr: view.getUint8(9),
			soft: flag(10),
			shadow: (shadow & SHADOW_MOV_SS) !== 0 ? "mov-ss" : (shadow & SHADOW_STI) !== 0 ? "sti" : "none",
		},
		nmi: { injected: flag(12), pending: flag(13), masked: flag(14) },
		sipiVector: view.getUint32(16, true),
	};
}

export function writeEvents(view: DataView, events: Readonly<VcpuEvents>): void {
	new Uint8Array(view.buffer, view.byteOffset, EVENTS_BYTES).fill(0);
	const flag = (at: number, on: boolean): void => view.setUint8(at, on ? 1 : 0);
	const { exception, interrupt, nmi } = events;
	flag(0, exception.injected);
	view.setUint8(1, exception.nr);
	flag(2, exception.hasErrorCode);
	flag(3, exception.pending);
	view.setUint32(4, exception.errorCode, true);
	flag(8, interrupt.injected);
	view.setUint8(9, interrupt.nr);
	flag(10, interrupt.soft);
	view.setUint8(11, interrupt.shadow === "mov-ss" ? SHADOW_MOV_SS : interrupt.shadow === "sti" ? SHADOW_STI : 0);
	flag(12, nmi.injected);
	flag(13, nmi.pending);
	flag(14, nmi.masked);
	view.setUint32(16, events.sipiVector, true);
	view.setUint32(20, EVENTS_VALID, true);
}

export function readDebugRegs(view: DataView): DebugRegs {
	const at = (i: number): bigint => view.getBigUint64(i * 8, true);
	return { db: [at(0), at(1), at(2), at(3)], dr6: at(4), dr7: at(5) };
}

export function writeDebugRegs(view: DataView, regs: Readonly<DebugRegs>): void {
	new Uint8Array(view.buffer, view.byteOffset, DEBUG_REGS_BYTES).fill(0);
	[...regs.db, regs.dr6, regs.dr7].forEach((value, i) => {
		view.setBigUint64(i * 8, value, true);
	});
}

/** KVM_CPUID_FLAG_SIGNIFCANT_INDEX. */
const SIGNIFICANT_INDEX = 1;

export function readCpuid(view: DataView, at: number): CpuidEntry {
	const word = (i: number): number => view.getUint32(at + i * 4, true);
	return {
		function: word(0),
		index: word(1),
		significantIndex: (word(2) & SIGNIFICANT_INDEX) !== 0,
		eax: word(3),
		ebx: word(4),
		ecx: word(5),
		edx: word(6),
	};
}

export function writeCpuid(view: DataView, at: number, entry: Readonly<CpuidEntry>): void {
	const flags = entry.significantIndex ? SIGNIFICANT_INDEX : 0;
	[entry.function, entry.index, flags, entry.eax, entry.ebx, entry.ecx, entry.edx].forEach((value, i) => {
		view.setUint32(at + i * 4, value, true);
	});
}

const CHIPS = { "pic-master": 0, "pic-slave": 1, ioapic: 2 } as const;
const ROUTE_IRQCHIP = 1;
const ROUTE_MSI = 2;

export function writeRoute(view: DataView, at: number, route: IrqRoute): void {
	view.setUint32(at, route.gsi, true);
	if (route.type === "irqchip") {
		view.setUint32(at + 4, ROUTE_IRQCHIP, true);
		view.setUint32(at + 16, CHIPS[route.chip], true);
		view.setUint32(at + 20, route.pin, true);
	} else {
		view.setUint32(at + 4, ROUTE_MSI, true);
		view.setBigUint64(at + 16, route.msi.address, true);
		view.setUint32(at + 24, route.msi.data, true);
	}
}

/** By number, KVM_MP_STATE_*. */
export const MP_STATES: readonly MpState[] = ["runnable", "uninitialized", "init-received", "halted", "sipi-received"];

/** struct kvm_enable_cap. */
export function enableCapBytes(number: number, { flags = 0, args = [] }: EnableCap): Uint8Array {
	const bytes = new Uint8Array(104);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, number, true);
	view.setUint32(4, flags, true);
	args.slice(0, 4).forEach((value, i) => {
		view.setBigUint64(8 + i * 8, value, true);
	});
	return bytes;
}

/** struct kvm_irqfd. */
export function irqfdBytes(fd: number, gsi: number, flags: number, resampleFd: number): Uint8Array {
	return new Uint8Array(Uint32Array.of(fd, gsi, flags, resampleFd, 0, 0, 0, 0).buffer);
}
