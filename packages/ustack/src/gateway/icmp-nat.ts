import type { Packet } from "../ip/packet.ts";
import { TX_L4 } from "../ip/tx.ts";
import type { Host } from "../socket/host.ts";
import { get16, put16 } from "../wire/bytes.ts";
import type { Flow, FlowContext } from "./flow.ts";
import type { Outbound } from "./outbound.ts";

const MAX_UNDER_WAY = 32;
const TIMEOUT_MS = 10_000;

/** Pings of guests: the outside is pinged for them, and answers as the one they asked. */
export class IcmpNat {
	private readonly host: Host;
	private readonly outbound: Outbound;
	private readonly context: FlowContext;
	private underWay = 0;

	constructor(host: Host, outbound: Outbound, context: FlowContext) {
		this.host = host;
		this.outbound = outbound;
		this.context = context;
	}

	/** Takes an echo request: it is refused now, or answered later or never. */
	request(packet: Packet): void {
		if (this.underWay >= MAX_UNDER_WAY) return;
		const identifier = get16(packet.bytes, packet.l4 + 4);
		const flow = this.context.flowOf(packet, "icmp", identifier, 0);
		const verdict = this.context.judge(flow);
		if (!(verdict instanceof Promise) && !verdict.allowed) {
			this.host.stack.icmp.sendError(packet, "prohibited");
			return;
		}
		this.underWay++;
		const echo = packet.bytes.slice(packet.l4, packet.end);
		const { protocol } = packet;
		void Promise.resolve(verdict)
			.then((late) => late.allowed && this.outbound.ping(flow.address.toString(), TIMEOUT_MS))
			.then((answered) => {
				if (answered) this.reply(flow, echo, protocol);
			})
			.catch(() => undefined)
			.finally(() => {
				this.underWay--;
			});
	}

	private reply(flow: Flow, echo: Uint8Array, protocol: number): void {
		const { stack } = this.host;
		const path = stack.path(flow.source, flow.address);
		if (path === undefined) return;
		stack.tx.set(echo, TX_L4);
		stack.tx[TX_L4] = flow.address.family === 4 ? 0 : 129;
		put16(stack.tx, TX_L4 + 2, 0);
		stack.transmitter.transmit(path, protocol, echo.length, 0, 0, false, 2, 0);
	}
}
