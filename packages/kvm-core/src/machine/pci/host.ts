import type { AccessSize, Bus, PortDevice } from "../bus.ts";
import { MachineError } from "../errors.ts";
import { LAYOUT } from "../memory-map.ts";
import { PciFunction } from "./function.ts";

const ADDRESS = 0xcf8;
const RESET = 0xcf9;
const DATA = 0xcfc;
const SLOTS = 32;
/** Slots 0 and 1 are the host bridge and the ISA bridge. */
const FIRST_FREE_SLOT = 2;

/** Interrupt lines that INTA of slots 0, 1, 2... go to in turn; level-triggered, shared. */
const INTX_IRQS = [10, 11] as const;

/** The line INTA of a slot is wired to; the DSDT's _PRT says the same. */
export function intxIrq(slot: number): number {
	return INTX_IRQS[slot % INTX_IRQS.length];
}

/** Plain state of a {@link PciHost} without that of its functions. */
export interface PciHostState {
	address: number;
	hostBridge: ReturnType<PciFunction["save"]>;
	isaBridge: ReturnType<PciFunction["save"]>;
}

/** PCI bus 0 with configuration mechanism 1, an i440FX host bridge and a PIIX3 ISA bridge. */
export class PciHost implements PortDevice {
	readonly #setIrq: (irq: number, level: boolean) => void;
	readonly #resetControl: PortDevice;
	readonly #functions: (PciFunction | undefined)[] = new Array<PciFunction | undefined>(SLOTS).fill(undefined);
	readonly #hostBridge: PciFunction;
	readonly #isaBridge: PciFunction;
	/** Slots that hold each line of INTX_IRQS high. */
	readonly #holders = new Uint32Array(16);
	#address = 0;

	/**
	 * @param resetControl - serves byte accesses to port cf9h, which lies in the address register's ports
	 */
	constructor(bus: Bus, setIrq: (irq: number, level: boolean) => void, resetControl: PortDevice) {
		this.#setIrq = setIrq;
		this.#resetControl = resetControl;
		this.#hostBridge = new PciFunction({ vendor: 0x8086, device: 0x1237, revision: 2, classCode: 0x06_0000 }, bus);
		// The PAM registers: the memory behind them is RAM whatever they say.
		this.#hostBridge.allowWrite(0x58, 0xffff_ffff, 4);
		this.#hostBridge.allowWrite(0x5c, 0xffff_ffff, 4);
		this.#isaBridge = new PciFunction({ vendor: 0x8086, device: 0x7000, revision: 0, classCode: 0x06_0100 }, bus);
		this.#isaBridge.allowWrite(0x60, 0xffff_ffff, 4);
		this.#insert(0, this.#hostBridge);
		this.#insert(1, this.#isaBridge);
		bus.addPorts(ADDRESS, 8, this, false);
	}

	/**
	 * Plugs a function into the next free slot.
	 *
	 * @returns the slot
	 * @throws MachineError ERR_MACHINE_TOO_MANY_DEVICES
	 */
	add(pciFunction: PciFunction): number {
		const slot = this.#functions.indexOf(undefined, FIRST_FREE_SLOT);
		if (slot < 0) {
			throw new MachineError("ERR_MACHINE_TOO_MANY_DEVICES", `the PCI bus has ${SLOTS} slots, all taken`, SLOTS);
		}
		this.#insert(slot, pciFunction);
		return slot;
	}

	/** Gives every window an address and every function its line, as firmware would. */
	placeAll(): void {
		let next: number = LAYOUT.pciWindow;
		for (const [slot, pciFunction] of this.#functions.entries()) {
			if (pciFunction === undefined) continue;
			for (const [index, size] of pciFunction.barSizes.entries()) {
				if (size === undefined) continue;
				next = Math.ceil(next / size) * size;
				pciFunction.place(index, next);
				next += size;
			}
			if (pciFunction.readConfig(0x3d, 1) !== 0) pciFunction.setInterruptLine(intxIrq(slot));
		}
	}

	/** As after power-on, windows nowhere. */
	reset(): void {
		this.#address = 0;
		for (const pciFunction of this.#functions) pciFunction?.reset();
	}

	readPort(port: number, size: AccessSize): number {
		if (port === ADDRESS && size === 4) return this.#address;
		if (port === RESET && size === 1) return this.#resetControl.readPort(port, size);
		if (port < DATA) return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
		const target = this.#target();
		const offset = (this.#address & 0xfc) + (port & 3);
		if (target === undefined || (port & 3) + size > 4) return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
		return target.readConfig(offset, size);
	}

	writePort(port: number, size: AccessSize, value: number): void {
		if (port === ADDRESS && size === 4) {
			this.#address = (value & 0x80ff_fffc) >>> 0;
		} else if (port === RESET && size === 1) {
			this.#resetControl.writePort(port, size, value);
		} else if (port >= DATA && (port & 3) + size <= 4) {
			this.#target()?.writeConfig((this.#address & 0xfc) + (port & 3), size, value);
		}
	}

	save(): PciHostState {
		return { address: this.#address, hostBridge: this.#hostBridge.save(), isaBridge: this.#isaBridge.save() };
	}

	restore(state: PciHostState): void {
		this.#address = state.address;
		this.#hostBridge.restore(state.hostBridge);
		this.#isaBridge.restore(state.isaBridge);
	}

	#target(): PciFunction | undefined {
		const address = this.#address;
		// Enabled, bus 0, function 0.
		if ((address & 0x80ff_0700) >>> 0 !== 0x8000_0000) return undefined;
		return this.#functions[(address >>> 11) & 31];
	}

	#insert(slot: number, pciFunction: PciFunction): void {
		this.#functions[slot] = pciFunction;
		const irq = intxIrq(slot);
		pciFunction.onInterrupt = (level) => {
			const before = this.#holders[irq];
			this.#holders[irq] = level ? before | (1 << slot) : before & ~(1 << slot);
			if ((before !== 0) !== (this.#holders[irq] !== 0)) this.#setIrq(irq, this.#holders[irq] !== 0);
		};
	}
}
