import type { Offload } from "../link/link.ts";
import { readVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from "../link/vnet-header.ts";
import type { RingConsumer } from "../ring/consumer.ts";
import type { RingHandle } from "../ring/layout.ts";
import type { RingProducer } from "../ring/producer.ts";
import { openConsumer, openProducer } from "../ring/ring.ts";
import type { RingStats } from "../ring/stats.ts";
import { ChannelError } from "./errors.ts";

/**
 * How a channel gives packets to its user. `copy`: in memory of the user's own. `view`: in place in the ring, until the
 * next receive. `mapped`: in place in the link's own memory, during the callback. `nat`: not at all; they are rewritten
 * and sent on.
 */
export type ChannelType = "copy" | "view" | "mapped" | "nat";

/** A received packet: its bytes, and what of it the sender left unfinished. */
export interface Packet {
	readonly bytes: Uint8Array;
	readonly offload: Offload | undefined;
}

/** Counters of a channel. */
export interface ChannelStats {
	/** Packets the classifier gave to this channel, those it had to drop included. */
	readonly packets: number;
	readonly bytes: number;
	/** Packets lost because the channel was full. */
	readonly dropped: number;
	/** Packets sent through it. */
	readonly sent: number;
	readonly sentBytes: number;
	/** Packets waiting now. */
	readonly waiting: number;
}

/** What identifies a channel to another thread; structured-cloneable. Opened with {@link openChannel}, once. */
export interface ChannelHandle {
	readonly type: "copy" | "view";
	readonly medium: "ethernet" | "ip";
	readonly receive: RingHandle;
	readonly transmit: RingHandle;
}

/** Options of a wait for a packet. */
export interface ReceiveOptions {
	/** Milliseconds; without it the wait has no end. */
	timeoutMs?: number;
	signal?: AbortSignal;
}

/** Meta bit of a record that begins with a virtio-net header. */
const WITH_HEADER = 1;

/** Puts a packet in a ring, its offload before it. False when there is no room. */
export function pushPacket(producer: RingProducer, bytes: Uint8Array, offload: Offload | undefined): boolean {
	if (offload === undefined) return producer.push(bytes, 0);
	const at = producer.reserve(VNET_HEADER_BYTES + bytes.length);
	if (at < 0) return false;
	writeVnetHeader(producer.bytes, at, offload);
	producer.bytes.set(bytes, at + VNET_HEADER_BYTES);
	producer.commit(VNET_HEADER_BYTES + bytes.length, WITH_HEADER);
	return true;
}

/** Takes the packet the consumer stands at apart, in place. */
export function recordPacket(consumer: RingConsumer): Packet {
	const record = consumer.record();
	if ((consumer.meta & WITH_HEADER) === 0 || record.length < VNET_HEADER_BYTES)
		return { bytes: record, offload: undefined };
	return { bytes: record.subarray(VNET_HEADER_BYTES), offload: readVnetHeader(record, 0) };
}

/**
 * The receiving side every channel with a ring shares, whether it is used in the thread that classifies or in another.
 */
export abstract class ChannelEnd {
	readonly type: "copy" | "view";
	protected readonly consumer: RingConsumer;
	protected closed = false;
	private batch: ((packets: Packet[]) => void) | undefined = undefined;
	private pumping = false;

	constructor(type: "copy" | "view", consumer: RingConsumer) {
		this.type = type;
		this.consumer = consumer;
	}

	/** Called with an exception of {@link onBatch}; without it the exception is the host's. */
	onError: ((error: Error) => void) | undefined = undefined;

	/**
	 * Called with up to 64 packets at a time as they come. In a `view` channel they are valid during the call. Set it, or
	 * iterate, or call `recv`: one of them.
	 */
	get onBatch(): ((packets: Packet[]) => void) | undefined {
		return this.batch;
	}

	set onBatch(callback: ((packets: Packet[]) => void) | undefined) {
		this.batch = callback;
		if (callback !== undefined && !this.pumping) void this.pump();
	}

	/**
	 * The next packet, or undefined when none waits. In a `view` channel it is valid until the next receive.
	 */
	recv(): Packet | undefined {
		this.requireOpen();
		this.consumer.release();
		if (!this.consumer.next()) return undefined;
		const packet = recordPacket(this.consumer);
		if (this.type === "view") return packet;
		const copy = { bytes: packet.bytes.slice(), offload: packet.offload };
		this.consumer.release();
		return copy;
	}

	/**
	 * The next packet; stops this thread until there is one.
	 *
	 * @returns undefined after `timeoutMs`, or when the channel was removed and everything was read
	 * @throws RingError `ERR_RING_CANNOT_BLOCK` where threads must not stop, or where the packets come through this
	 * thread's own event loop
	 */
	recvBlocking(timeoutMs: number = Number.POSITIVE_INFINITY): Packet | undefined {
		const packet = this.recv();
		if (packet !== undefined) return packet;
		return this.consumer.wait(timeoutMs) ? this.recv() : undefined;
	}

	/** The next packet, awaited; undefined after `timeoutMs` or when the channel was removed and everything was read. */
	async receive(options: ReceiveOptions = {}): Promise<Packet | undefined> {
		const packet = this.recv();
		if (packet !== undefined) return packet;
		return (await this.consumer.waitAsync(options)) && !this.closed ? this.recv() : undefined;
	}

	/** The packets as they come, until the channel is removed. Breaking out of the loop leaves it open. */
	async *[Symbol.asyncIterator](): AsyncGenerator<Packet, void, undefined> {
		while (!this.closed) {
			const packet = await this.receive();
			if (packet !== undefined) yield packet;
			else if (this.consumer.peerClosed) return;
		}
	}

	/** The receiving ring's counters. */
	ringStats(): RingStats {
		return this.consumer.stats();
	}

	/** Sends one whole packet: an Ethernet frame, or on an IP link an IP packet. False when there is no room now. */
	abstract send(bytes: Uint8Array, offload?: Offload): boolean;

	/** Removes the channel; idempotent. */
	abstract close(): void;

	[Symbol.dispose](): void {
		this.close();
	}

	/** Runs the batch callback over what waits; true when there was something. */
	protected drain(): boolean {
		const { batch, consumer } = this;
		if (batch === undefined || this.closed) return false;
		const packets: Packet[] = [];
		while (packets.length < 64 && consumer.next()) {
			const packet = recordPacket(consumer);
			packets.push(this.type === "view" ? packet : { bytes: packet.bytes.slice(), offload: packet.offload });
		}
		if (packets.length === 0) return false;
		try {
			batch(packets);
		} catch (error) {
			this.report(error as Error);
		}
		consumer.release();
		return true;
	}

	protected requireOpen(): void {
		if (this.closed) throw new ChannelError("EBADF", "this channel was removed: create a new one");
	}

	private report(error: Error): void {
		if (this.onError !== undefined) this.onError(error);
		else {
			queueMicrotask(() => {
				throw error;
			});
		}
	}

	private async pump(): Promise<void> {
		this.pumping = true;
		while (this.batch !== undefined && !this.closed) {
			if (this.drain()) continue;
			if (!(await this.consumer.waitAsync()) && this.consumer.peerClosed && !this.consumer.readable) break;
		}
		this.pumping = false;
	}
}

/** A channel in a thread other than the one that classifies. */
export class RemoteChannel extends ChannelEnd {
	readonly medium: "ethernet" | "ip";
	private readonly producer: RingProducer;

	constructor(handle: ChannelHandle) {
		super(handle.type, openConsumer(handle.receive));
		this.medium = handle.medium;
		this.producer = openProducer(handle.transmit);
	}

	/** As in the classifying thread; false when too many packets wait for the link's thread. */
	override send(bytes: Uint8Array, offload?: Offload): boolean {
		this.requireOpen();
		const taken = pushPacket(this.producer, bytes, offload);
		this.producer.publish();
		return taken;
	}

	override close(): void {
		if (this.closed) return;
		this.producer.close();
		this.consumer.close();
		this.closed = true;
	}
}

/** Opens a channel that another thread created; each handle is opened once. */
export function openChannel(handle: ChannelHandle): RemoteChannel {
	return new RemoteChannel(handle);
}
