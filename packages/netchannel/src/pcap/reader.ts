import { BLOCK } from "./blocks.ts";
import { ChunkBuffer } from "./chunks.ts";
import { CaptureError } from "./errors.ts";
import { isPcap, PcapReader } from "./pcap.ts";
import { PcapngReader } from "./pcapng.ts";
import type { CapturedPacket } from "./types.ts";

/** Reads a capture of either format, told apart by its first bytes. */
export class CaptureReader {
	private readonly start = new ChunkBuffer();
	private reader: PcapReader | PcapngReader | undefined = undefined;

	/** Known once four bytes were read. */
	get format(): "pcap" | "pcapng" | undefined {
		return this.reader === undefined ? undefined : this.reader instanceof PcapReader ? "pcap" : "pcapng";
	}

	/**
	 * Emits the packets that `chunk` completes; a packet's bytes are valid during the call.
	 *
	 * @throws CaptureError
	 */
	push(chunk: Uint8Array, emit: (packet: CapturedPacket) => void): void {
		if (this.reader !== undefined) {
			this.reader.push(chunk, emit);
			return;
		}
		this.start.push(chunk);
		if (this.start.length < 4) {
			this.start.detach();
			return;
		}
		const first = this.start.peek(4);
		if (isPcap(first)) this.reader = new PcapReader();
		else if (new DataView(first.buffer, first.byteOffset).getUint32(0) === BLOCK.section)
			this.reader = new PcapngReader();
		else throw new CaptureError("ERR_CAPTURE_FORMAT", 0, "this is neither a pcap nor a pcapng file");
		this.reader.push(this.start.peek(this.start.length), emit);
	}

	/** @throws CaptureError `ERR_CAPTURE_TRUNCATED` when the file ends inside a record */
	end(): void {
		if (this.reader === undefined)
			throw new CaptureError("ERR_CAPTURE_TRUNCATED", this.start.length, "the file ends before its header does");
		this.reader.end();
	}
}
