import { ChunkBuffer } from "./chunks.ts";
import { CaptureError } from "./errors.ts";
import { type CapturedPacket, LONGEST_RECORD } from "./types.ts";

/** A classic capture file's header (draft-ietf-opsawg-pcap, 4). */
export interface PcapHeader {
	readonly littleEndian: boolean;
	/** Fractions of a second are nanoseconds, not microseconds. */
	readonly nanoseconds: boolean;
	readonly major: number;
	readonly minor: number;
	/** The two words that used to be the time zone and its accuracy. */
	readonly reserved: readonly [number, number];
	readonly snapLength: number;
	/** LINKTYPE_ in the low 16 bits, frame check sequence information above. */
	readonly linkType: number;
}

const MICRO = 0xa1b2c3d4;
const NANO = 0xa1b23c4d;

/** Whether a file begins like a classic capture. */
export function isPcap(first: Uint8Array): boolean {
	const view = new DataView(first.buffer, first.byteOffset, first.byteLength);
	return [true, false].some((little) => [MICRO, NANO].includes(view.getUint32(0, little)));
}

/** A header for a new file: nanoseconds, little-endian. */
export function createPcapHeader(linkType: number, snapLength = 262144): PcapHeader {
	return { littleEndian: true, nanoseconds: true, major: 2, minor: 4, reserved: [0, 0], snapLength, linkType };
}

/** The 24 bytes a file begins with. */
export function encodePcapHeader(header: PcapHeader): Uint8Array {
	const bytes = new Uint8Array(24);
	const view = new DataView(bytes.buffer);
	const little = header.littleEndian;
	view.setUint32(0, header.nanoseconds ? NANO : MICRO, little);
	view.setUint16(4, header.major, little);
	view.setUint16(6, header.minor, little);
	view.setUint32(8, header.reserved[0], little);
	view.setUint32(12, header.reserved[1], little);
	view.setUint32(16, header.snapLength, little);
	view.setUint32(20, header.linkType, little);
	return bytes;
}

/** A packet's record: its 16-byte header and bytes. */
export function encodePcapPacket(
	header: PcapHeader,
	timestampNs: bigint,
	bytes: Uint8Array,
	originalLength: number = bytes.length,
): Uint8Array {
	const kept = Math.min(bytes.length, header.snapLength);
	const record = new Uint8Array(16 + kept);
	const view = new DataView(record.buffer);
	const little = header.littleEndian;
	view.setUint32(0, Number(timestampNs / 1_000_000_000n), little);
	const fraction = Number(timestampNs % 1_000_000_000n);
	view.setUint32(4, header.nanoseconds ? fraction : Math.floor(fraction / 1000), little);
	view.setUint32(8, kept, little);
	view.setUint32(12, originalLength, little);
	record.set(bytes.subarray(0, kept), 16);
	return record;
}

/** Reads a classic capture that arrives in pieces. */
export class PcapReader {
	/** Known once 24 bytes were read. */
	header: PcapHeader | undefined = undefined;
	private readonly buffer = new ChunkBuffer();

	/**
	 * Emits the packets that `chunk` completes.
	 *
	 * @throws CaptureError
	 */
	push(chunk: Uint8Array, emit: (packet: CapturedPacket) => void): void {
		const { buffer } = this;
		buffer.push(chunk);
		if (this.header === undefined) {
			if (buffer.length < 24) {
				buffer.detach();
				return;
			}
			this.header = this.readHeader(buffer.peek(24));
			buffer.skip(24);
		}
		const { littleEndian, nanoseconds, linkType } = this.header;
		while (buffer.length >= 16) {
			const head = buffer.peek(16);
			const view = new DataView(head.buffer, head.byteOffset, 16);
			const kept = view.getUint32(8, littleEndian);
			if (kept > LONGEST_RECORD) {
				throw new CaptureError("ERR_CAPTURE_CORRUPT", buffer.offset, `a packet of ${kept} bytes is beyond any capture`);
			}
			if (buffer.length < 16 + kept) break;
			const fraction = BigInt(view.getUint32(4, littleEndian));
			emit({
				timestampNs:
					BigInt(view.getUint32(0, littleEndian)) * 1_000_000_000n + (nanoseconds ? fraction : fraction * 1000n),
				bytes: buffer.peek(16 + kept).subarray(16),
				originalLength: view.getUint32(12, littleEndian),
				linkType: linkType & 0xffff,
				interfaceId: 0,
				interfaceName: undefined,
				direction: undefined,
				comments: [],
			});
			buffer.skip(16 + kept);
		}
		buffer.detach();
	}

	/** @throws CaptureError `ERR_CAPTURE_TRUNCATED` when the file ends inside a record */
	end(): void {
		if (this.header === undefined || this.buffer.length > 0) {
			throw new CaptureError("ERR_CAPTURE_TRUNCATED", this.buffer.offset, "the file ends in the middle of a record");
		}
	}

	private readHeader(bytes: Uint8Array): PcapHeader {
		const view = new DataView(bytes.buffer, bytes.byteOffset, 24);
		const littleEndian = [MICRO, NANO].includes(view.getUint32(0, true));
		const magic = view.getUint32(0, littleEndian);
		if (magic !== MICRO && magic !== NANO) {
			throw new CaptureError("ERR_CAPTURE_FORMAT", 0, "this is no pcap file (its first word is no magic number)");
		}
		const major = view.getUint16(4, littleEndian);
		const minor = view.getUint16(6, littleEndian);
		if (major !== 2)
			throw new CaptureError("ERR_CAPTURE_VERSION", 4, `version ${major}.${minor}: only 2.x can be read`);
		return {
			littleEndian,
			nanoseconds: magic === NANO,
			major,
			minor,
			reserved: [view.getUint32(8, littleEndian), view.getUint32(12, littleEndian)],
			snapLength: view.getUint32(16, littleEndian),
			linkType: view.getUint32(20, littleEndian),
		};
	}
}
