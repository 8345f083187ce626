import type { OptionalKvmOperations, OptionalVcpuOperations, OptionalVmOperations } from "./optional.ts";

/**
 * The objects of KVM API 12 under the names rust-vmm's kvm-ioctls gives them, camel-cased. Both engines implement these
 * interfaces. 64-bit registers are bigint; guest-physical addresses are numbers (they have 52 bits at most).
 */

/** What KVM_RUN came back with. Buffers in it are live: what the embedder writes into `data` of a read is what the guest gets when it is run again. */
export type VcpuExit =
	| {
			readonly reason: "io";
			readonly direction: "in" | "out";
			readonly port: number;
			/** Bytes an element has. */
			readonly size: 1 | 2 | 4;
			/** Elements; more than one for string I/O. */
			readonly count: number;
			/** `size * count` bytes; filled for `out`, to be filled for `in`. */
			readonly data: Uint8Array;
	  }
	| {
			readonly reason: "mmio";
			readonly physAddr: number;
			readonly isWrite: boolean;
			/** 1 to 8 bytes; filled for a write, to be filled for a read. */
			readonly data: Uint8Array;
	  }
	/** The guest executed HLT and no interrupt is pending. */
	| { readonly reason: "hlt" }
	/** A breakpoint, watchpoint or single step asked for by `setGuestDebug`. */
	| {
			readonly reason: "debug";
			readonly exception: number;
			readonly pc: bigint;
			readonly dr6: bigint;
			readonly dr7: bigint;
			/** What stopped the guest, when it is one of {@link GuestDebug.points}. */
			readonly point?: DebugPoint;
	  }
	/** A triple fault. */
	| { readonly reason: "shutdown" }
	/** `requestInterruptWindow` was set and the guest can take an interrupt now. */
	| { readonly reason: "irq-window-open" }
	| { readonly reason: "fail-entry"; readonly hardwareEntryFailureReason: bigint; readonly cpu: number }
	/** The engine could not carry on; suberror 1 is an instruction it cannot emulate, whose bytes stand in `data`. */
	| { readonly reason: "internal-error"; readonly suberror: number; readonly data: Uint8Array }
	/** The slice ended or the vCPU was kicked; nothing is to be done but to run it again. */
	| { readonly reason: "intr" };

/** General registers (struct kvm_regs). */
export interface Regs {
	rax: bigint;
	rbx: bigint;
	rcx: bigint;
	rdx: bigint;
	rsi: bigint;
	rdi: bigint;
	rsp: bigint;
	rbp: bigint;
	r8: bigint;
	r9: bigint;
	r10: bigint;
	r11: bigint;
	r12: bigint;
	r13: bigint;
	r14: bigint;
	r15: bigint;
	rip: bigint;
	rflags: bigint;
}

/** A segment register with its hidden part (struct kvm_segment). */
export interface Segment {
	base: bigint;
	/** In bytes, granularity already applied. */
	limit: number;
	selector: number;
	/** Descriptor type, 4 bits. */
	type: number;
	present: number;
	dpl: number;
	/** Default operand size. */
	db: number;
	/** 1 for code and data, 0 for system segments. */
	s: number;
	/** 64-bit code. */
	l: number;
	g: number;
	avl: number;
	unusable: number;
}

/** GDTR or IDTR. */
export interface DescriptorTable {
	base: bigint;
	limit: number;
}

/** System registers (struct kvm_sregs). */
export interface Sregs {
	cs: Segment;
	ds: Segment;
	es: Segment;
	fs: Segment;
	gs: Segment;
	ss: Segment;
	tr: Segment;
	ldt: Segment;
	gdt: DescriptorTable;
	idt: DescriptorTable;
	cr0: bigint;
	cr2: bigint;
	cr3: bigint;
	cr4: bigint;
	/** Task priority, 4 bits. */
	cr8: bigint;
	efer: bigint;
	apicBase: bigint;
	/** Vectors queued by `interrupt` and not yet taken, 256 bits; at most one is set. */
	interruptBitmap: [bigint, bigint, bigint, bigint];
}

/** x87 and SSE state (struct kvm_fpu). */
export interface Fpu {
	/** ST(0) to ST(7) in stack order: 10 bytes each, in 16. */
	fpr: Uint8Array[];
	fcw: number;
	fsw: number;
	/** Abridged tag word: a bit per physical register, 1 = in use. */
	ftwx: number;
	lastOpcode: number;
	lastIp: bigint;
	lastDp: bigint;
	/** XMM0 to XMM15, 16 bytes each. */
	xmm: Uint8Array[];
	mxcsr: number;
}

/** One MSR and its value. */
export interface MsrEntry {
	index: number;
	data: bigint;
}

/** One CPUID leaf as the guest sees it. */
export interface CpuidEntry {
	function: number;
	index: number;
	/** The leaf has sub-leaves told apart by ECX. */
	significantIndex: boolean;
	eax: number;
	ebx: number;
	ecx: number;
	edx: number;
}

/** Pending events (struct kvm_vcpu_events). */
export interface VcpuEvents {
	exception: { injected: boolean; pending: boolean; nr: number; hasErrorCode: boolean; errorCode: number };
	interrupt: { injected: boolean; nr: number; soft: boolean; shadow: "none" | "sti" | "mov-ss" };
	nmi: { injected: boolean; pending: boolean; masked: boolean };
	sipiVector: number;
}

/** Debug registers (struct kvm_debugregs). */
export interface DebugRegs {
	db: [bigint, bigint, bigint, bigint];
	dr6: bigint;
	dr7: bigint;
}

/** KVM_MP_STATE_*. */
export type MpState = "runnable" | "uninitialized" | "init-received" | "halted" | "sipi-received";

/** What KVM_TRANSLATE answers. */
export interface Translation {
	physicalAddress: number;
	valid: boolean;
	writeable: boolean;
	usermode: boolean;
}

/** Argument of `setGuestDebug`. */
export interface GuestDebug {
	enable: boolean;
	singleStep?: boolean;
	/** INT3 exits instead of reaching the guest. */
	softwareBreakpoints?: boolean;
	/** Up to four; they take the place of the guest's debug registers. */
	hardwareBreakpoints?: readonly HardwareBreakpoint[];
	/** Delivers no external interrupt and no NMI while it steps (KVM_GUESTDBG_BLOCKIRQ). */
	blockInterrupts?: boolean;
	/**
	 * Stops beyond the four registers, where the capability `debug-points` says so (the software engine): any number, at
	 * full speed, and nothing of them shows in the guest's memory or registers.
	 */
	points?: readonly DebugPoint[];
}

/** A linear address whose execution, or bytes whose access, stops the guest. */
export interface DebugPoint {
	readonly address: bigint;
	readonly kind: "execute" | "read" | "write" | "access";
	/** Bytes watched; of no meaning for `execute`. */
	readonly length: number;
}

/** One of the four debug registers as `setGuestDebug` takes it. */
export interface HardwareBreakpoint {
	address: bigint;
	kind: "execute" | "write" | "access";
	/** Bytes watched; 1 for `execute`. */
	length: 1 | 2 | 4 | 8;
}

/** A stretch of host memory that slots show to the guest. */
export interface GuestMemory {
	readonly size: number;
	/**
	 * A live window of at most 4 GiB; what is written into it the guest sees.
	 *
	 * @throws KvmError EINVAL when it does not lie inside
	 */
	view(offset: number, length: number): Uint8Array;
	/** Tells the engine that the embedder wrote there (code may have been decoded from it). */
	written(offset: number, length: number): void;
}

/** struct kvm_userspace_memory_region, its host side an object instead of an address. */
export interface MemoryRegion {
	slot: number;
	guestPhysAddr: number;
	/** Bytes; 0 deletes the slot. */
	memorySize: number;
	memory: GuestMemory;
	/** Where in `memory` the slot starts. @default 0 */
	memoryOffset?: number;
	/** @default false */
	readonly?: boolean;
	/** @default false */
	logDirtyPages?: boolean;
}

/** An interrupt message (struct kvm_msi). */
export interface Msi {
	address: bigint;
	data: number;
}

/** One GSI route (struct kvm_irq_routing_entry). */
export type IrqRoute =
	| { gsi: number; type: "irqchip"; chip: "pic-master" | "pic-slave" | "ioapic"; pin: number }
	| { gsi: number; type: "msi"; msi: Msi };

/** `KVM_CAP_*` by name, lower case with dashes, without the prefix. */
export type CapabilityName = string;

/** /dev/kvm itself. */
export interface Kvm extends OptionalKvmOperations {
	readonly engine: "hardware" | "software";
	getApiVersion(): number;
	/** What KVM_CHECK_EXTENSION answers: 0 when absent. */
	checkExtension(capability: CapabilityName): number;
	getVcpuMmapSize(): number;
	/** Recommended number of vCPUs. */
	getNrVcpus(): number;
	getMaxVcpus(): number;
	getMaxVcpuId(): number;
	getNrMemslots(): number;
	getSupportedCpuid(): CpuidEntry[];
	getMsrIndexList(): number[];
	createVm(options?: CreateVmOptions): Vm;
	/** Closes every VM made here. */
	close(): void;
}

/** Options of {@link Kvm.createVm}. */
export interface CreateVmOptions {
	/**
	 * Bytes of guest memory that will be asked for with `createMemory` over the VM's life.
	 * @default 134_217_728
	 */
	memoryBytes?: number;
	/** vCPUs that will be made. @default 1 */
	vcpus?: number;
	/** KVM_CREATE_VM's machine type; EINVAL where the engine has none but 0. @default 0 */
	type?: number;
	/**
	 * Something came for a vCPU that may be halted, from another one too: it wants to be run. Engines whose `run` does not
	 * return for a halted vCPU never call it.
	 */
	onWake?: () => void;
}

/** A virtual machine. */
export interface Vm extends OptionalVmOperations {
	/** Host memory for slots. It lives until the VM is closed. */
	createMemory(size: number): GuestMemory;
	setUserMemoryRegion(region: MemoryRegion): void;
	/** A bit per 4 KiB page written since the last call, lowest page first; clears them. */
	getDirtyLog(slot: number): Uint8Array;
	setTssAddress(address: number): void;
	setIdentityMapAddress(address: number): void;
	/** PIC, IOAPIC and a local APIC per vCPU inside the engine. Before the first vCPU. */
	createIrqChip(): void;
	createPit2(): void;
	/** State of the PICs, IOAPIC and PIT, plain data. */
	getIrqchip(): unknown;
	setIrqchip(state: unknown): void;
	getPit2(): unknown;
	setPit2(state: unknown): void;
	/** kvm-clock's nanoseconds. */
	getClock(): bigint;
	setClock(nanoseconds: bigint): void;
	/** Level of an interrupt line; edges are made of two calls. */
	setIrqLine(gsi: number, level: boolean): void;
	signalMsi(msi: Msi): number;
	setGsiRouting(routes: readonly IrqRoute[]): void;
	/** A function that pulses `gsi` when called. On the hardware engine it writes to an eventfd that KVM watches. */
	registerIrqfd(gsi: number, options?: IrqfdOptions): Irqfd;
	/** Guest writes to the address call `notify` instead of leaving `run`. Returns its removal. */
	registerIoevent(event: Ioevent, notify: (value: number) => void): () => void;
	/** When the engine's own timers want `advanceTo`, in nanoseconds of the engine's clock; Infinity when never. */
	nextDeadline(): number;
	createVcpu(id: number): Vcpu;
	checkExtension(capability: CapabilityName): number;
	close(): void;
}

/** What `registerIrqfd` returns. */
export interface Irqfd {
	(): void;
	/** Of the eventfd, on the hardware engine: other threads and processes may write to it. */
	readonly fd?: number;
	close(): void;
}

/** Options of `registerIrqfd`. */
export interface IrqfdOptions {
	/**
	 * Makes the line a level: a call raises it, the guest's end of interrupt lowers it and calls this, from the event
	 * loop. EINVAL where the engine lacks `irqfd-resample`.
	 */
	resample?: () => void;
}

/** What `registerIoevent` watches. */
export interface Ioevent {
	space: "pio" | "mmio";
	address: number;
	/** 0 = any length. */
	length: 0 | 1 | 2 | 4 | 8;
	/** Only this value, when given. */
	datamatch?: number;
	/**
	 * `notify` may come later, from the event loop, once for several writes, with `datamatch` or 0 as its value. The
	 * hardware engine then watches with an eventfd, and the guest does not even leave KVM_RUN: for vCPUs that run in
	 * workers. @default false
	 */
	deferred?: boolean;
}

/** An interrupt or exception about to be delivered. */
export interface VcpuEvent {
	readonly kind: "external" | "nmi" | "exception" | "software";
	readonly vector: number;
	/** -1 where the vector has none. */
	readonly errorCode: number;
	/** RIP it interrupts. */
	readonly rip: bigint;
}

/** A virtual processor. */
export interface Vcpu extends OptionalVcpuOperations {
	readonly id: number;
	/**
	 * How long `run` may go on before it returns `intr`. On the hardware engine 200 ms are the most, because the thread
	 * cannot be ended meanwhile, and `instructions` do not count. On the software engine `instructions` are exact in
	 * virtual time; in real time the run goes on to the next branch, at the most to the end of a page of code: to execute
	 * exactly one, single-step it (`setGuestDebug`).
	 */
	setSlice(slice: { milliseconds?: number; instructions?: number }): void;
	run(): VcpuExit;
	/** Makes the current or next `run` return `intr`. */
	setImmediateExit(on: boolean): void;
	/** Whether `interrupt` would be delivered at once (kvm_run's ready_for_interrupt_injection). */
	readonly readyForInterruptInjection: boolean;
	/** kvm_run's if_flag, cr8 and apic_base: as they were when `run` last returned. */
	readonly ifFlag: boolean;
	readonly cr8: bigint;
	readonly apicBase: bigint;
	/** Asks for `irq-window-open`. */
	requestInterruptWindow: boolean;
	getRegs(): Regs;
	setRegs(regs: Readonly<Regs>): void;
	getSregs(): Sregs;
	setSregs(sregs: Readonly<Sregs>): void;
	getFpu(): Fpu;
	setFpu(fpu: Readonly<Fpu>): void;
	/** The XSAVE area, standard format. */
	getXsave(): Uint8Array;
	setXsave(area: Uint8Array): void;
	getXcrs(): { xcr: number; value: bigint }[];
	setXcrs(xcrs: readonly { xcr: number; value: bigint }[]): void;
	/** Stops at the first index it does not know and returns those before it. */
	getMsrs(indices: readonly number[]): MsrEntry[];
	/** Returns how many were set before the first that could not be. */
	setMsrs(entries: readonly MsrEntry[]): number;
	setCpuid2(entries: readonly CpuidEntry[]): void;
	getCpuid2(): CpuidEntry[];
	/** The local APIC's 1 KiB register page. */
	getLapic(): Uint8Array;
	setLapic(page: Uint8Array): void;
	getMpState(): MpState;
	setMpState(state: MpState): void;
	getVcpuEvents(): VcpuEvents;
	setVcpuEvents(events: Readonly<VcpuEvents>): void;
	getDebugRegs(): DebugRegs;
	setDebugRegs(regs: Readonly<DebugRegs>): void;
	getTscKhz(): number;
	setTscKhz(khz: number): void;
	/** Queues an external interrupt by vector, as a PIC outside the engine would. */
	interrupt(vector: number): void;
	nmi(): void;
	translateGva(linear: bigint): Translation;
	setGuestDebug(debug: GuestDebug): void;
	/** Told of every interrupt, NMI and exception before it is delivered (software engine). */
	onEvent?: ((event: VcpuEvent) => void) | undefined;
	/** Instructions executed since the vCPU was made (software engine), or undefined. */
	readonly instructionsRetired: number | undefined;
}
