import type { Link } from "@x/netchannel";
import { StackError } from "../errors.ts";
import type { Stack } from "../ip/stack.ts";
import { type Clock, hostClock } from "../socket/driver.ts";
import { Host, type HostOptions, type Lookup } from "../socket/host.ts";
import type { TcpLayer } from "../tcp/layer.ts";
import type { UdpLayer } from "../udp/layer.ts";
import { restoreIp, type SavedIp, saveIp } from "./ip.ts";
import { restoreTcp, type SavedTcp, saveTcp, type TcpUsers } from "./tcp.ts";
import { restoreUdp, type SavedUdp, saveUdp, type UdpUsers } from "./udp.ts";

const VERSION = 1;

/**
 * A stack with everything in it, as JSON and structured clones carry it: interfaces, addresses, routes, neighbours and
 * path MTUs; connections with what is queued, in flight and unread, their timers and congestion state; TIME-WAIT;
 * listeners; datagram sockets. Bytes are base64 text.
 *
 * Not in it: raw and packet sockets, datagrams of which fragments are missing, cookies other servers gave for Fast Open,
 * and the state of services above (DHCP, DNS, a gateway's flows).
 */
export interface SavedStack {
	version: typeof VERSION;
	ip: SavedIp;
	tcp: SavedTcp;
	udp: SavedUdp;
}

/** A stack's layers. */
export interface StackParts {
	stack: Stack;
	tcp: TcpLayer;
	udp: UdpLayer;
}

/** Options of {@link restoreStack}. Functions are not saved: who used the stack says here how it goes on. */
export interface RestoreOptions extends TcpUsers, UdpUsers {
	/** The link an interface goes on with. */
	link: (name: string) => Link;
	/** Fills arrays with unpredictable bytes. @default crypto.getRandomValues */
	random?: (bytes: Uint8Array) => void;
}

/**
 * Takes a stack's state; the stack itself goes on. What its users have not been told of yet is told first. Call it from
 * outside of the stack's callbacks.
 */
export function saveStack({ stack, tcp, udp }: StackParts): SavedStack {
	stack.poll(stack.now);
	return { version: VERSION, ip: saveIp(stack), tcp: saveTcp(tcp), udp: saveUdp(udp) };
}

/**
 * Makes a stack that goes on from a saved state. Its clock continues at `state.ip.now`, so that no timer has missed the
 * time between: poll it with such times ({@link restoreHost} does), and hand its links' frames to it.
 *
 * A state is trusted as the stack's own memory is, and holds the keys of its sequence numbers and cookies: keep it so.
 *
 * @throws StackError `ERR_BAD_STATE` for a state of another version, or one that reaches for objects' prototypes
 */
export function restoreStack(state: SavedStack, options: RestoreOptions): StackParts {
	if (state.version !== VERSION) {
		throw new StackError(
			"ERR_BAD_STATE",
			`a saved stack of version ${state.version}, expected ${VERSION}; save it with this release`,
		);
	}
	const random = options.random ?? ((bytes) => void crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>));
	const stack = restoreIp(state.ip, random, options.link);
	return { stack, tcp: restoreTcp(stack, state.tcp, options), udp: restoreUdp(stack, state.udp, options) };
}

/** Options of {@link restoreHost}. */
export interface RestoreHostOptions extends RestoreOptions {
	/** @default the host's */
	clock?: Clock;
	/** @default literals and `localhost` only */
	lookup?: Lookup;
}

/** {@link restoreStack}, driven by the event loop. */
export function restoreHost(state: SavedStack, options: RestoreHostOptions): Host {
	const base = options.clock ?? hostClock();
	const behind = state.ip.now - base.now();
	const parts = restoreStack(state, options);
	const settings: HostOptions = { clock: { ...base, now: () => base.now() + behind } };
	if (options.lookup !== undefined) settings.lookup = options.lookup;
	const host = new Host(settings, parts);
	for (const iface of parts.stack.interfaces) if (iface.link !== undefined) host.driver.adopt(iface, iface.link);
	return host;
}
