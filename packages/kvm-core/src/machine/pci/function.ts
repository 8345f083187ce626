import type { AccessSize, Bus, MmioDevice } from "../bus.ts";

/** Offsets in the configuration header. */
const COMMAND = 0x04;
const STATUS = 0x06;
const BAR0 = 0x10;
const CAPABILITIES = 0x34;
const INTERRUPT_LINE = 0x3c;

const COMMAND_MEMORY = 2;
const COMMAND_MASTER = 4;
const COMMAND_INTX_OFF = 1 << 10;
const STATUS_CAPABILITIES = 0x10;
const STATUS_INTERRUPT = 0x08;

/** A 32-bit memory window. */
export interface PciBar {
	/** Power of two, 4 KiB or more, so that no two functions share a page. */
	size: number;
	device: MmioDevice;
}

/** What a function's header says. */
export interface PciIdentity {
	vendor: number;
	device: number;
	revision: number;
	/** Class, subclass and programming interface as one 24-bit number. */
	classCode: number;
	subsystemVendor?: number;
	subsystem?: number;
	/** 1 = INTA; 0 = none. */
	interruptPin?: number;
}

/** Plain state of a {@link PciFunction}. */
export interface PciFunctionState {
	config: number[];
	/** Level of the function's INTx line. */
	asserted: boolean;
}

/** A region of configuration space that its owner serves. Offsets are from the start of configuration space. */
export interface ConfigWindow {
	start: number;
	length: number;
	read(offset: number, size: AccessSize): number;
	write(offset: number, size: AccessSize, value: number): void;
}

/** One PCI function: 256 bytes of configuration space, memory windows, INTx. */
export class PciFunction {
	readonly #config = new Uint8Array(256);
	readonly #writable = new Uint8Array(256);
	readonly #bars: (PciBar | undefined)[] = [];
	readonly #mapped: number[] = [];
	readonly #windows: ConfigWindow[] = [];
	readonly #bus: Bus;
	#lastCapability = CAPABILITIES;
	#nextFree = 0x40;
	#asserted = false;
	#lineLevel = false;
	/** Told the level of INTx; set by the host bridge. */
	onInterrupt: (level: boolean) => void = () => undefined;
	/** Called after configuration space was written. */
	onConfigWrite: (offset: number) => void = () => undefined;

	constructor(identity: PciIdentity, bus: Bus) {
		this.#bus = bus;
		this.set16(0x00, identity.vendor);
		this.set16(0x02, identity.device);
		this.#config[0x08] = identity.revision;
		this.#config[0x09] = identity.classCode;
		this.#config[0x0a] = identity.classCode >> 8;
		this.#config[0x0b] = identity.classCode >> 16;
		this.set16(0x2c, identity.subsystemVendor ?? 0);
		this.set16(0x2e, identity.subsystem ?? 0);
		this.#config[INTERRUPT_LINE + 1] = identity.interruptPin ?? 0;
		this.allowWrite(COMMAND, 0x0547, 2);
		this.allowWrite(INTERRUPT_LINE, 0xff, 1);
		this.allowWrite(0x0c, 0xff, 1);
	}

	/** Adds a memory window as BAR `index`. */
	addBar(index: number, bar: PciBar): void {
		this.#bars[index] = bar;
		this.#mapped[index] = -1;
		this.allowWrite(BAR0 + 4 * index, -bar.size >>> 0, 4);
	}

	/**
	 * Adds a capability.
	 *
	 * @param body - its bytes after id and next pointer
	 * @returns its offset
	 */
	addCapability(id: number, body: Uint8Array): number {
		const offset = this.#nextFree;
		this.#config[this.#lastCapability] = offset;
		this.#lastCapability = offset + 1;
		this.#config[offset] = id;
		this.#config.set(body, offset + 2);
		this.#nextFree = (offset + 2 + body.length + 3) & ~3;
		this.#config[STATUS] |= STATUS_CAPABILITIES;
		return offset;
	}

	/** Lets the guest write the bits of `mask`. */
	allowWrite(offset: number, mask: number, size: AccessSize): void {
		for (let i = 0; i < size; i++) this.#writable[offset + i] = mask >>> (8 * i);
	}

	/** Serves a region of configuration space through functions. */
	addWindow(window: ConfigWindow): void {
		this.#windows.push(window);
	}

	get16(offset: number): number {
		return this.#config[offset] | (this.#config[offset + 1] << 8);
	}

	get32(offset: number): number {
		return (this.get16(offset) | (this.get16(offset + 2) << 16)) >>> 0;
	}

	set16(offset: number, value: number): void {
		this.#config[offset] = value;
		this.#config[offset + 1] = value >> 8;
	}

	/** Sizes of the windows, by BAR; undefined where there is none. */
	get barSizes(): readonly (number | undefined)[] {
		return this.#bars.map((bar) => bar?.size);
	}

	/** Whether the driver lets the function read and write memory. */
	get isMaster(): boolean {
		return (this.#config[COMMAND] & COMMAND_MASTER) !== 0;
	}

	/** Puts a window at an address and switches decoding on, as firmware does. */
	place(index: number, address: number): void {
		this.#setBar(index, address);
		this.#config[COMMAND] |= COMMAND_MEMORY;
		this.#remap();
	}

	/** The interrupt line register, as firmware sets it for drivers that believe it. */
	setInterruptLine(irq: number): void {
		this.#config[INTERRUPT_LINE] = irq;
	}

	/** Level of the function's interrupt pin. */
	setInterrupt(level: boolean): void {
		this.#asserted = level;
		if (level) this.#config[STATUS] |= STATUS_INTERRUPT;
		else this.#config[STATUS] &= ~STATUS_INTERRUPT;
		this.#updateLine();
	}

	readConfig(offset: number, size: AccessSize): number {
		for (const window of this.#windows) {
			if (offset >= window.start && offset + size <= window.start + window.length) return window.read(offset, size);
		}
		if (size === 4) return this.get32(offset);
		return size === 2 ? this.get16(offset) : this.#config[offset];
	}

	writeConfig(offset: number, size: AccessSize, value: number): void {
		for (const window of this.#windows) {
			if (offset >= window.start && offset + size <= window.start + window.length) {
				window.write(offset, size, value);
				return;
			}
		}
		for (let i = 0; i < size; i++) {
			const mask = this.#writable[offset + i];
			this.#config[offset + i] = (this.#config[offset + i] & ~mask) | ((value >>> (8 * i)) & mask);
		}
		if (offset < BAR0 + 24 && offset + size > COMMAND) {
			this.#remap();
			this.#updateLine();
		}
		this.onConfigWrite(offset);
	}

	/** As after power-on: decoding off, windows nowhere. */
	reset(): void {
		this.set16(COMMAND, 0);
		for (const [index, bar] of this.#bars.entries()) if (bar !== undefined) this.#setBar(index, 0);
		this.#config[INTERRUPT_LINE] = 0;
		this.#remap();
		this.setInterrupt(false);
	}

	save(): PciFunctionState {
		return { config: Array.from(this.#config), asserted: this.#asserted };
	}

	restore(state: PciFunctionState): void {
		this.#config.set(state.config);
		this.#remap();
		this.setInterrupt(state.asserted);
		this.onConfigWrite(0);
	}

	#setBar(index: number, address: number): void {
		this.set16(BAR0 + 4 * index, address);
		this.set16(BAR0 + 4 * index + 2, address >>> 16);
	}

	#remap(): void {
		const enabled = (this.#config[COMMAND] & COMMAND_MEMORY) !== 0;
		for (const [index, bar] of this.#bars.entries()) {
			if (bar === undefined) continue;
			const address = (this.get32(BAR0 + 4 * index) & ~0xf) >>> 0;
			const wanted = enabled && address !== 0 ? address : -1;
			if (wanted === this.#mapped[index]) continue;
			if (this.#mapped[index] >= 0) this.#bus.removeMmio(bar.device);
			if (wanted >= 0) this.#bus.addMmio(wanted, bar.size, bar.device);
			this.#mapped[index] = wanted;
		}
	}

	#updateLine(): void {
		const level = this.#asserted && (this.get16(COMMAND) & COMMAND_INTX_OFF) === 0;
		if (level === this.#lineLevel) return;
		this.#lineLevel = level;
		this.onInterrupt(level);
	}
}
