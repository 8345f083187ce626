import { closeSync } from "node:fs";
import { KvmError } from "../kvm/errors.ts";
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
import { readExit } from "./exits.ts";
import { KVM, RUN } from "./ioctls.ts";
import { isInterrupted, type Libc, runError } from "./libc.node.ts";
import { SliceTimer } from "./slice-timer.node.ts";
import * as S from "./structs.ts";

/** How long a run goes on when the embedder has not said: long enough to cost nothing, short enough to stay in charge. */
const DEFAULT_SLICE_MILLISECONDS = 10;
const CPUID_MAX = 256;

/** Sees an exit before the embedder does; true when it has dealt with it. */
export type ExitFilter = (exit: VcpuExit) => boolean;

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
	readonly #timer: SliceTimer;
	readonly #filter: ExitFilter;
	readonly #scratch = new Uint8Array(4096);
	readonly #scratchView = new DataView(this.#scratch.buffer);
	#closed = false;

	constructor(libc: Libc, vmFd: number, id: number, pageBytes: number, filter: ExitFilter) {
		this.id = id;
		this.#libc = libc;
		this.#filter = filter;
		this.#fd = libc.ioctl(vmFd, KVM.CREATE_VCPU, id, "KVM_CREATE_VCPU");
		this.#pageAddress = libc.mmapShared(this.#fd, pageBytes);
		this.#page = new Uint8Array(libc.view(this.#pageAddress, pageBytes));
		this.#view = new DataView(this.#page.buffer);
		this.#timer = new SliceTimer(libc, DEFAULT_SLICE_MILLISECONDS);
	}

	setSlice(slice: { milliseconds?: number; instructions?: number }): void {
		this.#timer.setLength(slice.milliseconds ?? DEFAULT_SLICE_MILLISECONDS);
	}

	run(): VcpuExit {
		if (this.#closed) throw new KvmError("ENODEV", "KVM_RUN", "the virtual machine is closed");
		for (;;) {
			this.#timer.arm();
			const errno = this.#libc.run(this.#fd);
			if (errno !== 0) {
				this.#timer.disarm();
				if (isInterrupted(errno)) return { reason: "intr" };
				throw runError(errno);
			}
			const exit = readExit(this.#view, this.#page);
			if (exit.reason === "io" || exit.reason === "mmio") {
				if (this.#filter(exit)) continue;
			} else this.#timer.disarm();
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

	getRegs(): Regs {
		return S.readRegs(this.#get(KVM.GET_REGS, "KVM_GET_REGS"));
	}

	setRegs(regs: Readonly<Regs>): void {
		S.writeRegs(this.#scratchView, regs);
		this.#set(KVM.SET_REGS, "KVM_SET_REGS");
	}

	getSregs(): Sregs {
		return S.readSregs(this.#get(KVM.GET_SREGS, "KVM_GET_SREGS"));
	}

	setSregs(sregs: Readonly<Sregs>): void {
		this.#scratch.fill(0, 0, S.SREGS_BYTES);
		S.writeSregs(this.#scratchView, sregs);
		this.#set(KVM.SET_SREGS, "KVM_SET_SREGS");
	}

	/** Through the XSAVE area, because KVM_GET_FPU and KVM_SET_FPU leave MXCSR and the bits of components in use alone. */
	getFpu(): Fpu {
		return S.readFpu(this.#get(KVM.GET_XSAVE, "KVM_GET_XSAVE"));
	}

	setFpu(fpu: Readonly<Fpu>): void {
		S.writeFpu(this.#get(KVM.GET_XSAVE, "KVM_GET_XSAVE"), fpu);
		this.#set(KVM.SET_XSAVE, "KVM_SET_XSAVE");
	}

	getXsave(): Uint8Array {
		this.#get(KVM.GET_XSAVE, "KVM_GET_XSAVE");
		return this.#scratch.slice();
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
		const { list, view } = this.#msrs(indices.map((index) => ({ index, data: 0n })));
		const got = this.#libc.ioctlBuffer(this.#open(), KVM.GET_MSRS, list, "KVM_GET_MSRS");
		return indices
			.slice(0, got)
			.map((index, i) => ({ index, data: view.getBigUint64(16 + i * S.MSR_ENTRY_BYTES, true) }));
	}

	setMsrs(entries: readonly MsrEntry[]): number {
		const { list } = this.#msrs(entries);
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
		this.#scratchView.setUint32(0, S.MP_STATES.indexOf(state), true);
		this.#set(KVM.SET_MP_STATE, "KVM_SET_MP_STATE");
	}

	getVcpuEvents(): VcpuEvents {
		return S.readEvents(this.#get(KVM.GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"));
	}

	setVcpuEvents(events: Readonly<VcpuEvents>): void {
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

	/** @internal The VM calls it. */
	close(pageBytes: number): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#timer.close();
		this.#libc.release(this.#pageAddress, pageBytes, [this.#page.buffer as ArrayBuffer]);
		closeSync(this.#fd);
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

	#msrs(entries: readonly MsrEntry[]): { list: Uint8Array; view: DataView } {
		const list = new Uint8Array(8 + entries.length * S.MSR_ENTRY_BYTES);
		const view = new DataView(list.buffer);
		view.setUint32(0, entries.length, true);
		entries.forEach(({ index, data }, i) => {
			view.setUint32(8 + i * S.MSR_ENTRY_BYTES, index, true);
			view.setBigUint64(16 + i * S.MSR_ENTRY_BYTES, data, true);
		});
		return { list, view };
	}
}

/** KVM_GET_SUPPORTED_CPUID and KVM_GET_CPUID2. */
export function readCpuidList(libc: Libc, fd: number, request: number, name: string): CpuidEntry[] {
	const list = new Uint8Array(8 + CPUID_MAX * S.CPUID_ENTRY_BYTES);
	const view = new DataView(list.buffer);
	view.setUint32(0, CPUID_MAX, true);
	libc.ioctlBuffer(fd, request, list, name);
	return Array.from({ length: view.getUint32(0, true) }, (_, i) => S.readCpuid(view, 8 + i * S.CPUID_ENTRY_BYTES));
}
