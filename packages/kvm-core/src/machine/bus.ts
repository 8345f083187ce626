import type { VcpuExit } from "../kvm/types.ts";
import { MachineError } from "./errors.ts";

/** Bytes of one access. */
export type AccessSize = 1 | 2 | 4;

/** Something behind I/O ports. Values are unsigned. */
export interface PortDevice {
	readPort(port: number, size: AccessSize): number;
	writePort(port: number, size: AccessSize, value: number): void;
}

/** Something behind a range of memory addresses. Eight-byte accesses come as two of four. Values are unsigned. */
export interface MmioDevice {
	readMmio(offset: number, size: AccessSize): number;
	writeMmio(offset: number, size: AccessSize, value: number): void;
}

/** Ports and whether wider accesses are cut into bytes. */
interface PortEntry {
	device: PortDevice;
	bytes: boolean;
}

interface MmioRange {
	start: number;
	end: number;
	device: MmioDevice;
}

const PORTS = 0x1_0000;

/** The port and memory space outside RAM. Nothing answers with all ones, and takes writes silently, where there is no device. */
export class Bus {
	readonly #table = new Uint8Array(PORTS);
	readonly #entries: (PortEntry | undefined)[] = [undefined];
	#ranges: MmioRange[] = [];

	/**
	 * Puts a device behind `count` ports.
	 *
	 * @param bytes - cut wider accesses into bytes of consecutive ports, as an 8-bit ISA device sees them
	 * @throws MachineError ERR_MACHINE_ADDRESS_IN_USE
	 */
	addPorts(first: number, count: number, device: PortDevice, bytes = true): void {
		for (let port = first; port < first + count; port++) {
			if (this.#table[port] !== 0) {
				throw new MachineError("ERR_MACHINE_ADDRESS_IN_USE", `port ${port.toString(16)}h has a device already`, port);
			}
		}
		let index = this.#entries.findIndex((entry) => entry?.device === device && entry.bytes === bytes);
		if (index < 0) index = this.#entries.push({ device, bytes }) - 1;
		this.#table.fill(index, first, first + count);
	}

	/** Takes the device away from ports. */
	removePorts(first: number, count: number): void {
		this.#table.fill(0, first, first + count);
	}

	/** Puts a device behind a range of addresses. Of overlapping ranges the one added last answers, as PCI leaves it open. */
	addMmio(start: number, length: number, device: MmioDevice): void {
		this.#ranges.unshift({ start, end: start + length, device });
	}

	/** Takes a device's ranges away. */
	removeMmio(device: MmioDevice): void {
		this.#ranges = this.#ranges.filter((range) => range.device !== device);
	}

	readPort(port: number, size: AccessSize): number {
		const entry = this.#entries[this.#table[port]];
		if (entry === undefined) return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
		if (size === 1 || !entry.bytes) return entry.device.readPort(port, size);
		let value = 0;
		for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.readPort((port + i) & 0xffff, 1);
		return value >>> 0;
	}

	writePort(port: number, size: AccessSize, value: number): void {
		const entry = this.#entries[this.#table[port]];
		if (entry === undefined) return;
		if (size === 1 || !entry.bytes) {
			entry.device.writePort(port, size, value);
			return;
		}
		for (let i = 0; i < size; i++) this.writePort((port + i) & 0xffff, 1, (value >>> (8 * i)) & 0xff);
	}

	/** Serves an `io` exit: element after element, through its live buffer. */
	handleIo(exit: Extract<VcpuExit, { reason: "io" }>): void {
		const { port, size, count, data } = exit;
		if (exit.direction === "in") {
			for (let i = 0; i < count; i++) put(data, i * size, size, this.readPort(port, size));
		} else {
			for (let i = 0; i < count; i++) this.writePort(port, size, get(data, i * size, size));
		}
	}

	/** Serves an `mmio` exit through its live buffer. */
	handleMmio(exit: Extract<VcpuExit, { reason: "mmio" }>): void {
		const { physAddr, data } = exit;
		const range = this.#find(physAddr);
		let done = 0;
		while (done < data.length) {
			const left = data.length - done;
			const size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
			const offset = physAddr + done;
			const inside = range !== undefined && offset + size <= range.end;
			if (exit.isWrite) {
				if (inside) range.device.writeMmio(offset - range.start, size, get(data, done, size));
			} else {
				put(data, done, size, inside ? range.device.readMmio(offset - range.start, size) : 0xffff_ffff);
			}
			done += size;
		}
	}

	#find(address: number): MmioRange | undefined {
		for (const range of this.#ranges) {
			if (address >= range.start && address < range.end) return range;
		}
		return undefined;
	}
}

function get(data: Uint8Array, at: number, size: AccessSize): number {
	if (size === 1) return data[at];
	const low = data[at] | (data[at + 1] << 8);
	return size === 2 ? low : (low | (data[at + 2] << 16) | (data[at + 3] << 24)) >>> 0;
}

function put(data: Uint8Array, at: number, size: AccessSize, value: number): void {
	data[at] = value;
	if (size === 1) return;
	data[at + 1] = value >>> 8;
	if (size === 2) return;
	data[at + 2] = value >>> 16;
	data[at + 3] = value >>> 24;
}
