import type { TcpConnection } from "../tcp/connection.ts";
import type { OutboundStream } from "./outbound.ts";

const CHUNK = 65_536;

/** Counts of one relayed connection. */
export interface RelayStats {
	toOutside: number;
	toGuest: number;
}

/**
 * Joins a guest's connection and one outside: bytes, back-pressure, half-closes and failures both ways. What neither
 * side takes stays in the other side's window, so nothing piles up here.
 */
export function relay(c: TcpConnection, stream: OutboundStream, onDone: (stats: RelayStats) => void): void {
	const stats: RelayStats = { toOutside: 0, toGuest: 0 };
	let blocked = false;
	let pending: Uint8Array | undefined;
	let outsideEnded = false;
	let guestEnded = false;
	let done = false;
	const finish = () => {
		if (done) return;
		done = true;
		onDone(stats);
	};
	const toOutside = () => {
		while (!blocked) {
			const view = c.peek(CHUNK);
			if (view.length === 0) break;
			const copy = view.slice();
			c.consume(copy.length);
			stats.toOutside += copy.length;
			blocked = !stream.write(copy);
		}
		if (!guestEnded && c.finReceived && c.readable === 0) {
			guestEnded = true;
			stream.end();
		}
	};
	const toGuest = () => {
		if (pending !== undefined) {
			if (done || !(c.writable > 0 || c.connecting)) return;
			const count = c.write(pending);
			stats.toGuest += count;
			pending = count === pending.length ? undefined : pending.subarray(count);
			if (pending !== undefined) return;
			stream.resume();
		}
		if (outsideEnded) c.end();
	};
	c.handlers = {
		onReadable: toOutside,
		onEnd: toOutside,
		onWritable: toGuest,
		onClose: (_c, error) => {
			if (error !== undefined) stream.destroy();
			else toOutside();
			finish();
		},
	};
	stream.onData = (bytes) => {
		if (done) return;
		let rest = bytes;
		if (pending === undefined) {
			if (c.error !== undefined || c.finQueued) return;
			const count = c.write(bytes);
			stats.toGuest += count;
			if (count === bytes.length) return;
			rest = bytes.subarray(count);
			pending = rest;
		} else {
			const joined = new Uint8Array(pending.length + rest.length);
			joined.set(pending);
			joined.set(rest, pending.length);
			pending = joined;
		}
		stream.pause();
	};
	stream.onEnd = () => {
		outsideEnded = true;
		if (pending === undefined && !done) c.end();
	};
	stream.onDrain = () => {
		blocked = false;
		toOutside();
	};
	stream.onClose = (code) => {
		if (code !== undefined) c.abort();
		else if (!outsideEnded) c.abort();
		else if (guestEnded || done) {
			// Both directions have finished; what the guest has not acknowledged yet goes out by itself.
			if (pending === undefined) c.close();
		}
		finish();
	};
	toOutside();
	if (c.closeDelivered && c.error !== undefined) {
		stream.destroy();
		finish();
	}
}
