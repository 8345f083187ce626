import { closeSync } from "node:fs";
import { KvmError } from "../kvm/errors.ts";
import type {
	CapabilityName,
	GuestMemory,
	Ioevent,
	IrqRoute,
	MemoryRegion,
	Msi,
	Vcpu,
	VcpuExit,
	Vm,
} from "../kvm/types.ts";
import { CAPABILITIES, KVM } from "./ioctls.ts";
import type { Libc } from "./libc.node.ts";
import { HardwareMemory } from "./memory.node.ts";
import { ROUTE_BYTES, writeRoute } from "./structs.ts";
import { HardwareVcpu } from "./vcpu.node.ts";

const FLAG_LOG_DIRTY_PAGES = 1;
const FLAG_READONLY = 2;
const PAGE = 4096;
const CHIP_BYTES = 520;
const CHIPS = [0, 1, 2];
const PIT_BYTES = 112;

interface Watch {
	event: Ioevent;
	notify: (value: number) => void;
}

/** A virtual machine of /dev/kvm. */
export class HardwareVm implements Vm {
	readonly #libc: Libc;
	readonly #fd: number;
	readonly #pageBytes: number;
	readonly #onClose: (vm: HardwareVm) => void;
	readonly #memories = new Set<HardwareMemory>();
	readonly #vcpus: HardwareVcpu[] = [];
	/** Bytes by slot: the size of a dirty log. */
	readonly #slots = new Map<number, number>();
	readonly #watches = new Set<Watch>();
	#closed = false;

	constructor(libc: Libc, fd: number, pageBytes: number, onClose: (vm: HardwareVm) => void) {
		this.#libc = libc;
		this.#fd = fd;
		this.#pageBytes = pageBytes;
		this.#onClose = onClose;
	}

	createMemory(size: number): GuestMemory {
		this.#open();
		if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE !== 0) {
			throw new KvmError("EINVAL", "createMemory", `${size} bytes; a positive multiple of ${PAGE} is wanted`);
		}
		const memory = new HardwareMemory(this.#libc, size);
		this.#memories.add(memory);
		return memory;
	}

	setUserMemoryRegion(region: MemoryRegion): void {
		const { slot, guestPhysAddr, memorySize, memory, memoryOffset = 0 } = region;
		if (!(memory instanceof HardwareMemory) || !this.#memories.has(memory)) {
			throw new KvmError("EINVAL", "KVM_SET_USER_MEMORY_REGION", "the memory was not made by this VM's createMemory");
		}
		if (memoryOffset < 0 || memoryOffset + memorySize > memory.size) {
			throw new KvmError(
				"EINVAL",
				"KVM_SET_USER_MEMORY_REGION",
				`${memorySize} bytes at ${memoryOffset} of a memory of ${memory.size}`,
			);
		}
		const bytes = new Uint8Array(32);
		const view = new DataView(bytes.buffer);
		view.setUint32(0, slot, true);
		view.setUint32(
			4,
			(region.logDirtyPages === true ? FLAG_LOG_DIRTY_PAGES : 0) | (region.readonly === true ? FLAG_READONLY : 0),
			true,
		);
		view.setBigUint64(8, BigInt(guestPhysAddr), true);
		view.setBigUint64(16, BigInt(memorySize), true);
		view.setBigUint64(24, memory.address + BigInt(memoryOffset), true);
		this.#buffer(KVM.SET_USER_MEMORY_REGION, bytes, "KVM_SET_USER_MEMORY_REGION");
		if (memorySize === 0) this.#slots.delete(slot);
		else this.#slots.set(slot, memorySize);
	}

	getDirtyLog(slot: number): Uint8Array {
		const words = Math.ceil((this.#slots.get(slot) ?? 0) / PAGE / 64);
		const bitmap = this.#libc.mmapAnonymous(Math.max(8, words * 8));
		const length = Math.max(8, words * 8);
		try {
			const bytes = new Uint8Array(16);
			const view = new DataView(bytes.buffer);
			view.setUint32(0, slot, true);
			view.setBigUint64(8, bitmap, true);
			this.#buffer(KVM.GET_DIRTY_LOG, bytes, "KVM_GET_DIRTY_LOG");
			return new Uint8Array(this.#libc.view(bitmap, length)).slice(0, words * 8);
		} finally {
			this.#libc.munmap(bitmap, length);
		}
	}

	setTssAddress(address: number): void {
		this.#libc.ioctl(this.#open(), KVM.SET_TSS_ADDR, address, "KVM_SET_TSS_ADDR");
	}

	setIdentityMapAddress(address: number): void {
		this.#buffer(
			KVM.SET_IDENTITY_MAP_ADDR,
			new Uint8Array(new BigUint64Array([BigInt(address)]).buffer),
			"KVM_SET_IDENTITY_MAP_ADDR",
		);
	}

	createIrqChip(): void {
		this.#libc.ioctl(this.#open(), KVM.CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP");
	}

	createPit2(): void {
		this.#buffer(KVM.CREATE_PIT2, new Uint8Array(64), "KVM_CREATE_PIT2");
	}

	/** The kernel's three struct kvm_irqchip: PIC master and slave, IOAPIC. */
	getIrqchip(): Uint8Array[] {
		return CHIPS.map((chip) => {
			const bytes = new Uint8Array(CHIP_BYTES);
			bytes[0] = chip;
			this.#buffer(KVM.GET_IRQCHIP, bytes, "KVM_GET_IRQCHIP");
			return bytes;
		});
	}

	setIrqchip(state: unknown): void {
		const chips = state as readonly Uint8Array[];
		if (!Array.isArray(state) || chips.some((chip) => !(chip instanceof Uint8Array) || chip.length !== CHIP_BYTES)) {
			throw new KvmError("EINVAL", "KVM_SET_IRQCHIP", "the state is not what getIrqchip of this engine returned");
		}
		for (const chip of chips) this.#buffer(KVM.SET_IRQCHIP, chip.slice(), "KVM_SET_IRQCHIP");
	}

	/** The kernel's struct kvm_pit_state2. */
	getPit2(): Uint8Array {
		const bytes = new Uint8Array(PIT_BYTES);
		this.#buffer(KVM.GET_PIT2, bytes, "KVM_GET_PIT2");
		return bytes;
	}

	setPit2(state: unknown): void {
		if (!(state instanceof Uint8Array) || state.length !== PIT_BYTES) {
			throw new KvmError("EINVAL", "KVM_SET_PIT2", "the state is not what getPit2 of this engine returned");
		}
		this.#buffer(KVM.SET_PIT2, state.slice(), "KVM_SET_PIT2");
	}

	getClock(): bigint {
		const bytes = new Uint8Array(48);
		this.#buffer(KVM.GET_CLOCK, bytes, "KVM_GET_CLOCK");
		return new DataView(bytes.buffer).getBigUint64(0, true);
	}

	setClock(nanoseconds: bigint): void {
		const bytes = new Uint8Array(48);
		new DataView(bytes.buffer).setBigUint64(0, nanoseconds, true);
		this.#buffer(KVM.SET_CLOCK, bytes, "KVM_SET_CLOCK");
	}

	setIrqLine(gsi: number, level: boolean): void {
		this.#buffer(KVM.IRQ_LINE, new Uint8Array(new Uint32Array([gsi, level ? 1 : 0]).buffer), "KVM_IRQ_LINE");
	}

	signalMsi(msi: Msi): number {
		const bytes = new Uint8Array(32);
		const view = new DataView(bytes.buffer);
		view.setBigUint64(0, msi.address, true);
		view.setUint32(8, msi.data, true);
		return this.#buffer(KVM.SIGNAL_MSI, bytes, "KVM_SIGNAL_MSI");
	}

	setGsiRouting(routes: readonly IrqRoute[]): void {
		const bytes = new Uint8Array(8 + routes.length * ROUTE_BYTES);
		const view = new DataView(bytes.buffer);
		view.setUint32(0, routes.length, true);
		routes.forEach((route, i) => {
			writeRoute(view, 8 + i * ROUTE_BYTES, route);
		});
		this.#buffer(KVM.SET_GSI_ROUTING, bytes, "KVM_SET_GSI_ROUTING");
	}

	registerIrqfd(gsi: number): () => void {
		this.#open();
		return () => {
			this.setIrqLine(gsi, true);
			this.setIrqLine(gsi, false);
		};
	}

	registerIoevent(event: Ioevent, notify: (value: number) => void): () => void {
		this.#open();
		for (const { event: other } of this.#watches) {
			const sameValue =
				other.datamatch === undefined || event.datamatch === undefined || other.datamatch === event.datamatch;
			const sameLength = other.length === 0 || event.length === 0 || other.length === event.length;
			if (other.space === event.space && other.address === event.address && sameLength && sameValue) {
				throw new KvmError(
					"EEXIST",
					"KVM_IOEVENTFD",
					`${event.space} ${event.address.toString(16)} is watched already`,
				);
			}
		}
		const watch = { event: { ...event }, notify };
		this.#watches.add(watch);
		return () => {
			this.#watches.delete(watch);
		};
	}

	/** The kernel's timers run by themselves. */
	nextDeadline(): number {
		return Number.POSITIVE_INFINITY;
	}

	createVcpu(id: number): Vcpu {
		const vcpu = new HardwareVcpu(this.#libc, this.#open(), id, this.#pageBytes, (exit) => this.#watched(exit));
		this.#vcpus.push(vcpu);
		return vcpu;
	}

	checkExtension(capability: CapabilityName): number {
		return checkExtension(this.#libc, this.#open(), capability);
	}

	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		for (const vcpu of this.#vcpus) vcpu.close(this.#pageBytes);
		closeSync(this.#fd);
		for (const memory of this.#memories) memory.close();
		this.#onClose(this);
	}

	/** Ioevents are matched here and not by eventfds: those do not say which value was written. */
	#watched(exit: VcpuExit): boolean {
		if (this.#watches.size === 0) return false;
		const isPio = exit.reason === "io" && exit.direction === "out" && exit.count === 1;
		const isMmio = exit.reason === "mmio" && exit.isWrite;
		if (!isPio && !isMmio) return false;
		const space = isPio ? "pio" : "mmio";
		const address = exit.reason === "io" ? exit.port : exit.reason === "mmio" ? exit.physAddr : 0;
		let value = 0;
		for (let i = exit.data.length - 1; i >= 0; i--) value = value * 256 + exit.data[i]!;
		for (const { event, notify } of this.#watches) {
			if (event.space !== space || event.address !== address) continue;
			if (event.length !== 0 && event.length !== exit.data.length) continue;
			if (event.datamatch !== undefined && event.datamatch !== value) continue;
			notify(value);
			return true;
		}
		return false;
	}

	#open(): number {
		if (this.#closed) throw new KvmError("ENODEV", "ioctl", "the virtual machine is closed");
		return this.#fd;
	}

	#buffer(request: number, argument: Uint8Array, name: string): number {
		return this.#libc.ioctlBuffer(this.#open(), request, argument, name);
	}
}

/** KVM_CHECK_EXTENSION by name; a name nobody knows is a capability nobody has. */
export function checkExtension(libc: Libc, fd: number, capability: CapabilityName): number {
	const number = CAPABILITIES[capability];
	return number === undefined ? 0 : libc.ioctl(fd, KVM.CHECK_EXTENSION, number, "KVM_CHECK_EXTENSION");
}
