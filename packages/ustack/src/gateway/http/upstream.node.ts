import { Agent } from "node:http";
import type { Duplex } from "node:stream";
import { connect, rootCertificates } from "node:tls";
import { parseAddress } from "../../wire/address.ts";
import type { InterceptedConnection } from "../interceptor.ts";
import { OutboundDuplex } from "./outbound-duplex.node.ts";

/**
 * The server's side of one guest connection: the connection outside that is there already, and another one to the same
 * address when that was closed. One request at a time, as the guest's.
 */
export class UpstreamAgent extends Agent {
	private readonly guest: InterceptedConnection;
	private readonly name: string | undefined;
	private readonly authorities: readonly string[] | undefined;
	private ready: OutboundDuplex | undefined;

	/**
	 * @param name - the TLS server name; undefined for plain HTTP
	 */
	constructor(guest: InterceptedConnection, name: string | undefined, authorities: readonly string[] | undefined) {
		super({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 });
		this.guest = guest;
		this.name = name;
		this.authorities = authorities;
		// At once, so that it hears when the server hangs up before the guest has said anything.
		this.ready = new OutboundDuplex(guest.stream).on("error", () => undefined);
	}

	override createConnection(): Duplex {
		const { ready } = this;
		this.ready = undefined;
		const plain = ready === undefined || ready.destroyed ? new OutboundDuplex(this.guest.reconnect()) : ready;
		if (this.name === undefined) return plain;
		const literal = parseAddress(this.name) !== undefined;
		return connect({
			socket: plain,
			...(literal ? { host: this.name } : { servername: this.name, host: this.name }),
			ALPNProtocols: ["http/1.1"],
			...(this.authorities === undefined ? {} : { ca: [...rootCertificates, ...this.authorities] }),
			rejectUnauthorized: true,
		});
	}

	override destroy(): void {
		this.ready?.destroy();
		this.ready = undefined;
		super.destroy();
	}
}
