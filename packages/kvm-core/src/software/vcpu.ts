import type { IrqChip } from "../chips/irqchip.ts";
import type { LocalApic, LocalApicState } from "../chips/local-apic.ts";
import { KvmError } from "../kvm/errors.ts";
import { type KvmStats, VcpuWithoutOptions } from "../kvm/optional.ts";
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
	VcpuEvent,
	VcpuEvents,
	VcpuExit,
} from "../kvm/types.ts";
import { TSC_KHZ } from "./clock.ts";
import { ExecutionCore } from "./core.ts";
import { readCr8 } from "./cpu/control-registers.ts";
import type { ApicView } from "./cpu/cpu.ts";
import { CpuidTable } from "./cpu/cpuid.ts";
import { INTERRUPT, INTERRUPT_VECTOR, MP_HALTED, MP_RUNNABLE, MP_STATE, NMI_PENDING } from "./cpu/events.ts";
import * as L from "./cpu/layout.ts";
import { readMsr, writeMsr } from "./cpu/msr.ts";
import { PAGE_MAY_WRITE, PAGE_USER, walk } from "./cpu/paging.ts";
import * as registers from "./cpu/registers.ts";
import { init, powerOn, startUp } from "./cpu/reset.ts";
import { COMPONENTS } from "./cpu/xsave-layout.ts";
import { DebugPoints } from "./debug-points.ts";
import type { CodeArena } from "./decode/code-cache.ts";
import type { HandlerPlan } from "./emit/plan.ts";
import type { CoreStop } from "./execution-position.ts";
import { ExitPort, type InternalDevices, type LeftOver, type RequestGate } from "./exits.ts";
import type { PhysicalMemory } from "./memory.ts";
import type { SoftwareVm } from "./vm.ts";

/** Instructions between two looks at the clock. */
const STRETCH = 100_000;
/** Most instructions of a slice. */
const LONGEST_SLICE = 1 << 28;
const DEFAULT_SLICE_MS = 10;

/** KVM's counters by exit. */
const EXIT_COUNTERS: Readonly<
	Partial<Record<VcpuExit["reason"], "io_exits" | "mmio_exits" | "signal_exits" | "halt_exits" | "irq_window_exits">>
> = {
	io: "io_exits",
	mmio: "mmio_exits",
	intr: "signal_exits",
	hlt: "halt_exits",
	"irq-window-open": "irq_window_exits",
};

/** Instructions before a deadline that are executed one by one: more than generated code goes on without looking. */
const EXACT_MARGIN = 512;

/** What {@link SoftwareVcpu.saveState} gives. */
export interface SoftwareVcpuState {
	readonly page: Uint8Array;
	readonly position: number;
	readonly tscOffset: bigint;
	readonly apic: LocalApicState | null;
}

/** What a vCPU is made of. */
export interface VcpuParts {
	readonly vm: SoftwareVm;
	readonly id: number;
	readonly physical: PhysicalMemory;
	readonly base: number;
	readonly arena: CodeArena;
	readonly plan: HandlerPlan;
	readonly module: WebAssembly.Module;
	readonly memory: WebAssembly.Memory;
	readonly cpuid: readonly CpuidEntry[];
}

/** A vCPU of the software engine. */
export class SoftwareVcpu extends VcpuWithoutOptions implements Vcpu, RequestGate {
	readonly id: number;
	readonly core: ExecutionCore;
	readonly apic: LocalApic | undefined;
	requestInterruptWindow = false;
	private readonly vm: SoftwareVm;
	private readonly port: ExitPort;
	private readonly exits = {
		exits: 0,
		io_exits: 0,
		mmio_exits: 0,
		signal_exits: 0,
		halt_exits: 0,
		irq_window_exits: 0,
	};
	private immediateExit = false;
	private sliceMilliseconds = DEFAULT_SLICE_MS;
	private sliceInstructions = LONGEST_SLICE;
	private tscOffset = 0n;
	private cpuidEntries: readonly CpuidEntry[];

	constructor(parts: VcpuParts) {
		super();
		const { vm, id } = parts;
		this.vm = vm;
		this.id = id;
		this.cpuidEntries = parts.cpuid;
		const { irqchip } = vm;
		this.apic = irqchip?.addLocalApic(id, (tsc) => tsc - Number(this.tscOffset));
		const devices: InternalDevices = {
			irqchip,
			pit: vm.pit,
			apic: this.apic,
			ioevents: vm.ioevents,
			now: () => vm.now(),
		};
		this.port = new ExitPort(devices, this);
		this.core = new ExecutionCore(parts.physical, parts.base, parts.arena, parts.plan, this.port);
		const { core } = this;
		const { cpu } = core;
		cpu.ports = this.port;
		cpu.mmu = core.translator.mmu;
		cpu.cpuid = new CpuidTable(parts.cpuid);
		core.readTscNow = () => BigInt.asUintN(64, BigInt(Math.floor(vm.now())) + this.tscOffset);
		core.writeTscNow = (value) => {
			this.tscOffset = value - BigInt(Math.floor(vm.now()));
			this.apic?.tscChanged();
		};
		core.clockAt = (tsc) => vm.clockAt(Number(BigInt.asIntN(64, tsc - this.tscOffset)));
		core.wallClockNow = () => vm.wallClock();
		core.randomNow = () => vm.random();
		if (this.apic !== undefined && irqchip !== undefined) {
			const { apic } = this;
			cpu.apic = apicView(apic, irqchip, () => vm.now());
			core.interrupts = {
				pending: () => irqchip.hasInterrupt(apic),
				acknowledge: () => irqchip.takeInterrupt(apic),
			};
		}
		const instance = new WebAssembly.Instance(parts.module, {
			env: { memory: parts.memory, ...core.imports() },
		});
		core.connect(instance.exports["enter"] as (pc: number) => void);
		powerOn(cpu, id === 0);
		core.rip = cpu.rip;
	}

	// ---- RequestGate -------------------------------------------------------------------------------------------

	get requestPending(): boolean {
		return this.core.requestPending;
	}

	set requestPending(on: boolean) {
		this.core.requestPending = on;
	}

	leaveSoon(): void {
		this.core.leaveSoon();
	}

	get position(): number {
		return this.core.position;
	}

	get element(): number {
		return this.core.cpu.gpr32(L.RCX);
	}

	get onEvent(): ((event: VcpuEvent) => void) | undefined {
		return this.core.onEvent;
	}

	set onEvent(listener: ((event: VcpuEvent) => void) | undefined) {
		this.core.onEvent = listener;
	}

	get instructionsRetired(): number {
		return this.core.position;
	}

	// ---- running -----------------------------------------------------------------------------------------------

	setSlice(slice: { milliseconds?: number; instructions?: number }): void {
		this.sliceMilliseconds = slice.milliseconds ?? Number.POSITIVE_INFINITY;
		this.sliceInstructions = Math.min(slice.instructions ?? LONGEST_SLICE, LONGEST_SLICE);
	}

	/** Makes `run` return `intr` in front of what is left over. */
	setLeftOver(leftOver: LeftOver | undefined): void {
		const { core, port } = this;
		port.leftOver = leftOver;
		core.leaves = leftOver && ((opcode, reg) => (port.hasLeft = leftOver.instruction(opcode, reg)));
	}

	get isUser(): boolean {
		return this.core.cpu.cpl === 3;
	}

	/** Whether the last `run` ended in front of an instruction that is left over. */
	get hasLeft(): boolean {
		return this.port.hasLeft;
	}

	setImmediateExit(on: boolean): void {
		this.immediateExit = on;
	}

	run(): VcpuExit {
		const exit = this.runToExit();
		this.exits.exits++;
		const name = EXIT_COUNTERS[exit.reason];
		if (name !== undefined) this.exits[name]++;
		return exit;
	}

	private runToExit(): VcpuExit {
		this.vm.checkOpen("KVM_RUN");
		const { core, vm, port } = this;
		port.hasLeft = false;
		// A second exit of the same instruction comes before anything else.
		const waiting = port.take();
		if (waiting !== undefined) return waiting;
		if (port.resume()) core.answered = core.position;
		if (this.immediateExit) return this.finishInstruction();
		const started = vm.now();
		const end = started + this.sliceMilliseconds * 1e6;
		let left = this.sliceInstructions;
		for (;;) {
			vm.advanceTo(vm.now());
			if (this.requestInterruptWindow && this.readyForInterruptInjection) return { reason: "irq-window-open" };
			const before = core.position;
			vm.progress = () => core.position - before;
			const stop = core.run(this.stretch(left));
			vm.progress = () => 0;
			left -= core.position - before;
			vm.executed(core.position - before);
			if (stop === "slice") {
				if (left <= 0 || this.immediateExit || vm.now() >= end) return { reason: "intr" };
				continue;
			}
			if (stop === "pause") return { reason: "intr" };
			if (stop === "halt") {
				// Devices may have something for it by now; if not, the embedder waits.
				vm.advanceTo(vm.now());
				if (core.interrupts?.pending() === true && (core.cpu.systemFlags & L.IF) !== 0) continue;
				// Virtual time stands still in a halt: it goes on at the timer that ends it.
				if (vm.skipToDeadline()) continue;
				// Without interrupt controllers in here, KVM keeps no halted state: the next run goes on behind the HLT.
				if (vm.irqchip === undefined) core.cpu.set32(MP_STATE, MP_RUNNABLE);
				return { reason: "hlt" };
			}
			return this.exitOf(stop);
		}
	}

	/**
	 * Instructions to run before the next look at the clock. In virtual time slices and timers come at their very
	 * instruction, however the run is cut up: near one, instructions are executed one by one.
	 */
	private stretch(left: number): number {
		const { core, vm } = this;
		core.looksAtClock = vm.isVirtual;
		core.exact = false;
		if (!vm.isVirtual) return Math.min(left, STRETCH);
		const goal = Math.min(left, vm.untilDeadline());
		core.exact = goal <= EXACT_MARGIN;
		return core.exact ? goal : Math.min(goal - EXACT_MARGIN, STRETCH);
	}

	/** The vCPU's state between two runs, outside any instruction. */
	saveState(): SoftwareVcpuState {
		const { cpu, position } = this.core;
		// It stands on RIP alone, and with empty TLBs, as after `restoreState`.
		this.core.memoryChanged();
		return {
			page: new Uint8Array(cpu.u32.buffer, cpu.base, L.STATE_BYTES).slice(),
			position,
			tscOffset: this.tscOffset,
			apic: this.apic?.save() ?? null,
		};
	}

	restoreState(state: SoftwareVcpuState): void {
		const { core } = this;
		const { cpu } = core;
		core.memoryChanged();
		new Uint8Array(cpu.u32.buffer, cpu.base, L.STATE_BYTES).set(state.page);
		this.tscOffset = state.tscOffset;
		if (state.apic !== null) this.apic?.restore(state.apic);
		core.modeChanged();
		core.debugChanged();
		core.memoryChanged();
		core.position = state.position;
		core.answered = -1;
	}

	/** Lets the instruction that was answered come to its end, so that the state is that of the next one. */
	private finishInstruction(): VcpuExit {
		const { core } = this;
		if (core.answered !== core.position) return { reason: "intr" };
		const stop = core.run(1);
		return stop === "slice" || stop === "halt" || stop === "pause" ? { reason: "intr" } : this.exitOf(stop);
	}

	private exitOf(stop: Exclude<CoreStop, "slice" | "halt" | "pause">): VcpuExit {
		const { core } = this;
		switch (stop) {
			case "request": {
				const exit = this.port.take();
				return exit ?? { reason: "intr" };
			}
			case "shutdown":
				return { reason: "shutdown" };
			case "debug": {
				const { cpu } = core;
				return {
					reason: "debug",
					exception: core.debugException,
					pc: core.linearRip,
					dr6: BigInt(core.debugStatus) | 0xffff_0ff0n,
					dr7: cpu.get64(L.DR7),
					...(core.debugPoint === undefined ? {} : { point: core.debugPoint }),
				};
			}
			case "no-memory":
				return { reason: "internal-error", suberror: 1, data: new Uint8Array(0) };
		}
	}

	get readyForInterruptInjection(): boolean {
		const { cpu } = this.core;
		return (cpu.systemFlags & L.IF) !== 0 && cpu.get32(L.SHADOW) === 0 && cpu.get32(INTERRUPT) === 0;
	}

	get ifFlag(): boolean {
		return (this.core.cpu.systemFlags & L.IF) !== 0;
	}

	get cr8(): bigint {
		return readCr8(this.core.cpu);
	}

	get apicBase(): bigint {
		return readMsr(this.core.cpu, 0x1b) ?? 0n;
	}

	/** The names are KVM's; what has no meaning without a processor underneath is not there. */
	getStats(): KvmStats {
		const { counts } = this.core;
		return Object.fromEntries(
			Object.entries({ ...this.exits, ...counts }).map(([name, count]) => [name, BigInt(count)]),
		);
	}

	interrupt(vector: number): void {
		if (vector < 0 || vector > 255 || !Number.isInteger(vector)) {
			throw new KvmError("EINVAL", "KVM_INTERRUPT", `there is no vector ${vector}; vectors are 0 to 255`);
		}
		if (this.vm.irqchip !== undefined) {
			throw new KvmError("ENXIO", "KVM_INTERRUPT", "the interrupt controllers are inside the engine; use setIrqLine");
		}
		const { cpu } = this.core;
		if (cpu.get32(INTERRUPT) !== 0) {
			throw new KvmError("EEXIST", "KVM_INTERRUPT", "an interrupt is queued already; wait for the interrupt window");
		}
		cpu.set32(INTERRUPT, 1);
		cpu.set32(INTERRUPT_VECTOR, vector);
		if (cpu.get32(MP_STATE) === MP_HALTED) cpu.set32(MP_STATE, MP_RUNNABLE);
	}

	nmi(): void {
		this.core.cpu.set32(NMI_PENDING, 1);
		if (this.core.cpu.get32(MP_STATE) === MP_HALTED) this.core.cpu.set32(MP_STATE, MP_RUNNABLE);
	}

	/** INIT from the APIC bus. */
	initReceived(): void {
		const { cpu } = this.core;
		this.apic?.reset(true);
		init(cpu, this.id === 0);
		this.core.rip = cpu.rip;
	}

	/** A start-up IPI from the APIC bus. */
	startUpReceived(vector: number): void {
		const { cpu } = this.core;
		const state = this.getMpState();
		if (state !== "uninitialized" && state !== "init-received") return;
		startUp(cpu, vector);
		this.core.rip = cpu.rip;
	}

	// ---- state -------------------------------------------------------------------------------------------------

	getRegs(): Regs {
		return registers.getRegs(this.core.cpu, this.core.rip);
	}

	setRegs(regs: Readonly<Regs>): void {
		registers.setRegs(this.core.cpu, regs);
		this.core.rip = BigInt.asUintN(64, regs.rip);
	}

	getSregs(): Sregs {
		return registers.getSregs(this.core.cpu);
	}

	setSregs(sregs: Readonly<Sregs>): void {
		// What is decoded goes by the mode: stand on RIP alone.
		const { rip } = this.core;
		if (!registers.setSregs(this.core.cpu, sregs)) {
			throw new KvmError("EINVAL", "KVM_SET_SREGS", "control registers have a combination that no processor can be in");
		}
		this.core.rip = rip;
	}

	getFpu(): Fpu {
		return registers.getFpu(this.core.cpu);
	}

	setFpu(fpu: Readonly<Fpu>): void {
		registers.setFpu(this.core.cpu, fpu);
	}

	getXsave(): Uint8Array {
		return registers.getXsave(this.core.cpu);
	}

	setXsave(area: Uint8Array): void {
		if (!registers.setXsave(this.core.cpu, area)) {
			throw new KvmError("EINVAL", "KVM_SET_XSAVE", "the area names components or MXCSR bits that are not supported");
		}
	}

	getXcrs(): { xcr: number; value: bigint }[] {
		return [{ xcr: 0, value: this.core.cpu.get64(L.XCR0) }];
	}

	setXcrs(xcrs: readonly { xcr: number; value: bigint }[]): void {
		for (const { xcr, value } of xcrs) {
			if (xcr !== 0 || (value & 1n) === 0n || (value & ~BigInt(COMPONENTS)) !== 0n) {
				throw new KvmError("EINVAL", "KVM_SET_XCRS", `XCR${xcr} cannot be 0x${value.toString(16)}`);
			}
			this.core.cpu.set64(L.XCR0, value);
		}
	}

	getMsrs(indices: readonly number[]): MsrEntry[] {
		const out: MsrEntry[] = [];
		for (const index of indices) {
			const data = readMsr(this.core.cpu, index);
			if (data === undefined) break;
			out.push({ index, data });
		}
		return out;
	}

	setMsrs(entries: readonly MsrEntry[]): number {
		let done = 0;
		const { rip } = this.core;
		for (const { index, data } of entries) {
			if (!writeMsr(this.core.cpu, index, BigInt.asUintN(64, data), true)) break;
			done++;
		}
		this.core.rip = rip;
		return done;
	}

	setCpuid2(entries: readonly CpuidEntry[]): void {
		this.cpuidEntries = structuredClone(entries) as CpuidEntry[];
		this.core.cpu.cpuid = new CpuidTable(this.cpuidEntries);
	}

	getCpuid2(): CpuidEntry[] {
		return structuredClone(this.cpuidEntries) as CpuidEntry[];
	}

	getLapic(): Uint8Array {
		return this.lapic("KVM_GET_LAPIC").toPage(this.vm.now());
	}

	setLapic(page: Uint8Array): void {
		this.lapic("KVM_SET_LAPIC").fromPage(page, this.vm.now());
	}

	private lapic(syscall: string): LocalApic {
		if (this.apic === undefined) {
			throw new KvmError("EINVAL", syscall, "the VM has no interrupt controllers inside the engine");
		}
		return this.apic;
	}

	getMpState(): MpState {
		return registers.getMpState(this.core.cpu);
	}

	setMpState(state: MpState): void {
		registers.setMpState(this.core.cpu, state);
	}

	getVcpuEvents(): VcpuEvents {
		return registers.getVcpuEvents(this.core.cpu);
	}

	setVcpuEvents(events: Readonly<VcpuEvents>): void {
		registers.setVcpuEvents(this.core.cpu, events);
	}

	getDebugRegs(): DebugRegs {
		return registers.getDebugRegs(this.core.cpu);
	}

	setDebugRegs(regs: Readonly<DebugRegs>): void {
		if (!registers.setDebugRegs(this.core.cpu, regs)) {
			throw new KvmError("EINVAL", "KVM_SET_DEBUGREGS", "DR6 and DR7 have 32 bits");
		}
	}

	getTscKhz(): number {
		return TSC_KHZ;
	}

	setTscKhz(khz: number): void {
		if (khz !== TSC_KHZ) {
			throw new KvmError("EINVAL", "KVM_SET_TSC_KHZ", `the TSC runs at ${TSC_KHZ} kHz and cannot be scaled`);
		}
	}

	translateGva(linear: bigint): Translation {
		const { mmu } = this.core.translator;
		const lo = Number(BigInt.asUintN(32, linear));
		const hi = Number(BigInt.asIntN(32, linear >> 32n));
		// A look, not an access: as a supervisor's read, and CR2 stays.
		if (!walk(mmu, lo, hi, 0)) return { physicalAddress: 0, valid: false, writeable: false, usermode: false };
		return {
			physicalAddress: mmu.physical + (lo & 0xfff),
			valid: true,
			writeable: (mmu.flags & PAGE_MAY_WRITE) !== 0,
			usermode: (mmu.flags & PAGE_USER) !== 0,
		};
	}

	setGuestDebug(debug: GuestDebug): void {
		const breakpoints = debug.hardwareBreakpoints ?? [];
		if (breakpoints.length > 4) {
			throw new KvmError(
				"EINVAL",
				"KVM_SET_GUEST_DEBUG",
				`${breakpoints.length} breakpoints; there are four registers`,
			);
		}
		this.core.setDebug(debug.enable ? new DebugPoints(debug) : undefined);
	}
}

function apicView(apic: LocalApic, irqchip: IrqChip, now: () => number): ApicView {
	return {
		getTaskPriority: () => apic.cr8 << 4,
		setTaskPriority: (value) => {
			apic.cr8 = value >> 4;
		},
		readMsr: (index) =>
			apic.readMsr(index, now()) ? (BigInt(apic.msrHigh >>> 0) << 32n) | BigInt(apic.msrLow >>> 0) : undefined,
		writeMsr: (index, value) =>
			apic.writeMsr(index, Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn), now()),
		sendIpi: (apicId, command) =>
			irqchip.bus.deliver(apic, apicId, false, (command >>> 8) & 7, command & 0xff, (command & 0x8000) !== 0, true) > 0,
		getBase: () => BigInt(apic.apicBase),
		setBase: (value) => apic.setApicBase(Number(value)),
	};
}
