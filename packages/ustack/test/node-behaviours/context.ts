import type dgram from "node:dgram";
import { once } from "node:events";
import type net from "node:net";

/** The modules under test: node's own over the kernel, or the look-alikes over a stack. */
export interface Modules {
	readonly net: typeof net;
	readonly dgram: typeof dgram;
}

/** What a behaviour works with; everything it opens is closed after it. */
export class Context {
	readonly net: typeof net;
	readonly dgram: typeof dgram;
	private readonly opened: (() => void)[] = [];

	constructor(modules: Modules) {
		this.net = modules.net;
		this.dgram = modules.dgram;
	}

	/** A server on a free port of 127.0.0.1, listening. */
	async serve(
		onConnection: (socket: net.Socket) => void = (socket) => void socket.resume(),
		options: net.ServerOpts = {},
		host = "127.0.0.1",
	): Promise<{ server: net.Server; port: number }> {
		const server = this.net.createServer(options, (socket) => {
			this.keep(socket);
			onConnection(socket);
		});
		this.opened.push(() => server.close());
		server.listen(0, host);
		await once(server, "listening");
		return { server, port: (server.address() as net.AddressInfo).port };
	}

	/** Destroys a socket at the end, and lets its errors be. */
	keep<S extends net.Socket>(socket: S): S {
		socket.on("error", () => undefined);
		this.opened.push(() => socket.destroy());
		return socket;
	}

	/** A connection, established. */
	async dial(port: number, options: Partial<net.TcpNetConnectOpts> = {}): Promise<net.Socket> {
		const socket = this.keep(this.net.connect({ port, host: "127.0.0.1", ...options }));
		await once(socket, "connect");
		return socket;
	}

	/** Both ends of a connection. */
	async pair(
		server: net.ServerOpts = {},
		client: Partial<net.TcpNetConnectOpts> & { highWaterMark?: number } = {},
	): Promise<{ near: net.Socket; far: net.Socket; server: net.Server; port: number }> {
		let taken!: (socket: net.Socket) => void;
		const far = new Promise<net.Socket>((resolve) => {
			taken = resolve;
		});
		const made = await this.serve(taken, server);
		const near = await this.dial(made.port, client);
		return { near, far: await far, ...made };
	}

	/** A port of 127.0.0.1 on which nothing listens. */
	async freePort(): Promise<number> {
		const server = this.net.createServer();
		server.listen(0, "127.0.0.1");
		await once(server, "listening");
		const { port } = server.address() as net.AddressInfo;
		await new Promise((resolve) => server.close(resolve));
		return port;
	}

	udp(options: dgram.SocketOptions | dgram.SocketType = "udp4"): dgram.Socket {
		const socket = typeof options === "string" ? this.dgram.createSocket(options) : this.dgram.createSocket(options);
		this.opened.push(() => {
			socket.on("error", () => undefined);
			try {
				socket.close();
			} catch {
				// Closed by the behaviour itself.
			}
		});
		return socket;
	}

	async bound(
		options: dgram.SocketOptions | dgram.SocketType = "udp4",
		address = "127.0.0.1",
	): Promise<{ socket: dgram.Socket; port: number }> {
		const socket = this.udp(options);
		socket.bind(0, address);
		await once(socket, "listening");
		return { socket, port: socket.address().port };
	}

	end(): void {
		for (const close of this.opened.splice(0).reverse()) close();
	}
}

/** One thing node's own modules do, by name. */
export type Behaviour = readonly [name: string, run: (context: Context) => Promise<void>];

export type Failure = Error & { code?: string; errno?: number; syscall?: string; address?: string; port?: number };

/** The error an emitter reports. */
export async function failureOf(emitter: NodeJS.EventEmitter): Promise<Failure> {
	return await new Promise((resolve) => emitter.once("error", resolve));
}

/** All a socket sends, as text; the socket is left as it is. */
export function textOf(socket: net.Socket): Promise<string> {
	return new Promise((resolve, reject) => {
		const chunks: Buffer[] = [];
		socket.on("data", (chunk) => chunks.push(Buffer.from(chunk)));
		socket.on("end", () => resolve(Buffer.concat(chunks).toString()));
		socket.on("error", reject);
	});
}

/** Whether a socket closes with an error; the error itself is not looked at. */
export function closeOf(socket: net.Socket): Promise<boolean> {
	return new Promise((resolve) => {
		socket.on("error", () => undefined);
		socket.once("close", resolve);
	});
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until a condition holds. */
export async function until(condition: () => boolean): Promise<void> {
	for (let i = 0; i < 2000; i++) {
		if (condition()) return;
		await pause(2);
	}
	throw new Error("the condition did not come true");
}
