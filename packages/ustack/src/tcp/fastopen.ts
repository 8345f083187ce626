import type { Packet } from "../ip/packet.ts";
import type { Path } from "../ip/path.ts";
import { put32 } from "../wire/bytes.ts";
import { PSH, putFastOpen, TCP_HEADER } from "../wire/tcp.ts";
import type { TcpConfig } from "./config.ts";
import type { TcpConnection } from "./connection.ts";
import { openEarly } from "./early.ts";
import type { SegmentIn } from "./input.ts";
import type { Listener } from "./listener.ts";
import { nonCongestionLoss } from "./loss.ts";
import type { ConnectOptions } from "./opening.ts";
import { appendSegment, markLost, removeSegment } from "./queue.ts";
import { after, distance } from "./seq.ts";
import { siphash64 } from "./siphash.ts";
import { enqueue } from "./write.ts";

/** Bits of {@link TcpConfig.fastOpen}, by Linux's sysctl. */
const CLIENT = 1;
const SERVER = 2;
const CLIENT_NO_COOKIE = 4;
const SERVER_NO_COOKIE = 0x200;
const EVERY_LISTENER = 0x400;
const MAX_KNOWN = 1024;
/** Room left for options a middlebox may add (RFC 9293 3.7.1 leaves forty bytes). */
const OPTION_SPACE = 40;
/** RFC 7413 2.2: least and largest cookie. */
const LEAST_COOKIE = 4;
const LARGEST_COOKIE = 16;

/** What is remembered of a server (RFC 7413 4.1.3.1). */
interface Known {
	cookie: Uint8Array | undefined;
	mss: number;
	experimental: boolean;
	/** 0 the standard option, 1 the experimental one next, 2 the standard one again and for good. */
	trial: number;
}

/** How a client may open: with which cookie, and how much the SYN carries; undefined for an ordinary SYN. */
export interface FastOpenOffer {
	/** Undefined: data without a cookie; empty: ask for one. */
	cookie: Uint8Array | undefined;
	experimental: boolean;
	mss: number;
	/** Whether the SYN may carry data. */
	data: boolean;
}

/** RFC 7413, client's and server's side, over one TCP layer's configuration. */
export class FastOpen {
	private readonly config: TcpConfig;
	private readonly secret: Uint8Array;
	private readonly known = new Map<string, Known>();
	/** Client's opens are off until then: a path that eats them was met. */
	private disabledUntil = Number.NEGATIVE_INFINITY;
	private blackholes = 0;

	constructor(config: TcpConfig, secret: Uint8Array) {
		this.config = config;
		this.secret = secret;
	}

	get clientEnabled(): boolean {
		return (this.config.fastOpen & CLIENT) !== 0;
	}

	/** Forgets every server's cookie and every black hole. */
	forget(): void {
		this.known.clear();
		this.disabledUntil = Number.NEGATIVE_INFINITY;
		this.blackholes = 0;
	}

	/** What a client's SYN to an address may do now. */
	offer(remote: string, noCookie: boolean, now: number): FastOpenOffer | undefined {
		if (!this.clientEnabled || now < this.disabledUntil) return undefined;
		const known = this.known.get(remote);
		const mss = known?.mss ?? 0;
		if (noCookie || (this.config.fastOpen & CLIENT_NO_COOKIE) !== 0)
			return { cookie: undefined, experimental: false, mss, data: true };
		if (known?.cookie !== undefined) return { cookie: known.cookie, experimental: known.experimental, mss, data: true };
		return { cookie: new Uint8Array(0), experimental: known?.trial === 1, mss, data: false };
	}

	/** Puts an offer on a connection that is about to send its SYN; `queued` bytes wait in its send buffer. */
	arm(c: TcpConnection, offer: FastOpenOffer, queued: number): void {
		c.fastOpenCookie = offer.cookie;
		c.fastOpenExperimental = offer.experimental;
		c.synBytes = offer.data ? Math.min(queued, this.room(c, offer.mss)) : 0;
		if (!offer.data) c.fastOpenFailure = 1;
	}

	/** Data that goes with the SYN as far as RFC 7413 lets it; the rest follows the handshake. */
	open(c: TcpConnection, data: Uint8Array, options: ConnectOptions): void {
		const { remoteAddress, sendRing } = c;
		const offer = this.offer(remoteAddress.toString(), options.fastOpenNoCookie ?? false, c.layer.stack.now);
		if (offer !== undefined) this.arm(c, offer, data.length);
		const whole = options.fastOpenWhole ?? true;
		const count = Math.min(whole ? data.length : c.synBytes, c.sendLimit);
		if (count === 0) return;
		enqueue(c, data, count, false, false);
		sendRing.length = count;
		if (count < data.length) c.wantsWritable = true;
	}

	/** Bytes a SYN to a server of that MSS may carry. */
	room(c: TcpConnection, serverMss: number): number {
		let mss = Math.min(serverMss || c.advertisedMss, c.path.mtu - c.path.ops.headerLength - TCP_HEADER);
		if (c.mssClamp > 0) mss = Math.min(mss, c.mssClamp);
		return Math.max(0, mss - OPTION_SPACE);
	}

	/** The server's answer to a SYN: a cookie to keep, or a hint that the path takes no such option. */
	answered(c: TcpConnection, packet: Packet, s: SegmentIn, now: number): void {
		const { options } = s;
		const asked = c.fastOpenAsked;
		const offered = asked || c.synData;
		c.fastOpenCookie = undefined;
		if (!offered) return;
		const remote = c.remoteAddress.toString();
		const known: Known = this.known.get(remote) ?? { cookie: undefined, mss: 0, experimental: false, trial: 0 };
		known.mss = c.peerMss;
		const length = options.cookieLength;
		const valid = length >= LEAST_COOKIE && length <= LARGEST_COOKIE && length % 2 === 0;
		if (asked && valid) {
			known.cookie = packet.bytes.slice(options.cookieAt, options.cookieAt + length);
			known.experimental = options.cookieExperimental;
		} else if (asked && c.totalRetrans === 0 && !c.synData && known.cookie === undefined) {
			const trial = c.fastOpenExperimental ? 2 : 1;
			if (trial > known.trial) known.trial = trial;
		}
		if (!this.known.has(remote) && this.known.size >= MAX_KNOWN) this.known.delete(this.known.keys().next().value!);
		this.known.set(remote, known);
		if (c.synData && c.packetsOut > 0) c.fastOpenFailure = c.totalRetrans > 0 ? 3 : 2;
		else if (c.synData && now >= this.disabledUntil) this.blackholes = 0;
		if (c.packetsOut > 0) resendNow(c);
		else c.synDataAcked = c.synData;
	}

	/** The data that goes on the SYN is a segment of its own: the SYN alone is sent again. */
	queueData(c: TcpConnection, now: number): void {
		const segment = c.layer.segments.take(c.sndNxt, (c.sndNxt + c.synBytes) | 0, PSH);
		segment.sentAt = now;
		c.layer.push?.due(c, segment.end);
		c.sndNxt = segment.end;
		appendSegment(c, segment);
		c.synData = true;
	}

	/** Takes the acknowledged SYN off the queue, and the data that went with it as far as it was taken. */
	dataAcknowledged(c: TcpConnection, ack: number): void {
		for (let segment = c.firstSegment; segment !== undefined; ) {
			const { next } = segment;
			if (segment.lost) c.lostOut--;
			if (segment.resent) c.retransOut--;
			segment.lost = segment.resent = false;
			if (!after(segment.end, ack)) removeSegment(c, segment);
			else if (after(ack, segment.seq)) segment.seq = ack;
			segment = next;
		}
		const bytes = distance(ack, c.dataSeq);
		if (bytes <= 0) return;
		c.sendRing.discard(Math.min(bytes, c.sendRing.length), false);
		c.dataSeq = ack;
		c.bytesAcked += bytes;
	}

	/**
	 * Nothing was answered in time; `over` says that this was the last try. A SYN that went with data or for a cookie met
	 * RFC 7413 7.1's middlebox then, avoided for a while, longer each time.
	 */
	timedOut(c: TcpConnection, over: boolean, now: number): void {
		if (!(c.fastOpenAsked || c.synData) || !(c.retransmits === 2 || (c.retransmits < 2 && over))) return;
		const { fastOpenBlackholeMs } = this.config;
		if (fastOpenBlackholeMs === 0) return;
		this.disabledUntil = now + fastOpenBlackholeMs * 2 ** Math.min(this.blackholes, 6);
		this.blackholes++;
	}

	/** Writes the option; returns its length, padding counted. */
	put(c: TcpConnection, tx: Uint8Array, at: number, cookie: Uint8Array): number {
		c.fastOpenAsked = true;
		return putFastOpen(tx, at, cookie, c.fastOpenExperimental);
	}

	/** A SYN that made a half-open connection: with a good cookie it is its user's at once. */
	syn(listener: Listener, c: TcpConnection, packet: Packet, s: SegmentIn): void {
		if (this.accepts(listener, c, packet, s)) openEarly(listener, c, packet, s);
	}

	/**
	 * RFC 7413 4.2, the server's side of a SYN: true when the connection may be used at once. Otherwise the SYN-ACK may
	 * carry a cookie for the next time.
	 */
	private accepts(listener: Listener, c: TcpConnection, packet: Packet, s: SegmentIn): boolean {
		const { fastOpen } = this.config;
		const { options } = s;
		const most = listener.fastOpenQueue ?? ((fastOpen & EVERY_LISTENER) !== 0 ? listener.backlog : 0);
		if ((fastOpen & SERVER) === 0 || most === 0 || listener.fastOpenPending >= most) return false;
		if (s.length === 0 && options.cookieLength < 0) return false;
		c.fastOpenExperimental = options.cookieExperimental;
		if ((fastOpen & SERVER_NO_COOKIE) !== 0 || listener.fastOpenNoCookie) return true;
		if (options.cookieLength < 0) return false;
		const keys = listener.fastOpenKeys ?? this.config.fastOpenKeys ?? [this.secret];
		const cookies = keys.map((key) => cookieOf(c.path, key));
		if (options.cookieLength === LEAST_COOKIE * 2) {
			for (const [i, cookie] of cookies.entries()) {
				if (!cookie.every((byte, at) => packet.bytes[options.cookieAt + at] === byte)) continue;
				// Made with the key before: the client gets one of the present key.
				if (i > 0) c.fastOpenCookie = cookies[0];
				return true;
			}
		}
		c.fastOpenCookie = cookies[0];
		return false;
	}
}

/** What was sent and cannot have arrived goes again at once; the window does not answer for it. */
function resendNow(c: TcpConnection): void {
	for (let segment = c.firstSegment; segment !== undefined; segment = segment.next) {
		if (!segment.sacked) markLost(c, segment);
	}
	nonCongestionLoss(c);
}

/** The cookie a client gets: both addresses under a key, so that the server keeps nothing (RFC 7413 4.1.2). */
function cookieOf(path: Path, key: Uint8Array): Uint8Array {
	const { source, destination } = path;
	const words =
		path.ops.family === 4
			? [destination.d, source.d]
			: [destination.a, destination.b, destination.c, destination.d, source.a, source.b, source.c, source.d];
	const hash = siphash64(key, words.map(swap));
	const cookie = new Uint8Array(8);
	put32(cookie, 0, swap(hash[0]));
	put32(cookie, 4, swap(hash[1]));
	return cookie;
}

/** The same bytes in the other order: SipHash reads its input little-endian. */
function swap(word: number): number {
	return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}
