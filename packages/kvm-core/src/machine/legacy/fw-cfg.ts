import type { AccessSize, PortDevice } from "../bus.ts";
import { MachineError } from "../errors.ts";
import type { GuestRam } from "../guest-ram.ts";

/** First port; selector, data, and the DMA address in two big-endian halves at +4 and +8. */
export const FW_CFG_PORT = 0x510;

/** Well-known items. */
export const FW_CFG = {
	signature: 0x00,
	id: 0x01,
	ramSize: 0x03,
	cpuCount: 0x05,
	kernelAddress: 0x07,
	kernelSize: 0x08,
	initrdAddress: 0x0a,
	initrdSize: 0x0b,
	bootDevice: 0x0c,
	numa: 0x0d,
	bootMenu: 0x0e,
	maxCpus: 0x0f,
	kernelEntry: 0x10,
	kernelData: 0x11,
	initrdData: 0x12,
	commandLineAddress: 0x13,
	commandLineSize: 0x14,
	commandLineData: 0x15,
	setupAddress: 0x16,
	setupSize: 0x17,
	setupData: 0x18,
	directory: 0x19,
	files: 0x20,
} as const;

const MAX_FILES = 0x100;
const NAME_LENGTH = 56;

const DMA_ERROR = 1;
const DMA_READ = 2;
const DMA_SKIP = 4;
const DMA_SELECT = 8;
const DMA_WRITE = 16;

/** Plain state of a {@link FwCfg}; its items are the embedder's and not part of it. */
export interface FwCfgState {
	selected: number;
	position: number;
	dmaHigh: number;
}

/**
 * QEMU's firmware configuration device: what SeaBIOS, kvm-unit-tests and option ROMs read the machine's description from.
 * Items are read-only.
 *
 * @see QEMU docs/specs/fw_cfg
 */
export class FwCfg implements PortDevice {
	readonly #ram: GuestRam;
	readonly #items = new Map<number, Uint8Array>();
	readonly #files: { name: string; key: number }[] = [];
	#selected = 0;
	#position = 0;
	#dmaHigh = 0;

	constructor(ram: GuestRam) {
		this.#ram = ram;
		this.set(FW_CFG.signature, new TextEncoder().encode("QEMU"));
		this.setNumber(FW_CFG.id, 3, 4);
		this.#writeDirectory();
	}

	/** Sets an item's bytes. */
	set(key: number, bytes: Uint8Array): void {
		this.#items.set(key, bytes);
	}

	/** Sets an item to a little-endian number. */
	setNumber(key: number, value: number, size: 2 | 4 | 8): void {
		const bytes = new Uint8Array(size);
		for (let i = 0; i < size; i++) bytes[i] = Math.floor(value / 2 ** (8 * i)) & 0xff;
		this.set(key, bytes);
	}

	/**
	 * Adds a named file, or replaces its bytes.
	 *
	 * @throws MachineError ERR_MACHINE_OPTION for a name that is too long or one file too many
	 */
	setFile(name: string, bytes: Uint8Array): void {
		const known = this.#files.find((file) => file.name === name);
		if (known !== undefined) {
			this.set(known.key, bytes);
		} else {
			if (!/^[\x21-\x7e]{1,55}$/.test(name)) {
				throw new MachineError(
					"ERR_MACHINE_OPTION",
					`fw_cfg file name "${name}": 1 to 55 printable ASCII characters`,
					name,
				);
			}
			if (this.#files.length >= MAX_FILES) {
				throw new MachineError("ERR_MACHINE_OPTION", `fw_cfg holds ${MAX_FILES} files at most`, name);
			}
			const key = FW_CFG.files + this.#files.length;
			this.#files.push({ name, key });
			this.set(key, bytes);
		}
		this.#writeDirectory();
	}

	readPort(port: number, size: AccessSize): number {
		switch (port - FW_CFG_PORT) {
			case 0:
				return this.#selected & (size === 1 ? 0xff : 0xffff);
			case 1:
				return size === 1 ? this.#next() : 0;
			case 4:
				// The DMA interface's signature, "QEMU CFG" in big-endian halves.
				return size === 4 ? swap32(0x51454d55) : 0;
			case 8:
				return size === 4 ? swap32(0x20434647) : 0;
			default:
				return 0;
		}
	}

	writePort(port: number, size: AccessSize, value: number): void {
		switch (port - FW_CFG_PORT) {
			case 0:
				if (size !== 2) return;
				this.#selected = value;
				this.#position = 0;
				break;
			case 4:
				if (size === 4) this.#dmaHigh = swap32(value);
				break;
			case 8: {
				if (size !== 4) return;
				const high = this.#dmaHigh;
				this.#dmaHigh = 0;
				this.#dma(high * 2 ** 32 + swap32(value));
				break;
			}
			default:
		}
	}

	/** Nothing selected. */
	reset(): void {
		this.#selected = 0;
		this.#position = 0;
		this.#dmaHigh = 0;
	}

	save(): FwCfgState {
		return { selected: this.#selected, position: this.#position, dmaHigh: this.#dmaHigh };
	}

	restore(state: FwCfgState): void {
		this.#selected = state.selected;
		this.#position = state.position;
		this.#dmaHigh = state.dmaHigh;
	}

	#next(): number {
		const item = this.#items.get(this.#selected);
		return item !== undefined && this.#position < item.length ? item[this.#position++] : 0;
	}

	#dma(address: number): void {
		const ram = this.#ram;
		const control = swap32(ram.readU32(address));
		const length = swap32(ram.readU32(address + 4));
		const target = swap32(ram.readU32(address + 8)) * 2 ** 32 + swap32(ram.readU32(address + 12));
		let failed = (control & DMA_WRITE) !== 0;
		if ((control & DMA_SELECT) !== 0) {
			this.#selected = control >>> 16;
			this.#position = 0;
		}
		const item = this.#items.get(this.#selected);
		if ((control & DMA_READ) !== 0 && !failed) failed = !this.#copy(item, target, length);
		if ((control & (DMA_READ | DMA_SKIP)) !== 0 && item !== undefined) {
			this.#position = Math.min(item.length, this.#position + length);
		}
		ram.writeU32(address, failed ? swap32(DMA_ERROR) : 0);
	}

	/** The item's bytes from the position on, and zeros after its end. */
	#copy(item: Uint8Array | undefined, target: number, length: number): boolean {
		if (!this.#ram.contains(target, length)) return false;
		const bytes = item?.subarray(this.#position, this.#position + length) ?? new Uint8Array(0);
		this.#ram.write(target, bytes);
		const zeros = new Uint8Array(Math.min(65_536, length - bytes.length));
		for (let done = bytes.length; done < length; done += zeros.length) {
			this.#ram.write(target + done, zeros.subarray(0, Math.min(zeros.length, length - done)));
		}
		return true;
	}

	#writeDirectory(): void {
		const bytes = new Uint8Array(4 + this.#files.length * 64);
		const view = new DataView(bytes.buffer);
		view.setUint32(0, this.#files.length);
		// SeaBIOS does not mind the order; QEMU sorts by name.
		const sorted = [...this.#files].sort((a, b) => (a.name < b.name ? -1 : 1));
		for (const [i, { name, key }] of sorted.entries()) {
			const at = 4 + i * 64;
			view.setUint32(at, this.#items.get(key)?.length ?? 0);
			view.setUint16(at + 4, key);
			bytes.set(new TextEncoder().encode(name).subarray(0, NAME_LENGTH - 1), at + 8);
		}
		this.set(FW_CFG.directory, bytes);
	}
}

function swap32(value: number): number {
	return ((value >>> 24) | ((value >>> 8) & 0xff00) | ((value << 8) & 0xff_0000) | ((value << 24) & 0xff00_0000)) >>> 0;
}
