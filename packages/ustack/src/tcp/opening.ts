import { type StackErrorCode, socketError } from "../errors.ts";
import type { Interface } from "../link/interface.ts";
import { type AddressLike, addressBy, LOOPBACK4, LOOPBACK6 } from "../wire/address.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import { TcpConnection, type TcpHandlers } from "./connection.ts";
import type { TcpCore } from "./core.ts";
import { wantOutput } from "./events.ts";
import { pickPort, tupleFree } from "./ports.ts";
import { siphash } from "./siphash.ts";
import { SYN_SENT, setState } from "./state.ts";
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

/** See {@link TcpCore.connect}. */
export function connect(
	layer: TcpCore,
	address: AddressLike,
	port: number,
	handlers: TcpHandlers | undefined,
	options: ConnectOptions,
): TcpConnection {
	const { stack } = layer;
	const { localAddress, localPort: wanted, fastOpen } = options;
	let remote = addressBy(address, stack.parse);
	if (remote.isUnspecified) remote = remote.family === 4 ? LOOPBACK4 : LOOPBACK6;
	const fail = (code: StackErrorCode) => socketError(code, "connect", remote.toString(), port);
	let source = localAddress === undefined ? undefined : addressBy(localAddress, stack.parse);
	if (source !== undefined && !source.isUnspecified && !stack.isLocal(source))
		throw socketError("EADDRNOTAVAIL", "bind", source.toString(), wanted ?? 0);
	if (source !== undefined && source.family !== remote.family) throw fail("EINVAL");
	if (source?.isUnspecified === true) source = undefined;
	const path = remote.isMulticast || remote.isBroadcast ? undefined : stack.path(remote, source, options.iface);
	if (path === undefined || path.source.isUnspecified) throw fail("ENETUNREACH");
	const localPort = wanted || pickPort(layer, path, port);
	if (wanted && !tupleFree(layer, path, localPort, port)) throw fail("EADDRINUSE");
	const c = new TcpConnection(layer, path, localPort, port, handlers);
	prepare(c);
	c.noDelay = options.noDelay ?? false;
	options.configure?.(c);
	c.synEcn = layer.config.ecn === "request";
	offerScale(c);
	if (fastOpen !== undefined) {
		if (layer.fastOpen !== undefined) layer.fastOpen.open(c, fastOpen, options);
		else enqueue(c, fastOpen, Math.min(fastOpen.length, c.sendLimit), false, false);
	}
	layer.table.add(c);
	layer.stats.activeOpens++;
	setState(c, SYN_SENT);
	wantOutput(c);
	return c;
}

/** What every new connection gets: sequence number, timestamp offset, MSS to announce. */
export function prepare(c: TcpConnection): void {
	const { config, secret, stack, timeWaits } = c.layer;
	const { path } = c;
	const { source, destination } = path;
	const addresses = [source.a, source.b, source.d, destination.a, destination.b, destination.d];
	// RFC 6528: a clock of 4 microseconds and a secret per tuple.
	const hash = siphash(secret, [...addresses, (c.localPort << 16) | c.remotePort]);
	c.iss = (hash + Math.floor((stack.now * 250) % 0x100000000)) | 0;
	c.tsOffset = siphash(secret, addresses);
	const waiting = timeWaits.find(source, c.localPort, destination, c.remotePort);
	if (waiting !== undefined) {
		// RFC 6191 and RFC 1122 4.2.2.13: beyond everything the old connection sent.
		c.iss = (waiting.sndNxt + 65_535 + 2) | 0;
		timeWaits.remove(waiting);
	}
	startAt(c, c.iss);
	const announced = path.iface.mtu - path.ops.headerLength - TCP_HEADER;
	c.advertisedMss = config.maxSegmentSize > 0 ? Math.min(config.maxSegmentSize, announced) : announced;
}

/** Sets every sequence number of the sending side to a SYN's. */
export function startAt(c: TcpConnection, iss: number): void {
	c.iss = c.sndUna = c.sndNxt = c.smallEnd = c.highestSacked = c.cwndUsedEnd = iss;
	c.dataSeq = c.pushedSeq = c.tailStart = (iss + 1) | 0;
}

/** The window scale to announce: for the largest buffer there may be. */
export function offerScale(c: TcpConnection): void {
	const { config, tuning } = c.layer;
	if (!config.windowScaling) return;
	const most =
		c.receiveFixed || tuning === undefined ? c.receiveLimit : Math.max(config.maxReceiveBuffer, c.receiveLimit);
	c.rcvWscale = 0;
	while (c.rcvWscale < 14 && most / 2 ** c.rcvWscale > 65_535) c.rcvWscale++;
}
