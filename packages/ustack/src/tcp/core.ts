import { StackError, type StackErrorCode, socketError } from "../errors.ts";
import type { Pollable, ProtocolHandler, StackCore } from "../ip/core.ts";
import type { IcmpErrorKind } from "../ip/icmp.ts";
import type { Packet } from "../ip/packet.ts";
import type { Interface } from "../link/interface.ts";
import { type AddressLike, ANY4, addressBy, type IpAddress, LOOPBACK4, LOOPBACK6 } from "../wire/address.ts";
import { get16 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { PROTO_TCP } from "../wire/constants.ts";
import { ACK, FIN, parseTcpOptions, RST, SYN, TCP_HEADER, TcpOptions } from "../wire/tcp.ts";
import { type CongestionName, DEFAULT_TCP_CONFIG, type TcpConfig } from "./config.ts";
import { type Congestion, NewReno } from "./congestion.ts";
import {
	EVENT_CLOSE,
	EVENT_CONNECT,
	EVENT_END,
	EVENT_READABLE,
	EVENT_WRITABLE,
	TcpConnection,
	type TcpHandlers,
} from "./connection.ts";
import type { FastOpen } from "./fastopen.ts";
import type { TcpInfo } from "./info.ts";
import { readSegment, type SegmentIn, segmentArrives } from "./input.ts";
import type { KeepAlive } from "./keepalive.ts";
import { BUFFER_LIMITED, stopLimit } from "./limits.ts";
import { Listener, type ListenOptions } from "./listener.ts";
import type { LossRecovery } from "./loss.ts";
import { syncMss } from "./mss.ts";
import { NEWRENO_RECOVERY } from "./newreno-recovery.ts";
import { offeredWindow, output, sendConnectionReset } from "./output.ts";
import { listenIn } from "./passive.ts";
import { pickPort, tupleFree } from "./ports.ts";
import { clearQueue } from "./queue.ts";
import { sendReset, timeWaitIn } from "./reply.ts";
import { BufferPool } from "./ring.ts";
import { SegmentPool } from "./segment.ts";
import { after, distance } from "./seq.ts";
import { siphash } from "./siphash.ts";
import {
	CLOSE_WAIT,
	CLOSED,
	ESTABLISHED,
	FIN_WAIT_1,
	FIN_WAIT_2,
	LAST_ACK,
	STATE_NAMES,
	SYN_RECEIVED,
	SYN_SENT,
	TIME_WAIT,
} from "./state.ts";
import type { SynCookies } from "./syncookie.ts";
import { ConnectionTable } from "./table.ts";
import { onTimer } from "./timeouts.ts";
import { rearm } from "./timers.ts";
import { TimeWaitTable } from "./timewait.ts";
import type { BufferTuning } from "./tune.ts";
import { errorIn } from "./unreachable.ts";
import { enqueue } from "./write.ts";

/** Options of {@link TcpCore.connect}. */
export interface ConnectOptions {
	/** Source address; chosen by the routes when absent. */
	localAddress?: AddressLike;
	localPort?: number;
	iface?: Interface;
	noDelay?: boolean;
	/** Sets options before the SYN leaves. */
	configure?: (connection: TcpConnection) => void;
	/** Data to send at once: on the SYN (RFC 7413) when a cookie is known, else when the handshake is over. */
	fastOpen?: Uint8Array;
	/** Data rides on the SYN without a cookie (TCP_FASTOPEN_NO_COOKIE). @default false */
	fastOpenNoCookie?: boolean;
	/** Queue what the SYN cannot carry as well; otherwise it is the caller's to write. @default true */
	fastOpenWhole?: boolean;
}

const MAX_ACCEPT_ROUNDS = 8;

/** Parts of TCP beyond RFC 9293 and NewReno, each made for one layer; what is left out costs nothing in a bundle. */
export interface TcpModules {
	/** CUBIC for {@link TcpConfig.congestion}; without it NewReno stands in. */
	cubic?: (config: TcpConfig) => Congestion;
	/**
	 * SACK, RACK-TLP, F-RTO, PRR and undo; without it losses are found and repaired by NewReno (RFC 6582) and the RTO, and
	 * SACK is not offered.
	 */
	recovery?: LossRecovery;
	fastOpen?: (config: TcpConfig, secret: Uint8Array) => FastOpen;
	/** SYN cookies; without them a full backlog drops SYNs. */
	cookies?: (key: Uint8Array) => SynCookies;
	/** The search for a larger path MTU above a black hole's; without it the MSS stays at {@link TcpConfig.baseMss}. Needs `recovery`. */
	probe?: (connection: TcpConnection, now: number) => boolean;
	/** Buffers that grow with the window; without it they stay as {@link TcpConfig.receiveBuffer} and `sendBuffer` say. */
	tuning?: BufferTuning;
	/** {@link TcpConnection.setKeepAlive}. */
	keepAlive?: KeepAlive;
	/** What {@link TcpConnection.info} tells. */
	info?: (connection: TcpConnection) => TcpInfo;
}

/** TCP over a stack: the demultiplexer, listeners, and what connections share. */
export class TcpCore implements ProtocolHandler, Pollable {
	readonly stack: StackCore;
	readonly config: TcpConfig;
	readonly buffers: BufferPool = new BufferPool();
	readonly segments: SegmentPool = new SegmentPool();
	readonly table: ConnectionTable;
	readonly timeWaits: TimeWaitTable;
	private readonly listeners = new Map<number, Listener[]>();
	readonly cookies: SynCookies | undefined;
	private readonly secret: Uint8Array;
	private outputs: TcpConnection[] = [];
	private eventful: TcpConnection[] = [];
	private readonly stalled = new Set<TcpConnection>();
	/** Where the search for an ephemeral port goes on. */
	nextPort: number;
	private readonly segment: SegmentIn = {
		seq: 0,
		ack: 0,
		flags: 0,
		window: 0,
		at: 0,
		length: 0,
		options: new TcpOptions(),
	};
	/** Asked about a SYN for which nothing listens: a listener takes it, true swallows it, false refuses it. For gateways. */
	onOrphanSyn: ((packet: Packet, localPort: number, remotePort: number) => Listener | boolean) | undefined = undefined;
	readonly fastOpen: FastOpen | undefined;
	readonly recovery: LossRecovery;
	readonly keepAlive: KeepAlive | undefined;
	readonly tuning: BufferTuning | undefined;
	private readonly modules: TcpModules;
	/** Counters. */
	readonly stats = {
		activeOpens: 0,
		passiveOpens: 0,
		resetsSent: 0,
		checksumErrors: 0,
		synCookiesSent: 0,
		synCookiesTaken: 0,
		synDropped: 0,
	};

	constructor(stack: StackCore, config: Partial<TcpConfig> = {}, modules: TcpModules = {}) {
		this.modules = modules;
		this.stack = stack;
		this.keepAlive = modules.keepAlive;
		this.tuning = modules.tuning;
		this.recovery = modules.recovery ?? NEWRENO_RECOVERY;
		this.config = { ...DEFAULT_TCP_CONFIG, ...config };
		if (!this.recovery.selective) this.config.sack = false;
		this.secret = stack.randomBytes(16);
		this.cookies = modules.cookies?.(stack.randomBytes(16));
		this.fastOpen = modules.fastOpen?.(this.config, this.secret);
		this.table = new ConnectionTable(stack.randomInt());
		this.timeWaits = new TimeWaitTable(stack.timers, this.config.maxTimeWait);
		const [first, last] = this.config.ephemeralPorts;
		this.nextPort = first + ((stack.randomInt() >>> 0) % (last - first + 1));
		stack.protocols[PROTO_TCP] = this;
		stack.pollables.push(this);
	}

	/** A controller for one connection, by name or as the configuration has it. */
	createCongestion(name: CongestionName = this.config.congestion): Congestion {
		return name === "reno" ? new NewReno() : (this.modules.cubic?.(this.config) ?? new NewReno());
	}

	/**
	 * Opens a connection; `onConnect` or `onClose` tells how it went.
	 *
	 * @throws StackError `ENETUNREACH` without a route, `EADDRINUSE`, `EADDRNOTAVAIL`
	 */
	connect(address: AddressLike, port: number, handlers?: TcpHandlers, options: ConnectOptions = {}): TcpConnection {
		let remote = addressBy(address, this.stack.parse);
		if (remote.isUnspecified) remote = remote.family === 4 ? LOOPBACK4 : LOOPBACK6;
		const source = options.localAddress === undefined ? undefined : addressBy(options.localAddress, this.stack.parse);
		if (source !== undefined && !source.isUnspecified && !this.stack.isLocal(source)) {
			throw socketError("EADDRNOTAVAIL", "bind", source.toString(), options.localPort ?? 0);
		}
		if (source !== undefined && source.family !== remote.family)
			throw socketError("EINVAL", "connect", remote.toString(), port);
		if (remote.isMulticast || remote.isBroadcast) throw socketError("ENETUNREACH", "connect", remote.toString(), port);
		const path = this.stack.path(remote, source?.isUnspecified === true ? undefined : source, options.iface);
		if (path === undefined || path.source.isUnspecified)
			throw socketError("ENETUNREACH", "connect", remote.toString(), port);
		const localPort = options.localPort || pickPort(this, path, port);
		if (
			options.localPort &&
			(this.table.has(path.source, localPort, remote, port) || !tupleFree(this, path, localPort, port))
		) {
			throw socketError("EADDRINUSE", "connect", remote.toString(), port);
		}
		const c = new TcpConnection(this, path, localPort, port, handlers);
		this.prepare(c);
		c.noDelay = options.noDelay ?? false;
		options.configure?.(c);
		c.synEcn = this.config.ecn === "request";
		this.offer(c);
		if (options.fastOpen !== undefined) {
			if (this.fastOpen !== undefined) this.fastOpen.open(c, options.fastOpen, options);
			else enqueue(c, options.fastOpen, Math.min(options.fastOpen.length, c.sendLimit), false, false);
		}
		this.table.add(c);
		this.stats.activeOpens++;
		this.setState(c, SYN_SENT);
		this.wantOutput(c);
		return c;
	}

	/** What every new connection gets: sequence number, timestamp offset, MSS and window scale to announce. */
	prepare(c: TcpConnection): void {
		const { source, destination } = c.path;
		const words = [
			source.a,
			source.b,
			source.d,
			destination.a,
			destination.b,
			destination.d,
			(c.localPort << 16) | c.remotePort,
		];
		const waiting = this.timeWaits.find(source, c.localPort, destination, c.remotePort);
		const hash = siphash(this.secret, words);
		// RFC 6528: a clock of 4 microseconds and a secret per tuple.
		c.iss = (hash + Math.floor((this.stack.now * 250) % 0x100000000)) | 0;
		c.tsOffset = siphash(this.secret, [source.a, source.b, source.d, destination.a, destination.b, destination.d]);
		if (waiting !== undefined) {
			// RFC 6191 and RFC 1122 4.2.2.13: beyond everything the old connection sent.
			if (!after(c.iss, waiting.sndNxt)) c.iss = (waiting.sndNxt + 65_535 + 2) | 0;
			this.timeWaits.remove(waiting);
		}
		c.sndUna = c.sndNxt = c.iss;
		c.dataSeq = (c.iss + 1) | 0;
		c.pushedSeq = c.tailStart = c.dataSeq;
		c.smallEnd = c.iss;
		c.highestSacked = c.iss;
		c.cwndUsedEnd = c.iss;
		const { path } = c;
		const announced = path.iface.mtu - path.ops.headerLength - TCP_HEADER;
		c.advertisedMss = this.config.maxSegmentSize > 0 ? Math.min(this.config.maxSegmentSize, announced) : announced;
	}

	offer(c: TcpConnection): void {
		if (!this.config.windowScaling) return;
		let scale = 0;
		const most =
			c.receiveFixed || this.tuning === undefined
				? c.receiveLimit
				: Math.max(this.config.maxReceiveBuffer, c.receiveLimit);
		while (scale < 14 && most / 2 ** scale > 65_535) scale++;
		c.rcvWscale = scale;
	}

	/**
	 * Listens on a port.
	 *
	 * @throws StackError `EADDRINUSE`, `EADDRNOTAVAIL`
	 */
	listen(options: ListenOptions): Listener {
		const { address } = options;
		if (address !== undefined && !address.isUnspecified && !this.stack.isLocal(address)) {
			throw socketError("EADDRNOTAVAIL", "listen", address.toString(), options.port);
		}
		let { port } = options;
		if (port === 0) {
			const [first, last] = this.config.ephemeralPorts;
			const start = (this.stack.randomInt() >>> 0) % (last - first + 1);
			for (let i = 0; i <= last - first; i++) {
				const candidate = first + ((start + i) % (last - first + 1));
				if (this.listeners.has(candidate) || this.table.portInUse(candidate)) continue;
				port = candidate;
				break;
			}
			if (port === 0) throw socketError("EADDRINUSE", "listen", address?.toString(), 0);
		}
		const listener = new Listener(this, port, options);
		const others = this.listeners.get(port) ?? [];
		if (others.some((other) => overlap(other, listener)))
			throw socketError("EADDRINUSE", "listen", (address ?? ANY4).toString(), port);
		others.push(listener);
		this.listeners.set(port, others);
		return listener;
	}

	unlisten(listener: Listener): void {
		if (listener.closed) return;
		listener.closed = true;
		const others = this.listeners.get(listener.port)?.filter((other) => other !== listener) ?? [];
		if (others.length === 0) this.listeners.delete(listener.port);
		else this.listeners.set(listener.port, others);
		for (const c of listener.queue.splice(0)) this.abort(c);
		for (const c of [...this.table.all()])
			if (c.listener === listener && c.state === SYN_RECEIVED && !c.earlyOpen) this.finished(c, "silent");
	}

	/** Whether anybody listens on a port. */
	listening(port: number): boolean {
		return this.listeners.has(port);
	}

	/** An ICMP error about a segment of ours. */
	error(quoted: Packet, kind: IcmpErrorKind, mtu: number): void {
		errorIn(this, quoted, kind, mtu);
	}

	private listenerFor(packet: Packet, port: number): Listener | undefined {
		const candidates = this.listeners.get(port);
		if (candidates === undefined) return undefined;
		const destination = packet.destination();
		let best: Listener | undefined;
		let bestFit = -1;
		for (const candidate of candidates) {
			const fit = candidate.fits(destination);
			if (fit > bestFit) {
				best = candidate;
				bestFit = fit;
			}
		}
		return best;
	}

	input(packet: Packet): void {
		const { bytes, l4, end } = packet;
		const length = end - l4;
		if (length < TCP_HEADER) {
			this.stack.drop(packet, "tcp-malformed");
			return;
		}
		if (!packet.checked && foldSum(packet.pseudoSum(length) + sumBytes(bytes, l4, length)) !== 0xffff) {
			this.stats.checksumErrors++;
			this.stack.drop(packet, "tcp-checksum");
			return;
		}
		if (packet.groupcast || packet.linkBroadcast) {
			this.stack.drop(packet, "tcp-group");
			return;
		}
		const s = this.segment;
		if (!readSegment(packet, s, parseTcpOptions)) {
			this.stack.drop(packet, "tcp-malformed");
			return;
		}
		const remotePort = get16(bytes, l4);
		const localPort = get16(bytes, l4 + 2);
		const c = this.table.find(packet, localPort, remotePort, false);
		if (c !== undefined) {
			segmentArrives(c, packet, s);
			return;
		}
		const waiting = this.timeWaits.findFor(packet, localPort, remotePort);
		if (waiting !== undefined && !timeWaitIn(this, waiting, packet, s, localPort)) return;
		const listener = this.listenerFor(packet, localPort);
		if (listener !== undefined) {
			listenIn(this, listener, packet, s, localPort, remotePort);
			return;
		}
		if ((s.flags & (SYN | ACK | RST | FIN)) === SYN && this.onOrphanSyn !== undefined) {
			const taken = this.onOrphanSyn(packet, localPort, remotePort);
			if (taken === true) return;
			if (taken !== false) {
				listenIn(this, taken, packet, s, localPort, remotePort);
				return;
			}
		}
		if ((s.flags & RST) === 0) sendReset(this, packet, s);
	}

	/** Looks the connection's path up again after routes or MTUs changed. */
	refresh(c: TcpConnection): void {
		const path = this.stack.path(c.path.destination, c.path.source);
		if (path?.source.equals(c.path.source)) c.path = path;
	}

	setState(c: TcpConnection, state: number): void {
		if (c.state === SYN_RECEIVED && c.listener !== undefined) c.listener.halfOpen--;
		c.state = state;
		if (this.stack.onEvent !== undefined)
			this.stack.trace("tcp-state", `${c.localPort}->${c.remotePort} ${STATE_NAMES[state]}`);
	}

	/** A passive connection is established: to its user, or into the queue. */
	accepted(c: TcpConnection): void {
		const { listener } = c;
		if (listener === undefined) {
			this.notify(c, EVENT_CONNECT | EVENT_WRITABLE);
			return;
		}
		if (c.earlyOpen) {
			listener.fastOpenPending--;
			c.earlyOpen = false;
			c.listener = undefined;
			return;
		}
		c.listener = undefined;
		this.deliverAccepted(c, listener);
	}

	/** Gives a connection to its listener's user, or into the queue. */
	deliverAccepted(c: TcpConnection, listener: Listener): void {
		if (listener.closed) {
			this.abort(c);
			return;
		}
		c.owner = listener;
		if (listener.options.onConnection === undefined) listener.queue.push(c);
		this.notify(c, EVENT_CONNECT);
	}

	/** The user's close of the sending side has met an established connection. */
	finState(c: TcpConnection): void {
		if (c.state === ESTABLISHED) this.setState(c, FIN_WAIT_1);
		else if (c.state === CLOSE_WAIT) this.setState(c, LAST_ACK);
	}

	enterFinWait2(c: TcpConnection, now: number): void {
		this.setState(c, FIN_WAIT_2);
		if (c.orphan) {
			c.keepAliveAt = now + this.config.finWait2Ms;
			rearm(c);
		}
	}

	enterTimeWait(c: TcpConnection, now: number): void {
		// The last acknowledgement must leave before the connection is only a memory.
		if (c.ackNow > 0 || c.ackPending) {
			c.ackNow = 1;
			output(c, now);
		}
		this.table.remove(c);
		this.timeWaits.add(c, now, this.config.timeWaitMs);
		this.release(c);
		this.setState(c, TIME_WAIT);
		this.notify(c, EVENT_CLOSE);
	}

	private release(c: TcpConnection): void {
		clearQueue(c);
		c.sendRing.release();
		c.retransmitAt = c.delayedAckAt = c.keepAliveAt = Number.POSITIVE_INFINITY;
		this.stack.timers.cancel(c);
		this.stalled.delete(c);
		c.ahead.length = 0;
	}

	/** The connection is over: by both FINs, or by an error. `silent` tells nobody. */
	finished(c: TcpConnection, code: StackErrorCode | "silent" | undefined): void {
		if (c.state === CLOSED) return;
		const connecting = c.state === SYN_SENT || c.state === SYN_RECEIVED;
		if (code !== undefined && code !== "silent") {
			c.error = socketError(
				code,
				connecting ? "connect" : "read",
				connecting ? c.remoteAddress.toString() : undefined,
				connecting ? c.remotePort : undefined,
			);
		}
		if (this.table.remove(c)) this.release(c);
		this.setState(c, CLOSED);
		if (code !== "silent") this.notify(c, EVENT_CLOSE);
	}

	close(c: TcpConnection): void {
		if (c.orphan) return;
		c.orphan = true;
		c.handlers = undefined;
		const unread = c.recvRing.length > 0;
		c.recvRing.release();
		c.receiveShut = true;
		c.copiedSeq = c.rcvNxt;
		if (c.state === CLOSED || c.state === TIME_WAIT) return;
		if (c.state === SYN_SENT) {
			this.finished(c, "silent");
			return;
		}
		if ((unread && (c.state !== SYN_RECEIVED || c.earlyOpen)) || c.lingerMs === 0) {
			this.reset(c);
			return;
		}
		if (c.state === FIN_WAIT_2) {
			c.keepAliveAt = this.stack.now + this.config.finWait2Ms;
			rearm(c);
		} else {
			c.finQueued = true;
			this.finState(c);
			this.wantOutput(c);
		}
	}

	abort(c: TcpConnection): void {
		c.orphan = true;
		c.handlers = undefined;
		this.reset(c);
	}

	private reset(c: TcpConnection): void {
		c.recvRing.release();
		if (c.state >= SYN_RECEIVED && c.state !== TIME_WAIT) {
			this.refreshIfStale(c);
			sendConnectionReset(c, this.stack.now);
		}
		this.finished(c, "silent");
	}

	/** Data for a connection whose user has gone (RFC 9293 3.6.1). */
	resetOrphan(c: TcpConnection, packet: Packet, s: SegmentIn): void {
		sendReset(this, packet, s);
		this.finished(c, "silent");
	}

	private refreshIfStale(c: TcpConnection): void {
		if (c.path.generation !== this.stack.generation) {
			this.refresh(c);
			syncMss(c);
		}
	}

	keepAliveChanged(c: TcpConnection): void {
		if (this.keepAlive === undefined) {
			if (!c.keepAlive) return;
			c.keepAlive = false;
			throw missing("keepAlive");
		}
		c.keepAliveAt = this.keepAlive.deadline(c);
		rearm(c);
	}

	/** The user took bytes: tune the buffer, and open the window when it is worth a segment. */
	consumed(c: TcpConnection): void {
		this.tuning?.consumed(c, this.stack.now);
		if (c.state < ESTABLISHED || c.finReceived || c.state === TIME_WAIT) return;
		const offered = Math.max(0, distance((c.rcvWup + c.rcvWnd) | 0, c.rcvNxt));
		const window = offeredWindow(c);
		if (window > offered && (window >= 2 * offered || window - offered >= c.receiveLimit >> 1)) {
			c.ackNow = Math.max(1, c.ackNow);
			this.wantOutput(c);
		}
	}

	notify(c: TcpConnection, events: number): void {
		if (c.events === 0) {
			this.eventful.push(c);
			this.stack.onWork?.();
		}
		c.events |= events;
	}

	wantOutput(c: TcpConnection): void {
		if (c.needsOutput) return;
		c.needsOutput = true;
		this.outputs.push(c);
		this.stack.onWork?.();
	}

	/** A link has room again. */
	unstall(): void {
		for (const c of this.stalled) this.wantOutput(c);
		this.stalled.clear();
	}

	timerFired(c: TcpConnection, now: number): void {
		this.refreshIfStale(c);
		onTimer(c, now);
		rearm(c);
	}

	wants(): boolean {
		return this.outputs.length > 0 || this.eventful.length > 0;
	}

	poll(now: number): void {
		for (let round = 0; round < MAX_ACCEPT_ROUNDS && this.eventful.length > 0; round++) {
			const batch = this.eventful;
			this.eventful = [];
			let at = 0;
			try {
				for (; at < batch.length; at++) this.deliver(batch[at]!);
			} finally {
				// A callback that throws must not cost the other connections their events.
				for (at++; at < batch.length; at++) this.eventful.push(batch[at]!);
			}
		}
		if (this.outputs.length === 0) return;
		const batch = this.outputs;
		this.outputs = [];
		for (const c of batch) {
			c.needsOutput = false;
			if (c.path.iface.blocked) {
				this.stalled.add(c);
				continue;
			}
			this.refreshIfStale(c);
			if (output(c, now)) this.wantOutput(c);
		}
	}

	private deliver(c: TcpConnection): void {
		const { events } = c;
		c.events = 0;
		if ((events & EVENT_CONNECT) !== 0) {
			const listener = c.owner;
			if (listener instanceof Listener) {
				if (listener.options.onConnection !== undefined) {
					c.owner = undefined;
					c.handlers = listener.options.onConnection(c);
				}
			} else c.handlers?.onConnect?.(c);
		}
		if ((events & EVENT_READABLE) !== 0 && c.recvRing.length > 0) c.handlers?.onReadable?.(c);
		if ((events & EVENT_END) !== 0) c.handlers?.onEnd?.(c);
		if ((events & EVENT_WRITABLE) !== 0 && c.wantsWritable && c.sendRing.length < c.sendLimit) {
			c.wantsWritable = false;
			stopLimit(c, BUFFER_LIMITED, this.stack.now);
			c.handlers?.onWritable?.(c);
		}
		if ((events & EVENT_CLOSE) !== 0 && !c.closeDelivered) {
			c.closeDelivered = true;
			c.handlers?.onClose?.(c, c.error);
		}
	}

	/** Searches for a larger MTU (RFC 4821); true when a probe was sent. */
	probe(c: TcpConnection, now: number): boolean {
		return this.modules.probe?.(c, now) ?? false;
	}

	/** What {@link TcpConnection.info} tells; the module for it must be there. */
	describe(c: TcpConnection): TcpInfo {
		if (this.modules.info === undefined) throw missing("info");
		return this.modules.info(c);
	}

	/** Every connection that is not in TIME-WAIT. */
	connections(): Iterable<TcpConnection> {
		return this.table.all();
	}
}

function overlap(x: Listener, y: Listener): boolean {
	const a = x.address;
	const b = y.address;
	const anyOf = (address: IpAddress | undefined) => address === undefined || address.isUnspecified;
	const familyOf = (listener: Listener) =>
		listener.address === undefined ||
		(listener.address.isUnspecified && listener.address.family === 6 && !listener.ipv6Only)
			? 0
			: listener.address.family;
	const sameFamily = familyOf(x) === 0 || familyOf(y) === 0 || familyOf(x) === familyOf(y);
	if (!sameFamily) return false;
	if (anyOf(a) || anyOf(b)) return true;
	return a!.equals(b!);
}

function missing(part: keyof TcpModules): StackError {
	return new StackError("ENOPROTOOPT", `this TCP was made without its ${part} module`);
}
