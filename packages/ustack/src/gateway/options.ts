import type { Link } from "@x/netchannel";
import type { ZoneRecord } from "../dns/zone.ts";
import type { HostOptions } from "../socket/host.ts";
import type { Interceptor } from "./interceptor.ts";
import type { GatewayLimits } from "./limits.ts";
import type { Outbound } from "./outbound.ts";
import type { PolicyOptions } from "./policy.ts";
import type { PolicyProtocol } from "./rule.ts";

/**
 * What a guest asks for, in plain data: it passes a MessagePort as it is.
 */
export interface EgressRequest {
	/** Numbers the gateway's flows from 1; the audit's events of a flow have the same. */
	readonly flow: number;
	readonly protocol: PolicyProtocol;
	/** The guest's MAC address, or its address where there is none. */
	readonly guest: string;
	readonly source: string;
	readonly sourcePort: number;
	readonly address: string;
	/** 0 for ICMP. */
	readonly port: number;
	/** Names that the gateway's resolver gave this guest the address for. */
	readonly names: readonly string[];
}

/** One line of the audit log, plain data. */
export interface AuditEvent {
	/** Milliseconds on the stack's clock. */
	readonly time: number;
	readonly action: "allow" | "deny" | "close";
	readonly protocol: PolicyProtocol | "dns" | "http";
	/** See {@link EgressRequest.flow}; 0 where there is none. */
	readonly flow: number;
	/** The guest's MAC address. */
	readonly guest: string;
	/** The guest's address and port; for a published port the client's. */
	readonly source: string;
	/** Address and port, or the name asked for. */
	readonly destination: string;
	readonly names: readonly string[];
	/** {@link Verdict.reason}, `name NAME` for a name the connection showed, `done`, or an error's code. */
	readonly reason: string;
	readonly bytesOut?: number;
	readonly bytesIn?: number;
	/** With `http`: the request's method, its URL with secrets as placeholders, and the answer's status. */
	readonly method?: string;
	readonly url?: string;
	readonly status?: number;
}

/** A lease in plain data. */
export interface GuestLease {
	readonly mac: string;
	readonly address: string;
	readonly hostName: string | undefined;
	/** False when it was given back or ran out. */
	readonly active: boolean;
}

/** A port of the outside that leads to a guest. */
export interface PublishOptions {
	/** Outside address. @default "127.0.0.1" */
	readonly hostAddress?: string;
	/** 0 for any. */
	readonly hostPort: number;
	/** @default the first guest's */
	readonly guestAddress?: string;
	readonly guestPort: number;
	/** @default "tcp" */
	readonly protocol?: "tcp" | "udp";
}

/** A port of the gateway that leads to one service outside, whatever the policy says. */
export interface ExposeOptions {
	/** The port at the gateway's address. */
	readonly port: number;
	/** Outside address. */
	readonly address: string;
	readonly hostPort: number;
	/** @default "tcp" */
	readonly protocol?: "tcp" | "udp";
}

/** What a gateway is, as plain data: it passes a MessagePort or a configuration file as it is. */
export interface GatewayConfig {
	/** The gateway's IPv4 address and the guests' network. @default "10.0.2.2/24" */
	readonly network?: string;
	/** The same for IPv6; false for none. @default "fd00:2::2/64" */
	readonly network6?: string | false;
	/** @default 02:00:0a:00:02:02, so that a guest's ARP cache outlives the gateway */
	readonly mac?: Uint8Array;
	readonly mtu?: number;
	readonly policy?: PolicyOptions;
	/** How long a name's address stays bound beyond its TTL. @default 60_000 */
	readonly nameGraceMs?: number;
	/** Before a flow that {@link GatewayCallbacks.decide} is asked about is denied. @default 30_000 */
	readonly decideTimeoutMs?: number;
	readonly limits?: GatewayLimits;
	/** Names answered by the gateway, `name` or `*.suffix`; `gateway.internal` is always itself. */
	readonly zones?: Readonly<Record<string, readonly ZoneRecord[]>>;
	/** Guests' fixed addresses by MAC. */
	readonly fixed?: Readonly<Record<string, string>>;
	/** Given to guests by DHCP, and their own names under it are answered. */
	readonly domain?: string;
	/** Opened as the gateway starts; see {@link Gateway.ready}. */
	readonly publish?: readonly PublishOptions[];
	readonly expose?: readonly ExposeOptions[];
}

/** What a gateway asks and tells; every argument is plain data, every answer may come later. */
export interface GatewayCallbacks {
	/**
	 * Asked about what the rules allow; false, an error or {@link GatewayConfig.decideTimeoutMs} passing denies. The guest's
	 * packets wait meanwhile.
	 */
	readonly decide?: (request: EgressRequest) => boolean | Promise<boolean>;
	readonly onAudit?: (event: AuditEvent) => void;
	readonly onLease?: (lease: GuestLease) => void;
	/** A published port could not be opened when the gateway started, or the guest's link failed. */
	readonly onError?: (error: Error) => void;
}

/** Options of {@link createGateway}. */
export interface GatewayOptions extends GatewayConfig, GatewayCallbacks {
	/** The world outside: `createNodeOutbound()` of `@x/ustack/node`, or a relay. */
	readonly outbound: Outbound;
	/** The guest's link; without it {@link Gateway.attach} brings it later. */
	readonly link?: Link;
	/** Takes HTTP and TLS connections over: `createHttpInterceptor()` of `@x/ustack/node`. */
	readonly interceptor?: Interceptor;
	readonly host?: HostOptions;
}

/** A port made reachable, plain data. */
export interface Forward {
	/** For {@link Gateway.unpublish}. */
	readonly id: number;
	/** The port it listens on. */
	readonly port: number;
}
