import { type StackError, socketError } from "../errors.ts";
import type { RawTap, StackCore } from "../ip/core.ts";
import { errorOf, type IcmpErrorKind } from "../ip/icmp.ts";
import type { Packet } from "../ip/packet.ts";
import { TX_L4 } from "../ip/tx.ts";
import type { Interface } from "../link/interface.ts";
import { type AddressLike, IpAddress, type IpFamily, toAddress } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { foldSum, sumBytes } from "../wire/checksum.ts";
import { PROTO_ICMPV6 } from "../wire/constants.ts";
import { ByteBoundQueue, DEFAULT_QUEUE_BYTES } from "./queue.ts";

/** Options of {@link RawLayer.open}. */
export interface RawOptions {
	family: IpFamily;
	/** IP protocol or next header, 0..255; 255 (IPPROTO_RAW) only sends. */
	protocol: number;
	/** What is sent has its IP header already (IP_HDRINCL, IPV6_HDRINCL). @default protocol is 255 */
	headerIncluded?: boolean;
	/** Offset of a checksum over the pseudo-header to fill in (IPV6_CHECKSUM). @default 2 for ICMPv6, else none */
	checksumAt?: number;
	/** Only packets by this interface, and sent by it. */
	iface?: Interface;
	/** @default 0, the stack's */
	hopLimit?: number;
	/** Bytes that may wait for {@link RawSocket.receive}. @default 212_992 */
	queueBytes?: number;
	/**
	 * Nothing goes in fragments (IP_MTU_DISCOVER's DO): what the path is known not to carry is `EMSGSIZE` at the call.
	 * @default false
	 */
	dontFragment?: boolean;
	/** An ICMP error about what a connected socket sent. */
	onError?: (error: StackError, socket: RawSocket) => void;
	/** Something waits. Called while frames come in: what it sends leaves with the next poll. */
	onReadable?: (socket: RawSocket) => void;
}

/** A packet received by a raw socket. */
export interface RawMessage {
	/** IPv4: from the IP header on, as Linux and the BSDs have it; IPv6: what follows its headers (RFC 3542 3). */
	readonly data: Uint8Array;
	readonly source: IpAddress;
	readonly destination: IpAddress;
	readonly hopLimit: number;
	readonly trafficClass: number;
	readonly iface: Interface;
}

const IPPROTO_RAW = 255;

/** Packets of one IP protocol, beside what the stack itself does with them. Made by {@link RawLayer.open}. */
export class RawSocket {
	readonly layer: RawLayer;
	readonly options: RawOptions;
	readonly headerIncluded: boolean;
	private readonly queue: ByteBoundQueue<RawMessage>;
	private remote: IpAddress | undefined;
	closed = false;

	constructor(layer: RawLayer, options: RawOptions) {
		this.layer = layer;
		this.options = options;
		this.headerIncluded = options.headerIncluded ?? options.protocol === IPPROTO_RAW;
		this.queue = new ByteBoundQueue(options.queueBytes ?? DEFAULT_QUEUE_BYTES);
	}

	/** Packets dropped because nobody took the ones before. */
	get dropped(): number {
		return this.queue.dropped;
	}

	/** Takes only this peer's packets from now on, and sends to it by default. */
	connect(address: AddressLike): void {
		this.remote = toAddress(address);
	}

	/** The next packet; undefined when none waits. */
	receive(): RawMessage | undefined {
		return this.queue.shift();
	}

	/** @internal Whether a packet was for this socket. */
	take(packet: Packet): boolean {
		const { options, remote } = this;
		if (packet.ops.family !== options.family || packet.protocol !== options.protocol) return false;
		if (options.iface !== undefined && options.iface !== packet.iface) return false;
		if (remote !== undefined && !remote.equals(packet.source())) return false;
		const start = options.family === 4 ? packet.l3 : packet.l4;
		if (!this.queue.fits(packet.end - start)) return true;
		this.queue.push({
			data: packet.bytes.slice(start, packet.end),
			source: packet.source(),
			destination: packet.destination(),
			hopLimit: packet.hopLimit,
			trafficClass: packet.tos,
			iface: packet.iface,
		});
		options.onReadable?.(this);
		return true;
	}

	/** @internal Whether a packet an ICMP error quotes was this socket's to hear of. */
	fail(quoted: Packet, kind: IcmpErrorKind): void {
		const { options, remote } = this;
		if (quoted.ops.family !== options.family || quoted.protocol !== options.protocol) return;
		const destination = quoted.destination();
		if (remote === undefined || !remote.equals(destination)) return;
		const code = kind === "too-big" ? "EMSGSIZE" : errorOf(kind);
		if (code !== undefined) options.onError?.(socketError(code, "recv", destination.toString()), this);
	}

	/**
	 * Sends a packet; the bytes are copied before it returns. With the header included its length and checksum are
	 * filled in, and an identification and a source of zero, as Linux does (raw(7)).
	 *
	 * @throws StackError `EMSGSIZE`, `ENETUNREACH`, `EDESTADDRREQ`, `EINVAL` for a header that is none
	 */
	send(data: Uint8Array, address: AddressLike | undefined = this.remote): void {
		if (this.closed) throw socketError("ENOTCONN", "send");
		if (this.headerIncluded) this.sendWhole(data, address);
		else this.sendPayload(data, address);
	}

	private sendPayload(data: Uint8Array, address: AddressLike | undefined): void {
		const { options, layer } = this;
		if (address === undefined) throw socketError("EDESTADDRREQ", "send");
		const to = toAddress(address);
		if (to.family !== options.family) throw socketError("EAFNOSUPPORT", "send", to.toString());
		const { stack } = layer;
		const path = stack.path(to, undefined, options.iface);
		if (path === undefined) throw socketError("ENETUNREACH", "send", to.toString());
		const most = 65_535 - (to.family === 4 ? path.ops.headerLength : 0);
		const fragmented = data.length + path.ops.headerLength > path.mtu;
		if (data.length > most || (fragmented && options.dontFragment === true))
			throw socketError("EMSGSIZE", "send", to.toString());
		const checksumAt = options.checksumAt ?? (options.family === 6 && options.protocol === PROTO_ICMPV6 ? 2 : -1);
		if (checksumAt >= 0 && checksumAt + 2 > data.length) throw socketError("EINVAL", "send", to.toString());
		stack.tx.set(data, TX_L4);
		if (checksumAt >= 0) put16(stack.tx, TX_L4 + checksumAt, 0);
		stack.transmitter.transmit(
			path,
			options.protocol,
			data.length,
			options.hopLimit ?? 0,
			0,
			options.dontFragment ?? false,
			checksumAt,
			0,
		);
	}

	private sendWhole(data: Uint8Array, address: AddressLike | undefined): void {
		const { options, layer } = this;
		const { stack } = layer;
		const v4 = options.family === 4;
		const least = v4 ? 20 : 40;
		if (data.length < least || data[0]! >>> 4 !== options.family) throw socketError("EINVAL", "send");
		const headerLength = v4 ? (data[0]! & 15) * 4 : 40;
		if (headerLength < least || headerLength > data.length) throw socketError("EINVAL", "send");
		const to = address === undefined ? addressAt(data, v4 ? 16 : 24, options.family) : toAddress(address);
		if (to.family !== options.family) throw socketError("EAFNOSUPPORT", "send", to.toString());
		const path = stack.path(to, undefined, options.iface);
		if (path === undefined) throw socketError("ENETUNREACH", "send", to.toString());
		if (data.length > path.mtu) throw socketError("EMSGSIZE", "send", to.toString());
		const start = TX_L4 - path.ops.headerLength;
		const { tx } = stack;
		tx.set(data, start);
		if (v4) {
			put16(tx, start + 2, data.length);
			if (get16(tx, start + 4) === 0) put16(tx, start + 4, stack.nextIdentification());
			if (get32(tx, start + 12) === 0) put32(tx, start + 12, path.source.d);
			put16(tx, start + 10, 0);
			put16(tx, start + 10, ~foldSum(sumBytes(tx, start, headerLength)) & 0xffff);
		} else put16(tx, start + 4, data.length - 40);
		stack.transmitter.sendIp(path, start, start + data.length, undefined);
	}

	close(): void {
		if (this.closed) return;
		this.closed = true;
		this.queue.clear();
		this.layer.remove(this);
	}
}

/** Raw sockets over a stack; costs nothing until the first is open. */
export class RawLayer {
	readonly stack: StackCore;
	private readonly sockets = new Set<RawSocket>();

	constructor(stack: StackCore) {
		this.stack = stack;
	}

	/**
	 * Opens a socket. It sees whole datagrams, put together and checked for being ours, before the protocol does; a
	 * protocol with a socket is not answered with "protocol unreachable".
	 *
	 * @throws StackError `EINVAL` for a protocol that is none
	 */
	open(options: RawOptions): RawSocket {
		const { protocol } = options;
		if (!Number.isInteger(protocol) || protocol < 0 || protocol > 255) throw socketError("EINVAL", "socket");
		const socket = new RawSocket(this, options);
		this.sockets.add(socket);
		this.stack.raw = this.tap;
		return socket;
	}

	remove(socket: RawSocket): void {
		this.sockets.delete(socket);
		if (this.sockets.size === 0) this.stack.raw = undefined;
	}

	private readonly tap: RawTap = {
		input: (packet) => {
			let taken = false;
			for (const socket of this.sockets) if (socket.take(packet)) taken = true;
			return taken;
		},
		error: (quoted, kind, mtu) => {
			// Protocols with a handler learn by it.
			if (kind === "too-big" && this.stack.protocols[quoted.protocol] === undefined)
				this.stack.paths.learnMtu(quoted.destination(), mtu === 0 ? 576 : mtu);
			for (const socket of [...this.sockets]) socket.fail(quoted, kind);
		},
	};
}

function addressAt(data: Uint8Array, at: number, family: IpFamily): IpAddress {
	return family === 4
		? new IpAddress(0, 0, 0xffff, get32(data, at))
		: new IpAddress(get32(data, at), get32(data, at + 4), get32(data, at + 8), get32(data, at + 12));
}
