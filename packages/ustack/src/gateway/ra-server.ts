import type { StackCore } from "../ip/core.ts";
import { ALL_NODES, ROUTER_SOLICITATION } from "../ip/nd.ts";
import type { Packet } from "../ip/packet.ts";
import { CallbackTimer } from "../ip/timers.ts";
import { TX_L4 } from "../ip/tx.ts";
import type { Interface } from "../link/interface.ts";
import type { Cidr, IpAddress } from "../wire/address.ts";
import { put16, put32 } from "../wire/bytes.ts";
import { PROTO_ICMPV6 } from "../wire/constants.ts";

/** Options of {@link RouterAdvertiser}. */
export interface RouterAdvertiserOptions {
	/** Announced for autoconfiguration; /64. */
	prefix: Cidr;
	dns?: readonly IpAddress[];
	mtu?: number;
	/** Seconds this router is a default router. @default 1800 */
	lifetimeSeconds?: number;
	/** DHCPv6 has more to tell than addresses (RFC 4861's O flag). @default false */
	otherConfiguration?: boolean;
	/** Milliseconds between unasked advertisements. @default 200_000 */
	intervalMs?: number;
}

const MIN_DELAY_MS = 3_000;

/** Router advertisements for one interface (RFC 4861 section 6.2, RFC 8106 for DNS). */
export class RouterAdvertiser {
	private readonly stack: StackCore;
	private readonly iface: Interface;
	private readonly options: RouterAdvertiserOptions;
	private readonly timer: CallbackTimer;
	private lastGroupAt = Number.NEGATIVE_INFINITY;

	constructor(stack: StackCore, iface: Interface, options: RouterAdvertiserOptions) {
		this.stack = stack;
		this.iface = iface;
		this.options = options;
		this.timer = new CallbackTimer((now) => this.unasked(now));
		stack.icmp.v6Types.set(ROUTER_SOLICITATION, (packet) => this.solicited(packet));
		stack.timers.schedule(this.timer, stack.now);
	}

	close(): void {
		this.stack.timers.cancel(this.timer);
		this.stack.icmp.v6Types.delete(ROUTER_SOLICITATION);
		this.send(ALL_NODES, 0);
	}

	private solicited(packet: Packet): void {
		if (packet.hopLimit !== 255 || packet.iface !== this.iface || packet.end - packet.l4 < 8) return;
		const source = packet.source();
		if (!source.isUnspecified) {
			this.send(source, this.options.lifetimeSeconds ?? 1800);
			return;
		}
		if (packet.now - this.lastGroupAt < MIN_DELAY_MS) return;
		this.lastGroupAt = packet.now;
		this.send(ALL_NODES, this.options.lifetimeSeconds ?? 1800);
	}

	private unasked(now: number): void {
		this.lastGroupAt = now;
		this.send(ALL_NODES, this.options.lifetimeSeconds ?? 1800);
		this.stack.timers.schedule(this.timer, now + (this.options.intervalMs ?? 200_000));
	}

	private send(to: IpAddress, lifetime: number): void {
		const from = this.iface.addresses.find((entry) => entry.address.family === 6 && entry.address.isLinkLocal);
		const path = from === undefined ? undefined : this.stack.path(to, from.address, this.iface);
		if (path === undefined) return;
		const { tx } = this.stack;
		const { prefix, dns, mtu } = this.options;
		let at = TX_L4;
		put32(tx, at, 134 << 24);
		tx[at + 4] = 64;
		tx[at + 5] = this.options.otherConfiguration === true ? 0x40 : 0;
		put16(tx, at + 6, lifetime);
		put32(tx, at + 8, 0);
		put32(tx, at + 12, 0);
		at += 16;
		tx[at] = 1;
		tx[at + 1] = 1;
		tx.set(this.iface.mac, at + 2);
		at += 8;
		tx[at] = 3;
		tx[at + 1] = 4;
		tx[at + 2] = prefix.prefix;
		// On-link and autonomous.
		tx[at + 3] = 0xc0;
		put32(tx, at + 4, 86_400);
		put32(tx, at + 8, 14_400);
		put32(tx, at + 12, 0);
		prefix.network.write(tx, at + 16);
		at += 32;
		if (mtu !== undefined) {
			put32(tx, at, 0x05010000);
			put32(tx, at + 4, mtu);
			at += 8;
		}
		if (dns !== undefined && dns.length > 0) {
			tx[at] = 25;
			tx[at + 1] = 1 + dns.length * 2;
			put16(tx, at + 2, 0);
			put32(tx, at + 4, 1_800);
			at += 8;
			for (const server of dns) {
				server.write(tx, at);
				at += 16;
			}
		}
		this.stack.transmitter.transmit(path, PROTO_ICMPV6, at - TX_L4, 255, 0, false, 2, 0);
	}
}
