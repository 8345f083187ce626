import type { Link } from "@x/netchannel";
import { StackError } from "../errors.ts";
import { eui64 } from "../ip/nd.ts";
import type { Packet } from "../ip/packet.ts";
import type { Interface } from "../link/interface.ts";
import { createHost, type Host, type HostOptions } from "../socket/host.ts";
import type { TcpConnection } from "../tcp/connection.ts";
import { Listener } from "../tcp/listener.ts";
import { Cidr, IpAddress, parseAddress, toAddress, toCidr } from "../wire/address.ts";
import { type DhcpLease, DhcpServer } from "./dhcp-server.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { IcmpNat } from "./icmp-nat.ts";
import type { Outbound, OutboundListener, OutboundStream } from "./outbound.ts";
import { EgressPolicy, type EgressRequest, type PolicyOptions, type Verdict } from "./policy.ts";
import { RouterAdvertiser } from "./ra-server.ts";
import { relay } from "./relay.ts";
import { UdpNat } from "./udp-nat.ts";

/** One line of the audit log. */
export interface AuditEvent {
	/** Milliseconds on the stack's clock. */
	readonly time: number;
	readonly action: "allow" | "deny" | "close";
	readonly protocol: "tcp" | "udp" | "icmp" | "dns";
	/** The guest's address and port. */
	readonly source: string;
	/** Address and port, or the name asked for. */
	readonly destination: string;
	readonly names: readonly string[];
	/** The rule, `default`, `private`, `hook`, or an error code. */
	readonly reason: string;
	readonly bytesOut?: number;
	readonly bytesIn?: number;
}

/** Options of {@link Gateway}. */
export interface GatewayOptions {
	/** The world outside. */
	outbound: Outbound;
	/** The gateway's IPv4 address and the guests' network. @default "10.0.2.2/24" */
	network?: string;
	/** The same for IPv6; false for none. @default "fd00:2::2/64" */
	network6?: string | false;
	/** @default 02:00:0a:00:02:02, so that a guest's ARP cache outlives the gateway */
	mac?: Uint8Array;
	mtu?: number;
	policy?: PolicyOptions;
	/** Asked about what the rules allow; a denial wins. */
	decide?: (request: EgressRequest) => boolean | Promise<boolean>;
	onAudit?: (event: AuditEvent) => void;
	/** Names answered by the gateway; `gateway.internal` is always itself. */
	zones?: Readonly<Record<string, readonly string[]>>;
	/** Guests' fixed addresses by MAC. */
	fixed?: Readonly<Record<string, string>>;
	domain?: string;
	onLease?: (lease: DhcpLease, active: boolean) => void;
	host?: HostOptions;
}

/** A port made reachable. */
export interface Forward {
	/** The port it listens on. */
	readonly port: number;
	close(): void;
}

/** Options of {@link Gateway.publish}. */
export interface PublishOptions {
	/** Outside address. @default "127.0.0.1" */
	hostAddress?: string;
	/** 0 for any. */
	hostPort: number;
	/** @default the first guest's */
	guestAddress?: string;
	guestPort: number;
	/** @default "tcp" */
	protocol?: "tcp" | "udp";
}

interface PendingFlow {
	state: "deciding" | "ready" | "refused" | "silent";
	frame: Uint8Array;
	stream: OutboundStream | undefined;
	request: EgressRequest;
}

const MAX_FLOWS = 16_384;
const MAX_PENDING = 1_024;
const DEFAULT_MAC = Uint8Array.of(0x02, 0x00, 0x0a, 0x00, 0x02, 0x02);
const DNS_PORT = 53;

/**
 * A user-mode network for guests: their router, DHCP and DNS server, and the NAT of their TCP, UDP and pings to the
 * outside, under a policy.
 */
export class Gateway {
	readonly host: Host;
	readonly policy: EgressPolicy;
	readonly dns: DnsForwarder;
	/** The gateway's addresses, as guests see it. */
	readonly address: IpAddress;
	readonly address6: IpAddress | undefined;
	private readonly options: GatewayOptions;
	private readonly network: Cidr;
	private readonly network6: Cidr | undefined;
	private readonly ifaces: { iface: Interface; dhcp: DhcpServer; ra: RouterAdvertiser | undefined }[] = [];
	private readonly pending = new Map<string, PendingFlow>();
	private readonly listener: Listener;
	private readonly dnsListener: Listener;
	private readonly udpNat: UdpNat;
	private readonly reverse = new Map<string, { address: string; port: number }>();
	private readonly forwards = new Set<OutboundListener>();
	private flows = 0;

	constructor(options: GatewayOptions) {
		this.options = options;
		this.network = toCidr(options.network ?? "10.0.2.2/24");
		this.network6 = options.network6 === false ? undefined : toCidr(options.network6 ?? "fd00:2::2/64");
		if (this.network.family !== 4)
			throw new StackError("ERR_BAD_OPTION", `network "${this.network}" is not IPv4; IPv6 goes into network6`);
		if (this.network6 !== undefined && (this.network6.family !== 6 || this.network6.prefix !== 64)) {
			throw new StackError(
				"ERR_BAD_OPTION",
				`network6 "${this.network6}" is not an IPv6 address with /64, which autoconfiguration needs`,
			);
		}
		this.address = this.network.address;
		this.address6 = this.network6?.address;
		this.host = createHost(options.host);
		this.policy = new EgressPolicy(options.policy);
		this.dns = new DnsForwarder(this.host, {
			policy: this.policy,
			query: (message) => options.outbound.query(message),
			zones: {
				"gateway.internal": [
					this.address.toString(),
					...(this.address6 === undefined ? [] : [this.address6.toString()]),
				],
				...options.zones,
			},
			onQuery: (name, _type, allowed, reason) => {
				if (!allowed) this.audit("deny", "dns", "", name, [name], reason);
			},
		});
		const { tcp, udp, stack } = this.host;
		this.listener = new Listener(tcp, 0, { port: 0, onConnection: (c) => this.established(c), backlog: MAX_PENDING });
		this.dnsListener = new Listener(tcp, DNS_PORT, {
			port: DNS_PORT,
			onConnection: (c) => {
				this.dns.serve(c);
				return c.handlers;
			},
		});
		tcp.onOrphanSyn = (packet, localPort, remotePort) => this.synIn(packet, localPort, remotePort);
		this.udpNat = new UdpNat(this.host, options.outbound, (request) => this.judge(request));
		udp.onOrphan = (packet, localPort, remotePort) => this.udpIn(packet, localPort, remotePort);
		const pings = new IcmpNat(this.host, options.outbound, (request) => this.judge(request));
		stack.icmp.onEchoRequest = (packet) => !this.isOurs(packet.destination()) && pings.request(packet);
	}

	/** Puts a guest's link behind the gateway. */
	attach(link: Link): Interface {
		const { options } = this;
		const { stack, udp } = this.host;
		const first = this.ifaces.length === 0;
		if (!first)
			throw new StackError("EADDRINUSE", "this gateway has its link; join several guests by a switch before it");
		const mac = options.mac ?? DEFAULT_MAC;
		const iface = this.host.attach(link, {
			mac,
			acceptAny: true,
			name: "guest0",
			...(options.mtu === undefined ? {} : { mtu: options.mtu }),
		});
		stack.addAddress(iface, this.network);
		const fixed: Record<string, IpAddress> = {};
		for (const [key, value] of Object.entries(options.fixed ?? {})) fixed[key] = toAddress(value);
		const dhcp = new DhcpServer(udp, iface, {
			network: this.network,
			mtu: iface.mtu,
			fixed,
			...(options.domain === undefined ? {} : { domain: options.domain }),
			...(options.onLease === undefined ? {} : { onLease: options.onLease }),
		});
		let ra: RouterAdvertiser | undefined;
		if (this.network6 !== undefined) {
			const [c, d] = eui64(mac);
			stack.addAddress(iface, new Cidr(new IpAddress(0xfe800000, 0, c, d), 64));
			stack.addAddress(iface, this.network6);
			// Routers' own group, so that solicitations are heard.
			stack.joinGroup(iface, new IpAddress(0xff020000, 0, 0, 2));
			ra = new RouterAdvertiser(stack, iface, {
				prefix: new Cidr(this.network6.network, 64),
				dns: [this.network6.address],
				mtu: iface.mtu,
			});
		}
		this.dns.bind(this.address);
		if (this.address6 !== undefined) this.dns.bind(this.address6);
		this.ifaces.push({ iface, dhcp, ra });
		return iface;
	}

	/** Leases given. */
	leases(): DhcpLease[] {
		return this.ifaces.flatMap(({ dhcp }) => dhcp.leases());
	}

	private isOurs(address: IpAddress): boolean {
		return this.host.stack.isLocal(address);
	}

	private audit(
		action: AuditEvent["action"],
		protocol: AuditEvent["protocol"],
		source: string,
		destination: string,
		names: readonly string[],
		reason: string,
		bytes?: { toOutside: number; toGuest: number },
	): void {
		this.options.onAudit?.({
			time: this.host.stack.now,
			action,
			protocol,
			source,
			destination,
			names,
			reason,
			...(bytes === undefined ? {} : { bytesOut: bytes.toOutside, bytesIn: bytes.toGuest }),
		});
	}

	/** Rules first, then the hook; both are in the audit. */
	private async judge(request: EgressRequest): Promise<boolean> {
		let verdict: Verdict = this.policy.decide(request);
		if (
			verdict.allowed &&
			verdict.reason !== "hook" &&
			this.isHostItself(request.address) &&
			!this.policy.allow.some((rule) => rule.network?.contains(request.address))
		) {
			verdict = { allowed: false, reason: "private" };
		}
		if (verdict.allowed && this.options.decide !== undefined) {
			let hook = false;
			try {
				hook = await this.options.decide(request);
			} catch {
				hook = false;
			}
			if (!hook) verdict = { allowed: false, reason: "hook" };
		}
		this.audit(
			verdict.allowed ? "allow" : "deny",
			request.protocol,
			endpoint(request.source, 0),
			endpoint(request.address, request.port),
			request.names,
			verdict.reason,
		);
		return verdict.allowed;
	}

	private isHostItself(address: IpAddress): boolean {
		return this.options.outbound.ownAddresses().some((own) => own.equals(address));
	}

	private requestOf(packet: Packet, protocol: EgressRequest["protocol"], port: number): EgressRequest {
		const address = packet.destination();
		return { protocol, source: packet.source(), address, port, names: this.policy.namesOf(address, packet.now) };
	}

	private synIn(packet: Packet, localPort: number, remotePort: number): Listener | boolean {
		if (packet.iface !== this.ifaces[0]?.iface) return false;
		// DNS by TCP to anywhere is DNS to us: no name leaves unseen.
		if (localPort === DNS_PORT) return this.dnsListener;
		const destination = packet.destination();
		const key = `${packet.source()},${remotePort},${destination},${localPort}`;
		const known = this.pending.get(key);
		if (known !== undefined) {
			if (known.state === "ready") return this.listener;
			if (known.state === "deciding") return true;
			this.pending.delete(key);
			return known.state === "silent";
		}
		if (this.pending.size >= MAX_PENDING || this.flows >= MAX_FLOWS) return true;
		const reverse = this.isOurs(destination) ? this.reverse.get(`tcp,${localPort}`) : undefined;
		if (reverse === undefined && this.isOurs(destination)) return false;
		const flow: PendingFlow = {
			state: "deciding",
			frame: packet.bytes.slice(),
			stream: undefined,
			request: this.requestOf(packet, "tcp", localPort),
		};
		this.pending.set(key, flow);
		void this.openFlow(key, flow, reverse);
		return true;
	}

	private async openFlow(
		key: string,
		flow: PendingFlow,
		reverse: { address: string; port: number } | undefined,
	): Promise<void> {
		const { request } = flow;
		const allowed = reverse !== undefined || (await this.judge(request));
		const again = (state: PendingFlow["state"]) => {
			if (this.pending.get(key) !== flow) return;
			flow.state = state;
			const iface = this.ifaces[0]?.iface;
			if (iface === undefined) return;
			this.host.stack.input(flow.frame, this.host.driver.now(), VOUCHED, iface);
			this.host.driver.wake();
			if (state !== "ready") this.pending.delete(key);
		};
		if (!allowed) {
			again("refused");
			return;
		}
		const target = reverse ?? { address: request.address.toString(), port: request.port };
		const stream = this.options.outbound.connect(target.address, target.port);
		flow.stream = stream;
		stream.onConnect = () => {
			stream.pause();
			again("ready");
		};
		stream.onClose = (code) => {
			if (flow.state !== "deciding") {
				this.pending.delete(key);
				return;
			}
			this.audit(
				"close",
				"tcp",
				endpoint(request.source, 0),
				endpoint(request.address, request.port),
				request.names,
				code ?? "closed",
			);
			again(code === "ETIMEDOUT" ? "silent" : "refused");
		};
	}

	private established(c: TcpConnection): undefined {
		const key = `${c.remoteAddress},${c.remotePort},${c.localAddress},${c.localPort}`;
		const flow = this.pending.get(key);
		this.pending.delete(key);
		const stream = flow?.stream;
		if (flow === undefined || stream === undefined) {
			c.abort();
			return undefined;
		}
		this.flows++;
		// The layer takes the handlers this returns; the relay's are set after it has.
		queueMicrotask(() => {
			relay(c, stream, (stats) => {
				this.flows--;
				const { request } = flow;
				this.audit(
					"close",
					"tcp",
					endpoint(request.source, c.remotePort),
					endpoint(request.address, request.port),
					request.names,
					c.error?.code ?? "done",
					stats,
				);
			});
			stream.resume();
		});
		return undefined;
	}

	private udpIn(packet: Packet, localPort: number, remotePort: number): boolean {
		if (packet.iface !== this.ifaces[0]?.iface) return false;
		if (packet.groupcast) return true;
		const destination = packet.destination();
		const source = packet.source();
		const data = packet.bytes.slice(packet.l4 + 8, packet.end);
		if (localPort === DNS_PORT) {
			this.dns.datagram(data, (bytes) => void this.host.udp.sendFrom(destination, DNS_PORT, source, remotePort, bytes));
			return true;
		}
		if (this.isOurs(destination)) {
			const reverse = this.reverse.get(`udp,${localPort}`);
			if (reverse === undefined) return false;
			this.udpNat.forward(source, remotePort, destination, localPort, data, reverse);
			return true;
		}
		this.udpNat.outgoing(this.requestOf(packet, "udp", localPort), remotePort, data);
		return true;
	}

	/** The guest a published port leads to when none is named. */
	private guestAddress(): IpAddress | undefined {
		return this.leases()[0]?.address;
	}

	/** Makes a guest's port reachable from outside. */
	async publish(options: PublishOptions): Promise<Forward> {
		const { outbound } = this.options;
		const outside = options.hostAddress ?? "127.0.0.1";
		const target = () =>
			options.guestAddress === undefined ? this.guestAddress() : parseAddress(options.guestAddress);
		let opened: OutboundListener;
		if (options.protocol === "udp") {
			opened = await outbound.listenDatagrams(outside, options.hostPort, (bytes, remote, reply) => {
				const guest = target();
				if (guest !== undefined)
					this.udpNat.incoming(
						guest,
						options.guestPort,
						remote,
						bytes,
						reply,
						guest.family === 4 ? this.address : this.address6,
					);
			});
		} else {
			opened = await outbound.listen(outside, options.hostPort, (stream, remote) =>
				this.publishedIn(stream, remote, target(), options.guestPort),
			);
		}
		this.forwards.add(opened);
		return {
			port: opened.port,
			close: () => {
				opened.close();
				this.forwards.delete(opened);
			},
		};
	}

	private publishedIn(
		stream: OutboundStream,
		remote: { address: string; port: number },
		guest: IpAddress | undefined,
		port: number,
	): void {
		stream.pause();
		if (guest === undefined || this.flows >= MAX_FLOWS) {
			stream.destroy();
			return;
		}
		let c: TcpConnection;
		try {
			c = this.host.tcp.connect(guest, port, {
				onConnect: () => {
					relay(c, stream, (stats) => {
						this.flows--;
						this.audit(
							"close",
							"tcp",
							`${remote.address}:${remote.port}`,
							endpoint(guest, port),
							[],
							c.error?.code ?? "published",
							stats,
						);
					});
					stream.resume();
				},
				onClose: () => {
					this.flows--;
					stream.destroy();
				},
			});
		} catch {
			stream.destroy();
			return;
		}
		this.flows++;
		stream.onClose = () => c.abort();
	}

	/** Makes a port on the gateway's own address lead outside: a guest reaches one service of the host, and no other. */
	expose(port: number, address: string, hostPort: number, protocol: "tcp" | "udp" = "tcp"): Forward {
		const key = `${protocol},${port}`;
		if (this.reverse.has(key))
			throw new StackError(
				"EADDRINUSE",
				`port ${port}/${protocol} of the gateway leads somewhere already; close that forward first`,
			);
		this.reverse.set(key, { address, port: hostPort });
		return { port, close: () => void this.reverse.delete(key) };
	}

	/** Stops: guests' connections end, forwards close, the link is closed. */
	close(): void {
		for (const opened of this.forwards) opened.close();
		this.forwards.clear();
		for (const c of [...this.host.tcp.connections()]) c.abort();
		for (const { dhcp, ra } of this.ifaces) {
			dhcp.close();
			ra?.close();
		}
		this.udpNat.close();
		this.host.close();
	}
}

const VOUCHED = {
	needsCsum: false,
	dataValid: true,
	csumStart: 0,
	csumOffset: 0,
	gsoType: "none",
	gsoSize: 0,
	hdrLen: 0,
	ecn: false,
} as const;

function endpoint(address: IpAddress, port: number): string {
	const text = address.family === 6 ? `[${address}]` : address.toString();
	return port === 0 ? text : `${text}:${port}`;
}

/** Makes a gateway; attach a guest's link to it. */
export function createGateway(options: GatewayOptions): Gateway {
	return new Gateway(options);
}
