import {
	AgentProtocolError,
	type CallArgument,
	encodeCall,
	encodeFrame,
	encodeSpawn,
	encodeWords,
	FRAME,
	type Frame,
	FrameReader,
	PROTOCOL_VERSION,
	type SpawnRequest,
} from "./protocol.ts";

/** What a process tells; arrays are valid during the call only. */
export interface ProcessListener {
	onOutput(stream: 1 | 2, bytes: Uint8Array): void;
	/** No more of this output will come. */
	onOutputEnd(stream: 1 | 2): void;
	/** There is room again for input. */
	onInputRoom(): void;
	/** It ended; all output it wrote before has been given. `status` is wait4(2)'s. */
	onExit(status: number): void;
	/** It could not be started. */
	onFailure(error: SpawnFailure): void;
	/** The guest is gone. */
	onLost(error: Error): void;
}

/** Why a program could not be started. */
export interface SpawnFailure {
	/** A Linux error number. */
	readonly errno: number;
	readonly at: "resources" | "user" | "directory" | "program";
}

/** A process in the guest, as the protocol has it. */
export interface AgentProcess {
	/** @returns how many bytes were taken; `onInputRoom` says when to come back with the rest */
	input(bytes: Uint8Array): number;
	endInput(): void;
	/** Lets that many bytes more of an output come. */
	grant(stream: 1 | 2, bytes: number): void;
	signal(signal: number): void;
	resize(rows: number, columns: number): void;
	/** Gives the channel back once the process has ended. */
	release(): void;
}

interface Channel {
	readonly listener: ProcessListener;
	readonly credit: [unused: number, stdout: number, stderr: number];
	window: number;
	started: boolean;
	exited: boolean;
	released: boolean;
}

const CHUNK = 16_384;
const MOST_CALLS = 65_536;
const STAGES: readonly SpawnFailure["at"][] = ["resources", "resources", "user", "directory", "program"];

/** The host's end of the agent's port. Trusts nothing that comes. */
export class AgentClient {
	readonly #send: (bytes: Uint8Array) => void;
	readonly #onBroken: (error: AgentProtocolError) => void;
	readonly #reader = new FrameReader();
	readonly #channels = new Map<number, Channel>();
	readonly #waiting: ((channel: number) => void)[] = [];
	readonly #calls = new Map<
		number,
		{ readonly size: number; resolve(payload: Uint8Array): void; reject(error: Error): void }
	>();
	#nextCall = 0;
	#channelCount = 0;
	#window = 0;
	#lost: Error | undefined;
	#greet: (() => void) | undefined;
	/** Resolves when the agent has said hello. */
	readonly ready: Promise<void>;

	/**
	 * @param send - takes bytes for the guest and keeps them
	 * @param onBroken - called once when the guest says what no agent says; the client is closed by then
	 */
	constructor(send: (bytes: Uint8Array) => void, onBroken: (error: AgentProtocolError) => void) {
		this.#send = send;
		this.#onBroken = onBroken;
		this.ready = new Promise((resolve) => {
			this.#greet = resolve;
		});
	}

	/** Bytes from the guest. */
	receive(bytes: Uint8Array): void {
		if (this.#lost !== undefined) return;
		try {
			this.#reader.push(bytes, (frame) => this.#onFrame(frame));
		} catch (error) {
			if (!(error instanceof AgentProtocolError)) throw error;
			this.close(error);
			this.#onBroken(error);
		}
	}

	/** Ends everything under way with an error. */
	close(error: Error): void {
		if (this.#lost !== undefined) return;
		this.#lost = error;
		this.#greet?.();
		for (const { reject } of this.#calls.values()) reject(error);
		this.#calls.clear();
		const channels = [...this.#channels.values()];
		this.#channels.clear();
		for (const { listener, exited } of channels) if (!exited) listener.onLost(error);
		for (const start of this.#waiting.splice(0)) start(-1);
	}

	/**
	 * Starts a program; when all channels are taken it waits for one.
	 *
	 * @throws RangeError for a request that cannot be written down
	 */
	async spawn(request: SpawnRequest, listener: ProcessListener): Promise<AgentProcess> {
		const payload = encodeSpawn(request);
		await this.ready;
		const id = await this.#freeChannel();
		if (this.#lost !== undefined) throw this.#lost;
		const channel: Channel = {
			listener,
			credit: [0, request.credit, request.credit],
			window: this.#window,
			started: false,
			exited: false,
			released: false,
		};
		this.#channels.set(id, channel);
		this.#frame(id, FRAME.SPAWN, payload);
		return {
			input: (bytes) => this.#input(id, channel, bytes),
			endInput: () => this.#tell(id, channel, FRAME.END_INPUT, new Uint8Array(0)),
			grant: (stream, bytes) => {
				channel.credit[stream] += bytes;
				this.#tell(id, channel, FRAME.CREDIT, encodeWords(stream, bytes));
			},
			signal: (signal) => this.#tell(id, channel, FRAME.SIGNAL, encodeWords(signal)),
			resize: (rows, columns) =>
				this.#tell(id, channel, FRAME.RESIZE, encodeWords((rows & 0xffff) | ((columns & 0xffff) << 16))),
			release: () => {
				if (!channel.exited || channel.released) return;
				this.#tell(id, channel, FRAME.RELEASE, new Uint8Array(0));
				channel.released = true;
			},
		};
	}

	/**
	 * Performs a system call in the guest, as root.
	 *
	 * @returns its result (a negative one is an error number) and the bytes of all its outputs, each aligned to 8
	 * @throws RangeError for arguments that cannot be written down
	 */
	async call(number: number, args: readonly CallArgument[]): Promise<{ result: number; output: Uint8Array }> {
		const payload = encodeCall(number, args);
		await this.ready;
		if (this.#lost !== undefined) throw this.#lost;
		if (this.#calls.size >= MOST_CALLS) throw new RangeError("too many system calls at a time");
		while (this.#calls.has(this.#nextCall)) this.#nextCall = (this.#nextCall + 1) & 0xffff;
		const id = this.#nextCall;
		this.#nextCall = (id + 1) & 0xffff;
		const size = 8 + new DataView(payload.buffer).getUint32(4, true);
		const answer = await new Promise<Uint8Array>((resolve, reject) => {
			this.#calls.set(id, { size, resolve, reject });
			this.#frame(id, FRAME.CALL, payload);
		});
		return { result: Number(new DataView(answer.buffer).getBigInt64(0, true)), output: answer.subarray(8) };
	}

	async #freeChannel(): Promise<number> {
		if (this.#lost !== undefined) throw this.#lost;
		for (let id = 0; id < this.#channelCount; id++) {
			if (!this.#channels.has(id)) {
				// Taken at once, so that no other caller finds it free.
				this.#channels.set(id, RESERVED);
				return id;
			}
		}
		return new Promise((resolve) => this.#waiting.push(resolve));
	}

	#free(id: number): void {
		const next = this.#waiting.shift();
		if (next === undefined) this.#channels.delete(id);
		else {
			this.#channels.set(id, RESERVED);
			next(id);
		}
	}

	#frame(channel: number, type: number, payload: Uint8Array): void {
		this.#send(encodeFrame(channel, type, payload));
	}

	#tell(id: number, channel: Channel, type: number, payload: Uint8Array): void {
		if (this.#lost === undefined && !channel.released && this.#channels.get(id) === channel) {
			this.#frame(id, type, payload);
		}
	}

	#input(id: number, channel: Channel, bytes: Uint8Array): number {
		let taken = 0;
		while (taken < bytes.length && channel.window > 0) {
			const size = Math.min(CHUNK, channel.window, bytes.length - taken);
			this.#tell(id, channel, FRAME.INPUT, bytes.subarray(taken, taken + size));
			channel.window -= size;
			taken += size;
		}
		return taken;
	}

	#onFrame({ channel: id, type, payload }: Frame): void {
		if (type === FRAME.RESULT) {
			const call = this.#calls.get(id);
			if (call === undefined || payload.length !== call.size)
				throw new AgentProtocolError("an answer nobody asked for");
			this.#calls.delete(id);
			call.resolve(payload.slice());
			return;
		}
		if (type === FRAME.HELLO) {
			this.#onHello(payload);
			return;
		}
		if (type === FRAME.REFUSED) {
			this.#onRefused(id, payload);
			return;
		}
		const channel = this.#channels.get(id);
		if (channel === undefined || channel === RESERVED) throw new AgentProtocolError(`no process has channel ${id}`);
		this.#onProcessFrame(id, channel, type, payload);
	}

	/** What concerns a process may have crossed the news of its end; it means nothing then. */
	#onRefused(id: number, payload: Uint8Array): void {
		const [errno, type] = words(payload, 2);
		if (type === FRAME.CALL) {
			const call = this.#calls.get(id);
			if (call === undefined) throw new AgentProtocolError("an answer nobody asked for");
			this.#calls.delete(id);
			call.reject(new AgentProtocolError("the agent refused a system call"));
		} else if (type === FRAME.SPAWN) {
			const channel = this.#channels.get(id);
			if (channel === undefined || channel === RESERVED) throw new AgentProtocolError(`no process has channel ${id}`);
			this.#fail(id, channel, errno!, "resources");
		} else if (type === FRAME.RELEASE) throw new AgentProtocolError("the agent keeps a process that ended");
	}

	#fail(id: number, channel: Channel, errno: number, at: SpawnFailure["at"]): void {
		if (channel.started) throw new AgentProtocolError("a process that runs failed to start");
		channel.exited = true;
		channel.released = true;
		this.#free(id);
		channel.listener.onFailure({ errno, at });
	}

	#onHello(payload: Uint8Array): void {
		const [version, channels, window] = words(payload, 3);
		if (this.#greet === undefined || version !== PROTOCOL_VERSION || channels! < 1 || channels! > 65_536) {
			throw new AgentProtocolError(`a greeting of version ${version}`);
		}
		this.#channelCount = channels!;
		this.#window = window!;
		this.#greet();
		this.#greet = undefined;
	}

	#onProcessFrame(id: number, channel: Channel, type: number, payload: Uint8Array): void {
		const { listener } = channel;
		switch (type) {
			case FRAME.STARTED:
				words(payload, 1);
				channel.started = true;
				break;
			case FRAME.FAILED: {
				const [errno, stage] = words(payload, 2);
				this.#fail(id, channel, errno!, STAGES[stage!] ?? "program");
				break;
			}
			case FRAME.STDOUT:
			case FRAME.STDERR: {
				const stream = type === FRAME.STDOUT ? 1 : 2;
				channel.credit[stream] -= payload.length;
				if (channel.credit[stream] < 0) throw new AgentProtocolError("more output than was asked for");
				if (!channel.released) listener.onOutput(stream, payload);
				break;
			}
			case FRAME.STDOUT_ENDED:
			case FRAME.STDERR_ENDED:
				if (!channel.released) listener.onOutputEnd(type === FRAME.STDOUT_ENDED ? 1 : 2);
				break;
			case FRAME.GRANT: {
				const [bytes] = words(payload, 1);
				channel.window += bytes!;
				if (channel.window > this.#window) throw new AgentProtocolError("more input taken than was sent");
				if (!channel.released) listener.onInputRoom();
				break;
			}
			case FRAME.EXITED: {
				const [status] = words(payload, 1);
				if (channel.exited) throw new AgentProtocolError("a process that ended twice");
				channel.exited = true;
				listener.onExit(status!);
				break;
			}
			case FRAME.RELEASED:
				if (!channel.released) throw new AgentProtocolError("a channel nobody gave back");
				this.#free(id);
				break;
			default:
				throw new AgentProtocolError(`a frame of type ${type}`);
		}
	}
}

/** Marks a channel that somebody is about to use. */
const RESERVED: Channel = {
	listener: {
		onOutput() {},
		onOutputEnd() {},
		onInputRoom() {},
		onExit() {},
		onFailure() {},
		onLost() {},
	},
	credit: [0, 0, 0],
	window: 0,
	started: false,
	exited: true,
	released: true,
};

function words(payload: Uint8Array, count: number): number[] {
	if (payload.length !== 4 * count) throw new AgentProtocolError(`a payload of ${payload.length} bytes`);
	const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
	return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
}
