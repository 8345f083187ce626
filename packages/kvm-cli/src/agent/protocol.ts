/**
 * What the agent and the host say to each other: frames of a channel, a type, and up to 256 KiB (host) or 64 KiB (agent)
 * of payload behind a header of 8 bytes, all little-endian: channel u16, type u8, 0 u8, length u32.
 *
 * A channel is a process, its number chosen by the host. Output flows while the host's credit lasts, input while the
 * agent's window does. `CALL` is a system call; its channel is only there to match the answer.
 */
export const FRAME = {
	/** Program, user, directory, terminal: see {@link encodeSpawn}. */
	SPAWN: 1,
	/** Bytes for standard input. */
	INPUT: 2,
	END_INPUT: 3,
	/** Stream (1 or 2) and bytes more that the host takes of it: two u32. */
	CREDIT: 4,
	/** Signal for the process's group: u32. */
	SIGNAL: 5,
	/** Rows and columns: two u16. */
	RESIZE: 6,
	/** The host is done with a process that has ended. */
	RELEASE: 7,
	CALL: 8,
	/** Version, channels, and bytes of input a channel takes: three u32. */
	HELLO: 16,
	/** Process number: u32. */
	STARTED: 17,
	/** Error number, and at what: two u32. The channel is free again. */
	FAILED: 18,
	STDOUT: 20,
	STDERR: 21,
	STDOUT_ENDED: 22,
	STDERR_ENDED: 23,
	/** Bytes of input taken: u32. */
	GRANT: 24,
	/** The status wait4(2) gave: u32. All output written before has been sent. */
	EXITED: 25,
	/** The channel is free again. */
	RELEASED: 26,
	RESULT: 27,
	/** Error number, and the type of the host's frame that made no sense: two u32. */
	REFUSED: 28,
} as const;

export const PROTOCOL_VERSION = 1;
export const HEADER_BYTES = 8;
/** Largest payload the agent takes. */
export const MOST_TO_AGENT = 262_144;
/** Largest payload it sends. */
export const MOST_FROM_AGENT = 65_536;

const encoder = new TextEncoder();

/** A frame as it arrived; `payload` is valid until the next call of the reader. */
export interface Frame {
	readonly channel: number;
	readonly type: number;
	readonly payload: Uint8Array;
}

/** What arrives is no frame, or none that can come now: the agent is not what it should be. */
export class AgentProtocolError extends Error {
	override readonly name = "AgentProtocolError";
	readonly code = "ERR_AGENT_PROTOCOL";
}

/** One frame's bytes. */
export function encodeFrame(channel: number, type: number, payload: Uint8Array): Uint8Array {
	const bytes = new Uint8Array(HEADER_BYTES + payload.length);
	const view = new DataView(bytes.buffer);
	view.setUint16(0, channel, true);
	view.setUint8(2, type);
	view.setUint32(4, payload.length, true);
	bytes.set(payload, HEADER_BYTES);
	return bytes;
}

/** A payload of 32-bit words. */
export function encodeWords(...words: number[]): Uint8Array {
	const bytes = new Uint8Array(4 * words.length);
	const view = new DataView(bytes.buffer);
	for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true);
	return bytes;
}

/** Cuts a byte stream into frames, holding no more than one. */
export class FrameReader {
	readonly #buffer = new Uint8Array(HEADER_BYTES + MOST_FROM_AGENT);
	readonly #view = new DataView(this.#buffer.buffer);
	#have = 0;

	/** @throws AgentProtocolError when a frame is longer than any may be */
	push(bytes: Uint8Array, onFrame: (frame: Frame) => void): void {
		for (let at = 0; at < bytes.length; ) {
			const wanted = this.#have < HEADER_BYTES ? HEADER_BYTES : HEADER_BYTES + this.#length();
			const taken = Math.min(wanted - this.#have, bytes.length - at);
			this.#buffer.set(bytes.subarray(at, at + taken), this.#have);
			at += taken;
			this.#have += taken;
			if (this.#have < HEADER_BYTES || this.#have < HEADER_BYTES + this.#length()) continue;
			const end = this.#have;
			this.#have = 0;
			onFrame({
				channel: this.#view.getUint16(0, true),
				type: this.#view.getUint8(2),
				payload: this.#buffer.subarray(HEADER_BYTES, end),
			});
		}
	}

	#length(): number {
		const length = this.#view.getUint32(4, true);
		if (length > MOST_FROM_AGENT) throw new AgentProtocolError(`a frame of ${length} bytes`);
		return length;
	}
}

/** A program to start. */
export interface SpawnRequest {
	/** Paths to try in turn, as execvp(3) tries PATH. */
	readonly candidates: readonly string[];
	readonly argv: readonly string[];
	readonly environment: readonly string[];
	readonly directory: string;
	readonly uid: number;
	readonly gid: number;
	/** Gives it a pseudo-terminal of this size, instead of three pipes. */
	readonly terminal?: { readonly rows: number; readonly columns: number };
	/** Gives it a terminal of the guest's, by its path; nothing of it comes over the channel. */
	readonly device?: string;
	/** Bytes of each output the host takes at first. */
	readonly credit: number;
}

const SPAWN_HEADER = 28;
const MOST_TEXTS = 4096;

/** @throws RangeError when there are too many words, or one holds a NUL */
export function encodeSpawn(request: SpawnRequest): Uint8Array {
	const { candidates, argv, environment, terminal, device } = request;
	const texts = [request.directory, device ?? "", ...candidates, ...argv, ...environment];
	if (texts.length - 2 > MOST_TEXTS) throw new RangeError(`${texts.length} words and variables: at most ${MOST_TEXTS}`);
	const bad = texts.find((text) => text.includes("\0"));
	if (bad !== undefined) throw new RangeError(`${JSON.stringify(bad)} holds a NUL character`);
	const encoded = encoder.encode(`${texts.join("\0")}\0`);
	if (SPAWN_HEADER + encoded.length > MOST_TO_AGENT) {
		throw new RangeError(`the command and its environment have ${encoded.length} bytes: at most ${MOST_TO_AGENT}`);
	}
	const payload = new Uint8Array(SPAWN_HEADER + encoded.length);
	const view = new DataView(payload.buffer);
	view.setUint32(0, (terminal ? 1 : 0) | (device === undefined ? 0 : 2), true);
	view.setUint32(4, request.uid, true);
	view.setUint32(8, request.gid, true);
	view.setUint16(12, terminal?.rows ?? 0, true);
	view.setUint16(14, terminal?.columns ?? 0, true);
	view.setUint32(16, request.credit, true);
	view.setUint16(20, candidates.length, true);
	view.setUint16(22, argv.length, true);
	view.setUint16(24, environment.length, true);
	payload.set(encoded, SPAWN_HEADER);
	return payload;
}

/** An argument of a system call: a number, bytes or a text to point at, or so many bytes to be filled. */
export type CallArgument = number | bigint | string | Uint8Array | { readonly output: number };

const CALL_HEADER = 64;
const MOST_OUTPUT = MOST_FROM_AGENT - HEADER_BYTES;

/** @throws RangeError for more than six arguments, or too many bytes */
export function encodeCall(number: number, args: readonly CallArgument[]): Uint8Array {
	if (args.length > 6) throw new RangeError("a system call has at most six arguments");
	const inputs = args.map((arg) =>
		typeof arg === "string" ? encoder.encode(`${arg}\0`) : arg instanceof Uint8Array ? arg : undefined,
	);
	const align8 = (size: number): number => Math.ceil(size / 8) * 8;
	const size = inputs.reduce((sum, input) => sum + align8(input?.length ?? 0), CALL_HEADER);
	if (size > MOST_TO_AGENT) throw new RangeError(`a system call with ${size} bytes: at most ${MOST_TO_AGENT}`);
	const payload = new Uint8Array(size);
	const view = new DataView(payload.buffer);
	let input = 0;
	let output = 0;
	for (const [i, arg] of args.entries()) {
		const bytes = inputs[i];
		let value: bigint;
		if (bytes !== undefined) {
			payload.set(bytes, CALL_HEADER + input);
			payload[8 + i] = 1;
			value = BigInt(input);
			input += align8(bytes.length);
		} else if (typeof arg === "object") {
			payload[8 + i] = 2;
			value = BigInt(output);
			output += align8((arg as { output: number }).output);
		} else value = BigInt(arg as number | bigint);
		view.setBigUint64(16 + 8 * i, BigInt.asUintN(64, value), true);
	}
	if (output > MOST_OUTPUT) throw new RangeError(`a system call that gives ${output} bytes: at most ${MOST_OUTPUT}`);
	view.setUint32(0, number, true);
	view.setUint32(4, output, true);
	return payload;
}
