import {
	BlockList,
	getDefaultAutoSelectFamily,
	getDefaultAutoSelectFamilyAttemptTimeout,
	isIP,
	isIPv4,
	isIPv6,
	SocketAddress,
	setDefaultAutoSelectFamily,
	setDefaultAutoSelectFamilyAttemptTimeout,
} from "node:net";
import type { Host } from "../socket/host.ts";
import { normalizeConnect } from "./connect.node.ts";
import { NetServer, type NetServerOptions } from "./server.node.ts";
import { type NetConnectOptions, NetSocket } from "./socket.node.ts";

/** node:net's functions and classes bound to one host, for code that takes `net` as a dependency. */
export interface NetModule {
	readonly Socket: new (options?: Partial<NetConnectOptions>) => NetSocket;
	/** As {@link Socket}, by its old name. */
	readonly Stream: new (
		options?: Partial<NetConnectOptions>,
	) => NetSocket;
	readonly Server: new (
		options?: NetServerOptions | ((socket: NetSocket) => void),
		listener?: (socket: NetSocket) => void,
	) => NetServer;
	connect(...args: unknown[]): NetSocket;
	createConnection(...args: unknown[]): NetSocket;
	createServer(
		options?: NetServerOptions | ((socket: NetSocket) => void),
		listener?: (socket: NetSocket) => void,
	): NetServer;
	isIP(text: string): number;
	isIPv4(text: string): boolean;
	isIPv6(text: string): boolean;
	readonly BlockList: typeof BlockList;
	readonly SocketAddress: typeof SocketAddress;
	getDefaultAutoSelectFamily(): boolean;
	setDefaultAutoSelectFamily(value: boolean): void;
	getDefaultAutoSelectFamilyAttemptTimeout(): number;
	setDefaultAutoSelectFamilyAttemptTimeout(value: number): void;
}

/** Makes the look-alike of `node:net` for a host. */
export function createNet(host: Host): NetModule {
	const Socket = bound(NetSocket, host) as NetModule["Socket"];
	const Server = bound(NetServer, host) as NetModule["Server"];
	const connect = (...args: unknown[]): NetSocket => {
		const [options] = normalizeConnect(args);
		return new Socket(options).connect(...args);
	};
	return {
		Socket,
		Stream: Socket,
		Server,
		connect,
		createConnection: connect,
		createServer: (options, listener) => new Server(options, listener),
		isIP,
		isIPv4,
		isIPv6,
		BlockList,
		SocketAddress,
		getDefaultAutoSelectFamily,
		setDefaultAutoSelectFamily,
		getDefaultAutoSelectFamilyAttemptTimeout,
		setDefaultAutoSelectFamilyAttemptTimeout,
	};
}

/**
 * A class whose constructor gets the host before its arguments, and may be called without `new` as node's may. It is the
 * class itself behind a proxy, not a subclass: the sockets of all hosts look alike to the engine.
 */
function bound<C extends new (host: Host, ...args: never[]) => object>(type: C, host: Host): unknown {
	const made: unknown = new Proxy(type, {
		apply: (target, _self, args) => Reflect.construct(target, [host, ...args]),
		construct: (target, args, derived) =>
			Reflect.construct(target, [host, ...args], derived === made ? target : derived) as object,
	});
	return made;
}
