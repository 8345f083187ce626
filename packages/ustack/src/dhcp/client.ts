import { removeAddress } from "../ip/removal.ts";
import { CallbackTimer } from "../ip/timers.ts";
import type { Interface } from "../link/interface.ts";
import type { UdpLayer, UdpSocket } from "../udp/layer.ts";
import { ANY4, BROADCAST4, Cidr, type IpAddress, ipv4FromNumber } from "../wire/address.ts";
import {
	addressesOption,
	DHCP,
	DHCP_OPTION,
	type DhcpMessage,
	dhcpRequest,
	dhcpType,
	encodeDhcp,
	optionAddresses,
	optionNumber,
	parseDhcp,
} from "../wire/dhcp.ts";

/** What a server gave. */
export interface DhcpConfiguration {
	readonly address: Cidr;
	readonly server: IpAddress;
	readonly routers: readonly IpAddress[];
	readonly dns: readonly IpAddress[];
	readonly domain: string | undefined;
	readonly mtu: number | undefined;
	/** Seconds. */
	readonly leaseSeconds: number;
}

/** Options of {@link DhcpClient}. */
export interface DhcpClientOptions {
	hostName?: string;
	/** An address to ask for again (RFC 2131 INIT-REBOOT is not used; it goes into the first DISCOVER). */
	requested?: IpAddress;
	/** Configured, renewed, or (undefined) lost. */
	onChange?: (configuration: DhcpConfiguration | undefined) => void;
}

type State = "selecting" | "requesting" | "bound" | "renewing" | "rebinding";

const FIRST_RETRY_MS = 2_000;
const LONGEST_RETRY_MS = 64_000;
const REQUEST_TRIES = 4;
const DEFAULT_LEASE_S = 3_600;
const NOT_BEFORE_MS = 60_000;

/** RFC 2131's client for one interface: it configures address, routes and MTU, and renews them. */
export class DhcpClient {
	private readonly udp: UdpLayer;
	private readonly iface: Interface;
	private readonly options: DhcpClientOptions;
	private readonly socket: UdpSocket;
	private readonly timer: CallbackTimer;
	private state: State = "selecting";
	private xid = 0;
	private tries = 0;
	private startedAt = 0;
	private offer: DhcpMessage | undefined;
	private t1 = 0;
	private t2 = 0;
	private expires = 0;
	/** The present configuration. */
	configuration: DhcpConfiguration | undefined;

	constructor(udp: UdpLayer, iface: Interface, options: DhcpClientOptions = {}) {
		this.udp = udp;
		this.iface = iface;
		this.options = options;
		this.socket = udp.open({ port: 68, address: ANY4, iface, onMessage: (data) => this.input(data) });
		this.socket.broadcast = true;
		this.timer = new CallbackTimer((now) => this.tick(now));
		this.restart();
	}

	private get now(): number {
		return this.udp.stack.now;
	}

	private restart(): void {
		this.state = "selecting";
		this.xid = this.udp.stack.randomInt();
		this.tries = 0;
		this.offer = undefined;
		this.startedAt = this.now;
		this.udp.stack.timers.schedule(this.timer, this.now);
		this.udp.stack.onWork?.();
	}

	private retryAfter(): number {
		const base = Math.min(FIRST_RETRY_MS * 2 ** this.tries, LONGEST_RETRY_MS);
		return base + ((this.udp.stack.randomInt() >>> 0) / 0x100000000 - 0.5) * FIRST_RETRY_MS;
	}

	private tick(now: number): void {
		const { timers } = this.udp.stack;
		if (this.state === "bound" && now >= this.t1) this.state = "renewing";
		if (this.state === "renewing" && now >= this.t2) this.state = "rebinding";
		if ((this.state === "renewing" || this.state === "rebinding") && now >= this.expires) {
			this.lose();
			this.restart();
			return;
		}
		if (this.state === "bound") {
			timers.schedule(this.timer, this.t1);
			return;
		}
		if (this.state === "selecting") {
			this.send(DHCP.DISCOVER);
			timers.schedule(this.timer, now + this.retryAfter());
			this.tries++;
			return;
		}
		if (this.state === "requesting") {
			if (this.tries >= REQUEST_TRIES) {
				this.restart();
				return;
			}
			this.send(DHCP.REQUEST);
			timers.schedule(this.timer, now + this.retryAfter());
			this.tries++;
			return;
		}
		// RFC 2131 4.4.5: half of the time left, not below a minute.
		this.send(DHCP.REQUEST);
		const until = this.state === "renewing" ? this.t2 : this.expires;
		timers.schedule(this.timer, Math.min(until, now + Math.max((until - now) / 2, NOT_BEFORE_MS)));
	}

	private send(type: number): void {
		const message = dhcpRequest(this.xid, this.iface.mac, type);
		message.secs = Math.min(0xffff, Math.floor((this.now - this.startedAt) / 1000));
		// Without an address yet the stack takes broadcasts only (RFC 2131 4.1).
		message.broadcast = this.state === "selecting" || this.state === "requesting";
		const { options } = message;
		if (this.options.hostName !== undefined)
			options.set(
				DHCP_OPTION.HOST_NAME,
				Uint8Array.from(this.options.hostName, (char) => char.charCodeAt(0) & 0x7f),
			);
		const {
			SERVER,
			REQUESTED,
			PARAMETERS,
			NETMASK,
			ROUTER,
			DNS,
			DOMAIN,
			MTU,
			LEASE,
			RENEWAL,
			REBINDING,
			CLASSLESS_ROUTES,
		} = DHCP_OPTION;
		options.set(
			PARAMETERS,
			Uint8Array.of(NETMASK, CLASSLESS_ROUTES, ROUTER, DNS, DOMAIN, MTU, LEASE, RENEWAL, REBINDING),
		);
		let to = BROADCAST4;
		let from: IpAddress = ANY4;
		if (type === DHCP.DISCOVER) {
			if (this.options.requested !== undefined) options.set(REQUESTED, addressesOption([this.options.requested]));
		} else if (this.state === "requesting" && this.offer !== undefined) {
			options.set(REQUESTED, addressesOption([this.offer.yiaddr]));
			options.set(SERVER, addressesOption(optionAddresses(this.offer, SERVER).slice(0, 1)));
		} else if (this.configuration !== undefined) {
			message.ciaddr = this.configuration.address.address;
			from = message.ciaddr;
			if (this.state === "renewing") to = this.configuration.server;
		}
		this.socket.send(encodeDhcp(message), to, 67, from);
	}

	private input(data: Uint8Array): void {
		const message = parseDhcp(data);
		if (message === undefined || message.op !== 2 || message.xid !== this.xid) return;
		for (let i = 0; i < 6; i++) if (message.chaddr[i] !== this.iface.mac[i]) return;
		const type = dhcpType(message);
		if (type === DHCP.OFFER && this.state === "selecting") {
			if (message.yiaddr.isUnspecified || optionAddresses(message, DHCP_OPTION.SERVER).length === 0) return;
			this.offer = message;
			this.state = "requesting";
			this.tries = 0;
			this.udp.stack.timers.schedule(this.timer, this.now);
			this.udp.stack.onWork?.();
			return;
		}
		if (this.state !== "requesting" && this.state !== "renewing" && this.state !== "rebinding") return;
		if (type === DHCP.NAK) {
			this.lose();
			this.restart();
		} else if (type === DHCP.ACK && !message.yiaddr.isUnspecified) this.bind(message);
	}

	private bind(message: DhcpMessage): void {
		const mask = optionAddresses(message, DHCP_OPTION.NETMASK)[0];
		const prefix = mask === undefined ? 24 : Math.clz32(~mask.d);
		const address = new Cidr(message.yiaddr, prefix);
		const leaseSeconds = Math.max(1, optionNumber(message, DHCP_OPTION.LEASE) ?? DEFAULT_LEASE_S);
		const mtuBytes = message.options.get(DHCP_OPTION.MTU);
		const mtu = mtuBytes?.length === 2 ? (mtuBytes[0]! << 8) | mtuBytes[1]! : undefined;
		const domain = message.options.get(DHCP_OPTION.DOMAIN);
		const routers = optionAddresses(message, DHCP_OPTION.ROUTER);
		const configuration: DhcpConfiguration = {
			address,
			server: optionAddresses(message, DHCP_OPTION.SERVER)[0] ?? message.siaddr,
			routers,
			dns: optionAddresses(message, DHCP_OPTION.DNS),
			domain: domain === undefined ? undefined : String.fromCharCode(...domain).replace(/\0+$/, ""),
			mtu,
			leaseSeconds,
		};
		const { stack } = this.udp;
		const old = this.configuration;
		if (old !== undefined && old.address.toString() !== address.toString()) this.lose();
		stack.addAddress(this.iface, address, "dhcp");
		if (mtu !== undefined && mtu >= 576 && mtu <= (this.iface.link?.mtu ?? 65_535)) this.iface.mtu = mtu;
		stack.routes.remove(
			(route) => route.origin === "dhcp" && route.iface === this.iface && route.gateway !== undefined,
		);
		const classless = readClasslessRoutes(message.options.get(DHCP_OPTION.CLASSLESS_ROUTES));
		// RFC 3442: with the classless option the router option does not count.
		if (classless.length > 0)
			for (const { destination, gateway } of classless)
				stack.addRoute(destination, gateway.isUnspecified ? undefined : gateway, this.iface, 100, "dhcp");
		else if (routers.length > 0) stack.addRoute("default", routers[0]!, this.iface, 100, "dhcp");
		stack.routesChanged();
		this.configuration = configuration;
		this.state = "bound";
		const seconds = leaseSeconds >= 0xffffffff ? Number.POSITIVE_INFINITY : leaseSeconds;
		this.expires = this.now + seconds * 1000;
		this.t1 = this.now + (optionNumber(message, DHCP_OPTION.RENEWAL) ?? seconds / 2) * 1000;
		this.t2 = this.now + (optionNumber(message, DHCP_OPTION.REBINDING) ?? (seconds * 7) / 8) * 1000;
		if (this.t1 < Number.POSITIVE_INFINITY) stack.timers.schedule(this.timer, this.t1);
		this.options.onChange?.(configuration);
	}

	private lose(): void {
		const { configuration } = this;
		if (configuration === undefined) return;
		this.configuration = undefined;
		removeAddress(this.udp.stack, this.iface, configuration.address.address);
		this.udp.stack.routes.remove((route) => route.origin === "dhcp" && route.iface === this.iface);
		this.udp.stack.routesChanged();
		this.options.onChange?.(undefined);
	}

	/** Gives the lease back and stops. */
	close(): void {
		const { configuration } = this;
		this.udp.stack.timers.cancel(this.timer);
		if (configuration !== undefined) {
			const message = dhcpRequest(this.udp.stack.randomInt(), this.iface.mac, DHCP.RELEASE);
			message.ciaddr = configuration.address.address;
			message.options.set(DHCP_OPTION.SERVER, addressesOption([configuration.server]));
			this.socket.send(encodeDhcp(message), configuration.server, 67, message.ciaddr);
			this.lose();
		}
		this.socket.close();
	}
}

/** RFC 3442's compact routes. */
function readClasslessRoutes(data: Uint8Array | undefined): { destination: Cidr; gateway: IpAddress }[] {
	const list: { destination: Cidr; gateway: IpAddress }[] = [];
	if (data === undefined) return list;
	let at = 0;
	while (at < data.length) {
		const prefix = data[at]!;
		const bytes = (prefix + 7) >> 3;
		if (prefix > 32 || at + 1 + bytes + 4 > data.length) return [];
		let word = 0;
		for (let i = 0; i < bytes; i++) word |= data[at + 1 + i]! << (24 - i * 8);
		const gatewayAt = at + 1 + bytes;
		const gateway =
			(data[gatewayAt]! << 24) | (data[gatewayAt + 1]! << 16) | (data[gatewayAt + 2]! << 8) | data[gatewayAt + 3]!;
		list.push({ destination: new Cidr(ipv4FromNumber(word), prefix), gateway: ipv4FromNumber(gateway) });
		at = gatewayAt + 4;
	}
	return list;
}
