import type { GuestRam } from "../guest-ram.ts";

const DESC_NEXT = 1;
const DESC_WRITE = 2;
const DESC_INDIRECT = 4;
const AVAIL_NO_INTERRUPT = 1;

/** Largest ring, and so longest chain, a device here offers. */
export const MAX_QUEUE_SIZE = 256;

/** Plain state of a {@link Virtqueue}. */
export interface VirtqueueState {
	size: number;
	enabled: boolean;
	descriptors: number;
	available: number;
	used: number;
	nextAvailable: number;
	nextUsed: number;
	signalledUsed: number;
	vector: number;
}

/** One request: the descriptor chain a driver put into a ring, as two lists of memory pieces. Reused from request to request. */
export class Chain {
	/** Index of the first descriptor, which goes back through the used ring. */
	head = 0;
	/** Pieces the device reads; they come before those it writes. */
	readable = 0;
	/** All pieces. */
	count = 0;
	/** Bytes of the pieces the device reads. */
	readableBytes = 0;
	/** Bytes of the pieces the device writes. */
	writableBytes = 0;
	readonly addresses: Float64Array = new Float64Array(MAX_QUEUE_SIZE);
	readonly lengths: Uint32Array = new Uint32Array(MAX_QUEUE_SIZE);

	/** Copies bytes out of the readable part from `offset` on; returns how many there were. */
	read(ram: GuestRam, offset: number, target: Uint8Array): number {
		return this.#transfer(ram, 0, this.readable, offset, target, false);
	}

	/** Copies bytes into the writable part from `offset` on; returns how many there was room for. */
	write(ram: GuestRam, offset: number, source: Uint8Array): number {
		return this.#transfer(ram, this.readable, this.count, offset, source, true);
	}

	#transfer(ram: GuestRam, first: number, end: number, offset: number, bytes: Uint8Array, write: boolean): number {
		let done = 0;
		for (let i = first; i < end && done < bytes.length; i++) {
			const length = this.lengths[i];
			if (offset >= length) {
				offset -= length;
				continue;
			}
			const size = Math.min(length - offset, bytes.length - done);
			const part = bytes.subarray(done, done + size);
			if (write) ram.write(this.addresses[i] + offset, part);
			else ram.read(this.addresses[i] + offset, part);
			done += size;
			offset = 0;
		}
		return done;
	}
}

/**
 * A split virtqueue, device side. Everything in it was written by the guest and is checked: a chain that loops, is longer
 * than the ring, leaves RAM or mixes its parts marks the queue broken, and nothing more is taken from it until reset.
 *
 * @see Virtual I/O Device (VIRTIO) 1.2, 2.7
 */
export class Virtqueue {
	/** Entries the device offers at most. */
	readonly maxSize: number;
	size: number;
	enabled = false;
	/** Guest-physical addresses of the three parts. */
	descriptors = 0;
	available = 0;
	used = 0;
	/** MSI-X vector. */
	vector = 0xffff;
	/** The driver broke the rules. */
	broken = false;
	/** VIRTIO_F_RING_EVENT_IDX was negotiated. */
	eventIndex = false;
	readonly #ram: GuestRam;
	#nextAvailable = 0;
	#nextUsed = 0;
	/** Used index up to which the driver was told. */
	#signalledUsed = 0;
	/** Totals of the chain being collected. */
	#total = 0;

	constructor(ram: GuestRam, maxSize: number) {
		this.#ram = ram;
		this.maxSize = maxSize;
		this.size = maxSize;
	}

	/**
	 * Checks the layout when the driver enables the queue: a size that is a power of two, parts aligned and in RAM.
	 *
	 * @returns false, and a broken queue, when it is wrong
	 */
	enable(): boolean {
		const { size } = this;
		const ram = this.#ram;
		const valid =
			size > 0 &&
			size <= this.maxSize &&
			(size & (size - 1)) === 0 &&
			this.descriptors % 16 === 0 &&
			this.available % 2 === 0 &&
			this.used % 4 === 0 &&
			ram.contains(this.descriptors, 16 * size) &&
			ram.contains(this.available, 6 + 2 * size) &&
			ram.contains(this.used, 6 + 8 * size);
		this.enabled = true;
		if (!valid) this.broken = true;
		return valid;
	}

	/** Whether the driver put something in that was not taken yet. */
	get hasAvailable(): boolean {
		return this.#usable() && this.#ram.readU16(this.available + 2) !== this.#nextAvailable;
	}

	/**
	 * Takes the next chain.
	 *
	 * @returns false when there is none, or the queue is or becomes broken
	 */
	pop(chain: Chain): boolean {
		if (!this.#usable()) return false;
		const ram = this.#ram;
		const index = ram.readU16(this.available + 2);
		const waiting = (index - this.#nextAvailable) & 0xffff;
		if (waiting === 0) return false;
		if (waiting > this.size) return this.#break();
		const head = ram.readU16(this.available + 4 + 2 * (this.#nextAvailable & (this.size - 1)));
		if (head >= this.size || !this.#collect(chain, head)) return this.#break();
		this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
		// Ask to be told of the very next one.
		if (this.eventIndex) ram.writeU16(this.used + 4 + 8 * this.size, this.#nextAvailable);
		return true;
	}

	/** Puts the chain taken last back, so that it is the next again. */
	unpop(): void {
		this.#nextAvailable = (this.#nextAvailable - 1) & 0xffff;
	}

	/** Gives a chain back to the driver with the number of bytes written to it. */
	push(head: number, written: number): void {
		this.stage(head, written);
		this.publish();
	}

	/** As {@link push}, but the driver does not see it before {@link publish}: several chains that make one answer. */
	stage(head: number, written: number): void {
		if (!this.#usable()) return;
		const ram = this.#ram;
		const entry = this.used + 4 + 8 * (this.#nextUsed & (this.size - 1));
		ram.writeU32(entry, head);
		ram.writeU32(entry + 4, written);
		this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
	}

	/** Shows the driver what was staged. */
	publish(): void {
		if (this.#usable()) this.#ram.writeU16(this.used + 2, this.#nextUsed);
	}

	/** Whether the driver wants an interrupt for what was pushed since the last call. */
	takeSignal(): boolean {
		if (!this.#usable()) return false;
		const old = this.#signalledUsed;
		const now = this.#nextUsed;
		if (old === now) return false;
		this.#signalledUsed = now;
		if (!this.eventIndex) return (this.#ram.readU16(this.available) & AVAIL_NO_INTERRUPT) === 0;
		const event = this.#ram.readU16(this.available + 4 + 2 * this.size);
		return ((now - event - 1) & 0xffff) < ((now - old) & 0xffff);
	}

	reset(): void {
		this.size = this.maxSize;
		this.enabled = false;
		this.descriptors = 0;
		this.available = 0;
		this.used = 0;
		this.vector = 0xffff;
		this.broken = false;
		this.eventIndex = false;
		this.#nextAvailable = 0;
		this.#nextUsed = 0;
		this.#signalledUsed = 0;
	}

	save(): VirtqueueState {
		return {
			size: this.size,
			enabled: this.enabled,
			descriptors: this.descriptors,
			available: this.available,
			used: this.used,
			nextAvailable: this.#nextAvailable,
			nextUsed: this.#nextUsed,
			signalledUsed: this.#signalledUsed,
			vector: this.vector,
		};
	}

	restore(state: VirtqueueState): void {
		this.reset();
		this.size = state.size;
		this.descriptors = state.descriptors;
		this.available = state.available;
		this.used = state.used;
		this.vector = state.vector;
		this.#nextAvailable = state.nextAvailable;
		this.#nextUsed = state.nextUsed;
		this.#signalledUsed = state.signalledUsed;
		if (state.enabled) this.enable();
	}

	#usable(): boolean {
		return this.enabled && !this.broken;
	}

	#break(): false {
		this.broken = true;
		return false;
	}

	#collect(chain: Chain, head: number): boolean {
		const ram = this.#ram;
		chain.head = head;
		chain.count = 0;
		chain.readable = 0;
		chain.readableBytes = 0;
		chain.writableBytes = 0;
		this.#total = 0;
		let index = head;
		for (let seen = 0; seen < this.size; seen++) {
			const at = this.descriptors + 16 * index;
			const flags = ram.readU16(at + 12);
			if ((flags & DESC_INDIRECT) !== 0) {
				// An indirect table ends the chain and is the only thing in it.
				if ((flags & DESC_NEXT) !== 0 || chain.count !== 0) return false;
				return this.#collectIndirect(chain, ram.readU64(at), ram.readU32(at + 8));
			}
			if (!this.#add(chain, ram.readU64(at), ram.readU32(at + 8), (flags & DESC_WRITE) !== 0)) return false;
			if ((flags & DESC_NEXT) === 0) return true;
			index = ram.readU16(at + 14);
			if (index >= this.size) return false;
		}
		return false;
	}

	#collectIndirect(chain: Chain, table: number, bytes: number): boolean {
		const ram = this.#ram;
		const entries = bytes / 16;
		if (entries < 1 || !Number.isInteger(entries) || !ram.contains(table, bytes)) return false;
		let index = 0;
		for (let seen = 0; seen < MAX_QUEUE_SIZE; seen++) {
			const at = table + 16 * index;
			const flags = ram.readU16(at + 12);
			if ((flags & DESC_INDIRECT) !== 0) return false;
			if (!this.#add(chain, ram.readU64(at), ram.readU32(at + 8), (flags & DESC_WRITE) !== 0)) return false;
			if ((flags & DESC_NEXT) === 0) return true;
			index = ram.readU16(at + 14);
			if (index >= entries) return false;
		}
		return false;
	}

	#add(chain: Chain, address: number, length: number, writable: boolean): boolean {
		this.#total += length;
		if (chain.count >= MAX_QUEUE_SIZE || this.#total > 0xffff_ffff || !this.#ram.contains(address, length))
			return false;
		if (writable) {
			chain.writableBytes += length;
		} else {
			if (chain.count !== chain.readable) return false;
			chain.readable++;
			chain.readableBytes += length;
		}
		chain.addresses[chain.count] = address;
		chain.lengths[chain.count] = length;
		chain.count++;
		return true;
	}
}
