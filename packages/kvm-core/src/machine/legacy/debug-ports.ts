import type { AccessSize, Bus, MmioDevice, PortDevice } from "../bus.ts";
import { LAYOUT } from "../memory-map.ts";

/** QEMU's isa-debug-exit: a write ends the run with status `(value << 1) | 1`. */
export class DebugExit implements PortDevice {
	readonly #onExit: (status: number) => void;

	constructor(onExit: (status: number) => void) {
		this.#onExit = onExit;
	}

	readPort(): number {
		return 0;
	}

	writePort(_port: number, _size: AccessSize, value: number): void {
		this.#onExit((value * 2 + 1) >>> 0);
	}
}

/** Port of the debug console (QEMU's isa-debugcon), where SeaBIOS logs. */
export const DEBUG_CONSOLE_PORT = 0x402;

/** QEMU's isa-debugcon: bytes written come out; reading answers e9h, by which guests know it. */
export class DebugConsole implements PortDevice {
	readonly #output: (bytes: Uint8Array) => void;
	readonly #buffer = new Uint8Array(1024);
	#length = 0;

	constructor(output: (bytes: Uint8Array) => void) {
		this.#output = output;
	}

	/** Hands collected output on. */
	flush(): void {
		const length = this.#length;
		this.#length = 0;
		if (length > 0) this.#output(this.#buffer.subarray(0, length));
	}

	readPort(): number {
		return 0xe9;
	}

	writePort(_port: number, _size: AccessSize, value: number): void {
		this.#buffer[this.#length++] = value;
		if (this.#length === this.#buffer.length || value === 10) this.flush();
	}
}

/** Options of a {@link TestDevice}. */
export interface TestDeviceOptions {
	/** Level of an interrupt line. */
	setIrqLine: (irq: number, level: boolean) => void;
}

/** Plain state of a {@link TestDevice}. */
export interface TestDeviceState {
	scratch: number;
	iomem: number[];
}

const IOMEM_SIZE = 0x1_0000;

/**
 * QEMU's pc-testdev, which kvm-unit-tests drive: e0h to e3h hold what was written, e4h to e7h flush a page (which takes
 * no more than leaving the guest), 2000h + n sets line n, and 64 KiB at ff000000h are memory behind MMIO.
 */
export class TestDevice implements PortDevice, MmioDevice {
	readonly #options: TestDeviceOptions;
	readonly #iomem = new Uint8Array(IOMEM_SIZE);
	#scratch = 0;

	constructor(options: TestDeviceOptions) {
		this.#options = options;
	}

	/** Puts the device on the bus. */
	attach(bus: Bus): void {
		bus.addPorts(0xe0, 8, this, false);
		bus.addPorts(0x2000, 24, this, false);
		bus.addMmio(LAYOUT.testDevice, IOMEM_SIZE, this);
	}

	readPort(port: number, size: AccessSize): number {
		if (port >= 0xe0 && port < 0xe4) return narrow(this.#scratch >>> (8 * (port - 0xe0)), size);
		return 0;
	}

	writePort(port: number, size: AccessSize, value: number): void {
		if (port >= 0x2000) {
			this.#options.setIrqLine(port - 0x2000, value !== 0);
		} else if (port < 0xe4) {
			const shift = 8 * (port - 0xe0);
			const mask = size === 4 ? 0xffff_ffff : ((1 << (8 * size)) - 1) << shift;
			this.#scratch = ((this.#scratch & ~mask) | ((value << shift) & mask)) >>> 0;
		}
	}

	readMmio(offset: number, size: AccessSize): number {
		let value = 0;
		for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.#iomem[(offset + i) & (IOMEM_SIZE - 1)];
		return value >>> 0;
	}

	writeMmio(offset: number, size: AccessSize, value: number): void {
		for (let i = 0; i < size; i++) this.#iomem[(offset + i) & (IOMEM_SIZE - 1)] = value >>> (8 * i);
	}

	save(): TestDeviceState {
		const last = this.#iomem.findLastIndex((byte) => byte !== 0);
		return { scratch: this.#scratch, iomem: Array.from(this.#iomem.subarray(0, last + 1)) };
	}

	restore(state: TestDeviceState): void {
		this.#scratch = state.scratch;
		this.#iomem.fill(0);
		this.#iomem.set(state.iomem);
	}
}

function narrow(value: number, size: AccessSize): number {
	return size === 4 ? value >>> 0 : size === 2 ? value & 0xffff : value & 0xff;
}
