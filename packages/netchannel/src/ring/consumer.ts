import type { Copier } from "./copier.ts";
import { RingError } from "./errors.ts";
import { ENTRY_BYTES, LAP, lapAt, RECORD_HEADER, recordBytes, requireTable, Stat, Word, WRAP } from "./layout.ts";
import type { RingView } from "./memory.ts";
import { sleepUntil, sleepUntilAsync, type WaitOptions } from "./sleep.ts";
import { type RingStats, readStats } from "./stats.ts";

/** Options of a consumer's end. */
export interface ConsumerOptions {
	/** Looks for a record before `wait` sleeps. @default 1000 */
	spin?: number;
}

/** Looks in WebAssembly that take as long as one from JavaScript. */
const LOOKS_PER_LOOK = 4;
const MOST_LOOKS = 2 ** 30;
const MOST_AHEAD = 64;
/**
 * A consumer that keeps up with a busy producer reads every record while its cache lines are still the producer's, and
 * costs both more than the records do. So it rests before it looks again, about as long as the producer took for what
 * came since the last time: next to nothing in a dialogue, five microseconds at most.
 */
const RESTS_PER_PACKET = 2;
const BYTES_PER_REST = 128;
const MOST_RESTS = 1024;

/**
 * The reading end of a ring: one per ring, in one thread. `recv` copies a record out; `next` and `release` read in
 * place.
 */
export class RingConsumer {
	/** The whole memory the ring lies in; {@link offset} points into it. */
	readonly bytes: Uint8Array;
	/** Memory beside the ring that {@link copyToScratch} fills at full speed; nobody else writes here. */
	readonly scratch: Uint8Array;
	/** Where the payload of the record that {@link next} found starts. */
	offset = 0;
	/** Its length. */
	length = 0;
	/** Its meta word. */
	meta = 0;
	private readonly view: RingView;
	private readonly buffer: ArrayBufferLike;
	private readonly spin: number;
	private readonly mask: number;
	private readonly scratchStart: number;
	private position: number;
	private released: number;
	/** Up to where records are known to be. */
	private seenHead: number;
	/** Records to look for at once: one to begin with, behind which the producer may still be at work. */
	private most = 1;
	private packets: number;
	/** Where it was when it last waited. */
	private waitedPackets: number;
	private waitedPosition: number;
	private pendingBytes = 0;
	private closed = false;

	constructor(view: RingView, options: ConsumerOptions = {}) {
		this.view = view;
		this.bytes = view.bytes;
		this.buffer = view.bytes.buffer;
		this.spin = options.spin ?? 1000;
		this.mask = view.capacity - 1;
		this.scratchStart = view.scratchOffset + view.scratch;
		this.scratch = view.bytes.subarray(this.scratchStart, this.scratchStart + view.scratch);
		const { words, base } = view;
		this.position = this.released = this.seenHead = this.waitedPosition = Atomics.load(words, base + Word.tail);
		if (this.position % RECORD_HEADER !== 0) throw this.corrupt(this.position, 0);
		this.packets = this.waitedPackets = Atomics.load(words, base + Word.received);
	}

	/** Whether the producer closed; records published before are still to be read. */
	get peerClosed(): boolean {
		return Atomics.load(this.view.words, this.view.base + Word.producerClosed) !== 0;
	}

	/** Changes whenever the producer publishes or beats; one that stands still for long is gone or stuck. */
	get peerBeat(): number {
		const { words, base } = this.view;
		return (Atomics.load(words, base + Word.head) + Atomics.load(words, base + Word.producerBeat)) >>> 0;
	}

	/** Says "alive" without receiving. */
	beat(): void {
		Atomics.add(this.view.words, this.view.base + Word.consumerBeat, 1);
	}

	stats(): RingStats {
		return readStats(this.view);
	}

	/**
	 * Moves to the next record: {@link offset}, {@link length} and {@link meta} describe it, and its bytes stay valid
	 * until {@link release}.
	 *
	 * @returns false when there is none now
	 * @throws RingError `ERR_RING_CORRUPT` when the memory holds what no producer writes
	 */
	next(): boolean {
		if (this.position === this.seenHead && !this.refresh()) return false;
		const { words, data, capacity } = this.view;
		const at = this.position & this.mask;
		// Loaded atomically when the head was seen.
		const length = words[(data + at) >> 2]! ^ lapAt(this.position, capacity);
		const size = recordBytes(length);
		// A record must end where the ring does, and before the oldest that was not given back.
		if (length < 0 || at + size > capacity || this.unreleased + size > capacity) {
			throw this.corrupt(at, length);
		}
		this.offset = data + at + RECORD_HEADER;
		this.length = length;
		this.meta = words[((data + at) >> 2) + 1]!;
		this.position = (this.position + size) | 0;
		this.packets = (this.packets + 1) | 0;
		this.pendingBytes += length;
		return true;
	}

	/** The record that {@link next} found, in place: valid until {@link release}. */
	record(): Uint8Array {
		// Half the price of subarray, which asks for the species first; this is done for every record.
		return new Uint8Array(this.buffer, this.offset, this.length);
	}

	/** Copies the record that {@link next} found into {@link scratch} at `offset`. Returns its length. */
	copyToScratch(offset = 0): number {
		const { length } = this;
		if (offset < 0 || offset + length > this.view.scratch) {
			throw new RingError(
				"ERR_RING_MISUSE",
				`a record of ${length} bytes does not fit the scratch area of ${this.view.scratch} bytes at ${offset}`,
			);
		}
		const to = this.scratchStart + offset;
		if (this.view.copier !== undefined) this.view.copier.copy(to, this.offset, length);
		else this.bytes.copyWithin(to, this.offset, this.offset + length);
		return length;
	}

	/**
	 * Copies many records into {@link scratch} with one call: a small record costs a fraction of {@link next} and
	 * {@link copyToScratch}. The room they took is given back by {@link release}.
	 *
	 * @param table - byte offset in `scratch`, a multiple of 4, that gets three 32-bit words for each record: where its
	 *   payload starts in `scratch`, its length, and its meta word. The payloads follow `limit` such entries, 8-aligned
	 * @param limit - most records to copy
	 * @returns how many there were, as far as `scratch` has room: at least one when any waits, perhaps not those that
	 *   begin at the start of the ring again
	 * @throws RingError `ERR_RING_MISUSE` when the table is not in `scratch`, or the first record does not fit it;
	 *   `ERR_RING_CORRUPT` as {@link next}
	 */
	copyBatch(table: number, limit: number): number {
		const { copier, words, data, capacity, scratch } = this.view;
		requireTable(table, limit, scratch);
		if (limit === 0) return 0;
		const start = this.scratchStart;
		const entry = start + table;
		const first = (table + limit * ENTRY_BYTES + 7) & ~7;
		if (copier !== undefined) {
			const { position } = this;
			const at = position & this.mask;
			const taken = copier.takeBatch(
				entry,
				limit,
				data + at,
				capacity - Math.max(this.unreleased, at),
				lapAt(position, capacity),
				start,
				start + Math.min(first, scratch),
				start + scratch,
			);
			if (taken > 0) {
				this.position = (position + copier.bytes()) | 0;
				this.seenHead = this.position;
				this.packets = (this.packets + taken) | 0;
				return taken;
			}
		}
		if (!this.readable) return 0;
		// Without a copier, and for the record that is refused.
		let count = 0;
		for (let at = first; count < limit; at = (at + this.length + 7) & ~7) {
			const { position, packets, pendingBytes } = this;
			if (!this.next()) break;
			if (at + this.length > scratch) {
				Object.assign(this, { position, packets, pendingBytes });
				if (count > 0) break;
			}
			const word = (entry + count++ * ENTRY_BYTES) >> 2;
			words[word] = at;
			words[word + 1] = this.copyToScratch(at);
			words[word + 2] = this.meta;
		}
		return count;
	}

	/** Gives the room of every record seen so far back to the producer, and wakes it if it sleeps. */
	release(): void {
		if (this.position === this.released) return;
		const { copier, words, floats, base, producerBell } = this.view;
		const { position, packets, pendingBytes } = this;
		this.released = position;
		this.pendingBytes = 0;
		let sleeps: number;
		if (copier !== undefined) sleeps = copier.release(base << 2, position, packets, pendingBytes);
		else {
			const stat = base >> 1;
			floats[stat + Stat.received]! += (packets - words[base + Word.received]!) >>> 0;
			floats[stat + Stat.receivedBytes]! += pendingBytes;
			words[base + Word.received] = packets;
			Atomics.store(words, base + Word.tail, position);
			sleeps = Atomics.load(words, producerBell);
		}
		if (sleeps === 1 && Atomics.compareExchange(words, producerBell, 1, 0) === 1) {
			this.view.sleeper.wake(producerBell);
		}
	}

	/** Copies the next record out, or returns undefined when there is none now. */
	recv(): Uint8Array | undefined {
		if (!this.next()) return undefined;
		const copy = new Uint8Array(this.length);
		copy.set(this.record());
		this.release();
		return copy;
	}

	/**
	 * Copies the next record to the start of `target`.
	 *
	 * @returns its length, or -1 when there is none now; a record longer than `target` is cut, as recv(2) does
	 */
	recvInto(target: Uint8Array): number {
		if (!this.next()) return -1;
		const { length, offset } = this;
		const kept = Math.min(length, target.length);
		if (this.view.copier !== undefined && target.buffer === this.bytes.buffer) {
			this.view.copier.copy(target.byteOffset, offset, kept);
		} else target.set(this.bytes.subarray(offset, offset + kept));
		this.release();
		return length;
	}

	/**
	 * Calls `receive` with each waiting record in place, up to `budget` of them, and releases them together.
	 *
	 * @returns how many there were
	 */
	drain(receive: (payload: Uint8Array, meta: number) => void, budget = 64): number {
		let count = 0;
		try {
			while (count < budget && this.next()) {
				count++;
				receive(this.record(), this.meta);
			}
		} finally {
			this.release();
		}
		return count;
	}

	/** Whether a record waits. */
	get readable(): boolean {
		return this.position !== this.seenHead || this.refresh();
	}

	/**
	 * Stops this thread until a record waits.
	 *
	 * @returns false after `timeoutMs` milliseconds, or when the producer closed and everything was read
	 * @throws RingError `ERR_RING_CANNOT_BLOCK` where threads must not stop
	 */
	wait(timeoutMs: number = Number.POSITIVE_INFINITY): boolean {
		const { words, doorbell, sleeper } = this.view;
		this.release();
		if (this.position !== this.seenHead || this.spinFor(this.spin)) return true;
		if (!sleeper.canBlock) {
			throw new RingError(
				"ERR_RING_CANNOT_BLOCK",
				"this thread cannot stop to wait: use waitAsync or the async iterator",
			);
		}
		sleepUntil(words, doorbell, sleeper, timeoutMs, () => this.readable || this.peerClosed || this.closed);
		return this.readable;
	}

	/** As {@link wait}, for an event loop. */
	async waitAsync(options: WaitOptions = {}): Promise<boolean> {
		const { words, doorbell, sleeper } = this.view;
		options.signal?.throwIfAborted();
		this.release();
		if (this.readable) return true;
		await sleepUntilAsync(words, doorbell, sleeper, options, () => this.readable || this.peerClosed || this.closed);
		return this.readable;
	}

	/** Copies of the records as they come, until the producer closes. */
	async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
		for (;;) {
			const record = this.recv();
			if (record !== undefined) yield record;
			else if (!(await this.waitAsync()) && (this.closed || this.peerClosed) && !this.readable) return;
		}
	}

	/** Tells the producer that nobody reads any more, and ends a wait of this thread's own. Idempotent. */
	close(): void {
		this.closed = true;
		this.release();
		const { words, base, doorbell, producerBell, sleeper } = this.view;
		Atomics.store(words, doorbell, 0);
		sleeper.wake(doorbell);
		Atomics.store(words, base + Word.consumerClosed, 1);
		Atomics.store(words, producerBell, 0);
		sleeper.wake(producerBell);
	}

	[Symbol.dispose](): void {
		this.close();
	}

	/** Bytes seen and not given back. */
	private get unreleased(): number {
		return (this.position - this.released) >>> 0;
	}

	/** Looks for records once; jumps to the start where the producer did. True when one waits. */
	private refresh(): boolean {
		const { copier } = this.view;
		return copier === undefined ? this.accept() : this.ahead(copier, 1, 0);
	}

	/** Looks for records for as long as the caller wished; true when one waits. */
	private spinFor(looks: number): boolean {
		const { copier } = this.view;
		if (copier !== undefined) {
			const packets = (this.packets - this.waitedPackets) >>> 0;
			const bytes = (this.position - this.waitedPosition) >>> 0;
			const rest = Math.min(packets * RESTS_PER_PACKET + Math.floor(bytes / BYTES_PER_REST), MOST_RESTS);
			this.waitedPackets = this.packets;
			this.waitedPosition = this.position;
			this.most = 1;
			return this.ahead(copier, Math.min(looks * LOOKS_PER_LOOK + 1, MOST_LOOKS), rest);
		}
		for (let look = 0; look <= looks; look++) if (this.accept()) return true;
		return false;
	}

	/** Takes note of the records that follow each other where the next one is to be. */
	private ahead(copier: Copier, looks: number, rest: number): boolean {
		const { data, capacity } = this.view;
		const { position } = this;
		const at = position & this.mask;
		const room = capacity - Math.max(this.unreleased, at);
		const bytes = copier.look(data + at, lapAt(position, capacity), room, this.most, looks, rest, 1);
		this.most = bytes < 0 ? 1 : Math.min(2 * this.most, MOST_AHEAD);
		if (bytes < 0) return false;
		if (bytes === 0) return this.accept();
		this.seenHead = (position + bytes) | 0;
		return true;
	}

	/** Takes note of one record, or jumps, or finds that there is neither. */
	private accept(): boolean {
		const { words, data, capacity } = this.view;
		const at = this.position & this.mask;
		const length = Atomics.load(words, (data + at) >> 2) ^ lapAt(this.position, capacity);
		if ((length & LAP) !== 0) return false;
		const size = length === WRAP ? capacity - at : recordBytes(length);
		const fits = at + size <= capacity && this.unreleased + size <= capacity;
		if (!fits || (length < 0 && (length !== WRAP || at === 0))) throw this.corrupt(at, length);
		this.seenHead = (this.position + size) | 0;
		if (length !== WRAP) return true;
		this.position = this.seenHead;
		return this.refresh();
	}

	private corrupt(at: number, length: number): RingError {
		return new RingError(
			"ERR_RING_CORRUPT",
			`the record at ${at} says ${length} bytes: something else wrote into the ring, open a new one`,
		);
	}
}
