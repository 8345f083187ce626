import type { Host } from "../socket/host.ts";
import type { TcpConnection, TcpHandlers } from "../tcp/connection.ts";
import type { ConnectOptions } from "../tcp/opening.ts";
import type { IpAddress } from "../wire/address.ts";

/** A TCP connection as WHATWG streams, shaped like the Direct Sockets draft's TCPSocket. */
export interface StreamSocket {
	readonly readable: ReadableStream<Uint8Array>;
	readonly writable: WritableStream<Uint8Array>;
	readonly remoteAddress: string;
	readonly remotePort: number;
	readonly localAddress: string;
	readonly localPort: number;
	/** Resolves when both directions are over, rejects when the connection failed. */
	readonly closed: Promise<void>;
	/** Ends it at once with a reset. */
	abort(): void;
}

const CHUNK = 65_536;

/** Puts streams on an established connection; its handlers are taken over. */
export function streamsOf(connection: TcpConnection): StreamSocket {
	let source: ReadableStreamDefaultController<Uint8Array>;
	let wanted = false;
	let ended = false;
	let room: (() => void) | undefined;
	let fail: ((error: Error) => void) | undefined;
	let finish!: () => void;
	let broke!: (error: Error) => void;
	const closed = new Promise<void>((resolve, reject) => {
		finish = resolve;
		broke = reject;
	});
	// Whoever does not ask for the end must not be told by an unhandled rejection.
	closed.catch(() => undefined);
	const pull = () => {
		while (wanted && !ended) {
			const view = connection.peek(CHUNK);
			if (view.length === 0) break;
			const chunk = view.slice();
			connection.consume(chunk.length);
			source.enqueue(chunk);
			wanted = (source.desiredSize ?? 0) > 0;
		}
		if (!ended && connection.finReceived && connection.readable === 0) {
			ended = true;
			source.close();
		}
	};
	const handlers: TcpHandlers = {
		onReadable: pull,
		onEnd: pull,
		onWritable: () => {
			const go = room;
			room = fail = undefined;
			go?.();
		},
		onClose: (_c, error) => {
			pull();
			if (error === undefined) {
				finish();
				return;
			}
			if (!ended) {
				ended = true;
				source.error(error);
			}
			fail?.(error);
			broke(error);
		},
	};
	connection.handlers = handlers;
	const readable = new ReadableStream<Uint8Array>(
		{
			start(controller) {
				source = controller;
			},
			pull() {
				wanted = true;
				pull();
			},
			cancel() {
				ended = true;
				connection.shutdownRead();
			},
		},
		{ highWaterMark: 0 },
	);
	const writable = new WritableStream<Uint8Array>({
		async write(chunk) {
			for (let at = 0; at < chunk.length; ) {
				at += connection.write(at === 0 ? chunk : chunk.subarray(at));
				if (at === chunk.length) return;
				await new Promise<void>((resolve, reject) => {
					room = resolve;
					fail = reject;
				});
			}
		},
		close() {
			connection.end();
		},
		abort() {
			connection.abort();
			finish();
		},
	});
	return {
		readable,
		writable,
		remoteAddress: connection.remoteAddress.toString(),
		remotePort: connection.remotePort,
		localAddress: connection.localAddress.toString(),
		localPort: connection.localPort,
		closed,
		abort() {
			connection.abort();
			finish();
		},
	};
}

/**
 * Connects and gives streams.
 *
 * @throws StackError as {@link TcpConnection}'s `onClose` would be told, `ENOTFOUND` for an unknown name
 */
export async function connectStreams(
	host: Host,
	name: string,
	port: number,
	options: ConnectOptions = {},
): Promise<StreamSocket> {
	const addresses = await host.resolve(name);
	let failure: Error | undefined;
	for (const address of addresses) {
		try {
			return await attempt(host, address, port, options);
		} catch (error) {
			failure = error as Error;
		}
	}
	throw failure!;
}

function attempt(host: Host, address: IpAddress, port: number, options: ConnectOptions): Promise<StreamSocket> {
	return new Promise((resolve, reject) => {
		host.tcp.connect(
			address,
			port,
			{ onConnect: (c) => resolve(streamsOf(c)), onClose: (_c, error) => reject(error) },
			options,
		);
	});
}
