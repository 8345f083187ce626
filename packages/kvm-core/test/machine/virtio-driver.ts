import type { Msi } from "../../src/kvm/types.ts";
import { Bus } from "../../src/machine/bus.ts";
import { PciHost } from "../../src/machine/pci/host.ts";
import type { VirtioDevice } from "../../src/machine/virtio/device.ts";
import { VirtioPci } from "../../src/machine/virtio/pci-transport.ts";
import { type ArrayMemory, makeRam } from "./memory.ts";

const RAM_SIZE = 0x10_0000;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** A piece of a request: bytes for the device, or room for its answer. */
export type Piece = { send: Uint8Array } | { room: number };

/** A board with one virtio device on its PCI bus, and the driver of it that tests use. */
export class Driver {
	readonly bus = new Bus();
	readonly memory: ArrayMemory;
	readonly transport: VirtioPci;
	readonly pci: PciHost;
	readonly lines: string[] = [];
	readonly messages: Msi[] = [];
	/** Addresses of the structures found through the capabilities. */
	common = 0;
	isr = 0;
	config = 0;
	notifyBase = 0;
	notifyMultiplier = 0;
	eventIndex = false;
	readonly #rings: { size: number; at: number; available: number; used: number; next: number; taken: number }[] = [];
	#heap = 0x4_0000;

	constructor(device: VirtioDevice) {
		const { ram, memory } = makeRam(RAM_SIZE);
		this.memory = memory;
		const setIrq = (irq: number, level: boolean) => void this.lines.push(`${irq} ${level}`);
		this.pci = new PciHost(this.bus, setIrq, { readPort: () => 0, writePort: () => undefined });
		this.transport = new VirtioPci(device, { bus: this.bus, ram, signalMsi: (msi) => void this.messages.push(msi) });
		this.pci.add(this.transport.pci);
		this.pci.placeAll();
	}

	/** Configuration space of slot 2 through mechanism 1. */
	pciRead(offset: number, size: 1 | 2 | 4): number {
		this.bus.writePort(0xcf8, 4, 0x8000_1000 | (offset & 0xfc));
		return this.bus.readPort(0xcfc + (offset & 3), size);
	}

	pciWrite(offset: number, size: 1 | 2 | 4, value: number): void {
		this.bus.writePort(0xcf8, 4, 0x8000_1000 | (offset & 0xfc));
		this.bus.writePort(0xcfc + (offset & 3), size, value);
	}

	read(address: number, size: 1 | 2 | 4): number {
		const data = new Uint8Array(size);
		this.bus.handleMmio({ reason: "mmio", physAddr: address, isWrite: false, data });
		return data.reduceRight((value, byte) => value * 256 + byte, 0);
	}

	write(address: number, size: 1 | 2 | 4, value: number): void {
		const data = Uint8Array.from({ length: size }, (_, i) => Math.floor(value / 256 ** i));
		this.bus.handleMmio({ reason: "mmio", physAddr: address, isWrite: true, data });
	}

	/** Finds a capability by id, and by a virtio type where one is given; 0 when there is none. */
	capability(id: number, type?: number): number {
		let at = this.pciRead(0x34, 1);
		while (at !== 0) {
			if (this.pciRead(at, 1) === id && (type === undefined || this.pciRead(at + 3, 1) === type)) return at;
			at = this.pciRead(at + 1, 1);
		}
		return 0;
	}

	/** Walks the capabilities, and brings the device up with every feature it offers. */
	start(options: { features?: number; msix?: boolean } = {}): this {
		const bar = this.pciRead(0x10, 4);
		this.pciWrite(4, 2, 6);
		const where = (type: number) => bar + this.pciRead(this.capability(9, type) + 8, 4);
		this.common = where(1);
		this.notifyBase = where(2);
		this.isr = where(3);
		this.config = where(4);
		this.notifyMultiplier = this.pciRead(this.capability(9, 2) + 16, 4);
		if (options.msix ?? true) {
			const msix = this.capability(0x11);
			const table = bar + (this.pciRead(msix + 4, 4) & ~7);
			for (let vector = 0; vector <= (this.pciRead(msix + 2, 2) & 0x7ff); vector++) {
				this.write(table + vector * 16, 4, 0xfee0_0000);
				this.write(table + vector * 16 + 8, 4, 0x40 + vector);
				this.write(table + vector * 16 + 12, 4, 0);
			}
			this.pciWrite(msix + 2, 2, 0x8000);
		}
		const { common } = this;
		this.write(common + 0x14, 1, 0);
		this.write(common + 0x14, 1, 3);
		this.write(common, 4, 0);
		const offered = this.read(common + 4, 4);
		const features = offered & (options.features ?? -1);
		this.eventIndex = (features & (1 << 29)) !== 0;
		this.write(common + 8, 4, 0);
		this.write(common + 12, 4, features >>> 0);
		this.write(common + 8, 4, 1);
		this.write(common + 12, 4, 1);
		this.write(common + 0x14, 1, 11);
		if (this.read(common + 0x14, 1) !== 11) throw new Error("the device refuses the features it offers");
		const queues = this.read(common + 0x12, 2);
		for (let i = 0; i < queues; i++) this.#setUp(i, options.msix ?? true);
		this.write(common + 0x14, 1, 15);
		return this;
	}

	get status(): number {
		return this.read(this.common + 0x14, 1);
	}

	/** Puts a request into a queue without ringing its bell; answers come to the returned rooms. */
	add(queue: number, pieces: readonly Piece[], indirect = false): { head: number; rooms: Uint8Array[] } {
		const ring = this.#rings[queue];
		const rooms: Uint8Array[] = [];
		const table: { address: number; length: number; flags: number }[] = [];
		for (const piece of pieces) {
			const length = "send" in piece ? piece.send.length : piece.room;
			const address = this.allocate(length);
			if ("send" in piece) this.memory.bytes.set(piece.send, address);
			else rooms.push(this.memory.bytes.subarray(address, address + length));
			table.push({ address, length, flags: "send" in piece ? 0 : WRITE });
		}
		const head = ring.next % ring.size;
		let at = ring.at + 16 * head;
		let first = head;
		if (indirect) {
			const indirectAt = this.allocate(16 * table.length);
			this.descriptor(at, indirectAt, 16 * table.length, INDIRECT, 0);
			at = indirectAt;
			first = 0;
			ring.next += 1;
		} else {
			ring.next += table.length;
		}
		const wrap = indirect ? table.length : ring.size;
		for (const [i, { address, length, flags }] of table.entries()) {
			const base = indirect ? at : ring.at;
			const index = (first + i) % wrap;
			const more = i + 1 < table.length ? NEXT : 0;
			this.descriptor(base + 16 * index, address, length, flags | more, (index + 1) % wrap);
		}
		this.offer(queue, head);
		return { head, rooms };
	}

	/** Writes one descriptor. */
	descriptor(at: number, address: number, length: number, flags: number, next: number): void {
		const view = this.#view;
		view.setUint32(at, address % 2 ** 32, true);
		view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
		view.setUint32(at + 8, length, true);
		view.setUint16(at + 12, flags, true);
		view.setUint16(at + 14, next, true);
	}

	/** Makes a head available. */
	offer(queue: number, head: number): void {
		const ring = this.#rings[queue];
		const view = this.#view;
		const index = view.getUint16(ring.available + 2, true);
		view.setUint16(ring.available + 4 + 2 * (index % ring.size), head, true);
		view.setUint16(ring.available + 2, index + 1, true);
	}

	kick(queue: number): void {
		this.write(this.notifyBase + queue * this.notifyMultiplier, 2, queue);
	}

	/** Used entries not seen yet, and asks to be told of the next. */
	used(queue: number): { head: number; length: number }[] {
		const ring = this.#rings[queue];
		const view = this.#view;
		const index = view.getUint16(ring.used + 2, true);
		const entries: { head: number; length: number }[] = [];
		while (ring.taken !== index) {
			const at = ring.used + 4 + 8 * (ring.taken % ring.size);
			entries.push({ head: view.getUint32(at, true), length: view.getUint32(at + 4, true) });
			ring.taken = (ring.taken + 1) & 0xffff;
		}
		view.setUint16(ring.available + 4 + 2 * ring.size, ring.taken, true);
		return entries;
	}

	/** Addresses of a queue's parts. */
	ring(queue: number): { at: number; available: number; used: number; size: number } {
		return this.#rings[queue];
	}

	allocate(length: number): number {
		const at = this.#heap;
		this.#heap += (length + 15) & ~15;
		if (this.#heap > RAM_SIZE) {
			this.#heap = 0x4_0000;
			return this.allocate(length);
		}
		return at;
	}

	get #view(): DataView {
		return new DataView(this.memory.bytes.buffer);
	}

	#setUp(queue: number, msix: boolean): void {
		const { common } = this;
		this.write(common + 0x16, 2, queue);
		const size = this.read(common + 0x18, 2);
		const at = 0x1_0000 + queue * 0x3000;
		const ring = { size, at, available: at + 0x1000, used: at + 0x2000, next: 0, taken: 0 };
		this.#rings[queue] = ring;
		this.memory.bytes.fill(0, at, at + 0x3000);
		this.write(common + 0x20, 4, ring.at);
		this.write(common + 0x24, 4, 0);
		this.write(common + 0x28, 4, ring.available);
		this.write(common + 0x2c, 4, 0);
		this.write(common + 0x30, 4, ring.used);
		this.write(common + 0x34, 4, 0);
		if (msix) this.write(common + 0x1a, 2, queue + 1);
		this.write(common + 0x1c, 2, 1);
	}
}
