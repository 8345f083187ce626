import { get16, get32, put16 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import type { Packet } from "./packet.ts";
import type { TimerHeap } from "./timers.ts";
import { CallbackTimer } from "./timers.ts";

interface Piece {
	start: number;
	end: number;
	bytes: Uint8Array;
}

interface Datagram {
	key: string;
	pieces: Piece[];
	held: number;
	/** Payload length, known from the last fragment. */
	total: number;
	/** Header bytes of the first fragment, up to but without its fragment header. */
	header: Uint8Array | undefined;
	nextHeader: number;
	deadline: number;
}

/** What a fragment came to. */
export type FragmentResult = { done: Uint8Array } | "kept" | "malformed" | "dropped";

const MAX_BYTES = 4 << 20;
const MAX_PIECES = 256;
/** RFC 1122 3.3.2 asks for 60..120 s, RFC 8200 4.5 for 60; Linux keeps 30 for IPv4. */
const LIFETIME_MS = 30_000;

/**
 * Fragments to datagrams, for both families. A datagram with overlapping pieces is given up whole (RFC 5722; for IPv4
 * the same answer to the same attacks); memory is bounded, the oldest datagram goes first.
 */
export class Reassembler {
	private readonly datagrams = new Map<string, Datagram>();
	private held = 0;
	private readonly timers: TimerHeap;
	private readonly expired: (header: Uint8Array, firstBytes: Uint8Array) => void;
	private readonly timer = new CallbackTimer((now) => this.sweep(now));

	/**
	 * @param expired - told of a datagram that timed out with its first fragment present, for Time Exceeded
	 */
	constructor(timers: TimerHeap, expired: (header: Uint8Array, firstBytes: Uint8Array) => void) {
		this.timers = timers;
		this.expired = expired;
	}

	/** Bytes held at present. */
	get bytesHeld(): number {
		return this.held;
	}

	/**
	 * Takes a fragment. For IPv4 `packet.l4` is the payload; for IPv6 it is the fragment header, and `previousNext` is the
	 * offset of the next-header field that named it.
	 */
	add(packet: Packet, previousNext: number): FragmentResult {
		const { bytes, l3, now } = packet;
		const v6 = packet.ops.family === 6;
		const field = v6 ? get16(bytes, packet.l4 + 2) : get16(bytes, l3 + 6);
		const start = v6 ? field & 0xfff8 : (field & 0x1fff) << 3;
		const more = v6 ? (field & 1) !== 0 : (field & 0x2000) !== 0;
		const from = v6 ? packet.l4 + 8 : packet.l4;
		const length = packet.end - from;
		const end = start + length;
		if (length <= 0 || (more && (length & 7) !== 0) || end > 65_535) return "malformed";
		const id = v6 ? get32(bytes, packet.l4 + 4) : get16(bytes, l3 + 4);
		const protocol = v6 ? 0 : packet.protocol;
		const key = `${id},${protocol},${packet.sa},${packet.sb},${packet.sc},${packet.sd},${packet.da},${packet.db},${packet.dc},${packet.dd}`;
		let datagram = this.datagrams.get(key);
		if (datagram === undefined) {
			datagram = { key, pieces: [], held: 0, total: -1, header: undefined, nextHeader: 0, deadline: now + LIFETIME_MS };
			this.datagrams.set(key, datagram);
			if (this.timer.timerIndex < 0) this.timers.schedule(this.timer, datagram.deadline);
		}
		let at = datagram.pieces.length;
		while (at > 0 && datagram.pieces[at - 1]!.start >= end) at--;
		const before = datagram.pieces[at - 1];
		if (before !== undefined && before.end > start) {
			if (before.start === start && before.end === end) return "kept";
			this.forget(datagram);
			return "dropped";
		}
		const conflict = more ? datagram.total >= 0 && end > datagram.total : datagram.total >= 0 && end !== datagram.total;
		const beyond = !more && datagram.pieces.some((piece) => piece.end > end);
		if (conflict || beyond || datagram.pieces.length >= MAX_PIECES) {
			this.forget(datagram);
			return "dropped";
		}
		if (!more) datagram.total = end;
		if (start === 0) {
			datagram.header = bytes.slice(l3, v6 ? packet.l4 : from);
			if (v6) {
				datagram.nextHeader = bytes[packet.l4]!;
				datagram.header[previousNext - l3] = datagram.nextHeader;
			}
		}
		datagram.pieces.splice(at, 0, { start, end, bytes: bytes.slice(from, packet.end) });
		datagram.held += length;
		this.held += length;
		if (datagram.total >= 0 && datagram.held === datagram.total && datagram.header !== undefined) {
			this.forget(datagram);
			return finish(datagram, v6);
		}
		while (this.held > MAX_BYTES) this.forget(this.datagrams.values().next().value!);
		return "kept";
	}

	private forget(datagram: Datagram): void {
		if (this.datagrams.delete(datagram.key)) this.held -= datagram.held;
	}

	private sweep(now: number): void {
		for (const datagram of this.datagrams.values()) {
			if (datagram.deadline > now) {
				this.timers.schedule(this.timer, datagram.deadline);
				return;
			}
			this.forget(datagram);
			const first = datagram.pieces[0];
			if (datagram.header !== undefined && first !== undefined) this.expired(datagram.header, first.bytes);
		}
	}
}

function finish(datagram: Datagram, v6: boolean): FragmentResult {
	const header = datagram.header!;
	const length = header.length + datagram.total;
	if (length - (v6 ? 40 : 0) > 65_535) return "malformed";
	const whole = new Uint8Array(length);
	whole.set(header);
	for (const piece of datagram.pieces) whole.set(piece.bytes, header.length + piece.start);
	if (v6) {
		put16(whole, 4, length - 40);
	} else {
		put16(whole, 2, length);
		put16(whole, 6, 0);
		put16(whole, 10, 0);
		put16(whole, 10, ~foldSum(sumBytes(whole, 0, header.length)));
	}
	return { done: whole };
}
