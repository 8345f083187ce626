import { type StackError, socketError } from "../errors.ts";
import type { ProtocolHandler, StackCore } from "../ip/core.ts";
import { errorOf, type IcmpErrorKind } from "../ip/icmp.ts";
import { joinGroup, leaveGroup } from "../ip/membership.ts";
import type { Packet } from "../ip/packet.ts";
import type { Path } from "../ip/path.ts";
import { TX_L4 } from "../ip/tx.ts";
import type { Interface } from "../link/interface.ts";
import { type AddressLike, type IpAddress, type IpFamily, toAddress } from "../wire/address.ts";
import { get16, put16 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { PROTO_UDP, UDP_HEADER } from "../wire/constants.ts";

/** Where a datagram came from; `packet` has the rest and is valid during the call only. */
export interface UdpSource {
	readonly address: IpAddress;
	readonly port: number;
	readonly packet: Packet;
}

/** Options of {@link UdpLayer.open}. */
export interface UdpOptions {
	/** Undefined for any address of both families. */
	address?: IpAddress;
	/** 0 or absent for any free one. */
	port?: number;
	/** Share the port with others that say so too (SO_REUSEADDR); unicast goes to the last. @default false */
	reuse?: boolean;
	/** An any-address of IPv6 takes no IPv4. @default false */
	ipv6Only?: boolean;
	/** Only this interface's packets, and sent by it; for DHCP. */
	iface?: Interface;
	/** A datagram, and the group or broadcast address it was for; `data` is valid during the call. Called while frames come in: what it sends leaves with the next poll. */
	onMessage?: (data: Uint8Array, from: UdpSource, socket: UdpSocket, group: IpAddress | undefined) => void;
	/** An ICMP error for a connected socket. */
	onError?: (error: StackError, socket: UdpSocket) => void;
}

/** One UDP endpoint. Made by {@link UdpLayer.open}. */
export class UdpSocket {
	readonly layer: UdpLayer;
	readonly port: number;
	readonly address: IpAddress | undefined;
	readonly options: UdpOptions;
	readonly groups: { iface: Interface; group: IpAddress }[] = [];
	remote: IpAddress | undefined;
	remotePort = 0;
	/** 0 for the stack's. */
	hopLimit = 0;
	multicastHopLimit = 1;
	/** Datagrams to groups we are in come back to us. @default true */
	multicastLoop = true;
	multicastInterface: Interface | undefined;
	/** Sending to broadcast addresses is allowed. */
	broadcast = false;
	tos = 0;
	/**
	 * Nothing goes in fragments (IP_MTU_DISCOVER's DO, IPV6_DONTFRAG): what the path is known not to carry is `EMSGSIZE`
	 * at the call, what a router has no room for is `EMSGSIZE` for a connected socket.
	 */
	dontFragment = false;
	closed = false;
	received = 0;
	sent = 0;
	private path: Path | undefined;

	constructor(layer: UdpLayer, port: number, options: UdpOptions) {
		this.layer = layer;
		this.port = port;
		this.address = options.address;
		this.options = options;
	}

	/** Fixes the peer: others' datagrams are not taken, and its ICMP errors are reported. */
	connect(address: AddressLike, port: number): void {
		this.remote = toAddress(address);
		this.remotePort = port;
		this.path = undefined;
	}

	disconnect(): void {
		this.remote = undefined;
		this.remotePort = 0;
	}

	/** The source address a datagram to `to` would have. */
	localFor(to: IpAddress): IpAddress | undefined {
		return this.pathTo(to)?.source;
	}

	private pathTo(to: IpAddress): Path | undefined {
		const { path } = this;
		const { stack } = this.layer;
		if (path !== undefined && path.generation === stack.generation && path.destination.equals(to)) return path;
		const source =
			this.address === undefined || this.address.isUnspecified || to.family !== this.address.family
				? undefined
				: this.address;
		const iface = this.options.iface ?? (to.isMulticast ? this.multicastInterface : undefined);
		const fresh = stack.path(to, source?.isMulticast === true ? undefined : source, iface);
		this.path = fresh;
		return fresh;
	}

	/**
	 * Sends one datagram; the bytes are copied before it returns.
	 *
	 * @param from - source address to use instead of the socket's (a gateway answering for another)
	 * @throws StackError `EMSGSIZE`, `ENETUNREACH`, `EDESTADDRREQ`, `EACCES` for a broadcast not allowed
	 */
	send(
		data: Uint8Array,
		address: AddressLike | undefined = this.remote,
		port: number = this.remotePort,
		from?: IpAddress,
	): void {
		if (address === undefined || port === 0) throw socketError("EDESTADDRREQ", "send");
		let to = typeof address === "string" ? toAddress(address) : address;
		if (to.isUnspecified) to = toAddress(to.family === 4 ? "127.0.0.1" : "::1");
		const { stack } = this.layer;
		if (data.length > (to.family === 4 ? 65_507 : 65_527)) throw socketError("EMSGSIZE", "send", to.toString(), port);
		const path = from === undefined ? this.pathTo(to) : stack.path(to, from, this.options.iface);
		if (path === undefined) throw socketError("ENETUNREACH", "send", to.toString(), port);
		if (!this.broadcast && path.groupMac !== undefined && !to.isMulticast)
			throw socketError("EACCES", "send", to.toString(), port);
		const { tx } = stack;
		const length = UDP_HEADER + data.length;
		if (this.dontFragment && length + path.ops.headerLength > path.mtu)
			throw socketError("EMSGSIZE", "send", to.toString(), port);
		put16(tx, TX_L4, this.port);
		put16(tx, TX_L4 + 2, port);
		put16(tx, TX_L4 + 4, length);
		put16(tx, TX_L4 + 6, 0);
		tx.set(data, TX_L4 + UDP_HEADER);
		this.sent++;
		const group = to.isMulticast;
		const looped = group && this.multicastLoop && path.iface !== stack.loopback && path.iface.groups.has(to.toString());
		const copy = looped ? tx.slice(TX_L4 + UDP_HEADER, TX_L4 + length) : undefined;
		stack.transmitter.transmit(
			path,
			PROTO_UDP,
			length,
			group ? this.multicastHopLimit : this.hopLimit,
			this.tos,
			this.dontFragment,
			6,
			0,
		);
		if (copy !== undefined) this.layer.loopGroup(this, copy, path, port);
	}

	joinGroup(group: IpAddress, iface?: Interface): void {
		const { stack } = this.layer;
		const via = iface ?? this.options.iface ?? stack.path(group)?.iface;
		if (!group.isMulticast) throw socketError("EINVAL", "addMembership", group.toString());
		if (via === undefined) throw socketError("ENETUNREACH", "addMembership", group.toString());
		if (this.groups.some((entry) => entry.iface === via && entry.group.equals(group))) {
			throw socketError("EADDRINUSE", "addMembership", group.toString());
		}
		joinGroup(stack, via, group);
		this.groups.push({ iface: via, group });
	}

	leaveGroup(group: IpAddress, iface?: Interface): void {
		const at = this.groups.findIndex(
			(entry) => entry.group.equals(group) && (iface === undefined || entry.iface === iface),
		);
		if (at < 0) throw socketError("EADDRNOTAVAIL", "dropMembership", group.toString());
		const [entry] = this.groups.splice(at, 1);
		leaveGroup(this.layer.stack, entry!.iface, entry!.group);
	}

	close(): void {
		if (this.closed) return;
		this.closed = true;
		for (const { iface, group } of this.groups.splice(0)) leaveGroup(this.layer.stack, iface, group);
		this.layer.remove(this);
	}
}

/** UDP over a stack (RFC 768, RFC 8200 8.1). */
export class UdpLayer implements ProtocolHandler {
	readonly stack: StackCore;
	readonly ports: Map<number, UdpSocket[]> = new Map();
	/** Where the search for an ephemeral port goes on. */
	nextPort: number;
	readonly stats = { received: 0, noPort: 0, checksumErrors: 0 };
	/** Takes a datagram no socket wants; true when it was taken. For gateways. */
	onOrphan: ((packet: Packet, localPort: number, remotePort: number) => boolean) | undefined;
	private readonly from: { address: IpAddress; port: number; packet: Packet } = {} as never;

	constructor(stack: StackCore) {
		this.stack = stack;
		this.nextPort = 32_768 + ((stack.randomInt() >>> 0) % 28_232);
		stack.protocols[PROTO_UDP] = this;
	}

	/**
	 * Opens a socket.
	 *
	 * @throws StackError `EADDRINUSE`, `EADDRNOTAVAIL`
	 */
	open(options: UdpOptions = {}): UdpSocket {
		const { address } = options;
		if (address !== undefined && !address.isUnspecified && !address.isMulticast && !this.stack.isLocal(address)) {
			throw socketError("EADDRNOTAVAIL", "bind", address.toString(), options.port ?? 0);
		}
		let port = options.port ?? 0;
		if (port === 0) {
			for (let tries = 0; tries < 28_232; tries++) {
				const candidate = this.nextPort;
				this.nextPort = candidate >= 60_999 ? 32_768 : candidate + 1;
				if (this.ports.has(candidate)) continue;
				port = candidate;
				break;
			}
			if (port === 0) throw socketError("EADDRINUSE", "bind", address?.toString(), 0);
		}
		const socket = new UdpSocket(this, port, options);
		const others = this.ports.get(port) ?? [];
		for (const other of others) {
			if (other.options.reuse === true && options.reuse === true) continue;
			if (conflicts(other, socket)) throw socketError("EADDRINUSE", "bind", address?.toString() ?? "0.0.0.0", port);
		}
		others.push(socket);
		this.ports.set(port, others);
		return socket;
	}

	/** Sends a datagram from any address and port, as a gateway does for hosts outside; false without a route. */
	sendFrom(source: IpAddress, sourcePort: number, to: IpAddress, port: number, data: Uint8Array): boolean {
		const path = this.stack.path(to, source);
		if (path === undefined || data.length > 65_507) return false;
		const { tx } = this.stack;
		const length = UDP_HEADER + data.length;
		put16(tx, TX_L4, sourcePort);
		put16(tx, TX_L4 + 2, port);
		put16(tx, TX_L4 + 4, length);
		put16(tx, TX_L4 + 6, 0);
		tx.set(data, TX_L4 + UDP_HEADER);
		this.stack.transmitter.transmit(path, PROTO_UDP, length, 0, 0, false, 6, 0);
		return true;
	}

	remove(socket: UdpSocket): void {
		const others = this.ports.get(socket.port)?.filter((other) => other !== socket) ?? [];
		if (others.length === 0) this.ports.delete(socket.port);
		else this.ports.set(socket.port, others);
	}

	input(packet: Packet): void {
		const { bytes, l4, end } = packet;
		const available = end - l4;
		const length = available >= UDP_HEADER ? get16(bytes, l4 + 4) : 0;
		if (length < UDP_HEADER || length > available) {
			this.stack.drop(packet, "udp-malformed");
			return;
		}
		const unchecked = get16(bytes, l4 + 6) === 0;
		if (
			unchecked
				? packet.ops.family === 6
				: !packet.checked && foldSum(packet.pseudoSum(length) + sumBytes(bytes, l4, length)) !== 0xffff
		) {
			this.stats.checksumErrors++;
			this.stack.drop(packet, "udp-checksum");
			return;
		}
		packet.end = l4 + length;
		const remotePort = get16(bytes, l4);
		const localPort = get16(bytes, l4 + 2);
		const sockets = this.ports.get(localPort);
		this.stats.received++;
		if (packet.groupcast) {
			let taken = false;
			if (sockets !== undefined) {
				for (const socket of [...sockets]) {
					if (score(socket, packet, remotePort) < 0) continue;
					taken = true;
					this.deliver(socket, packet, remotePort);
				}
			}
			if (!taken) this.onOrphan?.(packet, localPort, remotePort);
			return;
		}
		let best: UdpSocket | undefined;
		let bestScore = -1;
		if (sockets !== undefined) {
			for (let i = 0; i < sockets.length; i++) {
				const value = score(sockets[i]!, packet, remotePort);
				if (value >= 0 && value >= bestScore) {
					best = sockets[i];
					bestScore = value;
				}
			}
		}
		if (best !== undefined) {
			this.deliver(best, packet, remotePort);
			return;
		}
		if (this.onOrphan?.(packet, localPort, remotePort) === true) return;
		this.stats.noPort++;
		this.stack.icmp.sendError(packet, "port-unreachable");
	}

	private deliver(socket: UdpSocket, packet: Packet, remotePort: number): void {
		socket.received++;
		const { onMessage } = socket.options;
		if (onMessage === undefined) return;
		const { from } = this;
		const known = socket.remote;
		from.address = known !== undefined && known.d === packet.sd ? known : packet.source();
		from.port = remotePort;
		from.packet = packet;
		const group = packet.groupcast ? packet.destination() : undefined;
		onMessage(packet.bytes.subarray(packet.l4 + UDP_HEADER, packet.end), from, socket, group);
	}

	/** A datagram sent to a group this host is in as well. */
	loopGroup(sender: UdpSocket, data: Uint8Array, path: Path, port: number): void {
		const sockets = this.ports.get(port);
		if (sockets === undefined) return;
		const group = path.destination;
		for (const socket of [...sockets]) {
			if (!socket.groups.some((entry) => entry.iface === path.iface && entry.group.equals(group))) continue;
			socket.received++;
			const from = { address: path.source, port: sender.port, packet: undefined as never };
			socket.options.onMessage?.(data, from, socket, group);
		}
	}

	error(quoted: Packet, kind: IcmpErrorKind, mtu: number): void {
		const { bytes, l4 } = quoted;
		const sockets = this.ports.get(get16(bytes, l4));
		const destination = quoted.destination();
		const tooBig = kind === "too-big";
		if (tooBig) this.stack.paths.learnMtu(destination, mtu === 0 ? 576 : mtu);
		if (sockets === undefined) return;
		const remotePort = get16(bytes, l4 + 2);
		const code = tooBig ? "EMSGSIZE" : errorOf(kind);
		if (code === undefined) return;
		for (const socket of [...sockets]) {
			if (socket.remote === undefined || socket.remotePort !== remotePort || !socket.remote.equals(destination))
				continue;
			socket.options.onError?.(socketError(code, "recv", destination.toString(), remotePort), socket);
		}
	}
}

function familyOf(socket: UdpSocket): IpFamily | 0 {
	const { address } = socket;
	if (address === undefined) return 0;
	if (address.isUnspecified && address.family === 6 && socket.options.ipv6Only !== true) return 0;
	return address.family;
}

function conflicts(x: UdpSocket, y: UdpSocket): boolean {
	if (x.options.iface !== undefined && y.options.iface !== undefined && x.options.iface !== y.options.iface)
		return false;
	const a = familyOf(x);
	const b = familyOf(y);
	if (a !== 0 && b !== 0 && a !== b) return false;
	if (x.address === undefined || y.address === undefined || x.address.isUnspecified || y.address.isUnspecified)
		return true;
	return x.address.equals(y.address);
}

/** How well a socket fits a packet; -1 not at all. */
function score(socket: UdpSocket, packet: Packet, remotePort: number): number {
	const { address, remote } = socket;
	let value = 0;
	if (socket.options.iface !== undefined && socket.options.iface !== packet.iface) return -1;
	if (address !== undefined) {
		if (address.isUnspecified) {
			if (address.family !== packet.ops.family && (address.family === 4 || socket.options.ipv6Only === true)) return -1;
		} else if (
			address.d !== packet.dd ||
			address.c !== packet.dc ||
			address.b !== packet.db ||
			address.a !== packet.da
		) {
			return -1;
		} else value += 2;
	}
	if (remote !== undefined) {
		if (
			socket.remotePort !== remotePort ||
			remote.d !== packet.sd ||
			remote.c !== packet.sc ||
			remote.b !== packet.sb ||
			remote.a !== packet.sa
		)
			return -1;
		value += 4;
	}
	if (packet.groupcast && (packet.ops.family === 6 || packet.dd >>> 28 === 0xe)) {
		// A group's datagrams go to those who joined it, and to everybody for all-hosts and all-nodes.
		const destination = packet.destination();
		if (socket.groups.length > 0 && !socket.groups.some((entry) => entry.group.equals(destination))) return -1;
	}
	return value;
}
