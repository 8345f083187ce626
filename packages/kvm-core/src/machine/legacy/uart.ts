import type { AccessSize, PortDevice } from "../bus.ts";

const FIFO_SIZE = 16;
/** Bytes the host may have waiting for the guest. */
const INPUT_LIMIT = 65_536;
const OUTPUT_CHUNK = 4096;

const IER_RX = 1;
const IER_THRE = 2;
const IER_LINE = 4;
const IER_MODEM = 8;

const LSR_DATA = 0x01;
const LSR_OVERRUN = 0x02;
const LSR_BREAK = 0x10;
const LSR_IDLE = 0x60;

const MCR_LOOP = 0x10;
/** OUT2 connects the interrupt to the bus. */
const MCR_OUT2 = 0x08;

/** Clear to send, data set ready, carrier: a terminal is always there. */
const MSR_CONNECTED = 0xb0;

const TRIGGERS = [1, 4, 8, 14] as const;

/** Options of a {@link Uart}. */
export interface UartOptions {
	/** The interrupt line. */
	irq: (level: boolean) => void;
	/** What the guest sent; the array is valid during the call only. */
	output: (bytes: Uint8Array) => void;
	/** Room in the input queue after it was full. */
	drained?: () => void;
}

/** Plain state of a {@link Uart}. */
export interface UartState {
	ier: number;
	fcr: number;
	lcr: number;
	mcr: number;
	scratch: number;
	divisor: number;
	/** Modem status deltas. */
	msrDelta: number;
	lineErrors: number;
	threPending: boolean;
	/** Bytes on their way to the guest. */
	input: number[];
	loop: number[];
}

/**
 * A 16550A. The transmitter is always ready, so output costs one exit per byte; it is handed on in chunks by `flush`.
 *
 * @see National PC16550D data sheet
 */
export class Uart implements PortDevice {
	readonly #irq: (level: boolean) => void;
	readonly #output: (bytes: Uint8Array) => void;
	readonly #drained: (() => void) | undefined;
	readonly #out = new Uint8Array(OUTPUT_CHUNK);
	#outLength = 0;
	readonly #in = new Uint8Array(INPUT_LIMIT);
	#inStart = 0;
	#inLength = 0;
	#wasFull = false;
	/** What the transmitter sent itself in loop-back mode. */
	#loop: number[] = [];
	#ier = 0;
	#fcr = 0;
	#lcr = 0;
	#mcr = 0;
	#scratch = 0;
	#divisor = 12;
	#msrDelta = 0;
	#lineErrors = 0;
	#threPending = false;
	#level = false;

	constructor(options: UartOptions) {
		this.#irq = options.irq;
		this.#output = options.output;
		this.#drained = options.drained;
	}

	/** The guest's driver waits for input: until then it may throw away what it finds. */
	get receiving(): boolean {
		return (this.#ier & IER_RX) !== 0;
	}

	/** Hands collected output on. */
	flush(): void {
		if (this.#outLength === 0) return;
		const length = this.#outLength;
		this.#outLength = 0;
		this.#output(this.#out.subarray(0, length));
	}

	/**
	 * Bytes for the guest.
	 *
	 * @returns how many there was room for; `drained` says when to come back with the rest
	 */
	input(bytes: Uint8Array): number {
		const taken = Math.min(bytes.length, INPUT_LIMIT - this.#inLength);
		for (let i = 0; i < taken; i++) {
			this.#in[(this.#inStart + this.#inLength++) % INPUT_LIMIT] = bytes[i];
		}
		if (taken < bytes.length) this.#wasFull = true;
		this.#update();
		return taken;
	}

	/** A break condition on the line (Linux: magic SysRq on a serial console). */
	sendBreak(): void {
		this.#lineErrors |= LSR_BREAK;
		this.#update();
	}

	readPort(port: number, _size: AccessSize): number {
		switch (port & 7) {
			case 0:
				if ((this.#lcr & 0x80) !== 0) return this.#divisor & 0xff;
				return this.#receive();
			case 1:
				return (this.#lcr & 0x80) !== 0 ? this.#divisor >> 8 : this.#ier;
			case 2: {
				const cause = this.#cause();
				if (cause === 0x02) {
					this.#threPending = false;
					this.#update();
				}
				return cause | ((this.#fcr & 1) !== 0 ? 0xc0 : 0);
			}
			case 3:
				return this.#lcr;
			case 4:
				return this.#mcr;
			case 5: {
				const status = this.#lineErrors | LSR_IDLE | (this.#available() > 0 ? LSR_DATA : 0);
				this.#lineErrors = 0;
				this.#update();
				return status;
			}
			case 6: {
				const status = this.#modemLines() | this.#msrDelta;
				this.#msrDelta = 0;
				this.#update();
				return status;
			}
			default:
				return this.#scratch;
		}
	}

	writePort(port: number, _size: AccessSize, value: number): void {
		switch (port & 7) {
			case 0:
				if ((this.#lcr & 0x80) !== 0) {
					this.#divisor = (this.#divisor & 0xff00) | value;
					return;
				}
				this.#transmit(value);
				break;
			case 1:
				if ((this.#lcr & 0x80) !== 0) {
					this.#divisor = (this.#divisor & 0x00ff) | (value << 8);
					return;
				}
				// Turning the interrupt on while the holding register is empty raises it.
				if ((value & IER_THRE) !== 0 && (this.#ier & IER_THRE) === 0) this.#threPending = true;
				this.#ier = value & 0x0f;
				break;
			case 2:
				if ((value & 1) !== (this.#fcr & 1) || (value & 2) !== 0) {
					this.#loop = [];
					this.#lineErrors = 0;
				}
				this.#fcr = value & 0xc9;
				break;
			case 3:
				this.#lcr = value;
				break;
			case 4: {
				const before = this.#modemLines();
				this.#mcr = value & 0x1f;
				this.#modemDelta(before, this.#modemLines());
				break;
			}
			case 7:
				this.#scratch = value;
				return;
			default:
				return;
		}
		this.#update();
	}

	save(): UartState {
		const input: number[] = [];
		for (let i = 0; i < this.#inLength; i++) input.push(this.#in[(this.#inStart + i) % INPUT_LIMIT]);
		return {
			ier: this.#ier,
			fcr: this.#fcr,
			lcr: this.#lcr,
			mcr: this.#mcr,
			scratch: this.#scratch,
			divisor: this.#divisor,
			msrDelta: this.#msrDelta,
			lineErrors: this.#lineErrors,
			threPending: this.#threPending,
			input,
			loop: [...this.#loop],
		};
	}

	restore(state: UartState): void {
		this.#ier = state.ier;
		this.#fcr = state.fcr;
		this.#lcr = state.lcr;
		this.#mcr = state.mcr;
		this.#scratch = state.scratch;
		this.#divisor = state.divisor;
		this.#msrDelta = state.msrDelta;
		this.#lineErrors = state.lineErrors;
		this.#threPending = state.threPending;
		this.#inStart = 0;
		this.#inLength = Math.min(state.input.length, INPUT_LIMIT);
		this.#in.set(state.input.slice(0, INPUT_LIMIT));
		this.#loop = [...state.loop];
		this.#update();
	}

	/** As after power-on. Input the host sent stays queued. */
	reset(): void {
		this.flush();
		this.#ier = 0;
		this.#fcr = 0;
		this.#lcr = 0;
		this.#mcr = 0;
		this.#divisor = 12;
		this.#msrDelta = 0;
		this.#lineErrors = 0;
		this.#threPending = false;
		this.#loop = [];
		this.#update();
	}

	#available(): number {
		return (this.#mcr & MCR_LOOP) !== 0 ? this.#loop.length : this.#inLength;
	}

	#receive(): number {
		let value = 0;
		if ((this.#mcr & MCR_LOOP) !== 0) {
			value = this.#loop.shift() ?? 0;
		} else if (this.#inLength > 0) {
			value = this.#in[this.#inStart];
			this.#inStart = (this.#inStart + 1) % INPUT_LIMIT;
			this.#inLength--;
			if (this.#wasFull && this.#inLength < INPUT_LIMIT / 2) {
				this.#wasFull = false;
				this.#drained?.();
			}
		}
		this.#update();
		return value;
	}

	#transmit(value: number): void {
		this.#threPending = true;
		if ((this.#mcr & MCR_LOOP) !== 0) {
			const room = (this.#fcr & 1) !== 0 ? FIFO_SIZE : 1;
			if (this.#loop.length < room) this.#loop.push(value);
			else this.#lineErrors |= LSR_OVERRUN;
			return;
		}
		this.#out[this.#outLength++] = value;
		if (this.#outLength === OUTPUT_CHUNK) this.flush();
	}

	/** CTS, DSR, RI, DCD: the terminal's, or the chip's own outputs in loop-back. */
	#modemLines(): number {
		const mcr = this.#mcr;
		if ((mcr & MCR_LOOP) === 0) return MSR_CONNECTED;
		return ((mcr & 2) << 3) | ((mcr & 1) << 5) | ((mcr & 4) << 4) | ((mcr & 8) << 4);
	}

	#modemDelta(before: number, after: number): void {
		const changed = (before ^ after) >> 4;
		// Of the ring indicator only its end counts.
		this.#msrDelta |= (changed & 0b1011) | ((before & 0x40) !== 0 && (after & 0x40) === 0 ? 4 : 0);
	}

	/** Interrupt identification without the FIFO bits; 1 when nothing is pending. */
	#cause(): number {
		const ier = this.#ier;
		if ((ier & IER_LINE) !== 0 && this.#lineErrors !== 0) return 0x06;
		if ((ier & IER_RX) !== 0) {
			const available = this.#available();
			// Below the trigger level it is the time-out's turn, which never lets the guest wait here.
			if (available > 0) {
				return (this.#fcr & 1) !== 0 && available < TRIGGERS[this.#fcr >> 6] ? 0x0c : 0x04;
			}
		}
		if ((ier & IER_THRE) !== 0 && this.#threPending) return 0x02;
		if ((ier & IER_MODEM) !== 0 && this.#msrDelta !== 0) return 0x00;
		return 0x01;
	}

	#update(): void {
		const level = this.#cause() !== 0x01 && (this.#mcr & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
		if (level === this.#level) return;
		this.#level = level;
		this.#irq(level);
	}
}
