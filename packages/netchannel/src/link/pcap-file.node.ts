import { once } from "node:events";
import { createReadStream, createWriteStream, type ReadStream, type WriteStream } from "node:fs";
import { createPcapHeader, encodePcapHeader, encodePcapPacket } from "../pcap/pcap.ts";
import { PcapngWriter } from "../pcap/pcapng.ts";
import { CaptureReader } from "../pcap/reader.ts";
import { LINKTYPE_ETHERNET, LINKTYPE_RAW_IP } from "../pcap/types.ts";
import { LinkBase, type LinkOptions } from "./base.ts";
import { wallClockNs } from "./clock.node.ts";
import type { Link } from "./link.ts";
import { fromSystemError } from "./system-error.ts";

/** Options of {@link openPcapSink}. */
export interface PcapSinkOptions extends LinkOptions {
	/** @default by the file's name: `.pcap` and `.cap` are classic, all else is pcapng */
	format?: "pcap" | "pcapng";
	/** Nanoseconds since 1970 for each frame. @default the wall clock */
	now?: () => bigint;
	/** Bytes that may wait for the disk before `send` returns false. @default 2 ** 20 */
	highWater?: number;
}

class PcapSource extends LinkBase {
	onCarrier: ((up: boolean) => void) | undefined = undefined;
	private readonly stream: ReadStream;
	private ended = false;

	constructor(stream: ReadStream, options: LinkOptions) {
		super(options);
		this.stream = stream;
		const reader = new CaptureReader();
		const wanted = this.medium === "ethernet" ? LINKTYPE_ETHERNET : LINKTYPE_RAW_IP;
		stream.on("data", (chunk) => {
			try {
				reader.push(chunk as Buffer, (packet) => {
					if (packet.linkType === wanted) this.deliver(packet.bytes);
					else this.rxDropped++;
				});
			} catch (error) {
				this.fail(error as Error);
			}
		});
		stream.on("end", () => {
			try {
				reader.end();
			} catch (error) {
				this.fail(error as Error);
				return;
			}
			this.ended = true;
			this.call(this.onCarrier, false);
		});
		stream.on("error", (error) => this.fail(fromSystemError(error, `cannot read ${String(stream.path)}`)));
		stream.pause();
	}

	get carrier(): boolean {
		return !this.ended;
	}

	protected override receiverChanged(): void {
		if (this.onFrame === undefined) this.stream.pause();
		else this.stream.resume();
	}

	protected override transmit(frame: Uint8Array): boolean {
		return this.dropSent(frame);
	}

	protected override shutdown(): void {
		this.stream.destroy();
	}
}

class PcapSink extends LinkBase {
	private readonly stream: WriteStream;
	private readonly highWater: number;
	private readonly encode: (frame: Uint8Array) => Uint8Array;

	constructor(stream: WriteStream, options: PcapSinkOptions) {
		super(options);
		this.stream = stream;
		this.highWater = options.highWater ?? 2 ** 20;
		const now = options.now ?? wallClockNs;
		const linkType = this.medium === "ethernet" ? LINKTYPE_ETHERNET : LINKTYPE_RAW_IP;
		const classic =
			options.format === "pcap" || (options.format === undefined && /\.(pcap|cap)$/.test(String(stream.path)));
		if (classic) {
			const header = createPcapHeader(linkType);
			stream.write(encodePcapHeader(header));
			this.encode = (frame) => encodePcapPacket(header, now(), frame);
		} else {
			const writer = new PcapngWriter();
			stream.write(writer.header());
			const { id, bytes } = writer.addInterface({ linkType });
			stream.write(bytes);
			this.encode = (frame) => writer.packet(id, now(), frame);
		}
		stream.on("drain", () => this.writable());
		stream.on("error", (error) => this.fail(fromSystemError(error, `cannot write ${String(stream.path)}`)));
	}

	protected override transmit(frame: Uint8Array): boolean {
		if (this.stream.writableLength > this.highWater) return false;
		this.stream.write(this.encode(frame));
		return true;
	}

	protected override shutdown(): void {
		this.stream.end();
	}
}

/**
 * A capture file as a link that receives: every packet of it, as fast as it is read, from when `onFrame` is set;
 * `carrier` goes down at its end. What is sent to it is dropped.
 *
 * @throws LinkError `ERR_LINK_NOT_FOUND`, `ERR_LINK_PERMISSION`; a damaged file is an error event, a CaptureError
 */
export async function openPcapSource(path: string, options: LinkOptions = {}): Promise<Link> {
	const stream = createReadStream(path, { highWaterMark: 2 ** 18 });
	try {
		await once(stream, "open");
	} catch (error) {
		throw fromSystemError(error, `cannot read ${path}`);
	}
	return new PcapSource(stream, options);
}

/** A new capture file as a link that sends: every frame sent to it is recorded. */
export async function openPcapSink(path: string, options: PcapSinkOptions = {}): Promise<Link> {
	const stream = createWriteStream(path);
	try {
		await once(stream, "open");
	} catch (error) {
		throw fromSystemError(error, `cannot write ${path}`);
	}
	return new PcapSink(stream, options);
}
