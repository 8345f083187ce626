import type { AccessSize, PortDevice } from "../bus.ts";

/** Ports of the power-management block, as the FADT gives them. */
export const PM = {
	/** PM1a status and enable, two bytes each. */
	event: 0x600,
	/** PM1a control, two bytes. */
	control: 0x604,
	/** The timer, four bytes. */
	timer: 0x608,
	/** Sleep type of S5, as the DSDT's \_S5 names it. */
	s5: 5,
	/** Reset control, and what to write to it. */
	resetPort: 0xcf9,
	resetValue: 0x06,
	sciIrq: 9,
} as const;

/** Frequency of the ACPI timer in Hz. */
export const PM_TIMER_HZ = 3_579_545;

const NS_PER_TICK = 1e9 / PM_TIMER_HZ;
const TIMER_BIT = 1;
const POWER_BUTTON = 1 << 8;
const STATUS_BITS = TIMER_BIT | POWER_BUTTON | (1 << 5) | (1 << 9) | (1 << 10) | (1 << 15);
const SLEEP_ENABLE = 1 << 13;
const SCI_ENABLE = 1;
/** The status bit is set each time the timer's highest bit (31) changes. */
const HALF_PERIOD = 2 ** 31;

/** Options of a {@link PowerManagement}. */
export interface PowerOptions {
	/** SCI. */
	irq: (level: boolean) => void;
	/** The machine's clock, nanoseconds. */
	now: () => number;
	/** The guest entered S5. */
	onPowerOff: () => void;
	/** The guest wrote the reset register. */
	onReset: () => void;
}

/** Plain state of a {@link PowerManagement}. */
export interface PowerState {
	status: number;
	enable: number;
	control: number;
	resetControl: number;
	/** Half periods of the timer accounted for. */
	halves: number;
}

/**
 * ACPI fixed hardware: PM1a event and control blocks, the 32-bit PM timer, and the reset register at cf9h. It is always in
 * ACPI mode.
 *
 * @see ACPI 6.5, 4.8
 */
export class PowerManagement implements PortDevice {
	readonly #options: PowerOptions;
	#status = 0;
	#enable = 0;
	#control = SCI_ENABLE;
	#resetControl = 0;
	#halves: number;
	#level = false;

	constructor(options: PowerOptions) {
		this.#options = options;
		this.#halves = this.#countHalves();
	}

	/** The power button: an operating system that listens shuts down. */
	pressPowerButton(): void {
		this.#status |= POWER_BUTTON;
		this.#update();
	}

	readPort(port: number, size: AccessSize): number {
		if (port === PM.timer && size === 4) return this.#timer();
		if (port === PM.resetPort) return this.#resetControl;
		const at = port & ~3;
		let word: number;
		if (at === PM.timer) word = this.#timer();
		else if (at === PM.event) word = this.#readStatus() | (this.#enable << 16);
		else word = this.#control;
		const value = word >>> (8 * (port & 3));
		return size === 4 ? value >>> 0 : size === 2 ? value & 0xffff : value & 0xff;
	}

	writePort(port: number, size: AccessSize, value: number): void {
		if (port === PM.resetPort) {
			this.#resetControl = value & 0x0e;
			if ((value & 4) !== 0) this.#options.onReset();
			return;
		}
		const shift = 8 * (port & 3);
		const mask = size === 4 ? 0xffff_ffff : ((1 << (8 * size)) - 1) << shift;
		const bits = (value << shift) & mask;
		switch (port & ~3) {
			case PM.event:
				this.#readStatus();
				this.#status &= ~(bits & STATUS_BITS);
				if ((mask & 0xffff_0000) !== 0) {
					const keep = ~(mask >>> 16) & 0xffff;
					this.#enable = (this.#enable & keep) | ((bits >>> 16) & 0xffff & STATUS_BITS);
				}
				this.#update();
				break;
			case PM.control: {
				const control = (this.#control & ~mask) | bits;
				this.#control = (control & 0x1c07) | SCI_ENABLE;
				if ((control & SLEEP_ENABLE) !== 0 && ((control >> 10) & 7) === PM.s5) this.#options.onPowerOff();
				break;
			}
			default:
		}
	}

	/** When `advance` has the timer's interrupt to raise. */
	nextDeadline(): number {
		if ((this.#enable & TIMER_BIT) === 0 || (this.#status & TIMER_BIT) !== 0) return Number.POSITIVE_INFINITY;
		return Math.ceil((this.#halves + 1) * HALF_PERIOD * NS_PER_TICK) + 1;
	}

	/** Accounts for the timer up to now. */
	advance(): void {
		this.#readStatus();
		this.#update();
	}

	/** As after power-on. */
	reset(): void {
		this.#status = 0;
		this.#enable = 0;
		this.#control = SCI_ENABLE;
		this.#resetControl = 0;
		this.#halves = this.#countHalves();
		this.#update();
	}

	save(): PowerState {
		return {
			status: this.#status,
			enable: this.#enable,
			control: this.#control,
			resetControl: this.#resetControl,
			halves: this.#halves,
		};
	}

	restore(state: PowerState): void {
		this.#status = state.status;
		this.#enable = state.enable;
		this.#control = state.control;
		this.#resetControl = state.resetControl;
		this.#halves = state.halves;
		this.#update();
	}

	#ticks(): number {
		return Math.floor(this.#options.now() / NS_PER_TICK);
	}

	#timer(): number {
		return this.#ticks() % 2 ** 32;
	}

	#countHalves(): number {
		return Math.floor(this.#ticks() / HALF_PERIOD);
	}

	#readStatus(): number {
		const halves = this.#countHalves();
		if (halves !== this.#halves) {
			this.#halves = halves;
			this.#status |= TIMER_BIT;
		}
		return this.#status;
	}

	#update(): void {
		const level = (this.#status & this.#enable) !== 0;
		if (level === this.#level) return;
		this.#level = level;
		this.#options.irq(level);
	}
}
