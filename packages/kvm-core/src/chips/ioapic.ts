import { type ApicBus, DELIVERY } from "./apic-bus.ts";

/** Input pins of the 82093AA. */
export const IOAPIC_PINS = 24;
/** Physical address of the I/O APIC's registers. */
export const IOAPIC_ADDRESS = 0xfec0_0000;

const MASKED = 1 << 16;
const LEVEL = 1 << 15;
const REMOTE_IRR = 1 << 14;
const LOGICAL = 1 << 11;
/** Everything but delivery status and remote IRR. */
const WRITABLE_LOW = 0x1_afff;
const VERSION = 0x11;

/** Plain state of an {@link IoApic}. */
export interface IoApicState {
	id: number;
	select: number;
	/** Low halves of the redirection entries. */
	low: number[];
	/** High halves of the redirection entries. */
	high: number[];
	/** Bit per pin: its line's level. */
	lines: number;
	/** Bit per pin: an interrupt waits to be sent. */
	pending: number;
}

/**
 * The I/O APIC of an 82093AA, 24 pins.
 *
 * @see Intel 82093AA data sheet; arch/x86/kvm/ioapic.c for what KVM makes of it
 */
export class IoApic {
	readonly #bus: ApicBus;
	readonly #low = new Uint32Array(IOAPIC_PINS);
	readonly #high = new Uint32Array(IOAPIC_PINS);
	#id = 0;
	#select = 0;
	#lines = 0;
	#pending = 0;

	constructor(bus: ApicBus) {
		this.#bus = bus;
		this.reset();
	}

	/** All pins masked; the levels of the lines stay, being outside the chip. */
	reset(): void {
		this.#id = 0;
		this.#select = 0;
		this.#pending = 0;
		this.#low.fill(MASKED);
		this.#high.fill(0);
	}

	/** Level of an input line. Entries decide what an edge or a level does; polarity is taken as already applied. */
	setLine(pin: number, level: boolean): void {
		const bit = 1 << pin;
		const before = (this.#lines & bit) !== 0;
		if (!level) {
			this.#lines &= ~bit;
			if ((this.#low[pin] & LEVEL) !== 0) this.#pending &= ~bit;
			return;
		}
		this.#lines |= bit;
		const levelTriggered = (this.#low[pin] & LEVEL) !== 0;
		if (!levelTriggered && before) return;
		// An edge while the pin is masked is lost, as on the chip.
		if (!levelTriggered && (this.#low[pin] & MASKED) !== 0) return;
		this.#pending |= bit;
		this.#service(pin);
	}

	/** The EOI broadcast of a local APIC for a level-triggered vector. */
	eoi(vector: number): void {
		for (let pin = 0; pin < IOAPIC_PINS; pin++) {
			const low = this.#low[pin];
			if ((low & 0xff) !== vector || (low & (LEVEL | REMOTE_IRR)) !== (LEVEL | REMOTE_IRR)) continue;
			this.#low[pin] = low & ~REMOTE_IRR;
			if ((this.#lines & (1 << pin)) !== 0) {
				this.#pending |= 1 << pin;
				this.#service(pin);
			}
		}
	}

	/** Reads 32 bits at an offset from the base. */
	read(offset: number): number {
		switch (offset & 0xff) {
			case 0x00:
				return this.#select;
			case 0x10:
				return this.#readSelected();
			default:
				return 0;
		}
	}

	/** Writes 32 bits at an offset from the base. */
	write(offset: number, value: number): void {
		switch (offset & 0xff) {
			case 0x00:
				this.#select = value & 0xff;
				break;
			case 0x10:
				this.#writeSelected(value >>> 0);
				break;
			default:
		}
	}

	save(): IoApicState {
		return {
			id: this.#id,
			select: this.#select,
			low: Array.from(this.#low),
			high: Array.from(this.#high),
			lines: this.#lines,
			pending: this.#pending,
		};
	}

	restore(state: IoApicState): void {
		this.#id = state.id;
		this.#select = state.select;
		this.#low.set(state.low);
		this.#high.set(state.high);
		this.#lines = state.lines;
		this.#pending = state.pending;
	}

	#readSelected(): number {
		const select = this.#select;
		switch (select) {
			case 0:
			case 2:
				return this.#id << 24;
			case 1:
				return ((IOAPIC_PINS - 1) << 16) | VERSION;
			default: {
				const pin = (select - 0x10) >> 1;
				if (select < 0x10 || pin >= IOAPIC_PINS) return 0;
				return (select & 1) === 0 ? this.#low[pin] : this.#high[pin];
			}
		}
	}

	#writeSelected(value: number): void {
		const select = this.#select;
		if (select === 0) {
			this.#id = (value >>> 24) & 0xf;
			return;
		}
		const pin = (select - 0x10) >> 1;
		if (select < 0x10 || pin >= IOAPIC_PINS) return;
		if ((select & 1) !== 0) {
			this.#high[pin] = value & 0xff00_0000;
			return;
		}
		const before = this.#low[pin];
		let low = (value & WRITABLE_LOW) | (before & REMOTE_IRR);
		// Going to edge mode forgets the interrupt in service: Linux clears a stuck remote IRR that way.
		if ((low & LEVEL) === 0) low &= ~REMOTE_IRR;
		this.#low[pin] = low;
		const bit = 1 << pin;
		if ((low & LEVEL) !== 0) {
			if ((this.#lines & bit) !== 0) this.#pending |= bit;
		} else if ((before & LEVEL) !== 0) {
			this.#pending &= ~bit;
		}
		this.#service(pin);
	}

	#service(pin: number): void {
		const bit = 1 << pin;
		const low = this.#low[pin];
		if ((this.#pending & bit) === 0 || (low & MASKED) !== 0) return;
		const level = (low & LEVEL) !== 0;
		if (level && (low & REMOTE_IRR) !== 0) return;
		const mode = (low >>> 8) & 7;
		// Set before sending: an EOI can come back from within.
		if (level && (mode === DELIVERY.fixed || mode === DELIVERY.lowestPriority)) this.#low[pin] = low | REMOTE_IRR;
		this.#pending &= ~bit;
		this.#bus.deliver(undefined, this.#high[pin] >>> 24, (low & LOGICAL) !== 0, mode, low & 0xff, level, true);
	}
}
