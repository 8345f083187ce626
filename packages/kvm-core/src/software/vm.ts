import { IRQ_SOURCE, IrqChip, type IrqChipState } from "../chips/irqchip.ts";
import { Pit, type PitState } from "../chips/pit.ts";
import { KvmError } from "../kvm/errors.ts";
import { VmWithoutOptions } from "../kvm/optional.ts";
import type { GuestMemory, Ioevent, Irqfd, IrqfdOptions, IrqRoute, MemoryRegion, Msi, Vm } from "../kvm/types.ts";
import { TSC_KHZ } from "./clock.ts";
import { defaultCpuid } from "./cpu/cpuid.ts";
import * as L from "./cpu/layout.ts";
import { refreshClock } from "./cpu/msr.ts";
import type { IoeventEntry } from "./exits.ts";
import { FIRST_VCPU, interpreter } from "./interpreter.ts";
import type { SoftwareKvm, SoftwareKvmOptions } from "./kvm.ts";
import { PAGE, PhysicalMemory, type Slot } from "./memory.ts";
import { SoftwareVcpu, type SoftwareVcpuState } from "./vcpu.ts";

const WASM_PAGE = 65_536;
const MAX_WASM_PAGES = 65_536;
/** Room for micro-ops and for entry tables, per vCPU. */
const ARENA_BYTES = 48 << 20;
const TABLES_BYTES = 64 << 20;

/** Slots a VM can have, as KVM says. */
export const MAX_SLOTS = 32_764;

/** Guest memory in the VM's one WebAssembly memory. */
class ArenaMemory implements GuestMemory {
	readonly size: number;
	readonly host: number;
	private readonly vm: SoftwareVm;

	constructor(vm: SoftwareVm, host: number, size: number) {
		this.vm = vm;
		this.host = host;
		this.size = size;
	}

	view(offset: number, length: number): Uint8Array {
		const { buffer } = this.vm.checkOpen("view");
		if (offset < 0 || length < 0 || offset + length > this.size) {
			throw new KvmError("EINVAL", "view", `bytes ${offset} to ${offset + length} of a memory of ${this.size}`);
		}
		return new Uint8Array(buffer, this.host + offset, length);
	}

	written(offset: number, length: number): void {
		this.vm.hostWritten(this.host + offset, length);
	}
}

/** What {@link SoftwareVm.saveState} gives. */
export interface SoftwareVmState {
	readonly instructions: number;
	readonly clockOffset: number;
	readonly irqchip: IrqChipState | null;
	readonly pit: PitState | null;
	readonly vcpus: readonly SoftwareVcpuState[];
}

/** A VM of the software engine. */
export class SoftwareVm extends VmWithoutOptions implements Vm {
	irqchip: IrqChip | undefined;
	pit: Pit | undefined;
	readonly ioevents: IoeventEntry[] = [];
	private readonly kvm: SoftwareKvm;
	private readonly options: SoftwareKvmOptions;
	private memory: WebAssembly.Memory | undefined;
	private readonly physical: PhysicalMemory;
	private readonly regions = new Map<number, { slot: Slot; memory: ArenaMemory; offset: number }>();
	private readonly vcpus: SoftwareVcpu[] = [];
	private readonly maxVcpus: number;
	private readonly onWake: () => void;
	private nextHost: number;
	private readonly end: number;
	private clockOffset = 0;
	private instructions = 0;

	constructor(kvm: SoftwareKvm, options: SoftwareKvmOptions, memoryBytes: number, vcpus: number, onWake = () => {}) {
		super();
		this.kvm = kvm;
		this.options = options;
		this.maxVcpus = vcpus;
		this.onWake = onWake;
		const fixed = FIRST_VCPU + vcpus * (L.VCPU_BYTES + ARENA_BYTES + TABLES_BYTES);
		const pages = Math.ceil((fixed + memoryBytes) / WASM_PAGE) + 1;
		if (pages > MAX_WASM_PAGES) {
			const most = Math.floor((MAX_WASM_PAGES * WASM_PAGE - fixed - WASM_PAGE) / (1 << 20));
			throw new KvmError("ENOMEM", "KVM_CREATE_VM", `${memoryBytes} bytes of guest memory; at most ${most} MiB fit`);
		}
		try {
			this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
		} catch (cause) {
			throw new KvmError("ENOMEM", "KVM_CREATE_VM", `the host has no ${memoryBytes} bytes for the guest`, { cause });
		}
		this.physical = new PhysicalMemory(this.memory.buffer);
		this.nextHost = fixed;
		this.end = pages * WASM_PAGE;
		this.clockOffset = this.now();
	}

	// ---- time --------------------------------------------------------------------------------------------------

	/** The engine's clock, in nanoseconds. */
	now(): number {
		const { time } = this.options;
		return time.kind === "wall" ? time.now() : (this.instructions + this.progress()) * time.nanosecondsPerInstruction;
	}

	/** Instructions that the vCPU in hand executed and `executed` was not yet told of. */
	progress: () => number = () => 0;

	get isVirtual(): boolean {
		return this.options.time.kind === "virtual";
	}

	/** In virtual time, instructions until the engine's next timer is due. */
	untilDeadline(): number {
		const { time } = this.options;
		if (time.kind !== "virtual") return Number.POSITIVE_INFINITY;
		const due = Math.ceil(this.nextDeadline() / time.nanosecondsPerInstruction) - this.instructions;
		return Math.max(1, due);
	}

	/** Everything but the contents of memory, between two runs. */
	saveState(): SoftwareVmState {
		return {
			instructions: this.instructions,
			clockOffset: this.clockOffset,
			irqchip: this.irqchip?.save() ?? null,
			pit: this.pit?.save() ?? null,
			vcpus: this.vcpus.map((vcpu) => vcpu.saveState()),
		};
	}

	/** Goes back to a state that this VM was in; what memory held then is for the embedder to put back first. */
	restoreState(state: SoftwareVmState): void {
		this.instructions = state.instructions;
		this.clockOffset = state.clockOffset;
		if (state.irqchip !== null) this.irqchip?.restore(state.irqchip);
		if (state.pit !== null) this.pit?.restore(state.pit, this.now());
		for (const [i, vcpu] of this.vcpus.entries()) vcpu.restoreState(state.vcpus[i]!);
	}

	/** Instructions a vCPU executed: virtual time goes on by them. */
	executed(instructions: number): void {
		this.instructions += instructions;
	}

	/** In virtual time, lets idle time pass up to the engine's next timer. Returns whether there was one. */
	skipToDeadline(): boolean {
		const { time } = this.options;
		const deadline = this.nextDeadline();
		if (time.kind !== "virtual" || deadline === Number.POSITIVE_INFINITY) return false;
		this.instructions = Math.max(this.instructions, Math.ceil(deadline / time.nanosecondsPerInstruction));
		return true;
	}

	/** Runs the engine's own timers up to `now`. */
	advanceTo(now: number): void {
		this.pit?.advanceTo(now);
		this.irqchip?.advanceTo(now);
	}

	nextDeadline(): number {
		return Math.min(
			this.pit?.nextDeadline() ?? Number.POSITIVE_INFINITY,
			this.irqchip?.nextDeadline() ?? Number.POSITIVE_INFINITY,
		);
	}

	getClock(): bigint {
		return this.clockAt(this.now());
	}

	/** kvm-clock at a time of the engine's clock. */
	clockAt(now: number): bigint {
		return BigInt(Math.floor(now - this.clockOffset));
	}

	setClock(nanoseconds: bigint): void {
		this.clockOffset = this.now() - Number(nanoseconds);
		for (const { core } of this.vcpus) refreshClock(core.cpu);
	}

	/** Nanoseconds since 1970 when kvm-clock was 0. */
	wallClock(): bigint {
		return BigInt(this.options.wallClock()) * 1_000_000n - this.getClock();
	}

	random(): bigint {
		return this.options.random();
	}

	// ---- memory ------------------------------------------------------------------------------------------------

	createMemory(size: number): GuestMemory {
		this.checkOpen("createMemory");
		if (size <= 0 || size % PAGE !== 0) {
			throw new KvmError("EINVAL", "createMemory", `${size} bytes; guest memory comes in pages of ${PAGE}`);
		}
		if (this.nextHost + size > this.end) {
			throw new KvmError("ENOMEM", "createMemory", `${size} bytes; ask createVm for more with memoryBytes`);
		}
		const host = this.nextHost;
		this.nextHost += size;
		return new ArenaMemory(this, host, size);
	}

	setUserMemoryRegion(region: MemoryRegion): void {
		this.checkOpen("KVM_SET_USER_MEMORY_REGION");
		const fail = (code: "EINVAL" | "EEXIST", message: string): never => {
			throw new KvmError(code, "KVM_SET_USER_MEMORY_REGION", message);
		};
		const { slot: number, guestPhysAddr, memorySize } = region;
		const memoryOffset = region.memoryOffset ?? 0;
		if (!Number.isInteger(number) || number < 0 || number >= MAX_SLOTS) fail("EINVAL", `there is no slot ${number}`);
		if (guestPhysAddr % PAGE !== 0 || memorySize % PAGE !== 0 || memoryOffset % PAGE !== 0) {
			fail("EINVAL", `slot ${number} is not made of whole pages`);
		}
		const existing = this.regions.get(number);
		if (memorySize === 0) {
			if (existing === undefined) fail("EINVAL", `slot ${number} is empty already`);
			this.regions.delete(number);
			this.slotsChanged();
			return;
		}
		const memory = region.memory;
		if (!(memory instanceof ArenaMemory) || memoryOffset + memorySize > memory.size) {
			fail("EINVAL", `slot ${number} reaches beyond its memory`);
		}
		if (guestPhysAddr < 0 || guestPhysAddr + memorySize > 2 ** 40) fail("EINVAL", "beyond the physical address space");
		const readonly = region.readonly === true;
		if (existing !== undefined) {
			if (existing.slot.size !== memorySize) fail("EINVAL", `slot ${number} cannot be resized; delete it first`);
			if (existing.memory !== memory || existing.offset !== memoryOffset || existing.slot.readonly !== readonly) {
				fail("EINVAL", `slot ${number} cannot show other memory; delete it first`);
			}
		}
		for (const [other, { slot }] of this.regions) {
			if (other === number) continue;
			if (guestPhysAddr < slot.physical + slot.size && slot.physical < guestPhysAddr + memorySize) {
				fail("EEXIST", `slot ${number} overlaps slot ${other}`);
			}
		}
		const pages = memorySize / PAGE;
		const slot: Slot = {
			slot: number,
			physical: guestPhysAddr,
			size: memorySize,
			host: (memory as ArenaMemory).host + memoryOffset,
			readonly,
			dirty: region.logDirtyPages === true ? new Uint8Array(Math.ceil(pages / 64) * 8) : undefined,
			code: new Uint8Array(pages),
		};
		this.regions.set(number, { slot, memory: memory as ArenaMemory, offset: memoryOffset });
		this.slotsChanged();
	}

	getDirtyLog(slot: number): Uint8Array {
		const dirty = this.regions.get(slot)?.slot.dirty;
		if (dirty === undefined) {
			throw new KvmError("ENOENT", "KVM_GET_DIRTY_LOG", `slot ${slot} does not log dirty pages`);
		}
		const copy = dirty.slice();
		dirty.fill(0);
		for (const vcpu of this.vcpus) vcpu.core.translator.protectAll();
		return copy;
	}

	/** Host bytes changed behind the vCPUs' backs. Dirty logs are about the guest's writes only, as KVM's are. */
	hostWritten(host: number, length: number): void {
		for (const { slot } of this.regions.values()) {
			const from = Math.max(host, slot.host);
			const to = Math.min(host + length, slot.host + slot.size);
			for (let at = from; at < to; ) {
				const offset = at - slot.host;
				const page = Math.floor(offset / PAGE);
				const end = Math.min(to - slot.host, (page + 1) * PAGE);
				if (slot.code[page] !== 0) {
					const [first] = this.vcpus;
					first?.core.codeWritten(slot.physical + page * PAGE, offset - page * PAGE, end - page * PAGE);
				}
				at = slot.host + end;
			}
		}
	}

	/** Anything may have been written by another engine on the same memory: whatever was decoded or translated is void. */
	hostChanged(): void {
		for (const { slot } of this.regions.values()) slot.code.fill(0);
		for (const vcpu of this.vcpus) vcpu.core.memoryChanged();
	}

	private slotsChanged(): void {
		this.physical.setSlots([...this.regions.values()].map(({ slot }) => slot));
		for (const vcpu of this.vcpus) vcpu.core.memoryChanged();
	}

	setTssAddress(address: number): void {
		if (address % PAGE !== 0 || address < 0 || address > 2 ** 32 - 3 * PAGE) {
			throw new KvmError(
				"EINVAL",
				"KVM_SET_TSS_ADDR",
				`0x${address.toString(16)} is no place for three pages below 4 GiB`,
			);
		}
	}

	setIdentityMapAddress(address: number): void {
		if (address % PAGE !== 0) throw new KvmError("EINVAL", "KVM_SET_IDENTITY_MAP_ADDR", "not page-aligned");
		if (this.vcpus.length > 0) {
			throw new KvmError("EINVAL", "KVM_SET_IDENTITY_MAP_ADDR", "must come before the first vCPU");
		}
	}

	// ---- interrupts --------------------------------------------------------------------------------------------

	createIrqChip(): void {
		if (this.irqchip !== undefined) throw new KvmError("EEXIST", "KVM_CREATE_IRQCHIP", "there is one already");
		if (this.vcpus.length > 0) {
			throw new KvmError("EINVAL", "KVM_CREATE_IRQCHIP", "must come before the first vCPU");
		}
		const find = (id: number): SoftwareVcpu | undefined => this.vcpus.find((vcpu) => vcpu.id === id);
		this.irqchip = new IrqChip({
			interrupt: (id) => {
				find(id)?.leaveSoon();
				this.onWake();
			},
			nmi: (id) => {
				find(id)?.nmi();
				this.onWake();
			},
			init: (id) => find(id)?.initReceived(),
			startUp: (id, vector) => {
				find(id)?.startUpReceived(vector);
				this.onWake();
			},
			smi: () => undefined,
		});
	}

	createPit2(): void {
		const irqchip = this.needIrqchip("KVM_CREATE_PIT2", "ENOENT");
		if (this.pit !== undefined) throw new KvmError("EEXIST", "KVM_CREATE_PIT2", "there is one already");
		this.pit = new Pit((level) => irqchip.setIrqLine(0, level, IRQ_SOURCE.pit));
	}

	getIrqchip(): unknown {
		return this.needIrqchip("KVM_GET_IRQCHIP").save();
	}

	setIrqchip(state: unknown): void {
		this.needIrqchip("KVM_SET_IRQCHIP").restore(state as IrqChipState);
	}

	getPit2(): unknown {
		return this.needPit("KVM_GET_PIT2").save();
	}

	setPit2(state: unknown): void {
		this.needPit("KVM_SET_PIT2").restore(state as PitState, this.now());
	}

	setIrqLine(gsi: number, level: boolean): void {
		this.needIrqchip("KVM_IRQ_LINE").setIrqLine(gsi, level);
	}

	signalMsi(msi: Msi): number {
		return this.needIrqchip("KVM_SIGNAL_MSI").signalMsi(msi);
	}

	setGsiRouting(routes: readonly IrqRoute[]): void {
		this.needIrqchip("KVM_SET_GSI_ROUTING").routing.set(routes);
	}

	registerIrqfd(gsi: number, options: IrqfdOptions = {}): Irqfd {
		const irqchip = this.needIrqchip("KVM_IRQFD");
		if (options.resample !== undefined) throw new KvmError("EINVAL", "KVM_IRQFD", "this engine does not resample");
		let open = true;
		const pulse = (): void => {
			if (!open) throw new KvmError("EINVAL", "KVM_IRQFD", `the irqfd of GSI ${gsi} is closed`);
			irqchip.setIrqLine(gsi, true);
			irqchip.setIrqLine(gsi, false);
		};
		return Object.assign(pulse, {
			close(): void {
				open = false;
			},
		});
	}

	registerIoevent(event: Ioevent, notify: (value: number) => void): () => void {
		const clash = this.ioevents.some(
			({ event: other }) =>
				other.space === event.space &&
				other.address === event.address &&
				other.datamatch === event.datamatch &&
				(other.length === event.length || other.length === 0 || event.length === 0),
		);
		if (clash) throw new KvmError("EEXIST", "KVM_IOEVENTFD", `0x${event.address.toString(16)} is watched already`);
		const entry: IoeventEntry = { event: { ...event }, notify };
		this.ioevents.push(entry);
		return () => {
			const at = this.ioevents.indexOf(entry);
			if (at >= 0) this.ioevents.splice(at, 1);
		};
	}

	private needIrqchip(syscall: string, code: "ENXIO" | "ENOENT" = "ENXIO"): IrqChip {
		if (this.irqchip === undefined)
			throw new KvmError(code, syscall, "the VM has no irqchip; call createIrqChip first");
		return this.irqchip;
	}

	private needPit(syscall: string): Pit {
		if (this.pit === undefined) throw new KvmError("ENXIO", syscall, "the VM has no PIT; call createPit2 first");
		return this.pit;
	}

	// ---- vCPUs -------------------------------------------------------------------------------------------------

	createVcpu(id: number): SoftwareVcpu {
		const memory = this.checkOpen("KVM_CREATE_VCPU");
		const fail = (code: "EINVAL" | "EEXIST", message: string): never => {
			throw new KvmError(code, "KVM_CREATE_VCPU", message);
		};
		if (!Number.isInteger(id) || id < 0 || id >= this.kvm.getMaxVcpuId()) fail("EINVAL", `there is no vCPU id ${id}`);
		if (this.vcpus.some((vcpu) => vcpu.id === id)) fail("EEXIST", `vCPU ${id} exists`);
		const index = this.vcpus.length;
		if (index >= this.maxVcpus) fail("EINVAL", `the VM was made for ${this.maxVcpus} vCPU(s); see createVm's vcpus`);
		const base = FIRST_VCPU + index * L.VCPU_BYTES;
		const arena = FIRST_VCPU + this.maxVcpus * L.VCPU_BYTES + index * (ARENA_BYTES + TABLES_BYTES);
		const { plan, module } = interpreter(base);
		const vcpu = new SoftwareVcpu({
			vm: this,
			id,
			physical: this.physical,
			base,
			arena: {
				start: arena,
				end: arena + ARENA_BYTES,
				tables: arena + ARENA_BYTES,
				tablesEnd: arena + ARENA_BYTES + TABLES_BYTES,
			},
			plan,
			module,
			memory,
			cpuid: defaultCpuid({ apicId: id, vcpus: this.maxVcpus, tscKhz: TSC_KHZ }),
		});
		this.vcpus.push(vcpu);
		const cores = this.vcpus.map(({ core }) => core);
		for (const core of cores) core.peers = cores;
		return vcpu;
	}

	checkExtension(capability: string): number {
		return this.kvm.checkExtension(capability);
	}

	close(): void {
		this.memory = undefined;
		this.vcpus.length = 0;
		this.regions.clear();
		this.physical.setSlots([]);
		this.ioevents.length = 0;
		this.kvm.vmClosed(this);
	}

	/** The VM's memory. @throws KvmError ENODEV once it is closed */
	checkOpen(syscall: string): WebAssembly.Memory {
		if (this.memory === undefined) throw new KvmError("ENODEV", syscall, "the VM is closed");
		return this.memory;
	}
}
