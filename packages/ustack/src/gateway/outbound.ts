import type { IpAddress, IpFamily } from "../wire/address.ts";

/** A TCP connection of the outside world, as the gateway uses it. */
export interface OutboundStream {
	/** Takes bytes (it may keep them); false asks to wait for `onDrain`. */
	write(bytes: Uint8Array): boolean;
	/** Finishes sending. */
	end(): void;
	pause(): void;
	resume(): void;
	/** Drops it, with a reset where that can be done. */
	destroy(): void;
	onConnect: (() => void) | undefined;
	/** Bytes arrived; the callee may keep them. */
	onData: ((bytes: Uint8Array) => void) | undefined;
	onEnd: (() => void) | undefined;
	onDrain: (() => void) | undefined;
	/** The last call; with a code when it failed. */
	onClose: ((code: string | undefined) => void) | undefined;
}

/** A UDP socket of the outside world. */
export interface OutboundDatagrams {
	send(bytes: Uint8Array, address: string, port: number): void;
	close(): void;
	onMessage: ((bytes: Uint8Array, address: string, port: number) => void) | undefined;
	onError: ((code: string) => void) | undefined;
}

/** Something that listens outside; `close` stops it. */
export interface OutboundListener {
	readonly port: number;
	close(): void;
}

/** What a gateway needs of the world it leads to. Node's is in `@x/ustack/node`; a browser's may be a relay. */
export interface Outbound {
	connect(address: string, port: number): OutboundStream;
	datagrams(family: IpFamily): OutboundDatagrams;
	/** Resolves to true when an echo reply came. */
	ping(address: string, timeoutMs: number): Promise<boolean>;
	listen(
		address: string,
		port: number,
		onConnection: (stream: OutboundStream, remote: { address: string; port: number }) => void,
	): Promise<OutboundListener>;
	listenDatagrams(
		address: string,
		port: number,
		onMessage: (
			bytes: Uint8Array,
			remote: { address: string; port: number },
			reply: (bytes: Uint8Array) => void,
		) => void,
	): Promise<OutboundListener>;
	/** Sends a DNS query to the world's resolver; undefined when none answers. */
	query(message: Uint8Array): Promise<Uint8Array | undefined>;
	/** The world's addresses, which are closed to guests. */
	ownAddresses(): IpAddress[];
}
