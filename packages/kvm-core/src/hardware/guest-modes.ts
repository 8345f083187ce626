import { longMode, protectedMode, realMode, SELECTORS } from "../client/modes.ts";
import { PageTables } from "../client/page-tables.ts";
import { encodeDescriptor, encodeGate, flatSegment } from "../client/segments.ts";
import type { Kvm, Sregs, VcpuExit } from "../kvm/types.ts";

/**
 * What guests a KVM really runs. Not every device that calls itself KVM runs all of them: some virtualise nothing but
 * user-mode code and emulate the rest instruction by instruction.
 */
export interface GuestModes {
	/** 16-bit real mode. */
	real: boolean;
	/** 32-bit protected mode without paging. */
	protected: boolean;
	/** 32-bit protected mode with paging. */
	paging: boolean;
	/** 64-bit mode at CPL 0. */
	long: boolean;
	/** SSE instructions at CPL 0. */
	sse: boolean;
	/** 64-bit code at CPL 3, and its exceptions. */
	user: boolean;
	/** SYSCALL from CPL 3. */
	syscall: boolean;
	/** Of a two-instruction loop at CPL 0 in 64-bit mode; 0 where that mode is not to be had. */
	kernelInstructionsPerSecond: number;
}

const CODE = 0x1000;
const STACK = 0x9000;
const TABLES = { start: 0x10000, bytes: 0x8000 };
const GDT = 0x2000;
const IDT = 0x3000;
const TSS = 0x4000;
const HANDLER = 0x5000;
const BYTES = 0x20000;
const USER_CODE = 0x33;
const USER_DATA = 0x2b;

/** Code, and how to enter it. */
interface Guest {
	code: readonly number[];
	enter: (from: Sregs, memory: Uint8Array) => Sregs;
	/** Written into the guest before it starts. */
	prepare?: (memory: Uint8Array) => void;
	/** MSRs before it starts. */
	msrs?: readonly { index: number; data: bigint }[];
}

const HLT = 0xf4;
/** inc rax; nop. */
const LONG: readonly number[] = [0x48, 0xff, 0xc0, 0x90];
/** pxor xmm0, xmm0; movq rax, xmm0. */
const SSE: readonly number[] = [0x66, 0x0f, 0xef, 0xc0, 0x66, 0x48, 0x0f, 0x7e, 0xc0];

const long: Guest["enter"] = (from, memory) => {
	const tables = new PageTables("4-level", memory, 0, TABLES);
	tables.map(0n, 0, BYTES, 0x1000, { user: true });
	return {
		...longMode(from, tables.root),
		gdt: { base: BigInt(GDT), limit: 0x5f },
		idt: { base: BigInt(IDT), limit: 0xfff },
		tr: { ...flatSegment("data16", 0x40), base: BigInt(TSS), limit: 0x67, type: 11, s: 0 },
	};
};

/** Kernel and user segments as SYSCALL wants them, and every exception on a HLT. */
function descriptors(memory: Uint8Array): void {
	const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
	const segments = [
		flatSegment("code64", SELECTORS.code),
		flatSegment("data32", SELECTORS.data),
		flatSegment("code32", 0x23, 3),
		flatSegment("data32", USER_DATA, 3),
		flatSegment("code64", USER_CODE, 3),
	];
	[1, 2, 4, 5, 6].forEach((slot, i) => {
		view.setBigUint64(GDT + slot * 8, encodeDescriptor(segments[i]!), true);
	});
	view.setBigUint64(TSS + 4, BigInt(STACK), true);
	for (let vector = 0; vector < 32; vector++) {
		const gate = { selector: SELECTORS.code, offset: BigInt(HANDLER + vector), type: 14, dpl: 3 } as const;
		encodeGate(gate, true).forEach((half, i) => {
			view.setBigUint64(IDT + vector * 16 + i * 8, half, true);
		});
	}
	memory.fill(HLT, HANDLER, HANDLER + 32);
}

const le32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 255);

/** push ss, rsp, rflags, cs, rip; iretq. */
const toUser = (rip: number): number[] => [
	...[0x6a, USER_DATA],
	...[0x68, ...le32(STACK - 0x800)],
	...[0x6a, 2],
	...[0x6a, USER_CODE],
	...[0x68, ...le32(rip)],
	...[0x48, 0xcf],
];
const TO_USER_BYTES = toUser(0).length;

/** Runs tiny guests on `kvm` and says which of them did what they should. Takes about 20 ms. */
export function probeGuestModes(kvm: Kvm, now: () => number): GuestModes {
	const ends = (guest: Guest, at: number): boolean => {
		const { exit, rip } = run(kvm, guest, 200);
		return exit.reason === "hlt" && rip === at + 1;
	};
	const plain = (enter: Guest["enter"], code: readonly number[]): boolean =>
		ends({ code: [...code, HLT], enter }, CODE + code.length);
	// inc eax; mov [0x8000], eax
	const store = [0xff, 0xc0, 0xa3, 0x00, 0x80];
	const paging: Guest["enter"] = (from, memory) => {
		const tables = new PageTables("legacy", memory, 0, TABLES);
		tables.map(0n, 0, BYTES, 0x1000);
		return protectedMode(from, { format: "legacy", root: tables.root });
	};
	const user = CODE + TO_USER_BYTES;
	return {
		real: plain(realMode, store),
		protected: plain((from) => protectedMode(from), [...store, 0, 0]),
		paging: plain(paging, [...store, 0, 0]),
		long: plain(long, LONG),
		sse: plain(long, SSE),
		// int3
		user: ends({ code: [...toUser(user), 0xcc], enter: long, prepare: descriptors }, HANDLER + 3),
		syscall: ends(
			{
				code: [...toUser(user), 0x0f, 0x05],
				enter: long,
				prepare: descriptors,
				msrs: [
					{ index: 0xc0000081, data: (0x1bn << 48n) | (BigInt(SELECTORS.code) << 32n) },
					{ index: 0xc0000082, data: BigInt(HANDLER + 0x18) },
				],
			},
			HANDLER + 0x18,
		),
		kernelInstructionsPerSecond: speed(kvm, now),
	};
}

/** Whether a KVM runs kernels by way of an emulator: it then lacks SSE there. */
export function emulatesKernels(kvm: Kvm): boolean {
	return haltsBehind(kvm, LONG) && !haltsBehind(kvm, SSE);
}

function haltsBehind(kvm: Kvm, code: readonly number[]): boolean {
	const { exit, rip } = run(kvm, { code: [...code, HLT], enter: long }, 200);
	return exit.reason === "hlt" && rip === CODE + code.length + 1;
}

/** Milliseconds the guest gets; on a busy host a slice can be over before the guest is entered. */
const SPEED_SLICES = [5, 20, 80, 200];

/** dec ecx; jnz. */
function speed(kvm: Kvm, now: () => number): number {
	for (const slice of SPEED_SLICES) {
		const before = now();
		const { exit, vcpuRcx } = run(kvm, { code: [0xff, 0xc9, 0x75, 0xfc, HLT], enter: long }, slice, 0xffff_ffffn);
		const seconds = (now() - before) / 1000;
		if (exit.reason !== "intr" && exit.reason !== "hlt") return 0;
		const rounds = 0xffff_ffff - Number(vcpuRcx);
		if (rounds > 0 && seconds > 0) return Math.round((2 * rounds) / seconds);
	}
	return 0;
}

function run(kvm: Kvm, guest: Guest, milliseconds: number, rcx = 0n): { exit: VcpuExit; rip: number; vcpuRcx: bigint } {
	const vm = kvm.createVm({ memoryBytes: BYTES });
	try {
		const memory = vm.createMemory(BYTES);
		vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: BYTES, memory });
		const bytes = memory.view(0, BYTES);
		bytes.set(guest.code, CODE);
		guest.prepare?.(bytes);
		const vcpu = vm.createVcpu(0);
		vcpu.setCpuid2(kvm.getSupportedCpuid());
		vcpu.setSregs(guest.enter(vcpu.getSregs(), bytes));
		memory.written(0, BYTES);
		if (guest.msrs !== undefined) vcpu.setMsrs(guest.msrs);
		vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rsp: BigInt(STACK), rcx, rflags: 2n });
		vcpu.setSlice({ milliseconds });
		const exit = vcpu.run();
		const regs = vcpu.getRegs();
		return { exit, rip: Number(regs.rip), vcpuRcx: regs.rcx };
	} catch {
		// An engine that refuses the registers has no such mode.
		return { exit: { reason: "fail-entry", hardwareEntryFailureReason: 0n, cpu: 0 }, rip: 0, vcpuRcx: 0n };
	} finally {
		vm.close();
	}
}
