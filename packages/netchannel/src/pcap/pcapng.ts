import {
	BLOCK,
	BlockReader,
	type CaptureBlock,
	type CaptureOption,
	encodeBlock,
	encodeOptions,
	readOptions,
} from "./blocks.ts";
import { CaptureError } from "./errors.ts";
import type { CapturedPacket } from "./types.ts";

const OPTION = {
	comment: 1,
	name: 2,
	resolution: 9,
	offset: 14,
	flags: 2,
	dropCount: 4,
	application: 4,
	received: 4,
	dropped: 5,
} as const;

/** An interface as a file describes it. */
export interface CaptureInterface {
	readonly linkType: number;
	/** Most bytes kept of a packet, 0 for all. */
	readonly snapLength: number;
	readonly name: string | undefined;
	/** Timestamp units in a second. */
	readonly unitsPerSecond: bigint;
	/** Seconds to add to every timestamp. */
	readonly offsetSeconds: bigint;
}

const decoder: TextDecoder = new TextDecoder();
const encoder: TextEncoder = new TextEncoder();
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Reads an interface description block. @throws CaptureError */
export function readInterface(block: CaptureBlock): CaptureInterface {
	if (block.body.length < 8)
		throw new CaptureError("ERR_CAPTURE_CORRUPT", block.offset, "an interface block is too short");
	const view = viewOf(block.body);
	const options = readOptions(block, 8);
	const value = (code: number): Uint8Array | undefined => options.find((option) => option.code === code)?.value;
	const resolution = value(OPTION.resolution)?.[0] ?? 6;
	const offset = value(OPTION.offset);
	const name = value(OPTION.name);
	return {
		linkType: view.getUint16(0, block.littleEndian),
		snapLength: view.getUint32(4, block.littleEndian),
		name: name === undefined ? undefined : decoder.decode(name),
		unitsPerSecond: resolution & 0x80 ? 2n ** BigInt(resolution & 0x7f) : 10n ** BigInt(resolution),
		offsetSeconds: offset?.length === 8 ? viewOf(offset).getBigInt64(0, block.littleEndian) : 0n,
	};
}

/** Reads a pcapng file that arrives in pieces, packet by packet or block by block. */
export class PcapngReader {
	/** The current section's interfaces. */
	readonly interfaces: CaptureInterface[] = [];
	private readonly blocks = new BlockReader();

	/**
	 * Emits the packets that `chunk` completes, and every block, understood or not, before them.
	 *
	 * @throws CaptureError
	 */
	push(chunk: Uint8Array, emit: (packet: CapturedPacket) => void, onBlock?: (block: CaptureBlock) => void): void {
		this.blocks.push(chunk, (block) => {
			onBlock?.(block);
			if (block.type === BLOCK.section) this.interfaces.length = 0;
			else if (block.type === BLOCK.interface) this.interfaces.push(readInterface(block));
			else if (block.type === BLOCK.packet) emit(this.readPacket(block));
			else if (block.type === BLOCK.simplePacket) emit(this.readSimplePacket(block));
		});
	}

	/** @throws CaptureError `ERR_CAPTURE_TRUNCATED` */
	end(): void {
		this.blocks.end();
	}

	private readPacket(block: CaptureBlock): CapturedPacket {
		const { body, littleEndian } = block;
		if (body.length < 20) throw new CaptureError("ERR_CAPTURE_CORRUPT", block.offset, "a packet block is too short");
		const view = viewOf(body);
		const interfaceId = view.getUint32(0, littleEndian);
		const kept = view.getUint32(12, littleEndian);
		if (20 + kept > body.length) {
			throw new CaptureError("ERR_CAPTURE_CORRUPT", block.offset + 20, `a packet of ${kept} bytes runs over its block`);
		}
		const description = this.interfaceOf(interfaceId, block);
		const units = (BigInt(view.getUint32(4, littleEndian)) << 32n) | BigInt(view.getUint32(8, littleEndian));
		const options = readOptions(block, 20 + Math.ceil(kept / 4) * 4);
		const flags = options.find((option) => option.code === OPTION.flags)?.value;
		const way = flags?.length === 4 ? viewOf(flags).getUint32(0, littleEndian) & 3 : 0;
		return {
			timestampNs: (units * 1_000_000_000n) / description.unitsPerSecond + description.offsetSeconds * 1_000_000_000n,
			bytes: body.subarray(20, 20 + kept),
			originalLength: view.getUint32(16, littleEndian),
			linkType: description.linkType,
			interfaceId,
			interfaceName: description.name,
			direction: way === 1 ? "in" : way === 2 ? "out" : undefined,
			comments: options
				.filter((option) => option.code === OPTION.comment)
				.map((option) => decoder.decode(option.value)),
		};
	}

	private readSimplePacket(block: CaptureBlock): CapturedPacket {
		if (block.body.length < 4)
			throw new CaptureError("ERR_CAPTURE_CORRUPT", block.offset, "a packet block is too short");
		const description = this.interfaceOf(0, block);
		const originalLength = viewOf(block.body).getUint32(0, block.littleEndian);
		const kept = Math.min(originalLength, description.snapLength || originalLength);
		if (4 + kept > block.body.length) {
			throw new CaptureError("ERR_CAPTURE_CORRUPT", block.offset, `a packet of ${kept} bytes runs over its block`);
		}
		return {
			timestampNs: 0n,
			bytes: block.body.subarray(4, 4 + kept),
			originalLength,
			linkType: description.linkType,
			interfaceId: 0,
			interfaceName: description.name,
			direction: undefined,
			comments: [],
		};
	}

	private interfaceOf(id: number, block: CaptureBlock): CaptureInterface {
		const found = this.interfaces[id];
		if (found === undefined) {
			throw new CaptureError(
				"ERR_CAPTURE_CORRUPT",
				block.offset,
				`a packet of interface ${id}, of which there is no description`,
			);
		}
		return found;
	}
}

/** What {@link PcapngWriter.addInterface} describes. */
export interface CaptureInterfaceOptions {
	linkType: number;
	name?: string;
	/** @default 262144 */
	snapLength?: number;
}

/** Counters of a statistics block. */
export interface CaptureStatistics {
	/** Packets the interface saw. */
	received: bigint;
	/** Packets it saw and did not record. */
	dropped: bigint;
}

/** Writes a pcapng file, little-endian, with nanosecond timestamps; every method returns the bytes to append. */
export class PcapngWriter {
	private readonly snapLengths: number[] = [];

	/** The section header a file begins with. */
	header(application = "@x/netchannel"): Uint8Array {
		const fixed = new Uint8Array(16);
		const view = viewOf(fixed);
		view.setUint32(0, 0x1a2b3c4d, true);
		view.setUint16(4, 1, true);
		view.setBigInt64(8, -1n, true);
		return this.block(BLOCK.section, fixed, [{ code: OPTION.application, value: encoder.encode(application) }]);
	}

	/** Describes the next interface; its packets name it by the number returned. */
	addInterface(options: CaptureInterfaceOptions): { id: number; bytes: Uint8Array } {
		const { linkType, name, snapLength = 262144 } = options;
		const fixed = new Uint8Array(8);
		viewOf(fixed).setUint16(0, linkType, true);
		viewOf(fixed).setUint32(4, snapLength, true);
		const id = this.snapLengths.push(snapLength) - 1;
		const named = name === undefined ? [] : [{ code: OPTION.name, value: encoder.encode(name) }];
		return {
			id,
			bytes: this.block(BLOCK.interface, fixed, [...named, { code: OPTION.resolution, value: Uint8Array.of(9) }]),
		};
	}

	/** A packet; `direction` as seen by the interface. */
	packet(
		interfaceId: number,
		timestampNs: bigint,
		bytes: Uint8Array,
		direction?: "in" | "out",
		originalLength: number = bytes.length,
	): Uint8Array {
		const kept = Math.min(bytes.length, this.snapLengths[interfaceId]!);
		const padded = (kept + 3) & ~3;
		const total = 12 + 20 + padded + (direction === undefined ? 0 : 12);
		const block = new Uint8Array(total);
		const view = viewOf(block);
		view.setUint32(0, BLOCK.packet, true);
		view.setUint32(4, total, true);
		view.setUint32(8, interfaceId, true);
		view.setUint32(12, Number((timestampNs >> 32n) & 0xffffffffn), true);
		view.setUint32(16, Number(timestampNs & 0xffffffffn), true);
		view.setUint32(20, kept, true);
		view.setUint32(24, originalLength, true);
		block.set(bytes.subarray(0, kept), 28);
		if (direction !== undefined) {
			view.setUint16(28 + padded, OPTION.flags, true);
			view.setUint16(30 + padded, 4, true);
			view.setUint32(32 + padded, direction === "in" ? 1 : 2, true);
		}
		view.setUint32(total - 4, total, true);
		return block;
	}

	/** How many packets an interface saw and lost. */
	statistics(interfaceId: number, timestampNs: bigint, { received, dropped }: CaptureStatistics): Uint8Array {
		const fixed = new Uint8Array(12);
		const view = viewOf(fixed);
		view.setUint32(0, interfaceId, true);
		view.setUint32(4, Number((timestampNs >> 32n) & 0xffffffffn), true);
		view.setUint32(8, Number(timestampNs & 0xffffffffn), true);
		const count = (value: bigint): Uint8Array => {
			const bytes = new Uint8Array(8);
			viewOf(bytes).setBigUint64(0, value, true);
			return bytes;
		};
		return this.block(BLOCK.statistics, fixed, [
			{ code: OPTION.received, value: count(received) },
			{ code: OPTION.dropped, value: count(dropped) },
		]);
	}

	private block(type: number, fixed: Uint8Array, options: readonly CaptureOption[]): Uint8Array {
		const encoded = encodeOptions(options, true);
		const body = new Uint8Array(fixed.length + encoded.length);
		body.set(fixed);
		body.set(encoded, fixed.length);
		return encodeBlock({ type, body, littleEndian: true });
	}
}
