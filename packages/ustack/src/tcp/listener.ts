import type { IpAddress } from "../wire/address.ts";
import type { TcpConnection, TcpHandlers } from "./connection.ts";
import type { TcpCore } from "./core.ts";

/** Options of {@link TcpCore.listen}. */
export interface ListenOptions {
	/** 0 for any free one. */
	port: number;
	/** Undefined for any address of both families. */
	address?: IpAddress;
	/** With an any-address of IPv6: no IPv4 (IPV6_V6ONLY). @default false */
	ipv6Only?: boolean;
	/** Connections waiting for the handshake's end or for {@link Listener.accept}. @default 511 */
	backlog?: number;
	/** Takes every connection as it is established; without it they wait for {@link Listener.accept}. */
	onConnection?: (connection: TcpConnection) => TcpHandlers | undefined;
	/** Sees a SYN before it is answered; false drops it silently, "reset" refuses it. */
	onSyn?: (remote: IpAddress, remotePort: number, local: IpAddress, localPort: number) => boolean | "reset";
	/** Sets options on a connection while it is still being opened. */
	configure?: (connection: TcpConnection) => void;
	/** Accept Fast Open data, this many such connections pending; 0 for not. @default 0 */
	fastOpenQueue?: number;
}

/** A passive socket. Made by {@link TcpCore.listen}. */
export class Listener {
	readonly layer: TcpCore;
	readonly port: number;
	readonly address: IpAddress | undefined;
	readonly ipv6Only: boolean;
	backlog: number;
	readonly options: ListenOptions;
	/** Handshakes under way. */
	halfOpen = 0;
	fastOpenPending = 0;
	/** Fast Open connections that may be pending; undefined leaves it to the configuration. */
	fastOpenQueue: number | undefined;
	/** Cookies' keys of 16 bytes, the present one first; undefined leaves them to the configuration. */
	fastOpenKeys: readonly Uint8Array[] | undefined;
	/** Data is taken without a cookie. */
	fastOpenNoCookie = false;
	/** When the backlog last overflowed: cookies are believed for a while after. */
	overflowedAt: number = Number.NEGATIVE_INFINITY;
	readonly queue: TcpConnection[] = [];
	closed = false;

	constructor(layer: TcpCore, port: number, options: ListenOptions) {
		this.layer = layer;
		this.port = port;
		this.address = options.address;
		this.ipv6Only = options.ipv6Only ?? false;
		this.backlog = Math.max(1, options.backlog ?? 511);
		this.options = options;
		this.fastOpenQueue = options.fastOpenQueue;
	}

	/** The next established connection, undefined when there is none. */
	accept(): TcpConnection | undefined {
		return this.queue.shift();
	}

	/** Stops listening; established connections nobody accepted are reset. */
	close(): void {
		this.layer.listeners.close(this);
	}

	/** How well it fits a destination: -1 not at all, the more exact the higher. */
	fits(destination: IpAddress): number {
		const { address } = this;
		if (address === undefined) return 0;
		if (address.isUnspecified) {
			if (address.family === destination.family) return 1;
			return address.family === 6 && !this.ipv6Only ? 0 : -1;
		}
		return address.equals(destination) ? 2 : -1;
	}
}
