import type { Link, Offload } from "@x/netchannel";
import { StackError } from "../errors.ts";
import { Interface, type InterfaceOptions } from "../link/interface.ts";
import {
	type AddressLike,
	type AddressParser,
	ANY4,
	ANY6,
	addressBy,
	Cidr,
	cidrBy,
	type IpAddress,
	type IpFamily,
	LOOPBACK4,
	LOOPBACK6,
	parseAddress4,
} from "../wire/address.ts";
import {
	ETHERTYPE_IPV4,
	ETHERTYPE_IPV6,
	PROTO_ICMP,
	PROTO_ICMPV6,
	PROTO_NONE,
	PROTO_TCP,
	PROTO_UDP,
} from "../wire/constants.ts";
import { accepts, optionsFine } from "./acceptance.ts";
import type { Ethernet } from "./ethernet.ts";
import { type FamilyOps, IPV4 } from "./family.ts";
import type { Forwarder } from "./forward.ts";
import type { Fragments } from "./fragments.ts";
import type { GroupReporter } from "./groups.ts";
import { IcmpCore, type IcmpErrorKind } from "./icmp.ts";
import type { Ipv6 } from "./ipv6.ts";
import { Packet } from "./packet.ts";
import type { Path } from "./path.ts";
import { PathTable } from "./paths.ts";
import { RouteTable } from "./route.ts";
import { NEVER, TimerHeap } from "./timers.ts";
import { Transmitter } from "./transmit.ts";

const MAX_LOOPED = 1024;

/** A transport protocol over IP. */
export interface ProtocolHandler {
	input(packet: Packet): void;
	/** An ICMP error quoting a packet of ours; `quoted` has the header as we sent it. `carrier` is the error itself. */
	error?(quoted: Packet, kind: IcmpErrorKind, mtu: number, carrier: Packet): void;
}

/** What sees packets and errors of every protocol. */
export interface RawTap {
	/** True says that a packet of a protocol without a handler is wanted. */
	input(packet: Packet): boolean;
	error(quoted: Packet, kind: IcmpErrorKind, mtu: number): void;
}

/** A part of the stack that has work of its own once per poll. */
export interface Pollable {
	poll(now: number): void;
	/** Earliest time it wants to be polled at beyond its timers; `now` or less for at once. */
	wants(): boolean;
}

/** Something happened that a log or a test may want: `kind` says what, the rest depends on it. */
export interface StackEvent {
	readonly kind: "drop" | "tcp-state" | "address" | "conflict" | "neighbor" | "route";
	readonly now: number;
	readonly detail: string;
	readonly iface?: string;
}

/** Options of {@link Stack}. */
export interface CoreOptions {
	/** Fills the array with unpredictable bytes: keys, initial sequence numbers' secret, MAC addresses, ports. */
	random: (bytes: Uint8Array) => void;
	/** Pass on packets that are for others. @default false */
	forwarding?: boolean;
	/** Hop limit of packets sent. @default 64 */
	hopLimit?: number;
}

/** Counters of one stack; numbers only grow. */
export interface StackStats {
	delivered: number;
	forwarded: number;
	dropped: number;
	/** Drops by reason. */
	reasons: Record<string, number>;
}

/** Parts of the stack beyond IPv4, each made for one stack; what is left out costs nothing in a bundle. */
export interface StackModules {
	/** Ethernet with ARP and the neighbours of IPv6; without it links carry bare IP packets (medium `ip`). */
	ethernet?: (stack: StackCore) => Ethernet;
	ipv6?: (stack: StackCore) => Ipv6;
	/** ICMP with errors of our own and users of echo; without it errors are taken and echo is answered, no more. */
	icmp?: (stack: StackCore) => IcmpCore;
	/** Fragments both ways; without it they are dropped, and what is too large is not sent. */
	fragments?: (stack: StackCore) => Fragments;
	/** Passing on what is for others, where `forwarding` asks for it. */
	forwarder?: (stack: StackCore) => Forwarder;
	/** Reports of multicast membership to routers. */
	groups?: (stack: StackCore) => GroupReporter;
}

/**
 * The core: interfaces, routes, IP and its companions. No clock and no I/O of its own: frames come by {@link input},
 * time by every call's `now` (milliseconds, any origin, never backwards), frames leave by the links inside
 * {@link poll}.
 */
export class StackCore {
	readonly timers: TimerHeap = new TimerHeap();
	readonly routes: RouteTable = new RouteTable();
	readonly interfaces: Interface[] = [];
	readonly loopback: Interface;
	readonly icmp: IcmpCore;
	/** Parts that were asked for; see {@link StackModules}. */
	readonly ethernet: Ethernet | undefined;
	readonly ipv6: Ipv6 | undefined;
	readonly fragments: Fragments | undefined;
	readonly groups: GroupReporter | undefined;
	private readonly forwarder: Forwarder | undefined;
	readonly stats: StackStats = { delivered: 0, forwarded: 0, dropped: 0, reasons: {} };
	readonly protocols: (ProtocolHandler | undefined)[] = new Array(256).fill(undefined);
	readonly pollables: Pollable[] = [];
	/** The buffer every packet is built in; links copy or send before they return. */
	readonly tx: Uint8Array;
	/** Sees packets and ICMP errors for protocols before their handlers do. Raw sockets. */
	raw: RawTap | undefined;
	/** Structured trace; called synchronously, must not call back into the stack. */
	onEvent: ((event: StackEvent) => void) | undefined;
	/** Called when work arrived outside {@link poll}: the driver is to poll soon. */
	onWork: (() => void) | undefined;
	forwarding: boolean;
	readonly hopLimit: number;
	/** Inside {@link input}: what is sent now waits for the next poll. */
	receiving = false;
	/** The latest `now` seen. */
	now = 0;
	/** Moves on when routes or addresses change; see {@link Path}. */
	generation = 1;
	private readonly random: (bytes: Uint8Array) => void;
	private readonly packet: Packet;
	readonly paths: PathTable = new PathTable(this);
	/** Packets to ourselves, and frames that wait for the next poll. */
	looped: Uint8Array[] = [];
	later: { iface: Interface; frame: Uint8Array; offload: Offload | undefined }[] = [];
	readonly transmitter: Transmitter = new Transmitter(this);
	/** The last IPv4 identification given. */
	identification: number;

	constructor(options: CoreOptions, modules: StackModules = {}) {
		this.random = options.random;
		this.tx = this.transmitter.tx;
		this.forwarding = options.forwarding ?? false;
		this.hopLimit = options.hopLimit ?? 64;
		this.identification = this.randomInt() & 0xffff;
		this.ethernet = modules.ethernet?.(this);
		this.loopback = new Interface(this, undefined, "lo", new Uint8Array(6), {});
		this.interfaces.push(this.loopback);
		this.packet = new Packet(this.loopback, IPV4);
		this.icmp = modules.icmp?.(this) ?? new IcmpCore(this);
		this.protocols[PROTO_ICMP] = this.icmp;
		this.protocols[PROTO_ICMPV6] = this.icmp;
		this.groups = modules.groups?.(this);
		this.fragments = modules.fragments?.(this);
		this.forwarder = modules.forwarder?.(this);
		this.ipv6 = modules.ipv6?.(this);
		this.addAddress(this.loopback, new Cidr(LOOPBACK4, 8));
		if (this.ipv6 !== undefined) this.addAddress(this.loopback, new Cidr(LOOPBACK6, 128));
	}

	/** Reads the address literals of the families there are. */
	get parse(): AddressParser {
		return this.ipv6?.parse ?? parseAddress4;
	}

	/** What the layers need to know of a family; undefined for one this stack does without. */
	ops(family: IpFamily): FamilyOps | undefined {
		return family === 4 ? IPV4 : this.ipv6?.ops;
	}

	/** The next IPv4 identification (RFC 6864). */
	nextIdentification(): number {
		this.identification = (this.identification + 1) & 0xffff;
		return this.identification;
	}

	/** An unpredictable 32-bit integer. */
	randomInt(): number {
		const bytes = new Uint8Array(4);
		this.random(bytes);
		return (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!;
	}

	randomBytes(length: number): Uint8Array {
		const bytes = new Uint8Array(length);
		this.random(bytes);
		return bytes;
	}

	/**
	 * Makes `link` an interface. Its `onFrame` and `onWritable` are the driver's to set; see {@link input}.
	 *
	 * @throws StackError `EADDRINUSE` for a name taken already, `ENOPROTOOPT` for an Ethernet link without that module
	 */
	attach(link: Link, options: InterfaceOptions = {}): Interface {
		if (link.medium === "ethernet" && this.ethernet === undefined)
			throw new StackError("ENOPROTOOPT", "this stack has no ethernet module: add it or use an IP link");
		let { mac } = options;
		if (mac === undefined) {
			mac = this.randomBytes(6);
			mac[0] = (mac[0]! & 0xfc) | 2;
		}
		const name = options.name ?? `eth${this.interfaces.length - 1}`;
		if (this.interfaces.some((other) => other.name === name)) {
			throw new StackError("EADDRINUSE", `interface "${name}" is there already; name this one`);
		}
		const iface = new Interface(this, link, name, mac, options);
		this.interfaces.push(iface);
		if (iface.slaac) this.ipv6?.nd.start(iface);
		return iface;
	}

	interfaceNamed(name: string): Interface | undefined {
		return this.interfaces.find((iface) => iface.name === name);
	}

	/** Gives an interface an address and the route to its network. */
	addAddress(iface: Interface, cidr: string | Cidr, origin = "static"): void {
		const parsed = cidrBy(cidr, this.parse);
		const { address } = parsed;
		if (iface.find(address) !== undefined) return;
		const tentative = iface.ethernet && address.family === 6 && iface.dadTransmits > 0;
		iface.addresses.push({
			cidr: parsed,
			address,
			state: tentative ? "tentative" : "preferred",
			origin,
			preferredUntil: NEVER,
			validUntil: NEVER,
		});
		this.routes.add({
			destination: new Cidr(parsed.network, parsed.prefix),
			gateway: undefined,
			iface,
			metric: 0,
			origin,
		});
		if (iface.ethernet) {
			if (address.family === 6) this.ipv6?.nd.addressAdded(iface, address);
			else this.ethernet?.announce(iface, address);
		}
		this.routesChanged();
		this.trace("address", `+${parsed} ${origin}`, iface);
	}

	/** Adds a route; `default` stands for 0.0.0.0/0 or ::/0, after the gateway's family. */
	addRoute(
		destination: string | Cidr,
		gateway: AddressLike | undefined,
		iface?: Interface,
		metric = 100,
		origin = "static",
	): void {
		const hop = gateway === undefined ? undefined : addressBy(gateway, this.parse);
		const cidr =
			destination === "default" ? new Cidr(hop?.family === 6 ? ANY6 : ANY4, 0) : cidrBy(destination, this.parse);
		const via = iface ?? (hop === undefined ? undefined : this.routes.lookup(hop)?.iface);
		if (via === undefined) {
			throw new StackError("ENETUNREACH", `no interface for gateway ${hop ?? "?"}; add an address on its network`);
		}
		this.routes.add({ destination: new Cidr(cidr.network, cidr.prefix), gateway: hop, iface: via, metric, origin });
		this.routesChanged();
		this.trace("route", `+${cidr} via ${hop ?? "link"}`, via);
	}

	/** Cached paths are looked up anew. */
	routesChanged(): void {
		this.generation++;
		this.paths.forget();
	}

	/** Whether an address is one of this stack's own. */
	isLocal(address: IpAddress): boolean {
		for (const iface of this.interfaces) {
			if (iface.owns(address.a, address.b, address.c, address.d)) return true;
		}
		return address.family === 4 && address.isLoopback;
	}

	/**
	 * The way to a destination, or undefined without one (ENETUNREACH).
	 *
	 * @param source - the address to send from; chosen by RFC 6724 when absent
	 * @param iface - the interface to leave by; chosen by the routes when absent
	 */
	path(destination: IpAddress, source?: IpAddress, iface?: Interface): Path | undefined {
		return this.paths.path(destination, source, iface);
	}

	/**
	 * A frame from a link. Nothing is sent from here: what it calls for leaves in the next {@link poll}, so links may
	 * call each other without nesting.
	 *
	 * @param frame - valid during the call only
	 * @param now - milliseconds
	 */
	input(frame: Uint8Array, now: number, offload?: Offload, iface: Interface = this.interfaces[1]!): void {
		const nested = this.receiving;
		this.receiving = true;
		try {
			this.frameInput(frame, now, offload, iface);
		} finally {
			this.receiving = nested;
		}
	}

	private frameInput(frame: Uint8Array, now: number, offload: Offload | undefined, iface: Interface): void {
		if (now > this.now) this.now = now;
		iface.stats.rxFrames++;
		iface.stats.rxBytes += frame.length;
		iface.tap?.(frame, false);
		const { packet } = this;
		packet.bytes = frame;
		packet.iface = iface;
		packet.now = now;
		packet.checked = offload !== undefined && (offload.dataValid || offload.needsCsum);
		packet.gsoSize = offload !== undefined && offload.gsoType !== "none" ? offload.gsoSize : 0;
		packet.linkBroadcast = false;
		packet.reassembled = false;
		packet.l3 = 0;
		packet.end = frame.length;
		let type: number;
		if (iface.ethernet) {
			type = this.ethernet!.input(packet);
			if (type < 0) return;
		} else {
			if (frame.length === 0) {
				this.drop(packet, "ip-short");
				return;
			}
			type = frame[0]! >>> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
		}
		if (type === ETHERTYPE_IPV4) packet.ops = IPV4;
		else if (type === ETHERTYPE_IPV6 && this.ipv6 !== undefined) packet.ops = this.ipv6.ops;
		else {
			this.drop(packet, "ethertype-unknown");
			return;
		}
		this.ipInput(packet);
	}

	private ipInput(packet: Packet): void {
		const { iface, ops } = packet;
		const parsed = ops.parse(packet);
		if (parsed === "malformed" || parsed === "checksum") {
			this.drop(packet, `ip-${parsed}`);
			return;
		}
		packet.groupcast = false;
		// Options nobody sends but routers; source routes are refused outright (RFC 7126).
		if (packet.l4 - packet.l3 > ops.headerLength && !optionsFine(packet)) {
			this.drop(packet, "ip-options");
			return;
		}
		if (!iface.owns(packet.da, packet.db, packet.dc, packet.dd) && !accepts(this, packet)) {
			if (this.forwarding && this.forwarder !== undefined) this.forwarder.forward(packet);
			else this.drop(packet, "ip-other-host");
			return;
		}
		if (!ops.sourceFine(packet, this.loopback)) {
			this.drop(packet, "ip-bad-source");
			return;
		}
		if (parsed === "fragment") {
			if (this.fragments === undefined) this.drop(packet, "fragment-dropped");
			else this.fragments.input(packet, packet.l3 + 9);
			return;
		}
		if (ops.family === 6 && packet.protocol !== PROTO_TCP && packet.protocol !== PROTO_UDP) {
			if (this.ipv6?.extensions(packet) !== true) return;
		}
		this.deliver(packet);
	}

	/** Hands a whole datagram to its protocol. */
	deliver(packet: Packet): void {
		const raw = this.raw?.input(packet) ?? false;
		const handler = this.protocols[packet.protocol];
		if (handler === undefined) {
			if (raw || packet.protocol === PROTO_NONE) return;
			this.drop(packet, "protocol-unknown");
			this.icmp.sendError(
				packet,
				"protocol-unreachable",
				packet.ops.family === 6 && this.ipv6 !== undefined ? this.ipv6.walk.nextHeaderAt - packet.l3 : 0,
			);
			return;
		}
		this.stats.delivered++;
		handler.input(packet);
	}

	/** Queues a ready-made frame for the next poll (answers made while input runs). */
	sendLater(iface: Interface, frame: Uint8Array, offload?: Offload): void {
		if (this.later.length < MAX_LOOPED) this.later.push({ iface, frame, offload });
		this.onWork?.();
	}

	/** Queues a packet to ourselves. */
	loop(frame: Uint8Array): void {
		if (this.looped.length >= MAX_LOOPED) {
			this.loopback.stats.txDropped++;
			return;
		}
		this.loopback.stats.txFrames++;
		this.looped.push(frame.slice());
		this.onWork?.();
	}

	drop(packet: Packet, reason: string): void {
		this.stats.dropped++;
		this.stats.reasons[reason] = (this.stats.reasons[reason] ?? 0) + 1;
		packet.iface.stats.rxDropped++;
		if (this.onEvent !== undefined) this.trace("drop", reason, packet.iface);
	}

	trace(kind: StackEvent["kind"], detail: string, iface?: Interface): void {
		this.onEvent?.({ kind, now: this.now, detail, ...(iface && { iface: iface.name }) });
	}

	/** Does what is due at `now`: timers, packets to ourselves, what sockets queued; frames leave here. */
	poll(now: number): void {
		if (now > this.now) this.now = now;
		this.timers.run(now);
		for (let round = 0; round < 4; round++) {
			if (this.later.length > 0) {
				const batch = this.later;
				this.later = [];
				for (const { iface, frame, offload } of batch) iface.sendFrame(frame, offload);
			}
			for (const part of this.pollables) part.poll(now);
			if (this.looped.length === 0) break;
			const batch = this.looped;
			this.looped = [];
			for (const frame of batch) this.input(frame, now, LOOPED, this.loopback);
			for (const part of this.pollables) part.poll(now);
		}
	}

	/** When {@link poll} is wanted next: `now` or earlier for at once, Infinity for never. */
	nextDeadline(): number {
		if (this.looped.length > 0 || this.later.length > 0) return this.now;
		for (const part of this.pollables) if (part.wants()) return this.now;
		return this.timers.next();
	}
}

const LOOPED: Offload = {
	needsCsum: false,
	dataValid: true,
	csumStart: 0,
	csumOffset: 0,
	gsoType: "none",
	gsoSize: 0,
	hdrLen: 0,
	ecn: false,
};
