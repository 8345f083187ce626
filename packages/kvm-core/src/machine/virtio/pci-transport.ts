import type { Msi } from "../../kvm/types.ts";
import type { AccessSize, Bus, MmioDevice } from "../bus.ts";
import type { GuestRam } from "../guest-ram.ts";
import { PciFunction, type PciFunctionState } from "../pci/function.ts";
import { MsiX, type MsiXState, NO_VECTOR } from "../pci/msix.ts";
import type { VirtioDevice, VirtioTransport } from "./device.ts";
import { Virtqueue, type VirtqueueState } from "./queue.ts";

/** Where the parts lie in BAR 0. */
const COMMON = 0x0000;
const ISR = 0x1000;
const DEVICE = 0x2000;
const NOTIFY = 0x3000;
const TABLE = 0x4000;
const PENDING = 0x5000;
const BAR_SIZE = 0x8000;
const NOTIFY_MULTIPLIER = 4;

const CAP_VENDOR = 0x09;
const CFG_COMMON = 1;
const CFG_NOTIFY = 2;
const CFG_ISR = 3;
const CFG_DEVICE = 4;
const CFG_PCI = 5;

const STATUS_FEATURES_OK = 8;
const STATUS_DRIVER_OK = 4;
const STATUS_NEEDS_RESET = 0x40;

const ISR_QUEUE = 1;
const ISR_CONFIG = 2;

const F_INDIRECT_DESC = 1 << 28;
const F_EVENT_IDX = 1 << 29;
/** VIRTIO_F_VERSION_1, bit 32. */
const F_HIGH_VERSION_1 = 1;

/** Plain state of a {@link VirtioPci}. */
export interface VirtioPciState {
	pci: PciFunctionState;
	msix: MsiXState;
	status: number;
	isr: number;
	generation: number;
	featureSelect: number;
	driverFeatureSelect: number;
	driverFeatures: [low: number, high: number];
	queueSelect: number;
	configVector: number;
	queues: VirtqueueState[];
	device: unknown;
}

/** What a {@link VirtioPci} needs of its board. */
export interface VirtioPciOptions {
	bus: Bus;
	ram: GuestRam;
	signalMsi: (msi: Msi) => void;
}

/**
 * A virtio 1.x device as a PCI function: common, notify, ISR and device configuration and the MSI-X table in one window, with
 * INTx for drivers without MSI-X. No legacy interface.
 *
 * @see Virtual I/O Device (VIRTIO) 1.2, 4.1
 */
export class VirtioPci implements MmioDevice, VirtioTransport {
	readonly pci: PciFunction;
	readonly ram: GuestRam;
	readonly queues: readonly Virtqueue[];
	readonly device: VirtioDevice;
	readonly #msix: MsiX;
	readonly #pciCfg: number;
	#status = 0;
	#isr = 0;
	#generation = 0;
	#featureSelect = 0;
	#driverFeatureSelect = 0;
	#driverLow = 0;
	#driverHigh = 0;
	#queueSelect = 0;
	#configVector = NO_VECTOR;

	constructor(device: VirtioDevice, options: VirtioPciOptions) {
		this.device = device;
		this.ram = options.ram;
		this.queues = device.queueSizes.map((size) => new Virtqueue(options.ram, size));
		this.pci = new PciFunction(
			{
				vendor: 0x1af4,
				device: 0x1040 + device.type,
				revision: 1,
				classCode: device.classCode,
				subsystemVendor: 0x1af4,
				subsystem: 0x1100,
				interruptPin: 1,
			},
			options.bus,
		);
		this.pci.addBar(0, { size: BAR_SIZE, device: this });
		this.#addVirtioCapability(CFG_COMMON, COMMON, 0x38);
		this.#addVirtioCapability(CFG_ISR, ISR, 1);
		this.#addVirtioCapability(CFG_DEVICE, DEVICE, 0x1000);
		this.#addVirtioCapability(CFG_NOTIFY, NOTIFY, NOTIFY_MULTIPLIER * this.queues.length, NOTIFY_MULTIPLIER);
		this.#pciCfg = this.#addVirtioCapability(CFG_PCI, 0, 0, 0);
		this.pci.allowWrite(this.#pciCfg + 4, 0xff, 1);
		this.pci.allowWrite(this.#pciCfg + 8, 0xffff_ffff, 4);
		this.pci.allowWrite(this.#pciCfg + 12, 0xffff_ffff, 4);
		this.pci.addWindow({
			start: this.#pciCfg + 16,
			length: 4,
			read: (_offset, size) => this.#throughPciCfg(size, undefined),
			write: (_offset, size, value) => {
				this.#throughPciCfg(size, value);
			},
		});
		// One vector for each queue and one for the configuration.
		this.#msix = new MsiX(this.pci, this.queues.length + 1, 0, TABLE, PENDING, options.signalMsi);
		this.pci.onConfigWrite = () => this.#msix.flush();
		device.attach(this);
	}

	hasFeature(bit: number): boolean {
		return (((bit < 32 ? this.#driverLow : this.#driverHigh) >>> (bit & 31)) & 1) === 1;
	}

	signal(index: number): void {
		const queue = this.queues[index];
		if (queue.broken) {
			this.#fail();
			return;
		}
		if (!queue.takeSignal()) return;
		if (this.#msix.enabled) this.#msix.notify(queue.vector);
		else this.#raise(ISR_QUEUE);
	}

	configChanged(): void {
		if ((this.#status & STATUS_DRIVER_OK) === 0) return;
		this.#generation = (this.#generation + 1) & 0xff;
		this.#raise(ISR_CONFIG);
		if (this.#msix.enabled) this.#msix.notify(this.#configVector);
	}

	readMmio(offset: number, size: AccessSize): number {
		switch (offset & 0x7000) {
			case COMMON:
				return this.#readCommon(offset, size);
			case ISR: {
				const isr = this.#isr;
				this.#isr = 0;
				this.pci.setInterrupt(false);
				return isr;
			}
			case DEVICE:
				return this.device.readConfig(offset - DEVICE, size);
			case TABLE:
				return this.#msix.readTable(offset - TABLE, size);
			case PENDING:
				return this.#msix.readPending(offset - PENDING);
			default:
				return 0;
		}
	}

	writeMmio(offset: number, size: AccessSize, value: number): void {
		switch (offset & 0x7000) {
			case COMMON:
				this.#writeCommon(offset, size, value);
				break;
			case DEVICE:
				this.device.writeConfig(offset - DEVICE, size, value);
				break;
			case NOTIFY: {
				const queue = (offset - NOTIFY) / NOTIFY_MULTIPLIER;
				if (Number.isInteger(queue) && queue < this.queues.length) this.#notify(queue);
				break;
			}
			case TABLE:
				this.#msix.writeTable(offset - TABLE, size, value);
				break;
			default:
		}
	}

	/** Power-on state of device and function. */
	reset(): void {
		this.#resetDevice();
		this.#msix.reset();
		this.pci.reset();
	}

	save(): VirtioPciState {
		return {
			pci: this.pci.save(),
			msix: this.#msix.save(),
			status: this.#status,
			isr: this.#isr,
			generation: this.#generation,
			featureSelect: this.#featureSelect,
			driverFeatureSelect: this.#driverFeatureSelect,
			driverFeatures: [this.#driverLow, this.#driverHigh],
			queueSelect: this.#queueSelect,
			configVector: this.#configVector,
			queues: this.queues.map((queue) => queue.save()),
			device: this.device.save(),
		};
	}

	restore(state: VirtioPciState): void {
		this.#msix.restore(state.msix);
		this.pci.restore(state.pci);
		this.#status = state.status;
		this.#isr = state.isr;
		this.#generation = state.generation;
		this.#featureSelect = state.featureSelect;
		this.#driverFeatureSelect = state.driverFeatureSelect;
		[this.#driverLow, this.#driverHigh] = state.driverFeatures;
		this.#queueSelect = state.queueSelect;
		this.#configVector = state.configVector;
		for (const [i, queue] of this.queues.entries()) {
			queue.restore(state.queues[i]);
			queue.eventIndex = (this.#driverLow & F_EVENT_IDX) !== 0;
		}
		this.device.restore(state.device);
	}

	#addVirtioCapability(type: number, offset: number, length: number, extra?: number): number {
		const body = new DataView(new ArrayBuffer(extra === undefined ? 14 : 18));
		body.setUint8(0, body.byteLength + 2);
		body.setUint8(1, type);
		body.setUint32(6, offset, true);
		body.setUint32(10, length, true);
		if (extra !== undefined) body.setUint32(14, extra, true);
		return this.pci.addCapability(CAP_VENDOR, new Uint8Array(body.buffer));
	}

	/** The window in configuration space for those who cannot reach BAR 0 (firmware). */
	#throughPciCfg(size: AccessSize, value: number | undefined): number {
		const bar = this.pci.get16(this.#pciCfg + 4) & 0xff;
		const offset = this.pci.get32(this.#pciCfg + 8);
		const length = this.pci.get32(this.#pciCfg + 12);
		if (bar !== 0 || length !== size || offset % size !== 0 || offset + size > BAR_SIZE) return 0;
		if (value === undefined) return this.readMmio(offset, size);
		this.writeMmio(offset, size, value);
		return 0;
	}

	#notify(queue: number): void {
		if ((this.#status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) !== STATUS_DRIVER_OK) return;
		this.device.notify(queue);
	}

	#readCommon(offset: number, size: AccessSize): number {
		// Drivers read each field with its own width; 64-bit fields come as two words.
		const word = this.#commonWord(offset & ~3);
		const value = word >>> (8 * (offset & 3));
		return size === 4 ? value >>> 0 : size === 2 ? value & 0xffff : value & 0xff;
	}

	#commonWord(offset: number): number {
		const queue: Virtqueue | undefined = this.queues[this.#queueSelect];
		switch (offset) {
			case 0x00:
				return this.#featureSelect;
			case 0x04:
				return this.#offered(this.#featureSelect);
			case 0x08:
				return this.#driverFeatureSelect;
			case 0x0c:
				return this.#driverFeatureSelect === 0
					? this.#driverLow
					: this.#driverFeatureSelect === 1
						? this.#driverHigh
						: 0;
			case 0x10:
				return this.#configVector | (this.queues.length << 16);
			case 0x14:
				return this.#status | (this.#generation << 8) | (this.#queueSelect << 16);
			case 0x18:
				return queue === undefined ? 0 : queue.size | (queue.vector << 16);
			case 0x1c:
				return queue === undefined ? 0 : (queue.enabled ? 1 : 0) | (this.#queueSelect << 16);
			case 0x20:
			case 0x24:
				return half(queue?.descriptors, offset);
			case 0x28:
			case 0x2c:
				return half(queue?.available, offset);
			case 0x30:
			case 0x34:
				return half(queue?.used, offset);
			default:
				return 0;
		}
	}

	#writeCommon(offset: number, size: AccessSize, value: number): void {
		const queue: Virtqueue | undefined = this.queues[this.#queueSelect];
		switch (offset) {
			case 0x00:
				this.#featureSelect = value;
				return;
			case 0x08:
				this.#driverFeatureSelect = value;
				return;
			case 0x0c:
				this.#acceptFeatures(value);
				return;
			case 0x10:
				this.#configVector = this.#vector(value);
				return;
			case 0x14:
				this.#setStatus(value & 0xff);
				return;
			case 0x16:
				this.#queueSelect = value & 0xffff;
				return;
			default:
		}
		if (queue === undefined) return;
		if (offset === 0x1a) {
			queue.vector = this.#vector(value);
			return;
		}
		// The rest is fixed while the queue runs.
		if (queue.enabled) return;
		switch (offset) {
			case 0x18:
				queue.size = value & 0xffff;
				break;
			case 0x1c:
				if ((value & 1) === 1) this.#enable(queue);
				break;
			case 0x20:
			case 0x24:
				queue.descriptors = withHalf(queue.descriptors, offset, size, value);
				break;
			case 0x28:
			case 0x2c:
				queue.available = withHalf(queue.available, offset, size, value);
				break;
			case 0x30:
			case 0x34:
				queue.used = withHalf(queue.used, offset, size, value);
				break;
			default:
		}
	}

	#enable(queue: Virtqueue): void {
		queue.eventIndex = (this.#driverLow & F_EVENT_IDX) !== 0;
		if (!queue.enable()) this.#fail();
	}

	#vector(value: number): number {
		value &= 0xffff;
		return value < this.#msix.vectors ? value : NO_VECTOR;
	}

	#offered(select: number): number {
		if (select === 0) return (this.device.features | F_INDIRECT_DESC | F_EVENT_IDX) >>> 0;
		return select === 1 ? F_HIGH_VERSION_1 : 0;
	}

	#acceptFeatures(value: number): void {
		// Features are settled once FEATURES_OK is set.
		if ((this.#status & STATUS_FEATURES_OK) !== 0) return;
		if (this.#driverFeatureSelect === 0) this.#driverLow = value;
		else if (this.#driverFeatureSelect === 1) this.#driverHigh = value;
	}

	#setStatus(status: number): void {
		if (status === 0) {
			this.#resetDevice();
			return;
		}
		const before = this.#status;
		if ((status & ~before & STATUS_FEATURES_OK) !== 0) {
			const unknown = (this.#driverLow & ~this.#offered(0)) | (this.#driverHigh & ~F_HIGH_VERSION_1);
			// Refused by not showing the bit: something not offered, or no VERSION_1, which legacy drivers lack.
			if (unknown !== 0 || (this.#driverHigh & F_HIGH_VERSION_1) === 0) status &= ~STATUS_FEATURES_OK;
		}
		this.#status = status | (before & STATUS_NEEDS_RESET);
		if ((status & ~before & STATUS_DRIVER_OK) !== 0) this.device.start();
	}

	#resetDevice(): void {
		this.#status = 0;
		this.#isr = 0;
		this.#featureSelect = 0;
		this.#driverFeatureSelect = 0;
		this.#driverLow = 0;
		this.#driverHigh = 0;
		this.#queueSelect = 0;
		this.#configVector = NO_VECTOR;
		this.pci.setInterrupt(false);
		for (const queue of this.queues) queue.reset();
		this.device.reset();
	}

	#raise(bit: number): void {
		this.#isr |= bit;
		if (!this.#msix.enabled) this.pci.setInterrupt(true);
	}

	/** The driver broke a queue: DEVICE_NEEDS_RESET, said once. */
	#fail(): void {
		if ((this.#status & STATUS_NEEDS_RESET) !== 0) return;
		this.#status |= STATUS_NEEDS_RESET;
		this.configChanged();
	}
}

function half(value: number | undefined, offset: number): number {
	if (value === undefined) return 0;
	return (offset & 4) === 0 ? value % 2 ** 32 : Math.floor(value / 2 ** 32);
}

function withHalf(before: number, offset: number, size: AccessSize, value: number): number {
	if (size !== 4) return before;
	const low = before % 2 ** 32;
	return (offset & 4) === 0 ? before - low + value : value * 2 ** 32 + low;
}
