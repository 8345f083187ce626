import { lstatSync, unlinkSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { CliError, EXIT } from "../exit.ts";
import type { ListenAddress } from "./listen-address.ts";

/** Waits for gdb; one connection at a time. */
export class GdbListener {
	readonly #server: Server;
	readonly #path: string | undefined;
	readonly address: ListenAddress;
	#current: Socket | undefined;

	private constructor(server: Server, address: ListenAddress) {
		this.#server = server;
		this.address = address;
		this.#path = "path" in address ? address.path : undefined;
	}

	/**
	 * @param onConnect - given each connection that comes while there is no other
	 * @throws CliError for an address that cannot be had
	 */
	static async open(address: ListenAddress, onConnect: (socket: Socket) => void): Promise<GdbListener> {
		if ("path" in address) removeSocket(address.path);
		let listener: GdbListener | undefined;
		const server = createServer((socket) => {
			socket.on("error", () => socket.destroy());
			if (listener === undefined || listener.#current !== undefined) {
				socket.destroy();
				return;
			}
			listener.#current = socket;
			socket.setNoDelay(true);
			socket.on("close", () => {
				listener!.#current = undefined;
			});
			onConnect(socket);
		});
		await new Promise<void>((resolve, reject) => {
			server.once("error", (error: NodeJS.ErrnoException) => reject(cannotListen(address, error)));
			server.listen("path" in address ? { path: address.path } : { host: address.host, port: address.port }, resolve);
		});
		const bound = server.address();
		const actual = typeof bound === "object" && bound !== null ? { host: bound.address, port: bound.port } : address;
		listener = new GdbListener(server, actual);
		return listener;
	}

	close(): void {
		this.#current?.destroy();
		this.#server.close();
		if (this.#path !== undefined) removeSocket(this.#path);
	}
}

/** A socket that an earlier run left; anything else stays. */
function removeSocket(path: string): void {
	const stat = lstatSync(path, { throwIfNoEntry: false });
	if (stat?.isSocket() === true) unlinkSync(path);
}

function cannotListen(address: ListenAddress, error: NodeJS.ErrnoException): CliError {
	const where = "path" in address ? `unix:${address.path}` : `${address.host}:${address.port}`;
	const code = error.code ?? "FAILED";
	const meaning: Readonly<Record<string, string>> = {
		EADDRINUSE: "something else listens there; choose another port",
		EACCES: "permission denied; ports below 1024 are root's",
		EADDRNOTAVAIL: "this machine has no such address",
	};
	const exitCode = code === "EACCES" ? EXIT.permission : EXIT.io;
	return new CliError(exitCode, code, `--listen ${where}: ${meaning[code] ?? code}`, { cause: error });
}
