import type { AuditEvent, EgressRequest, GatewayConfig, GatewayLimits, PublishOptions } from "@x/ustack/gateway";

/** A value that a guest's requests carry without the guest knowing it. */
export interface SandboxSecret {
	/** The environment variable that holds the placeholder in the guest. */
	readonly name: string;
	readonly value: string;
	/** Host names, or `*.suffix`, whose requests get the value in the placeholder's place. */
	readonly hosts: readonly string[];
	/** Put it in without TLS too, where anybody on the way can read it. @default false */
	readonly plainHttp?: boolean;
}

/** A port of the gateway that leads to a service of the host. */
export interface SandboxExpose {
	/** Port at `gateway.internal`. */
	readonly port: number;
	/** @default "127.0.0.1" */
	readonly address?: string;
	readonly hostPort: number;
}

/** A sandbox's network behind a gateway of its own, without any right of the host's. */
export interface UserNetwork {
	/**
	 * Rules of where to, `[tcp|udp|icmp:]TARGET[:PORT[-PORT]]`: host names, `*.suffix`, addresses, networks, `*`. With any,
	 * nothing else is allowed.
	 */
	readonly allow?: readonly string[];
	/** The same, and they win. */
	readonly deny?: readonly string[];
	readonly publish?: readonly PublishOptions[];
	readonly expose?: readonly SandboxExpose[];
	readonly secrets?: readonly SandboxSecret[];
	/** PEM certificates that servers may be vouched for by, besides the system's, where secrets are put in. */
	readonly serverAuthorities?: readonly string[];
	readonly limits?: GatewayLimits;
	/** Upstream DNS servers, `ADDRESS` or `ADDRESS:PORT`. @default the host's */
	readonly dnsServers?: readonly string[];
	/** Names that the gateway itself answers. */
	readonly zones?: GatewayConfig["zones"];
	/** Asked about what the rules allow. */
	readonly decide?: (request: EgressRequest) => boolean | Promise<boolean>;
	/** Every connection and what became of it. */
	readonly onAudit?: (event: AuditEvent) => void;
}

/** A sandbox's network at some link of the host's. */
export interface LinkNetwork {
	/** A netchannel URL, e.g. `tap:NAME`, `qemu:unix:PATH`, `udp:…`. */
	readonly link: string;
	/** The guest's IPv4 address with its prefix. @default by DHCP, where the guest has udhcpc (every image of xkvm's does) */
	readonly address?: string;
	/** The guest's IPv4 router. */
	readonly gateway?: string;
}

/** What {@link SandboxOptions.network} takes. */
export type SandboxNetwork = "none" | "user" | UserNetwork | LinkNetwork;

/** Addresses of a guest behind its own gateway. */
export const GUEST = {
	address: "10.0.2.15",
	prefix: 24,
	router: "10.0.2.2",
	address6: "fd00:2::15",
	prefix6: 64,
	router6: "fd00:2::2",
} as const;
