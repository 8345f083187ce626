import { LinkBase, type LinkOptions } from "./base.ts";
import type { Link } from "./link.ts";
import { createWebSocketServer, type WebSocketServerHandle } from "./websocket.node.ts";

/** Options of {@link listenWebSocket}. */
export interface WebSocketListenOptions extends LinkOptions {
	/** @default "127.0.0.1" */
	host?: string;
	port: number;
	/** @default none: pages of any site could reach a local server */
	allowOrigin?(origin: string): boolean;
}

/** One link for whoever is connected: a wire with two ends, as QEMU's listening link is. */
class WebSocketListener extends LinkBase {
	onCarrier: ((up: boolean) => void) | undefined = undefined;
	server: WebSocketServerHandle | undefined = undefined;
	private peer: Link | undefined = undefined;

	get carrier(): boolean {
		return this.peer !== undefined;
	}

	adopt(peer: Link): void {
		if (this.peer !== undefined || this.closed) {
			peer.close();
			return;
		}
		this.peer = peer;
		peer.onFrame = (frame) => this.deliver(frame);
		peer.onWritable = () => this.writable();
		peer.onError = () => {
			this.peer = undefined;
			this.writable();
			this.call(this.onCarrier, false);
		};
		this.call(this.onCarrier, true);
	}

	protected override transmit(frame: Uint8Array): boolean {
		return this.peer === undefined ? this.dropSent(frame) : this.peer.send(frame);
	}

	protected override shutdown(): void {
		this.onCarrier = undefined;
		this.peer?.close();
		this.peer = undefined;
		void this.server?.close();
	}
}

/** Listens for one WebSocket peer at a time; when it goes away the next may come. */
export async function listenWebSocket(options: WebSocketListenOptions): Promise<Link & { readonly port: number }> {
	const link = new WebSocketListener(options);
	const server = await createWebSocketServer({ ...options, onLink: (peer) => link.adopt(peer) });
	link.server = server;
	return Object.assign(link, { port: server.port });
}
