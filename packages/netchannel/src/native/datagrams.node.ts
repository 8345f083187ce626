import { EAGAIN, type Libc } from "./libc.node.ts";

/** Bytes of `struct mmsghdr` on 64-bit Linux, and where the length the kernel wrote is. */
const MESSAGE_BYTES = 64;
const LENGTH_WORD = 14;
const NAME_WORD = 2;
const CONTROL_WORD = 10;
const MSG_DONTWAIT = 0x40;

/** What goes with the datagrams of a {@link DatagramBatch}. */
export interface DatagramExtras {
	/** Where every datagram goes, for sockets that are not connected. */
	address?: Uint8Array | undefined;
	/** Room for what the kernel says beside each received datagram. */
	controlBytes?: number;
	/** Room for where each received datagram came from. */
	nameBytes?: number;
}

/** Memory for many datagrams at once, described to the kernel once: recvmmsg(2) and sendmmsg(2) of one socket. */
export class DatagramBatch {
	/** Datagrams it holds. */
	readonly slots: number;
	/** Bytes of each. */
	readonly slotBytes: number;
	private readonly libc: Libc;
	private readonly memory: Uint8Array<ArrayBuffer>;
	private readonly vectors: BigUint64Array;
	private readonly headers: Uint8Array;
	private readonly lengths: Uint32Array;
	/** Referred to by the headers: an address keeps nothing alive by itself. */
	readonly address: Uint8Array | undefined;
	/** Room for what the kernel says beside each datagram. */
	private readonly control: Uint8Array;
	/** Filled by {@link put} and not yet sent. */
	private filled = 0;
	private sent = 0;

	/** Room for where each received datagram came from. */
	private readonly names: Uint8Array;

	constructor(libc: Libc, slots: number, slotBytes: number, extras: DatagramExtras = {}) {
		const { address, controlBytes = 0, nameBytes = 0 } = extras;
		this.libc = libc;
		this.slots = slots;
		this.address = address;
		this.names = new Uint8Array(slots * nameBytes);
		const names = libc.addressOf(this.names);
		this.slotBytes = slotBytes;
		this.memory = new Uint8Array(slots * slotBytes);
		this.vectors = new BigUint64Array(2 * slots);
		this.headers = new Uint8Array(slots * MESSAGE_BYTES);
		this.lengths = new Uint32Array(this.headers.buffer);
		const memory = libc.addressOf(this.memory);
		const vectors = libc.addressOf(this.vectors);
		const view = new DataView(this.headers.buffer);
		this.control = new Uint8Array(slots * controlBytes);
		const control = libc.addressOf(this.control);
		for (let slot = 0; slot < slots; slot++) {
			this.vectors[2 * slot] = memory + BigInt(slot * slotBytes);
			this.vectors[2 * slot + 1] = BigInt(slotBytes);
			if (address !== undefined) {
				view.setBigUint64(slot * MESSAGE_BYTES, libc.addressOf(address), true);
				view.setUint32(slot * MESSAGE_BYTES + 8, address.length, true);
			}
			if (nameBytes > 0) view.setBigUint64(slot * MESSAGE_BYTES, names + BigInt(slot * nameBytes), true);
			view.setBigUint64(slot * MESSAGE_BYTES + 16, vectors + BigInt(16 * slot), true);
			view.setBigUint64(slot * MESSAGE_BYTES + 24, 1n, true);
			if (controlBytes > 0) view.setBigUint64(slot * MESSAGE_BYTES + 32, control + BigInt(slot * controlBytes), true);
		}
	}

	/** Receives what waits, at most {@link slots}; returns how many, or -1 with errno set. */
	receive(fd: number): number {
		const room = this.control.length / this.slots;
		if (room > 0) for (let slot = 0; slot < this.slots; slot++) this.lengths[slot * 16 + CONTROL_WORD] = room;
		const named = this.names.length / this.slots;
		if (named > 0) for (let slot = 0; slot < this.slots; slot++) this.lengths[slot * 16 + NAME_WORD] = named;
		return this.libc.recvmmsg(fd, this.headers, this.slots, MSG_DONTWAIT, null);
	}

	/** A received datagram, in place until the next {@link receive}. */
	received(slot: number): Uint8Array {
		return new Uint8Array(this.memory.buffer, slot * this.slotBytes, this.lengths[slot * 16 + LENGTH_WORD]!);
	}

	/** Where a received datagram came from: a copy of the socket address. */
	senderOf(slot: number): Uint8Array {
		const room = this.names.length / this.slots;
		return this.names.slice(slot * room, slot * room + Math.min(room, this.lengths[slot * 16 + NAME_WORD]!));
	}

	/** What the kernel said beside a received datagram. */
	controlOf(slot: number): DataView {
		const room = this.control.length / this.slots;
		return new DataView(this.control.buffer, slot * room, Math.min(room, this.lengths[slot * 16 + CONTROL_WORD]!));
	}

	/** Whether another datagram can be put. */
	get room(): boolean {
		return this.filled < this.slots;
	}

	/** Whether datagrams wait to be sent. */
	get pending(): boolean {
		return this.sent < this.filled;
	}

	/** Copies a datagram in, to be sent by {@link flush}. */
	put(bytes: Uint8Array): void {
		const slot = this.filled++;
		this.memory.set(bytes, slot * this.slotBytes);
		this.vectors[2 * slot + 1] = BigInt(bytes.length);
	}

	/**
	 * Sends what waits.
	 *
	 * @param lost - called for each datagram that could not be sent for another reason than want of room
	 * @returns false when the socket took no more; the rest waits
	 */
	flush(fd: number, lost: (errno: number) => void): boolean {
		while (this.sent < this.filled) {
			const count = this.libc.sendmmsg(
				fd,
				this.headers.subarray(this.sent * MESSAGE_BYTES),
				this.filled - this.sent,
				MSG_DONTWAIT,
			);
			if (count > 0) this.sent += count;
			else {
				const errno = this.libc.errno();
				if (errno === EAGAIN) return false;
				this.sent++;
				lost(errno);
			}
		}
		this.filled = this.sent = 0;
		return true;
	}
}
