import { closeSync } from "node:fs";
import { KvmError } from "../kvm/errors.ts";
import type { CoalescedZone, EnableCap, GuestMemfd, KvmDevice, KvmStats, MemoryRegion2 } from "../kvm/optional.ts";
import { enableCapBytes, irqfdBytes, ROUTE_BYTES, writeRoute } from "../kvm/structs.ts";
import type {
	CapabilityName,
	GuestMemory,
	Ioevent,
	Irqfd,
	IrqfdOptions,
	IrqRoute,
	MemoryRegion,
	Msi,
	Vcpu,
	Vm,
} from "../kvm/types.ts";
import { HardwareDevice } from "./device.node.ts";
import { EventFd } from "./eventfd.node.ts";
import { CAPABILITIES, KVM } from "./ioctls.ts";
import { Ioevents } from "./ioevents.ts";
import type { Libc } from "./libc.node.ts";
import { HardwareMemory } from "./memory.node.ts";
import { readStats } from "./stats.node.ts";
import { HardwareVcpu, type VcpuTraits } from "./vcpu.node.ts";

const FLAG_LOG_DIRTY_PAGES = 1;
const FLAG_READONLY = 2;
const FLAG_GUEST_MEMFD = 4;
const PAGE = 4096;
const CHIP_BYTES = 520;
const CHIPS = [0, 1, 2];
const PIT_BYTES = 112;
const IRQFD_DEASSIGN = 1;
const IRQFD_RESAMPLE = 2;
const IOEVENTFD_DATAMATCH = 1;
const IOEVENTFD_PIO = 2;
const IOEVENTFD_DEASSIGN = 4;
const GUEST_MEMFD_BYTES = 64;

/** A virtual machine of /dev/kvm. */
export class HardwareVm implements Vm {
	readonly #libc: Libc;
	readonly #fd: number;
	readonly #onClose: (vm: HardwareVm) => void;
	readonly #memories = new Set<HardwareMemory>();
	readonly #adopted = new Map<GuestMemory, bigint>();
	readonly #vcpus: HardwareVcpu[] = [];
	/** Bytes by slot: the size of a dirty log. */
	readonly #slots = new Map<number, number>();
	protected readonly ioevents: Ioevents = new Ioevents();
	/** Eventfds, devices and memfds that end with the VM. */
	readonly #attached = new Set<{ close(): void }>();
	readonly #traits: VcpuTraits;
	#closed = false;

	constructor(libc: Libc, fd: number, pageBytes: number, onClose: (vm: HardwareVm) => void) {
		this.#libc = libc;
		this.#fd = fd;
		this.#onClose = onClose;
		const capability = (name: CapabilityName): number => checkExtension(libc, fd, name);
		this.#traits = {
			pageBytes,
			syncRegs: capability("sync-regs"),
			xsaveBytes: capability("xsave2"),
			ringPage: capability("coalesced-mmio"),
		};
	}

	getRunSize(): number {
		return this.#traits.pageBytes;
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
		this.#setRegion(region, KVM.SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", new Uint8Array(32));
	}

	setUserMemoryRegion2(region: MemoryRegion2): void {
		const bytes = new Uint8Array(160);
		const view = new DataView(bytes.buffer);
		view.setBigUint64(32, BigInt(region.guestMemfdOffset ?? 0), true);
		view.setInt32(40, region.guestMemfd?.fd ?? 0, true);
		const flags = region.guestMemfd === undefined ? 0 : FLAG_GUEST_MEMFD;
		this.#setRegion(region, KVM.SET_USER_MEMORY_REGION2, "KVM_SET_USER_MEMORY_REGION2", bytes, flags);
	}

	#setRegion(region: MemoryRegion, request: number, name: string, bytes: Uint8Array, moreFlags = 0): void {
		const { slot, guestPhysAddr, memorySize, memory, memoryOffset = 0 } = region;
		const own = memory instanceof HardwareMemory && this.#memories.has(memory) ? memory.address : undefined;
		const base = own ?? this.#adopted.get(memory);
		if (base === undefined) {
			throw new KvmError("EINVAL", name, "the memory was not made by this VM's createMemory");
		}
		if (memoryOffset < 0 || memoryOffset + memorySize > memory.size) {
			throw new KvmError("EINVAL", name, `${memorySize} bytes at ${memoryOffset} of a memory of ${memory.size}`);
		}
		const view = new DataView(bytes.buffer);
		view.setUint32(0, slot, true);
		view.setUint32(
			4,
			(region.logDirtyPages === true ? FLAG_LOG_DIRTY_PAGES : 0) |
				(region.readonly === true ? FLAG_READONLY : 0) |
				moreFlags,
			true,
		);
		view.setBigUint64(8, BigInt(guestPhysAddr), true);
		view.setBigUint64(16, BigInt(memorySize), true);
		view.setBigUint64(24, base + BigInt(memoryOffset), true);
		this.#buffer(request, bytes, name);
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

	registerIrqfd(gsi: number, options: IrqfdOptions = {}): Irqfd {
		const fd = this.#open();
		const event = new EventFd(this.#libc);
		const resampled = options.resample === undefined ? undefined : new EventFd(this.#libc);
		const set = (flags: number): void => {
			const bytes = irqfdBytes(event.fd, gsi, flags, resampled?.fd ?? 0);
			this.#libc.ioctlBuffer(fd, KVM.IRQFD, bytes, "KVM_IRQFD");
		};
		try {
			set(resampled === undefined ? 0 : IRQFD_RESAMPLE);
		} catch (error) {
			event.close();
			resampled?.close();
			throw error;
		}
		if (options.resample !== undefined) resampled?.watch(options.resample);
		const attached = {
			close: () => {
				if (!this.#attached.delete(attached)) return;
				if (!this.#closed) set(IRQFD_DEASSIGN);
				event.close();
				resampled?.close();
			},
		};
		this.#attached.add(attached);
		const pulse = (): void => {
			if (!this.#attached.has(attached)) throw new KvmError("EINVAL", "KVM_IRQFD", `the irqfd of GSI ${gsi} is closed`);
			event.signal();
		};
		return Object.assign(pulse, { fd: event.fd, close: attached.close });
	}

	registerIoevent(event: Ioevent, notify: (value: number) => void): () => void {
		this.#open();
		this.ioevents.check(event);
		return event.deferred === true ? this.#ioeventfd(event, notify) : this.ioevents.add(event, notify);
	}

	#ioeventfd(event: Ioevent, notify: (value: number) => void): () => void {
		const fd = this.#open();
		const { datamatch } = event;
		const counter = new EventFd(this.#libc);
		const flags = (datamatch === undefined ? 0 : IOEVENTFD_DATAMATCH) | (event.space === "pio" ? IOEVENTFD_PIO : 0);
		const set = (more: number): void => {
			const bytes = new Uint8Array(64);
			const view = new DataView(bytes.buffer);
			view.setBigUint64(0, BigInt(datamatch ?? 0), true);
			view.setBigUint64(8, BigInt(event.address), true);
			view.setUint32(16, event.length, true);
			view.setInt32(20, counter.fd, true);
			view.setUint32(24, flags | more, true);
			this.#libc.ioctlBuffer(fd, KVM.IOEVENTFD, bytes, "KVM_IOEVENTFD");
		};
		try {
			set(0);
		} catch (error) {
			counter.close();
			throw error;
		}
		counter.watch(() => notify(datamatch ?? 0));
		const attached = {
			close: () => {
				if (!this.#attached.delete(attached)) return;
				if (!this.#closed) set(IOEVENTFD_DEASSIGN);
				counter.close();
			},
		};
		this.#attached.add(attached);
		return attached.close;
	}

	/** The kernel's timers run by themselves. */
	nextDeadline(): number {
		return Number.POSITIVE_INFINITY;
	}

	createVcpu(id: number): Vcpu {
		const vcpu = this.makeVcpu(this.#libc, this.#open(), id, this.#traits);
		this.#vcpus.push(vcpu);
		return vcpu;
	}

	protected makeVcpu(libc: Libc, fd: number, id: number, traits: VcpuTraits): HardwareVcpu {
		return new HardwareVcpu(libc, fd, id, traits, this.ioevents);
	}

	/** Lets slots show memory that lies at `address` and is somebody else's to keep. */
	protected adopt(memory: GuestMemory, address: bigint): void {
		this.#adopted.set(memory, address);
	}

	checkExtension(capability: CapabilityName): number {
		return checkExtension(this.#libc, this.#open(), capability);
	}

	enableCap(cap: EnableCap): void {
		const number = CAPABILITIES[cap.capability];
		if (number === undefined) throw new KvmError("EINVAL", "KVM_ENABLE_CAP", `nobody knows ${cap.capability}`);
		this.#buffer(KVM.ENABLE_CAP, enableCapBytes(number, cap), "KVM_ENABLE_CAP");
	}

	clearDirtyLog(slot: number, firstPage: number, pages: number, bitmap: Uint8Array): void {
		if (bitmap.length * 8 < pages) {
			throw new KvmError("EINVAL", "KVM_CLEAR_DIRTY_LOG", `${bitmap.length} bytes are no bitmap of ${pages} pages`);
		}
		const bytes = new Uint8Array(24);
		const view = new DataView(bytes.buffer);
		view.setUint32(0, slot, true);
		view.setUint32(4, pages, true);
		view.setBigUint64(8, BigInt(firstPage), true);
		// KVM reads whole words.
		const padded = new Uint8Array(Math.ceil(pages / 64) * 8);
		padded.set(bitmap.subarray(0, padded.length));
		view.setBigUint64(16, this.#libc.addressOf(padded), true);
		this.#buffer(KVM.CLEAR_DIRTY_LOG, bytes, "KVM_CLEAR_DIRTY_LOG");
	}

	setBootCpuId(id: number): void {
		this.#libc.ioctl(this.#open(), KVM.SET_BOOT_CPU_ID, id, "KVM_SET_BOOT_CPU_ID");
	}

	setReinject(on: boolean): void {
		const bytes = new Uint8Array(32);
		bytes[0] = on ? 1 : 0;
		this.#buffer(KVM.REINJECT_CONTROL, bytes, "KVM_REINJECT_CONTROL");
	}

	createDevice(type: number, flags = 0): KvmDevice {
		const device = new HardwareDevice(this.#libc, this.#open(), type, flags);
		this.#attached.add(device);
		return device;
	}

	createGuestMemfd(size: number, flags = 0n): GuestMemfd {
		const bytes = new Uint8Array(GUEST_MEMFD_BYTES);
		const view = new DataView(bytes.buffer);
		view.setBigUint64(0, BigInt(size), true);
		view.setBigUint64(8, flags, true);
		const fd = this.#buffer(KVM.CREATE_GUEST_MEMFD, bytes, "KVM_CREATE_GUEST_MEMFD");
		const attached = {
			fd,
			size,
			close: (): void => {
				if (this.#attached.delete(attached)) closeSync(fd);
			},
		};
		this.#attached.add(attached);
		return attached;
	}

	setMemoryAttributes({ address, size, attributes }: { address: number; size: number; attributes: bigint }): void {
		const words = new BigUint64Array([BigInt(address), BigInt(size), attributes, 0n]);
		this.#buffer(KVM.SET_MEMORY_ATTRIBUTES, new Uint8Array(words.buffer), "KVM_SET_MEMORY_ATTRIBUTES");
	}

	registerCoalescedMmio(zone: CoalescedZone): void {
		this.#buffer(KVM.REGISTER_COALESCED_MMIO, zoneBytes(zone), "KVM_REGISTER_COALESCED_MMIO");
	}

	unregisterCoalescedMmio(zone: CoalescedZone): void {
		this.#buffer(KVM.UNREGISTER_COALESCED_MMIO, zoneBytes(zone), "KVM_UNREGISTER_COALESCED_MMIO");
	}

	encryptOp(command: Uint8Array): void {
		this.#buffer(KVM.MEMORY_ENCRYPT_OP, command, "KVM_MEMORY_ENCRYPT_OP");
	}

	registerEncMemoryRegion({ address, size }: { address: bigint; size: number }): void {
		const words = new BigUint64Array([address, BigInt(size)]);
		this.#buffer(KVM.MEMORY_ENCRYPT_REG_REGION, new Uint8Array(words.buffer), "KVM_MEMORY_ENCRYPT_REG_REGION");
	}

	unregisterEncMemoryRegion({ address, size }: { address: bigint; size: number }): void {
		const words = new BigUint64Array([address, BigInt(size)]);
		this.#buffer(KVM.MEMORY_ENCRYPT_UNREG_REGION, new Uint8Array(words.buffer), "KVM_MEMORY_ENCRYPT_UNREG_REGION");
	}

	getStats(): KvmStats {
		return readStats(this.#libc, this.#open());
	}

	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		for (const attached of [...this.#attached]) attached.close();
		for (const vcpu of this.#vcpus) vcpu.close();
		closeSync(this.#fd);
		for (const memory of this.#memories) memory.close();
		this.#adopted.clear();
		this.#onClose(this);
	}

	#open(): number {
		if (this.#closed) throw new KvmError("ENODEV", "ioctl", "the virtual machine is closed");
		return this.#fd;
	}

	#buffer(request: number, argument: Uint8Array, name: string): number {
		return this.#libc.ioctlBuffer(this.#open(), request, argument, name);
	}
}

/** struct kvm_coalesced_mmio_zone. */
function zoneBytes({ address, size, space }: CoalescedZone): Uint8Array {
	const bytes = new Uint8Array(16);
	const view = new DataView(bytes.buffer);
	view.setBigUint64(0, BigInt(address), true);
	view.setUint32(8, size, true);
	view.setUint32(12, space === "pio" ? 1 : 0, true);
	return bytes;
}

/** KVM_CHECK_EXTENSION by name; a name nobody knows is a capability nobody has. */
export function checkExtension(libc: Libc, fd: number, capability: CapabilityName): number {
	const number = CAPABILITIES[capability];
	return number === undefined ? 0 : libc.ioctl(fd, KVM.CHECK_EXTENSION, number, "KVM_CHECK_EXTENSION");
}
