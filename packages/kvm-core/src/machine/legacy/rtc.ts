import type { AccessSize, PortDevice } from "../bus.ts";

const SECONDS = 0;
const SECONDS_ALARM = 1;
const MINUTES = 2;
const MINUTES_ALARM = 3;
const HOURS = 4;
const HOURS_ALARM = 5;
const WEEKDAY = 6;
const DAY = 7;
const MONTH = 8;
const YEAR = 9;
const REG_A = 10;
const REG_B = 11;
const REG_C = 12;
const REG_D = 13;
const CENTURY = 0x32;

const B_SET = 0x80;
const B_PERIODIC = 0x40;
const B_ALARM = 0x20;
const B_UPDATE = 0x10;
const B_BINARY = 0x04;
const B_24_HOUR = 0x02;

const SECOND_NS = 1e9;
/** An update takes the last 244 us + 1984 us of a second; the flag shows 244 us before. */
const UPDATE_NS = 244_000;

/** Options of an {@link Rtc}. */
export interface RtcOptions {
	/** IRQ 8. */
	irq: (level: boolean) => void;
	/** The machine's clock, nanoseconds. */
	now: () => number;
	/** Seconds since 1970 (UTC) that the clock shows when `now()` is 0; may have a fraction. */
	epochSeconds: number;
	/** RAM in bytes, for the cells firmware reads it from. */
	memoryBytes: number;
	/** RAM above 4 GiB in bytes. @default 0 */
	highMemoryBytes?: number;
}

/** Plain state of an {@link Rtc}. */
export interface RtcState {
	index: number;
	cells: number[];
	/** Seconds since 1970 at time 0 of the machine's clock. */
	epochSeconds: number;
	/** Up to when periodic, alarm and update events are accounted for, nanoseconds. */
	seen: number;
	/** Fields of the clock while it is stopped by the SET bit. */
	frozen: number[] | null;
}

/**
 * An MC146818 real-time clock with 128 bytes of CMOS memory, at ports 70h and 71h. It shows UTC.
 *
 * @see Motorola MC146818 data sheet; the memory-size cells are those SeaBIOS reads
 */
export class Rtc implements PortDevice {
	readonly #irq: (level: boolean) => void;
	readonly #now: () => number;
	readonly #cells = new Uint8Array(128);
	#epoch: number;
	#index = 0;
	#seen: number;
	#frozen: number[] | null = null;
	#level = false;

	constructor(options: RtcOptions) {
		this.#irq = options.irq;
		this.#now = options.now;
		this.#epoch = options.epochSeconds;
		this.#seen = options.now();
		const cells = this.#cells;
		cells[REG_A] = 0x26;
		cells[REG_B] = B_24_HOUR;
		cells[REG_D] = 0x80;
		const put16 = (at: number, value: number) => {
			cells[at] = value;
			cells[at + 1] = value >> 8;
		};
		// No floppies, no disks of the old kind; a keyboard and no display.
		cells[0x14] = 0x0c;
		put16(0x15, 640);
		const extendedKib = Math.min(65_535, Math.max(0, options.memoryBytes / 1024 - 1024));
		put16(0x17, extendedKib);
		put16(0x30, extendedKib);
		put16(0x34, Math.min(65_535, Math.max(0, options.memoryBytes / 65_536 - 256)));
		const high = (options.highMemoryBytes ?? 0) / 65_536;
		cells[0x5b] = high;
		cells[0x5c] = high / 256;
		cells[0x5d] = high / 65_536;
	}

	/** A byte of CMOS memory beyond the clock, as set-up programs put there. */
	setCell(index: number, value: number): void {
		this.#cells[index] = value;
	}

	readPort(port: number, _size: AccessSize): number {
		if ((port & 1) === 0) return 0xff;
		const index = this.#index;
		if (index <= YEAR || index === CENTURY) {
			if (isAlarm(index)) return this.#cells[index];
			return this.#field(index);
		}
		switch (index) {
			case REG_A: {
				const phase = this.#phase();
				const updating = this.#running() && phase >= SECOND_NS - UPDATE_NS;
				return (this.#cells[REG_A] & 0x7f) | (updating ? 0x80 : 0);
			}
			case REG_C: {
				this.advance();
				const flags = this.#cells[REG_C];
				this.#cells[REG_C] = 0;
				this.#update();
				return flags;
			}
			default:
				return this.#cells[index];
		}
	}

	writePort(port: number, _size: AccessSize, value: number): void {
		if ((port & 1) === 0) {
			this.#index = value & 0x7f;
			return;
		}
		this.advance();
		const index = this.#index;
		if ((index <= YEAR || index === CENTURY) && !isAlarm(index)) {
			this.#setField(index, value);
			return;
		}
		switch (index) {
			case REG_A:
				this.#cells[REG_A] = value & 0x7f;
				break;
			case REG_B:
				this.#setB(value);
				break;
			case REG_C:
			case REG_D:
				break;
			default:
				this.#cells[index] = value;
		}
	}

	/** When `advance` has an interrupt to raise. */
	nextDeadline(): number {
		const b = this.#cells[REG_B];
		const c = this.#cells[REG_C];
		let first = Number.POSITIVE_INFINITY;
		const period = this.#period();
		if ((b & B_PERIODIC) !== 0 && (c & B_PERIODIC) === 0 && period > 0) {
			first = (Math.floor(this.#seen / period) + 1) * period;
		}
		if (this.#running() && (b & ~c & (B_UPDATE | B_ALARM)) !== 0) {
			first = Math.min(first, this.#seen + SECOND_NS - this.#phaseAt(this.#seen));
		}
		return first;
	}

	/** Accounts for the time up to now: sets flags and the interrupt. */
	advance(): void {
		const now = this.#now();
		if (now <= this.#seen) return;
		const cells = this.#cells;
		const period = this.#period();
		if (period > 0 && Math.floor(now / period) > Math.floor(this.#seen / period)) cells[REG_C] |= B_PERIODIC;
		if (this.#running()) {
			const before = this.#secondsAt(this.#seen);
			const after = this.#secondsAt(now);
			if (after > before) {
				cells[REG_C] |= B_UPDATE;
				// Asleep for longer than a day, every alarm has gone by.
				for (let second = Math.max(before + 1, after - 86_400); second <= after; second++) {
					if (this.#alarmAt(second)) {
						cells[REG_C] |= B_ALARM;
						break;
					}
					if ((cells[REG_B] & B_ALARM) === 0) break;
				}
			}
		}
		this.#seen = now;
		this.#update();
	}

	/** Interrupts off, as the chip's reset line does; time and memory stay. */
	reset(): void {
		this.#cells[REG_B] &= ~(B_PERIODIC | B_ALARM | B_UPDATE);
		this.#cells[REG_C] = 0;
		this.#index = 0;
		this.#update();
	}

	save(): RtcState {
		return {
			index: this.#index,
			cells: Array.from(this.#cells),
			epochSeconds: this.#epoch,
			seen: this.#seen,
			frozen: this.#frozen === null ? null : [...this.#frozen],
		};
	}

	restore(state: RtcState): void {
		this.#index = state.index;
		this.#cells.set(state.cells);
		this.#epoch = state.epochSeconds;
		this.#seen = state.seen;
		this.#frozen = state.frozen === null ? null : [...state.frozen];
		this.#update();
	}

	#running(): boolean {
		return this.#frozen === null;
	}

	#secondsAt(now: number): number {
		return Math.floor(this.#epoch + now / SECOND_NS);
	}

	/** Nanoseconds into the clock's current second. */
	#phaseAt(now: number): number {
		const seconds = this.#epoch + now / SECOND_NS;
		return (seconds - Math.floor(seconds)) * SECOND_NS;
	}

	#phase(): number {
		return this.#phaseAt(this.#now());
	}

	/** Nanoseconds of the periodic interrupt, 0 when off. */
	#period(): number {
		const rate = this.#cells[REG_A] & 15;
		if (rate === 0) return 0;
		// Rates 1 and 2 are those of 8 and 9.
		const shift = rate <= 2 ? rate + 6 : rate - 1;
		return (SECOND_NS / 32_768) * 2 ** shift;
	}

	#fields(second: number): number[] {
		const date = new Date(second * 1000);
		const fields = new Array<number>(CENTURY + 1).fill(0);
		fields[SECONDS] = date.getUTCSeconds();
		fields[MINUTES] = date.getUTCMinutes();
		fields[HOURS] = date.getUTCHours();
		fields[WEEKDAY] = date.getUTCDay() + 1;
		fields[DAY] = date.getUTCDate();
		fields[MONTH] = date.getUTCMonth() + 1;
		fields[YEAR] = date.getUTCFullYear() % 100;
		fields[CENTURY] = Math.floor(date.getUTCFullYear() / 100);
		return fields;
	}

	#field(index: number): number {
		const fields = this.#frozen ?? this.#fields(this.#secondsAt(this.#now()));
		return this.#encode(index, fields[index]);
	}

	#encode(index: number, value: number): number {
		let afternoon = 0;
		if (index === HOURS && (this.#cells[REG_B] & B_24_HOUR) === 0) {
			afternoon = value >= 12 ? 0x80 : 0;
			value = value % 12 || 12;
		}
		if ((this.#cells[REG_B] & B_BINARY) === 0) value = (Math.floor(value / 10) << 4) | (value % 10);
		return value | afternoon;
	}

	#decode(index: number, raw: number): number {
		const twelve = (index === HOURS || index === HOURS_ALARM) && (this.#cells[REG_B] & B_24_HOUR) === 0;
		const afternoon = twelve && (raw & 0x80) !== 0;
		if (twelve) raw &= 0x7f;
		let value = (this.#cells[REG_B] & B_BINARY) === 0 ? (raw >> 4) * 10 + (raw & 15) : raw;
		if (twelve) value = (value % 12) + (afternoon ? 12 : 0);
		return value;
	}

	#setField(index: number, raw: number): void {
		const fields = this.#frozen ?? this.#fields(this.#secondsAt(this.#now()));
		fields[index] = this.#decode(index, raw);
		if (this.#frozen === null) this.#setTime(fields);
	}

	#setTime(fields: number[]): void {
		const seconds =
			Date.UTC(
				fields[CENTURY] * 100 + fields[YEAR],
				fields[MONTH] - 1,
				fields[DAY],
				fields[HOURS],
				fields[MINUTES],
				fields[SECONDS],
			) / 1000;
		// A date that is none (the year 0 or 9999 in wild cells) leaves the clock as it was.
		if (Number.isFinite(seconds)) this.#epoch = seconds - this.#now() / SECOND_NS;
	}

	#setB(value: number): void {
		const before = this.#cells[REG_B];
		if ((value & B_SET) !== 0) {
			this.#frozen ??= this.#fields(this.#secondsAt(this.#now()));
			value &= ~B_UPDATE;
		}
		this.#cells[REG_B] = value;
		if ((value & B_SET) === 0 && this.#frozen !== null) {
			this.#setTime(this.#frozen);
			this.#frozen = null;
		}
		if (before !== value) this.#update();
	}

	#alarmAt(second: number): boolean {
		const fields = this.#fields(second);
		return (
			this.#alarmField(SECONDS_ALARM, fields) &&
			this.#alarmField(MINUTES_ALARM, fields) &&
			this.#alarmField(HOURS_ALARM, fields)
		);
	}

	/** Values from C0h up match everything. */
	#alarmField(index: number, fields: number[]): boolean {
		const raw = this.#cells[index];
		return raw >= 0xc0 || this.#decode(index, raw) === fields[index - 1];
	}

	#update(): void {
		const raised = (this.#cells[REG_B] & this.#cells[REG_C] & (B_PERIODIC | B_ALARM | B_UPDATE)) !== 0;
		if (raised) this.#cells[REG_C] |= 0x80;
		if (raised === this.#level) return;
		this.#level = raised;
		this.#irq(raised);
	}
}

function isAlarm(index: number): boolean {
	return index === SECONDS_ALARM || index === MINUTES_ALARM || index === HOURS_ALARM;
}
