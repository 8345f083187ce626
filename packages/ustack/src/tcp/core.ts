import type { Pollable, ProtocolHandler, StackCore } from "../ip/core.ts";
import type { IcmpErrorKind } from "../ip/icmp.ts";
import type { Packet } from "../ip/packet.ts";
import type { AddressLike } from "../wire/address.ts";
import { get16 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { PROTO_TCP } from "../wire/constants.ts";
import { ACK, FIN, RST, SYN, TCP_HEADER, TcpOptions } from "../wire/tcp.ts";
import { type CongestionName, DEFAULT_TCP_CONFIG, type TcpConfig } from "./config.ts";
import { type Congestion, NewReno } from "./congestion.ts";
import type { TcpConnection, TcpHandlers } from "./connection.ts";
import { EVENT_CLOSE, EVENT_CONNECT, EVENT_END, EVENT_READABLE, EVENT_WRITABLE, wantOutput } from "./events.ts";
import type { FastOpen } from "./fastopen.ts";
import { readSegment, type SegmentIn, segmentArrives } from "./input.ts";
import type { KeepAlive } from "./keepalive.ts";
import type { LimitMeter } from "./limits.ts";
import { Listener, type ListenOptions } from "./listener.ts";
import { ListenerTable } from "./listeners.ts";
import type { LossRecovery } from "./loss.ts";
import type { TcpModules } from "./modules.ts";
import { refreshIfStale } from "./mss.ts";
import { NEWRENO_RECOVERY } from "./newreno-recovery.ts";
import { type ConnectOptions, connect } from "./opening.ts";
import { output } from "./output.ts";
import { listenIn } from "./passive.ts";
import type { PushMarks } from "./push.ts";
import { sendReset, timeWaitIn } from "./reply.ts";
import { BufferPool } from "./ring.ts";
import { SegmentPool } from "./segment.ts";
import type { SynCookies } from "./syncookie.ts";
import { ConnectionTable } from "./table.ts";
import { onTimer } from "./timeouts.ts";
import { rearm } from "./timers.ts";
import { TimeWaitTable } from "./timewait.ts";
import type { BufferTuning } from "./tune.ts";
import { errorIn } from "./unreachable.ts";

const MAX_ACCEPT_ROUNDS = 8;

/** TCP over a stack: the demultiplexer, and what connections and listeners share. */
export class TcpCore implements ProtocolHandler, Pollable {
	readonly stack: StackCore;
	readonly config: TcpConfig;
	readonly modules: TcpModules;
	readonly buffers: BufferPool = new BufferPool();
	readonly segments: SegmentPool = new SegmentPool();
	readonly table: ConnectionTable;
	readonly timeWaits: TimeWaitTable;
	readonly listeners: ListenerTable = new ListenerTable(this);
	/** The key of sequence numbers and timestamps (RFC 6528). */
	readonly secret: Uint8Array;
	/** Connections that may have something to send, users to tell of something, and links to wait for. */
	outputs: TcpConnection[] = [];
	eventful: TcpConnection[] = [];
	readonly stalled: Set<TcpConnection> = new Set();
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
	onOrphanSyn: ((packet: Packet, localPort: number, remotePort: number) => Listener | boolean) | undefined;
	readonly cookies: SynCookies | undefined;
	readonly fastOpen: FastOpen | undefined;
	readonly recovery: LossRecovery;
	readonly keepAlive: KeepAlive | undefined;
	readonly tuning: BufferTuning | undefined;
	readonly push: PushMarks | undefined;
	readonly meter: LimitMeter | undefined;
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
		this.push = modules.push;
		this.meter = modules.meter;
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
		return connect(this, address, port, handlers, options);
	}

	/**
	 * Listens on a port.
	 *
	 * @throws StackError `EADDRINUSE`, `EADDRNOTAVAIL`
	 */
	listen(options: ListenOptions): Listener {
		return this.listeners.open(options);
	}

	/** An ICMP error about a segment of ours. */
	error(quoted: Packet, kind: IcmpErrorKind, mtu: number): void {
		errorIn(this, quoted, kind, mtu);
	}

	input(packet: Packet): void {
		const { bytes, l4, end } = packet;
		const length = end - l4;
		const s = this.segment;
		if (length < TCP_HEADER || !readSegment(packet, s)) {
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
		const remotePort = get16(bytes, l4);
		const localPort = get16(bytes, l4 + 2);
		const c = this.table.find(packet, localPort, remotePort);
		if (c !== undefined) {
			segmentArrives(c, packet, s);
			return;
		}
		const waiting = this.timeWaits.findFor(packet, localPort, remotePort);
		if (waiting !== undefined && !timeWaitIn(this, waiting, packet, s, localPort)) return;
		let listener: Listener | boolean = this.listeners.find(packet, localPort) ?? false;
		if (listener === false && (s.flags & (SYN | ACK | RST | FIN)) === SYN)
			listener = this.onOrphanSyn?.(packet, localPort, remotePort) ?? false;
		if (listener === true) return;
		if (listener !== false) listenIn(this, listener, packet, s, localPort, remotePort);
		else if ((s.flags & RST) === 0) sendReset(this, packet, s);
	}

	/** A link has room again. */
	unstall(): void {
		for (const c of this.stalled) wantOutput(c);
		this.stalled.clear();
	}

	timerFired(c: TcpConnection, now: number): void {
		refreshIfStale(c);
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
			refreshIfStale(c);
			if (output(c, now)) wantOutput(c);
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
			this.meter?.resumed(c);
			c.handlers?.onWritable?.(c);
		}
		if ((events & EVENT_CLOSE) !== 0 && !c.closeDelivered) {
			c.closeDelivered = true;
			c.handlers?.onClose?.(c, c.error);
		}
	}

	/** Every connection that is not in TIME-WAIT. */
	connections(): Iterable<TcpConnection> {
		return this.table.all();
	}
}
