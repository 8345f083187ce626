import { HELD } from "./copier.ts";
import { RingError } from "./errors.ts";
import { ENTRY_BYTES, LAP, lapAt, RECORD_HEADER, recordBytes, requireTable, Stat, Word, WRAP } from "./layout.ts";
import type { RingView } from "./memory.ts";
import { findEnd } from "./recovery.ts";
import { sleepUntil, sleepUntilAsync, type WaitOptions } from "./sleep.ts";
import { type RingStats, readStats } from "./stats.ts";

/** What a producer does with a record that does not fit. */
export type OverflowPolicy = "fail" | "drop-newest" | "block";

/** Options of a producer's end. */
export interface ProducerOptions {
	/**
	 * `fail`: `send` returns false. `drop-newest`: `send` counts the record as dropped and returns true. `block`: `send`
	 * sleeps until there is room (workers and Node only).
	 * @default "fail"
	 */
	overflow?: OverflowPolicy;
	/** Looks at the consumer's index before `block` sleeps. @default 1000 */
	spin?: number;
}

/** Rests between two looks of a producer without room: it is the consumer that must get on. */
const WAIT_RESTS = 16;

/**
 * The writing end of a ring: one per ring, in one thread. `send` is the easy way; `reserve`, `commit` and `publish`
 * write records in place and hand over many at once.
 */
export class RingProducer {
	/** The whole memory the ring lies in; `reserve` returns offsets into it. */
	readonly bytes: Uint8Array;
	/** Longest payload a record can have. */
	readonly maxLength: number;
	/** Memory beside the ring that payloads are copied from at full speed; nobody else writes here. */
	readonly scratch: Uint8Array;
	private readonly view: RingView;
	private readonly overflow: OverflowPolicy;
	private readonly spin: number;
	private readonly mask: number;
	private readonly scratchStart: number;
	private readonly buffer: ArrayBufferLike;
	private readonly limit: number;
	/** Longest payload that a batch copies in one call with others. */
	private readonly longest: number;
	/** Next byte to write, modulo 2^32. */
	private position: number;
	private published: number;
	/** What replaces the word at {@link published}, which publishes all that is behind it. */
	private first = 0;
	/** What the consumer had released when it was last asked. */
	private seenTail: number;
	/** Records so far, modulo 2^32. */
	private packets: number;
	private publishedPackets: number;
	private seenReceived: number;
	private pendingBytes = 0;
	private closed = false;
	private readonly much: number;
	private readonly ringStart: number;
	private readonly bell: number;
	/** Bytes that a record of {@link sendScratch} is shorter than to be written without a further look; where, and as what. */
	private quick = 0;
	private quickRecord = 0;
	private quickLap = 0;
	private quickDepth = 0;
	private reservedAt = -1;
	private reservedLength = 0;

	constructor(view: RingView, options: ProducerOptions = {}) {
		this.view = view;
		this.bytes = view.bytes;
		this.buffer = view.bytes.buffer;
		this.overflow = options.overflow ?? "fail";
		this.spin = options.spin ?? 1000;
		this.mask = view.capacity - 1;
		this.much = view.capacity >> 2;
		this.ringStart = view.base << 2;
		this.bell = view.doorbell << 2;
		this.maxLength = (view.capacity >> 1) - RECORD_HEADER;
		this.limit = view.packetLimit;
		this.scratchStart = view.scratchOffset;
		this.scratch = view.bytes.subarray(view.scratchOffset, view.scratchOffset + view.scratch);
		const { words, base } = view;
		this.longest = Math.min(this.maxLength, view.scratch);
		this.seenTail = Atomics.load(words, base + Word.tail);
		this.position = this.published = findEnd(view, this.seenTail);
		this.packets = this.publishedPackets = view.floats[(base >> 1) + Stat.sent]! | 0;
		this.seenReceived = Atomics.load(words, base + Word.received);
	}

	/** Whether the consumer's end was closed. */
	get peerClosed(): boolean {
		return Atomics.load(this.view.words, this.view.base + Word.consumerClosed) !== 0;
	}

	/** Changes whenever the consumer releases or beats; one that stands still for long is gone or stuck. */
	get peerBeat(): number {
		const { words, base } = this.view;
		return (Atomics.load(words, base + Word.tail) + Atomics.load(words, base + Word.consumerBeat)) >>> 0;
	}

	/** Says "alive" without sending. */
	beat(): void {
		Atomics.add(this.view.words, this.view.base + Word.producerBeat, 1);
	}

	stats(): RingStats {
		return readStats(this.view);
	}

	/**
	 * Finds room for a payload of up to `length` bytes.
	 *
	 * @returns its byte offset in {@link bytes}, 8-aligned, or -1 when there is no room now
	 * @throws RingError `ERR_RING_TOO_LONG`
	 */
	reserve(length: number): number {
		if (length > this.maxLength || length < 0) throw this.tooLong(length);
		const need = recordBytes(length);
		const at = this.position & this.mask;
		const toEnd = this.view.capacity - at;
		const take = need <= toEnd ? need : toEnd + need;
		if (((this.position - this.seenTail) >>> 0) + take > this.view.capacity && !this.refresh(take)) return -1;
		if (this.limit !== 0 && (this.packets - this.seenReceived) >>> 0 >= this.limit && !this.refreshPackets()) return -1;
		let start = this.view.data + at;
		if (need > toEnd) {
			this.begin(start, WRAP);
			this.position = (this.position + toEnd) | 0;
			start = this.view.data;
		}
		this.reservedAt = start;
		this.reservedLength = length;
		return start + RECORD_HEADER;
	}

	/**
	 * Finishes the reserved record; the consumer sees it after the next {@link publish}.
	 *
	 * @param length - bytes really written, at most what was reserved
	 * @param meta - a 32-bit word of the caller's own
	 */
	commit(length: number = this.reservedLength, meta = 0): void {
		const start = this.reservedAt;
		if (start < 0 || length > this.reservedLength || length < 0) {
			throw new RingError("ERR_RING_MISUSE", `commit(${length}) needs a reserve of at least as many bytes before it`);
		}
		this.begin(start, length);
		this.view.words[(start >> 2) + 1] = meta;
		this.advance(length);
	}

	/** Forgets the reserved record. */
	abort(): void {
		this.reservedAt = -1;
	}

	/** Hands everything committed so far to the consumer and wakes it if, and only if, it sleeps. */
	publish(): void {
		if (this.position === this.published) return;
		const { copier, words, base, data, capacity, doorbell } = this.view;
		const { position } = this;
		const first = data + (this.published & this.mask);
		const depth = (position - this.seenTail) >>> 0;
		const next = depth === capacity ? 0 : data + (position & this.mask);
		const end = LAP - lapAt(position, capacity);
		let sleeps: number;
		if (copier !== undefined) {
			const { first: word, pendingBytes } = this;
			const packets = (this.packets - this.publishedPackets) | 0;
			const bell = doorbell << 2;
			sleeps = copier.publish(base << 2, first, word, next, end, position, packets, pendingBytes, depth, bell);
		} else {
			this.count(depth);
			if (next !== 0) words[next >> 2] = end;
			Atomics.store(words, first >> 2, this.first);
			sleeps = Atomics.load(words, doorbell);
		}
		this.published = position;
		this.publishedPackets = this.packets;
		this.pendingBytes = 0;
		this.prepare();
		if (sleeps === 1) this.wake();
	}

	/**
	 * Copies one record in and publishes it.
	 *
	 * @param meta - a 32-bit word that travels with it
	 * @returns false when it was not taken (policy `fail`)
	 * @throws RingError `ERR_RING_TOO_LONG`; `ERR_RING_CLOSED` when it is full and the consumer is gone
	 */
	send(payload: Uint8Array, meta = 0): boolean {
		const taken = this.push(payload, meta);
		this.publish();
		return taken;
	}

	/**
	 * Copies one record in without publishing it, unless a quarter of the ring waits for that: for batches that end in
	 * {@link publish}. Returns as {@link send}.
	 */
	push(payload: Uint8Array, meta = 0): boolean {
		const length = payload.length;
		const at = this.make(length);
		if (at < 0) return this.overflow === "drop-newest";
		this.place(payload, at, meta);
		this.publishMuch();
		return true;
	}

	/**
	 * {@link push} of a record in {@link scratch}: the fastest way, with no view made per record.
	 *
	 * @param offset - where it starts in `scratch`
	 */
	pushScratch(offset: number, length: number, meta = 0): boolean {
		if (offset < 0 || length < 0 || offset + length > this.view.scratch) {
			throw new RingError(
				"ERR_RING_MISUSE",
				`${length} bytes at ${offset} are not in the scratch area of ${this.view.scratch} bytes`,
			);
		}
		const from = this.scratchStart + offset;
		const { copier, words, data, capacity } = this.view;
		const need = recordBytes(length);
		const inRing = this.position & this.mask;
		// What nearly every record is: one that fits where the last ended, by what is known already.
		if (
			copier !== undefined &&
			this.limit === 0 &&
			length <= this.maxLength &&
			inRing + need <= capacity &&
			((this.position - this.seenTail) >>> 0) + need <= capacity
		) {
			this.begin(data + inRing, length);
			copier.put(data + inRing, from, length, meta);
			this.position = (this.position + need) | 0;
			this.packets = (this.packets + 1) | 0;
			this.pendingBytes += length;
			this.publishMuch();
			return true;
		}
		const at = this.make(length);
		if (at < 0) return this.overflow === "drop-newest";
		const start = at - RECORD_HEADER;
		this.begin(start, length);
		if (copier !== undefined) copier.put(start, from, length, meta);
		else {
			words[(start >> 2) + 1] = meta;
			this.bytes.copyWithin(at, from, from + length);
		}
		this.advance(length);
		this.publishMuch();
		return true;
	}

	/** {@link pushScratch} and {@link publish} in one call: the quickest answer there is. Returns as {@link send}. */
	sendScratch(offset: number, length: number, meta = 0): boolean {
		const need = recordBytes(length);
		const { quick } = this;
		if (need >= quick || length < 0 || offset < 0 || offset + length > this.view.scratch) {
			const taken = this.pushScratch(offset, length, meta);
			this.publish();
			return taken;
		}
		const record = this.quickRecord;
		const next = record + need;
		// Where the end will be behind another record like this: a reader of the last lap still has a copy of that line.
		const ahead = 2 * need < quick ? next + need : 0;
		const head = (this.position + need) | 0;
		const depth = this.quickDepth + need;
		this.position = this.published = head;
		this.publishedPackets = this.packets = (this.packets + 1) | 0;
		this.quick = quick - need;
		this.quickRecord = next;
		this.quickDepth = depth;
		const sleeps = this.view.copier!.send(
			this.ringStart,
			record,
			length | this.quickLap,
			this.scratchStart + offset,
			length,
			meta,
			next,
			LAP - this.quickLap,
			head,
			depth,
			this.bell,
			ahead,
		);
		if (sleeps === 1) this.wake();
		return true;
	}

	/**
	 * Copies many records in from {@link scratch} with one call: a small record costs a fraction of {@link pushScratch}.
	 * Publishes nothing unless it has to wait for room or a quarter of the ring waits for that.
	 *
	 * @param table - byte offset in `scratch`, a multiple of 4, of `count` entries of three 32-bit words: where the
	 *   payload starts in `scratch`, its length, and the meta word
	 * @returns how many were taken: fewer than `count` only under the policy `fail`
	 * @throws RingError as {@link send}, and `ERR_RING_MISUSE` when the table or a payload is not in `scratch`
	 */
	pushBatch(table: number, count: number): number {
		requireTable(table, count, this.view.scratch);
		const { copier, words, data, capacity, scratch } = this.view;
		let taken = 0;
		while (taken < count) {
			const entry = this.scratchStart + table + taken * ENTRY_BYTES;
			const { position, scratchStart, longest } = this;
			const at = position & this.mask;
			const free = capacity - ((position - this.seenTail) >>> 0);
			if (copier !== undefined && this.limit === 0 && free > 0) {
				const hold = position === this.published;
				const put = copier.putBatch(
					entry,
					count - taken,
					data + at,
					Math.min(free, capacity - at),
					lapAt(position, capacity),
					scratchStart,
					scratch,
					longest,
					hold ? 1 : 0,
				);
				if (put > 0) {
					if (hold) this.first = HELD;
					this.quick = 0;
					this.position = (position + copier.bytes()) | 0;
					this.packets = (this.packets + put) | 0;
					taken += put;
					this.publishMuch();
					continue;
				}
			}
			// What must ask for the consumer's index, wait, be dropped or be refused.
			const word = entry >> 2;
			if (!this.pushScratch(words[word]!, words[word + 1]!, words[word + 2])) return taken;
			taken++;
		}
		return taken;
	}

	/** Sends all of `payloads` or, when they do not fit together, none. Returns whether they were sent. */
	sendBulk(payloads: readonly Uint8Array[], meta = 0): boolean {
		const { position, packets, pendingBytes } = this;
		for (const payload of payloads) {
			const at = this.reserve(payload.length);
			if (at < 0) {
				Object.assign(this, { position, packets, pendingBytes, reservedAt: -1 });
				return false;
			}
			this.place(payload, at, meta);
		}
		this.publish();
		return true;
	}

	/** Sends as many of `payloads` as fit, from the first on. Returns how many. */
	sendBurst(payloads: readonly Uint8Array[], meta = 0): number {
		let count = 0;
		for (const payload of payloads) {
			const at = this.reserve(payload.length);
			if (at < 0) break;
			this.place(payload, at, meta);
			count++;
		}
		this.publish();
		return count;
	}

	/**
	 * Stops this thread until a record of `length` bytes fits.
	 *
	 * @returns false after `timeoutMs` milliseconds, or when the consumer closed
	 * @throws RingError `ERR_RING_CANNOT_BLOCK` where threads must not stop
	 */
	waitWritable(length: number, timeoutMs: number = Number.POSITIVE_INFINITY): boolean {
		const { words, producerBell, sleeper } = this.view;
		this.publish();
		for (let look = 0; look < this.spin; look++) if (this.hasRoom(length, WAIT_RESTS)) return true;
		if (!sleeper.canBlock) {
			throw new RingError("ERR_RING_CANNOT_BLOCK", "this thread cannot stop to wait: use waitWritableAsync");
		}
		sleepUntil(words, producerBell, sleeper, timeoutMs, () => this.hasRoom(length) || this.peerClosed || this.closed);
		return this.hasRoom(length);
	}

	/** As {@link waitWritable}, for an event loop. */
	async waitWritableAsync(length: number, options: WaitOptions = {}): Promise<boolean> {
		const { words, producerBell, sleeper } = this.view;
		options.signal?.throwIfAborted();
		this.publish();
		if (this.hasRoom(length)) return true;
		await sleepUntilAsync(
			words,
			producerBell,
			sleeper,
			options,
			() => this.hasRoom(length) || this.peerClosed || this.closed,
		);
		return this.hasRoom(length);
	}

	/**
	 * Publishes what is committed and tells the consumer that nothing follows; ends a wait of this thread's own. Idempotent.
	 */
	close(): void {
		this.closed = true;
		this.publish();
		const { words, base, doorbell, producerBell, sleeper } = this.view;
		Atomics.store(words, producerBell, 0);
		sleeper.wake(producerBell);
		Atomics.store(words, base + Word.producerClosed, 1);
		Atomics.store(words, doorbell, 0);
		sleeper.wake(doorbell);
	}

	[Symbol.dispose](): void {
		this.close();
	}

	/** Room under the policy; counts a drop. -1 when there is none. */
	private make(length: number): number {
		let at = this.reserve(length);
		if (at >= 0) return at;
		if (this.peerClosed) throw this.closedByPeer();
		if (this.overflow === "drop-newest") {
			this.view.floats[(this.view.base >> 1) + Stat.dropped]! += 1;
			return -1;
		}
		while (at < 0 && this.overflow === "block") {
			this.waitWritable(length);
			if (this.peerClosed) throw this.closedByPeer();
			at = this.reserve(length);
		}
		return at;
	}

	/** Writes a whole record where room was reserved. */
	private place(payload: Uint8Array, at: number, meta: number): void {
		const { copier, words } = this.view;
		const { length } = payload;
		const start = at - RECORD_HEADER;
		this.begin(start, length);
		if (copier !== undefined && payload.buffer === this.buffer) {
			copier.put(start, payload.byteOffset, length, meta);
		} else {
			words[(start >> 2) + 1] = meta;
			this.bytes.set(payload, at);
		}
		this.advance(length);
	}

	/** Publishes what takes a quarter of the ring: the consumer need not wait until the ring is full, nor we for it then. */
	private publishMuch(): void {
		if ((this.position - this.published) >>> 0 > this.much) this.publish();
	}

	/** Makes ready for {@link sendScratch} to put a record behind the last one published, if one can go there. */
	private prepare(): void {
		const { copier, data, capacity } = this.view;
		const at = this.position & this.mask;
		this.quickDepth = (this.position - this.seenTail) >>> 0;
		this.quickRecord = data + at;
		this.quickLap = lapAt(this.position, capacity);
		// A record may be as long as half a ring: what is left of it is less than that, or it does not matter.
		const most = Math.min(capacity - at, capacity - this.quickDepth, this.maxLength + RECORD_HEADER);
		this.quick = copier === undefined || this.limit !== 0 ? 0 : most;
	}

	/** Writes a record's first word, or keeps it: the word behind the last record is the publication. */
	private begin(start: number, word: number): void {
		this.quick = 0;
		const inLap = word | lapAt(this.position, this.view.capacity);
		if (this.position === this.published) this.first = inLap;
		else this.view.words[start >> 2] = inLap;
	}

	/** Counts what is about to be published: whoever sees it sees the counts that belong to it. */
	private count(depth: number): void {
		const { words, floats, base } = this.view;
		const stat = base >> 1;
		floats[stat + Stat.sent]! += (this.packets - this.publishedPackets) | 0;
		floats[stat + Stat.sentBytes]! += this.pendingBytes;
		if (depth > floats[stat + Stat.maxDepth]!) floats[stat + Stat.maxDepth] = depth;
		words[base + Word.head] = this.position;
	}

	/** Wakes the consumer, unless somebody did. */
	private wake(): void {
		const { words, floats, base, doorbell, sleeper } = this.view;
		if (Atomics.compareExchange(words, doorbell, 1, 0) !== 1) return;
		floats[(base >> 1) + Stat.wakeups]! += 1;
		sleeper.wake(doorbell);
	}

	private advance(length: number): void {
		this.position = (this.position + recordBytes(length)) | 0;
		this.packets = (this.packets + 1) | 0;
		this.pendingBytes += length;
		this.reservedAt = -1;
	}

	private refresh(take: number, rests = 0): boolean {
		const { copier, words, base } = this.view;
		const tail = base + Word.tail;
		this.seenTail = copier === undefined ? Atomics.load(words, tail) : copier.load(tail << 2, rests, 1);
		const used = (this.position - this.seenTail) >>> 0;
		if (used > this.view.capacity) {
			throw new RingError("ERR_RING_CORRUPT", `the consumer's index says ${used} bytes are in use: open a new ring`);
		}
		return used + take <= this.view.capacity;
	}

	private refreshPackets(): boolean {
		const { words, base } = this.view;
		// The index is stored behind the count: whoever loads it first sees a count that is as new.
		Atomics.load(words, base + Word.tail);
		this.seenReceived = Atomics.load(words, base + Word.received);
		return (this.packets - this.seenReceived) >>> 0 < this.limit;
	}

	private hasRoom(length: number, rests = 0): boolean {
		const need = recordBytes(length);
		const toEnd = this.view.capacity - (this.position & this.mask);
		if (!this.refresh(need <= toEnd ? need : toEnd + need, rests)) return false;
		return this.limit === 0 || this.refreshPackets();
	}

	private closedByPeer(): RingError {
		return new RingError("ERR_RING_CLOSED", "the ring is full and its consumer closed it: open a new one");
	}

	private tooLong(length: number): RingError {
		return new RingError(
			"ERR_RING_TOO_LONG",
			`a record of ${length} bytes does not fit: half the capacity less a header, ${this.maxLength} bytes, is the most`,
		);
	}
}
