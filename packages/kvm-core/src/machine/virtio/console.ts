import type { AccessSize } from "../bus.ts";
import type { VirtioDevice, VirtioTransport } from "./device.ts";
import { Chain } from "./queue.ts";

const F_SIZE = 1 << 0;
const F_MULTIPORT = 1 << 1;
const MULTIPORT_BIT = 1;

const EVENT_DEVICE_READY = 0;
const EVENT_DEVICE_ADD = 1;
const EVENT_PORT_READY = 3;
const EVENT_CONSOLE_PORT = 4;
const EVENT_RESIZE = 5;
const EVENT_PORT_OPEN = 6;
const EVENT_PORT_NAME = 7;

const CONTROL_RX = 2;
const CONTROL_TX = 3;
const CONTROL_SIZE = 8;

/** Bytes one port holds for the guest. */
const INPUT_LIMIT = 65_536;
/** Control messages that wait for the driver's buffers. */
const CONTROL_LIMIT = 1024;
const COPY = 16_384;
/** Bytes of one output request; drivers send pages. */
const OUTPUT_LIMIT = 1024 * 1024;

/** One port. */
export interface ConsolePort {
	/** Name the guest finds it under (/dev/virtio-ports/NAME in Linux); none for a console. */
	name?: string;
	/** A console (/dev/hvcN in Linux) rather than a plain byte stream. */
	console?: boolean;
	/** What the guest sent; the array is valid during the call only. */
	output: (bytes: Uint8Array) => void;
	/** The guest opened or closed the port. */
	onOpen?: (open: boolean) => void;
	/** Room in the input queue after it was full. */
	drained?: () => void;
}

/** Plain state of a {@link VirtioConsole}. */
export interface VirtioConsoleState {
	columns: number;
	rows: number;
	ports: { input: number[]; guestOpen: boolean; hostOpen: boolean; ready: boolean; paused: boolean }[];
	/** Control messages not yet given to the driver. */
	control: number[][];
}

interface PortState {
	readonly options: ConsolePort;
	readonly input: Uint8Array;
	start: number;
	length: number;
	wasFull: boolean;
	guestOpen: boolean;
	hostOpen: boolean;
	/** What the driver was last told of `hostOpen`: a close waits until all input has been delivered. */
	toldOpen: boolean;
	/** The driver made the port. */
	ready: boolean;
	/** The host takes no output now. */
	paused: boolean;
	/** The request whose output is being handed on: what the host does with it may concern any port. */
	readonly txChain: Chain;
	collecting: boolean;
}

/** A console device with one or more ports. Port 0 is the one drivers without multiport support use. */
export class VirtioConsole implements VirtioDevice {
	readonly type = 3;
	readonly classCode = 0x07_8000;
	readonly features: number = F_SIZE | F_MULTIPORT;
	readonly queueSizes: readonly number[];
	readonly #ports: PortState[];
	readonly #rxChain = new Chain();
	readonly #controlChain = new Chain();
	readonly #copy = new Uint8Array(COPY);
	#control: Uint8Array[] = [];
	#columns = 80;
	#rows = 24;
	#transport: VirtioTransport | undefined;

	constructor(ports: readonly [ConsolePort, ...ConsolePort[]]) {
		this.#ports = ports.map((options) => ({
			options,
			input: new Uint8Array(INPUT_LIMIT),
			start: 0,
			length: 0,
			wasFull: false,
			guestOpen: false,
			hostOpen: true,
			toldOpen: false,
			ready: false,
			paused: false,
			txChain: new Chain(),
			collecting: false,
		}));
		this.queueSizes = new Array<number>(2 * (ports.length + 1)).fill(128);
	}

	attach(transport: VirtioTransport): void {
		this.#transport = transport;
	}

	/**
	 * Bytes for the guest.
	 *
	 * @returns how many there was room for; `drained` says when to come back with the rest
	 */
	input(port: number, bytes: Uint8Array): number {
		const state = this.#ports[port];
		const taken = Math.min(bytes.length, INPUT_LIMIT - state.length);
		for (let i = 0; i < taken; i++) state.input[(state.start + state.length++) % INPUT_LIMIT] = bytes[i];
		if (taken < bytes.length) state.wasFull = true;
		this.#deliver(port);
		return taken;
	}

	/** Size of the terminal behind the console ports. */
	resize(columns: number, rows: number): void {
		this.#columns = columns & 0xffff;
		this.#rows = rows & 0xffff;
		for (const [port, state] of this.#ports.entries()) if (state.ready) this.#sendSize(port);
		this.#transport?.configChanged();
	}

	/** Opens or closes the host's side of a port; a guest reading a closed one gets what was sent before, then end of file. */
	setOpen(port: number, open: boolean): void {
		this.#ports[port].hostOpen = open;
		this.#tellOpen(port);
	}

	/** Stops taking output of a port, or goes on: the guest's writers wait meanwhile. */
	setPaused(port: number, paused: boolean): void {
		this.#ports[port].paused = paused;
		if (!paused) this.#collect(port);
	}

	/** Whether the guest has a port open. */
	isOpen(port: number): boolean {
		return this.#ports[port].guestOpen;
	}

	readConfig(offset: number, size: AccessSize): number {
		const words = [this.#columns | (this.#rows << 16), this.#ports.length, 0];
		const word = words[offset >> 2] ?? 0;
		const value = word >>> (8 * (offset & 3));
		return size === 4 ? value >>> 0 : size === 2 ? value & 0xffff : value & 0xff;
	}

	writeConfig(_offset: number, _size: AccessSize, _value: number): void {}

	start(): void {
		if (!this.#multiport) {
			this.#ports[0].ready = true;
			this.#setGuestOpen(0, true);
			this.#deliver(0);
		}
	}

	notify(queue: number): void {
		if (queue === CONTROL_RX) this.#flushControl();
		else if (queue === CONTROL_TX) this.#readControl();
		else {
			const port = queue < 2 ? 0 : (queue >> 1) - 1;
			if ((queue & 1) === 0) this.#deliver(port);
			else this.#collect(port);
		}
	}

	reset(): void {
		this.#control = [];
		for (const [port, state] of this.#ports.entries()) {
			state.ready = false;
			state.toldOpen = false;
			this.#setGuestOpen(port, false);
		}
	}

	async idle(): Promise<void> {}

	save(): VirtioConsoleState {
		return {
			columns: this.#columns,
			rows: this.#rows,
			ports: this.#ports.map((state) => ({
				input: Array.from({ length: state.length }, (_, i) => state.input[(state.start + i) % INPUT_LIMIT]),
				guestOpen: state.guestOpen,
				hostOpen: state.hostOpen,
				ready: state.ready,
				paused: state.paused,
			})),
			control: this.#control.map((message) => Array.from(message)),
		};
	}

	restore(state: VirtioConsoleState): void {
		this.#columns = state.columns;
		this.#rows = state.rows;
		this.#control = state.control.map((message) => Uint8Array.from(message));
		for (const [i, port] of this.#ports.entries()) {
			const saved = state.ports[i];
			port.start = 0;
			port.length = Math.min(saved.input.length, INPUT_LIMIT);
			port.input.set(saved.input.slice(0, INPUT_LIMIT));
			port.guestOpen = saved.guestOpen;
			port.hostOpen = saved.hostOpen;
			port.ready = saved.ready;
			port.toldOpen = saved.ready && (saved.hostOpen || saved.input.length > 0);
			port.paused = saved.paused;
		}
	}

	get #multiport(): boolean {
		return this.#transport?.hasFeature(MULTIPORT_BIT) ?? false;
	}

	#setGuestOpen(port: number, open: boolean): void {
		const state = this.#ports[port];
		if (state.guestOpen === open) return;
		state.guestOpen = open;
		state.options.onOpen?.(open);
	}

	#tellOpen(port: number): void {
		const state = this.#ports[port];
		if (!state.ready || state.toldOpen === state.hostOpen || (!state.hostOpen && state.length > 0)) return;
		state.toldOpen = state.hostOpen;
		this.#send(port, EVENT_PORT_OPEN, state.hostOpen ? 1 : 0);
	}

	/** Moves waiting input into the driver's buffers. */
	#deliver(port: number): void {
		const transport = this.#transport;
		const state = this.#ports[port];
		if (transport === undefined || !state.ready || state.length === 0) return;
		const index = port === 0 ? 0 : 2 * (port + 1);
		const queue = transport.queues[index];
		const chain = this.#rxChain;
		while (state.length > 0 && queue.pop(chain)) {
			let written = 0;
			while (state.length > 0 && written < chain.writableBytes) {
				const piece = Math.min(state.length, INPUT_LIMIT - state.start, chain.writableBytes - written);
				chain.write(transport.ram, written, state.input.subarray(state.start, state.start + piece));
				state.start = (state.start + piece) % INPUT_LIMIT;
				state.length -= piece;
				written += piece;
			}
			queue.push(chain.head, written);
		}
		transport.signal(index);
		this.#tellOpen(port);
		if (state.wasFull && state.length < INPUT_LIMIT / 2) {
			state.wasFull = false;
			state.options.drained?.();
		}
	}

	/** Hands on what the driver sent. */
	#collect(port: number): void {
		const transport = this.#transport;
		const state = this.#ports[port];
		if (transport === undefined || state.collecting) return;
		const index = port === 0 ? 1 : 2 * (port + 1) + 1;
		const queue = transport.queues[index];
		const chain = state.txChain;
		state.collecting = true;
		while (!state.paused && queue.pop(chain)) {
			const { head, readableBytes } = chain;
			if (readableBytes > OUTPUT_LIMIT) {
				queue.broken = true;
				break;
			}
			for (let done = 0; done < readableBytes; ) {
				const size = chain.read(transport.ram, done, this.#copy);
				done += size;
				state.options.output(this.#copy.subarray(0, size));
			}
			queue.push(head, 0);
		}
		state.collecting = false;
		transport.signal(index);
	}

	#readControl(): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const queue = transport.queues[CONTROL_TX];
		const chain = this.#controlChain;
		const bytes = new Uint8Array(CONTROL_SIZE);
		const view = new DataView(bytes.buffer);
		while (queue.pop(chain)) {
			const size = chain.read(transport.ram, 0, bytes);
			queue.push(chain.head, 0);
			if (size === CONTROL_SIZE) {
				this.#handleControl(view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true));
			}
		}
		transport.signal(CONTROL_TX);
	}

	#handleControl(port: number, event: number, value: number): void {
		if (event === EVENT_DEVICE_READY) {
			if (value === 1) for (const id of this.#ports.keys()) this.#send(id, EVENT_DEVICE_ADD, 1);
			return;
		}
		const state: PortState | undefined = this.#ports[port];
		if (state === undefined) return;
		if (event === EVENT_PORT_READY && value === 1) {
			state.ready = true;
			if (state.options.console === true) {
				this.#send(port, EVENT_CONSOLE_PORT, 1);
				this.#sendSize(port);
			}
			const { name } = state.options;
			if (name !== undefined) this.#send(port, EVENT_PORT_NAME, 1, new TextEncoder().encode(name));
			// Input that came before waits in the queue; a port closed since is opened for it first.
			if (state.hostOpen || state.length > 0) {
				this.#send(port, EVENT_PORT_OPEN, 1);
				state.toldOpen = true;
			}
			this.#deliver(port);
			this.#tellOpen(port);
		} else if (event === EVENT_PORT_OPEN) {
			this.#setGuestOpen(port, value === 1);
		}
	}

	#sendSize(port: number): void {
		if (this.#ports[port].options.console !== true) return;
		const size = new Uint8Array([this.#columns, this.#columns >> 8, this.#rows, this.#rows >> 8]);
		this.#send(port, EVENT_RESIZE, 0, size);
	}

	#send(port: number, event: number, value: number, extra: Uint8Array = new Uint8Array(0)): void {
		if (!this.#multiport || this.#control.length >= CONTROL_LIMIT) return;
		const message = new Uint8Array(CONTROL_SIZE + extra.length);
		const view = new DataView(message.buffer);
		view.setUint32(0, port, true);
		view.setUint16(4, event, true);
		view.setUint16(6, value, true);
		message.set(extra, CONTROL_SIZE);
		this.#control.push(message);
		this.#flushControl();
	}

	#flushControl(): void {
		const transport = this.#transport;
		if (transport === undefined) return;
		const queue = transport.queues[CONTROL_RX];
		const chain = this.#controlChain;
		while (this.#control.length > 0 && queue.pop(chain)) {
			const [message] = this.#control;
			this.#control.shift();
			queue.push(chain.head, chain.write(transport.ram, 0, message));
		}
		transport.signal(CONTROL_RX);
	}
}
