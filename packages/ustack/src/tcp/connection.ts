import { type StackError, type StackErrorCode, socketError } from "../errors.ts";
import type { Path } from "../ip/path.ts";
import { NEVER, type Timer } from "../ip/timers.ts";
import type { IpAddress } from "../wire/address.ts";
import { abort, close, finState } from "./closing.ts";
import type { Congestion, CongestionView } from "./congestion.ts";
import type { TcpCore } from "./core.ts";
import { wantOutput } from "./events.ts";
import type { TcpInfo } from "./info.ts";
import type { Listener } from "./listener.ts";
import { missing } from "./modules.ts";
import { ByteRing } from "./ring.ts";
import type { Segment } from "./segment.ts";
import {
	CLOSE_WAIT,
	CLOSED,
	ESTABLISHED,
	FIN_WAIT_2,
	STATE_NAMES,
	SYN_RECEIVED,
	SYN_SENT,
	type TcpState,
} from "./state.ts";
import { keepAliveChanged } from "./timers.ts";
import { consumed } from "./window.ts";
import { enqueue } from "./write.ts";

/** What a connection tells its user; called from the stack's poll. Every member is optional. */
export interface TcpHandlers {
	onConnect?(connection: TcpConnection): void;
	/** Bytes arrived; take them with {@link TcpConnection.read} or {@link TcpConnection.peek}. */
	onReadable?(connection: TcpConnection): void;
	/** The peer has finished sending; bytes before it may still be unread. */
	onEnd?(connection: TcpConnection): void;
	/** There is room to write again after a short write. */
	onWritable?(connection: TcpConnection): void;
	/** The connection is over; `error` when it did not end by both sides' FIN. The last call. */
	onClose?(connection: TcpConnection, error: StackError | undefined): void;
}

/** What the shared retransmission timer is armed for. */
export type RetransmitTimer = "none" | "rto" | "tlp" | "reorder" | "persist";

/**
 * One TCP connection: its variables under RFC 9293's names and the calls a user has. What happens on segments and
 * timers is in `input`, `recovery`, `output` and `timers`.
 */
export class TcpConnection implements Timer, CongestionView {
	timerIndex = -1;
	timerAt = 0;
	readonly layer: TcpCore;
	path: Path;
	readonly localPort: number;
	readonly remotePort: number;
	state: number = CLOSED;
	listener: Listener | undefined;
	handlers: TcpHandlers | undefined;
	/** Free for the connection's user. */
	owner: unknown = undefined;
	/** Next in the demultiplexer's chain. */
	chain: TcpConnection | undefined;

	// Sending.
	iss = 0;
	sndUna = 0;
	sndNxt = 0;
	/** Peer's window in bytes and the segment it came from. */
	sndWnd = 0;
	sndWl1 = 0;
	maxWindow = 0;
	sndWscale = 0;
	/** Sequence number of the first byte in `sendRing`. */
	dataSeq = 0;
	readonly sendRing: ByteRing;
	sendLimit: number;
	/** A write was short: tell when there is room. */
	wantsWritable = false;
	/** The user has closed the sending side; the FIN goes behind the data. */
	finQueued = false;
	finSent = false;
	noDelay = false;
	cork = false;
	/** The last write said that more follows. */
	more = false;
	pushNow = false;
	/** Ends of unsent writes that want a PSH, in order (RFC 9293 3.9.1.2). */
	readonly pushMarks: number[] = [];
	/** Ends of unsent records nothing may be joined to, in order (MSG_EOR). */
	readonly records: number[] = [];
	/** Where the last run of bytes that later writes may join began, and where a PSH was last asked for. */
	tailStart = 0;
	pushedSeq = 0;
	/** End of the last small segment sent, for Nagle as Minshall has it. */
	smallEnd = 0;
	mss = 536;
	peerMss = 536;
	/** The user's upper bound of the MSS (TCP_MAXSEG), 0 for none. */
	mssClamp = 0;
	/** Upper bound of the path as probed (RFC 4821), 0 while not probing. */
	probedMss = 0;
	/** The search above it: the largest size not known to be lost, the size under way and its segment. */
	probeHigh = 0;
	probeSize = 0;
	probeStart = 0;
	probeEnd = 0;
	probeEndedAt: number = NEVER;
	ttl = 0;
	tos = 0;

	// Receiving.
	irs = 0;
	rcvNxt = 0;
	/** Last sequence acknowledged, and the window offered then. */
	rcvWup = 0;
	rcvWnd = 0;
	rcvWscale = 0;
	readonly recvRing: ByteRing;
	receiveLimit: number;
	/** How far the offered window may go yet: it grows with what arrives, so that a burst cannot fill the buffer. */
	receiveSsthresh = 0xffff;
	/** The user fixed the receive buffer: no tuning. */
	receiveFixed = false;
	/** Ranges received ahead, [start, end) pairs in order. */
	readonly ahead: number[] = [];
	/** SACK blocks, the most recent first, and the duplicate to report. */
	readonly sackBlocks: number[] = [];
	dsackStart = 0;
	dsackEnd = 0;
	hasDsack = false;
	/** Sequence number of the peer's FIN when it came ahead of data. */
	finSeq = 0;
	finAhead = false;
	finReceived = false;
	receiveShut = false;
	advertisedMss = 536;
	rcvMss = 536;

	// Options in use.
	tsOk = false;
	tsRecent = 0;
	tsRecentAt = 0;
	tsOffset = 0;
	sackOk = false;
	wscaleOk = false;
	ecnOk = false;
	/** Answer with ECE until CWR. */
	ecnEcho = false;
	/** Say CWR on the next new data. */
	ecnCwr = false;
	ecnSeen = false;
	synEcn = false;

	// Retransmission queue.
	firstSegment: Segment | undefined;
	lastSegment: Segment | undefined;
	packetsOut = 0;
	sackedOut = 0;
	lostOut = 0;
	retransOut = 0;
	/** Where the search for lost segments to send again goes on. */
	resendHint: Segment | undefined;
	/** Highest sequence selectively acknowledged. */
	highestSacked = 0;

	// Congestion.
	congestion: Congestion;
	cwnd: number;
	ssthresh: number = 0x7fffffff;
	/** 0 open, 1 disorder, 2 cwr, 3 recovery, 4 loss. */
	caState = 0;
	highSeq = 0;
	priorCwnd = 0;
	prrDelivered = 0;
	prrOut = 0;
	undoMarker = 0;
	undoActive = false;
	undoRetransmits = 0;
	undoCwnd = 0;
	undoSsthresh = 0;
	/** Time value of the first retransmission, for Eifel's test (RFC 3522). */
	retransStamp = 0;
	hasRetransStamp = false;
	frto = false;
	/** F-RTO step 2b: new data goes out before anything is sent again. */
	frtoNew = false;
	maxPacketsOut = 0;
	cwndLimited = false;
	cwndUsedEnd = 0;
	reordering = 3;
	delivered = 0;
	deliveredCe = 0;

	// RACK (RFC 8985).
	rackTime = -1;
	rackEnd = 0;
	rackRtt = 0;
	rackAdvanced = false;
	rackReordered = false;
	rackSteps = 1;
	rackPersist = 0;
	rackDsackSeen = false;
	rackDsackRound = 0;
	tlpHighSeq = 0;
	tlpActive = false;
	tlpRetransmitted = false;

	// RTT (RFC 6298, with Linux's variance), milliseconds.
	srtt = 0;
	mdev = 0;
	mdevMax = 0;
	rttvar = 0;
	rttSeq = 0;
	rto: number;
	minRtt: number = Number.POSITIVE_INFINITY;
	minRttAt = 0;

	// Timers: deadlines, Infinity for none.
	retransmitTimer: RetransmitTimer = "none";
	retransmitAt: number = NEVER;
	delayedAckAt: number = NEVER;
	keepAliveAt: number = NEVER;
	backoff = 0;
	retransmits = 0;
	/** When the first unanswered retransmission happened. */
	troubleSince = -1;
	probesOut = 0;
	keepAlive = false;
	keepAliveIdleMs: number;
	keepAliveIntervalMs: number;
	keepAliveProbes: number;
	keepAliveSent = 0;
	/** RFC 5482; 0 for the retry limits. */
	userTimeoutMs = 0;
	/** Linger on close: -1 in the background, 0 reset. */
	lingerMs = -1;
	lastReceivedAt = 0;
	lastSentAt = -1;
	lastDataAt = 0;

	// Acknowledging.
	ackNow = 0;
	ackPending = false;
	quickAcks = 0;
	pingPong = false;
	ato = 0;
	lastOutOfWindowAckAt: number = Number.NEGATIVE_INFINITY;

	// Receive-window tuning.
	tuneSpace = 0;
	tuneAt = 0;
	tuneSeq = 0;
	copiedSeq = 0;
	receiveRtt = 0;
	/** A window offered then, and where it ends; the last echo measured. */
	receiveRttAt = -1;
	receiveRttSeq = 0;
	receiveEcho = 0;

	// Bookkeeping.
	orphan = false;
	needsOutput = false;
	events = 0;
	error: StackError | undefined;
	softError: StackErrorCode | undefined;
	/** The application has been told of the end. */
	closeDelivered = false;
	totalRetrans = 0;
	/** Retransmission timeouts. */
	timeouts = 0;
	bytesAcked = 0;
	bytesReceived = 0;
	bytesSent = 0;
	bytesRetrans = 0;
	segsIn = 0;
	segsOut = 0;
	dataSegsIn = 0;
	dataSegsOut = 0;
	dsackDups = 0;
	outOfOrderIn = 0;
	/** Fast Open: the option to put on the SYN or SYN-ACK, once; whether one went out, and bytes the SYN carries. */
	fastOpenCookie: Uint8Array | undefined;
	fastOpenExperimental = false;
	fastOpenAsked = false;
	synBytes = 0;
	/** Why a Fast Open did not carry data, by Linux's numbers: 1 no cookie, 2 data not acknowledged, 3 SYN lost. */
	fastOpenFailure = 0;
	/** A Fast Open server's side before the handshake is over: data flows already. */
	earlyOpen = false;
	/** Data of the SYN was taken by its receiver. */
	synDataAcked = false;
	/** A SYN without options beyond the MSS, after several went unanswered. */
	plainSyn = false;
	/** The timestamp a SYN cookie encodes options in. */
	cookieStamp: number | undefined;
	synData = false;
	synRetries: number;
	/** When data last arrived, an acknowledgement last did, data last left. */
	lastAckAt = 0;
	lastDataSentAt = 0;
	/** Reorderings seen. */
	reorderings = 0;
	/** What sending waits for: 0 nothing, 1 the network, 2 the peer's window, 3 the user's buffer; totals in milliseconds. */
	limit = 0;
	limitSince = 0;
	limited: number[] | undefined;

	constructor(layer: TcpCore, path: Path, localPort: number, remotePort: number, handlers: TcpHandlers | undefined) {
		this.layer = layer;
		this.path = path;
		this.localPort = localPort;
		this.remotePort = remotePort;
		this.handlers = handlers;
		const { config } = layer;
		this.sendRing = new ByteRing(layer.buffers);
		this.recvRing = new ByteRing(layer.buffers);
		this.sendLimit = config.sendBuffer;
		this.receiveLimit = config.receiveBuffer;
		this.congestion = layer.createCongestion();
		this.cwnd = config.initialWindowSegments;
		this.rto = config.initialRtoMs;
		this.synRetries = config.synRetries;
		this.lastDataAt = this.lastAckAt = layer.stack.now;
		this.keepAliveIdleMs = config.keepAliveIdleMs;
		this.keepAliveIntervalMs = config.keepAliveIntervalMs;
		this.keepAliveProbes = config.keepAliveProbes;
	}

	get localAddress(): IpAddress {
		return this.path.source;
	}

	get remoteAddress(): IpAddress {
		return this.path.destination;
	}

	get stateName(): TcpState {
		return STATE_NAMES[this.state]!;
	}

	/** Segments sent and believed to be in the network. */
	inFlight(): number {
		const sent = this.packetsOut - this.sackedOut - this.lostOut + this.retransOut;
		// An early connection's SYN-ACK is no load.
		return this.earlyOpen ? Math.max(0, sent - 1) : sent;
	}

	/** Bytes written and not yet sent. */
	get unsent(): number {
		const sentData = this.sndNxt - this.dataSeq - (this.finSent ? 1 : 0);
		return this.sendRing.length - Math.max(sentData | 0, 0);
	}

	/** Bytes {@link write} would take now. */
	get writable(): number {
		return this.finQueued || this.state > CLOSE_WAIT || this.state === CLOSED
			? 0
			: Math.max(0, this.sendLimit - this.sendRing.length);
	}

	/** Bytes {@link read} would give now. */
	get readable(): number {
		return this.recvRing.length;
	}

	/**
	 * Queues bytes, as many as there is room for, and returns how many. After a short write `onWritable` is called when
	 * half of the buffer is free. The bytes are copied.
	 *
	 * @param more - more will follow at once: a last partial segment waits for it, until the next acknowledgement
	 * @param record - nothing written later shares a segment with the end of these bytes
	 *
	 * @throws StackError `EPIPE` after {@link end}, the connection's error after it failed, `ENOTCONN` before a connect
	 */
	write(bytes: Uint8Array, more = false, record = false): number {
		if (this.error !== undefined) throw this.error;
		if (this.finQueued || this.state > CLOSE_WAIT) throw socketError("EPIPE", "write");
		if (this.state === CLOSED) throw socketError("ENOTCONN", "write");
		const count = Math.min(this.writable, bytes.length);
		if (count > 0) {
			enqueue(this, bytes, count, more, record && count === bytes.length);
			wantOutput(this);
		}
		if (count < bytes.length) this.wantsWritable = true;
		return count;
	}

	/** Moves up to `into.length` received bytes out; returns how many, 0 when there are none. */
	read(into: Uint8Array): number {
		const count = Math.min(into.length, this.recvRing.length);
		if (count === 0) return 0;
		this.recvRing.copyTo(0, into, 0, count);
		this.consume(count);
		return count;
	}

	/** A view of received bytes without taking them, valid until the next call; {@link consume} takes them. */
	peek(most: number = 1 << 30): Uint8Array {
		return this.recvRing.peek(most);
	}

	/** Takes bytes seen with {@link peek}. */
	consume(count: number): void {
		this.recvRing.discard(count, this.ahead.length > 0);
		this.copiedSeq = (this.copiedSeq + count) | 0;
		consumed(this);
	}

	/** Finishes sending: what is queued goes out, then a FIN. Reading goes on. */
	end(): void {
		if (this.finQueued || this.state === CLOSED) return;
		this.finQueued = true;
		finState(this);
		wantOutput(this);
	}

	/** Stops caring for what arrives: it is acknowledged and thrown away. */
	shutdownRead(): void {
		this.receiveShut = true;
		const count = this.recvRing.length;
		if (count > 0) this.consume(count);
	}

	/**
	 * Gives the connection back: what is queued still goes out in the background; unread bytes make it a reset (RFC 9293
	 * 3.6.1's advice). No handler is called afterwards.
	 */
	close(): void {
		close(this);
	}

	/** Ends the connection at once with a reset. No handler is called afterwards. */
	abort(): void {
		abort(this);
	}

	setNoDelay(on: boolean): void {
		this.noDelay = on;
		if (!on) return;
		// What waits goes out now, even under a cork.
		this.pushNow = true;
		wantOutput(this);
	}

	/** Sends what is queued as far as windows let it, a partial last segment too, and asks the peer to hand it on (PSH). */
	flush(): void {
		if (this.unsent === 0) return;
		const end = (this.dataSeq + this.sendRing.length) | 0;
		this.layer.push?.mark(this, end);
		this.more = false;
		this.pushNow = true;
		wantOutput(this);
	}

	/** Holds partial segments back until it is lifted. */
	setCork(on: boolean): void {
		this.cork = on;
		if (!on) wantOutput(this);
	}

	setKeepAlive(on: boolean, idleMs: number = this.keepAliveIdleMs): void {
		if (on && this.layer.keepAlive === undefined) throw missing("keepAlive");
		this.keepAlive = on;
		this.keepAliveIdleMs = idleMs;
		keepAliveChanged(this);
	}

	/** Fixes the receive buffer's size, which ends its tuning. */
	setReceiveBuffer(bytes: number): void {
		this.receiveLimit = Math.max(2048, bytes);
		this.receiveFixed = true;
	}

	setSendBuffer(bytes: number): void {
		this.sendLimit = Math.max(4096, bytes);
	}

	/** Whether both directions are up. */
	get established(): boolean {
		return this.state >= ESTABLISHED && this.state <= FIN_WAIT_2;
	}

	get connecting(): boolean {
		return this.state === SYN_SENT || this.state === SYN_RECEIVED;
	}

	/**
	 * What Linux's TCP_INFO tells.
	 *
	 * @throws StackError `ENOPROTOOPT` where the layer was made without this part
	 */
	info(): TcpInfo {
		const { info } = this.layer.modules;
		if (info === undefined) throw missing("info");
		return info(this);
	}

	fire(now: number): void {
		this.layer.timerFired(this, now);
	}
}
