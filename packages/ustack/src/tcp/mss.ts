import { TCP_HEADER } from "../wire/tcp.ts";
import type { TcpConnection } from "./connection.ts";

/** Bytes of payload a segment carries: the path's and the peer's limit without options, and half of a small window. */
export function effectiveMss(c: TcpConnection): number {
	const { maxWindow, mss } = c;
	if (maxWindow === 0) return mss;
	const cutoff = maxWindow > 536 ? maxWindow >> 1 : maxWindow;
	return mss > cutoff ? Math.max(cutoff, 48) : mss;
}

/** Takes the path's MTU and the peer's MSS into `mss` (RFC 9293 3.7.1, RFC 6691). */
export function syncMss(c: TcpConnection): void {
	const { path } = c;
	let mss = Math.min(c.peerMss, path.mtu - path.ops.headerLength - TCP_HEADER);
	if (c.mssClamp > 0) mss = Math.min(mss, c.mssClamp);
	if (c.probedMss > 0) mss = Math.min(mss, c.probedMss);
	c.mss = Math.max(mss, 48) - (c.tsOk ? 12 : 0);
}

/** Looks the connection's path up again; without one it keeps what it has. */
export function refreshPath(c: TcpConnection): void {
	const path = c.layer.stack.path(c.path.destination, c.path.source);
	if (path?.source.equals(c.path.source)) c.path = path;
}

/** Follows changes of routes and MTUs. */
export function refreshIfStale(c: TcpConnection): void {
	if (c.path.generation === c.layer.stack.generation) return;
	refreshPath(c);
	syncMss(c);
}
