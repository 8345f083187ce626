import { LinkError } from "../link/errors.ts";
import type { Link, Offload } from "../link/link.ts";
import type { RingConsumer } from "../ring/consumer.ts";
import { RingError } from "../ring/errors.ts";
import type { RingHandle } from "../ring/layout.ts";
import type { RingProducer } from "../ring/producer.ts";
import { createRing, openConsumer, openProducer } from "../ring/ring.ts";
import {
	ChannelEnd,
	type ChannelHandle,
	type ChannelStats,
	type ChannelType,
	type Packet,
	pushPacket,
	recordPacket,
} from "./channel.ts";
import { type Classifier, type ClassifierOptions, createClassifier } from "./classifier.ts";
import { ChannelError } from "./errors.ts";
import type { FlowMatch, FlowPattern } from "./match.ts";
import { compileNat, type NatRewrite, type NatTarget, reverseNat, rewritePacket } from "./nat.ts";

/** Options of {@link Netchannels.createChannel}: whose packets, and how they are given. */
export interface ChannelOptions extends FlowMatch {
	/** @default "copy" */
	type?: ChannelType;
	/** Of several channels that match a packet the highest wins. @default 0 */
	priority?: number;
	/** Packets that may wait; more are dropped and counted. @default 1024 */
	packetLimit?: number;
	/** Bytes that may wait, rounded up to a power of two. @default 2 ** 20 */
	byteLimit?: number;
	/** Milliseconds without a packet after which {@link Netchannels.expire} removes it, 0 for never. @default 0 */
	idleTimeoutMs?: number;
	/** For use in another thread through {@link Channel.handle}. @default false */
	shared?: boolean;
	/** The link it sends through. @default the first that was attached */
	link?: Link;
	/** For `nat`: what to write. */
	target?: NatTarget;
	/** For `nat`: where rewritten packets go. @default the channel's own link */
	out?: Link;
	/** Patterns of the caller's own instead of a match. */
	patterns?: readonly FlowPattern[];
}

/** One line of {@link Netchannels.dump}. */
export interface ChannelInfo {
	readonly fd: number;
	readonly type: ChannelType;
	readonly match: FlowMatch;
	readonly priority: number;
	readonly packetLimit: number;
	readonly byteLimit: number;
	readonly stats: ChannelStats;
}

/** Options of {@link createNetchannels}. */
export interface NetchannelsOptions extends ClassifierOptions {
	/** Attached at once. */
	link?: Link;
	/** Milliseconds of any steady clock, for fragments and idle channels. @default a clock that stands still */
	now?: () => number;
}

function ringCapacity(byteLimit: number): number {
	if (!Number.isInteger(byteLimit) || byteLimit < 1 || byteLimit > 2 ** 30) {
		throw new ChannelError("EINVAL", `byteLimit is ${byteLimit}: expected a whole number from 1 to 2^30`);
	}
	return Math.max(256, 2 ** Math.ceil(Math.log2(byteLimit)));
}

/** A channel in the thread that classifies. */
export class Channel extends ChannelEnd {
	/** Small integer that names it in the original interface. */
	readonly fd: number;
	readonly kind: ChannelType;
	readonly match: FlowMatch;
	readonly priority: number;
	readonly packetLimit: number;
	readonly byteLimit: number;
	readonly link: Link;
	private readonly owner: Netchannels;
	private sent = 0;
	private sentBytes = 0;

	/** Made by {@link Netchannels.createChannel}. */
	constructor(owner: Netchannels, fd: number, link: Link, options: ChannelOptions, consumer: RingConsumer) {
		super(options.type === "view" ? "view" : "copy", consumer);
		this.owner = owner;
		this.fd = fd;
		this.link = link;
		this.kind = options.type ?? "copy";
		this.priority = options.priority ?? 0;
		this.packetLimit = options.packetLimit ?? 1024;
		this.byteLimit = options.byteLimit ?? 2 ** 20;
		const { local, remote, protocol, localPort, remotePort, vlan, family, etherType } = options;
		const all = { local, remote, protocol, localPort, remotePort, vlan, family, etherType };
		this.match = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
	}

	/** For `mapped` channels: called with every packet in the link's own memory, valid during the call. */
	onPacket: ((bytes: Uint8Array, offload?: Offload) => void) | undefined = undefined;

	override send(bytes: Uint8Array, offload?: Offload): boolean {
		this.requireOpen();
		if (!this.link.send(bytes, offload)) return false;
		this.sent++;
		this.sentBytes += bytes.length;
		return true;
	}

	/**
	 * The next packet; stops this thread until there is one, on a link that can wait: TAP, TUN, packet sockets, batched
	 * datagrams. Elsewhere give the channel's `handle()` to a worker and block there.
	 *
	 * @returns undefined after `timeoutMs`
	 * @throws RingError `ERR_RING_CANNOT_BLOCK` where the packets come through this thread's own event loop
	 */
	override recvBlocking(timeoutMs: number = Number.POSITIVE_INFINITY): Packet | undefined {
		const end = performance.now() + timeoutMs;
		for (;;) {
			const packet = this.recv();
			if (packet !== undefined) return packet;
			if (this.link.wait === undefined) {
				throw new RingError(
					"ERR_RING_CANNOT_BLOCK",
					"this link's packets come through this thread's own event loop: await receive(), or block in a worker that has the handle()",
				);
			}
			const left = end - performance.now();
			if (left <= 0) return undefined;
			this.link.wait(left);
			this.owner.publish();
		}
	}

	/**
	 * What another thread opens it with, through `postMessage`. The channel's packets belong to that thread from then on.
	 *
	 * @throws ChannelError `ENOTSUP` when it was not created with `shared: true`
	 */
	handle(): ChannelHandle {
		this.requireOpen();
		return this.owner.handleOf(this);
	}

	stats(): ChannelStats {
		return this.owner.statsOf(this, this.sent, this.sentBytes);
	}

	/** Counts what another thread sent through it. */
	countSent(bytes: number): void {
		this.sent++;
		this.sentBytes += bytes;
	}

	override close(): void {
		if (this.closed) return;
		this.owner.remove(this);
		this.consumer.close();
		this.closed = true;
	}
}

interface Entry {
	readonly channel: Channel;
	readonly rules: readonly number[];
	readonly producer: RingProducer;
	readonly receive: RingHandle;
	readonly idleTimeoutMs: number;
	readonly nat: { rewrite: NatRewrite; out: Link } | undefined;
	transmit: { consumer: RingConsumer; handle: RingHandle } | undefined;
	usedAt: number;
	dirty: boolean;
}

/** The channels of some links: takes their frames, finds whose each is, and puts it in that channel's ring. */
export class Netchannels {
	/** Frames that belong to no channel. */
	onUnmatched: ((frame: Uint8Array, link: Link, offload?: Offload) => void) | undefined = undefined;
	/** A link failed, or a callback of a `mapped` channel threw. */
	onError: ((error: Error, link: Link) => void) | undefined = undefined;
	/** A link takes packets again after a `send` returned false. */
	onWritable: ((link: Link) => void) | undefined = undefined;
	private readonly classifier: Classifier;
	/** Senders of other threads that wait for room on a link. */
	private readonly waiting = new Map<Link, (() => void)[]>();
	private readonly now: () => number;
	private readonly links: Link[] = [];
	private readonly byFd: (Entry | undefined)[] = [];
	/** By the classifier's rule; a nat channel has a second one for the way back. */
	private readonly byRule: ({ entry: Entry; rewrite: NatRewrite | undefined; out: Link | undefined } | undefined)[] =
		[];
	private dirty: Entry[] = [];
	private closed = false;

	constructor(options: NetchannelsOptions = {}) {
		this.classifier = createClassifier(options);
		this.now = options.now ?? (() => 0);
		if (options.link !== undefined) this.attach(options.link);
	}

	/** Takes a link's frames from now on; its `onFrame`, `onWritable` and `onError` are this table's. */
	attach(link: Link): void {
		this.requireOpen();
		if (this.links.includes(link)) return;
		this.links.push(link);
		this.waiting.set(link, []);
		link.onWritable = () => {
			this.wakeSenders(link);
			this.onWritable?.(link);
		};
		link.onFrame = (frame, offload) => this.input(link, frame, offload);
		link.onError = (error) => {
			if (!(error instanceof LinkError && error.code === "ERR_LINK_CALLBACK")) this.forget(link);
			this.onError?.(error, link);
		};
	}

	/**
	 * Makes a channel.
	 *
	 * @throws ChannelError `EEXIST` for exactly the addresses, protocol and ports of another, `EINVAL`, `ENODEV` without
	 * a link, `ENOTSUP` for `mapped` on a link whose memory is not the kernel's
	 */
	createChannel(options: ChannelOptions): Channel {
		this.requireOpen();
		const type = options.type ?? "copy";
		const link = options.link ?? this.links[0];
		if (link === undefined) throw new ChannelError("ENODEV", "no link is attached: give one as `link`");
		if (options.link !== undefined) this.attach(options.link);
		if (!["copy", "view", "mapped", "nat"].includes(type)) {
			throw new ChannelError("EINVAL", `type is ${type}: expected copy, view, mapped or nat`);
		}
		if (type === "mapped" && link.mapped !== true) {
			throw new ChannelError(
				"ENOTSUP",
				"this link has no ring shared with the kernel: use a packet link with ring, or type view",
			);
		}
		if ((type === "nat") !== (options.target !== undefined)) {
			throw new ChannelError("EINVAL", "a nat channel, and no other, needs a target");
		}
		const packetLimit = options.packetLimit ?? 1024;
		if (!Number.isInteger(packetLimit) || packetLimit < 1) {
			throw new ChannelError("EINVAL", `packetLimit is ${packetLimit}: expected a whole number from 1 on`);
		}
		const capacity = ringCapacity(options.byteLimit ?? 2 ** 20);
		const nat =
			options.target === undefined ? undefined : { rewrite: compileNat(options.target), out: options.out ?? link };
		const back = options.target === undefined ? undefined : reverseNat(options, options.target);
		const priority = options.priority ?? 0;
		const rule = this.classifier.add(options.patterns ?? options, priority);
		const rules = [rule];
		if (back !== undefined) {
			try {
				rules.push(this.classifier.add(back.match, priority));
			} catch (error) {
				this.classifier.remove(rule);
				throw error;
			}
		}
		const hasRing = type === "copy" || type === "view";
		const receive = createRing({ capacity: hasRing ? capacity : 256, packetLimit, shared: options.shared ?? false });
		const fd = this.freeFd();
		const channel = new Channel(this, fd, link, options, openConsumer(receive));
		const entry: Entry = {
			channel,
			rules,
			producer: openProducer(receive, { overflow: "drop-newest" }),
			receive,
			idleTimeoutMs: options.idleTimeoutMs ?? 0,
			nat,
			transmit: undefined,
			usedAt: this.now(),
			dirty: false,
		};
		this.byFd[fd] = entry;
		this.byRule[rule] = { entry, rewrite: nat?.rewrite, out: nat?.out };
		if (back !== undefined) this.byRule[rules[1]!] = { entry, rewrite: compileNat(back.target), out: link };
		return channel;
	}

	/** The channel of a number, or undefined. */
	channel(fd: number): Channel | undefined {
		return this.byFd[fd]?.channel;
	}

	/** The channel made for exactly these addresses, protocol and ports, masks included; undefined when there is none. */
	find(match: FlowMatch | readonly FlowPattern[]): Channel | undefined {
		return this.byRule[this.classifier.idOf(match)]?.entry.channel;
	}

	/** Every channel with its counters, by number. */
	dump(): ChannelInfo[] {
		return this.byFd
			.filter((entry) => entry !== undefined)
			.map(({ channel }) => ({
				fd: channel.fd,
				type: channel.kind,
				match: channel.match,
				priority: channel.priority,
				packetLimit: channel.packetLimit,
				byteLimit: channel.byteLimit,
				stats: channel.stats(),
			}));
	}

	/** Removes channels that were idle for longer than they allow. Returns how many. */
	expire(): number {
		const now = this.now();
		let count = 0;
		for (const entry of [...this.byFd]) {
			if (entry === undefined || entry.idleTimeoutMs === 0 || now - entry.usedAt < entry.idleTimeoutMs) continue;
			entry.channel.close();
			count++;
		}
		return count;
	}

	/** Classifies one frame as if it had come from `link`: for links of a kind that this table cannot be attached to. */
	input(link: Link, frame: Uint8Array, offload?: Offload): void {
		const rule = this.classifier.classify(frame, link.medium, this.now());
		const found = rule < 0 ? undefined : this.byRule[rule];
		if (found === undefined) {
			this.onUnmatched?.(frame, link, offload);
			return;
		}
		const { entry } = found;
		entry.usedAt = this.now();
		if (found.rewrite !== undefined) {
			const copy = frame.slice();
			if (rewritePacket(copy, this.classifier.key, found.rewrite, offload?.needsCsum)) found.out!.send(copy, offload);
		} else if (entry.channel.kind === "mapped") {
			entry.channel.onPacket?.(frame, offload);
		} else {
			pushPacket(entry.producer, frame, offload);
			if (!entry.dirty) {
				entry.dirty = true;
				if (this.dirty.push(entry) === 1) queueMicrotask(() => this.publish());
			}
		}
	}

	/** Called by {@link Channel.close}. */
	remove(channel: Channel): void {
		const entry = this.byFd[channel.fd];
		if (entry?.channel !== channel) return;
		for (const rule of entry.rules) {
			this.classifier.remove(rule);
			this.byRule[rule] = undefined;
		}
		this.byFd[channel.fd] = undefined;
		entry.producer.close();
		entry.transmit?.consumer.close();
	}

	/** Called by {@link Channel.handle}. */
	handleOf(channel: Channel): ChannelHandle {
		const entry = this.byFd[channel.fd]!;
		const { kind } = channel;
		if (entry.receive.memory instanceof ArrayBuffer || kind === "mapped" || kind === "nat") {
			throw new ChannelError(
				"ENOTSUP",
				"only copy and view channels created with { shared: true } go to other threads",
			);
		}
		if (entry.transmit === undefined) {
			const handle = createRing({
				capacity: ringCapacity(channel.byteLimit),
				packetLimit: channel.packetLimit,
				shared: true,
			});
			entry.transmit = { handle, consumer: openConsumer(handle) };
			void this.pumpTransmit(entry, entry.transmit.consumer);
		}
		return { type: kind, medium: channel.link.medium, receive: entry.receive, transmit: entry.transmit.handle };
	}

	/** Called by {@link Channel.stats}. */
	statsOf(channel: Channel, sent: number, sentBytes: number): ChannelStats {
		const entry = this.byFd[channel.fd];
		const rules = entry?.channel === channel ? entry.rules : [];
		const counters = rules.map((rule) => this.classifier.countersOf(rule));
		const ring = channel.ringStats();
		return {
			packets: counters.reduce((sum, { packets }) => sum + packets, 0),
			bytes: counters.reduce((sum, { bytes }) => sum + bytes, 0),
			dropped: ring.dropped,
			sent,
			sentBytes,
			waiting: ring.sent - ring.received,
		};
	}

	/** Removes every channel and lets the links go; they stay open. */
	close(): void {
		if (this.closed) return;
		for (const entry of [...this.byFd]) entry?.channel.close();
		for (const link of [...this.links]) {
			link.onFrame = link.onWritable = link.onError = undefined;
			this.forget(link);
		}
		this.closed = true;
	}

	[Symbol.dispose](): void {
		this.close();
	}

	/** Makes what was classified receivable now; otherwise it is at the end of the turn. */
	publish(): void {
		const { dirty } = this;
		this.dirty = [];
		for (const entry of dirty) {
			entry.dirty = false;
			entry.producer.publish();
		}
	}

	private async pumpTransmit(entry: Entry, consumer: RingConsumer): Promise<void> {
		const { channel } = entry;
		const room = (): Promise<void> =>
			new Promise((resolve) => {
				const waiting = this.waiting.get(channel.link);
				// A link that is gone has room for nothing: sending says so.
				if (waiting === undefined) resolve();
				else waiting.push(resolve);
			});
		while (this.byFd[channel.fd] === entry) {
			while (consumer.next()) {
				const packet: Packet = recordPacket(consumer);
				try {
					while (!channel.link.send(packet.bytes, packet.offload)) await room();
					channel.countSent(packet.bytes.length);
				} catch (error) {
					this.onError?.(error as Error, channel.link);
				}
			}
			if (!(await consumer.waitAsync()) && consumer.peerClosed && !consumer.readable) {
				channel.close();
				return;
			}
		}
	}

	private wakeSenders(link: Link): void {
		for (const resolve of this.waiting.get(link)?.splice(0) ?? []) resolve();
	}

	private forget(link: Link): void {
		this.wakeSenders(link);
		this.waiting.delete(link);
		const at = this.links.indexOf(link);
		if (at >= 0) this.links.splice(at, 1);
	}

	private freeFd(): number {
		const free = this.byFd.indexOf(undefined);
		return free >= 0 ? free : this.byFd.length;
	}

	private requireOpen(): void {
		if (this.closed) throw new ChannelError("EBADF", "this table of channels is closed");
	}
}

/** Makes a table of channels. */
export function createNetchannels(options?: NetchannelsOptions): Netchannels {
	return new Netchannels(options);
}

const tables = new WeakMap<Link, Netchannels>();

/** Makes a channel on a link; channels made this way on one link share a table, which takes the link's frames. */
export function createChannel(options: ChannelOptions & { link: Link }): Channel {
	let table = tables.get(options.link);
	if (table === undefined) tables.set(options.link, (table = createNetchannels({ link: options.link })));
	return table.createChannel(options);
}
