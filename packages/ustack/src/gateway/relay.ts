import type { TcpConnection } from "../tcp/connection.ts";
import type { ConnectionCheck } from "./connection-check.ts";
import type { RateLimit } from "./limits.ts";
import type { OutboundStream } from "./outbound.ts";

const CHUNK = 65_536;

/** Counts of one relayed connection. */
export interface RelayStats {
	toOutside: number;
	toGuest: number;
}

/** Options of {@link relay}. */
export interface RelayOptions {
	/** Bytes a second, each way. */
	readonly out: RateLimit;
	readonly in: RateLimit;
	readonly now: () => number;
	/** Looks at what the guest sends. */
	readonly check?: ConnectionCheck | undefined;
	/** The check said `take`: the two ends are somebody else's now, with all bytes still in the guest's. */
	readonly onTake?: () => void;
	/** The check said `deny`; both ends are being dropped. */
	readonly onDeny?: () => void;
	readonly onDone: (stats: RelayStats) => void;
}

/**
 * Joins a guest's connection and one outside: bytes, back-pressure, half-closes and failures both ways. What neither
 * side takes stays in the other side's window, so nothing piles up here.
 */
export function relay(c: TcpConnection, stream: OutboundStream, options: RelayOptions): void {
	const { check } = options;
	const stats: RelayStats = { toOutside: 0, toGuest: 0 };
	let blocked = false;
	let pending: Uint8Array | undefined;
	let outsideEnded = false;
	let guestEnded = false;
	let done = false;
	const finish = () => {
		if (done) return;
		done = true;
		options.out.forget(toOutside);
		options.in.forget(toGuest);
		options.onDone(stats);
	};
	const toOutside = () => {
		while (!blocked && !done) {
			let view = c.peek(check === undefined ? CHUNK : check.window);
			if (check !== undefined) {
				const look = check.look(view, c.finReceived && view.length === c.readable);
				if (look === "deny") {
					c.abort();
					stream.destroy();
					options.onDeny?.();
					finish();
					return;
				}
				if (look === "take") {
					done = true;
					options.onTake?.();
					return;
				}
				if (look === "more") {
					if (view.length < check.window && !c.finReceived) return;
					break;
				}
				view = view.subarray(0, Math.min(look, CHUNK));
			}
			if (view.length === 0) break;
			const granted = options.out.take(view.length, options.now());
			if (granted === 0) {
				options.out.wait(toOutside);
				return;
			}
			const copy = view.slice(0, granted);
			c.consume(granted);
			stats.toOutside += granted;
			blocked = !stream.write(copy);
		}
		if (!guestEnded && !done && c.finReceived && c.readable === 0) {
			guestEnded = true;
			stream.end();
		}
	};
	/** Writes as much as the guest and the rate take; what is left over. */
	const give = (bytes: Uint8Array): Uint8Array | undefined => {
		const room = Math.min(bytes.length, c.writable);
		const granted = options.in.take(room, options.now());
		const count = granted > 0 ? c.write(granted === bytes.length ? bytes : bytes.subarray(0, granted)) : 0;
		stats.toGuest += count;
		if (count === bytes.length) return undefined;
		if (granted < room) options.in.wait(toGuest);
		else c.wantsWritable = true;
		return bytes.subarray(count);
	};
	const toGuest = () => {
		if (done) return;
		if (pending !== undefined) {
			if (c.error !== undefined || c.finQueued) return;
			pending = give(pending);
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
		if (check?.answer(bytes)) toOutside();
		if (pending === undefined) {
			if (c.error !== undefined || c.finQueued) return;
			pending = give(bytes);
			if (pending === undefined) return;
		} else {
			const joined = new Uint8Array(pending.length + bytes.length);
			joined.set(pending);
			joined.set(bytes, pending.length);
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
