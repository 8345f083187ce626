import { closeSync } from "node:fs";
import { KvmError } from "../kvm/errors.ts";
import type { CoalescedWrite, EnableCap, KvmStats, Sregs2 } from "../kvm/optional.ts";
import * as S from "../kvm/structs.ts";
import type {
	CpuidEntry,
	DebugRegs,
	Fpu,
	GuestDebug,
	MpState,
	MsrEntry,
	Regs,
	Sregs,
	Translation,
	Vcpu,
	VcpuEvents,
	VcpuExit,
} from "../kvm/types.ts";
import { ExitReader } from "./exits.ts";
import { CAPABILITIES, KVM, RUN } from "./ioctls.ts";
import type { Ioevents } from "./ioevents.ts";
import { isInterrupted, type Libc, type Runner, runError } from "./libc.node.ts";
import { SliceTimer } from "./slice-timer.node.ts";
import { readStats } from "./stats.node.ts";

/**
 * How long a run goes on when the embedder has not said: short enough that timers of the same thread come in time, and
 * long enough to cost few hundredths of it.
 */
export const DEFAULT_SLICE_MILLISECONDS = 1;
const CPUID_MAX = 256;
const XSAVE_BYTES = 4096;
const PAGE = 4096;
/** KVM_SYNC_X86_*. */
const SYNC_REGS = 1;
const SYNC_SREGS = 2;
/** struct kvm_coalesced_mmio_ring, whose entries fill the rest of its page. */
const RING = { first: 0, last: 4, entries: 8, entryBytes: 24, length: 8, pio: 12, data: 16, count: 170 } as const;

/** What the VM knows that its vCPUs need. */
export interface VcpuTraits {
	/** Of the run page and what is mapped behind it. */
	pageBytes: number;
	/** Which register sets KVM puts on the run page when asked. */
	syncRegs: number;
	/** Of the XSAVE area; 0 without KVM_CAP_XSAVE2. */
	xsaveBytes: number;
	/** The page of the ring of coalesced writes, in pages from the run page; 0 without. */
	ringPage: number;
}

/** A vCPU of /dev/kvm, run on the thread that calls. */
export class HardwareVcpu implements Vcpu {
	readonly id: number;
	/** The device does not count. */
	readonly instructionsRetired: undefined;
	readonly #libc: Libc;
	readonly #fd: number;
	readonly #pageAddress: bigint;
	readonly #page: Uint8Array;
	readonly #view: DataView;
	readonly #runner: Runner;
	readonly #timer: SliceTimer;
	readonly #exits: ExitReader;
	readonly #ioevents: Ioevents;
	readonly #traits: VcpuTraits;
	readonly #scratch: Uint8Array;
	readonly #scratchView: DataView;
	/** Register sets that the run page shows as they are: those asked for once, since the last run. */
	#onPage = 0;
	/** Asked for: KVM then puts them there at every exit. */
	#wanted = 0;
	#closed = false;

	constructor(libc: Libc, vmFd: number, id: number, traits: VcpuTraits, ioevents: Ioevents) {
		this.id = id;
		this.#libc = libc;
		this.#ioevents = ioevents;
		this.#traits = traits;
		this.#scratch = new Uint8Array(Math.max(PAGE, traits.xsaveBytes));
		this.#scratchView = new DataView(this.#scratch.buffer);
		this.#fd = libc.ioctl(vmFd, KVM.CREATE_VCPU, id, "KVM_CREATE_VCPU");
		this.#pageAddress = libc.mmapShared(this.#fd, traits.pageBytes);
		this.#page = new Uint8Array(libc.view(this.#pageAddress, traits.pageBytes));
		this.#view = new DataView(this.#page.buffer);
		this.#runner = libc.runner(this.#fd, {
			address: this.#pageAddress + BigInt(RUN.spare),
			words: new Int32Array(this.#page.buffer),
			index: RUN.spare / 4,
		});
		this.#exits = new ExitReader(this.#page);
		this.#timer = new SliceTimer(libc, DEFAULT_SLICE_MILLISECONDS);
	}

	setSlice(slice: { milliseconds?: number; instructions?: number }): void {
		this.#timer.setLength(slice.milliseconds ?? DEFAULT_SLICE_MILLISECONDS);
	}

	run(): VcpuExit {
		if (this.#closed) throw new KvmError("ENODEV", "KVM_RUN", "the virtual machine is closed");
		for (;;) {
			if (!this.#timer.enter()) return { reason: "intr" };
			this.#onPage = 0;
			const errno = this.#runner.run();
			if (errno !== 0) {
				this.#timer.end();
				if (isInterrupted(errno)) return { reason: "intr" };
				throw runError(errno);
			}
			this.#onPage = this.#wanted;
			const exit = this.#exits.read();
			if (!this.#ioevents.isEmpty && (exit.reason === "io" || exit.reason === "mmio") && this.#ioevents.take(exit)) {
				continue;
			}
			return exit;
		}
	}

	setImmediateExit(on: boolean): void {
		this.#live()[RUN.immediateExit] = on ? 1 : 0;
	}

	get readyForInterruptInjection(): boolean {
		return this.#live()[RUN.readyForInterruptInjection] !== 0;
	}

	get requestInterruptWindow(): boolean {
		return this.#live()[RUN.requestInterruptWindow] !== 0;
	}

	set requestInterruptWindow(on: boolean) {
		this.#live()[RUN.requestInterruptWindow] = on ? 1 : 0;
	}

	get ifFlag(): boolean {
		return this.#live()[RUN.ifFlag] !== 0;
	}

	get cr8(): bigint {
		this.#open();
		return this.#view.getBigUint64(RUN.cr8, true);
	}

	get apicBase(): bigint {
		this.#open();
		return this.#view.getBigUint64(RUN.apicBase, true);
	}

	/** From the run page where it has them: an ioctl costs as much as an exit. */
	getRegs(): Regs {
		if (this.#synced(SYNC_REGS)) return S.readRegs(this.#view, RUN.syncRegs);
		return S.readRegs(this.#get(KVM.GET_REGS, "KVM_GET_REGS"));
	}

	setRegs(regs: Readonly<Regs>): void {
		S.writeRegs(this.#scratchView, regs);
		this.#set(KVM.SET_REGS, "KVM_SET_REGS");
		if ((this.#onPage & SYNC_REGS) !== 0) S.writeRegs(this.#view, regs, RUN.syncRegs);
	}

	getSregs(): Sregs {
		if (this.#synced(SYNC_SREGS)) return S.readSregs(this.#view, RUN.syncSregs);
		return S.readSregs(this.#get(KVM.GET_SREGS, "KVM_GET_SREGS"));
	}

	setSregs(sregs: Readonly<Sregs>): void {
		this.#onPage = 0;
		this.#scratch.fill(0, 0, S.SREGS_BYTES);
		S.writeSregs(this.#scratchView, sregs);
		this.#set(KVM.SET_SREGS, "KVM_SET_SREGS");
	}

	getSregs2(): Sregs2 {
		return S.readSregs2(this.#get(KVM.GET_SREGS2, "KVM_GET_SREGS2"));
	}

	setSregs2(sregs: Readonly<Sregs2>): void {
		this.#onPage = 0;
		this.#scratch.fill(0, 0, S.SREGS2_BYTES);
		S.writeSregs2(this.#scratchView, sregs);
		this.#set(KVM.SET_SREGS2, "KVM_SET_SREGS2");
	}

	/** Through the XSAVE area, because KVM_GET_FPU and KVM_SET_FPU leave MXCSR and the bits of components in use alone. */
	getFpu(): Fpu {
		return S.readFpu(this.#readXsave());
	}

	setFpu(fpu: Readonly<Fpu>): void {
		S.writeFpu(this.#readXsave(), fpu);
		this.#set(KVM.SET_XSAVE, "KVM_SET_XSAVE");
	}

	/** Through KVM_GET_XSAVE2 where the area is larger than a page. */
	getXsave(): Uint8Array {
		this.#readXsave();
		return this.#scratch.slice(0, Math.max(XSAVE_BYTES, this.#traits.xsaveBytes));
	}

	setXsave(area: Uint8Array): void {
		if (area.length > this.#scratch.length) {
			throw new KvmError("EINVAL", "KVM_SET_XSAVE", `${area.length} bytes; the area has ${this.#scratch.length}`);
		}
		this.#scratch.fill(0);
		this.#scratch.set(area);
		this.#set(KVM.SET_XSAVE, "KVM_SET_XSAVE");
	}

	getXcrs(): { xcr: number; value: bigint }[] {
		const view = this.#get(KVM.GET_XCRS, "KVM_GET_XCRS");
		return Array.from({ length: view.getUint32(0, true) }, (_, i) => ({
			xcr: view.getUint32(8 + i * 16, true),
			value: view.getBigUint64(16 + i * 16, true),
		}));
	}

	setXcrs(xcrs: readonly { xcr: number; value: bigint }[]): void {
		if (xcrs.length > 16) throw new KvmError("EINVAL", "KVM_SET_XCRS", `${xcrs.length} registers; 16 at most`);
		this.#scratch.fill(0, 0, S.XCRS_BYTES);
		this.#scratchView.setUint32(0, xcrs.length, true);
		xcrs.forEach(({ xcr, value }, i) => {
			this.#scratchView.setUint32(8 + i * 16, xcr, true);
			this.#scratchView.setBigUint64(16 + i * 16, value, true);
		});
		this.#set(KVM.SET_XCRS, "KVM_SET_XCRS");
	}

	getMsrs(indices: readonly number[]): MsrEntry[] {
		return readMsrs(this.#libc, this.#open(), indices);
	}

	setMsrs(entries: readonly MsrEntry[]): number {
		this.#onPage = 0;
		const { list } = msrList(entries);
		return this.#libc.ioctlBuffer(this.#open(), KVM.SET_MSRS, list, "KVM_SET_MSRS");
	}

	setCpuid2(entries: readonly CpuidEntry[]): void {
		const list = new Uint8Array(8 + entries.length * S.CPUID_ENTRY_BYTES);
		const view = new DataView(list.buffer);
		view.setUint32(0, entries.length, true);
		entries.forEach((entry, i) => {
			S.writeCpuid(view, 8 + i * S.CPUID_ENTRY_BYTES, entry);
		});
		this.#libc.ioctlBuffer(this.#open(), KVM.SET_CPUID2, list, "KVM_SET_CPUID2");
	}

	getCpuid2(): CpuidEntry[] {
		return readCpuidList(this.#libc, this.#open(), KVM.GET_CPUID2, "KVM_GET_CPUID2");
	}

	getLapic(): Uint8Array {
		this.#get(KVM.GET_LAPIC, "KVM_GET_LAPIC");
		return this.#scratch.slice(0, 1024);
	}

	setLapic(page: Uint8Array): void {
		this.#onPage = 0;
		if (page.length !== 1024) throw new KvmError("EINVAL", "KVM_SET_LAPIC", `${page.length} bytes; the page has 1024`);
		this.#scratch.set(page);
		this.#set(KVM.SET_LAPIC, "KVM_SET_LAPIC");
	}

	getMpState(): MpState {
		const number = this.#get(KVM.GET_MP_STATE, "KVM_GET_MP_STATE").getUint32(0, true);
		const state = S.MP_STATES[number];
		if (state === undefined) throw new KvmError("EIO", "KVM_GET_MP_STATE", `state ${number}`);
		return state;
	}

	setMpState(state: MpState): void {
		this.#onPage = 0;
		this.#scratchView.setUint32(0, S.MP_STATES.indexOf(state), true);
		this.#set(KVM.SET_MP_STATE, "KVM_SET_MP_STATE");
	}

	getVcpuEvents(): VcpuEvents {
		return S.readEvents(this.#get(KVM.GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"));
	}

	setVcpuEvents(events: Readonly<VcpuEvents>): void {
		this.#onPage = 0;
		S.writeEvents(this.#scratchView, events);
		this.#set(KVM.SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS");
	}

	getDebugRegs(): DebugRegs {
		return S.readDebugRegs(this.#get(KVM.GET_DEBUGREGS, "KVM_GET_DEBUGREGS"));
	}

	setDebugRegs(regs: Readonly<DebugRegs>): void {
		S.writeDebugRegs(this.#scratchView, regs);
		this.#set(KVM.SET_DEBUGREGS, "KVM_SET_DEBUGREGS");
	}

	getTscKhz(): number {
		return this.#libc.ioctl(this.#open(), KVM.GET_TSC_KHZ, 0, "KVM_GET_TSC_KHZ");
	}

	setTscKhz(khz: number): void {
		this.#libc.ioctl(this.#open(), KVM.SET_TSC_KHZ, khz, "KVM_SET_TSC_KHZ");
	}

	interrupt(vector: number): void {
		this.#onPage = 0;
		this.#scratchView.setUint32(0, vector, true);
		this.#set(KVM.INTERRUPT, "KVM_INTERRUPT");
	}

	nmi(): void {
		this.#libc.ioctl(this.#open(), KVM.NMI, 0, "KVM_NMI");
	}

	translateGva(linear: bigint): Translation {
		this.#scratch.fill(0, 0, 24);
		this.#scratchView.setBigUint64(0, linear, true);
		const view = this.#get(KVM.TRANSLATE, "KVM_TRANSLATE");
		const valid = view.getUint8(16) !== 0;
		return {
			physicalAddress: valid ? Number(view.getBigUint64(8, true)) : 0,
			valid,
			writeable: view.getUint8(17) !== 0,
			usermode: view.getUint8(18) !== 0,
		};
	}

	setGuestDebug(debug: GuestDebug): void {
		this.#onPage = 0;
		const breakpoints = debug.hardwareBreakpoints ?? [];
		if (breakpoints.length > 4) {
			throw new KvmError("EINVAL", "KVM_SET_GUEST_DEBUG", `${breakpoints.length} hardware breakpoints; 4 at most`);
		}
		const flags =
			(debug.enable ? 1 : 0) |
			(debug.singleStep === true ? 2 : 0) |
			(debug.softwareBreakpoints === true ? 0x10000 : 0) |
			(breakpoints.length > 0 ? 0x20000 : 0);
		this.#scratch.fill(0, 0, 72);
		this.#scratchView.setUint32(0, debug.enable ? flags : 0, true);
		let dr7 = 0x400;
		breakpoints.forEach(({ address, kind, length }, i) => {
			this.#scratchView.setBigUint64(8 + i * 8, address, true);
			const type = kind === "execute" ? 0 : kind === "write" ? 1 : 3;
			const size = kind === "execute" ? 0 : [0, 0, 1, 0, 3, 0, 0, 0, 2][length]!;
			dr7 |= (2 << (i * 2)) | ((type | (size << 2)) << (16 + i * 4));
		});
		this.#scratchView.setBigUint64(8 + 7 * 8, BigInt(dr7 >>> 0), true);
		this.#set(KVM.SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG");
	}

	enableCap(cap: EnableCap): void {
		const number = CAPABILITIES[cap.capability];
		if (number === undefined) throw new KvmError("EINVAL", "KVM_ENABLE_CAP", `nobody knows ${cap.capability}`);
		this.#libc.ioctlBuffer(this.#open(), KVM.ENABLE_CAP, S.enableCapBytes(number, cap), "KVM_ENABLE_CAP");
	}

	getOneReg(id: bigint, bytes: number): Uint8Array {
		const value = new Uint8Array(bytes);
		this.#oneReg(KVM.GET_ONE_REG, "KVM_GET_ONE_REG", id, value);
		return value;
	}

	setOneReg(id: bigint, value: Uint8Array): void {
		this.#onPage = 0;
		this.#oneReg(KVM.SET_ONE_REG, "KVM_SET_ONE_REG", id, value);
	}

	getRegList(): bigint[] {
		const room = 1024;
		const list = new BigUint64Array(1 + room);
		list[0] = BigInt(room);
		this.#libc.ioctlBuffer(this.#open(), KVM.GET_REG_LIST, new Uint8Array(list.buffer), "KVM_GET_REG_LIST");
		return [...list.subarray(1, 1 + Number(list[0]))];
	}

	kvmclockCtrl(): void {
		this.#libc.ioctl(this.#open(), KVM.KVMCLOCK_CTRL, 0, "KVM_KVMCLOCK_CTRL");
	}

	smi(): void {
		this.#libc.ioctl(this.#open(), KVM.SMI, 0, "KVM_SMI");
	}

	readCoalescedMmio(): CoalescedWrite | undefined {
		const { ringPage } = this.#traits;
		if (ringPage === 0) throw new KvmError("ENOTTY", "KVM_REGISTER_COALESCED_MMIO", "this kernel coalesces nothing");
		this.#open();
		const ring = ringPage * PAGE;
		const first = this.#view.getUint32(ring + RING.first, true);
		if (first >= RING.count || first === this.#view.getUint32(ring + RING.last, true)) return undefined;
		const at = ring + RING.entries + first * RING.entryBytes;
		const length = Math.min(8, this.#view.getUint32(at + RING.length, true));
		const write: CoalescedWrite = {
			address: Number(this.#view.getBigUint64(at, true)),
			space: this.#view.getUint32(at + RING.pio, true) !== 0 ? "pio" : "mmio",
			data: this.#page.slice(at + RING.data, at + RING.data + length),
		};
		this.#view.setUint32(ring + RING.first, (first + 1) % RING.count, true);
		return write;
	}

	getStats(): KvmStats {
		return readStats(this.#libc, this.#open());
	}

	/** @internal The VM calls it. */
	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#timer.close();
		this.#runner.release();
		this.#libc.release(this.#pageAddress, this.#traits.pageBytes, [this.#page.buffer as ArrayBuffer]);
		closeSync(this.#fd);
	}

	/** Whether a register set stands on the run page. Whoever asks once gets it there from the next exit on. */
	#synced(set: number): boolean {
		this.#open();
		if ((this.#onPage & set) !== 0) return true;
		if ((this.#traits.syncRegs & set) !== 0 && (this.#wanted & set) === 0) {
			this.#wanted |= set;
			this.#view.setBigUint64(RUN.validRegs, BigInt(this.#wanted), true);
		}
		return false;
	}

	#readXsave(): DataView {
		return this.#traits.xsaveBytes > XSAVE_BYTES
			? this.#get(KVM.GET_XSAVE2, "KVM_GET_XSAVE2")
			: this.#get(KVM.GET_XSAVE, "KVM_GET_XSAVE");
	}

	#oneReg(request: number, name: string, id: bigint, value: Uint8Array): void {
		const bytes = new Uint8Array(new BigUint64Array([id, this.#libc.addressOf(value)]).buffer);
		this.#libc.ioctlBuffer(this.#open(), request, bytes, name);
	}

	#live(): Uint8Array {
		this.#open();
		return this.#page;
	}

	#open(): number {
		if (this.#closed) throw new KvmError("ENODEV", "ioctl", "the virtual machine is closed");
		return this.#fd;
	}

	#get(request: number, name: string): DataView {
		this.#libc.ioctlBuffer(this.#open(), request, this.#scratch, name);
		return this.#scratchView;
	}

	#set(request: number, name: string): void {
		this.#libc.ioctlBuffer(this.#open(), request, this.#scratch, name);
	}
}

/** struct kvm_msrs. */
function msrList(entries: readonly MsrEntry[]): { list: Uint8Array; view: DataView } {
	const list = new Uint8Array(8 + entries.length * S.MSR_ENTRY_BYTES);
	const view = new DataView(list.buffer);
	view.setUint32(0, entries.length, true);
	entries.forEach(({ index, data }, i) => {
		view.setUint32(8 + i * S.MSR_ENTRY_BYTES, index, true);
		view.setBigUint64(16 + i * S.MSR_ENTRY_BYTES, data, true);
	});
	return { list, view };
}

/** KVM_GET_MSRS, of a vCPU or of the system. */
export function readMsrs(libc: Libc, fd: number, indices: readonly number[]): MsrEntry[] {
	const { list, view } = msrList(indices.map((index) => ({ index, data: 0n })));
	const got = libc.ioctlBuffer(fd, KVM.GET_MSRS, list, "KVM_GET_MSRS");
	return indices
		.slice(0, got)
		.map((index, i) => ({ index, data: view.getBigUint64(16 + i * S.MSR_ENTRY_BYTES, true) }));
}

/** KVM_GET_SUPPORTED_CPUID and KVM_GET_CPUID2. */
export function readCpuidList(libc: Libc, fd: number, request: number, name: string): CpuidEntry[] {
	const list = new Uint8Array(8 + CPUID_MAX * S.CPUID_ENTRY_BYTES);
	const view = new DataView(list.buffer);
	view.setUint32(0, CPUID_MAX, true);
	libc.ioctlBuffer(fd, request, list, name);
	return Array.from({ length: view.getUint32(0, true) }, (_, i) => S.readCpuid(view, 8 + i * S.CPUID_ENTRY_BYTES));
}
