import type { Link } from "@x/netchannel";
import { Dhcp6Server } from "../dhcp/server6.ts";
import { StackError } from "../errors.ts";
import { eui64 } from "../ip/nd.ts";
import type { Packet } from "../ip/packet.ts";
import { CallbackTimer } from "../ip/timers.ts";
import type { Interface } from "../link/interface.ts";
import { createHost, type Host } from "../socket/host.ts";
import { Listener } from "../tcp/listener.ts";
import { Cidr, IpAddress, parseAddress, toAddress, toCidr } from "../wire/address.ts";
import { formatMac, parseMac } from "../wire/mac.ts";
import { type DhcpLease, DhcpServer } from "./dhcp-server.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { endpoint, type Flow, type FlowContext, guestOf, requestOf } from "./flow.ts";
import { IcmpNat } from "./icmp-nat.ts";
import { type GatewayLimits, RateLimit } from "./limits.ts";
import { NameBindings } from "./names.ts";
import type { AuditEvent, ExposeOptions, Forward, GatewayOptions, GuestLease, PublishOptions } from "./options.ts";
import type { OutboundListener } from "./outbound.ts";
import { EgressPolicy, type PolicyOptions, type Verdict } from "./policy.ts";
import { RouterAdvertiser } from "./ra-server.ts";
import { TcpNat } from "./tcp-nat.ts";
import { UdpNat } from "./udp-nat.ts";

const DEFAULT_MAC = Uint8Array.of(0x02, 0x00, 0x0a, 0x00, 0x02, 0x02);
const DEFAULT_NETWORK = "10.0.2.2/24";
const DEFAULT_NETWORK6 = "fd00:2::2/64";
const DNS_PORT = 53;
const NAME_GRACE_MS = 60_000;
const DECIDE_TIMEOUT_MS = 30_000;
/** One full frame: a limit below would starve whoever waits for more. */
const LEAST_BYTES = 65_536;

/**
 * A user-mode network for guests: their router, DHCP and DNS server, and the NAT of their TCP, UDP and pings to the
 * outside, under a policy. Everything it is given and tells is plain data, so that it can live in a worker with its
 * owner at the other end of a MessagePort.
 */
export class Gateway {
	readonly host: Host;
	readonly dns: DnsForwarder;
	/** The gateway's addresses, as guests see it. */
	readonly address: IpAddress;
	readonly address6: IpAddress | undefined;
	/** Resolves when the link is attached and every port of {@link GatewayConfig.publish} is open. */
	readonly ready: Promise<readonly Forward[]>;
	private rules: EgressPolicy;
	private readonly options: GatewayOptions;
	private readonly network: Cidr;
	private readonly network6: Cidr | undefined;
	private guestLink:
		| { iface: Interface; dhcp: DhcpServer; dhcp6: Dhcp6Server | undefined; ra: RouterAdvertiser | undefined }
		| undefined;
	private readonly fixed: Record<string, IpAddress> = {};
	private readonly names: NameBindings;
	private readonly tcp: TcpNat;
	private readonly udp: UdpNat;
	private readonly dnsListener: Listener;
	private readonly dnsRate: RateLimit;
	private readonly context: FlowContext;
	private readonly exposed = new Map<string, { id: number; address: string; port: number }>();
	private readonly published = new Map<number, OutboundListener>();
	private nextForward = 1;
	private nextFlow = 1;
	private closed = false;

	constructor(options: GatewayOptions) {
		this.options = options;
		const { outbound, limits = {} } = options;
		this.network = toCidr(options.network ?? DEFAULT_NETWORK);
		this.network6 = options.network6 === false ? undefined : toCidr(options.network6 ?? DEFAULT_NETWORK6);
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
		for (const [mac, address] of Object.entries(options.fixed ?? {}))
			this.fixed[formatMac(parseMac(mac))] = toAddress(address);
		this.host = createHost(options.host);
		const { tcp, udp, stack } = this.host;
		this.rules = new EgressPolicy(options.policy);
		this.names = new NameBindings(options.nameGraceMs ?? NAME_GRACE_MS);
		this.context = {
			flowOf: (packet, protocol, sourcePort, port) => this.flowOf(packet, protocol, sourcePort, port),
			judge: (flow) => this.judge(flow),
			audit: (flow, event) => this.auditFlow(flow, event),
			out: new RateLimit(stack, limits.bytesPerSecondOut, LEAST_BYTES),
			in: new RateLimit(stack, limits.bytesPerSecondIn, LEAST_BYTES),
		};
		this.dnsRate = new RateLimit(stack, limits.dnsPerSecond, 1);
		this.dns = new DnsForwarder(this.host, {
			policy: () => this.rules,
			bindings: this.names,
			query: (message) => outbound.query(message),
			admit: () => this.dnsRate.take(1, stack.now) > 0,
			local: (name) => this.guestNamed(name),
			zones: {
				"gateway.internal": [
					this.address.toString(),
					...(this.address6 === undefined ? [] : [this.address6.toString()]),
				],
				...options.zones,
			},
			onQuery: (guest, name, _type, allowed, reason) => {
				if (!allowed) this.audit({ action: "deny", protocol: "dns", guest, destination: name, names: [name], reason });
			},
		});
		const context = this.context;
		this.tcp = new TcpNat(this.host, {
			outbound,
			context,
			policy: () => this.rules,
			interceptor: options.interceptor,
			limits,
		});
		this.dnsListener = new Listener(tcp, DNS_PORT, {
			port: DNS_PORT,
			onConnection: (c) => {
				const { neighbor } = c.path;
				this.dns.serve(neighbor === undefined ? c.remoteAddress.toString() : formatMac(neighbor.mac), c);
				return c.handlers;
			},
		});
		tcp.onOrphanSyn = (packet, localPort, remotePort) => this.synIn(packet, localPort, remotePort);
		this.udp = new UdpNat(this.host, outbound, context);
		this.udp.setLimits(limits);
		udp.onOrphan = (packet, localPort, remotePort) => this.udpIn(packet, localPort, remotePort);
		const pings = new IcmpNat(this.host, outbound, context);
		stack.icmp.onEchoRequest = (packet) => {
			if (stack.isLocal(packet.destination())) return false;
			pings.request(packet);
			return true;
		};
		this.host.driver.onLinkError = (_iface, error) => options.onError?.(error);
		for (const expose of options.expose ?? []) this.expose(expose);
		if (options.link !== undefined) this.attach(options.link);
		this.ready = Promise.all((options.publish ?? []).map((publish) => this.publish(publish)));
		this.ready.catch((error: Error) => options.onError?.(error));
	}

	/**
	 * Puts a guest's link behind the gateway.
	 *
	 * @throws StackError `EADDRINUSE` when there is one already
	 */
	attach(link: Link): Interface {
		const { options } = this;
		const { stack, udp } = this.host;
		if (this.guestLink !== undefined)
			throw new StackError("EADDRINUSE", "this gateway has its link; join several guests by a switch before it");
		const mac = options.mac ?? DEFAULT_MAC;
		const iface = this.host.attach(link, {
			mac,
			acceptAny: true,
			name: "guest0",
			...(options.mtu === undefined ? {} : { mtu: options.mtu }),
		});
		stack.addAddress(iface, this.network);
		const dhcp = new DhcpServer(udp, iface, {
			network: this.network,
			mtu: iface.mtu,
			fixed: this.fixed,
			...(options.domain === undefined ? {} : { domain: options.domain }),
			onLease: (lease, active) => options.onLease?.(plainLease(lease, active)),
		});
		let ra: RouterAdvertiser | undefined;
		let dhcp6: Dhcp6Server | undefined;
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
				otherConfiguration: true,
			});
			dhcp6 = new Dhcp6Server(udp, iface, {
				prefix: new Cidr(this.network6.network, 64),
				dns: [this.network6.address],
				...(options.domain === undefined ? {} : { domains: [options.domain] }),
			});
		}
		this.dns.bind(this.address, (from) => guestOf(from.packet));
		if (this.address6 !== undefined) this.dns.bind(this.address6, (from) => guestOf(from.packet));
		this.guestLink = { iface, dhcp, dhcp6, ra };
		return iface;
	}

	/** The rules in force. */
	get policy(): EgressPolicy {
		return this.rules;
	}

	/**
	 * Changes the rules: what is opened from now on is judged by them; TCP connections that are there stay.
	 *
	 * @throws StackError `ERR_BAD_RULE`; the old rules stay in force then
	 */
	setPolicy(options: PolicyOptions): void {
		this.rules = new EgressPolicy(options);
		this.udp.forgetVerdicts();
	}

	/** Changes the limits; those left out are lifted. */
	setLimits(limits: GatewayLimits): void {
		this.tcp.setLimits(limits);
		this.udp.setLimits(limits);
		this.dnsRate.set(limits.dnsPerSecond, 1);
		this.context.out.set(limits.bytesPerSecondOut, LEAST_BYTES);
		this.context.in.set(limits.bytesPerSecondIn, LEAST_BYTES);
	}

	/** Leases given. */
	leases(): GuestLease[] {
		return this.guestLink?.dhcp.leases().map((lease) => plainLease(lease, true)) ?? [];
	}

	/** TCP connections there are. */
	get connections(): number {
		return this.tcp.size;
	}

	private guestNamed(name: string): readonly IpAddress[] | undefined {
		const { domain } = this.options;
		const leases = this.guestLink?.dhcp.leases() ?? [];
		const found = leases.filter(({ hostName }) => {
			const host = hostName?.toLowerCase();
			return host !== undefined && domain !== undefined && name === `${host}.${domain.toLowerCase()}`;
		});
		return found.length === 0 ? undefined : found.map((lease) => lease.address);
	}

	private audit(
		event: Pick<AuditEvent, "action" | "protocol" | "destination" | "names" | "reason"> & Partial<AuditEvent>,
	): void {
		this.options.onAudit?.({ time: this.host.stack.now, flow: 0, guest: "", source: "", ...event });
	}

	private auditFlow(flow: Flow, event: Pick<AuditEvent, "action" | "reason"> & Partial<AuditEvent>): void {
		if (this.options.onAudit === undefined) return;
		this.audit({
			protocol: flow.protocol,
			flow: flow.id,
			guest: flow.guest,
			source: endpoint(flow.source, flow.protocol === "icmp" ? 0 : flow.sourcePort),
			destination: endpoint(flow.address, flow.port),
			names: flow.names,
			...event,
		});
	}

	private flowOf(packet: Packet, protocol: Flow["protocol"], sourcePort: number, port: number): Flow {
		const address = packet.destination();
		const guest = guestOf(packet);
		return {
			id: this.nextFlow++,
			protocol,
			guest,
			source: packet.source(),
			sourcePort,
			address,
			port,
			names: this.names.namesOf(guest, address, packet.now),
			hostItself: this.options.outbound.ownAddresses().some((own) => own.equals(address)),
		};
	}

	/** Rules first, then the hook; both are in the audit. */
	private judge(flow: Flow): Verdict | Promise<Verdict> {
		const verdict = this.rules.decide(flow);
		if (!verdict.allowed || this.options.decide === undefined) {
			this.auditFlow(flow, { action: verdict.allowed ? "allow" : "deny", reason: verdict.reason });
			return verdict;
		}
		return this.ask(flow).then((refusal) => {
			const final = refusal === undefined ? verdict : { allowed: false, reason: refusal };
			this.auditFlow(flow, { action: final.allowed ? "allow" : "deny", reason: final.reason });
			return final;
		});
	}

	/** Asks the hook; why it refused, undefined when it did not. */
	private ask(flow: Flow): Promise<"hook" | "timeout" | undefined> {
		const { stack } = this.host;
		return new Promise((resolve) => {
			const timer = new CallbackTimer(() => resolve("timeout"));
			stack.timers.schedule(timer, stack.now + (this.options.decideTimeoutMs ?? DECIDE_TIMEOUT_MS));
			stack.onWork?.();
			const answer = (allowed: unknown) => {
				stack.timers.cancel(timer);
				resolve(allowed === true ? undefined : "hook");
			};
			try {
				Promise.resolve(this.options.decide!(requestOf(flow))).then(answer, () => answer(false));
			} catch {
				answer(false);
			}
		});
	}

	private synIn(packet: Packet, localPort: number, remotePort: number): Listener | boolean {
		if (packet.iface !== this.guestLink?.iface) return false;
		// DNS by TCP to anywhere is DNS to us: no name leaves unseen.
		if (localPort === DNS_PORT) return this.dnsListener;
		let reverse: { address: string; port: number } | undefined;
		if (this.host.stack.isLocal(packet.destination())) {
			reverse = this.exposed.get(`tcp,${localPort}`);
			if (reverse === undefined) return false;
		}
		return this.tcp.syn(packet, localPort, remotePort, reverse);
	}

	private udpIn(packet: Packet, localPort: number, remotePort: number): boolean {
		if (packet.iface !== this.guestLink?.iface) return false;
		if (packet.groupcast) return true;
		const destination = packet.destination();
		const source = packet.source();
		const data = packet.bytes.slice(packet.l4 + 8, packet.end);
		if (localPort === DNS_PORT) {
			this.dns.datagram(guestOf(packet), data, (bytes) => {
				this.host.udp.sendFrom(destination, DNS_PORT, source, remotePort, bytes);
				this.host.driver.wake();
			});
			return true;
		}
		if (this.host.stack.isLocal(packet.destination())) {
			const reverse = this.exposed.get(`udp,${localPort}`);
			if (reverse === undefined) return false;
			this.udp.forward(source, remotePort, destination, localPort, data, reverse);
			return true;
		}
		const sent = this.udp.outgoing(source, remotePort, destination, localPort, data, () =>
			this.flowOf(packet, "udp", remotePort, localPort),
		);
		if (!sent) this.host.stack.icmp.sendError(packet, "prohibited");
		return true;
	}

	/**
	 * Makes a guest's port reachable from outside, also while the gateway runs.
	 *
	 * @throws the outside's error (`EADDRINUSE`, `EACCES`, …) when the port cannot be opened
	 */
	async publish(options: PublishOptions): Promise<Forward> {
		const { outbound } = this.options;
		const outside = options.hostAddress ?? "127.0.0.1";
		const { guestPort } = options;
		if (options.guestAddress !== undefined) toAddress(options.guestAddress);
		const target = () =>
			options.guestAddress === undefined
				? this.guestLink?.dhcp.leases()[0]?.address
				: parseAddress(options.guestAddress);
		let opened: OutboundListener;
		if (options.protocol === "udp") {
			opened = await outbound.listenDatagrams(outside, options.hostPort, (bytes, remote, reply) => {
				const guest = target();
				if (guest === undefined) return;
				const from = guest.family === 4 ? this.address : this.address6;
				this.udp.incoming(guest, guestPort, remote, bytes, reply, from);
			});
		} else {
			opened = await outbound.listen(outside, options.hostPort, (stream, remote) =>
				this.tcp.published(stream, remote, target(), guestPort, (event) =>
					this.audit({ action: "close", protocol: "tcp", names: [], ...event }),
				),
			);
		}
		if (this.closed) {
			opened.close();
			throw new StackError("ERR_BAD_STATE", "the gateway was closed while a port was being published");
		}
		const id = this.nextForward++;
		this.published.set(id, opened);
		return { id, port: opened.port };
	}

	/** Takes a published or exposed port back; connections that are there stay. False when there is no such forward. */
	unpublish(forward: Forward | number): boolean {
		const id = typeof forward === "number" ? forward : forward.id;
		const opened = this.published.get(id);
		opened?.close();
		if (this.published.delete(id)) return true;
		for (const [key, entry] of this.exposed) if (entry.id === id) return this.exposed.delete(key);
		return false;
	}

	/**
	 * Makes a port on the gateway's own address lead outside: a guest reaches one service of the host, and no other.
	 *
	 * @throws StackError `EADDRINUSE` when the port leads somewhere already
	 */
	expose(options: ExposeOptions): Forward {
		const { port, address, hostPort, protocol = "tcp" } = options;
		const key = `${protocol},${port}`;
		if (this.exposed.has(key))
			throw new StackError(
				"EADDRINUSE",
				`port ${port}/${protocol} of the gateway leads somewhere already; unpublish that forward first`,
			);
		const id = this.nextForward++;
		this.exposed.set(key, { id, address, port: hostPort });
		return { id, port };
	}

	/** Stops: guests' connections end, forwards close, the link is closed. */
	close(): void {
		if (this.closed) return;
		this.closed = true;
		for (const opened of this.published.values()) opened.close();
		this.published.clear();
		for (const c of [...this.host.tcp.connections()]) c.abort();
		this.tcp.close();
		this.guestLink?.dhcp.close();
		this.guestLink?.dhcp6?.close();
		this.guestLink?.ra?.close();
		this.udp.close();
		for (const rate of [this.dnsRate, this.context.out, this.context.in]) rate.close();
		this.host.close();
	}
}

function plainLease(lease: DhcpLease, active: boolean): GuestLease {
	return { mac: lease.mac, address: lease.address.toString(), hostName: lease.hostName, active };
}

/** Makes a gateway: with `link` it serves at once, else from {@link Gateway.attach} on. */
export function createGateway(options: GatewayOptions): Gateway {
	return new Gateway(options);
}
