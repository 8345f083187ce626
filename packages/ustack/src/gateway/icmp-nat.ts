import type { Packet } from "../ip/packet.ts";
import { TX_L4 } from "../ip/tx.ts";
import type { Host } from "../socket/host.ts";
import { put16 } from "../wire/bytes.ts";
import type { Outbound } from "./outbound.ts";
import type { EgressRequest } from "./policy.ts";

const MAX_UNDER_WAY = 32;
const TIMEOUT_MS = 10_000;

/** Pings of guests: the outside is pinged for them, and answers as the one they asked. */
export class IcmpNat {
	private readonly host: Host;
	private readonly outbound: Outbound;
	private readonly judge: (request: EgressRequest) => Promise<boolean>;
	private underWay = 0;

	constructor(host: Host, outbound: Outbound, judge: (request: EgressRequest) => Promise<boolean>) {
		this.host = host;
		this.outbound = outbound;
		this.judge = judge;
	}

	/** Takes an echo request; true always: it is answered later or never. */
	request(packet: Packet): boolean {
		if (this.underWay >= MAX_UNDER_WAY) return true;
		this.underWay++;
		const source = packet.source();
		const address = packet.destination();
		const echo = packet.bytes.slice(packet.l4, packet.end);
		const { protocol } = packet;
		const v4 = packet.ops.family === 4;
		void this.judge({ protocol: "icmp", source, address, port: 0, names: [] })
			.then((allowed) => allowed && this.outbound.ping(address.toString(), TIMEOUT_MS))
			.then((answered) => {
				if (!answered) return;
				const { stack } = this.host;
				const path = stack.path(source, address);
				if (path === undefined) return;
				stack.tx.set(echo, TX_L4);
				stack.tx[TX_L4] = v4 ? 0 : 129;
				put16(stack.tx, TX_L4 + 2, 0);
				stack.transmit(path, protocol, echo.length, 0, 0, false, 2, 0);
			})
			.catch(() => undefined)
			.finally(() => {
				this.underWay--;
			});
		return true;
	}
}
