import { ChunkBuffer } from "./chunks.ts";
import { CaptureError } from "./errors.ts";
import { LONGEST_RECORD } from "./types.ts";

/** Block types (draft-ietf-opsawg-pcapng, 4). */
export const BLOCK = {
	section: 0x0a0d0d0a,
	interface: 1,
	simplePacket: 3,
	nameResolution: 4,
	statistics: 5,
	packet: 6,
} as const;

/** An option as stored: a number and its bytes, without padding. */
export interface CaptureOption {
	readonly code: number;
	readonly value: Uint8Array;
}

/**
 * A block of a pcapng file, of any type: its body as stored, in the section's byte order. What this package understands
 * it reads out of the body; what it does not, it carries along unchanged.
 */
export interface CaptureBlock {
	readonly type: number;
	readonly body: Uint8Array;
	/** Byte order of the section it belongs to. */
	readonly littleEndian: boolean;
	/** Where in the file it began. */
	readonly offset: number;
}

const ORDER_MAGIC = 0x1a2b3c4d;

/** A block as it lies in a file: type, length, body, length. */
export function encodeBlock(block: Pick<CaptureBlock, "type" | "body" | "littleEndian">): Uint8Array {
	const total = 12 + Math.ceil(block.body.length / 4) * 4;
	const bytes = new Uint8Array(total);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, block.type, block.littleEndian);
	view.setUint32(4, total, block.littleEndian);
	bytes.set(block.body, 8);
	view.setUint32(total - 4, total, block.littleEndian);
	return bytes;
}

/** Options as they lie in a block: each padded to 4 bytes, an end mark behind them. */
export function encodeOptions(options: readonly CaptureOption[], littleEndian: boolean): Uint8Array {
	if (options.length === 0) return new Uint8Array(0);
	const padded = (option: CaptureOption): number => Math.ceil(option.value.length / 4) * 4;
	const bytes = new Uint8Array(options.reduce((sum, option) => sum + 4 + padded(option), 4));
	const view = new DataView(bytes.buffer);
	let at = 0;
	for (const option of options) {
		view.setUint16(at, option.code, littleEndian);
		view.setUint16(at + 2, option.value.length, littleEndian);
		bytes.set(option.value, at + 4);
		at += 4 + padded(option);
	}
	return bytes;
}

/** The options from `at` on; stops at the end mark. @throws CaptureError when one runs over the block */
export function readOptions(block: CaptureBlock, at: number): CaptureOption[] {
	const { body, littleEndian } = block;
	const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
	const options: CaptureOption[] = [];
	let next = at;
	while (next + 4 <= body.length) {
		const code = view.getUint16(next, littleEndian);
		const length = view.getUint16(next + 2, littleEndian);
		if (code === 0) break;
		if (next + 4 + length > body.length) {
			throw new CaptureError(
				"ERR_CAPTURE_CORRUPT",
				block.offset + 8 + next,
				`option ${code} of ${length} bytes runs over its block`,
			);
		}
		options.push({ code, value: body.subarray(next + 4, next + 4 + length) });
		next += 4 + Math.ceil(length / 4) * 4;
	}
	return options;
}

/** Cuts a pcapng file that arrives in pieces into blocks. */
export class BlockReader {
	private readonly buffer = new ChunkBuffer();
	private littleEndian: boolean | undefined = undefined;

	/**
	 * Emits the blocks that `chunk` completes; a block's body is valid during the call.
	 *
	 * @throws CaptureError
	 */
	push(chunk: Uint8Array, emit: (block: CaptureBlock) => void): void {
		const { buffer } = this;
		buffer.push(chunk);
		while (buffer.length >= 12) {
			const head = buffer.peek(12);
			const view = new DataView(head.buffer, head.byteOffset, 12);
			// The section header's type reads the same in both byte orders.
			const type = view.getUint32(0, this.littleEndian ?? true);
			if (type === BLOCK.section) this.littleEndian = this.orderOf(view);
			const { littleEndian } = this;
			if (littleEndian === undefined) {
				throw new CaptureError(
					"ERR_CAPTURE_FORMAT",
					buffer.offset,
					"this is no pcapng file (it begins with no section header)",
				);
			}
			const total = view.getUint32(4, littleEndian);
			if (total < 12 || total % 4 !== 0 || total > LONGEST_RECORD) {
				throw new CaptureError("ERR_CAPTURE_CORRUPT", buffer.offset + 4, `a block says it has ${total} bytes`);
			}
			if (buffer.length < total) break;
			const whole = buffer.peek(total);
			const again = new DataView(whole.buffer, whole.byteOffset, total).getUint32(total - 4, littleEndian);
			if (again !== total) {
				throw new CaptureError(
					"ERR_CAPTURE_CORRUPT",
					buffer.offset + total - 4,
					`a block ends with length ${again}, began with ${total}`,
				);
			}
			const block = { type, body: whole.subarray(8, total - 4), littleEndian, offset: buffer.offset };
			if (type === BLOCK.section) this.requireVersion(block);
			emit(block);
			buffer.skip(total);
		}
		buffer.detach();
	}

	/** @throws CaptureError `ERR_CAPTURE_TRUNCATED` when the file ends inside a block */
	end(): void {
		if (this.littleEndian === undefined || this.buffer.length > 0) {
			throw new CaptureError("ERR_CAPTURE_TRUNCATED", this.buffer.offset, "the file ends in the middle of a block");
		}
	}

	private orderOf(view: DataView): boolean {
		for (const little of [true, false]) if (view.getUint32(8, little) === ORDER_MAGIC) return little;
		throw new CaptureError("ERR_CAPTURE_FORMAT", this.buffer.offset + 8, "a section header has no byte-order mark");
	}

	private requireVersion({ body, littleEndian, offset }: CaptureBlock): void {
		if (body.length < 16) throw new CaptureError("ERR_CAPTURE_CORRUPT", offset, "a section header is too short");
		const major = new DataView(body.buffer, body.byteOffset).getUint16(4, littleEndian);
		if (major !== 1) throw new CaptureError("ERR_CAPTURE_VERSION", offset + 12, `version ${major}: only 1 can be read`);
	}
}
