import { LinkError } from "./errors.ts";

/** Opcodes (RFC 6455, 5.2). */
export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** Bytes {@link writeFrameHeader} takes at most. */
export const LONGEST_FRAME_HEADER = 14;

/** Writes a final frame's header at `at`; a client's has the four mask bytes. Returns where the payload goes. */
export function writeFrameHeader(
	target: Uint8Array,
	at: number,
	opcode: number,
	length: number,
	mask?: Uint8Array,
): number {
	const masked = mask === undefined ? 0 : 0x80;
	let next = at;
	target[next++] = 0x80 | opcode;
	if (length < 126) target[next++] = masked | length;
	else if (length < 65536) {
		target[next++] = masked | 126;
		target[next++] = length >> 8;
		target[next++] = length;
	} else {
		target[next++] = masked | 127;
		target.fill(0, next, next + 4);
		target[next + 4] = length >>> 24;
		target[next + 5] = length >>> 16;
		target[next + 6] = length >>> 8;
		target[next + 7] = length;
		next += 8;
	}
	if (mask !== undefined) {
		target.set(mask, next);
		next += 4;
	}
	return next;
}

/** Applies or removes a mask in place. */
export function applyMask(bytes: Uint8Array, mask: Uint8Array): void {
	for (let index = 0; index < bytes.length; index++) bytes[index]! ^= mask[index & 3]!;
}

const protocolError = (what: string): LinkError => new LinkError("ERR_LINK_PROTOCOL", `the WebSocket peer ${what}`);

/** Takes messages out of a WebSocket's byte stream, fragmented ones put together. */
export class WebSocketDeframer {
	private readonly fromClient: boolean;
	private readonly longest: number;
	private held: Uint8Array = new Uint8Array(0);
	private parts: Uint8Array[] = [];
	private partsLength = 0;
	private partsOpcode = 0;

	/**
	 * @param fromClient - whether the peer is the client, whose frames must be masked
	 * @param longest - bytes a message may have
	 */
	constructor(fromClient: boolean, longest: number) {
		this.fromClient = fromClient;
		this.longest = longest;
	}

	/**
	 * Emits the messages and control frames that `chunk` completes; their bytes are valid during the call.
	 *
	 * @throws LinkError `ERR_LINK_PROTOCOL`
	 */
	push(chunk: Uint8Array, emit: (opcode: number, payload: Uint8Array) => void): void {
		let data = chunk;
		if (this.held.length > 0) {
			data = new Uint8Array(this.held.length + chunk.length);
			data.set(this.held);
			data.set(chunk, this.held.length);
		}
		let at = 0;
		for (;;) {
			const end = this.frame(data, at, emit);
			if (end < 0) break;
			at = end;
		}
		this.held = data.slice(at);
	}

	/** Handles the frame at `at`; returns its end, or -1 when it is not whole. */
	private frame(data: Uint8Array, at: number, emit: (opcode: number, payload: Uint8Array) => void): number {
		if (data.length < at + 2) return -1;
		const first = data[at]!;
		const masked = (data[at + 1]! & 0x80) !== 0;
		let length = data[at + 1]! & 0x7f;
		let next = at + 2;
		if (length === 126) {
			if (data.length < next + 2) return -1;
			length = (data[next]! << 8) | data[next + 1]!;
			next += 2;
		} else if (length === 127) {
			if (data.length < next + 8) return -1;
			const view = new DataView(data.buffer, data.byteOffset + next, 8);
			length = view.getUint32(0) * 2 ** 32 + view.getUint32(4);
			next += 8;
		}
		const opcode = first & 15;
		if ((first & 0x70) !== 0) throw protocolError("set reserved bits without an extension");
		if (masked !== this.fromClient) throw protocolError(masked ? "masked a server's frame" : "sent an unmasked frame");
		if (opcode >= 8 && (length > 125 || (first & 0x80) === 0))
			throw protocolError("sent a control frame that is too long or in parts");
		if (length + this.partsLength > this.longest) throw protocolError(`sent a message of over ${this.longest} bytes`);
		if (masked) next += 4;
		const end = next + length;
		if (data.length < end) return -1;
		const payload = data.slice(next, end);
		if (masked) applyMask(payload, data.subarray(next - 4, next));
		this.message(opcode, (first & 0x80) !== 0, payload, emit);
		return end;
	}

	private message(
		opcode: number,
		final: boolean,
		payload: Uint8Array,
		emit: (opcode: number, payload: Uint8Array) => void,
	): void {
		if (opcode >= 8) {
			emit(opcode, payload);
			return;
		}
		const continues = opcode === OPCODE.continuation;
		if (continues !== this.parts.length > 0) throw protocolError("mixed up the parts of messages");
		if (!continues && opcode !== OPCODE.text && opcode !== OPCODE.binary)
			throw protocolError(`sent the unknown opcode ${opcode}`);
		if (final && !continues) {
			emit(opcode, payload);
			return;
		}
		if (!continues) this.partsOpcode = opcode;
		this.parts.push(payload);
		this.partsLength += payload.length;
		if (this.parts.length > 1024) throw protocolError("cut a message into over 1024 parts");
		if (!final) return;
		const whole = new Uint8Array(this.partsLength);
		let at = 0;
		for (const part of this.parts) {
			whole.set(part, at);
			at += part.length;
		}
		this.parts = [];
		this.partsLength = 0;
		emit(this.partsOpcode, whole);
	}
}
