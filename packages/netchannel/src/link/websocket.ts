import { LinkBase, type LinkOptions } from "./base.ts";
import { LinkError } from "./errors.ts";
import type { Link } from "./link.ts";

/** Options of {@link createWebSocketLink}. */
export interface WebSocketLinkOptions extends LinkOptions {
	/** Bytes that may wait in the socket before `send` returns false. @default 2 ** 20 */
	highWater?: number;
}

/** Milliseconds between looks at `bufferedAmount`: browsers have no event for it. */
const POLL_MS = 4;

class WebSocketLink extends LinkBase {
	private readonly socket: WebSocket;
	private readonly highWater: number;
	private timer: ReturnType<typeof setInterval> | undefined = undefined;

	constructor(socket: WebSocket, options: WebSocketLinkOptions) {
		super(options);
		this.socket = socket;
		this.highWater = options.highWater ?? 2 ** 20;
		socket.binaryType = "arraybuffer";
		socket.onmessage = (event: MessageEvent) => {
			if (event.data instanceof ArrayBuffer) this.deliver(new Uint8Array(event.data));
			else this.rxDropped++;
		};
		socket.onclose = (event: CloseEvent) =>
			this.fail(new LinkError("ERR_LINK_IO", `the WebSocket closed with code ${event.code} ${event.reason}`.trim()));
	}

	get carrier(): boolean {
		return this.socket.readyState === 1;
	}

	protected override transmit(frame: Uint8Array): boolean {
		if (this.socket.readyState !== 1) return this.dropSent(frame);
		if (this.socket.bufferedAmount > this.highWater) {
			this.timer ??= setInterval(() => {
				if (this.socket.bufferedAmount > this.highWater / 2) return;
				clearInterval(this.timer);
				this.timer = undefined;
				this.writable();
			}, POLL_MS);
			return false;
		}
		const shared = typeof SharedArrayBuffer !== "undefined" && frame.buffer instanceof SharedArrayBuffer;
		this.socket.send(shared ? new Uint8Array(frame) : (frame as Uint8Array<ArrayBuffer>));
		return true;
	}

	protected override shutdown(): void {
		clearInterval(this.timer);
		this.socket.onmessage = this.socket.onclose = null;
		this.socket.close();
	}
}

/** A link over a standard WebSocket, browsers' or any that is like it: one frame in each binary message. */
export function createWebSocketLink(socket: WebSocket, options: WebSocketLinkOptions = {}): Link {
	return new WebSocketLink(socket, options);
}
