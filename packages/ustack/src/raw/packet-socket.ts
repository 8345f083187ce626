import type { FilterProgram } from "@x/netchannel";
import { socketError } from "../errors.ts";
import type { Interface } from "../link/interface.ts";
import { get16 } from "../wire/bytes.ts";
import { ETHERNET_HEADER } from "../wire/constants.ts";
import { ByteBoundQueue, DEFAULT_QUEUE_BYTES } from "./queue.ts";

/** Options of {@link openPacketSocket}. */
export interface PacketSocketOptions {
	/** Only frames of this type; undefined for all (ETH_P_ALL). */
	etherType?: number;
	/** Only frames a filter accepts; see `compileFilter` of @x/netchannel. */
	filter?: FilterProgram;
	/** See what this host sends as well. @default true without an `etherType`, as with packet(7) */
	outgoing?: boolean;
	/** Bytes that may wait for {@link PacketSocket.receive}. @default 212_992 */
	queueBytes?: number;
	/** Something waits. Must not send from within; what it wants to send goes out with the next poll. */
	onReadable?: (socket: PacketSocket) => void;
}

/** A frame seen by a packet socket. */
export interface PacketFrame {
	/** From the link-layer header on. */
	readonly data: Uint8Array;
	readonly outgoing: boolean;
	/** Milliseconds, the stack's clock. */
	readonly at: number;
}

/** Frames of one interface. Made by {@link openPacketSocket}. */
export class PacketSocket {
	readonly iface: Interface;
	private readonly options: PacketSocketOptions;
	private readonly outgoing: boolean;
	private readonly queue: ByteBoundQueue<PacketFrame>;
	private readonly before: Interface["tap"];
	private readonly tap: NonNullable<Interface["tap"]>;
	closed = false;

	constructor(iface: Interface, options: PacketSocketOptions) {
		this.iface = iface;
		this.options = options;
		this.outgoing = options.outgoing ?? options.etherType === undefined;
		this.queue = new ByteBoundQueue(options.queueBytes ?? DEFAULT_QUEUE_BYTES);
		// Each tap calls the one before it; a closed one in the middle only passes on.
		this.before = iface.tap;
		this.tap = (frame, outgoing) => {
			this.before?.(frame, outgoing);
			if (!this.closed) this.see(frame, outgoing);
		};
		iface.tap = this.tap;
	}

	/** Frames dropped because nobody took the ones before. */
	get dropped(): number {
		return this.queue.dropped;
	}

	private see(frame: Uint8Array, outgoing: boolean): void {
		const { options } = this;
		if (outgoing && !this.outgoing) return;
		if (options.etherType !== undefined && this.typeOf(frame) !== options.etherType) return;
		if (options.filter !== undefined && !options.filter.matches(frame)) return;
		if (!this.queue.fits(frame.length)) return;
		this.queue.push({ data: frame.slice(), outgoing, at: this.iface.stack.now });
		options.onReadable?.(this);
	}

	private typeOf(frame: Uint8Array): number {
		if (this.iface.ethernet) return frame.length < ETHERNET_HEADER ? -1 : get16(frame, 12);
		return frame.length > 0 && frame[0]! >>> 4 === 6 ? 0x86dd : 0x0800;
	}

	/** The next frame; undefined when none waits. */
	receive(): PacketFrame | undefined {
		return this.queue.shift();
	}

	/**
	 * Sends a frame as it is, link-layer header included.
	 *
	 * @throws StackError `EMSGSIZE` beyond the interface's MTU, `EINVAL` for a frame without a header
	 */
	send(frame: Uint8Array): void {
		if (this.closed) throw socketError("ENOTCONN", "send");
		const header = this.iface.ethernet ? ETHERNET_HEADER : 0;
		if (frame.length <= header) throw socketError("EINVAL", "send");
		if (frame.length > this.iface.mtu + header) throw socketError("EMSGSIZE", "send");
		this.iface.sendFrame(frame, undefined);
	}

	close(): void {
		if (this.closed) return;
		this.closed = true;
		this.queue.clear();
		if (this.iface.tap === this.tap) this.iface.tap = this.before;
	}
}

/** Opens a socket on an interface's frames, beside what the stack does with them. */
export function openPacketSocket(iface: Interface, options: PacketSocketOptions = {}): PacketSocket {
	return new PacketSocket(iface, options);
}
