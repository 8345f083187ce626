import type { AccessSize, PortDevice } from "../bus.ts";

/** Bytes of keyboard input and answers that may wait. */
const QUEUE_LIMIT = 256;
const STATUS_OUTPUT_FULL = 0x01;
const STATUS_SYSTEM = 0x04;
const STATUS_COMMAND = 0x08;
const STATUS_UNLOCKED = 0x10;

const ACK = 0xfa;

/** Plain state of an {@link I8042}. */
export interface I8042State {
	commandByte: number;
	/** Controller command whose data byte is to come, or 0. */
	command: number;
	/** Keyboard command whose data byte is to come, or 0. */
	keyboardCommand: number;
	lastWasCommand: boolean;
	outputPort: number;
	scanning: boolean;
	leds: number;
	ram: number[];
	/** Bytes to be read from port 60h, oldest first. */
	queue: number[];
}

/**
 * The 8042 keyboard controller at ports 60h and 64h with an AT keyboard behind it and nothing on its second port, and port
 * 92h. Guests reset the machine through it.
 *
 * @see Intel 8042 as in the IBM PC/AT Technical Reference
 */
export class I8042 implements PortDevice {
	readonly #irq: (level: boolean) => void;
	readonly #onReset: () => void;
	#state: I8042State = initialState();
	#level = false;

	/**
	 * @param irq - IRQ 1
	 * @param onReset - the guest pulses the reset line
	 */
	constructor(irq: (level: boolean) => void, onReset: () => void) {
		this.#irq = irq;
		this.#onReset = onReset;
	}

	/**
	 * Set-1 scan codes of keys pressed or released on the keyboard. Those without room are lost, as they are on a keyboard.
	 */
	key(scanCodes: Uint8Array): void {
		if (!this.#state.scanning) return;
		for (const code of scanCodes) this.#push(code);
	}

	readPort(port: number, _size: AccessSize): number {
		const state = this.#state;
		switch (port) {
			case 0x60: {
				const value = state.queue.shift() ?? 0;
				this.#update(true);
				return value;
			}
			case 0x64:
				return (
					(state.queue.length > 0 ? STATUS_OUTPUT_FULL : 0) |
					((state.commandByte & 4) !== 0 ? STATUS_SYSTEM : 0) |
					(state.lastWasCommand ? STATUS_COMMAND : 0) |
					STATUS_UNLOCKED
				);
			default:
				return state.outputPort & 2;
		}
	}

	writePort(port: number, _size: AccessSize, value: number): void {
		const state = this.#state;
		switch (port) {
			case 0x60:
				state.lastWasCommand = false;
				if (state.command !== 0) this.#commandData(value);
				else this.#keyboard(value);
				break;
			case 0x64:
				state.lastWasCommand = true;
				this.#command(value);
				break;
			default:
				state.outputPort = (state.outputPort & ~2) | (value & 2);
				if ((value & 1) !== 0) this.#onReset();
		}
	}

	save(): I8042State {
		return structuredClone(this.#state);
	}

	restore(state: I8042State): void {
		this.#state = structuredClone(state);
		this.#update(false);
	}

	/** As after power-on. */
	reset(): void {
		this.#state = initialState();
		this.#update(false);
	}

	#push(value: number): void {
		if (this.#state.queue.length >= QUEUE_LIMIT) return;
		this.#state.queue.push(value);
		this.#update(false);
	}

	/** IRQ 1 is high while a byte waits; `taken` makes a fall between two bytes. */
	#update(taken: boolean): void {
		const level = this.#state.queue.length > 0 && (this.#state.commandByte & 1) !== 0;
		if (taken && this.#level) {
			this.#level = false;
			this.#irq(false);
		}
		if (level === this.#level) return;
		this.#level = level;
		this.#irq(level);
	}

	#command(command: number): void {
		const state = this.#state;
		state.command = 0;
		if (command >= 0x20 && command < 0x40) {
			this.#push(command === 0x20 ? state.commandByte : state.ram[command - 0x20]);
			return;
		}
		if (command >= 0x60 && command < 0x80) {
			state.command = command;
			return;
		}
		if (command >= 0xf0) {
			// Pulses the output lines whose bit is 0; line 0 is the processor's reset.
			if ((command & 1) === 0) this.#onReset();
			return;
		}
		switch (command) {
			case 0xa7:
				state.commandByte |= 0x20;
				break;
			case 0xa8:
				state.commandByte &= ~0x20;
				break;
			case 0xa9:
				// Interface test of the second port: nothing there drives its clock line.
				this.#push(0x02);
				break;
			case 0xaa:
				state.commandByte |= 4;
				this.#push(0x55);
				break;
			case 0xab:
				this.#push(0);
				break;
			case 0xad:
				state.commandByte |= 0x10;
				break;
			case 0xae:
				state.commandByte &= ~0x10;
				break;
			case 0xc0:
				this.#push(0xa0);
				break;
			case 0xd0:
				this.#push(state.outputPort | (state.queue.length > 0 ? 0x10 : 0));
				break;
			case 0xd1:
			case 0xd2:
			case 0xd3:
			case 0xd4:
				state.command = command;
				break;
			default:
		}
	}

	#commandData(value: number): void {
		const state = this.#state;
		const { command } = state;
		state.command = 0;
		if (command >= 0x60 && command < 0x80) {
			if (command === 0x60) {
				state.commandByte = value;
				this.#update(false);
			} else {
				state.ram[command - 0x60] = value;
			}
			return;
		}
		switch (command) {
			case 0xd1:
				state.outputPort = value;
				if ((value & 1) === 0) this.#onReset();
				break;
			case 0xd2:
				this.#push(value);
				break;
			case 0xd3:
				// Written to the second port's buffer, where there is none: it comes back as something else.
				this.#push(value ^ 0xff);
				break;
			default:
		}
	}

	#keyboard(value: number): void {
		const state = this.#state;
		const waiting = state.keyboardCommand;
		state.commandByte &= ~0x10;
		if (waiting !== 0) {
			state.keyboardCommand = 0;
			if (waiting === 0xed) state.leds = value & 7;
			this.#push(ACK);
			// Scan code set: 0 asks which, and set 2 it is, translated by the controller.
			if (waiting === 0xf0 && value === 0) this.#push((state.commandByte & 0x40) !== 0 ? 0x41 : 2);
			return;
		}
		switch (value) {
			case 0xed:
			case 0xf0:
			case 0xf3:
				state.keyboardCommand = value;
				this.#push(ACK);
				break;
			case 0xee:
				this.#push(0xee);
				break;
			case 0xf2:
				this.#push(ACK);
				this.#push(0xab);
				this.#push((state.commandByte & 0x40) !== 0 ? 0x41 : 0x83);
				break;
			case 0xf4:
				state.scanning = true;
				this.#push(ACK);
				break;
			case 0xf5:
				state.scanning = false;
				this.#push(ACK);
				break;
			case 0xf6:
				state.scanning = true;
				this.#push(ACK);
				break;
			case 0xff:
				state.scanning = true;
				this.#push(ACK);
				this.#push(0xaa);
				break;
			default:
				// Resend: no such command.
				this.#push(0xfe);
		}
	}
}

function initialState(): I8042State {
	return {
		// Translation on, both clocks running, the system flag as after firmware's self test.
		commandByte: 0x44,
		command: 0,
		keyboardCommand: 0,
		lastWasCommand: false,
		outputPort: 0x03,
		scanning: true,
		leds: 0,
		ram: new Array<number>(32).fill(0),
		queue: [],
	};
}
