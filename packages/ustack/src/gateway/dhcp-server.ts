import { CallbackTimer } from "../ip/timers.ts";
import type { Interface } from "../link/interface.ts";
import type { UdpLayer, UdpSocket } from "../udp/layer.ts";
import { ANY4, BROADCAST4, type Cidr, type IpAddress, ipv4FromNumber, maskOf } from "../wire/address.ts";
import {
	addressesOption,
	DHCP,
	DHCP_OPTION,
	type DhcpMessage,
	dhcpType,
	encodeDhcp,
	numberOption,
	optionAddresses,
	parseDhcp,
} from "../wire/dhcp.ts";
import { formatMac } from "../wire/mac.ts";

/** Options of {@link DhcpServer}. */
export interface DhcpServerOptions {
	/** The server's own address and network; also the router unless `router` says otherwise. */
	network: Cidr;
	/** First and last address to lease; @default the network's, without the server's */
	range?: readonly [IpAddress, IpAddress];
	/** Seconds. @default 86_400 */
	leaseSeconds?: number;
	dns?: readonly IpAddress[];
	router?: IpAddress;
	domain?: string;
	mtu?: number;
	/** Addresses kept for MACs (`52:54:00:12:34:56`). */
	fixed?: Readonly<Record<string, IpAddress>>;
	/** A lease was given or taken back. */
	onLease?: (lease: DhcpLease, active: boolean) => void;
}

/** Who has an address. */
export interface DhcpLease {
	readonly mac: string;
	readonly address: IpAddress;
	hostName: string | undefined;
	/** Stack time of its end. */
	until: number;
	/** False for an offer nobody has asked for yet. */
	bound: boolean;
}

const OFFER_MS = 60_000;
const DECLINED_MS = 600_000;
const MAX_LEASES = 4096;

/** RFC 2131's server for one interface: leases in memory, fixed ones by MAC. */
export class DhcpServer {
	private readonly udp: UdpLayer;
	private readonly iface: Interface;
	private readonly options: DhcpServerOptions;
	private readonly socket: UdpSocket;
	private readonly byMac = new Map<string, DhcpLease>();
	private readonly byAddress = new Map<number, DhcpLease>();
	private readonly sweeper: CallbackTimer;

	constructor(udp: UdpLayer, iface: Interface, options: DhcpServerOptions) {
		this.udp = udp;
		this.iface = iface;
		this.options = options;
		this.socket = udp.open({ port: 67, address: ANY4, iface, onMessage: (data) => this.input(data) });
		this.socket.broadcast = true;
		this.sweeper = new CallbackTimer((now) => this.sweep(now));
	}

	/** Leases that are bound. */
	leases(): DhcpLease[] {
		return [...this.byMac.values()].filter((lease) => lease.bound);
	}

	close(): void {
		this.socket.close();
		this.udp.stack.timers.cancel(this.sweeper);
	}

	private get now(): number {
		return this.udp.stack.now;
	}

	private sweep(now: number): void {
		for (const lease of this.byMac.values()) if (lease.until <= now) this.drop(lease);
		this.armSweep();
	}

	private armSweep(): void {
		let next = Number.POSITIVE_INFINITY;
		for (const lease of this.byMac.values()) next = Math.min(next, lease.until);
		if (next < Number.POSITIVE_INFINITY) this.udp.stack.timers.schedule(this.sweeper, next);
	}

	private drop(lease: DhcpLease): void {
		this.byMac.delete(lease.mac);
		this.byAddress.delete(lease.address.d);
		if (lease.bound) this.options.onLease?.(lease, false);
	}

	private get leaseMs(): number {
		return (this.options.leaseSeconds ?? 86_400) * 1000;
	}

	private usable(address: IpAddress, mac: string): boolean {
		const { network, range, fixed } = this.options;
		if (address.family !== 4 || !network.contains(address) || address.equals(network.address)) return false;
		if (network.prefix < 31 && (address.equals(network.network) || address.equals(network.broadcast))) return false;
		const reserved = Object.entries(fixed ?? {}).find(([, kept]) => kept.equals(address));
		if (reserved !== undefined) return reserved[0].toLowerCase() === mac;
		if (range !== undefined && (address.d >>> 0 < range[0].d >>> 0 || address.d >>> 0 > range[1].d >>> 0)) return false;
		const holder = this.byAddress.get(address.d);
		return holder === undefined || holder.mac === mac || holder.until <= this.now;
	}

	/** RFC 2131 4.3.1: the address it has, the one it asks for, or a free one. */
	private choose(mac: string, wanted: IpAddress | undefined): IpAddress | undefined {
		const fixed = Object.entries(this.options.fixed ?? {}).find(([key]) => key.toLowerCase() === mac)?.[1];
		if (fixed !== undefined) return fixed;
		const held = this.byMac.get(mac);
		if (held !== undefined) return held.address;
		if (wanted !== undefined && this.usable(wanted, mac)) return wanted;
		const { network, range } = this.options;
		const first = range === undefined ? (network.network.d >>> 0) + 1 : range[0].d >>> 0;
		const last = range === undefined ? (network.broadcast.d >>> 0) - 1 : range[1].d >>> 0;
		// A start by MAC keeps a guest's address the same from run to run.
		let hash = 0;
		for (let i = 0; i < mac.length; i++) hash = (Math.imul(hash, 31) + mac.charCodeAt(i)) >>> 0;
		const count = last - first + 1;
		for (let i = 0; i < Math.min(count, MAX_LEASES * 2); i++) {
			const candidate = ipv4FromNumber(first + ((hash + i) % count));
			if (this.usable(candidate, mac)) return candidate;
		}
		return undefined;
	}

	private input(data: Uint8Array): void {
		const message = parseDhcp(data);
		if (message === undefined || message.op !== 1) return;
		const mac = formatMac(message.chaddr);
		const server = optionAddresses(message, DHCP_OPTION.SERVER)[0];
		const requested = optionAddresses(message, DHCP_OPTION.REQUESTED)[0];
		const own = this.options.network.address;
		const name = message.options.get(DHCP_OPTION.HOST_NAME);
		const hostName =
			name === undefined ? undefined : String.fromCharCode(...name.subarray(0, 63)).replace(/[^A-Za-z0-9.-]/g, "");
		switch (dhcpType(message)) {
			case DHCP.DISCOVER: {
				const address = this.choose(mac, requested);
				if (address === undefined) return;
				this.hold(mac, address, hostName, OFFER_MS, false);
				this.reply(message, DHCP.OFFER, address);
				return;
			}
			case DHCP.REQUEST: {
				if (server !== undefined && !server.equals(own)) {
					const offered = this.byMac.get(mac);
					if (offered !== undefined && !offered.bound) this.drop(offered);
					return;
				}
				const address = requested ?? message.ciaddr;
				const held = this.byMac.get(mac);
				const fine =
					!address.isUnspecified &&
					this.usable(address, mac) &&
					(held === undefined || held.address.equals(address)) &&
					(this.choose(mac, address)?.equals(address) ?? false);
				if (!fine) {
					this.reply(message, DHCP.NAK, undefined);
					return;
				}
				this.hold(mac, address, hostName, this.leaseMs, true);
				this.reply(message, DHCP.ACK, address);
				return;
			}
			case DHCP.DECLINE: {
				const held = this.byMac.get(mac);
				if (held !== undefined) this.drop(held);
				if (requested !== undefined && this.byAddress.get(requested.d) === undefined)
					this.hold(`declined ${requested}`, requested, undefined, DECLINED_MS, false);
				return;
			}
			case DHCP.RELEASE: {
				const held = this.byMac.get(mac);
				if (held?.address.equals(message.ciaddr)) this.drop(held);
				return;
			}
			case DHCP.INFORM:
				this.reply(message, DHCP.ACK, undefined);
				return;
			default:
				return;
		}
	}

	private hold(mac: string, address: IpAddress, hostName: string | undefined, forMs: number, bound: boolean): void {
		const known = this.byMac.get(mac);
		if (known?.address.equals(address)) {
			known.hostName = hostName ?? known.hostName;
			if (bound || !known.bound) {
				known.until = this.now + forMs;
				const fresh = bound && !known.bound;
				known.bound ||= bound;
				if (fresh) this.options.onLease?.(known, true);
			}
		} else {
			if (known !== undefined) this.drop(known);
			if (this.byMac.size >= MAX_LEASES) {
				const oldest = [...this.byMac.values()].find((lease) => !lease.bound);
				if (oldest === undefined) return;
				this.drop(oldest);
			}
			const lease: DhcpLease = { mac, address, hostName, until: this.now + forMs, bound };
			this.byMac.set(mac, lease);
			this.byAddress.set(address.d, lease);
			if (bound) this.options.onLease?.(lease, true);
		}
		this.armSweep();
	}

	private reply(request: DhcpMessage, type: number, address: IpAddress | undefined): void {
		const { network, dns, router, domain, mtu } = this.options;
		const options = new Map<number, Uint8Array>([
			[DHCP_OPTION.TYPE, Uint8Array.of(type)],
			[DHCP_OPTION.SERVER, addressesOption([network.address])],
		]);
		if (type !== DHCP.NAK) {
			options.set(DHCP_OPTION.NETMASK, addressesOption([ipv4FromNumber(maskOf(network.prefix))]));
			options.set(DHCP_OPTION.BROADCAST, addressesOption([network.broadcast]));
			options.set(DHCP_OPTION.ROUTER, addressesOption([router ?? network.address]));
			options.set(DHCP_OPTION.DNS, addressesOption(dns ?? [network.address]));
			if (domain !== undefined)
				options.set(
					DHCP_OPTION.DOMAIN,
					Uint8Array.from(domain, (char) => char.charCodeAt(0)),
				);
			if (mtu !== undefined) options.set(DHCP_OPTION.MTU, Uint8Array.of(mtu >>> 8, mtu & 255));
			if (address !== undefined) {
				const seconds = this.leaseMs / 1000;
				options.set(DHCP_OPTION.LEASE, numberOption(seconds));
				options.set(DHCP_OPTION.RENEWAL, numberOption(Math.floor(seconds / 2)));
				options.set(DHCP_OPTION.REBINDING, numberOption(Math.floor((seconds * 7) / 8)));
			}
		}
		const id = request.options.get(DHCP_OPTION.CLIENT_ID);
		if (id !== undefined) options.set(DHCP_OPTION.CLIENT_ID, id);
		const message: DhcpMessage = {
			...request,
			op: 2,
			secs: 0,
			ciaddr: type === DHCP.ACK ? request.ciaddr : ANY4,
			yiaddr: address ?? ANY4,
			siaddr: network.address,
			options,
		};
		const bytes = encodeDhcp(message);
		// RFC 2131 4.1: unicast to an address in use, to the MAC where the client can take it, else to everybody.
		if (!request.ciaddr.isUnspecified && type !== DHCP.NAK) {
			this.socket.send(bytes, request.ciaddr, 68, network.address);
			return;
		}
		if (!request.broadcast && address !== undefined && type !== DHCP.NAK) {
			this.iface.neighbors.learn(address, request.chaddr, 0, this.now, true, true);
			this.socket.send(bytes, address, 68, network.address);
			return;
		}
		this.socket.send(bytes, BROADCAST4, 68, network.address);
	}
}
