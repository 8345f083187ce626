/** Frequency of the 8254's input clock in Hz. */
export const PIT_HZ = 1_193_182;

const TICKS_PER_NS = PIT_HZ / 1e9;
const NEVER = Number.POSITIVE_INFINITY;
const UNTRIGGERED = -1;

/** Plain state of one 8254 counter. */
export interface PitChannelState {
	/** 0 to 5. */
	mode: number;
	bcd: boolean;
	/** 1 = low byte, 2 = high byte, 3 = low then high. */
	access: number;
	/** 1 to 65536; 0 while none was loaded since the mode was set. */
	count: number;
	/** When counting (re)started, in nanoseconds; -1 while a gate-triggered mode waits for its gate. */
	start: number;
	gate: boolean;
	/** Low byte of a two-byte write under way, or -1. */
	writeLow: number;
	/** The next read of a two-byte count gives the high byte. */
	readHigh: boolean;
	/** Latched count, or -1. */
	latched: number;
	/** Latched status, or -1. */
	status: number;
	/** Bytes of the latched count still to be read. */
	latchedBytes: number;
	/** Ticks counted before the gate closed (modes that pause), valid while it is closed. */
	paused: number;
}

/** Plain state of a {@link Pit}. */
export interface PitState {
	channels: PitChannelState[];
	/** Speaker data bit of port 61h. */
	speaker: boolean;
	/** Level of counter 0's output as last told. */
	output: boolean;
}

/**
 * The 8254 programmable interval timer (ports 40h to 43h) and port 61h, through which a PC gates and watches counter 2.
 * Time comes in as `now` in nanoseconds.
 *
 * @see Intel 8254 data sheet
 */
export class Pit {
	readonly #channels: PitChannelState[] = [channel(true), channel(true), channel(false)];
	readonly #onOutput: (level: boolean) => void;
	#speaker = false;
	#output = false;
	/** When counter 0's output changes next. */
	#deadline = NEVER;

	/**
	 * @param onOutput - told the level of counter 0's output (IRQ 0) at each change
	 */
	constructor(onOutput: (level: boolean) => void) {
		this.#onOutput = onOutput;
	}

	/** Byte read from 40h to 43h or 61h. */
	read(port: number, now: number): number {
		if (port === 0x61) {
			const two = this.#channels[2];
			// Bit 4 is DRAM refresh: it toggles about every 15 us, and old delay loops count it.
			const refresh = Math.floor(now / 15_085) & 1;
			return (two.gate ? 1 : 0) | (this.#speaker ? 2 : 0) | (refresh << 4) | (outputLevel(two, now) ? 0x20 : 0);
		}
		return port < 0x43 ? readCounter(this.#channels[port & 3], now) : 0xff;
	}

	/** Byte written to 40h to 43h or 61h. */
	write(port: number, value: number, now: number): void {
		value &= 0xff;
		if (port === 0x61) {
			this.#speaker = (value & 2) !== 0;
			setGate(this.#channels[2], (value & 1) !== 0, now);
			return;
		}
		this.advanceTo(now);
		if (port === 0x43) this.#writeControl(value, now);
		else writeCounter(this.#channels[port & 3], value, now);
		this.#refresh(now);
	}

	/** When `advanceTo` has something to do; Infinity when counter 0 rests. */
	nextDeadline(): number {
		return this.#deadline;
	}

	/** Brings counter 0's output up to `now`. Periods nobody looked at make one edge. */
	advanceTo(now: number): void {
		if (now < this.#deadline) return;
		const zero = this.#channels[0];
		// Pulses of one tick and square waves nobody sampled must still show their rising edge.
		if (zero.mode >= 2) {
			this.#drive(false);
			this.#drive(true);
		}
		this.#refresh(now);
	}

	/** As after power-on. */
	reset(): void {
		this.#channels[0] = channel(true);
		this.#channels[1] = channel(true);
		this.#channels[2] = channel(false);
		this.#speaker = false;
		this.#deadline = NEVER;
		this.#drive(false);
	}

	save(): PitState {
		return {
			channels: this.#channels.map((one) => ({ ...one })),
			speaker: this.#speaker,
			output: this.#output,
		};
	}

	restore(state: PitState, now: number): void {
		for (let i = 0; i < 3; i++) this.#channels[i] = { ...state.channels[i] };
		this.#speaker = state.speaker;
		this.#output = state.output;
		this.#deadline = nextEdge(this.#channels[0], now);
	}

	#writeControl(value: number, now: number): void {
		const select = value >> 6;
		if (select === 3) {
			for (let i = 0; i < 3; i++) {
				if ((value & (2 << i)) === 0) continue;
				const one = this.#channels[i];
				if ((value & 0x20) === 0) latch(one, now);
				if ((value & 0x10) === 0 && one.status < 0) {
					one.status =
						(outputLevel(one, now) ? 0x80 : 0) |
						(one.count === 0 ? 0x40 : 0) |
						(one.access << 4) |
						(one.mode << 1) |
						(one.bcd ? 1 : 0);
				}
			}
			return;
		}
		const one = this.#channels[select];
		const access = (value >> 4) & 3;
		if (access === 0) {
			latch(one, now);
			return;
		}
		one.access = access;
		one.mode = (value >> 1) & 7;
		// Modes 6 and 7 are 2 and 3.
		if (one.mode > 5) one.mode -= 4;
		one.bcd = (value & 1) !== 0;
		one.count = 0;
		one.start = now;
		one.paused = 0;
		one.writeLow = -1;
		one.readHigh = false;
		one.latched = -1;
		one.status = -1;
	}

	#refresh(now: number): void {
		const zero = this.#channels[0];
		this.#drive(outputLevel(zero, now));
		this.#deadline = nextEdge(zero, now);
	}

	#drive(level: boolean): void {
		if (level === this.#output) return;
		this.#output = level;
		this.#onOutput(level);
	}
}

function channel(gate: boolean): PitChannelState {
	return {
		mode: 3,
		bcd: false,
		access: 3,
		count: 0,
		start: 0,
		gate,
		writeLow: -1,
		readHigh: false,
		latched: -1,
		status: -1,
		latchedBytes: 0,
		paused: 0,
	};
}

/** Modes 1 and 5 are started by the gate's rising edge; in the others it lets the counter run. */
function gateTriggered(one: PitChannelState): boolean {
	return one.mode === 1 || one.mode === 5;
}

function periodic(one: PitChannelState): boolean {
	return one.mode === 2 || one.mode === 3;
}

/** Whole input clocks since counting started. */
function ticks(one: PitChannelState, now: number): number {
	if (!one.gate && !gateTriggered(one)) return one.paused;
	return Math.max(0, Math.floor((now - one.start) * TICKS_PER_NS));
}

function outputLevel(one: PitChannelState, now: number): boolean {
	const started = one.count !== 0 && (!gateTriggered(one) || one.start !== UNTRIGGERED);
	switch (one.mode) {
		case 0:
			return started && ticks(one, now) >= one.count;
		case 1:
			return !started || ticks(one, now) >= one.count;
		case 2:
			return !started || !one.gate || ticks(one, now) % one.count !== one.count - 1;
		case 3:
			return !started || !one.gate || ticks(one, now) % one.count < (one.count + 1) >> 1;
		default:
			// The strobe of modes 4 and 5 lasts one tick; only counter 0's edge matters, and advanceTo makes that.
			return true;
	}
}

/** When the output's next rising edge comes. */
function nextEdge(one: PitChannelState, now: number): number {
	if (one.count === 0 || one.start === UNTRIGGERED) return NEVER;
	if (!one.gate && !gateTriggered(one)) return NEVER;
	const passed = ticks(one, now);
	let at: number;
	switch (one.mode) {
		case 2:
		case 3:
			at = (Math.floor(passed / one.count) + 1) * one.count;
			break;
		default:
			if (passed >= one.count) return NEVER;
			at = one.count;
	}
	// One nanosecond more, so that rounding cannot put the edge before its tick and find it again.
	return one.start + Math.ceil(at / TICKS_PER_NS) + 1;
}

/** The counting element's value as the guest reads it. */
function currentCount(one: PitChannelState, now: number): number {
	if (one.count === 0) return 0;
	if (one.start === UNTRIGGERED) return encode(one, one.count);
	const passed = ticks(one, now);
	const modulus = one.bcd ? 10_000 : 65_536;
	switch (one.mode) {
		case 2:
			return encode(one, one.count - (passed % one.count));
		case 3:
			return encode(one, one.count - ((2 * passed) % one.count));
		default:
			return encode(one, (((one.count - passed) % modulus) + modulus) % modulus);
	}
}

function encode(one: PitChannelState, value: number): number {
	if (!one.bcd) return value & 0xffff;
	value %= 10_000;
	return (
		(Math.floor(value / 1000) << 12) |
		((Math.floor(value / 100) % 10) << 8) |
		((Math.floor(value / 10) % 10) << 4) |
		(value % 10)
	);
}

function decode(one: PitChannelState, raw: number): number {
	if (!one.bcd) return raw === 0 ? 65_536 : raw;
	const value = (raw >> 12) * 1000 + ((raw >> 8) & 15) * 100 + ((raw >> 4) & 15) * 10 + (raw & 15);
	return value === 0 ? 10_000 : value;
}

function latch(one: PitChannelState, now: number): void {
	if (one.latched >= 0) return;
	one.latched = currentCount(one, now);
	one.latchedBytes = one.access === 3 ? 2 : 1;
}

function readCounter(one: PitChannelState, now: number): number {
	if (one.status >= 0) {
		const { status } = one;
		one.status = -1;
		return status;
	}
	if (one.latched >= 0) {
		const low = one.latchedBytes === 2 || one.access === 1;
		const value = low ? one.latched & 0xff : one.latched >> 8;
		if (--one.latchedBytes === 0) one.latched = -1;
		return value;
	}
	const value = currentCount(one, now);
	if (one.access === 1) return value & 0xff;
	if (one.access === 2) return value >> 8;
	one.readHigh = !one.readHigh;
	return one.readHigh ? value & 0xff : value >> 8;
}

function writeCounter(one: PitChannelState, value: number, now: number): void {
	switch (one.access) {
		case 1:
			load(one, value, now);
			break;
		case 2:
			load(one, value << 8, now);
			break;
		default:
			if (one.writeLow < 0) {
				one.writeLow = value;
				// In mode 0 the first byte stops the count.
				if (one.mode === 0) one.count = 0;
			} else {
				load(one, (value << 8) | one.writeLow, now);
				one.writeLow = -1;
			}
	}
}

function load(one: PitChannelState, raw: number, now: number): void {
	const count = decode(one, raw);
	if (gateTriggered(one)) {
		one.count = count;
		one.start = UNTRIGGERED;
		return;
	}
	if (periodic(one) && one.count !== 0 && one.gate) {
		// The running period ends first; starting the new one at once keeps the phase within one period.
		one.count = count;
		one.start = now;
		return;
	}
	one.count = count;
	one.start = now;
	one.paused = 0;
}

function setGate(one: PitChannelState, gate: boolean, now: number): void {
	if (gate === one.gate) return;
	if (gateTriggered(one)) {
		one.gate = gate;
		if (gate && one.count !== 0) one.start = now;
		return;
	}
	if (gate) {
		one.gate = true;
		// Periodic modes reload on the rising edge, the others go on.
		one.start = periodic(one) ? now : now - one.paused / TICKS_PER_NS;
	} else {
		one.paused = ticks(one, now);
		one.gate = false;
	}
}
