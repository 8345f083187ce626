import { KvmError } from "../kvm/errors.ts";
import { readRegs, readSregs, writeRegs, writeSregs } from "../kvm/structs.ts";
import type { Kvm, Vcpu, VcpuExit, Vm } from "../kvm/types.ts";
import {
	CLASSIC,
	CLASSIC_API_VERSION,
	CLASSIC_BYTES,
	CLASSIC_EXIT,
	CLASSIC_EXIT_TYPE,
	CLASSIC_LIMITS,
	CLASSIC_MSRS,
	CLASSIC_RUN,
} from "./interface.ts";
import { type PortAccess, takeBack } from "./port-exit.ts";
import { ClassicSlots } from "./slots.ts";

/** Options of {@link openClassic}. */
export interface ClassicOptions {
	/** Bytes that all memory slots together can have. @default 134_217_728 */
	memoryBytes?: number;
}

/** Counters under the names of 2006's files in debugfs. */
export interface ClassicStats {
	/** 0n where the engine has no such thing as the event. */
	pf_fixed: bigint;
	pf_guest: bigint;
	tlb_flush: bigint;
	invlpg: bigint;
	exits: bigint;
	io_exits: bigint;
	mmio_exits: bigint;
	signal_exits: bigint;
	irq_exits: bigint;
	irq_window: bigint;
}

const TSS_ADDRESS = 0xfffb_d000;
const PAGE = 4096;
const TF_AND_RF = 0x1_0100n;
const UNMAPPED = 0xffff_ffff_ffff_ffffn;
/** Offset of a struct's registers behind the number of its vCPU. */
const REGISTERS = 8;

/** Opens the interface of 2006 over an engine: one handle is the virtual machine. */
export function openClassic(kvm: Kvm, options: ClassicOptions = {}): ClassicKvm {
	return new ClassicKvm(kvm, options);
}

/** /dev/kvm as it was opened in 2006. */
export class ClassicKvm {
	readonly #vm: Vm;
	readonly #slots: ClassicSlots;
	readonly #cpuid: ReturnType<Kvm["getSupportedCpuid"]>;
	#vcpu: Vcpu | undefined;
	/** Vectors that wait, a bit each. */
	#interrupts = 0n;
	/** Whether the vCPU's readiness for interrupts is what the last run left. */
	#fresh = false;
	#instructionLength = 0;
	/** A read of device memory that the embedder has not answered. */
	#read: Extract<VcpuExit, { reason: "mmio" }> | undefined;
	#stepping = false;
	readonly #counts = { exits: 0n, io_exits: 0n, mmio_exits: 0n, signal_exits: 0n, irq_window: 0n };

	/** @internal Use {@link openClassic}. */
	constructor(kvm: Kvm, options: ClassicOptions) {
		this.#vm = kvm.createVm({ ...(options.memoryBytes === undefined ? {} : { memoryBytes: options.memoryBytes }) });
		this.#vm.setTssAddress(TSS_ADDRESS);
		this.#slots = new ClassicSlots(this.#vm);
		this.#cpuid = kvm.getSupportedCpuid();
	}

	/**
	 * One of {@link CLASSIC}'s requests.
	 *
	 * @param argument - the struct, changed where the request answers in it; KVM_CREATE_VCPU's is a number
	 * @param pointer - what a pointer in the struct points to: the bitmap of KVM_GET_DIRTY_LOG
	 * @returns what ioctl(2) returned
	 * @throws KvmError with the errno of 2.6.20; KVM_RUN's EINTR is the end of a slice, or of a signal's
	 */
	ioctl(request: number, argument?: Uint8Array | number, pointer?: Uint8Array): number {
		switch (request) {
			case CLASSIC.KVM_GET_API_VERSION:
				return CLASSIC_API_VERSION;
			case CLASSIC.KVM_CREATE_VCPU:
				return this.#createVcpu(argument as number);
			case CLASSIC.KVM_SET_MEMORY_REGION:
				return this.#setMemoryRegion(struct(argument, CLASSIC_BYTES.kvm_memory_region, "KVM_SET_MEMORY_REGION"));
			case CLASSIC.KVM_RUN:
				return this.#run(argument, struct(argument, CLASSIC_BYTES.kvm_run, "KVM_RUN"));
			case CLASSIC.KVM_GET_REGS:
				return this.#getRegs(struct(argument, CLASSIC_BYTES.kvm_regs, "KVM_GET_REGS"));
			case CLASSIC.KVM_SET_REGS:
				return this.#setRegs(struct(argument, CLASSIC_BYTES.kvm_regs, "KVM_SET_REGS"));
			case CLASSIC.KVM_GET_SREGS:
				return this.#getSregs(struct(argument, CLASSIC_BYTES.kvm_sregs, "KVM_GET_SREGS"));
			case CLASSIC.KVM_SET_SREGS:
				return this.#setSregs(struct(argument, CLASSIC_BYTES.kvm_sregs, "KVM_SET_SREGS"));
			case CLASSIC.KVM_TRANSLATE:
				return this.#translate(struct(argument, CLASSIC_BYTES.kvm_translation, "KVM_TRANSLATE"));
			case CLASSIC.KVM_INTERRUPT:
				return this.#interrupt(struct(argument, CLASSIC_BYTES.kvm_interrupt, "KVM_INTERRUPT"));
			case CLASSIC.KVM_DEBUG_GUEST:
				return this.#debugGuest(struct(argument, CLASSIC_BYTES.kvm_debug_guest, "KVM_DEBUG_GUEST"));
			case CLASSIC.KVM_GET_DIRTY_LOG: {
				const view = struct(argument, CLASSIC_BYTES.kvm_dirty_log, "KVM_GET_DIRTY_LOG");
				this.#slots.dirtyLog(view.getUint32(0, true), pointer ?? new Uint8Array(0));
				return 0;
			}
			case CLASSIC.KVM_GET_MSRS:
				return this.#msrs(argument, "KVM_GET_MSRS");
			case CLASSIC.KVM_SET_MSRS:
				return this.#msrs(argument, "KVM_SET_MSRS");
			case CLASSIC.KVM_GET_MSR_INDEX_LIST:
				return msrIndexList(struct(argument, CLASSIC_BYTES.kvm_msr_list, "KVM_GET_MSR_INDEX_LIST"));
			default:
				throw new KvmError("EINVAL", "ioctl", `0x${request.toString(16)} is no request of 2.6.20's`);
		}
	}

	/**
	 * Guest memory at the offset of its physical address, live.
	 *
	 * @throws KvmError EINVAL where it does not lie in one slot, or `offset` is not page-aligned
	 */
	mmap(offset: number, length: number): Uint8Array {
		const view = offset % PAGE === 0 && length > 0 ? this.#slots.view(offset, length) : undefined;
		if (view === undefined) {
			throw new KvmError("EINVAL", "mmap", `${length} bytes at 0x${offset.toString(16)} are not memory of one slot`);
		}
		return view;
	}

	/** Tells the engine that the embedder wrote into guest memory (code may have been decoded from it). */
	written(offset: number, length: number): void {
		this.#slots.written(offset, length);
	}

	/** How long KVM_RUN goes on before it is EINTR. */
	setSlice(slice: { milliseconds?: number; instructions?: number }): void {
		this.#need("setSlice").setSlice(slice);
	}

	/** Makes the current or next KVM_RUN EINTR, as a signal does. */
	signal(on: boolean): void {
		this.#need("signal").setImmediateExit(on);
	}

	/** What debugfs had. */
	stats(): ClassicStats {
		const { pf_fixed = 0n, pf_guest = 0n, tlb_flush = 0n, invlpg = 0n, irq_exits = 0n } = this.#vcpu?.getStats() ?? {};
		return { pf_fixed, pf_guest, tlb_flush, invlpg, irq_exits, ...this.#counts };
	}

	close(): void {
		this.#vm.close();
	}

	#createVcpu(slot: number): number {
		if (slot !== 0) throw new KvmError("EINVAL", "KVM_CREATE_VCPU", `vCPU ${slot}; there can be only vCPU 0`);
		if (this.#vcpu !== undefined) throw new KvmError("EEXIST", "KVM_CREATE_VCPU", "vCPU 0 exists");
		const vcpu = this.#vm.createVcpu(0);
		vcpu.setCpuid2(this.#cpuid);
		this.#vcpu = vcpu;
		return 0;
	}

	/** The vCPU of a struct's number. */
	#need(name: string, number = 0): Vcpu {
		if (number >= CLASSIC_LIMITS.vcpus) throw new KvmError("EINVAL", name, `vCPU ${number}; there can be only vCPU 0`);
		if (this.#vcpu === undefined) throw new KvmError("ENOENT", name, "vCPU 0 has not been created");
		return this.#vcpu;
	}

	#setMemoryRegion(view: DataView): number {
		const start = view.getBigUint64(8, true);
		const size = view.getBigUint64(16, true);
		if (start + size >= 1n << 64n) throw new KvmError("EINVAL", "KVM_SET_MEMORY_REGION", "the region wraps around");
		this.#slots.set(view.getUint32(0, true), view.getUint32(4, true), Number(start), Number(size));
		return 0;
	}

	#getRegs(view: DataView): number {
		const regs = this.#need("KVM_GET_REGS", view.getUint32(0, true)).getRegs();
		if (this.#stepping) regs.rflags &= ~TF_AND_RF;
		writeRegs(view, regs, REGISTERS);
		return 0;
	}

	#setRegs(view: DataView): number {
		const vcpu = this.#need("KVM_SET_REGS", view.getUint32(0, true));
		this.#cancelRead(vcpu);
		vcpu.setRegs(readRegs(view, REGISTERS));
		this.#fresh = false;
		return 0;
	}

	#getSregs(view: DataView): number {
		const sregs = this.#need("KVM_GET_SREGS", view.getUint32(0, true)).getSregs();
		const queued = this.#interrupts;
		sregs.interruptBitmap = sregs.interruptBitmap.map(
			(word, i) => word | BigInt.asUintN(64, queued >> BigInt(i * 64)),
		) as typeof sregs.interruptBitmap;
		writeSregs(behindHeader(view), sregs);
		return 0;
	}

	#setSregs(view: DataView): number {
		const vcpu = this.#need("KVM_SET_SREGS", view.getUint32(0, true));
		this.#cancelRead(vcpu);
		const sregs = readSregs(behindHeader(view));
		this.#interrupts = sregs.interruptBitmap.reduce((all, word, i) => all | (word << BigInt(i * 64)), 0n);
		// One that the engine has been given already is in the bitmap as the guest's.
		const events = vcpu.getVcpuEvents();
		if (events.interrupt.injected) {
			vcpu.setVcpuEvents({ ...events, interrupt: { ...events.interrupt, injected: false } });
		}
		vcpu.setSregs({ ...sregs, interruptBitmap: [0n, 0n, 0n, 0n] });
		this.#fresh = false;
		return 0;
	}

	#translate(view: DataView): number {
		const vcpu = this.#need("KVM_TRANSLATE", view.getUint32(8, true));
		const { valid, physicalAddress } = vcpu.translateGva(view.getBigUint64(0, true));
		view.setBigUint64(16, valid ? BigInt(physicalAddress) : UNMAPPED, true);
		view.setUint8(24, valid ? 1 : 0);
		view.setUint8(25, 1);
		view.setUint8(26, 0);
		return 0;
	}

	#interrupt(view: DataView): number {
		const number = view.getUint32(0, true);
		const irq = view.getUint32(4, true);
		if (irq >= CLASSIC_LIMITS.interruptVectors) {
			throw new KvmError("EINVAL", "KVM_INTERRUPT", `there is no vector ${irq}; vectors are 0 to 255`);
		}
		this.#need("KVM_INTERRUPT", number);
		this.#interrupts |= 1n << BigInt(irq);
		return 0;
	}

	#debugGuest(view: DataView): number {
		const vcpu = this.#need("KVM_DEBUG_GUEST", view.getUint32(0, true));
		const enable = view.getUint32(4, true) !== 0;
		const singleStep = enable && view.getUint32(72, true) !== 0;
		const hardwareBreakpoints = Array.from({ length: CLASSIC_LIMITS.breakpoints }, (_, i) => ({
			on: view.getUint32(8 + i * 16, true) !== 0,
			address: view.getBigUint64(16 + i * 16, true),
		}))
			.filter(({ on }) => on)
			.map(({ address }) => ({ address, kind: "execute", length: 1 }) as const);
		vcpu.setGuestDebug({ enable, singleStep, hardwareBreakpoints });
		this.#stepping = singleStep;
		return 0;
	}

	#msrs(argument: Uint8Array | number | undefined, name: "KVM_GET_MSRS" | "KVM_SET_MSRS"): number {
		const header = struct(argument, CLASSIC_BYTES.kvm_msrs, name);
		const count = header.getUint32(4, true);
		if (count > CLASSIC_LIMITS.msrsAtOnce) {
			throw new KvmError("E2BIG", name, `${count} MSRs; ${CLASSIC_LIMITS.msrsAtOnce} at most at once`);
		}
		const view = struct(argument, CLASSIC_BYTES.kvm_msrs + count * 16, name);
		const vcpu = this.#need(name, header.getUint32(0, true));
		const at = (i: number): number => CLASSIC_BYTES.kvm_msrs + i * 16;
		const indices = Array.from({ length: count }, (_, i) => view.getUint32(at(i), true));
		if (name === "KVM_SET_MSRS") {
			return vcpu.setMsrs(indices.map((index, i) => ({ index, data: view.getBigUint64(at(i) + 8, true) })));
		}
		const values = vcpu.getMsrs(indices);
		values.forEach(({ data }, i) => {
			view.setBigUint64(at(i) + 8, data, true);
		});
		return values.length;
	}

	// ---- KVM_RUN -----------------------------------------------------------------------------------------------

	#run(argument: Uint8Array | number | undefined, view: DataView): number {
		const vcpu = this.#need("KVM_RUN", view.getUint32(CLASSIC_RUN.vcpu, true));
		const bytes = argument as Uint8Array;
		if (view.getUint32(CLASSIC_RUN.emulated, true) !== 0) {
			this.#skipInstruction(vcpu);
			view.setUint32(CLASSIC_RUN.emulated, 0, true);
		}
		if (this.#read !== undefined) {
			if (view.getUint32(CLASSIC_RUN.mmioCompleted, true) === 0) {
				// Executed again, the instruction asks for the same again.
				this.#mmioExit(view, bytes, this.#read);
				return 0;
			}
			const { data } = this.#read;
			data.set(bytes.subarray(CLASSIC_RUN.mmio.data, CLASSIC_RUN.mmio.data + data.length));
			this.#read = undefined;
		}
		const wantsWindow = view.getUint8(CLASSIC_RUN.requestInterruptWindow) !== 0;
		for (;;) {
			this.#offerInterrupt(vcpu, wantsWindow);
			const exit = vcpu.run();
			this.#fresh = true;
			this.#counts.exits++;
			if (exit.reason === "irq-window-open") {
				if (this.#interrupts !== 0n || !wantsWindow) continue;
				this.#counts.irq_window++;
			}
			// A HLT does not wait for what is there already.
			if (exit.reason === "hlt" && this.#interrupts !== 0n) continue;
			this.#report(vcpu, view, bytes, exit);
			if (exit.reason !== "intr") return 0;
			this.#counts.signal_exits++;
			throw new KvmError("EINTR", "KVM_RUN", "a signal came, or the slice is over: run it again");
		}
	}

	/** Gives the guest its lowest vector when it can take one, and asks for the moment when it can. */
	#offerInterrupt(vcpu: Vcpu, wantsWindow: boolean): void {
		if (this.#interrupts !== 0n && this.#fresh && vcpu.readyForInterruptInjection) {
			let vector = 0;
			while (((this.#interrupts >> BigInt(vector)) & 1n) === 0n) vector++;
			vcpu.interrupt(vector);
			this.#interrupts &= ~(1n << BigInt(vector));
		}
		vcpu.requestInterruptWindow = this.#interrupts !== 0n || wantsWindow;
	}

	#report(vcpu: Vcpu, view: DataView, bytes: Uint8Array, exit: VcpuExit): void {
		this.#instructionLength = 0;
		bytes.fill(0, CLASSIC_RUN.hardwareExitReason, CLASSIC_BYTES.kvm_run);
		view.setUint32(CLASSIC_RUN.exitType, CLASSIC_EXIT_TYPE.VM_EXIT, true);
		const reason = (number: number): void => view.setUint32(CLASSIC_RUN.exitReason, number, true);
		switch (exit.reason) {
			case "io": {
				this.#counts.io_exits++;
				const { direction, size, port } = exit;
				const value = exit.data.slice(0, size);
				const access = takeBack(vcpu, exit, (linear, length) => this.#readLinear(vcpu, linear, length));
				reason(CLASSIC_EXIT.IO);
				this.#portExit(view, bytes, { direction, size, port, value }, access);
				break;
			}
			case "mmio":
				this.#counts.mmio_exits++;
				if (!exit.isWrite) this.#read = exit;
				this.#mmioExit(view, bytes, exit);
				break;
			case "hlt":
				reason(CLASSIC_EXIT.HLT);
				break;
			case "debug":
				reason(CLASSIC_EXIT.DEBUG);
				break;
			case "shutdown":
				reason(CLASSIC_EXIT.SHUTDOWN);
				break;
			case "irq-window-open":
				reason(CLASSIC_EXIT.IRQ_WINDOW_OPEN);
				break;
			case "fail-entry":
				view.setUint32(CLASSIC_RUN.exitType, CLASSIC_EXIT_TYPE.FAIL_ENTRY, true);
				reason(CLASSIC_EXIT.UNKNOWN);
				view.setUint32(CLASSIC_RUN.hardwareExitReason, Number(exit.hardwareEntryFailureReason & 0xffff_ffffn), true);
				break;
			case "internal-error":
				reason(CLASSIC_EXIT.UNKNOWN);
				view.setUint32(CLASSIC_RUN.hardwareExitReason, exit.suberror, true);
				break;
			case "intr":
				break;
		}
		view.setUint32(CLASSIC_RUN.instructionLength, this.#instructionLength, true);
		const ready = vcpu.readyForInterruptInjection && this.#interrupts === 0n;
		view.setUint8(CLASSIC_RUN.readyForInterruptInjection, ready ? 1 : 0);
		view.setUint8(CLASSIC_RUN.ifFlag, vcpu.ifFlag ? 1 : 0);
		view.setBigUint64(CLASSIC_RUN.cr8, vcpu.cr8, true);
		view.setBigUint64(CLASSIC_RUN.apicBase, vcpu.apicBase, true);
	}

	#portExit(
		view: DataView,
		bytes: Uint8Array,
		{ direction, size, port, value }: { direction: "in" | "out"; size: number; port: number; value: Uint8Array },
		access: PortAccess | undefined,
	): void {
		const { io } = CLASSIC_RUN;
		view.setUint8(io.direction, direction === "out" ? 1 : 0);
		view.setUint8(io.size, size);
		view.setUint16(io.port, port, true);
		view.setBigUint64(io.count, access?.count ?? 1n, true);
		this.#instructionLength = access?.instruction.length ?? 0;
		if (access?.instruction.string === true) {
			view.setUint8(io.string, 1);
			view.setUint8(io.stringDown, access.down ? 1 : 0);
			view.setUint8(io.rep, access.instruction.rep ? 1 : 0);
			view.setBigUint64(io.address, access.address, true);
		} else if (direction === "out") bytes.set(value, io.value);
	}

	#mmioExit(view: DataView, bytes: Uint8Array, exit: Extract<VcpuExit, { reason: "mmio" }>): void {
		const { mmio } = CLASSIC_RUN;
		view.setUint32(CLASSIC_RUN.exitType, CLASSIC_EXIT_TYPE.VM_EXIT, true);
		view.setUint32(CLASSIC_RUN.exitReason, CLASSIC_EXIT.MMIO, true);
		view.setBigUint64(mmio.physAddr, BigInt(exit.physAddr), true);
		view.setUint32(mmio.length, exit.data.length, true);
		view.setUint8(mmio.isWrite, exit.isWrite ? 1 : 0);
		if (exit.isWrite) bytes.set(exit.data, mmio.data);
	}

	#skipInstruction(vcpu: Vcpu): void {
		this.#cancelRead(vcpu);
		const regs = vcpu.getRegs();
		regs.rip += BigInt(this.#instructionLength);
		this.#instructionLength = 0;
		vcpu.setRegs(regs);
		this.#fresh = false;
	}

	/** The embedder goes its own way: the read that waits is as if it had not begun. */
	#cancelRead(vcpu: Vcpu): void {
		if (this.#read === undefined) return;
		this.#read.data.fill(0);
		this.#read = undefined;
		const regs = vcpu.getRegs();
		vcpu.setImmediateExit(true);
		for (let i = 0; i < 8 && vcpu.run().reason !== "intr"; i++);
		vcpu.setImmediateExit(false);
		vcpu.setRegs(regs);
	}

	#readLinear(vcpu: Vcpu, linear: bigint, length: number): Uint8Array {
		const bytes = new Uint8Array(length);
		for (let done = 0; done < length; ) {
			const at = BigInt.asUintN(64, linear + BigInt(done));
			const part = Math.min(length - done, PAGE - Number(at & 0xfffn));
			const { valid, physicalAddress } = vcpu.translateGva(at);
			const view = valid ? this.#slots.view(physicalAddress, part) : undefined;
			if (view === undefined) return bytes.subarray(0, done);
			bytes.set(view, done);
			done += part;
		}
		return bytes;
	}
}

/** A struct that was passed. @throws KvmError EFAULT when it is shorter than it should be */
function struct(argument: Uint8Array | number | undefined, bytes: number, name: string): DataView {
	if (!(argument instanceof Uint8Array) || argument.length < bytes) {
		throw new KvmError("EFAULT", name, `the argument is to be a Uint8Array of ${bytes} bytes`);
	}
	return new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
}

function behindHeader(view: DataView): DataView {
	return new DataView(view.buffer, view.byteOffset + REGISTERS, view.byteLength - REGISTERS);
}

/** KVM_GET_MSR_INDEX_LIST: the count that is needed stands in the struct also when it is too short. */
function msrIndexList(view: DataView): number {
	const room = view.getUint32(0, true);
	view.setUint32(0, CLASSIC_MSRS.length, true);
	if (room < CLASSIC_MSRS.length || view.byteLength < 4 + CLASSIC_MSRS.length * 4) {
		throw new KvmError(
			"E2BIG",
			"KVM_GET_MSR_INDEX_LIST",
			`${CLASSIC_MSRS.length} indices want room, there is for ${room}`,
		);
	}
	CLASSIC_MSRS.forEach((index, i) => {
		view.setUint32(4 + i * 4, index, true);
	});
	return 0;
}
